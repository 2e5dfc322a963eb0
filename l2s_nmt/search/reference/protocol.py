"""What a reference policy answers: how it would finish a sentence, and what every next token would cost.

References are derived from the target sentences (or search for a good sentence with the true loss), so they exist
in training only. The same object serves as the policy to imitate, as the one that rolls in, and as the one that
rolls out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from torch import Tensor

from l2s_nmt.search.context import Context
from l2s_nmt.search.types import CostVectors, Decisions


@dataclass(frozen=True)
class Completions:
    """M prefixes, each finished by the reference."""

    tokens: Tensor
    """(M, L) the prefix and what the reference appended, EOS at the end, padded with the pad id. A prefix that ends
    with EOS already is left as it is."""
    lengths: Tensor
    """(M,) EOS included."""
    price: Tensor | Callable[[], Tensor]
    """(M,) float32: the cost of the finished sentences; or a function that computes it when asked, since those who want
    the next token alone never ask."""

    @cached_property
    def losses(self) -> Tensor:
        """(M,) float32: the cost of the finished sentences."""
        return self.price if isinstance(self.price, Tensor) else self.price()

    def next_tokens(self, lengths: Tensor) -> Tensor:
        """(M,) the reference's action after prefixes of the given lengths (M,), none of them finished."""
        return self.tokens.gather(1, lengths[:, None])[:, 0]


class Prices(Protocol):
    """Says what every next token costs, without any roll-out."""

    def costs(
        self, context: Context, tokens: Tensor, sentence: Tensor, position: Tensor
    ) -> tuple[Decisions, CostVectors]:
        """Compute what each next token costs at some states.

        Args:
            context: of B sentences.
            tokens: (B, T) trajectories, padded with anything.
            sentence: (N,) row of each state.
            position: (N,) the state is the prefix ``tokens[sentence, :position]``; below T.

        Returns:
            N decisions and their costs, the smallest subtracted, over the full vocabulary through ``other`` where all
            are known.
        """
        ...


class Reference(Prices, Protocol):
    """A policy that knows the target.

    A token costs what the sentence costs when the reference finishes it after the token: exact over the full vocabulary
    where the reference knows all (`mcts` knows the tokens it tried).
    """

    def complete(self, context: Context, prefixes: Tensor, lengths: Tensor, sentence: Tensor) -> Completions:
        """Finish sentences.

        Args:
            context: of B sentences.
            prefixes: (M, P) tokens, padded with anything; P may be 0.
            lengths: (M,) their lengths.
            sentence: (M,) the row of the batch each belongs to.
        """
        ...
