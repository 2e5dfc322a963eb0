"""A policy and the reference by turns: which of them chooses the next token is drawn at each state."""

from __future__ import annotations

from torch import Tensor

from l2s_nmt.decoding import Choose
from l2s_nmt.search.context import Context
from l2s_nmt.search.reference.protocol import Reference


class StateMixture:
    """Chooses each token by the policy or the reference; it remembers what was written, to ask the reference.

    Args:
        context: of B sentences.
        reference: the reference policy.
        learned: chooses where the reference does not.
        by_reference: (B, W) bool: at which positions of a sentence the reference chooses.
        written: (M, W) what is written already, padded; it is written on.
        sentence: (M,) the row of the batch that each belongs to.
    """

    def __init__(
        self,
        context: Context,
        reference: Reference,
        learned: Choose,
        by_reference: Tensor,
        written: Tensor,
        sentence: Tensor,
    ) -> None:
        self.context = context
        self.reference = reference
        self.learned = learned
        self.by_reference = by_reference
        self.written = written
        self.sentence = sentence

    def __call__(self, scores: Tensor, step: int, rows: Tensor) -> Tensor:
        """Next tokens (R,) of the rows (R,) of ``written``; see `l2s_nmt.decoding.Choose`."""
        tokens = self.learned(scores, step, rows)
        prefixes = self.written[rows, :step]
        # On a GPU, what has ended may be asked about for a while: the reference has no next token for it.
        ended = (prefixes == self.context.policy.eos).any(1)
        chosen = (self.by_reference[self.sentence[rows], step] & ~ended).nonzero()[:, 0]
        if len(chosen):
            lengths = chosen.new_full((len(chosen),), step)
            whole = self.reference.complete(
                self.context, prefixes[chosen], lengths, self.sentence[rows[chosen]]
            )
            tokens = tokens.index_copy(0, chosen, whole.next_tokens(lengths))
        self.written[rows, step] = tokens
        return tokens
