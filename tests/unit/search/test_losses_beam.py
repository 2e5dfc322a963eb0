"""The expected cost of a step of a beam, against the sums over all prefixes and tokens."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from l2s_nmt.search.decisions.states import StateChoice
from l2s_nmt.search.losses.beam import beam_expected_cost
from l2s_nmt.search.losses.expected_cost import expected_cost
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.edit_distance import EditDistance
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.roll_out.reference_costs import ReferenceCosts
from l2s_nmt.search.sampling import Decoding
from l2s_nmt.search.search import Search
from l2s_nmt.search.types import CostVectors, Decisions
from tests.searches import LIMIT
from tests.tiny import VOCABULARY, new_policy, random_batch, shared_policy
from tests.unit.search.test_roll_out import EDITS

SIZE = 5
Prefix = tuple[int, ...]


@dataclass(frozen=True)
class Forest:
    """All distinct prefixes of some trajectories, in no order."""

    names: list[tuple[int, Prefix]]
    logits: Tensor
    decisions: Decisions
    costs: CostVectors

    def loss(self, alpha: float, logits: Tensor | None = None) -> Tensor:
        scores = self.logits if logits is None else logits
        return beam_expected_cost(scores, self.decisions, self.costs, alpha=alpha, support="vocabulary")

    def cost(self, state: int, token: int) -> Tensor:
        listed = [
            n
            for n, action in enumerate(self.decisions.actions[state].tolist())
            if action == token and self.decisions.mask[state, n]
        ]
        assert self.costs.other is not None
        return self.costs.costs[state, listed[0]] if listed else self.costs.other[state]

    def by_definition(self, alpha: float) -> Tensor:
        """(N,) each prefix's share, by its definition."""
        state_of = {name: n for n, name in enumerate(self.names)}
        beams: dict[tuple[int, int], list[int]] = defaultdict(list)
        for n, (sentence, prefix) in enumerate(self.names):
            beams[sentence, len(prefix)].append(n)
        chances = self.logits.softmax(1)
        share: dict[int, Tensor] = {}
        for members in beams.values():
            weights, regrets = [], []
            for n in members:
                sentence, prefix = self.names[n]
                path = [(state_of[sentence, prefix[:t]], token) for t, token in enumerate(prefix)]
                one = torch.ones((), dtype=torch.float64)
                weights.append(torch.stack([one, *(chances[state, token] for state, token in path)]).prod())
                regrets.append(sum((self.cost(*step) for step in path), 0 * one))
            total = sum(weight**alpha for weight in weights)
            for n, weight, regret in zip(members, weights, regrets, strict=True):
                ahead = sum(chances[n, token] * self.cost(n, token) for token in range(SIZE))
                above = regret - min(regrets)
                share[n] = len(members) * weight**alpha / total * (above + ahead)
        return torch.stack([share[n] for n in range(len(self.names))])


def forest(written: list[list[Prefix]], seed: int) -> Forest:
    """The prefixes of the trajectories of each sentence, with random scores and costs."""
    draw = torch.Generator().manual_seed(seed)
    names = sorted(
        {
            (sentence, each[:t])
            for sentence, all_of in enumerate(written)
            for each in all_of
            for t in range(len(each))
        }
    )
    names = [names[n] for n in torch.randperm(len(names), generator=draw).tolist()]
    number = {name: n for n, name in enumerate(names)}
    states = len(names)
    actions = torch.stack([torch.randperm(SIZE, generator=draw)[:2] for _ in names])
    mask = torch.stack([torch.ones(states, dtype=torch.bool), torch.rand(states, generator=draw) < 0.5], 1)
    costs = torch.rand(states, 2, dtype=torch.float64, generator=draw).masked_fill(~mask, 0)
    costs[:, 0] = 0.0
    other = torch.rand(states, dtype=torch.float64, generator=draw)
    decisions = Decisions(
        sentence=torch.arange(states),  # of no meaning here
        position=torch.tensor([len(prefix) for _, prefix in names]),
        actions=actions,
        mask=mask,
        group=torch.tensor([7 * sentence for sentence, _ in names]),
        parent=torch.tensor([number[s, prefix[:-1]] if prefix else -1 for s, prefix in names]),
        last=torch.tensor([prefix[-1] if prefix else 0 for _, prefix in names]),
    )
    logits = torch.randn(states, SIZE, dtype=torch.float64, generator=draw).requires_grad_()
    return Forest(names, logits, decisions, CostVectors(costs, other))


TRAJECTORIES = st.lists(
    st.lists(st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=4).map(tuple), min_size=1, max_size=5),
    min_size=1,
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(written=TRAJECTORIES, seed=st.integers(0, 1000), alpha=st.sampled_from([0.3, 1.0, 2.5]))
def test_values_and_gradient_are_those_of_the_definition(
    written: list[list[Prefix]], seed: int, alpha: float
) -> None:
    trees = forest(written, seed)
    found, expected = trees.loss(alpha), trees.by_definition(alpha)
    torch.testing.assert_close(found, expected)
    weights = torch.linspace(-1, 2, len(found), dtype=torch.float64)
    torch.testing.assert_close(
        *(torch.autograd.grad(values, trees.logits, weights)[0] for values in (found, expected))
    )


def test_gradient_equals_finite_differences() -> None:
    trees = forest([[(1, 2, 0), (1, 3, 0), (2, 2, 2)], [(0, 1), (0, 1, 1)]], 3)
    assert torch.autograd.gradcheck(lambda logits: trees.loss(1.3, logits), trees.logits)


