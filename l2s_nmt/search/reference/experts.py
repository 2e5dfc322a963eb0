"""Other models as the expert: what they, taken together, think of every next token of the learner's own prefixes.

DAgger with a model as the expert that answers anywhere (Lin et al. 2020, ImitKD). A token costs minus the logarithm of
the probability that the experts give it, the mean over all of them, so that ``softmax(-costs)`` is that mean again:
under the loss `kl` with alpha 1 the learner imitates its whole distribution, under `target_learning` its most probable
token. On the reference's own prefixes that is word-level knowledge distillation (Kim & Rush 2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from l2s_nmt.model import Policy
from l2s_nmt.search.context import Context
from l2s_nmt.search.costs.ngrams import row_blocks
from l2s_nmt.search.reference.vocabulary import less_the_smallest
from l2s_nmt.search.types import CostVectors, Decisions

_ELEMENTS = {True: 2**20, False: 2**26}
"""Probabilities at once on a CPU, whose caches they fit, and elsewhere."""


@dataclass(frozen=True)
class Experts:
    """Price tokens by the mean of what some policies expect.

    Args:
        policies: of the learner's vocabulary, in evaluation mode.
        listed: the most probable tokens of each state, as many as get their own cost; what probability is left is
            divided evenly among the others.
    """

    policies: tuple[Policy, ...]
    listed: int

    @torch.no_grad()
    def costs(
        self, context: Context, tokens: Tensor, sentence: Tensor, position: Tensor
    ) -> tuple[Decisions, CostVectors]:
        """See `Prices`; in nats. No target is asked for."""
        states = sentence * tokens.shape[1] + position
        every = torch.arange(len(tokens), device=tokens.device)
        seen = [
            expert.hidden_at(context.seen_by(expert).memory, tokens, every, states)
            for expert in self.policies
        ]
        outputs, at_once = self.policies[0].outputs, _ELEMENTS[tokens.device.type == "cpu"]
        found = [
            self._mean([hidden[block] for hidden in seen])
            for block in row_blocks(len(states), outputs, at_once)
        ]
        actions, probabilities, rest = (torch.cat(parts) for parts in zip(*found, strict=True))
        decisions = Decisions(sentence, position, actions, torch.ones_like(actions, dtype=torch.bool))
        unlisted = max(outputs - actions.shape[1], 1)
        return decisions, less_the_smallest(decisions, _cost(probabilities), _cost(rest / unlisted))

    def _mean(self, hidden: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The most probable tokens (n, K) at n states, their probabilities (n, K), and what is left for others (n,)."""
        first, *others = (
            expert.next_scores(own).float().softmax(-1)
            for expert, own in zip(self.policies, hidden, strict=True)
        )
        mean = sum(others, first).div_(len(hidden))
        probabilities, actions = mean.topk(min(self.listed, mean.shape[1]), dim=-1)
        # Not one minus those listed, of which nothing may be left but the error of the sum.
        return actions, probabilities, mean.scatter_(1, actions, 0.0).sum(1)


def _cost(probability: Tensor) -> Tensor:
    """Nats; finite where nothing is left."""
    return -probability.clamp(min=torch.finfo(probability.dtype).tiny).log()
