"""Edit distance (Levenshtein 1966), between all prefixes of two sentences at once or of whole ones as a cost."""

from __future__ import annotations

import torch
from torch import Tensor

from l2s_nmt.search.costs.ngrams import MAX_ELEMENTS, row_blocks


def edit_distance_cost(
    hypotheses: Tensor,
    hypothesis_lengths: Tensor,
    references: Tensor,
    reference_lengths: Tensor,
    *,
    max_elements: int = MAX_ELEMENTS,
) -> Tensor:
    """Return the Levenshtein distance divided by the length of the reference, which may exceed 1.

    An empty reference counts as one word long. Other arguments as for `sentence_bleu_cost`.
    """
    distances = edit_distances(
        hypotheses, hypothesis_lengths, references, reference_lengths, max_elements=max_elements
    )
    return distances / reference_lengths.clamp(min=1)


def edits_cost(
    hypotheses: Tensor, hypothesis_lengths: Tensor, references: Tensor, reference_lengths: Tensor
) -> Tensor:
    """Return the Levenshtein distance itself, in edits. Arguments as for `sentence_bleu_cost`."""
    return edit_distances(hypotheses, hypothesis_lengths, references, reference_lengths).float()


def edit_distances(
    hypotheses: Tensor,
    hypothesis_lengths: Tensor,
    references: Tensor,
    reference_lengths: Tensor,
    *,
    max_elements: int = MAX_ELEMENTS,
) -> Tensor:
    """Return the Levenshtein distances (M,), integers. Arguments as for `sentence_bleu_cost`."""
    volume = (hypotheses.shape[1] + 1) * (references.shape[1] + 1)
    distances = []
    for rows in row_blocks(len(hypotheses), volume, max_elements):
        table = prefix_distances(hypotheses[rows], references[rows])
        index = torch.arange(len(table), device=table.device)
        distances.append(table[index, hypothesis_lengths[rows], reference_lengths[rows]])
    return torch.cat(distances)


def prefix_distances(hypotheses: Tensor, references: Tensor) -> Tensor:
    """Compute the edit distance between every prefix of each hypothesis and every prefix of its reference.

    The usual dynamic programme, with one sequential step a hypothesis position. It runs on the alignment
    score ``i + j - distance``, to which a match adds 2, a substitution 1, an insertion or deletion nothing:
    a chain of insertions, the one thing that is sequential along the reference, is a running maximum.

    Args:
        hypotheses: (M, T) token ids; what stands behind a prefix has no influence on its distances.
        references: (M, R) token ids, likewise.

    Returns:
        (M, T + 1, R + 1) integers: entry i, j is the distance between the first i and the first j tokens.
    """
    rows, length = hypotheses.shape
    width = references.shape[1]
    dtype = torch.int16 if length + width < 32768 else torch.int32
    gains = (hypotheses.t()[:, :, None] == references).to(dtype).add_(1)
    scores = gains.new_zeros(length + 1, rows, width + 1)
    for i in range(length if width else 0):
        step = gains[i].add_(scores[i, :, :-1])
        torch.maximum(step, scores[i, :, 1:], out=step)
        scores[i + 1, :, 1:] = step.cummax(1).values
    steps = torch.arange(length + 1, dtype=dtype, device=gains.device)
    columns = torch.arange(width + 1, dtype=dtype, device=gains.device)
    return (steps[:, None, None] + columns).sub(scores).transpose(0, 1)