@settings(max_examples=20, deadline=None)
@given(written=TRAJECTORIES, seed=st.integers(0, 100))
def test_a_constant_on_the_scores_changes_nothing(written: list[list[Prefix]], seed: int) -> None:
    trees = forest(written, seed)
    shift = torch.linspace(-30, 30, len(trees.names), dtype=torch.float64)[:, None]
    torch.testing.assert_close(trees.loss(1.0, trees.logits + shift), trees.loss(1.0))


def test_a_prefix_alone_has_its_expected_cost() -> None:
    trees = forest([[(1, 2, 0, 3)], [(4, 4)]], 5)
    plain = expected_cost(trees.logits, trees.decisions, trees.costs, alpha=1.0, support="vocabulary")
    torch.testing.assert_close(trees.loss(1.0), plain)
    several = forest([[(1, 2, 0), (1, 3, 0), (2, 2, 2)]], 5)
    unlinked = replace(several, decisions=replace(several.decisions, parent=None))
    plain = expected_cost(several.logits, several.decisions, several.costs, alpha=1.0, support="vocabulary")
    assert torch.equal(unlinked.loss(1.0), plain)
    assert not torch.allclose(several.loss(1.0), plain)


def test_where_prefixes_compete_the_better_one_gains() -> None:
    """Two prefixes, one of which has cost something, and after which all is alike."""
    trees = forest([[(1, 0), (2, 0)]], 0)
    number = {name: n for n, name in enumerate(trees.names)}
    first = number[0, ()]
    costs = torch.zeros_like(trees.costs.costs)
    actions = trees.decisions.actions.clone()
    actions[first] = torch.tensor([1, 2])
    mask = torch.ones_like(trees.decisions.mask)
    costs[first] = torch.tensor([0.0, 1.0])
    other = torch.zeros(len(trees.names), dtype=torch.float64)
    known = Forest(
        trees.names,
        trees.logits,
        replace(trees.decisions, actions=actions, mask=mask),
        CostVectors(costs, other),
    )
    (slope,) = torch.autograd.grad(known.loss(1.0)[[number[0, (1,)], number[0, (2,)]]].sum(), known.logits)
    assert slope[first, 1] < 0 < slope[first, 2]
    assert slope[first, [0, 3, 4]].abs().max() < 1e-12  # those are in no beam


def test_no_states_no_loss() -> None:
    nothing = torch.zeros(0, dtype=torch.long)
    empty = Decisions(
        nothing,
        nothing,
        nothing[:, None],
        nothing[:, None].bool(),
        group=nothing,
        parent=nothing,
        last=nothing,
    )
    logits = torch.zeros(0, SIZE, requires_grad=True)
    costs = CostVectors(torch.zeros(0, 1), torch.zeros(0))
    assert beam_expected_cost(logits, empty, costs, alpha=1.0, support="vocabulary").tolist() == []


def test_the_cost_of_every_token_must_be_known() -> None:
    trees = forest([[(1,)]], 0)
    with pytest.raises(ValueError, match="every token"):
        replace(trees, costs=CostVectors(trees.costs.costs)).loss(1.0)


SAMPLED, BEAM = Decoding("sample", 1.5), Decoding("beam", beam=4, best=4)
COSTS = ReferenceCosts(StateChoice("all"), EditDistance(EDITS), linked=True)


def searching(decoding: Decoding) -> Search:
    return Search(RollIn("learned", decoding), COSTS, EDITS, LIMIT, samples=4)


@pytest.mark.parametrize("decoding", [SAMPLED, BEAM], ids=["samples", "beam"])
def test_the_search_says_how_states_follow_each_other(decoding: Decoding) -> None:
    policy = shared_policy()
    found = searching(decoding)(policy, random_batch(policy, 6, seed=2), Draws(1, 2))
    decisions, tokens = found.decisions, found.trajectories.tokens
    assert decisions.group is not None
    assert decisions.parent is not None
    assert decisions.last is not None
    assert decisions.visits is None
    prefixes = [
        (int(found.owner[row]), tuple(tokens[row, :position].tolist()))
        for row, position in zip(decisions.sentence.tolist(), decisions.position.tolist(), strict=True)
    ]
    assert len(set(prefixes)) == len(prefixes)
    every = {
        (int(found.owner[row]), tuple(tokens[row, :t].tolist()))
        for row, length in enumerate(found.trajectories.lengths.tolist())
        for t in range(length)
    }
    assert set(prefixes) == every
    groups = decisions.group.tolist()
    assert len({(group, owner) for group, (owner, _) in zip(groups, prefixes, strict=True)}) == 6
    for (owner, prefix), parent, last in zip(
        prefixes, decisions.parent.tolist(), decisions.last.tolist(), strict=True
    ):
        if prefix:
            assert prefixes[parent] == (owner, prefix[:-1])
            assert last == prefix[-1]
        else:
            assert parent == -1
    assert max(len(prefix) for _, prefix in prefixes) > 2


def test_one_trajectory_each_is_the_expected_cost_with_all_its_gradients() -> None:
    policy = new_policy()
    batch = random_batch(policy, 5, seed=4)
    alone = replace(searching(Decoding()), samples=1)(policy, batch, Draws(1, 2))
    logits = torch.randn(len(alone.decisions), VOCABULARY, dtype=torch.float64).requires_grad_()
    gradients = [
        torch.autograd.grad(
            loss(logits, alone.decisions, alone.costs, alpha=2.0, support="vocabulary").sum(), logits
        )
        for loss in (beam_expected_cost, expected_cost)
    ]
    torch.testing.assert_close(*gradients)
