"""Translations drawn from the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from l2s_nmt.arguments import is_number, is_whole
from l2s_nmt.errors import UserError
from l2s_nmt.model import Policy
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.sampling import COLDEST, Decoding, sample


@dataclass(frozen=True)
class Sampling:
    """Translations drawn from the model, in place of a search for the best.

    Raises:
        UserError: a value is none that draws could be made by.
    """

    temperature: float = 1.0
    top_k: int | None = None
    """Sample among so many most probable tokens; None: among all."""
    top_p: float | None = None
    """Sample among the fewest tokens whose probability reaches this; None: among all."""
    seed: int = 1
    """Decides the draws, with the place of the sentence in the input: not the batch that it is in."""

    def __post_init__(self) -> None:
        warm = is_number(self.temperature) and COLDEST <= self.temperature < math.inf
        share = self.top_p is None or (is_number(self.top_p) and 0 < self.top_p <= 1)
        for name, value, fits, what in (
            ("temperature", self.temperature, warm, f"{COLDEST:g} or more"),
            ("top_k", self.top_k, self.top_k is None or is_whole(self.top_k), "1 or more"),
            ("top_p", self.top_p, share, "above 0 and at most 1"),
            ("seed", self.seed, is_whole(self.seed, 0), "0 or more"),
        ):
            if not fits:
                raise UserError(f"{name} of sampling is {value!r}; it must be {what}")


@torch.no_grad()
def draw(
    policy: Policy, source: dict[str, Tensor], rows: Sequence[int], number: int, sampling: Sampling
) -> list[list[int]]:
    """Tokens of so many translations of each source, one source's after the other's.

    Args:
        policy: in evaluation mode.
        source: input_ids and attention_mask, (B, S) each.
        rows: places of the B sources in the input.
        number: of translations of each.
        sampling: how they are drawn.

    Returns:
        B * number lists, each ending with EOS unless it was cut at the model's generation limit.
    """
    memory = policy.encode(source["input_ids"], source["attention_mask"])
    width = policy.model.generation_config.max_length - 1  # the start token is no token of the translation
    place = torch.tensor(rows, device=memory.mask.device)
    uniform = torch.stack(
        [Draws(sampling.seed, copy).uniform("draw", place, width) for copy in range(number)], dim=1
    ).flatten(0, 1)
    decoding = Decoding("sample", sampling.temperature, sampling.top_k, sampling.top_p)

    def choose(scores: Tensor, step: int, row: Tensor) -> Tensor:
        allowed = (scores / decoding.temperature).index_fill(1, row.new_tensor([policy.pad]), -torch.inf)
        return sample(decoding.kept(allowed), uniform[row, step])

    several = torch.arange(len(rows), device=place.device).repeat_interleave(number)
    tokens, lengths = policy.roll(memory.select(several), torch.full_like(several, width), choose)
    return [ids[:length] for ids, length in zip(tokens.tolist(), lengths.tolist(), strict=True)]
