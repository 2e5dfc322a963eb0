"""Translation edit rate (Snover et al. 2006), as sacrebleu's reimplementation of Tercom computes it.

The edits are insertions, deletions and substitutions of words, and shifts of sequences of words. Which shifts are
made is a greedy search with one sentence after the other; so most of this module is about when there is no need.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from sacrebleu.metrics.lib_ter import translation_edit_rate
from torch import Tensor

from l2s_nmt.search.costs.edit_distance import edit_distances
from l2s_nmt.search.costs.ngrams import MAX_ELEMENTS, clipped_matches

_BEAM = 25
"""Tercom looks no further from the diagonal of the table of distances."""
_REMEMBERED = 1 << 14
"""Pairs of sentences whose edits are kept: some ten megabytes."""


def ter_cost(
    hypotheses: Tensor,
    hypothesis_lengths: Tensor,
    references: Tensor,
    reference_lengths: Tensor,
    *,
    max_elements: int = MAX_ELEMENTS,
) -> Tensor:
    """Return the number of edits divided by the length of the reference, which may exceed 1.

    Against an empty reference the cost is 1, or 0 if the hypothesis is empty as well. Arguments as for
    `sentence_bleu_cost`.
    """
    pairs = (hypotheses, hypothesis_lengths, references, reference_lengths)
    edits = edit_distances(*pairs, max_elements=max_elements).long()
    matches = clipped_matches(*pairs, orders=1, max_elements=max_elements)[0]
    longer = torch.maximum(hypothesis_lengths, reference_lengths)
    rows = _may_shift(edits, longer - matches, reference_lengths).nonzero()[:, 0]
    if len(rows):
        edits[rows] = _shifted_edits(*(values[rows] for values in pairs)).to(edits.device)
    return torch.where(
        reference_lengths > 0, edits / reference_lengths.clamp(min=1), edits.clamp(max=1).float()
    )


def _may_shift(distances: Tensor, least: Tensor, reference_lengths: Tensor) -> Tensor:
    """(M,) bool: shifts may lower the number of edits below the edit distance, or Tercom's beam raise it.

    Shifts keep the words, so after any number of them the distance is at least that of the two bags of words,
    ``least``. One shift is one edit; it helps only if the distance is lower by two. And with up to d edits the
    two sentences are aligned no further than 2 d + 1 from the diagonal, which the beam holds if that is below
    its width, as it holds all of a reference that is shorter.
    """
    in_beam = (2 * distances + 1 < _BEAM) | (reference_lengths < _BEAM)
    return (distances > least + 1) | ~in_beam


def _shifted_edits(
    hypotheses: Tensor, hypothesis_lengths: Tensor, references: Tensor, reference_lengths: Tensor
) -> Tensor:
    """(M,) edits with shifts, on the CPU."""
    ours = zip(hypotheses.tolist(), hypothesis_lengths.tolist(), strict=True)
    theirs = zip(references.tolist(), reference_lengths.tolist(), strict=True)
    return torch.tensor(
        [
            _edits(tuple(words[:length]), tuple(right[:count]))
            for (words, length), (right, count) in zip(ours, theirs, strict=True)
        ]
    )


@lru_cache(maxsize=_REMEMBERED)
def _edits(hypothesis: tuple[int, ...], reference: tuple[int, ...]) -> int:
    """Edits of one pair; they depend on which words are equal alone, not on what they are."""
    edits, _ = translation_edit_rate(list(hypothesis), list(reference))
    return int(edits)
