"""Which words a system gets right, by how often they occur in the training data's target sentences.

The word accuracy of compare-mt (Neubig et al. 2019). A system that has become surer of itself writes more of the
frequent words, and which rare ones it still writes does not show in BLEU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from l2s_nmt.evaluation.breakdown import FREQUENCIES, labels_of, words
from l2s_nmt.evaluation.types import WordBucket


def by_word(
    runs: Sequence[Sequence[str]], references: Sequence[Sequence[str]], counts: Mapping[str, int]
) -> tuple[WordBucket, ...]:
    """Precision and recall of words in groups by their frequency; groups without a word in a reference are left out.

    A word of a translation is right as often as the reference has it. Where a sentence has several references, the
    translation is held against each of them.

    Args:
        runs: the translations of each seed.
        references: of each sentence.
        counts: how often each word of the translations and references occurs in the training data's targets.
    """
    wanted, written, right = (np.zeros(len(FREQUENCIES)) for _ in range(3))
    expected = [[Counter(words(text)) for text in texts] for texts in references]
    for translations in runs:
        for text, alternatives in zip(translations, expected, strict=True):
            found = Counter(words(text))
            for reference in alternatives:
                wanted += _by_frequency(reference, counts)
                written += _by_frequency(found, counts)
                right += _by_frequency(found & reference, counts)
    return tuple(
        WordBucket(label, round(count / len(runs)), _percentage(good, total), _percentage(good, count))
        for label, count, total, good in zip(labels_of(FREQUENCIES), wanted, written, right, strict=True)
        if count
    )


def _by_frequency(found: Counter[str], counts: Mapping[str, int]) -> np.ndarray:
    """(groups,) how many of the words are in each."""
    places = np.searchsorted(FREQUENCIES, [counts.get(word, 0) for word in found], side="right") - 1
    return np.bincount(places, weights=list(found.values()), minlength=len(FREQUENCIES))


def _percentage(part: float, whole: float) -> float:
    return 100 * float(part) / float(whole) if whole else 0.0
