from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.curves import (
    Axis,
    CurvePoint,
    draw_curves,
    draw_interval,
    draw_marker,
    read_curve,
    starts_below,
)
from l2s_nmt.run import Run


def record(kind: str, update: int, **values: Any) -> str:
    return json.dumps({"kind": kind, "update": update, "minutes": update / 100, **values})


def write(folder: Path, *lines: str, end: str = "\n") -> Run:
    run = Run(folder)
    run.metrics.write_text("\n".join(lines) + end, encoding="utf-8")
    return run


def test_a_curve_has_the_validations_and_the_mean_loss_before_each(tmp_path: Path) -> None:
    run = write(
        tmp_path,
        record("train", 10, loss=5.0),
        record("train", 20, loss=4.0),
        record("validation", 20, bleu=10.5, length_ratio=0.9),
        record("roll_in", 25, bleu=99.0),
        record("train", 30, loss=2.0),
        record("validation", 40, bleu=12.5, length_ratio=None, sentences=7),
        record("validation", 50, bleu=13.0),
        record("end", 50),
    )
    assert read_curve(run) == (
        CurvePoint(20, 0.2, 10.5, 0.9, 4.5),
        CurvePoint(40, 0.4, 12.5, None, 2.0, 7),
        CurvePoint(50, 0.5, 13.0),
    )


def test_a_line_cut_off_by_the_end_of_the_run_is_left_out(tmp_path: Path) -> None:
    whole = record("validation", 10, bleu=1.0)
    run = write(tmp_path, whole, whole.replace("10", "20")[:-8], end="")
    assert [point.update for point in read_curve(run)] == [10]


def test_validations_without_a_finite_score_are_left_out(tmp_path: Path) -> None:
    lines = [
        record("train", 5, loss=3.0),
        record("validation", 10, bleu=float("nan")),
        record("validation", 20),
        record("train", 30, loss=None),
    ]
    assert read_curve(write(tmp_path, *lines)) == ()
    lines += [record("train", 40, loss=1.0), record("validation", 40, bleu=9.0)]
    assert read_curve(write(tmp_path, *lines)) == (CurvePoint(40, 0.4, 9.0, None, 2.0),)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "3",
        '{"kind": "train"}',
        '{"update": 2}',
        '{"kind": "validation", "update": 2, "bleu": "x"}',
        '{"kind": "validation", "update": 2, "bleu": 1.0}',
        '{"kind": "train", "update": 2, "loss": "x"}',
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    run = write(tmp_path, record("train", 1, loss=1.0), line)
    with pytest.raises(UserError, match=r"metrics\.jsonl, (line|update) 2: damaged"):
        read_curve(run)


def test_a_run_that_has_measured_nothing_has_no_curve(tmp_path: Path) -> None:
    assert read_curve(Run(tmp_path)) == ()


RISING = tuple(CurvePoint(100 * step, 0.5 * step, 40.0 * step / (step + 2)) for step in range(1, 101))
SHORT = (CurvePoint(50, 1.0, 39.0), CurvePoint(90, 2.0, 39.5))


def numbers(text: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in text.split())]


@pytest.mark.parametrize("axis", ["minutes", "updates"])
def test_the_drawing_is_well_formed_and_to_scale(axis: Axis) -> None:
    svg = ElementTree.fromstring(
        draw_curves([("rising & <shining>", [RISING]), ("none", [()]), ("b", [SHORT])], axis)
    )
    title, description = svg.find("title"), svg.find("desc")
    assert title is not None
    assert description is not None
    assert svg.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert "rising & <shining>: from 13.33 to 39.22" in (description.text or "")
    rising, short = (numbers(line.get("points", "")) for line in svg.iter("polyline"))
    assert len(rising) == 100
    right = max(x for x, _ in rising)
    farther, near = (50.0, 2.0) if axis == "minutes" else (10_000.0, 90.0)
    assert (short[1][0] - 48) / (right - 48) == pytest.approx(near / farther, abs=0.002)
    # Equal differences of BLEU are equal distances, upwards.
    (y_a, y_b), (r_a, r_b) = (short[0][1], short[1][1]), (rising[48][1], rising[98][1])
    scale = (RISING[98].bleu - RISING[48].bleu) / (r_a - r_b)
    assert (y_a - y_b) * scale == pytest.approx(0.5, abs=0.01)
    marked = [group for group in svg.iter("g") if group.find("title") is not None]
    assert len(marked) <= 2 * 40 + 2
    assert not [group for group in svg.iter("g") if "series-1" in group.get("class", "")]


