from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from l2s_nmt.data import filters
from l2s_nmt.data.filters import FilterReport
from l2s_nmt.data.rows import FEATURES
from l2s_nmt.data.store import REPORT, TABLE
from l2s_nmt.errors import UserError

NO_DUPLICATES: dict[str, Any] = {"max_ratio": None, "drop_duplicates": True}


def corpus(pairs: list[tuple[str, str]]) -> Dataset:
    rows = [{"source": s, "references": [t, "other"], "line": n} for n, (s, t) in enumerate(pairs, 1)]
    return Dataset.from_list(rows, features=FEATURES)


def apply_filters(dataset: Dataset, **settings: Any) -> tuple[Dataset, FilterReport]:
    """Twice, for what is found must be what is remembered."""
    with tempfile.TemporaryDirectory() as folder:
        first, report = filters.apply_filters(dataset, **settings, cache_directory=Path(folder))
        again, remembered = filters.apply_filters(dataset, **settings, cache_directory=Path(folder))
        assert (again.to_list(), again._fingerprint) == (first.to_list(), first._fingerprint)
    assert remembered == report
    return first, report


def test_damaged_memory_of_what_was_kept(tmp_path: Path) -> None:
    dataset = corpus([("a", "b"), ("a", "b"), ("c", "d")])
    for name, how in ((TABLE, b""), (TABLE, b"x" * 300), (REPORT, b"{}"), (REPORT, b"[")):
        filters.apply_filters(dataset, **NO_DUPLICATES, cache_directory=tmp_path)
        (kept,) = tmp_path.rglob(name)
        kept.write_bytes(how)
        found, report = filters.apply_filters(dataset, **NO_DUPLICATES, cache_directory=tmp_path)
        assert found["line"][:] == [1, 3]
        assert report.duplicate == 1


def test_what_other_filters_kept_is_not_what_these_keep(tmp_path: Path) -> None:
    dataset = corpus([("a", "b"), ("a", "b"), ("a", "b c d e")])
    for ratio, drops, kept in ((None, False, 3), (3.0, False, 2), (None, True, 2), (3.0, True, 1)):
        _, report = filters.apply_filters(
            dataset, max_ratio=ratio, drop_duplicates=drops, cache_directory=tmp_path
        )
        assert report.kept == kept


def test_what_was_kept_of_other_rows_is_not_what_is_kept_of_these(tmp_path: Path) -> None:
    found = [
        filters.apply_filters(corpus(pairs), **NO_DUPLICATES, cache_directory=tmp_path)[0]
        for pairs in ([("a", "b"), ("a", "b"), ("c", "d")], [("a", "b"), ("c", "d"), ("c", "d")])
    ]
    assert [dataset["line"][:] for dataset in found] == [[1, 3], [1, 2]]


def test_what_was_kept_is_known_by_its_rows_and_filters(tmp_path: Path) -> None:
    """So that what is encoded of it is not taken for that of others."""
    pairs = [("a", "b"), ("a", "b"), ("a", "b c d e"), ("c d", "e")]
    found = [
        filters.apply_filters(corpus(rows), **NO_DUPLICATES | {"max_ratio": ratio}, cache_directory=tmp_path)[
            0
        ]._fingerprint
        for rows in (pairs, [*pairs, ("x", "y")])
        for ratio in (1.0, 2.0, 4.0)
    ]
    assert len(set(found)) == len(found)


def test_each_filter_counts_what_it_drops() -> None:
    pairs = [
        ("a b", "c d"),
        ("", "c"),
        ("a", " \u3000 "),
        ("a b c d", "e"),
        ("a b c d", "e"),  # unequal and twice: counted as unequal
        ("a b", "c d"),
        ("a b", "c e"),
    ]
    kept, report = apply_filters(corpus(pairs), max_ratio=3.0, drop_duplicates=True)
    assert report == FilterReport(total=7, kept=2, empty=2, unequal=2, duplicate=1)
    assert kept["line"][:] == [1, 7]
    assert str(report) == "kept 2 of 7 sentence pairs; dropped 2 empty, 2 unequal, 1 duplicate"


def test_filters_that_are_off_drop_nothing() -> None:
    dataset = corpus([("a", "b c d e f g h"), ("a", "b c d e f g h")])
    kept, report = apply_filters(dataset, max_ratio=None, drop_duplicates=False)
    assert kept is dataset
    assert str(report) == "kept 2 of 2 sentence pairs"


