"""What the reference says without decoding: costs of the vocabulary, actions to imitate, actions to coach by."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from l2s_nmt.search.decisions.states import StateChoice
from l2s_nmt.search.losses.log_loss import target_learning
from l2s_nmt.search.reference.copy import Copy
from l2s_nmt.search.reference.edit_distance import EditDistance
from l2s_nmt.search.reference.protocol import Reference
from l2s_nmt.search.reference.suffix import Suffix
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.roll_out.outcome import Outcome
from l2s_nmt.search.roll_out.reference_costs import ReferenceActions, ReferenceCosts
from l2s_nmt.search.types import CostVectors, Decisions, Trajectories
from tests.tiny import VOCABULARY, shared_policy
from tests.unit.search.test_copy import dense
from tests.unit.search.test_roll_out import (
    ALL,
    BLEU,
    EDITS,
    GREEDY,
    REFERENCE,
    ROLL_INS,
    SAMPLED,
    context,
    searched,
    target_of,
    trajectories_of,
)

REFERENCES: dict[str, Reference] = {
    "copy": Copy(BLEU),
    "suffix": Suffix(BLEU),
    "edit_distance": EditDistance(EDITS),
}
ORACLE = REFERENCES["edit_distance"]


def prefixes_of(outcome: Outcome, roll_in: RollIn) -> list[tuple[int, list[int]]]:
    """Row and prefix of each state."""
    tokens, decisions = trajectories_of(roll_in).tokens, outcome.decisions
    pairs = zip(decisions.sentence.tolist(), decisions.position.tolist(), strict=True)
    return [(row, tokens[row, :position].tolist()) for row, position in pairs]


def log_policy(outcome: Outcome, roll_in: RollIn) -> Tensor:
    """(N, V)"""
    decisions = outcome.decisions
    scores, _ = context().score(trajectories_of(roll_in).tokens, decisions.sentence, decisions.position)
    return scores.float().log_softmax(-1)


def next_by(name: str, row: int, prefix: list[int]) -> int:
    """The next token of the named reference, by the completion of this prefix alone."""
    size = len(prefix)
    whole = REFERENCES[name].complete(
        context(), torch.tensor([prefix]).view(1, size).long(), torch.tensor([size]), torch.tensor([row])
    )
    return int(whole.tokens[0, size])


@ROLL_INS
@pytest.mark.parametrize("name", REFERENCES)
def test_costs_are_those_of_the_reference_at_the_chosen_states(name: str, roll_in: RollIn) -> None:
    for states in (ALL, StateChoice("uniform", 2)):
        outcome = searched(ReferenceCosts(states, REFERENCES[name]), roll_in)
        sentence, position = states(context(), trajectories_of(roll_in))
        expected = REFERENCES[name].costs(context(), trajectories_of(roll_in).tokens, sentence, position)
        assert torch.equal(outcome.decisions.sentence, sentence)
        assert torch.equal(outcome.decisions.position, position)
        assert torch.equal(outcome.decisions.actions, expected[0].actions)
        assert torch.equal(outcome.costs.costs, expected[1].costs)
        assert outcome.costs.other is not None
        assert outcome.roll_outs == 0
        assert outcome.observed is None


@ROLL_INS
@pytest.mark.parametrize("name", REFERENCES)
def test_the_action_to_imitate_is_the_references_next_token(name: str, roll_in: RollIn) -> None:
    outcome = searched(ReferenceActions(ALL, REFERENCES[name]), roll_in)
    states = prefixes_of(outcome, roll_in)
    assert outcome.decisions.actions.tolist() == [[next_by(name, *state)] for state in states]
    assert outcome.decisions.mask.all()
    assert not outcome.costs.costs.any()
    assert outcome.costs.other is not None
    assert outcome.costs.other.tolist() == [1.0] * len(states)
    assert outcome.roll_outs == 0


def test_on_the_target_itself_imitation_is_teacher_forcing() -> None:
    for name in REFERENCES:
        actions = (
            searched(ReferenceActions(ALL, REFERENCES[name]), REFERENCE).decisions.actions[:, 0].tolist()
        )
        assert actions == [token for row in range(8) for token in (*target_of(row), shared_policy().eos)]


@pytest.mark.parametrize("roll_in", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("coaching", [0.01, 0.2, 1.0, 30.0])
def test_coaching_shows_the_action_of_smallest_cost_less_preference(
    coaching: float, name: str, roll_in: RollIn
) -> None:
    outcome = searched(ReferenceActions(ALL, REFERENCES[name], coaching), roll_in)
    costs = searched(ReferenceCosts(ALL, REFERENCES[name]), roll_in)
    table = dense(costs.decisions, costs.costs, VOCABULARY)
    naive = table - coaching * log_policy(outcome, roll_in)
    assert torch.equal(outcome.decisions.actions[:, 0], naive.argmin(1))
    assert not outcome.costs.costs.any()


def test_much_coaching_shows_what_the_learner_does_and_little_the_easiest_optimal_action() -> None:
    much, little, none = (
        searched(ReferenceActions(ALL, ORACLE, weight), SAMPLED) for weight in (1e4, 1e-4, 0.0)
    )
    log_probs = log_policy(none, SAMPLED)
    assert torch.equal(much.decisions.actions[:, 0], log_probs.argmax(1))
    costs = searched(ReferenceCosts(ALL, ORACLE), SAMPLED)
    optimal = dense(costs.decisions, costs.costs, VOCABULARY) == 0
    assert torch.equal(little.decisions.actions[:, 0], log_probs.masked_fill(~optimal, -torch.inf).argmax(1))
    # Without coaching the reference breaks the ties, not always to the learner's liking.
    assert optimal.gather(1, none.decisions.actions).all()
    assert not torch.equal(none.decisions.actions, little.decisions.actions)


class Known:
    """A reference that knows the costs of the tokens it tried, and repeats one of them in a masked entry."""

    def costs(self, *state: object) -> tuple[Decisions, CostVectors]:
        actions = torch.tensor([[5, 3, 5]])
        mask = torch.tensor([[True, True, False]])
        place = torch.zeros(1, dtype=torch.long)
        return Decisions(place, place, actions, mask), CostVectors(torch.tensor([[0.5, 0.0, 0.0]]))


def test_coaching_shows_no_action_of_unknown_cost_and_ignores_masked_ones() -> None:
    whole, place = trajectories_of(GREEDY), torch.tensor([0])
    only = Trajectories(whole.tokens[:1], torch.tensor([1]), torch.tensor([False]), whole.by_reference[:1])
    one = context().select(place)
    reference: Reference = Known()  # type: ignore[assignment]
    log_probs = one.score(only.tokens, place, place)[0].log_softmax(-1)[0]
    shown = set()
    for weight in (0.01, 0.1, 1.0, 100.0):
        outcome = ReferenceActions(ALL, reference, weight)(one, only)
        better = 5 if weight * float(log_probs[5]) - 0.5 > weight * float(log_probs[3]) else 3
        assert outcome.decisions.actions.tolist() == [[better]]
        shown.add(better)
    assert shown == {3, 5}


def test_imitating_all_optimal_actions_is_optimal_completion_distillation() -> None:
    """Proof by another way: the targets from Levenshtein distances to all prefixes of the target, one by one."""
    outcome = searched(ReferenceCosts(ALL, ORACLE), SAMPLED)
    eos = shared_policy().eos
    optimal = torch.zeros(len(outcome.decisions), VOCABULARY)
    for n, (row, prefix) in enumerate(prefixes_of(outcome, SAMPLED)):
        target = target_of(row)
        distances = [Levenshtein.distance(prefix, target[:j]) for j in range(len(target) + 1)]
        followers = [[*target, eos][j] for j, d in enumerate(distances) if d == min(distances)]
        optimal[n, followers] = 1.0
    assert (optimal.sum(1) > 1).any()
    logits = log_policy(outcome, SAMPLED).masked_fill(torch.arange(VOCABULARY) == shared_policy().pad, -20.0)
    logits.requires_grad_()
    distillation = F.cross_entropy(logits, optimal / optimal.sum(1, keepdim=True), reduction="none")
    loss = target_learning(logits, outcome.decisions, outcome.costs, alpha=1.0, support="vocabulary")
    torch.testing.assert_close(loss, distillation)
    gradients = [torch.autograd.grad(value.sum(), logits)[0] for value in (loss, distillation)]
    torch.testing.assert_close(*gradients)


def test_nothing_to_ask() -> None:
    none = torch.empty(0, dtype=torch.long)
    nowhere: StateChoice = lambda context, trajectories: (none, none)  # type: ignore[assignment]  # noqa: E731
    for reference in REFERENCES.values():
        for roll_out in (
            ReferenceCosts(nowhere, reference),
            ReferenceActions(nowhere, reference),
            ReferenceActions(nowhere, reference, 0.5),
        ):
            outcome = roll_out(context(), trajectories_of(GREEDY))
            assert len(outcome.decisions) == len(outcome.costs.costs) == 0
