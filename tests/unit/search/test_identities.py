"""Whole searches that must learn the same: by trajectories, costs, and the gradients of the update."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.search.context import LengthLimit
from l2s_nmt.search.costs.bleu import SentenceBleu
from l2s_nmt.search.costs.cost import OnTokens
from l2s_nmt.search.costs.edit_distance import edit_distance_cost
from l2s_nmt.search.costs.overlap import hamming_cost
from l2s_nmt.search.decisions.candidates import CandidateChoice
from l2s_nmt.search.decisions.states import StateChoice
from l2s_nmt.search.losses.divergences import kl
from l2s_nmt.search.losses.expected_cost import expected_cost
from l2s_nmt.search.losses.log_loss import target_learning
from l2s_nmt.search.losses.table import LossFunction
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.copy import Copy
from l2s_nmt.search.reference.edit_distance import EditDistance
from l2s_nmt.search.reference.suffix import Suffix
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.roll_out.deviations import Deviations
from l2s_nmt.search.roll_out.finish import RollOutPolicy
from l2s_nmt.search.roll_out.outcome import RollOut
from l2s_nmt.search.roll_out.reference_costs import ReferenceActions, ReferenceCosts
from l2s_nmt.search.sampling import Decoding
from l2s_nmt.search.schedules import Schedule
from l2s_nmt.search.search import Experience, Search
from l2s_nmt.training.objective import Counts, Objective
from tests.tiny import VOCABULARY, new_policy, random_batch, shared_policy

LIMIT = LengthLimit(1.0, 3)
DRAWS = Draws(seed=6, update=1)
HAMMING = OnTokens(hamming_cost)
BLEU = OnTokens(SentenceBleu("add_k"))
EDITS = OnTokens(edit_distance_cost)
ALL = StateChoice("all")
REFERENCE = RollIn("reference", Decoding())
SAMPLED = RollIn("learned", Decoding("sample"))


def batch() -> Batch:
    return random_batch(shared_policy(), 7, seed=3)


@torch.no_grad()
def found(roll_in: RollIn, roll_out: RollOut) -> Experience:
    return Search(roll_in, roll_out, HAMMING, LIMIT)(shared_policy(), batch(), DRAWS)


@dataclass(frozen=True)
class Update:
    """A loss and its gradient by the parameters."""

    loss: Tensor
    gradient: Tensor


def update_by(
    loss: LossFunction | None, experience: Experience | None, *, alpha: float = 1.0, smoothing: float = 0.0
) -> Update:
    """What a training step minimises: cross-entropy on the target without a loss, and nothing but the loss with one."""
    policy = new_policy()
    objective = Objective(loss, 1.0, float(loss is None), smoothing, alpha, "vocabulary")
    states = len(experience.decisions) if experience is not None else 0
    counts = Counts(tokens=float(batch().target_lengths.sum()), states=float(states))
    total = objective(policy, batch(), experience, counts)[0]
    parameters = [p for p in policy.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    return Update(total.detach(), torch.cat([g.flatten() for g in gradients if g is not None]))


def assert_same(one: Update, other: Update, constant: float = 0.0) -> None:
    torch.testing.assert_close(one.loss, other.loss + constant)
    torch.testing.assert_close(one.gradient, other.gradient)
    assert one.gradient.abs().max() > 1e-3


def reference_roll_out(cost: OnTokens, k: int = 4) -> Deviations:
    """Reference roll-outs with the reference that copies by position."""
    copy = Copy(cost)
    return Deviations(ALL, CandidateChoice("top_k", k, copy), RollOutPolicy("reference", cost, copy))


@pytest.mark.parametrize(
    "roll_out",
    [
        reference_roll_out(HAMMING, 2),
        reference_roll_out(HAMMING, VOCABULARY),
        ReferenceCosts(ALL, Copy(HAMMING)),
        ReferenceActions(ALL, Copy(HAMMING)),
    ],
    ids=["few candidates", "all candidates", "vocabulary", "actions"],
)
def test_under_hamming_cost_on_the_target_target_learning_is_teacher_forcing(roll_out: RollOut) -> None:
    searched = update_by(target_learning, found(REFERENCE, roll_out))
    assert_same(searched, update_by(None, None))


def test_under_edit_distance_too() -> None:
    # Of the target's own prefixes only the whole is nearest, so that its next token alone is optimal.
    searched = update_by(target_learning, found(REFERENCE, ReferenceCosts(ALL, EditDistance(EDITS))))
    assert_same(searched, update_by(None, None))


def smoothing_of(mass: float) -> float:
    """The label smoothing that leaves the gold token this mass."""
    return (1 - mass) * VOCABULARY / (VOCABULARY - 1)


def entropy(mass: float) -> float:
    rest = (1 - mass) / (VOCABULARY - 1)
    return -mass * math.log(mass) - (VOCABULARY - 1) * rest * math.log(rest)


@pytest.mark.parametrize("alpha", [0.5, 2.0, 8.0])
def test_kl_to_the_references_action_is_label_smoothing(alpha: float) -> None:
    mass = 1 / (1 + (VOCABULARY - 1) * math.exp(-alpha))
    searched = update_by(kl, found(REFERENCE, ReferenceActions(ALL, Copy(HAMMING))), alpha=alpha)
    assert_same(searched, update_by(None, None, smoothing=smoothing_of(mass)), -entropy(mass))


def differing(
    hypotheses: Tensor, lengths: Tensor, references: Tensor, reference_lengths: Tensor, /
) -> Tensor:
    """Hamming distance, not divided by the length."""
    share = hamming_cost(hypotheses, lengths, references, reference_lengths)
    return share * torch.maximum(lengths, reference_lengths)


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_kl_under_hamming_distance_is_label_smoothing_but_for_the_early_end(alpha: float) -> None:
    """A wrong word costs 1; to end early costs all that is missing, and so has less of the mass."""
    experience = found(REFERENCE, ReferenceCosts(ALL, Copy(OnTokens(differing))))
    targets = torch.zeros(len(experience.decisions), VOCABULARY)
    for n, (row, position) in enumerate(
        zip(experience.decisions.sentence.tolist(), experience.decisions.position.tolist(), strict=True)
    ):
        words = int(batch().target_lengths[row]) - 1
        costs = torch.ones(VOCABULARY)
        costs[shared_policy().eos] = float(words - position)
        costs[int(batch().target[row, position])] = 0.0
        targets[n] = (-alpha * costs).softmax(0)
    plain = torch.tensor([mass == 1 / (1 + (VOCABULARY - 1) * math.exp(-alpha)) for mass in targets.amax(1)])
    at_the_end = experience.decisions.position >= batch().target_lengths[experience.decisions.sentence] - 2
    mass = 1 / (1 + (VOCABULARY - 1) * math.exp(-alpha))
    torch.testing.assert_close(
        targets.amax(1)[at_the_end], torch.full_like(targets.amax(1)[at_the_end], mass)
    )
    assert not plain.all()
    scores = torch.randn(targets.shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    ours = kl(scores, experience.decisions, experience.costs, alpha=alpha, support="vocabulary")
    naive = F.kl_div(scores.log_softmax(1), targets, reduction="none").sum(1)
    torch.testing.assert_close(ours, naive)
    gradients = [torch.autograd.grad(value.sum(), scores)[0] for value in (ours, naive)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("unit", ["state", "roll_out", "decision", "sentence"])
def test_lols_that_always_follows_the_reference_is_aggrevate(unit: str) -> None:
    suffix = Suffix(BLEU)
    aggrevate = Deviations(
        StateChoice("uniform", 2),
        CandidateChoice("top_k", 4, suffix),
        RollOutPolicy("reference", BLEU, suffix),
    )
    always = replace(
        aggrevate.roll_out,
        policy="mixed",
        p_reference=Schedule("constant", 1.0),
        mix_unit=unit,  # type: ignore[arg-type]
    )
    one, other = (found(SAMPLED, roll_out) for roll_out in (aggrevate, replace(aggrevate, roll_out=always)))
    assert torch.equal(one.costs.costs, other.costs.costs)
    assert torch.equal(one.decisions.actions, other.decisions.actions)
    ours, theirs = (update_by(expected_cost, experience) for experience in (one, other))
    assert torch.equal(ours.gradient, theirs.gradient)
    assert ours.gradient.any()


@pytest.mark.parametrize("cost", [BLEU, EDITS], ids=["bleu", "edit_distance"])
def test_costs_of_the_vocabulary_teach_what_trying_every_token_does(cost: OnTokens) -> None:
    suffix = Suffix(cost)
    tried = Deviations(
        ALL, CandidateChoice("top_k", VOCABULARY, suffix), RollOutPolicy("reference", cost, suffix)
    )
    one, other = found(SAMPLED, tried), found(SAMPLED, ReferenceCosts(ALL, suffix))
    assert one.roll_outs == len(one.decisions) * (VOCABULARY - 1)
    # Candidates leave padding out, which the vocabulary has: a policy that never says it cannot tell.
    gradients = []
    for experience in (one, other):
        scores = torch.randn(len(one.decisions), VOCABULARY, generator=torch.Generator().manual_seed(0))
        scores[:, shared_policy().pad] = -1e4
        scores.requires_grad_()
        loss = expected_cost(scores, experience.decisions, experience.costs, alpha=1, support="vocabulary")
        gradients.append(torch.autograd.grad(loss.sum(), scores)[0])
    torch.testing.assert_close(*gradients)
