"""Key-value caches of decodings that come and go; `marian_step` alone touches them besides.

A plain cache is copied whole at every token, and again whenever a sentence begins or ends. Here each layer has one
buffer with room for every row: a token writes its own place, a row that begins takes the place behind the last one,
and the last row moves into the place of one that ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, EncoderDecoderCache, MarianMTModel
from transformers.cache_utils import DynamicLayer

_BLOCK = {True: 4, False: 32}
"""Tokens by which the buffers of the target grow, on a CPU and elsewhere: attention on a CPU reads rows that lie close
together faster than rows with unused room between them, which is worth copying them more often."""
CACHE = "cache" if "cache" in signature(MarianMTModel.forward).parameters else "past_key_values"
"""What all models of transformers call the cache: it was renamed in 5.24."""


@dataclass(frozen=True)
class Memory:
    """What the encoder says about each source sentence."""

    hidden: Tensor
    """(B, S, D) encoder states."""
    mask: Tensor
    """(B, S) 1 where the source has a token."""

    def select(self, rows: Tensor) -> Memory:
        """The memory of the given rows, repeated where a row is."""
        return Memory(self.hidden[rows], self.mask[rows])


class DecoderState:
    """Where R decodings stand, all of them after the same number of tokens.

    Args:
        memory: of the R sources.
        room: rows that there may be in the end.
    """

    def __init__(self, memory: Memory, room: int = 0) -> None:
        self._hidden = memory.hidden
        self.mask = memory.mask
        """(R, S) of the sources."""
        block = _BLOCK[memory.mask.device.type == "cpu"]
        self.cache = EncoderDecoderCache(
            *(Cache(layer_class_to_replicate=partial(_Rows, room, grows)) for grows in (block, 1))
        )

    def __len__(self) -> int:
        return len(self.mask)

    @property
    def hidden(self) -> Tensor:
        """(R, S, D) encoder states; once the caches hold what attention makes of them, only the shape is right."""
        if len(self.cache) == 0:
            return self._hidden
        if not all(self.cache.is_updated.get(layer) for layer in range(len(self.cache))):
            raise ValueError("this model's decoder does not cache its attention to the source")
        return self._hidden[:1].expand(len(self), -1, -1)

    def bytes_a_token(self) -> int:
        """Memory that keys and values of one token take."""
        layers = _caches(self)[0].layers
        return sum(2 * layer.keys[0, :, 0].numel() * layer.keys.element_size() for layer in layers)

    def empty(self, room: int) -> DecoderState:
        """A state of no rows, with room for so many of this one's."""
        state = DecoderState(Memory(self._hidden, self.mask[:0]))
        target, source = _caches(state)
        target.layers = [layer.empty(room) for layer in _caches(self)[0].layers]
        source.layers = [layer.empty(room) for layer in _caches(self)[1].layers]
        state.cache.is_updated = dict(self.cache.is_updated)
        return state

    def append(self, other: DecoderState, rows: Tensor, length: int) -> None:
        """Go on with some rows (N,) of the state that this one was made from, too.

        Args:
            other: where they stand.
            rows: of it.
            length: as they were after so many inputs, the start token among them, as many as this state has had.
        """
        for cut, mine, its in zip((length, None), _caches(self), _caches(other), strict=True):
            for layer, theirs in zip(mine.layers, its.layers, strict=True):
                layer.append(theirs.keys[:, :, :cut], theirs.values[:, :, :cut], rows)
        self.mask = torch.cat([self.mask, other.mask[rows]])

    def repeat(self, rows: Tensor) -> None:
        """Add copies of some of the rows, (N,)."""
        if len(rows):
            self.append(self, rows, _caches(self)[0].get_seq_length())

    def keep(self, count: int, holes: Tensor, movers: Tensor) -> None:
        """Keep so many rows: the first ones, with ``movers`` (N,) from behind them in the place of ``holes`` (N,)."""
        for layer in self._layers():
            layer.keep(count, holes, movers)
        mask = self.mask[:count]
        self.mask = mask.index_copy(0, holes, self.mask[movers])

    def all_rows(self, width: int) -> DecoderState:
        """A state of these rows, to be filled in by ``note``, with room for so many inputs."""
        state = DecoderState(Memory(self._hidden, self.mask))
        target, source = _caches(state)
        target.layers = [layer.blank(width) for layer in _caches(self)[0].layers]
        source.layers = [layer.copy() for layer in _caches(self)[1].layers]
        state.cache.is_updated = dict(self.cache.is_updated)
        return state

    def note(self, step: int, rows: Tensor, state: DecoderState) -> None:
        """Take over the newest input, number ``step``, of a state whose rows are these (R,)."""
        for layer, its in zip(_caches(self)[0].layers, _caches(state)[0].layers, strict=True):
            layer.keys[rows, :, step] = its.keys[:, :, -1]
            layer.values[rows, :, step] = its.values[:, :, -1]

    def _layers(self) -> Iterator[Any]:
        for cache in _caches(self):
            yield from cache.layers


