"""Roll-in against decoding one sentence at a time, and sampling against the softmax."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np
import pytest
import torch

from l2s_nmt.data.batches import Batch, collate
from l2s_nmt.search.context import Context, LengthLimit, see
from l2s_nmt.search.costs.cost import OnTokens
from l2s_nmt.search.costs.edit_distance import edit_distance_cost
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.copy import Copy
from l2s_nmt.search.reference.edit_distance import EditDistance
from l2s_nmt.search.reference.protocol import Reference
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.sampling import Decoding, sample
from l2s_nmt.search.schedules import Schedule
from l2s_nmt.search.types import Trajectories
from tests.tiny import VOCABULARY, finish, next_scores, random_batch, shared_policy, source_of

LIMIT = LengthLimit(0.5, 2)
DRAWS = Draws(seed=5, update=9)
GREEDY = RollIn("learned", Decoding())
SAMPLED = RollIn("learned", Decoding("sample", 0.7))
REFERENCE = RollIn("reference", Decoding())


def context_of(batch: Batch, draws: Draws = DRAWS) -> Context:
    return see(shared_policy(), batch, draws, LIMIT)


def rolled(roll_in: RollIn, batch: Batch, draws: Draws = DRAWS) -> Trajectories:
    return roll_in(context_of(batch, draws))


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
    trajectories = rolled(REFERENCE, batch)
    assert torch.equal(trajectories.tokens, batch.target)
    assert torch.equal(trajectories.lengths, batch.target_lengths)
    assert trajectories.finished.all()
    assert trajectories.by_reference.all()


def test_greedy_equals_decoding_without_cache() -> None:
    policy, batch = shared_policy(), random_batch(shared_policy(), 16, seed=1)
    trajectories = rolled(GREEDY, batch)
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
    trajectories = rolled(RollIn("learned", Decoding("sample", temperature)), batch)
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
    cold = rolled(RollIn("learned", Decoding("sample", 1e-4)), batch)
    assert sentences(cold) == sentences(rolled(GREEDY, batch))


def test_the_padding_token_is_never_drawn() -> None:
    batch = random_batch(shared_policy(), 64, seed=5)
    trajectories = rolled(RollIn("learned", Decoding("sample", 1e6)), batch)
    drawn = Counter(token for row in sentences(trajectories) for token in row)
    assert set(drawn) == set(range(VOCABULARY)) - {shared_policy().pad}


# ---- mixtures -------------------------------------------------------------------------------------

EDITS = EditDistance(OnTokens(edit_distance_cost))
COPY = Copy(OnTokens(edit_distance_cost))


def mixed(p: float, unit: Literal["state", "sentence"], reference: Reference = EDITS) -> RollIn:
    return RollIn("mixed", Decoding("sample", 0.7), reference, Schedule("constant", p), unit)


def equal(one: Trajectories, other: Trajectories) -> bool:
    return all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True))


@pytest.mark.parametrize("unit", ["state", "sentence"])
def test_a_mixture_with_probability_0_is_the_learned_policy(unit: Literal["state", "sentence"]) -> None:
    batch = random_batch(shared_policy(), 9, seed=6)
    assert equal(rolled(mixed(0.0, unit), batch), rolled(SAMPLED, batch))


@pytest.mark.parametrize("reference", [EDITS, COPY], ids=["edit distance", "copy"])
@pytest.mark.parametrize("unit", ["state", "sentence"])
def test_a_mixture_with_probability_1_writes_the_target(
    unit: Literal["state", "sentence"], reference: Reference
) -> None:
    batch = random_batch(shared_policy(), 9, seed=6)
    trajectories = rolled(mixed(1.0, unit, reference), batch)
    limits = LIMIT(batch.source_mask).tolist()
    for row, sentence in enumerate(sentences(trajectories)):
        target = batch.target[row, : batch.target_lengths[row]].tolist()
        assert sentence == (target[: limits[row]] if unit == "state" else target)
        assert trajectories.by_reference[row, : len(sentence)].all()


def test_by_state_each_token_is_of_the_policy_drawn_for_it() -> None:
    batch = random_batch(shared_policy(), 12, seed=7, first_row=30)
    trajectories = rolled(mixed(0.4, "state"), batch)
    limits = LIMIT(batch.source_mask)
    width = int(limits.max())
    chance = DRAWS.uniform("mix_in", batch.rows, width) < 0.4
    uniform = DRAWS.uniform("roll_in", batch.rows, width)
    for row, sentence in enumerate(sentences(trajectories)):
        for step, token in enumerate(sentence):
            prefix = sentence[:step]
            assert bool(trajectories.by_reference[row, step]) == bool(chance[row, step])
            if chance[row, step]:
                assert token == reference_token(batch, row, prefix)
            else:
                scores = next_scores(shared_policy(), source_of(batch, row), prefix)[None] / 0.7
                assert token == int(sample(scores, uniform[row, step : step + 1]))
    inside = torch.arange(trajectories.tokens.shape[1]) < trajectories.lengths[:, None]
    assert set(trajectories.by_reference[inside].tolist()) == {True, False}


def reference_token(batch: Batch, row: int, prefix: list[int]) -> int:
    """The reference's action for one sentence alone."""
    alone = context_of(batch.select(torch.tensor([row])))
    length = torch.tensor([len(prefix)])
    whole = EDITS.complete(alone, torch.tensor([prefix], dtype=torch.long), length, torch.tensor([0]))
    return int(whole.next_tokens(length))


