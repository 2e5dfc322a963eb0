"""Roll-in against decoding one sentence at a time, and sampling against the softmax."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.roll_in import LengthLimit, RollIn, sample
from l2s_nmt.search.types import Trajectories
from tests.tiny import VOCABULARY, finish, next_scores, random_batch, shared_policy, source_of

LIMIT = LengthLimit(0.5, 2)
DRAWS = Draws(seed=5, update=9)
SAMPLED = RollIn("learned", "sample", 0.7, LIMIT)


@torch.no_grad()
def rolled(roll_in: RollIn, batch: Batch, draws: Draws = DRAWS) -> Trajectories:
    policy = shared_policy()
    return roll_in(policy, policy.encode(batch.source, batch.source_mask), batch, draws)


def sentences(trajectories: Trajectories) -> list[list[int]]:
    return [t[:n].tolist() for t, n in zip(trajectories.tokens, trajectories.lengths, strict=True)]


def test_length_limit_counts_the_tokens_of_the_source() -> None:
    mask = torch.arange(7) < torch.tensor([[1], [3], [7]])
    assert LengthLimit(1.5, 2)(mask).tolist() == [3, 6, 12]
    assert LengthLimit(1.0, 0)(mask).tolist() == [1, 3, 7]


def test_a_sentence_may_have_one_token_at_least_and_no_more_than_the_model_has_positions() -> None:
    mask = torch.arange(7) < torch.tensor([[1], [3], [7]])
    assert LengthLimit(0.2, 0)(mask).tolist() == [1, 1, 1]
    assert LengthLimit(1.5, 2, longest=5)(mask).tolist() == [3, 5, 5]


def test_reference_copies_the_target() -> None:
    batch = random_batch(shared_policy())
    trajectories = rolled(RollIn("reference", "greedy", 1.0, LIMIT), batch)
    assert torch.equal(trajectories.tokens, batch.target)
    assert torch.equal(trajectories.lengths, batch.target_lengths)
    assert trajectories.finished.all()


def test_greedy_equals_decoding_without_cache() -> None:
    policy, batch = shared_policy(), random_batch(shared_policy(), 16, seed=1)
    trajectories = rolled(RollIn("learned", "greedy", 1.0, LIMIT), batch)
    limits = LIMIT(batch.source_mask).tolist()
    expected = [finish(policy, source_of(batch, row), [], limits[row]) for row in range(16)]
    assert sentences(trajectories) == expected
    assert trajectories.finished.tolist() == [row[-1] == policy.eos for row in expected]
    assert set(trajectories.finished.tolist()) == {True, False}


def sampled_one_by_one(batch: Batch, row: int, temperature: float) -> list[int]:
    """The sentence's own draws, each against the cumulative distribution, in order."""
    policy, source = shared_policy(), source_of(batch, row)
    limit = int(LIMIT(batch.source_mask)[row])
    uniform = DRAWS.uniform("roll_in", batch.rows[row : row + 1], limit)[0].tolist()
    tokens: list[int] = []
    while policy.eos not in tokens and len(tokens) < limit:
        probabilities = (next_scores(policy, source, tokens) / temperature).softmax(0).tolist()
        rest, token = uniform[len(tokens)], 0
        while rest >= probabilities[token]:
            rest -= probabilities[token]
            token += 1
        tokens.append(token)
    return tokens


@pytest.mark.parametrize("temperature", [0.5, 1.0, 30.0])
def test_sampling_inverts_the_cumulative_distribution_with_the_draws_of_the_sentence(
    temperature: float,
) -> None:
    batch = random_batch(shared_policy(), 12, seed=2, first_row=70)
    trajectories = rolled(RollIn("learned", "sample", temperature, LIMIT), batch)
    assert sentences(trajectories) == [sampled_one_by_one(batch, row, temperature) for row in range(12)]


def test_a_sampled_sentence_does_not_depend_on_place_or_companions() -> None:
    batch = random_batch(shared_policy(), 9, seed=3, first_row=20)
    whole = sentences(rolled(SAMPLED, batch))
    order = torch.tensor([4, 8, 0, 2, 6, 1, 7, 3, 5])
    assert sentences(rolled(SAMPLED, batch.select(order))) == [whole[row] for row in order]
    assert sentences(rolled(SAMPLED, batch.select(order[:2]))) == [whole[4], whole[8]]


def test_other_rows_updates_and_seeds_draw_other_sentences() -> None:
    batch = random_batch(shared_policy(), 9, seed=3)
    moved = random_batch(shared_policy(), 9, seed=3, first_row=9)
    seen = {
        str(sentences(rolled(SAMPLED, *arguments)))
        for arguments in ((batch, DRAWS), (moved, DRAWS), (batch, Draws(5, 10)), (batch, Draws(6, 9)))
    }
    assert len(seen) == 4


def test_sampling_at_a_temperature_near_zero_is_greedy() -> None:
    batch = random_batch(shared_policy(), 16, seed=4)
    cold = rolled(RollIn("learned", "sample", 1e-4, LIMIT), batch)
    assert sentences(cold) == sentences(rolled(RollIn("learned", "greedy", 1.0, LIMIT), batch))


def test_the_padding_token_is_never_drawn() -> None:
    batch = random_batch(shared_policy(), 64, seed=5)
    trajectories = rolled(RollIn("learned", "sample", 1e6, LIMIT), batch)
    drawn = Counter(token for row in sentences(trajectories) for token in row)
    assert set(drawn) == set(range(VOCABULARY)) - {shared_policy().pad}


@settings(deadline=None, max_examples=40)
@given(
    scores=st.lists(st.floats(-8, 8) | st.just(-torch.inf), min_size=2, max_size=9).filter(
        lambda row: max(row) > -torch.inf
    )
)
def test_frequencies_are_those_of_the_softmax(scores: list[float]) -> None:
    count = 4096
    grid = (torch.arange(count) + 0.5) / count
    tokens = sample(torch.tensor([scores]).expand(count, -1), grid)
    found = torch.bincount(tokens, minlength=len(scores))
    torch.testing.assert_close(
        found, torch.tensor(scores).softmax(0) * count, atol=1.01, rtol=0, check_dtype=False
    )
    assert not found[torch.tensor(scores).isneginf()].any()


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_the_ends_of_the_unit_interval_draw_tokens_that_are_possible(uniform: float) -> None:
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(2000, 50, generator=draw)
    scores[:, [0, 1, -2, -1]] = -torch.inf
    tokens = sample(scores, torch.full((2000,), uniform))
    assert (tokens == (2 if uniform == 0 else 47)).all()


def test_each_row_is_drawn_by_its_own_number() -> None:
    scores = torch.tensor([[0.0, 0.0], [0.0, 0.0], [-torch.inf, 3.0]])
    assert sample(scores, torch.tensor([0.1, 0.9, 0.1])).tolist() == [0, 1, 1]


def test_half_precision_scores_are_summed_in_full_precision() -> None:
    scores: Tensor = torch.zeros(1, 30_000, dtype=torch.bfloat16)
    assert int(sample(scores, torch.tensor([0.5]))) == 15_000
