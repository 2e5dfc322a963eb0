"""What one update minimises: cross-entropy on the reference, and a cost-sensitive loss on what the search found.

Both are global sums over global counts: target tokens for the one, searched states for the other. Splitting a
batch over processes or accumulation steps therefore changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from l2s_nmt.data.batches import Batch
from l2s_nmt.errors import UserError
from l2s_nmt.model import Term
from l2s_nmt.search.losses.table import LossFunction, Support
from l2s_nmt.search.search import Experience
from l2s_nmt.search.types import CostVectors, Decisions
from l2s_nmt.training.references import References

Watch = Callable[[Tensor, Decisions, CostVectors], None]
"""Is shown the scores (n, V) at some of the searched states, and what the search found there."""


@dataclass(frozen=True)
class Counts:
    """What the sums of an update are divided by, over all its parts."""

    tokens: float
    """Target tokens, EOS included."""
    states: float
    """States the search looked at, each as often as it was visited."""


@dataclass(frozen=True)
class Losses:
    """The terms of one part of an update, as sums; detached, for the log."""

    cross_entropy: Tensor | None
    """None where nothing is learned from it."""
    search: Tensor


@dataclass(frozen=True)
class Objective:
    """weight · cost-sensitive loss + cross_entropy · cross-entropy.

    Args:
        loss: cost-sensitive loss; None without search.
        weight: of it.
        cross_entropy: weight of the cross-entropy on the reference.
        label_smoothing: of the cross-entropy.
        consistency: weight, in the cross-entropy, of how far two readings of a reference, each with a dropout of its
            own, disagree on its next token; 0: each is read once.
        alpha: scale of the costs, for losses that have one.
        support: over what the loss normalises the policy.
        whole: the loss wants all states of a part of the batch at once, being no sum over them.
        as_written: the loss is of the policy that writes sentences, in which padding has no probability: one of what
            it has written, whose gradient would else raise that of padding, which no sample ever shows.
    """

    loss: LossFunction | None
    weight: float
    cross_entropy: float
    label_smoothing: float
    alpha: float
    support: Support
    consistency: float = 0.0
    whole: bool = False
    as_written: bool = False

    def __call__(
        self,
        policy: nn.Module,
        batch: Batch,
        experience: Experience | None,
        counts: Counts,
        watch: Watch | None = None,
    ) -> tuple[Tensor, Losses]:
        """One forward of the policy, for both terms.

        Args:
            policy: the (wrapped) policy.
            batch: B sentences.
            experience: what the search found on them; None without search.
            counts: of the whole update.
            watch: is shown the scores at the searched states, part by part.

        Returns:
            the part's share of the update's loss, and its terms as sums.
        """
        golden = References(batch, self.cross_entropy, self.label_smoothing, self.consistency)
        rows, sentence = self._rows(golden, experience)
        terms = [golden.term(rows.shape[1])] if self.cross_entropy else []
        searched = None
        if experience is not None and self.loss is not None:
            first = len(golden.rows) if self.cross_entropy else 0
            decisions = experience.decisions
            states = (first + decisions.sentence) * rows.shape[1] + decisions.position
            # The counts come in below: a gradient must not be so small that half precision makes nothing of it.
            factor = self.weight * counts.tokens / max(counts.states, 1.0)
            searched = _Searched(self, experience, factor, watch)
            terms.append(Term(states, searched, whole=self.whole, as_written=self.as_written))
        total = policy(golden.source, golden.source_mask, rows, sentence, terms) / counts.tokens
        zero = total.detach().new_zeros(())
        of_targets = golden.sum + zero if self.cross_entropy else None
        return total, Losses(of_targets, (searched.sum if searched else 0.0) + zero)

    def _rows(self, golden: References, experience: Experience | None) -> tuple[Tensor, Tensor]:
        """Target rows, of the references and of the roll-in, and the source row of each."""
        index = torch.arange(len(golden.rows), device=golden.rows.device)
        if experience is None:
            return golden.rows, index
        tokens = experience.trajectories.tokens
        if not self.cross_entropy:
            return tokens, experience.owner
        width = max(golden.rows.shape[1], tokens.shape[1])
        rows = torch.cat([_widen(golden.rows, width), _widen(tokens, width)])
        return rows, torch.cat([index, experience.owner])


class _Searched:
    """The cost-sensitive loss on what the search found, with what it comes to."""

    def __init__(
        self, objective: Objective, experience: Experience, factor: float, watch: Watch | None
    ) -> None:
        assert objective.loss is not None
        self.loss: LossFunction = objective.loss
        self.objective = objective
        self.experience = experience
        self.factor = factor
        self.watch = watch
        self.sum: Tensor | float = 0.0

    def __call__(self, states: slice, scores: Tensor) -> Tensor:
        decisions, costs = self.experience.decisions.part(states), self.experience.costs.part(states)
        if self.watch is not None:
            self.watch(scores.detach(), decisions, costs)
        alpha, support = self.objective.alpha, self.objective.support
        each = self.loss(scores, decisions, costs, alpha=alpha, support=support)
        if not isinstance(each, Tensor) or each.shape != scores.shape[:1]:
            found = tuple(each.shape) if isinstance(each, Tensor) else type(each).__name__
            raise UserError(
                f"search.loss.function returned {found} for {len(scores)} states; it must return a tensor with the "
                f"loss of each, of shape ({len(scores)},)"
            )
        if scores.requires_grad and not each.requires_grad:
            raise UserError(
                "search.loss.function returned losses that do not depend on the scores, so nothing would be learned "
                "from them; compute them from the scores that it is given, without detach or no_grad"
            )
        loss = decisions.weigh(each).sum()
        self.sum = self.sum + loss.detach()
        return self.factor * loss


def _widen(tokens: Tensor, width: int) -> Tensor:
    # What fills the rest is never looked at: attention is causal and the states lie before it.
    return F.pad(tokens, (0, width - tokens.shape[1]))
