"""Which sentences are explained: those of a split by their numbers, or one that is given."""

from __future__ import annotations

from collections.abc import Sequence

from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.runs import common_test_set
from l2s_nmt.explanation.types import Pair
from l2s_nmt.plain_text import refuse_surrogates
from l2s_nmt.run import Run


def choose_pairs(
    runs: Sequence[Run],
    *,
    sentence: str | None,
    references: Sequence[str] | None,
    split: str | None,
    numbers: Sequence[int] | None,
) -> list[Pair]:
    """The sentences that a command line asks for; the first test sentence where it asks for none.

    Raises:
        UserError: it contradicts itself, or there is no such sentence; also for more than two runs.
    """
    if len(runs) > 2:
        raise UserError(f"explain: {len(runs)} runs are given; give one, or one before and one after")
    if sentence is None:
        if references:
            raise UserError(
                "explain: --reference is the translation of --sentence; give --sentence TEXT, too"
            )
        return pairs_of_split(runs, split or "test", numbers or [1])
    if split is not None or numbers:
        raise UserError(
            "explain: --sentence is one of your own; leave out --split and --index, or --sentence"
        )
    return [given_pair(sentence, references or [], _languages(runs))]


def given_pair(source: str, references: Sequence[str], languages: tuple[str, str] | None) -> Pair:
    """A sentence pair of one's own.

    Raises:
        UserError: half of it is missing or empty, or no text.
    """
    for text in (source, *references):
        refuse_surrogates(text, "explain: the sentence or its reference")
    if not source.strip():
        raise UserError("explain: the sentence is empty; give its words with --sentence TEXT")
    if not references or not all(text.strip() for text in references):
        raise UserError(
            "explain: a sentence needs its translation, against which costs are measured; give --reference TEXT"
        )
    return Pair("the sentence given", source, tuple(references), languages)


def _languages(runs: Sequence[Run]) -> tuple[str, str] | None:
    return runs[0].read_recipe().data.tags


def pairs_of_split(runs: Sequence[Run], split: str, numbers: Sequence[int]) -> list[Pair]:
    """Sentences of a split that the runs have in common.

    Args:
        runs: one or two.
        split: of their corpus.
        numbers: of the sentences, from 1.

    Raises:
        UserError: the split is missing or unsound, the runs differ in it, it has no such sentence with a reference, or
            a number is given twice.
    """
    test_set = common_test_set(runs, [split])
    pairs = []
    for number in numbers:
        if numbers.count(number) > 1:
            raise UserError(f"--index {number} is given twice; leave one out")
        if not 1 <= number <= len(test_set.sources):
            raise UserError(
                f"--index {number}: {test_set.origin} has {len(test_set.sources):,} sentences; give a number from 1 "
                f"to {len(test_set.sources)}"
            )
        references = tuple(text for text in test_set.references[number - 1] if text.strip())
        source = test_set.sources[number - 1]
        if not references or not source.strip():
            raise UserError(
                f"--index {number}: {test_set.origin} has no words there to compare; choose another"
            )
        pairs.append(Pair(f"{split}, sentence {number}", source, references, _languages(runs)))
    return pairs
