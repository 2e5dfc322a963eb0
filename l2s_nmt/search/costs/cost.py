"""What a cost is: on token ids against one reference, and on the branches of a batch against all of theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.errors import UserError


class TokenCost(Protocol):
    """The loss of finished sentences against one reference each, on token ids; it sees words alone, not EOS."""

    def __call__(
        self, hypotheses: Tensor, hypothesis_lengths: Tensor, references: Tensor, reference_lengths: Tensor, /
    ) -> Tensor:
        """Compute the cost of each hypothesis.

        Args:
            hypotheses: (M, T) token ids, padded with anything.
            hypothesis_lengths: (M,) words in each, without EOS.
            references: (M, R) token ids, padded with anything.
            reference_lengths: (M,) words in each, without EOS.

        Returns:
            (M,) float32, 0 for a perfect sentence.
        """
        ...


class Cost(Protocol):
    """The loss of finished sentences of a batch, as roll-outs and references use it."""

    def __call__(self, hypotheses: Tensor, lengths: Tensor, sentence: Tensor, batch: Batch, /) -> Tensor:
        """Compute the cost of each finished sentence.

        Args:
            hypotheses: (M, T) token ids, padded with anything.
            lengths: (M,) words in each, without EOS.
            sentence: (M,) the row of the batch that each translates.
            batch: sources and references.

        Returns:
            (M,) float32, 0 for a perfect sentence.
        """
        ...


@dataclass(frozen=True)
class OnTokens:
    """A cost on token ids; where a sentence has several references, the one it is nearest to counts.

    Args:
        kernel: the cost against one reference.
    """

    kernel: TokenCost

    def __call__(self, hypotheses: Tensor, lengths: Tensor, sentence: Tensor, batch: Batch, /) -> Tensor:
        """See `Cost`.

        Raises:
            UserError: a sentence has no reference.
        """
        references, words = batch.references[:, :, :-1], batch.reference_lengths - 1
        return nearest_reference(self.kernel, hypotheses, lengths, sentence, references, words)


def nearest_reference(
    kernel: TokenCost,
    hypotheses: Tensor,
    lengths: Tensor,
    sentence: Tensor,
    references: Tensor,
    reference_lengths: Tensor,
) -> Tensor:
    """Return the smallest cost of each hypothesis against any reference of its sentence.

    Args:
        kernel: the cost against one reference.
        hypotheses: (M, T) token ids, padded with anything.
        lengths: (M,) words in each, without EOS.
        sentence: (M,) the row of the references that each translates.
        references: (B, K, R) token ids, padded with anything.
        reference_lengths: (B, K) words in each, without EOS; below 0 where there is no reference.

    Returns:
        (M,) float32.

    Raises:
        UserError: a sentence has no reference.
    """
    counts = reference_lengths[sentence]
    if bool((counts < 0).all(1).any()):
        raise UserError(
            "the data have sentences without a target, which this cost compares with; give every sentence a "
            "target, or set search.cost.name to own and search.cost.function to a cost that needs none"
        )
    lowest = lengths.new_full(lengths.shape, torch.inf, dtype=torch.float32)
    for index in range(references.shape[1]):
        words = counts[:, index]
        found = kernel(hypotheses, lengths, references[sentence, index], words.clamp(min=0))
        lowest = torch.minimum(lowest, found.masked_fill(words < 0, torch.inf))
    return lowest
