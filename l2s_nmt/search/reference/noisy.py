"""A reference made worse, to see what an algorithm owes to its teacher (Chang et al. 2015, LOLS, section 5).

It follows a distorted target, at every update the same, while the loss is that of the true one. ``suboptimal`` has
some of the target's words replaced by others of the same target; ``bad`` has its words in reverse order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.search.context import Context
from l2s_nmt.search.costs.cost import Cost
from l2s_nmt.search.randomness import SENTENCES, Draws
from l2s_nmt.search.reference.protocol import Completions, Reference
from l2s_nmt.search.reference.vocabulary import vocabulary_costs
from l2s_nmt.search.types import CostVectors, Decisions

Noise = Literal["suboptimal", "bad"]


@dataclass(frozen=True)
class Noisy:
    """Another reference with distorted targets.

    Args:
        inner: the reference that is made worse.
        cost: of a finished sentence, against the true references.
        kind: ``suboptimal`` or ``bad``.
        probability: with which ``suboptimal`` replaces a word.
        of_tokens: what the costs of tokens are made of, where that is another unit, as edits are; None: the cost.
    """

    inner: Reference
    cost: Cost
    kind: Noise
    probability: float = 1.0
    of_tokens: Cost | None = None

    def complete(self, context: Context, prefixes: Tensor, lengths: Tensor, sentence: Tensor) -> Completions:
        """See `Reference`."""
        whole = self.inner.complete(self._misled(context), prefixes, lengths, sentence)
        return Completions(
            whole.tokens,
            whole.lengths,
            lambda: self.cost(whole.tokens, whole.lengths - 1, sentence, context.batch),
        )

    def costs(
        self, context: Context, tokens: Tensor, sentence: Tensor, position: Tensor
    ) -> tuple[Decisions, CostVectors]:
        """See `Reference`; exact over the vocabulary for costs that compare tokens."""
        misled = self._misled(context)

        def losses(prefixes: Tensor, lengths: Tensor, sentence: Tensor) -> Tensor:
            whole = self.inner.complete(misled, prefixes, lengths, sentence)
            return (self.of_tokens or self.cost)(whole.tokens, whole.lengths - 1, sentence, context.batch)

        # A distorted target has no words but those of the true one, so the tokens of these are all to be tried.
        return vocabulary_costs(context, tokens, sentence, position, losses)

    def _misled(self, context: Context) -> Context:
        fixed = int(context.policy.first is not None)
        batch = distorted(context.batch, context.draws.seed, self.kind, self.probability, fixed)
        return replace(context, batch=batch)


def distorted(batch: Batch, seed: int, kind: Noise, probability: float, fixed: int = 0) -> Batch:
    """The batch with distorted references, as long as the true ones.

    How the references of a sentence are distorted depends on (seed, sentence) alone. So many tokens at the beginning
    of each are no words, and stay.
    """
    # The first update stands for all: the teacher stays as poor as it is.
    draws = Draws(seed, 0)
    references = []
    for index, (tokens, lengths) in enumerate(
        zip(batch.references.unbind(1), batch.reference_lengths.unbind(1), strict=True)
    ):
        words = (lengths - 1).clamp(min=0)
        if kind == "bad":
            references.append(_reversed(tokens, words, fixed))
        else:
            # By reference, and by position in it, so that padding moves no draw.
            rows = batch.rows % SENTENCES  # copies of a sentence have the same teacher
            uniform = draws.uniform(f"noise{index}", rows, 2 * tokens.shape[1])
            references.append(_replaced(tokens, words, uniform.view(*tokens.shape, 2), probability, fixed))
    width = batch.target.shape[1]
    return replace(batch, target=references[0][:, :width], references=torch.stack(references, 1))


def _reversed(tokens: Tensor, words: Tensor, fixed: int) -> Tensor:
    """(B, R) the words in reverse order; what is fixed at the beginning, EOS and padding stay."""
    index = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    mirrored = words[:, None] - 1 + fixed - index
    return tokens.gather(1, torch.where((index >= fixed) & (mirrored >= fixed), mirrored, index))


def _replaced(tokens: Tensor, words: Tensor, uniform: Tensor, probability: float, fixed: int) -> Tensor:
    """(B, R) each word replaced with a probability by the word of another place, where there is a different one.

    Args:
        tokens: (B, R).
        words: (B,) how many of them are words.
        uniform: (B, R, 2) draws: whether to replace, and by which.
        probability: of a replacement.
        fixed: so many at the beginning are no words.
    """
    index = torch.arange(tokens.shape[1], device=tokens.device)
    inside = (index >= fixed) & (index < words[:, None])
    ranks = ((tokens[:, :, None] != tokens[:, None, :]) & inside[:, None, :]).cumsum(2)
    count = ranks[:, :, -1]
    chosen = torch.minimum((uniform[..., 1] * count).long(), count - 1)
    other = tokens.gather(1, (ranks > chosen[:, :, None]).int().argmax(2))
    return torch.where(inside & (count > 0) & (uniform[..., 0] < probability), other, tokens)
