"""Roll-in against decoding one sentence at a time, token by token, by whoever should write it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch

from l2s_nmt.data.batches import Batch, collate
from l2s_nmt.search.context import Context, LengthLimit, see
from l2s_nmt.search.costs.cost import OnTokens
from l2s_nmt.search.costs.edit_distance import edit_distance_cost
from l2s_nmt.search.costs.overlap import hamming_cost
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.copy import Copy
from l2s_nmt.search.reference.edit_distance import EditDistance
from l2s_nmt.search.reference.protocol import Reference
from l2s_nmt.search.reference.suffix import Suffix
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.sampling import Decoding
from l2s_nmt.search.types import Trajectories
from tests.tiny import (
    VOCABULARY,
    finish,
    next_scores,
    random_batch,
    random_sentences,
    shared_policy,
    source_of,
)

LIMIT = LengthLimit(0.5, 2)
DRAWS = Draws(seed=5, update=9)
GREEDY, SAMPLE, BEAM = Decoding("greedy"), Decoding("sample", 0.7), Decoding("beam", beam=3)
COPY = Copy(OnTokens(hamming_cost))
EDIT_DISTANCE = EditDistance(OnTokens(edit_distance_cost))
SUFFIX = Suffix(OnTokens(edit_distance_cost))
SAMPLED = RollIn("learned", SAMPLE)


def context_of(batch: Batch, draws: Draws = DRAWS, limit: LengthLimit = LIMIT) -> Context:
    return see(shared_policy(), batch, draws, limit)


def rolled(roll_in: RollIn, batch: Batch, draws: Draws = DRAWS) -> Trajectories:
    trajectories = roll_in(context_of(batch, draws))
    tokens, lengths = trajectories.tokens, trajectories.lengths
    assert tokens.shape == trajectories.by_reference.shape == (len(batch), int(lengths.max()))
    behind = torch.arange(tokens.shape[1]) >= lengths[:, None]
    assert (tokens[behind] == shared_policy().pad).all()
    assert not (tokens == shared_policy().pad)[~behind].any()
    return trajectories


def sentences(trajectories: Trajectories) -> list[list[int]]:
    return [t[:n].tolist() for t, n in zip(trajectories.tokens, trajectories.lengths, strict=True)]


def writers(trajectories: Trajectories) -> list[list[bool]]:
    """Of each token, whether the reference chose it."""
    return [w[:n].tolist() for w, n in zip(trajectories.by_reference, trajectories.lengths, strict=True)]


def everything(trajectories: Trajectories) -> list[tuple[list[int], list[bool], bool]]:
    """What a roll-in says about each sentence, padding aside."""
    return list(
        zip(sentences(trajectories), writers(trajectories), trajectories.finished.tolist(), strict=True)
    )


def assert_equal(one: Trajectories, two: Trajectories) -> None:
    assert torch.equal(one.tokens, two.tokens)
    assert torch.equal(one.lengths, two.lengths)
    assert torch.equal(one.finished, two.finished)
    assert writers(one) == writers(two)


def test_length_limit_counts_the_tokens_of_the_source() -> None:
    mask = torch.arange(7) < torch.tensor([[1], [3], [7]])
    assert LengthLimit(1.5, 2)(mask).tolist() == [3, 6, 12]
    assert LengthLimit(1.0, 0)(mask).tolist() == [1, 3, 7]


def test_a_sentence_may_have_one_token_at_least_and_no_more_than_the_model_has_positions() -> None:
    mask = torch.arange(7) < torch.tensor([[1], [3], [7]])
    assert LengthLimit(0.2, 0)(mask).tolist() == [1, 1, 1]
    assert LengthLimit(1.5, 2, longest=5)(mask).tolist() == [3, 5, 5]


@pytest.mark.parametrize(
    "reference", [None, COPY, EDIT_DISTANCE, SUFFIX], ids=["target", "copy", "edits", "suffix"]
)
def test_reference_writes_the_target_even_where_it_is_longer_than_the_model_may_write(
    reference: Reference | None,
) -> None:
    batch = random_batch(shared_policy())
    trajectories = rolled(RollIn("reference", GREEDY, reference), batch)
    assert (batch.target_lengths > LIMIT(batch.source_mask)).any()
    assert torch.equal(trajectories.tokens, batch.target)
    assert torch.equal(trajectories.lengths, batch.target_lengths)
    assert trajectories.finished.all()
    assert all(all(row) for row in writers(trajectories))


def test_greedy_equals_decoding_without_cache() -> None:
    policy, batch = shared_policy(), random_batch(shared_policy(), 16, seed=1)
    trajectories = rolled(RollIn("learned", GREEDY), batch)
    limits = LIMIT(batch.source_mask).tolist()
    expected = [finish(policy, source_of(batch, row), [], limits[row]) for row in range(16)]
    assert sentences(trajectories) == expected
    assert trajectories.finished.tolist() == [row[-1] == policy.eos for row in expected]
    assert set(trajectories.finished.tolist()) == {True, False}
    assert not any(any(row) for row in writers(trajectories))


def drawn_token(batch: Batch, row: int, prefix: list[int], decoding: Decoding) -> int:
    """The policy's next token: the best, or the sentence's own draw against the cumulative distribution, in order."""
    scores = next_scores(shared_policy(), source_of(batch, row), prefix)
    if decoding.name == "greedy":
        return int(scores.argmax())
    rest = float(DRAWS.uniform("roll_in", batch.rows[row : row + 1], len(prefix) + 1)[0, -1])
    probabilities = (scores / decoding.temperature).softmax(0)
    order: list[int] = probabilities.argsort(descending=True).tolist()[: decoding.top_k]
    total = float(probabilities[order].sum())
    while decoding.top_p is not None and float(probabilities[order[:-1]].sum()) >= decoding.top_p * total:
        order = order[:-1]
    rest *= float(probabilities[order].sum())
    for token in sorted(order):
        rest -= float(probabilities[token])
        if rest < 0:
            return token
    raise AssertionError("no token drawn")


def written_slowly(
    batch: Batch,
    row: int,
    decoding: Decoding,
    teacher: Callable[[list[int]], int] | None = None,
    p: float = 0.0,
) -> tuple[list[int], list[bool]]:
    """One sentence by a loop, and who wrote each token."""
    policy, limit = shared_policy(), int(LIMIT(batch.source_mask)[row])
    draws = DRAWS.uniform("mix_in", batch.rows[row : row + 1], limit)[0].tolist()
    tokens: list[int] = []
    while policy.eos not in tokens and len(tokens) < limit:
        if teacher is not None and draws[len(tokens)] < p:
            tokens.append(teacher(tokens))
        else:
            tokens.append(drawn_token(batch, row, tokens, decoding))
    return tokens, [draw < p for draw in draws[: len(tokens)]]


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding("sample", 0.5),
        Decoding("sample", 1.0),
        Decoding("sample", 30.0),
        Decoding("sample", 2.0, top_k=3),
        Decoding("sample", 2.0, top_p=0.6),
        Decoding("sample", 1.5, top_k=4, top_p=0.7),
    ],
    ids=str,
)
def test_sampling_inverts_the_cumulative_distribution_with_the_draws_of_the_sentence(
    decoding: Decoding,
) -> None:
    batch = random_batch(shared_policy(), 12, seed=2, first_row=70)
    trajectories = rolled(RollIn("learned", decoding), batch)
    assert sentences(trajectories) == [written_slowly(batch, row, decoding)[0] for row in range(12)]


def test_other_rows_updates_and_seeds_draw_other_sentences() -> None:
    batch = random_batch(shared_policy(), 9, seed=3)
    moved = random_batch(shared_policy(), 9, seed=3, first_row=9)
    seen = {
        str(sentences(rolled(SAMPLED, *arguments)))
        for arguments in ((batch, DRAWS), (moved, DRAWS), (batch, Draws(5, 10)), (batch, Draws(6, 9)))
    }
    assert len(seen) == 4


def test_sampling_at_a_temperature_near_zero_or_among_one_is_greedy() -> None:
    batch = random_batch(shared_policy(), 16, seed=4)
    greedy = rolled(RollIn("learned", GREEDY), batch)
    for same in (Decoding("sample", 1e-4), Decoding("sample", top_k=1), Decoding("sample", 5.0, top_p=1e-6)):
        assert_equal(rolled(RollIn("learned", same), batch), greedy)


def test_limits_that_leave_nothing_out_change_nothing() -> None:
    batch = random_batch(shared_policy(), 16, seed=4)
    wide = Decoding("sample", 0.7, top_k=VOCABULARY, top_p=1.0)
    assert_equal(rolled(RollIn("learned", wide), batch), rolled(SAMPLED, batch))


def test_the_padding_token_is_never_drawn() -> None:
    batch = random_batch(shared_policy(), 64, seed=5)
    trajectories = rolled(RollIn("learned", Decoding("sample", 1e6)), batch)
    drawn = Counter(token for row in sentences(trajectories) for token in row)
    assert set(drawn) == set(range(VOCABULARY)) - {shared_policy().pad}


def generated_alone(batch: Batch, row: int, limit: int, beam: int) -> list[int]:
    """Beam search by the library for one sentence, without padding."""
    policy = shared_policy()
    tokens: list[int] = policy.model.generate(
        input_ids=torch.tensor([source_of(batch, row)]),
        num_beams=beam,
        do_sample=False,
        max_new_tokens=limit,
        bad_words_ids=[[policy.pad]],
        renormalize_logits=True,
    )[0, 1:].tolist()
    return tokens


def test_beam_roll_in_is_beam_search_of_each_sentence_alone_within_its_limit() -> None:
    batch = random_batch(shared_policy(), 12, seed=10)
    trajectories = rolled(RollIn("learned", BEAM), batch)
    limits = LIMIT(batch.source_mask).tolist()
    expected = [generated_alone(batch, row, limits[row], 3) for row in range(12)]
    assert sentences(trajectories) == expected
    assert trajectories.finished.tolist() == [row[-1] == shared_policy().eos for row in expected]
    assert set(trajectories.finished.tolist()) == {True, False}
    assert sentences(trajectories) != sentences(rolled(RollIn("learned", GREEDY), batch))


def test_the_best_of_a_beam_are_dealt_out_to_the_rows_of_a_sentence() -> None:
    batch = random_batch(shared_policy(), 5, seed=10)
    owner = torch.arange(5).repeat_interleave(3)
    best = RollIn("learned", Decoding("beam", beam=4, best=3))(context_of(batch).select(owner))
    written = sentences(best)
    assert written[::3] == sentences(rolled(RollIn("learned", Decoding("beam", beam=4)), batch))
    for first in range(0, 15, 3):
        assert len({tuple(row) for row in written[first : first + 3]}) == 3


def test_beam_roll_in_of_width_one_is_greedy() -> None:
    batch = random_batch(shared_policy(), 12, seed=11)
    one = rolled(RollIn("learned", Decoding("beam", beam=1)), batch)
    assert_equal(one, rolled(RollIn("learned", GREEDY), batch))


def assert_own(roll_in: RollIn) -> None:
    """What is written for a sentence depends on it alone: not on its place, its companions, or the padding."""
    policy = shared_policy()
    sources, targets = (random_sentences(policy, 9, seed, shortest=2) for seed in (50, 51))
    rows = np.arange(20, 29)
    batch = collate(sources, targets, rows, policy.pad)
    whole = everything(rolled(roll_in, batch))
    order = torch.tensor([4, 8, 0, 2, 6, 1, 7, 3, 5])
    assert everything(rolled(roll_in, batch.select(order))) == [whole[row] for row in order]
    few = [2, 5, 7]
    alone = collate([sources[row] for row in few], [targets[row] for row in few], rows[few], policy.pad)
    assert everything(rolled(roll_in, alone)) == [whole[row] for row in few]
    long = [*[5, 6] * 8, policy.eos]
    wide = collate([*sources, long], [*targets, long], np.arange(20, 30), policy.pad)
    assert everything(rolled(roll_in, wide))[:9] == whole


@pytest.mark.parametrize(
    "roll_in",
    [
        RollIn("reference", GREEDY),
        RollIn("reference", GREEDY, EDIT_DISTANCE),
        RollIn("learned", GREEDY),
        SAMPLED,
        RollIn("learned", Decoding("sample", 2.0, top_k=4, top_p=0.8)),
        RollIn("learned", BEAM),
    ],
    ids=["target", "reference", "greedy", "sample", "nucleus", "beam"],
)
def test_a_sentence_does_not_depend_on_place_companions_or_padding(roll_in: RollIn) -> None:
    assert_own(roll_in)