class Trunk:
    """What a decoding of B sentences leaves behind for branches to start from.

    Args:
        width: most tokens of a sentence.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.state: DecoderState | None = None
        """After the last token of each."""
        self.hidden = torch.empty(0)
        """(B, T, D) what the output layer was given at each position."""

    def note(self, step: int, rows: Tensor, state: DecoderState, hidden: Tensor) -> None:
        """Keep step ``step`` of the rows (R,) of a state, with what the output layer is given, (R, D)."""
        if self.state is None:
            self.state = state.all_rows(self.width)
            self.hidden = hidden.new_zeros(len(hidden), self.width, hidden.shape[1])
        self.state.note(step, rows, state)
        self.hidden[rows, step] = hidden


def _caches(state: DecoderState) -> tuple[Any, Any]:
    """Of the target and of the source."""
    return state.cache.self_attention_cache, state.cache.cross_attention_cache


class _Rows(DynamicLayer):  # type: ignore[misc]
    """Keys and values (R, heads, L, size) of one layer: views of buffers with room for more rows and tokens."""

    def __init__(self, room: int = 0, block: int = 1) -> None:
        super().__init__()
        self._room = room
        self._block = block
        self._buffers: list[Tensor] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add tokens, (R, heads, N, size) each; returns all keys and values."""
        if not self.is_initialized:
            # A buffer would be of no use to the source, or to a prefill that nothing is added to; but a model's own
            # order, one head's numbers far from each other, would slow every later step down.
            self._show(key_states.contiguous(), value_states.contiguous())
        else:
            length = self.keys.shape[2]
            self._reserve(len(self.keys), length + key_states.shape[2])
            self.keys[:, :, length:] = key_states
            self.values[:, :, length:] = value_states
        return self.keys, self.values

    def empty(self, room: int) -> _Rows:
        """A layer of no rows, with room for so many, that grows as this one does."""
        layer = _Rows(room, self._block)
        layer._show(self.keys[:0, :, :0], self.values[:0, :, :0])
        return layer

    def blank(self, width: int) -> _Rows:
        """A layer of as many rows, each of so many tokens that nobody has written yet."""
        rows, heads, _, size = self.keys.shape
        layer = _Rows(block=self._block)
        layer._show(*(states.new_zeros(rows, heads, width, size) for states in (self.keys, self.values)))
        return layer

    def copy(self) -> _Rows:
        """The same, apart."""
        layer = _Rows(block=self._block)
        layer._show(self.keys.clone(), self.values.clone())
        return layer

    def append(self, keys: Tensor, values: Tensor, rows: Tensor) -> None:
        """Add copies of the given rows (N,)."""
        before = len(self.keys)
        self._reserve(before + len(rows), keys.shape[2])
        self.keys[before:] = keys[rows]
        self.values[before:] = values[rows]

    def keep(self, count: int, holes: Tensor, movers: Tensor) -> None:
        """See `DecoderState.keep`."""
        if len(holes):
            self.keys[holes] = self.keys[movers]
            self.values[holes] = self.values[movers]
        self._show(self.keys[:count], self.values[:count])

    def _show(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values
        self.is_initialized = True

    def _reserve(self, rows: int, length: int) -> None:
        """Show so many rows and tokens; those that were not there before are to be written."""
        if not self._buffers or len(self._buffers[0]) < rows or self._buffers[0].shape[2] < length:
            self._room = max(self._room, rows)
            width = -(-length // self._block) * self._block
            self._buffers = [self._larger(states, width) for states in (self.keys, self.values)]
        self._show(*(buffer[:rows, :, :length] for buffer in self._buffers))

    def _larger(self, states: Tensor, width: int) -> Tensor:
        rows, heads, length, size = states.shape
        buffer = states.new_empty((self._room, heads, width, size))
        buffer[:rows, :, :length] = states
        return buffer


class _OneSource(DynamicLayer):  # type: ignore[misc]
    """Keys and values of the source in a beam search, in which hypotheses change places within a sentence alone."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keep them in the order in which attention on a CPU is fastest."""
        self.keys, self.values = key_states.contiguous(), value_states.contiguous()
        self.is_initialized = True
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Nothing changes: all hypotheses of a sentence have the same."""


def beam_cache() -> EncoderDecoderCache:
    """A cache for ``generate``, which would copy what it knows of the source at every token."""
    return EncoderDecoderCache(
        *(Cache(layer_class_to_replicate=layer) for layer in (DynamicLayer, _OneSource))
    )
