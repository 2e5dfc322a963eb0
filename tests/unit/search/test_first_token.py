"""A code that every translation begins with: all who write begin with it, and the search looks for no other."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from l2s_nmt.model import Policy
from l2s_nmt.search.context import LengthLimit, see
from l2s_nmt.search.costs.cost import OnTokens
from l2s_nmt.search.costs.edit_distance import edit_distance_cost
from l2s_nmt.search.decisions.states import StateChoice, StatesName
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.edit_distance import EditDistance
from l2s_nmt.search.reference.noisy import Noise, Noisy
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.roll_out.trajectory_loss import TrajectoryLoss
from l2s_nmt.search.sampling import Decoding, greedy
from l2s_nmt.search.schedules import Schedule
from tests.tiny import FAMILIES, new_policy, random_batch

CODE = 5
EDITS = EditDistance(OnTokens(edit_distance_cost))
NEVER = Schedule("constant", 0.0, 0.0, 1)
ROLL_INS = {
    "greedy": RollIn("learned", Decoding()),
    "sampled": RollIn("learned", Decoding("sample", 0.7)),
    "among the best": RollIn("learned", Decoding("sample", 2.0, top_k=2, top_p=0.5)),
    "beam": RollIn("learned", Decoding("beam", beam=3)),
    "mixed": RollIn("mixed", Decoding("sample", 0.7), EDITS, NEVER),
    "mixed by sentence": RollIn("mixed", Decoding(), EDITS, NEVER, "sentence"),
}


@pytest.fixture(params=FAMILIES)
def policy(request: pytest.FixtureRequest) -> Policy:
    policy = new_policy(request.param)
    policy.model.generation_config.forced_bos_token_id = CODE
    return policy


def words(tokens: Tensor, lengths: Tensor) -> list[list[int]]:
    return [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)]


@torch.no_grad()
def generated(policy: Policy, source: Tensor, mask: Tensor, limit: int, beam: int) -> list[list[int]]:
    written = policy.model.generate(
        input_ids=source,
        attention_mask=mask.long(),
        num_beams=beam,
        do_sample=False,
        max_new_tokens=limit,
        bad_words_ids=[[policy.pad]],
        renormalize_logits=True,
        forced_bos_token_id=CODE,
    )[:, 1:]
    ends = (
        torch.where(written == policy.eos, torch.arange(written.shape[1]), written.shape[1] - 1).amin(1) + 1
    )
    return words(written, ends)


@pytest.mark.parametrize("beam", [1, 3])
@torch.no_grad()
def test_what_the_search_decodes_is_what_translating_decodes(policy: Policy, beam: int) -> None:
    batch, limits = random_batch(policy, 8, seed=3), torch.full((8,), 7)
    memory = policy.encode(batch.source, batch.source_mask)
    found = policy.roll(memory, limits, greedy) if beam == 1 else policy.beam_search(memory, limits, beam)
    assert words(*found) == generated(policy, batch.source, batch.source_mask, 7, beam)
    policy.model.generation_config.forced_bos_token_id = None
    free, _ = policy.roll(memory, limits, greedy)
    assert (free[:, 0] != CODE).any()  # the code was no wish of the model's


@pytest.mark.parametrize("roll_in", ROLL_INS.values(), ids=ROLL_INS)
def test_every_roll_in_begins_with_it(policy: Policy, roll_in: RollIn) -> None:
    batch = random_batch(policy, 12, seed=4)
    trajectories = roll_in(see(policy, batch, Draws(seed=5, update=9), LengthLimit(1.0, 2)))
    assert (trajectories.tokens[:, 0] == CODE).all()
    assert len({tuple(row) for row in words(trajectories.tokens, trajectories.lengths)}) > 3


@pytest.mark.parametrize("name", get_args(StatesName))
def test_where_some_states_are_looked_at_the_first_is_none_of_them(policy: Policy, name: StatesName) -> None:
    batch = random_batch(policy, 12, seed=4)
    context = see(policy, batch, Draws(seed=5, update=9), LengthLimit(1.0, 2))
    trajectories = ROLL_INS["sampled"](context)
    choice = StateChoice(name, per_sentence=2, segment=2)
    sentence, position = choice(context, trajectories)
    assert bool((position == 0).any()) == (name == "all")
    policy.model.generation_config.forced_bos_token_id = None
    free = choice(context, trajectories)
    if name in ("all", "ends", "failed_segments"):
        kept = (free[1] > 0) | torch.tensor(name == "all")
        assert torch.equal(sentence, free[0][kept])
        assert torch.equal(position, free[1][kept])
    else:
        assert (free[1] == 0).any()
        assert len(position) == sum(min(2, int(length) - 1) for length in trajectories.lengths)


@pytest.mark.parametrize("kind", get_args(Noise))
def test_a_worse_reference_begins_with_it(policy: Policy, kind: Noise) -> None:
    batch = random_batch(policy, 40, seed=4)
    references = batch.references.clone()
    references[:, :, 0] = torch.where(batch.reference_lengths > 1, CODE, references[:, :, 0])
    batch = replace(batch, references=references, target=references[:, 0, : batch.target.shape[1]])
    context = see(policy, batch, Draws(seed=5, update=9), LengthLimit(1.0, 3))
    half = Schedule("constant", 0.5, 0.5, 1)
    worse = Noisy(EDITS, EDITS.cost, kind)
    for roll_in in (
        RollIn("mixed", Decoding("sample", 0.7), worse, half),
        RollIn("reference", Decoding(), worse),
    ):
        trajectories = roll_in(context)
        coded = trajectories.lengths > 1
        assert coded.sum() > 20
        assert (trajectories.tokens[coded, 0] == CODE).all()


def test_nothing_is_learned_of_the_token_that_was_not_drawn(policy: Policy) -> None:
    batch = random_batch(policy, 12, seed=4)
    context = see(policy, batch, Draws(seed=5, update=9), LengthLimit(1.0, 2))
    trajectories = ROLL_INS["sampled"](context)
    loss = TrajectoryLoss(EDITS.cost, 1, "none")
    found = loss(context, trajectories).decisions
    assert len(found) == int((trajectories.lengths - (trajectories.lengths > 1).long()).sum())
    assert (found.position > 0)[trajectories.lengths[found.sentence] > 1].all()
    alone = see(policy, batch, Draws(seed=5, update=9), LengthLimit(0.0, 1))
    assert (loss(alone, ROLL_INS["sampled"](alone)).decisions.position == 0).all(), "it is all there is"