def test_by_sentence_each_sentence_is_wholly_of_one_policy() -> None:
    batch = random_batch(shared_policy(), 20, seed=8)
    trajectories = rolled(mixed(0.5, "sentence"), batch)
    learned = sentences(rolled(SAMPLED, batch))
    chosen = DRAWS.uniform("mix_in", batch.rows, 1)[:, 0] < 0.5
    assert set(chosen.tolist()) == {True, False}
    for row, sentence in enumerate(sentences(trajectories)):
        target = batch.target[row, : batch.target_lengths[row]].tolist()
        assert sentence == (target if chosen[row] else learned[row])
        assert trajectories.by_reference[row, : len(sentence)].tolist() == [bool(chosen[row])] * len(sentence)


@pytest.mark.parametrize("unit", ["state", "sentence"])
def test_a_mixture_does_not_depend_on_place_or_companions(unit: Literal["state", "sentence"]) -> None:
    batch = random_batch(shared_policy(), 9, seed=3, first_row=20)
    whole = sentences(rolled(mixed(0.5, unit), batch))
    order = torch.tensor([4, 8, 0, 2])
    assert sentences(rolled(mixed(0.5, unit), batch.select(order))) == [whole[row] for row in order]


def test_the_probability_follows_its_schedule() -> None:
    batch = random_batch(shared_policy(), 30, seed=9)
    falling = Schedule("linear", 1.0, 0.0, 100)
    roll_in = RollIn("mixed", Decoding(), EDITS, falling, "state")
    shares = []
    for update in (0, 50, 100):
        trajectories = rolled(roll_in, batch, Draws(1, update))
        inside = torch.arange(trajectories.tokens.shape[1]) < trajectories.lengths[:, None]
        shares.append(float(trajectories.by_reference[inside].float().mean()))
    assert shares[0] == 1
    assert 0.3 < shares[1] < 0.7
    assert shares[2] == 0


# ---- beam search ----------------------------------------------------------------------------------


def test_a_beam_of_one_sentence_is_the_beam_of_many() -> None:
    batch = random_batch(shared_policy(), 8, seed=10)
    beam = RollIn("learned", Decoding("beam", beam=3))
    whole = rolled(beam, batch)
    limits = LIMIT(batch.source_mask)
    assert (whole.lengths <= limits).all()
    widest = batch.select(limits.argsort(descending=True, stable=True)[:1])
    alone = sentences(rolled(beam, widest))[0]
    assert alone == sentences(whole)[int(limits.argsort(descending=True, stable=True)[0])]


def test_beam_search_finds_sentences_at_least_as_probable_as_greedy_decoding() -> None:
    policy = shared_policy()
    sources = [[3, 4, 5, policy.eos]] * 1 + [[6, 7, 8, policy.eos]]
    batch = collate(sources, [[4, policy.eos]] * 2, np.arange(2), policy.pad)
    found = sentences(rolled(RollIn("learned", Decoding("beam", beam=6)), batch))
    greedy = sentences(rolled(GREEDY, batch))

    def score(row: int, sentence: list[int]) -> float:
        source = source_of(batch, row)
        steps = [
            next_scores(policy, source, sentence[:t]).log_softmax(0)[token]
            for t, token in enumerate(sentence)
        ]
        return float(sum(steps)) / len(sentence)

    for row in range(2):
        if policy.eos in found[row] and policy.eos in greedy[row]:
            assert score(row, found[row]) >= score(row, greedy[row]) - 1e-6
