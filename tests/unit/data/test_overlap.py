"""Validation pairs that are training pairs, by source and first reference."""

from __future__ import annotations

from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from l2s_nmt.data.overlap import shared_pairs

PAIRS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1, max_size=8)


def split(pairs: list[tuple[str, str]], *, targets: bool = True) -> Dataset:
    references = [[target, "another"] if targets else [] for _, target in pairs]
    return Dataset.from_dict({"source": [source for source, _ in pairs], "references": references})


@given(PAIRS, PAIRS)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_pairs_are_counted_as_often_as_validation_has_them(
    train: list[tuple[str, str]], valid: list[tuple[str, str]]
) -> None:
    assert shared_pairs(split(train), split(valid)) == sum(pair in train for pair in valid)


def test_where_training_has_no_references_sources_are_compared() -> None:
    train = split([("a", "x"), ("b", "y")], targets=False)
    assert shared_pairs(train, split([("a", "q"), ("c", "x"), ("a", "z")])) == 2
