"""How probable a model finds given translations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from l2s_nmt.decoder_state import Memory
from l2s_nmt.model import Policy

_SCORES = 2**26
"""Most scores of next tokens in memory at once."""


def most_tokens(policy: Policy) -> int:
    """Of translations that are read at once: their scores are what takes the memory."""
    vocabulary: int = policy.model.get_output_embeddings().weight.shape[0]
    return max(1, _SCORES // vocabulary)


def log_probabilities(policy: Policy, memory: Memory, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Natural logarithms of the probabilities of whole translations, their ends included, given the sources.

    The code of a language that decoding writes without a choice does not count.

    Args:
        policy: in evaluation mode.
        memory: of the R sources.
        tokens: (R, T) of one translation each, padded.
        lengths: (R,) EOS included.

    Returns:
        (R,) in double precision.
    """
    size = max(1, most_tokens(policy) // tokens.shape[1])
    sums = []
    for rows in torch.split(torch.arange(len(tokens), device=tokens.device), size):
        scores = policy.score(memory.select(rows), tokens[rows])
        sums.append(_sums(policy, scores, tokens[rows], lengths[rows]))
    return torch.cat(sums)


def _sums(policy: Policy, scores: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """(R,) sums over the tokens (R, T) of each row, from the scores (R, T, V) of the next ones."""
    each = -F.cross_entropy(scores.flatten(0, 1), tokens.flatten(), reduction="none").view(tokens.shape)
    counts = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
    if policy.first is not None:
        counts[:, 0] &= tokens[:, 0] != policy.first
    return torch.where(counts, each.double(), 0.0).sum(1)
