"""Sentences that begin alike are read and written once, up to where they part.

Samples of a sure model share much of what they say: of eight at temperature 0.7, half of the states. What the decoder
makes of a prefix does not depend on what follows, so one row of it stands for all samples that have the prefix.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from l2s_nmt.decoder_state import DecoderState, Memory

_PAIRS = 2**28
"""Tokens of pairs of rows that are compared at a time."""


class Prefixes(Protocol):
    """Which rows of a decoder state stand for the sentences that are being written."""

    state: DecoderState

    def begin(self, start: int) -> Tensor:
        """The first input (D,) of each row of the decoder."""
        ...

    def spread(self, values: Tensor) -> Tensor:
        """(R, …) for the sentences, from (D, …) for the rows of the decoder."""
        ...

    def keep(self, count: int, holes: Tensor, movers: Tensor) -> None:
        """Sentences end; see `DecoderState.keep`."""
        ...

    def follow(self, tokens: Tensor) -> Tensor:
        """The next input (D,) of each row of the decoder, where these (R,) are the sentences'."""
        ...


class OwnPrefixes:
    """A row for each sentence.

    Args:
        memory: of the sentences.
    """

    def __init__(self, memory: Memory) -> None:
        self.state = DecoderState(memory)

    def begin(self, start: int) -> Tensor:
        """See `Prefixes`."""
        return self.state.mask.new_full((len(self.state),), start, dtype=torch.long)

    def spread(self, values: Tensor) -> Tensor:
        """See `Prefixes`."""
        return values

    def keep(self, count: int, holes: Tensor, movers: Tensor) -> None:
        """See `Prefixes`."""
        self.state.keep(count, holes, movers)

    def follow(self, tokens: Tensor) -> Tensor:
        """See `Prefixes`."""
        return tokens


class SharedPrefixes:
    """A row for each prefix that sentences of the same source have.

    Args:
        memory: of R sentences.
        source: (R,) the same number for sentences of the same source.
    """

    def __init__(self, memory: Memory, source: Tensor) -> None:
        first, self._place = first_of_each(source)
        self.state = DecoderState(memory.select(first), len(source))

    def begin(self, start: int) -> Tensor:
        """See `Prefixes`."""
        return self._place.new_full((len(self.state),), start)

    def spread(self, values: Tensor) -> Tensor:
        """See `Prefixes`."""
        return values[self._place]

    def keep(self, count: int, holes: Tensor, movers: Tensor) -> None:
        """See `Prefixes`; the decoder's rows wait for the next tokens."""
        place = self._place[:count]
        self._place = place.index_copy(0, holes, self._place[movers])

    def follow(self, tokens: Tensor) -> Tensor:
        """See `Prefixes`; of those that come out of one, the first takes its row, and the others get new ones."""
        before = len(self.state)
        words = int(tokens.max()) + 1
        found, which = torch.unique(self._place * words + tokens, return_inverse=True)
        parent, token = found // words, found % words
        heir = torch.ones_like(parent, dtype=torch.bool)
        heir[1:] = parent[1:] != parent[:-1]
        others = parent[~heir]
        row = parent.clone()
        row[~heir] = torch.arange(before, before + len(others), device=row.device)
        self.state.repeat(others)
        row = self._close_ranks(row)
        self._place = row[which]
        return torch.empty_like(token).index_copy_(0, row, token)

    def _close_ranks(self, row: Tensor) -> Tensor:
        """Where the rows that go on are once the others have gone: no longer behind the last of so many."""
        count, rows = len(row), len(self.state)
        if count == rows:
            return row
        alive = torch.zeros(rows, dtype=torch.bool, device=row.device)
        alive[row] = True
        holes = (~alive[:count]).nonzero()[:, 0]
        movers = alive[count:].nonzero()[:, 0] + count
        self.state.keep(count, holes, movers)
        moved = torch.arange(rows, device=row.device).index_copy(0, movers, holes)
        return moved[row]


def first_with_prefix(tokens: Tensor, source: Tensor) -> Tensor:
    """Of each prefix, the first of the sentences of the same source that have it.

    Args:
        tokens: (R, T).
        source: (R,) the same number for sentences of the same source.

    Returns:
        (R, T) the row that has ``tokens[r, :t]`` first.
    """
    return _by_steps(tokens, source) if tokens.device.type == "cpu" else _by_pairs(tokens, source)


def _by_pairs(tokens: Tensor, source: Tensor) -> Tensor:
    """Each row against all others at once, for a device that would wait for every step."""
    place = torch.empty_like(tokens)
    at_once = max(1, _PAIRS // max(1, tokens.numel()))
    for begin in range(0, len(tokens), at_once):
        some = slice(begin, begin + at_once)
        same = (source[some, None] == source)[:, :, None].repeat(1, 1, tokens.shape[1])
        same[:, :, 1:] &= tokens[some, None, :-1] == tokens[None, :, :-1]
        place[some] = same.cumprod(2, dtype=torch.uint8).argmax(1)
    return place


def _by_steps(tokens: Tensor, source: Tensor) -> Tensor:
    place, same = torch.empty_like(tokens), source
    words = int(tokens.max()) + 1 if tokens.numel() else 0
    for step in range(tokens.shape[1]):
        first, which = first_of_each(same)
        place[:, step] = first[which]
        same = place[:, step] * words + tokens[:, step]
    return place


def first_of_each(values: Tensor) -> tuple[Tensor, Tensor]:
    """The first place (D,) of each of the D different values (R,), and which of them each is, (R,)."""
    found, which = torch.unique(values, return_inverse=True)
    places = torch.arange(len(values), device=values.device)
    first = torch.full_like(found, len(values)).scatter_reduce(0, which, places, "amin")
    return first, which
