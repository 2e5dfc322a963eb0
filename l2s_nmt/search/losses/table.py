"""The losses by their names in recipes, and the signature that they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from l2s_nmt.search.losses.beam import beam_expected_cost
from l2s_nmt.search.losses.cost_regression import cost_regression
from l2s_nmt.search.losses.divergences import inverse_kl, js, kl
from l2s_nmt.search.losses.expected_cost import expected_cost
from l2s_nmt.search.losses.hinge import hinge
from l2s_nmt.search.losses.log_loss import cost_augmented, target_learning
from l2s_nmt.search.losses.minimum_risk import minimum_risk
from l2s_nmt.search.losses.policy_gradient import policy_gradient
from l2s_nmt.search.losses.scope import Support
from l2s_nmt.search.losses.success import expected_failure, marginal_likelihood
from l2s_nmt.search.losses.weighted_all_pairs import weighted_all_pairs
from l2s_nmt.search.types import CostVectors, Decisions

__all__ = ["LOSSES", "LOSS_TAKES", "Loss", "LossFunction", "Support"]


LOSS_TAKES = ("logits", "decisions", "costs"), ("alpha", "support")
"""What a loss is called with, in order and by name."""


class LossFunction(Protocol):
    """The signature that all losses share."""

    def __call__(
        self, logits: Tensor, decisions: Decisions, costs: CostVectors, *, alpha: float, support: Support
    ) -> Tensor:
        """Compute the loss of each state, for the caller to sum.

        Where ``costs.other`` is known and the support is the vocabulary, the loss is that over all actions,
        exactly. All work besides one pass over the logits, and one to write their gradient, is on the listed
        actions.

        With support ``candidates`` (a sampled softmax) the policy is renormalised over the listed actions and
        ``costs.other`` has no effect. The loss then has no gradient by any other score: the scores of actions
        that are never listed are free to rise above all of those that are.

        Args:
            logits: (N, V) scores of all next tokens, normalised (log-probabilities) or not; finite.
            decisions: the N states and their (N, K) listed actions, at least one real one each unless
                ``costs.other`` is in use; masked entries must be valid ids, too.
            costs: of these actions. A constant added to all makes no difference but where a loss says so.
            alpha: scale of the costs, per unit of cost; no effect on losses without one.
            support: what the policy is normalised over; no effect on losses that have no such choice.

        Returns:
            (N,) loss in the precision of the logits, but at least float32.
        """
        ...


@dataclass(frozen=True)
class Loss:
    """A loss, and which settings make sense with it."""

    function: LossFunction
    paper: str
    summary: str
    alpha: float | None
    """The scale that it has where a recipe names none: of the costs, or of log P in losses of what the policy has
    written; None: it has no scale."""
    normalises: bool
    """Whether the support is a choice: the whole vocabulary or the candidates."""
    whole_translations: bool = False
    """Whether it takes the one action that a trajectory took and the trajectory's own loss, not a cost vector."""
    compares_translations: bool = False
    """Whether it compares a sentence's trajectories with each other, so that none of their states counts alone."""
    compares_prefixes: bool = False
    """Whether it compares the states of a sentence's trajectories with each other, and asks for every token's cost."""
    linear: bool = False
    """Whether its gradient is linear in the costs, so that what estimates these without bias estimates it so, too."""

    @property
    def uses_alpha(self) -> bool:
        """Whether it has a scale."""
        return self.alpha is not None

    @property
    def of_trajectories(self) -> bool:
        """Whether it is of what the policy has written."""
        return self.whole_translations or self.compares_prefixes

    @property
    def compares_states(self) -> bool:
        """Whether it is no sum over states that may be looked at one by one."""
        return self.compares_translations or self.compares_prefixes


LOSSES: dict[str, Loss] = {
    "target_learning": Loss(
        target_learning,
        paper="Leblond et al. 2018 (LL); Sabour et al. 2019 for ties",
        summary="cross-entropy on the cheapest action, uniform over ties",
        alpha=None,
        normalises=True,
    ),
    "cost_augmented": Loss(
        cost_augmented,
        paper="Leblond et al. 2018 (LLCAS)",
        summary="log-loss of the cheapest action, with alpha times the costs added to the scores",
        alpha=10.0,
        normalises=True,
    ),
    "kl": Loss(
        kl,
        paper="Leblond et al. 2018; Sabour et al. 2019",
        summary="KL(softmax(-alpha costs) || policy)",
        alpha=10.0,
        normalises=True,
    ),
    "inverse_kl": Loss(
        inverse_kl,
        paper="Leblond et al. 2018, software",
        summary="KL(policy || softmax(-alpha costs)): expected cost with a bonus for entropy",
        alpha=10.0,
        normalises=True,
        linear=True,
    ),
    "js": Loss(
        js,
        paper="Leblond et al. 2018, software",
        summary="Jensen-Shannon divergence of softmax(-alpha costs) and the policy",
        alpha=10.0,
        normalises=True,
    ),
    "hinge": Loss(
        hinge,
        paper="Tsochantaridis et al. 2005; Leblond et al. 2018",
        summary="structured hinge: margins of alpha times the costs above the cheapest",
        alpha=10.0,
        normalises=True,
    ),
    "weighted_all_pairs": Loss(
        weighted_all_pairs,
        paper="Beygelzimer, Langford & Zadrozny 2008",
        summary="logistic ranking of all pairs, each weighted by its difference in cost",
        alpha=None,
        normalises=True,
    ),
    "cost_regression": Loss(
        cost_regression,
        paper="Ross & Bagnell 2014; csoaa",
        summary="squared error of the centred scores as predictions of minus alpha times the centred costs",
        alpha=10.0,
        normalises=True,
        linear=True,
    ),
    "expected_cost": Loss(
        expected_cost,
        paper="Sun et al. 2017, AggreVaTeD",
        summary="the cost that the policy expects to pay",
        alpha=None,
        normalises=False,
        linear=True,
    ),
    "expected_failure": Loss(
        expected_failure,
        paper="Sun et al. 2017; rewards as in Guu et al. 2017",
        summary="expected cost that is bounded: the probability of failure, 1 - exp(-alpha cost) of an action",
        alpha=10.0,
        normalises=False,
    ),
    "marginal_likelihood": Loss(
        marginal_likelihood,
        paper="Guu et al. 2017, From Language to Programs: Bridging RL and Maximum Marginal Likelihood",
        summary="log-loss of an action that succeeds with probability exp(-alpha cost)",
        alpha=10.0,
        normalises=True,
    ),
    "beam_expected_cost": Loss(
        beam_expected_cost,
        paper="Negrinho, Gormley & Gordon 2018, Learning Beam Search Policies via Imitation Learning",
        summary="expected cost of a step of a beam: of its prefixes, by softmax(alpha log P), and of what follows them",
        alpha=0.2,
        normalises=False,
        compares_prefixes=True,
    ),
    "policy_gradient": Loss(
        policy_gradient,
        paper="Williams 1992; Ranzato et al. 2016",
        summary="log-probability of what was sampled, times its loss above the baseline",
        alpha=None,
        normalises=False,
        whole_translations=True,
    ),
    "minimum_risk": Loss(
        minimum_risk,
        paper="Shen et al. 2016",
        summary="expected loss over several sampled translations, by softmax(alpha log P) among them",
        alpha=0.05,
        normalises=False,
        whole_translations=True,
        compares_translations=True,
    ),
}
"""The losses by their names in recipes."""
