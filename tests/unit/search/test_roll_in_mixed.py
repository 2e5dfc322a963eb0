"""Roll-ins that mix policy and reference, by token and by sentence, against loops over the draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest
import torch

from l2s_nmt.data.batches import Batch, collate
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.protocol import Reference
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.sampling import Decoding
from l2s_nmt.search.schedules import Schedule
from tests.tiny import random_batch, shared_policy, source_of
from tests.unit.search.test_roll_in import (
    BEAM,
    COPY,
    DRAWS,
    EDIT_DISTANCE,
    GREEDY,
    LIMIT,
    SAMPLE,
    SUFFIX,
    assert_equal,
    assert_own,
    context_of,
    everything,
    rolled,
    sentences,
    writers,
    written_slowly,
)

REFERENCES = pytest.mark.parametrize(
    "reference", [COPY, EDIT_DISTANCE, SUFFIX], ids=["copy", "edits", "suffix"]
)
DECODINGS = pytest.mark.parametrize("decoding", [GREEDY, SAMPLE], ids=["greedy", "sample"])


def constant(probability: float) -> Schedule:
    return Schedule("constant", probability)


def by_state(decoding: Decoding, reference: Reference, probability: float) -> RollIn:
    return RollIn("mixed", decoding, reference, constant(probability), "state")


def by_sentence(decoding: Decoding, probability: float, reference: Reference | None = None) -> RollIn:
    return RollIn("mixed", decoding, reference, constant(probability), "sentence")


@REFERENCES
@DECODINGS
def test_a_mixture_without_the_reference_is_the_policy(decoding: Decoding, reference: Reference) -> None:
    batch = random_batch(shared_policy(), 12, seed=6)
    learned = rolled(RollIn("learned", decoding), batch)
    assert_equal(rolled(by_state(decoding, reference, 0.0), batch), learned)
    assert_equal(rolled(by_sentence(decoding, 0.0, reference), batch), learned)


@REFERENCES
def test_a_mixture_by_state_without_the_policy_is_the_reference(reference: Reference) -> None:
    """Which writes a sentence as a whole, even where it is longer than the policy may write."""
    batch = random_batch(shared_policy(), 12, seed=6)
    assert (batch.target_lengths > LIMIT(batch.source_mask)).any()
    whole = rolled(RollIn("reference", GREEDY, reference), batch)
    assert_equal(rolled(by_state(SAMPLE, reference, 1.0), batch), whole)


@pytest.mark.parametrize("reference", [None, COPY, EDIT_DISTANCE])
def test_a_mixture_by_sentence_without_the_policy_is_the_reference(reference: Reference | None) -> None:
    batch = random_batch(shared_policy(), 12, seed=6)
    whole = rolled(RollIn("reference", GREEDY, reference), batch)
    assert_equal(rolled(by_sentence(SAMPLE, 1.0, reference), batch), whole)


def teacher_of(reference: Reference, batch: Batch, row: int) -> Callable[[list[int]], int]:
    """The reference's next token, for one sentence alone."""
    length = int(batch.target_lengths[row])
    target = batch.target[row, :length].tolist()
    alone = context_of(
        collate([source_of(batch, row)], [target], batch.rows[row : row + 1].numpy(), shared_policy().pad)
    )

    def ask(prefix: list[int]) -> int:
        if reference is COPY:
            token: int = [*target, *[shared_policy().eos] * 99][len(prefix)]
            return token
        prefixes = torch.tensor([prefix], dtype=torch.long)
        done = reference.complete(alone, prefixes, torch.tensor([len(prefix)]), torch.tensor([0]))
        return int(done.tokens[0, len(prefix)])

    return ask


@REFERENCES
@DECODINGS
@pytest.mark.parametrize("probability", [0.3, 0.6])
def test_mixed_by_state_each_token_is_of_whom_the_draw_says(
    decoding: Decoding, reference: Reference, probability: float
) -> None:
    batch = random_batch(shared_policy(), 10, seed=7, first_row=40)
    trajectories = rolled(by_state(decoding, reference, probability), batch)
    expected = [
        written_slowly(batch, row, decoding, teacher_of(reference, batch, row), probability)
        for row in range(10)
    ]
    assert sentences(trajectories) == [tokens for tokens, _ in expected]
    assert writers(trajectories) == [who for _, who in expected]
    assert {who for row in writers(trajectories) for who in row} == {True, False}
    finished = [tokens[-1] == shared_policy().eos for tokens, _ in expected]
    assert trajectories.finished.tolist() == finished


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLE, BEAM], ids=["greedy", "sample", "beam"])
@pytest.mark.parametrize("reference", [None, EDIT_DISTANCE], ids=["target", "edits"])
def test_mixed_by_sentence_each_is_wholly_of_whom_its_draw_says(
    decoding: Decoding, reference: Reference | None
) -> None:
    batch = random_batch(shared_policy(), 14, seed=8)
    mixed = everything(rolled(by_sentence(decoding, 0.4, reference), batch))
    learned = everything(rolled(RollIn("learned", decoding), batch))
    taught = everything(rolled(RollIn("reference", decoding, reference), batch))
    chosen = (DRAWS.uniform("mix_in", batch.rows, 1)[:, 0] < 0.4).tolist()
    assert set(chosen) == {True, False}
    assert mixed == [taught[row] if by else learned[row] for row, by in enumerate(chosen)]


def test_over_the_updates_a_sentence_is_of_either_as_often_as_the_probability_says() -> None:
    batch, count = random_batch(shared_policy(), 1, seed=8), 60
    context = context_of(batch)
    of_reference = 0
    for update in range(count):
        mixed = by_sentence(GREEDY, 0.3)(replace(context, draws=Draws(1, update)))
        of_reference += int(mixed.by_reference[0, 0])
    assert abs(of_reference - 0.3 * count) < 4 * (0.3 * 0.7 * count) ** 0.5


@pytest.mark.parametrize("unit", ["state", "sentence"])
def test_the_probability_is_that_of_the_update(unit: Literal["state", "sentence"]) -> None:
    batch = random_batch(shared_policy(), 6, seed=9)
    schedule = Schedule("linear", 1.0, 0.0, 10)
    roll_in = RollIn("mixed", GREEDY, COPY, schedule, unit)
    shares = []
    for update in (0, 3, 10, 11):
        rows = writers(rolled(roll_in, batch, Draws(5, update)))
        shares.append(sum(map(sum, rows)) / sum(map(len, rows)))
    assert shares[0] == 1
    assert 0 < shares[1] < 1
    assert shares[2:] == [0, 0]


def test_a_mixture_by_state_needs_a_reference() -> None:
    with pytest.raises(ValueError, match="reference"):
        rolled(RollIn("mixed", GREEDY), random_batch(shared_policy()))


@pytest.mark.parametrize(
    "roll_in",
    [
        by_state(SAMPLE, COPY, 0.4),
        by_state(GREEDY, EDIT_DISTANCE, 0.4),
        by_sentence(SAMPLE, 0.5),
        by_sentence(BEAM, 0.5, EDIT_DISTANCE),
    ],
    ids=["state copy", "state edits", "sentence", "sentence beam"],
)
def test_a_sentence_does_not_depend_on_place_companions_or_padding(roll_in: RollIn) -> None:
    assert_own(roll_in)
