"""Random numbers that belong to a sentence, not to a place in a batch.

A draw is a pure function of (seed, update, purpose, sentence, index): the same whatever the batch order, the
number of processes, the chunking, or what was drawn before. That gives common random numbers to competing
candidates, and leaves no generator state to save. The mixing function is SplitMix64 (Steele, Lea & Flood 2014).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_MASK = (1 << 64) - 1


SENTENCES, PLACES, TOKENS = 1 << 28, 1 << 12, 1 << 18
"""Sentences of a corpus, positions in one, tokens of a vocabulary: a sentence's copy, a state or an action gets
a number of its own by ``(copy * SENTENCES + sentence) * PLACES + position``, and that ``* TOKENS + token``, within
64 bits."""


def _signed(value: int) -> int:
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


_GAMMA = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def _shift(value: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64 (torch's shifts in the sign)."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _mix(value: Tensor) -> Tensor:
    value = (value ^ _shift(value, 30)) * _FIRST
    value = (value ^ _shift(value, 27)) * _SECOND
    return value ^ _shift(value, 31)


@dataclass(frozen=True)
class Draws:
    """A source of draws for one update of one run."""

    seed: int
    update: int

    def uniform(self, purpose: str, sentences: Tensor, count: int) -> Tensor:
        """Uniform numbers in [0, 1), one row for each sentence.

        Args:
            purpose: separates independent uses, such as "roll_in" and "states".
            sentences: (B,) ids of the sentences in the training data.
            count: numbers for each.

        Returns:
            (B, count) float32.
        """
        key = int.from_bytes(purpose.encode()[:8].ljust(8, b"\0"), "little")
        state = _mix(torch.tensor([_signed(self.seed ^ key)], device=sentences.device) + _GAMMA)
        state = _mix(state + _signed(self.update * 0x632BE59BD9B4E019) + _GAMMA)
        rows = _mix(state + (sentences.long() + 1) * _GAMMA)
        index = torch.arange(1, count + 1, device=sentences.device)
        bits = _mix(rows[:, None] + index * _GAMMA)
        return _shift(bits, 40).float() / (1 << 24)
