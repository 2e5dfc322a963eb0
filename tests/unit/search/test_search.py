"""A whole search: what it found on a sentence depends on the sentence and the policy, and on nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.search.costs import COSTS, SentenceBleu
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.roll_in import LengthLimit, RollIn
from l2s_nmt.search.roll_out import Deviations, EditDistanceOracle
from l2s_nmt.search.search import Experience, RollOut, Search
from tests.tiny import FAMILIES, random_batch, shared_policy

LIMIT = LengthLimit(0.5, 3)
DRAWS = Draws(seed=2, update=5)
GREEDY = RollIn("learned", "greedy", 1.0, LIMIT)
SAMPLED = RollIn("learned", "sample", 0.7, LIMIT)
LOLS = Deviations("uniform", 3, "top_k", 4, "mixed", 0.5, True, SentenceBleu("add_k"), LIMIT)
SEARCHES = {
    "lols": Search(GREEDY, LOLS, SentenceBleu("add_k")),
    "sampled roll-in": Search(SAMPLED, replace(LOLS, greedy_roll_in=False), SentenceBleu()),
    "reference roll-in": Search(
        RollIn("reference", "greedy", 1.0, LIMIT), replace(LOLS, greedy_roll_in=False), SentenceBleu()
    ),
    "full vocabulary": Search(SAMPLED, replace(LOLS, policy="reference", candidates="full"), SentenceBleu()),
    "aggrevated": Search(SAMPLED, EditDistanceOracle(), COSTS["edit_distance"]),
}

Findings = dict[int, list[object]]


def found(search: Search, batch: Batch, family: str = "marian") -> tuple[Findings, Experience]:
    """What there is about each sentence, by its row of the data, free of padding."""
    with torch.no_grad():
        experience = search(shared_policy(family), batch, DRAWS)
    trajectories, decisions, costs = experience.trajectories, experience.decisions, experience.costs
    findings: Findings = {}
    for place, row in enumerate(batch.rows.tolist()):
        states = (decisions.sentence == place).nonzero().squeeze(1)
        findings[row] = [
            trajectories.tokens[place, : trajectories.lengths[place]].tolist(),
            bool(trajectories.finished[place]),
            float(experience.roll_in_costs[place]),
            decisions.position[states].tolist(),
            [decisions.actions[n, decisions.mask[n]].tolist() for n in states],
            [costs.costs[n, decisions.mask[n]].tolist() for n in states],
            None if costs.other is None else costs.other[states].tolist(),
        ]
    return findings, experience


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_changes_with_order_or_chunks(name: str, family: str) -> None:
    search, batch = SEARCHES[name], random_batch(shared_policy(family), 10, seed=1, first_row=50)
    whole, experience = found(search, batch, family)
    order = torch.tensor([6, 1, 9, 3, 0, 8, 2, 7, 5, 4])
    assert found(search, batch.select(order), family)[0] == whole
    halves = [found(search, batch.select(part), family) for part in (order[:3], order[3:])]
    assert {**halves[0][0], **halves[1][0]} == whole
    assert sum(half.roll_outs for _, half in halves) == experience.roll_outs


def test_trajectories_are_scored_without_their_end() -> None:
    batch = random_batch(shared_policy(), 12, seed=2)
    search = Search(GREEDY, LOLS, COSTS["edit_distance"])
    _, experience = found(search, batch)
    trajectories = experience.trajectories
    for row in range(12):
        words: Tensor = trajectories.tokens[row, : trajectories.lengths[row]]
        words = words[words != shared_policy().eos]
        target = batch.target[row, : batch.target_lengths[row] - 1]
        alone = COSTS["edit_distance"](
            words[None], torch.tensor([len(words)]), target[None], torch.tensor([len(target)])
        )
        assert float(experience.roll_in_costs[row]) == float(alone)
    assert set(trajectories.finished.tolist()) == {True, False}


def test_counts_and_times() -> None:
    _, experience = found(SEARCHES["lols"], random_batch(shared_policy(), 5))
    assert experience.roll_outs == int(experience.decisions.mask.sum())
    assert set(experience.seconds) == {"roll_in", "roll_out"}
    assert all(seconds >= 0 for seconds in experience.seconds.values())
    assert found(SEARCHES["aggrevated"], random_batch(shared_policy(), 5))[1].roll_outs == 0


def test_roll_out_gets_the_trajectories_of_the_roll_in() -> None:
    seen = []

    class Watching:
        def __call__(self, *arguments: object) -> object:
            seen.append(arguments[3])
            return EditDistanceOracle()(*arguments)  # type: ignore[arg-type]

    roll_out: RollOut = Watching()  # type: ignore[assignment]
    _, experience = found(Search(SAMPLED, roll_out, SentenceBleu()), random_batch(shared_policy(), 3))
    assert seen == [experience.trajectories]
