"""What the reference says without any decoding: every token's cost in closed form, or its action alone.

``ReferenceCosts`` is AggreVaTe (Ross & Bagnell 2014) with a reference whose cost-to-go is known: exact over the full
vocabulary; or with other models as the expert, whose log-probabilities are the prices (Lin et al. 2020).
``ReferenceActions`` is DAgger (Ross, Gordon & Bagnell 2011): imitate the reference's action at the states that were
visited; coaching (He, Daumé & Eisner 2012) lets the reference show, instead of its best action, one that the learner
finds nearly as good and easier: argmin_a cost(a) - λ log π(a).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from l2s_nmt.errors import UserError
from l2s_nmt.search.context import Context
from l2s_nmt.search.decisions.states import StateChoice
from l2s_nmt.search.reference.protocol import Prices, Reference
from l2s_nmt.search.roll_out.outcome import Outcome
from l2s_nmt.search.types import CostVectors, Decisions, Trajectories
from l2s_nmt.shared_prefixes import first_with_prefix


@dataclass(frozen=True)
class ReferenceCosts:
    """The cost of every token at some states when the reference finishes the sentence, or in the eyes of experts.

    Args:
        states: where.
        reference: the reference policy, or what prices tokens in its place.
        linked: say how the states follow each other; then each counts once, however often it was visited.
    """

    states: StateChoice
    reference: Prices
    linked: bool = False

    def __call__(self, context: Context, trajectories: Trajectories) -> Outcome:
        """Ask the reference.

        Raises:
            UserError: the loss compares prefixes, and a reference of the user's own does not price every token.
        """
        sentence, position, visits = _distinct(context, trajectories, *self.states(context, trajectories))
        decisions, costs = self.reference.costs(context, trajectories.tokens, sentence, position)
        if self.linked:
            if costs.other is None:
                raise UserError(
                    "search.loss.name beam_expected_cost needs the cost of every token, and the costs that "
                    "search.reference.function gives have no `other`; give it, or choose another loss"
                )
            return Outcome(_linked(context, trajectories, decisions), costs, 0)
        return Outcome(replace(decisions, visits=visits), costs, 0)


@dataclass(frozen=True)
class ReferenceActions:
    """The reference's action at some states: it costs 0, and every other token 1.

    Args:
        states: where.
        reference: the reference policy.
        coaching: λ, the weight of the learner's own preference; 0: none.
    """

    states: StateChoice
    reference: Reference
    coaching: float = 0.0

    def __call__(self, context: Context, trajectories: Trajectories) -> Outcome:
        """Ask the reference."""
        sentence, position, visits = _distinct(context, trajectories, *self.states(context, trajectories))
        if self.coaching:
            actions = self._hopeful(context, trajectories, sentence, position)
        else:
            prefixes = trajectories.prefixes(sentence, position)
            whole = self.reference.complete(context, prefixes, position, sentence)
            actions = whole.next_tokens(position)
        listed = actions[:, None]
        mask = torch.ones_like(listed, dtype=torch.bool)
        decisions = Decisions(sentence, position, listed, mask, visits=visits)
        costs = torch.zeros(listed.shape, device=listed.device)
        return Outcome(decisions, CostVectors(costs, torch.ones_like(costs[:, 0])), 0)

    def _hopeful(
        self, context: Context, trajectories: Trajectories, sentence: Tensor, position: Tensor
    ) -> Tensor:
        """(N,) the hope actions."""
        decisions, costs = self.reference.costs(context, trajectories.tokens, sentence, position)
        scores, _ = context.score_roll_in(trajectories, sentence, position)
        log_probs = scores.float().log_softmax(-1)
        unlisted = costs.other if costs.other is not None else torch.full_like(costs.costs[:, 0], torch.inf)
        value = self.coaching * log_probs - unlisted[:, None]
        # Masked entries repeat a listed action or are padding: their place must keep its own value.
        state, slot = decisions.mask.nonzero(as_tuple=True)
        action = decisions.actions[state, slot]
        value[state, action] = self.coaching * log_probs[state, action] - costs.costs[state, slot]
        return value.argmax(-1)


def _distinct(
    context: Context, trajectories: Trajectories, sentence: Tensor, position: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Of N states those M that differ, where several trajectories of one source may share a prefix.

    Returns:
        (M,) trajectories and (M,) positions, ordered by both, and (M,) how often each state was chosen; None: once.
    """
    if context.source is None:
        return sentence, position, None
    width = trajectories.tokens.shape[1]
    row = first_with_prefix(trajectories.tokens, context.source)[sentence, position]
    states, visits = torch.unique(row * width + position, return_counts=True)
    return states // width, states % width, visits.float()


def _linked(context: Context, trajectories: Trajectories, decisions: Decisions) -> Decisions:
    """All distinct states, with the one before each."""
    tokens, sentence, position = trajectories.tokens, decisions.sentence, decisions.position
    rows = torch.arange(len(tokens), device=tokens.device)
    source = rows if context.source is None else context.source
    before = (position - 1).clamp(min=0)
    row = first_with_prefix(tokens, source)[sentence, before]
    number = torch.full_like(tokens, -1)
    number[sentence, position] = torch.arange(len(decisions), device=tokens.device)
    parent = number[row, before].masked_fill(position == 0, -1)
    return replace(decisions, group=source[sentence], parent=parent, last=tokens[sentence, before])
