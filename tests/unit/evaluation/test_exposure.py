from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
import torch

from l2s_nmt.evaluation.exposure import STARTS, Encoded, _evenly, measure_exposure
from l2s_nmt.evaluation.types import ExposureRange, add_ranges
from l2s_nmt.model import Policy
from l2s_nmt.search.context import LengthLimit
from tests.tiny import FAMILIES, finish, next_scores, random_sentences, shared_policy, words

LIMIT = LengthLimit(1.0, 3)


def sentences(policy: Policy, count: int, references: int = 1) -> list[Encoded]:
    sources = random_sentences(policy, count, seed=3, shortest=2)
    # Half of the references are what the model has learned, a reversal; the others are something else.
    reversals = [[*reversed(source[:-1]), policy.eos] for source in sources]
    others = [random_sentences(policy, count, seed=50 + k) for k in range(references)]
    return [
        (source, [reversals[row] if row % 2 else others[0][row], *(other[row] for other in others[1:])])
        for row, source in enumerate(sources)
    ]


def best_loss(
    prefix: Sequence[int], references: Sequence[Sequence[int]], vocabulary: Sequence[int], eos: int
) -> int:
    """The fewest edits with which any finished sentence that begins with the prefix misses a reference."""
    if eos in prefix:
        return min(distance(prefix[: list(prefix).index(eos)], text[:-1]) for text in references)
    # A best completion goes on with a suffix of a reference.
    endings = [text[start:-1] for text in references for start in range(len(text))]
    return min(distance([*prefix, *ending], text[:-1]) for ending in endings for text in references)


def distance(one: Sequence[int], other: Sequence[int]) -> int:
    @cache
    def edits(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        same = edits(i - 1, j - 1) + (one[i - 1] != other[j - 1])
        return min(same, edits(i - 1, j) + 1, edits(i, j - 1) + 1)

    return edits(len(one), len(other))


def by_brute_force(policy: Policy, given: Sequence[Encoded]) -> dict[int, list[int]]:
    """Of each range that has any its counts: own, own right, reference, reference right; one prefix at a time."""
    counts: dict[int, list[int]] = {}

    def look(source: list[int], references: list[list[int]], prefix: list[int], place: int) -> None:
        token = int(next_scores(policy, source, prefix).argmax())
        before = best_loss(prefix, references, words(policy), policy.eos)
        after = best_loss([*prefix, token], references, words(policy), policy.eos)
        start = max(start for start in STARTS if start <= len(prefix) + 1)
        row = counts.setdefault(start, [0, 0, 0, 0])
        row[place] += 1
        row[place + 1] += after == before

    for source, references in given:
        own = finish(policy, source, [], len(source) + 3)
        for place, text in ((0, own), (2, references[0])):
            for length in range(len(text)):
                look(source, references, text[:length], place)
    return counts


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("references", [1, 2])
def test_counts_are_those_of_every_prefix_by_itself(family: str, references: int) -> None:
    policy = shared_policy(family)
    given = sentences(policy, 14, references)
    expected = by_brute_force(policy, given)
    for batch_tokens in (1, 40, 4096):
        found = measure_exposure(policy, given, LIMIT, batch_tokens)
        assert [row.first for row in found] == list(STARTS)
        for row in found:
            counts = [row.own, row.own_right, row.reference, row.reference_right]
            assert counts == expected.get(row.first, [0, 0, 0, 0]), row
    total = add_ranges([found, found])
    assert sum(row.own for row in total) == 2 * sum(row[0] for row in expected.values())
    assert 0 < sum(row.own_right for row in found) < sum(row.own for row in found), (
        "the example says something"
    )


def test_the_first_token_has_no_prefix_to_differ_by() -> None:
    policy = shared_policy()
    first = measure_exposure(policy, sentences(policy, 20), LIMIT, 256)[0]
    assert (first.own, first.own_right) == (first.reference, first.reference_right)
    assert first.own == 20


def test_after_its_own_translation_as_reference_everything_is_right() -> None:
    policy = shared_policy()
    given = []
    for source, _ in sentences(policy, 10):
        text = finish(policy, source, [], len(source) + 3)
        if text[-1] == policy.eos:
            given.append((source, [text]))
    assert len(given) > 5
    for row in measure_exposure(policy, given, LIMIT, 256):
        assert row.own == row.own_right == row.reference == row.reference_right


def test_progress_is_told_and_nothing_is_learned() -> None:
    policy = shared_policy()
    told: list[tuple[int, int]] = []
    with torch.enable_grad():
        measure_exposure(policy, sentences(policy, 9), LIMIT, 24, lambda *counts: told.append(counts))
    assert told[-1] == (9, 9)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert all(parameter.grad is None for parameter in policy.parameters())


def test_of_many_sentences_some_are_chosen_from_all_over() -> None:
    assert [_evenly(10, 4), _evenly(3, 9), _evenly(0, 5)] == [[0, 2, 5, 7], [0, 1, 2], []]


def test_no_sentences_give_empty_ranges() -> None:
    assert measure_exposure(shared_policy(), [], LIMIT, 64)[0] == ExposureRange(1, 1, 0, 0, 0, 0)
