"""Writing sentences token by token: who is being written, what comes next, and how many fit into memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from l2s_nmt.decoder_state import DecoderState

Choose = Callable[[Tensor, int, Tensor], Tensor]
"""Next tokens (R,) from the scores (R, V) of step t, for the sentences (R,) still being written."""
Found = TypeVar("Found")
_SHARE = 0.5
"""Of the free memory of a GPU that roll-outs may take."""
_ON_CPU = 2**28
"""Bytes that they may take elsewhere: about what the backward pass of a small model keeps, so that they add nothing to
the memory of a step."""


class Keeps(Protocol):
    """Has a row for each sentence that is being written."""

    def keep(self, count: int, holes: Tensor, movers: Tensor) -> None:
        """See `DecoderState.keep`."""
        ...


class Sheet:
    """What is written of M sentences, and which of them, in the order of a decoder state's rows, are being written.

    Args:
        position: (M,) tokens before the first one written.
        limits: (M,) most tokens, those before included; the first one is written whatever its limit.
        width: most tokens of all.
        pad: fills the rest.
        eos: ends a sentence.
    """

    def __init__(self, position: Tensor, limits: Tensor, width: int, pad: int, eos: int) -> None:
        self.width = width
        self.rows = position[:0]
        """(R,) the sentences being written."""
        self._position, self._limits, self._pad, self._eos = position, limits, pad, eos
        self._alive = torch.ones_like(self.rows, dtype=torch.bool)
        self._tokens = position.new_full((len(position), width), pad)
        self._lengths = torch.zeros_like(position)

    def begin(self, rows: Tensor) -> None:
        """These sentences are being written from now on, in the last rows of the state."""
        self.rows = torch.cat([self.rows, rows])
        self._alive = torch.cat([self._alive, torch.ones_like(rows, dtype=torch.bool)])

    def write(self, step: int, tokens: Tensor, state: Keeps) -> Tensor:
        """Note the tokens (R,) at position ``step``; sentences that end leave the sheet and the state.

        Not always at once: to count them is to wait for the device. What is written of them meanwhile is not noted.

        Returns:
            the tokens of those that go on.
        """
        offset = step - self._position[self.rows]
        self._tokens[self.rows, offset] = torch.where(self._alive, tokens, self._pad)
        self._lengths[self.rows] += self._alive
        self._alive = self._alive & (tokens != self._eos) & (self._limits[self.rows] > step + 1)
        if step % settle_every(tokens.device) and step + 1 < self.width:
            return tokens
        count = int(self._alive.sum())
        if count == len(self._alive):
            return tokens
        holes = (~self._alive[:count]).nonzero()[:, 0]
        movers = self._alive[count:].nonzero()[:, 0] + count
        state.keep(count, holes, movers)
        self.rows = self.rows[:count].index_copy(0, holes, self.rows[movers])
        self._alive = torch.ones_like(self.rows, dtype=torch.bool)
        return tokens[:count].index_copy(0, holes, tokens[movers])

    def written(self) -> tuple[Tensor, Tensor]:
        """Tokens (M, L), padded, and their lengths (M,)."""
        return self._tokens[:, : int(self._lengths.max())], self._lengths


def settle_every(device: torch.device) -> int:
    """Tokens after which sentences that ended leave: to wait for a GPU costs more than to write on for a while."""
    return 1 if device.type == "cpu" else 8


def best_tokens(scores: Tensor) -> Tensor:
    """(R,) the most probable token of each row (R, V), the first where several are."""
    if scores.device.type == "cpu" and scores.dtype in (torch.float32, torch.float64):
        # Many times as fast as torch's own on a CPU, where a row does not split over its threads.
        return torch.from_numpy(scores.numpy().argmax(-1))
    return scores.argmax(-1)


def branches_at_once(trunk: DecoderState, width: int, scores: int) -> int:
    """How many branches fit into memory at the same time.

    Args:
        trunk: that they leave.
        width: tokens of each.
        scores: bytes of each one's next scores.
    """
    token, device = trunk.bytes_a_token(), trunk.mask.device
    room = _ON_CPU if device.type == "cpu" else int(_SHARE * _free(device))
    return room // ((width + trunk.mask.shape[1]) * token + scores)


def _free(device: torch.device) -> int:
    """Bytes that the driver has, and those that torch keeps for itself of what it has freed."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def in_parts(rows: Tensor, most: int, finish: Callable[[Tensor], Found]) -> Iterator[tuple[Tensor, Found]]:
    """Rows (M,) in parts of so many; where memory does not suffice for a part, for it and all that follow in halves.

    Raises:
        torch.OutOfMemoryError: it does not suffice for a single one.
    """
    size, start = max(1, most), 0
    while start < len(rows):
        part = rows[start : start + size]
        try:
            found = finish(part)
        except torch.OutOfMemoryError:
            if len(part) == 1:
                raise
            size = len(part) // 2
            warnings.warn(
                f"out of memory with {len(part):,} roll-outs at a time; going on with {size:,}. Set "
                "search.max_branch_tokens to a smaller number to avoid the detour.",
                stacklevel=2,
            )
            continue
        yield part, found
        start += len(part)


def stop_at(limits: Tensor) -> Callable[..., Tensor]:
    """A criterion by which `generate` ends the hypotheses of each sentence at its own limit (B,).

    To cut them afterwards would not do: which hypothesis is best depends on where they end.
    """

    def stop(tokens: Tensor, scores: Tensor | None, **options: Any) -> Tensor:
        hypotheses = len(tokens) // len(limits)
        # The start token is among the tokens (hypotheses, L), but does not count.
        return limits.repeat_interleave(hypotheses) < tokens.shape[1]

    return stop
