"""Where a system is good: by the length of the sentence, by its rarest word, by the place in the translation.

The groups of sentences depend on the source alone, so they are the same for all systems (Neubig et al. 2019,
compare-mt; Koehn & Knowles 2017 for length and rare words). Words that are looked up in the training data are runs of
letters and digits; pairs of words are of BLEU's own.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from l2s_nmt.evaluation.significance import Floats, score_of_sum
from l2s_nmt.evaluation.types import Bucket, PositionBucket
from l2s_nmt.languages import UNSPACED

LENGTHS = (1, 10, 20, 30, 40, 50)
"""Where the groups by length begin, in words of the source."""
FREQUENCIES = (0, 1, 10, 100, 1000)
"""Where the groups by frequency begin, in occurrences in the training data."""
PLACES = ("first fifth", "second", "third", "fourth", "last fifth")

_MARKS = (
    "".join(mark for mark in map(chr, range(0x300, 0x1F000)) if unicodedata.category(mark)[0] == "M")
    + "\u200c\u200d"
)
"""Of accents and vowels, which are no letters to a regular expression, and what keeps two letters apart or together."""
_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}](?:[^\W{UNSPACED}]|(?![{UNSPACED}])[{_MARKS}])*")


@dataclass(frozen=True)
class Groups:
    """Sentences in groups, by one of their properties."""

    labels: tuple[str, ...]
    members: tuple[np.ndarray[Any, np.dtype[np.intp]], ...]
    """The rows of each, none empty."""


def words(text: str) -> list[str]:
    """The words of a sentence, without punctuation; of scripts without spaces, each character."""
    return _WORD.findall(text)


def count_words(texts: Iterable[str], wanted: Iterable[str]) -> Counter[str]:
    """How often the words of some sentences occur in texts, such as the training data.

    Args:
        texts: all of them.
        wanted: the sentences whose words count; the others are not kept.
    """
    known = {word for text in wanted for word in words(text)}
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word in words(text) if word in known)
    return counts


def by_length(sources: Sequence[str]) -> Groups:
    """Sentences by the number of words of their source."""
    return _group([max(len(words(text)), 1) for text in sources], LENGTHS)


def by_frequency(sources: Sequence[str], counts: Mapping[str, int]) -> Groups:
    """Sentences by how often the rarest word of their source occurs; those without any word are in no group."""
    rarest = [min((counts.get(word, 0) for word in words(text)), default=-1) for text in sources]
    return _group(rarest, FREQUENCIES)


def _group(values: Sequence[int], starts: Sequence[int]) -> Groups:
    places = np.searchsorted(starts, values, side="right") - 1
    members = [np.flatnonzero(places == place) for place in range(len(starts))]
    labels = labels_of(starts)
    filled = [place for place, rows in enumerate(members) if len(rows)]
    return Groups(tuple(labels[place] for place in filled), tuple(members[place] for place in filled))


def labels_of(starts: Sequence[int]) -> list[str]:
    """What groups are called that begin at these values; the last one has no end."""
    ends = [start - 1 for start in starts[1:]]
    ranges = zip(starts, ends, strict=False)
    return [
        *(f"{start}" if start == end else f"{start}\u2013{end}" for start, end in ranges),
        f"{starts[-1]:,} or more",
    ]


def score_groups(
    groups: Groups, metrics: Mapping[str, Any], statistics: Mapping[str, Sequence[Floats]]
) -> tuple[Bucket, ...]:
    """Score each group of sentences.

    Args:
        groups: of all sentences.
        metrics: BLEU and chrF, by name.
        statistics: of each metric for each seed of the system (sentences, statistics).
    """

    def score(name: str, rows: np.ndarray[Any, np.dtype[np.intp]]) -> float:
        return float(
            np.mean([score_of_sum(metrics[name], run[rows].sum(axis=0)) for run in statistics[name]])
        )

    return tuple(
        Bucket(label, len(rows), score("bleu", rows), score("chrf", rows))
        for label, rows in zip(groups.labels, groups.members, strict=True)
    )


Tokenise = Callable[[str], list[str]]
"""The words of a translation or reference."""


def by_position(
    runs: Sequence[Sequence[str]], references: Sequence[Sequence[str]], tokenise: Tokenise
) -> tuple[PositionBucket, ...]:
    """BLEU's precision of word pairs, by the fifth of the translation in which the pair ends.

    A pair counts as right as often as the reference has it that has it most often, from the left; so the sum over all
    fifths is BLEU's 2-gram precision.

    Args:
        runs: the translations of each seed.
        references: of each sentence.
        tokenise: as BLEU.
    """
    total, right = np.zeros(len(PLACES)), np.zeros(len(PLACES))
    allowed = [_most_often(texts, tokenise) for texts in references]
    for translations in runs:
        for text, most in zip(translations, allowed, strict=True):
            pairs = _pairs(tokenise(text))
            seen: Counter[tuple[str, str]] = Counter()
            for index, pair in enumerate(pairs):
                seen[pair] += 1
                place = (index + 1) * len(PLACES) // (len(pairs) + 1)
                total[place] += 1
                right[place] += seen[pair] <= most[pair]
    return tuple(
        PositionBucket(label, round(count / len(runs)), 100 * good / count if count else 0.0)
        for label, count, good in zip(PLACES, total.tolist(), right.tolist(), strict=True)
    )


def repetition(
    runs: Sequence[Sequence[str]], references: Sequence[Sequence[str]], tokenise: Tokenise
) -> float:
    """Share of word pairs that repeat an earlier one of their sentence oftener than any of its references does.

    Args:
        runs: the translations of each seed.
        references: of each sentence.
        tokenise: as BLEU.
    """
    total = repeated = 0
    allowed = [_most_often(texts, tokenise) for texts in references]
    for translations in runs:
        for text, most in zip(translations, allowed, strict=True):
            found = Counter(_pairs(tokenise(text)))
            total += found.total()
            repeated += sum(count - max(most[pair], 1) for pair, count in found.items() if count > most[pair])
    return repeated / total if total else 0.0


def empty(runs: Sequence[Sequence[str]]) -> float:
    """Share of translations, of all seeds, without any text."""
    return sum(not text.strip() for texts in runs for text in texts) / sum(map(len, runs))


def _pairs(tokens: list[str]) -> list[tuple[str, str]]:
    return list(pairwise(tokens))


def _most_often(references: Sequence[str], tokenise: Tokenise) -> Counter[tuple[str, str]]:
    """How often the reference has each pair that has it most often."""
    most: Counter[tuple[str, str]] = Counter()
    for text in references:
        most |= Counter(_pairs(tokenise(text)))
    return most
