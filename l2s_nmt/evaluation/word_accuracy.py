"""Which words a system gets right, by how often they occur in the training data's target sentences.

The word accuracy of compare-mt (Neubig et al. 2019). A system that has become surer of itself writes more of the
frequent words, and which rare ones it still writes does not show in BLEU.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence

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
    wanted, written, right = (Counter[str]() for _ in range(3))
    expected = [[Counter(words(text)) for text in texts] for texts in references]
    for translations in runs:
        for text, alternatives in zip(translations, expected, strict=True):
            found = Counter(words(text))
            for reference in alternatives:
                wanted.update(reference)
                written.update(found)
                right.update(found & reference)
    groups = zip(*(_by_frequency(found, counts) for found in (wanted, written, right)), strict=True)
    return tuple(
        WordBucket(label, round(count / len(runs)), _percentage(good, total), _percentage(good, count))
        for label, (count, total, good) in zip(labels_of(FREQUENCIES), groups, strict=True)
        if count
    )


def _by_frequency(found: Counter[str], counts: Mapping[str, int]) -> list[int]:
    """How many of the words are in each group."""
    totals = [0] * len(FREQUENCIES)
    for word, count in found.items():
        totals[bisect_right(FREQUENCIES, counts.get(word, 0)) - 1] += count
    return totals


def _percentage(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0
