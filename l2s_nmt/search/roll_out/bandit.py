"""Bandit feedback: one deviation and one observed loss a sentence (Chang et al. 2015; Daumé, Langford & Sharaf 2018).

At one state of the roll-in an action a is drawn from an exploration distribution q, the rest is decoded, and only
the loss of that one translation is seen. The cost vector is an estimate:

    biased                  ĉ(b) = L [a = b]
    inverse propensity      ĉ(b) = L [a = b] / q(a)                    unbiased
    doubly robust           ĉ(b) = p(b) + (L - p(b)) [a = b] / q(a)    unbiased, less variance where p is good
    multi-task regression   the regressor p itself, moved toward L at a with weight 1 / q(a)

Here p is the policy as a regressor of costs, one output a token, where the loss ``cost_regression`` trains it as one;
with another loss it is the mean of the losses so far. Under cost regression the importance-weighted square of
multi-task regression has the gradient of the doubly robust vector, so both share its formula (Karampatziakis &
Langford 2011 show the like for online updates).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from l2s_nmt.decoder_state import DecoderState
from l2s_nmt.search.context import Context
from l2s_nmt.search.decisions.candidates import CandidateChoice
from l2s_nmt.search.decisions.states import StateChoice
from l2s_nmt.search.roll_out.branches import Branches
from l2s_nmt.search.roll_out.finish import RollOutPolicy
from l2s_nmt.search.roll_out.outcome import Outcome, advantages
from l2s_nmt.search.sampling import inverted
from l2s_nmt.search.types import CostVectors, Decisions, Trajectories

Estimator = Literal["biased", "ips", "doubly_robust", "regression"]


@dataclass(frozen=True)
class Exploration:
    """The distribution q from which the one action is drawn.

    Args:
        name: ``uniform``: epsilon-greedy; ``boltzmann``: softmax(scores / temperature); ``bootstrap``: the votes of a
            bag of policies, which are dropout masks of the one model (Osband et al. 2016; Gal & Ghahramani 2016).
        epsilon: share of the uniform distribution in each of them, so that q is nowhere 0.
        temperature: of boltzmann.
        bag: policies of bootstrap.
    """

    name: Literal["uniform", "boltzmann", "bootstrap"]
    epsilon: float
    temperature: float = 1.0
    bag: int = 5

    def __call__(self, scores: Tensor, mask: Tensor, votes: Tensor | None = None) -> Tensor:
        """(N, K) probabilities over the listed actions, from their scores (N, K), or votes (N, K) for bootstrap."""
        listed = scores.float().masked_fill(~mask, -torch.inf)
        if self.name == "boltzmann":
            chosen = (listed / self.temperature).softmax(1)
        elif self.name == "bootstrap":
            if votes is None:
                raise ValueError("bootstrap needs votes")
            chosen = votes / votes.sum(1, keepdim=True)
        else:
            chosen = torch.zeros_like(listed).scatter_(1, listed.argmax(1, keepdim=True), 1.0)
        even = mask / mask.sum(1, keepdim=True)
        return (1 - self.epsilon) * chosen + self.epsilon * even


@dataclass(frozen=True)
class Bandit:
    """One deviation a sentence.

    Args:
        states: where; one a sentence.
        candidates: the actions that may be tried.
        roll_out: who finishes.
        exploration: how the action is drawn.
        estimator: what becomes of its loss.
        alpha: units of score in a unit of cost, where the policy is trained as a regressor; None: it is not.
    """

    states: StateChoice
    candidates: CandidateChoice
    roll_out: RollOutPolicy
    exploration: Exploration
    estimator: Estimator
    alpha: float | None

    def __call__(self, context: Context, trajectories: Trajectories) -> Outcome:
        """Deviate once in each sentence."""
        sentence, position = self.states(context, trajectories)
        scores, trunk = context.score_roll_in(trajectories, sentence, position)
        decisions = self.candidates(context, trajectories, sentence, position, scores)
        listed = scores.gather(1, decisions.actions)
        votes = (
            self._votes(context, trajectories, decisions) if self.exploration.name == "bootstrap" else None
        )
        q = self.exploration(listed, decisions.mask, votes)
        drawn = inverted(q, context.draws.uniform("bandit", context.batch.rows[sentence], 1)[:, 0])
        loss = self._observe(context, trunk, trajectories, decisions, drawn)
        predicted = torch.full_like(q, context.level)
        if self.alpha is not None:
            predicted = predicted + predicted_costs(listed, decisions.mask, self.alpha)
        costs = estimate(self.estimator, loss, drawn, q, predicted)
        return Outcome(decisions, CostVectors(advantages(costs, decisions)), len(loss), observed=loss)

    def _observe(
        self,
        context: Context,
        trunk: DecoderState,
        trajectories: Trajectories,
        decisions: Decisions,
        drawn: Tensor,
    ) -> Tensor:
        action = decisions.actions.gather(1, drawn[:, None])[:, 0]
        branches = Branches(trajectories.tokens, decisions.sentence, decisions.position, action)
        return self.roll_out(context, trunk, branches)

    def _votes(self, context: Context, trajectories: Trajectories, decisions: Decisions) -> Tensor:
        """(N, K) how many policies of the bag prefer each listed action.

        A policy of the bag is the model under one draw of dropout, for the batch as a whole: alone among the draws
        of a search these depend on the batch, and a model without dropout is all of its bag.
        """
        votes = torch.zeros(decisions.actions.shape, device=decisions.actions.device)
        context.policy.train()
        for _ in range(self.exploration.bag):
            scores, _ = context.score(trajectories.tokens, decisions.sentence, decisions.position)
            listed = scores.gather(1, decisions.actions).masked_fill(~decisions.mask, -torch.inf)
            votes.scatter_add_(1, listed.argmax(1, keepdim=True), torch.ones_like(votes[:, :1]))
        context.policy.eval()
        return votes


def predicted_costs(scores: Tensor, mask: Tensor, alpha: float) -> Tensor:
    """(N, K) what the policy as a regressor says the listed actions cost, with a mean of 0."""
    listed = scores.float().masked_fill(~mask, 0.0)
    mean = listed.sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    return ((mean - listed) / alpha).masked_fill(~mask, 0.0)


def estimate(estimator: Estimator, loss: Tensor, drawn: Tensor, q: Tensor, predicted: Tensor) -> Tensor:
    """Estimate the cost vector from one observed loss.

    Args:
        estimator: how.
        loss: (N,) observed.
        drawn: (N,) index of the action that was tried.
        q: (N, K) probabilities with which it was drawn.
        predicted: (N, K) costs that the regressor predicts.

    Returns:
        (N, K)
    """
    place = drawn[:, None]
    if estimator in ("biased", "ips"):
        weighted = loss[:, None] if estimator == "biased" else loss[:, None] / q.gather(1, place)
        return torch.zeros_like(q).scatter(1, place, weighted)
    residual = (loss[:, None] - predicted.gather(1, place)) / q.gather(1, place)
    return predicted.scatter_add(1, place, residual)