def test_the_axis_begins_where_the_later_halves_do() -> None:
    below = starts_below([("rising", [RISING])])
    assert below is not None
    assert 37 < below < RISING[50].bleu
    assert starts_below([("late", [RISING[30:]])]) is None, "nothing steep to cut off"
    assert starts_below([("short", [SHORT])]) is None
    assert starts_below([("none", [()])]) is None


@pytest.mark.parametrize(
    "points", [(CurvePoint(0, 0.0, 0.0),), (CurvePoint(1, 0.01, 35.5), CurvePoint(2, 0.02, 35.5))]
)
def test_small_curves_can_be_drawn(points: tuple[CurvePoint, ...]) -> None:
    for axis in ("minutes", "updates"):
        text = draw_curves([("few", [points])], "minutes" if axis == "minutes" else "updates")
        ElementTree.fromstring(text)
        assert "nan" not in text
        assert len(re.findall(r"<text", text)) > 3


def test_markers_of_neighbours_differ_in_colour_and_shape() -> None:
    drawn = [draw_marker(number) for number in range(30)]
    assert len(set(drawn)) == 30
    for marker in drawn:
        ElementTree.fromstring(marker)


def test_an_interval_stays_on_its_scale() -> None:
    svg = ElementTree.fromstring(draw_interval(0, 40.0, (39.0, 41.0), (39.0, 49.0)))
    path = svg.find(".//path")
    assert path is not None
    ends = re.findall(r"M([\d.]+) 8H([\d.]+)", path.get("d", ""))
    assert [float(end) for end in ends[0]] == pytest.approx([8.0, 8 + 116 * 0.2], abs=0.1)
    ElementTree.fromstring(draw_interval(0, 40.0, (40.0, 40.0), (40.0, 40.0)))


def test_seeds_are_a_mean_within_their_range() -> None:
    """Their validations in order, and their last ones, however many there are in between."""
    longer = (CurvePoint(60, 1.4, 38.0), CurvePoint(120, 1.8, 39.0), CurvePoint(150, 2.4, 40.5))
    text = draw_curves([("one", [SHORT]), ("two", [SHORT, (), longer])], "minutes")
    svg = ElementTree.fromstring(text)
    lines = svg.findall(".//*[@class]/polyline/..")
    assert [line.get("class") for line in lines] == ["series-0", "series-1"]
    one, two = (numbers(line.get("points", "")) for line in svg.iter("polyline"))
    (band,) = (numbers(each.get("points", "")) for each in svg.iter("polygon"))
    (x, y), (last_x, last_y) = ((axis[1] - axis[0]) for axis in zip(*one, strict=True)), one[1]

    def place(minutes: float, bleu: float) -> tuple[float, float]:
        return (last_x + x * (minutes - 2.0), last_y + y * (bleu - 39.5) / 0.5)

    def at(*places: tuple[float, float]) -> list[Any]:
        return [pytest.approx(place(*each), abs=0.2) for each in places]

    assert two == at((1.2, 38.5), (2.2, 40.0))
    assert band == at((1.2, 39.0), (2.2, 40.5), (2.2, 39.5), (1.2, 38.0))
    assert "two: 38.50 BLEU (38.00 to 39.00) after 1.2 minutes, 55 updates" in text
    assert "two, mean of 2 seeds: from 38.50 to 40.00 after 2.2 minutes, best 40.00." in text


def test_sentences_are_an_axis_where_they_are_known(tmp_path: Path) -> None:
    run = write(
        tmp_path,
        record("validation", 10, bleu=1.0),
        record("validation", 20, bleu=2.0, sentences=640),
        record("validation", 30, bleu=3.0, sentences=960),
    )
    points = read_curve(run)
    assert [point.sentences for point in points] == [None, 640, 960]
    text = draw_curves([("seen", [points])], "sentences")
    assert "from 2.00 to 3.00 after 960 sentences" in text
    (line,) = re.findall(r'<polyline class="line" points="([^"]*)"', text)
    assert len(line.split()) == 2
    assert "<polyline" not in draw_curves([("unseen", [SHORT])], "sentences")