def test_limit_is_included() -> None:
    pairs = [("a b", "c d e f")]
    assert apply_filters(corpus(pairs), max_ratio=2.0, drop_duplicates=True)[1].kept == 1


def test_duplicates_need_both_sides_and_their_border() -> None:
    pairs = [("a b", "c"), ("a", "b c"), ("a b", "d"), ("e", "c"), ("fg", "h"), ("f", "gh")]
    assert apply_filters(corpus(pairs), max_ratio=None, drop_duplicates=True)[1].kept == 6


def test_nothing_left() -> None:
    with pytest.raises(UserError, match=r"leave no training data: kept 0 of 1 .* 1 empty"):
        apply_filters(corpus([("", "a")]), max_ratio=None, drop_duplicates=False)


def test_sources_alone() -> None:
    sources = ["a b", " ", "c d e", "a b", "c"]
    rows = [{"source": source, "references": [], "line": n} for n, source in enumerate(sources, 1)]
    dataset = Dataset.from_list(rows, features=FEATURES)
    kept, report = apply_filters(dataset, max_ratio=1.0, drop_duplicates=True)
    assert kept["line"][:] == [1, 3, 5]
    assert kept["references"][:] == [[], [], []]
    assert (report.empty, report.unequal, report.duplicate) == (1, 0, 1)
    assert str(report) == "kept 3 of 5 source sentences; dropped 1 empty, 1 duplicate"


@pytest.mark.parametrize("with_target", [1, 2])
def test_where_one_source_has_a_target_they_are_pairs(with_target: int) -> None:
    rows = [
        {"source": "a", "references": ["b"] if line == with_target else [], "line": line} for line in (1, 2)
    ]
    dataset = Dataset.from_list(rows, features=FEATURES)
    _, report = apply_filters(dataset, max_ratio=None, drop_duplicates=False)
    assert str(report) == "kept 2 of 2 sentence pairs"


side = st.lists(st.sampled_from(["a", "b"]), max_size=4).map(" ".join)


@settings(max_examples=50, deadline=None)
@given(
    pairs=st.lists(st.tuples(side, side), min_size=1, max_size=12),
    max_ratio=st.none() | st.sampled_from([1.0, 1.5, 2.0]),
    drop=st.booleans(),
)
def test_against_brute_force(pairs: list[tuple[str, str]], max_ratio: float | None, drop: bool) -> None:
    reasons: Counter[str] = Counter()
    kept: list[tuple[str, str]] = []
    for source, target in pairs:
        counts = [len(source.split(" ")) if source else 0, len(target.split(" ")) if target else 0]
        if 0 in counts:
            reasons["empty"] += 1
        elif max_ratio is not None and max(counts) / min(counts) > max_ratio:
            reasons["unequal"] += 1
        elif drop and (source, target) in kept:
            reasons["duplicate"] += 1
        else:
            kept.append((source, target))
    try:
        dataset, report = apply_filters(corpus(pairs), max_ratio=max_ratio, drop_duplicates=drop)
    except UserError:
        assert not kept
        return
    assert [(r["source"], r["references"][0]) for r in dataset] == kept
    assert {name: getattr(report, name) for name in reasons} == dict(reasons)
    assert report.empty + report.unequal + report.duplicate + report.kept == len(pairs)


UNSPACED = [
    ("I like tea.", "我喜欢茶。"),
    (
        "Yesterday he bought a book that he had been looking for since spring.",
        "昨天他买了一本从春天开始就在找的书。",
    ),
    (
        "The trains between the two cities run every twenty minutes.",
        "両都市を結ぶ列車は二十分おきに走っています。",
    ),
    ("He has worked at the hospital near the river for nine years.", "เขาทำงานที่โรงพยาบาลใกล้แม่น้ำมาเก้าปีแล้ว"),
]


def test_sentences_of_scripts_without_spaces_are_not_one_word() -> None:
    turned = [(target, source) for source, target in UNSPACED]
    for pairs in (UNSPACED, turned):
        _, report = apply_filters(corpus(pairs), max_ratio=6.0, drop_duplicates=False)
        assert report.kept == len(UNSPACED)
    crooked = [*UNSPACED, (UNSPACED[1][0], "书。"), ("Tea.", UNSPACED[1][1])]
    _, report = apply_filters(corpus(crooked), max_ratio=6.0, drop_duplicates=False)
    assert (report.kept, report.unequal) == (4, 2)
