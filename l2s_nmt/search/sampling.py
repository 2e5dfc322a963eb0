"""How the learned policy chooses its tokens in a roll-in.

How the roll-in explores decides which mistakes the model sees. Temperature is that of Boltzmann exploration; top-k
is of Fan et al. 2018, top-p (nucleus) of Holtzman et al. 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from l2s_nmt.decoding import Choose, best_tokens
from l2s_nmt.search.context import Context

COLDEST = 1e-6
"""Temperature at which all but the best are out of the question; below it scores divided by it would be infinite."""


@dataclass(frozen=True)
class Decoding:
    """Greedy decoding, sampling, or beam search.

    Args:
        name: ``greedy``, ``sample`` from softmax(scores / temperature), or ``beam``.
        temperature: of sampling.
        top_k: sample among so many most probable tokens, and those that equal the last of them; None: among all.
        top_p: sample among the fewest tokens whose probability reaches this; None: among all.
        beam: width of beam search.
        best: hypotheses of a beam that are kept.
    """

    name: Literal["greedy", "sample", "beam"] = "greedy"
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    beam: int = 5
    best: int = 1

    def chooser(self, context: Context) -> Choose:
        """What picks each next token when sentences are written from left to right."""
        if self.name == "beam":
            raise ValueError("beam search does not choose token by token")
        if self.name == "greedy":
            return greedy
        uniform = context.uniform("roll_in", int(context.limits.max()))
        return lambda scores, step, rows: sample(
            self.kept(scores.float() / self.temperature), uniform[rows, step]
        )

    def kept(self, scores: Tensor) -> Tensor:
        """Scores (R, V) with -inf where top-k or top-p leave a token out; the best one always stays."""
        if self.top_k is not None and self.top_k < scores.shape[1]:
            least = scores.topk(self.top_k, dim=1).values[:, -1:]
            scores = scores.masked_fill(scores < least, -torch.inf)
        if self.top_p is not None and self.top_p < 1:
            ordered, order = scores.float().softmax(1).sort(dim=1, descending=True, stable=True)
            # A token goes if those before it reach top_p already.
            out = ordered.cumsum(1) - ordered >= self.top_p
            scores = scores.masked_fill(out.scatter(1, order, out), -torch.inf)
        return scores


def greedy(scores: Tensor, step: int, rows: Tensor) -> Tensor:
    """The most probable token of each row."""
    return best_tokens(scores)


def sample(scores: Tensor, uniform: Tensor) -> Tensor:
    """Tokens drawn from softmax(scores) by inverting the cumulative distribution.

    Args:
        scores: (R, V).
        uniform: (R,) in [0, 1): one number a row decides its token.

    Returns:
        (R,) tokens.
    """
    return inverted(torch.softmax(scores.float(), dim=-1), uniform)


def sample_distinct(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Tokens drawn one after the other without replacement: each from what those before it left.

    Each takes a pass over the vocabulary. Keys with Gumbel noise (Kool et al. 2019) would draw all k in one, but a
    random number for every entry takes much longer than a pass.

    Args:
        probabilities: (R, V) float32.
        uniform: (R, k) in [0, 1): one number a token.

    Returns:
        (R, k) tokens, those that are drawn first before the others; where nothing is left, the most probable again.
    """
    left, best = probabilities.clone(), best_tokens(probabilities)
    tokens = torch.empty(uniform.shape, dtype=torch.long, device=uniform.device)
    for number, draw in enumerate(uniform.unbind(1)):
        token = inverted(left, draw)[:, None]
        tokens[:, number] = torch.where(left.gather(1, token) > 0, token, best[:, None])[:, 0]
        left.scatter_(1, token, 0.0)
    return tokens


def inverted(weights: Tensor, uniform: Tensor) -> Tensor:
    """(R,) tokens drawn in proportion to weights (R, V), each by its number (R,)."""
    cumulative = weights.cumsum(-1)
    # The sum may fall short of 1 by rounding; scaling keeps the last index from being out of reach or range.
    threshold = uniform[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(1).clamp(max=weights.shape[1] - 1)
