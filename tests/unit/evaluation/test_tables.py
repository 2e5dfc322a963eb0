from __future__ import annotations

from dataclasses import replace

import pytest

from l2s_nmt.evaluation.tables import Table, detail_tables
from l2s_nmt.evaluation.texts import signed
from l2s_nmt.evaluation.types import Comparison, ExposureRange
from tests.unit.evaluation.test_report import hostile_comparison


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """Of a system of one seed, one of two, and a file."""
    base, *others = hostile_comparison().systems
    return replace(hostile_comparison(), systems=(replace(base, repetition=0.0123), *others))


def tables_of(comparison: Comparison) -> dict[str, Table]:
    return {table.key: table for table in detail_tables(comparison)}


def lines(comparison: Comparison, key: str, place: int) -> tuple[tuple[str, ...], ...]:
    """What a table says of the system that has this place in it."""
    return tables_of(comparison)[key].rows[place][1]


GROUPS = pytest.mark.parametrize(
    ("key", "group", "figures"),
    [
        ("length", "by_length", {"BLEU": "bleu", "chrF": "chrf"}),
        ("frequency", "by_frequency", {"BLEU": "bleu", "chrF": "chrf"}),
        ("word", "by_word", {"precision %": "precision", "recall %": "recall"}),
        ("position", "by_position", {"": "precision"}),
    ],
)


@GROUPS
def test_a_table_of_groups_has_each_figure_and_how_far_it_is_from_the_baselines(
    comparison: Comparison, key: str, group: str, figures: dict[str, str]
) -> None:
    base, search, _ = comparison.systems
    alone, beside = [], []
    for name, figure in figures.items():
        theirs, own = (
            [getattr(bucket, figure) for bucket in getattr(each, group)] for each in (base, search)
        )
        pairs = list(zip(own, theirs, strict=True))
        assert any(abs(mine - other) > 1 for mine, other in pairs), "the example says something"
        head = (name,) if name else ()
        alone.append((*head, *(f"{value:.1f}" for value in theirs)))
        beside.append((*head, *(f"{mine:.1f} ({signed(mine - other, 1)})" for mine, other in pairs)))
    assert lines(comparison, key, 0) == tuple(alone)
    assert lines(comparison, key, 1) == tuple(beside)


def test_habits_seeds_and_costs_are_in_the_units_of_their_heads(comparison: Comparison) -> None:
    base, search, _ = comparison.systems
    assert lines(comparison, "habits", 0) == ((f"{base.length_ratio:.3f}", "1.23", "33.33"),)
    scores = search.runs[1].scores
    assert lines(comparison, "seeds", 1)[1][1:] == (
        "2",
        *(f"{scores[name]:.2f}" for name in comparison.metrics),
        "10.5",
    )
    hardware = search.runs[0].expense.hardware
    assert lines(comparison, "cost", 1) == (("10.5", "790", "25,280", "12,345", "2,000.0", hardware),)


def test_exposure_is_told_of_each_range_and_of_all_together(comparison: Comparison) -> None:
    # Of one seed 3 of 3 and 2 of 8 after its own prefixes, 2 of 3 and 6 of 9 after the reference's.
    assert lines(comparison, "exposure", 0) == (
        ("the model's own", "100.0", "25.0", "45.5"),
        ("the reference's", "66.7", "66.7", "66.7"),
        ("difference", "+33.3", "\u221241.7", "\u221221.2"),
    )


def test_a_range_that_one_side_alone_reaches_is_shown_and_one_that_none_reaches_is_not(
    comparison: Comparison,
) -> None:
    """As where the model's translations are all shorter than the references."""
    ranges = (
        ExposureRange(1, 1, 4, 3, 4, 2),
        ExposureRange(2, 4, 0, 0, 4, 1),
        ExposureRange(5, 9, 2, 1, 0, 0),
        ExposureRange(10, None, 0, 0, 0, 0),
    )
    short = replace(comparison, systems=(replace(comparison.baseline, exposure=ranges),))
    assert tables_of(short)["exposure"].header == ("prefix", "1", "2\u20134", "5\u20139", "all")
    assert lines(short, "exposure", 0) == (
        ("the model's own", "75.0", "", "50.0", "66.7"),
        ("the reference's", "50.0", "25.0", "", "37.5"),
        ("difference", "+25.0", "", "", "+29.2"),
    )
