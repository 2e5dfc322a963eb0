from __future__ import annotations

import io
import json
import re
import unicodedata
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from l2s_nmt.evaluation.compare import Comparison, MetricResult, System, compare
from l2s_nmt.evaluation.curves import CurvePoint
from l2s_nmt.evaluation.page import mark_differences, render_page
from l2s_nmt.evaluation.report import render_markdown, render_terminal, write_comparison
from l2s_nmt.evaluation.texts import p_text, signed, spread, verdict
from l2s_nmt.plain_text import visible

HOSTILE = "</bdi><script>alert(1)</script> \u202elive\x1b[31m \x00&amp; \"'|`_*\u2028"
CURVE = [CurvePoint(100, 1.5, 20.0), CurvePoint(200, 3.0, 25.0)]
VOID = {"meta", "path", "rect", "circle", "polyline"}


def hostile_comparison() -> Comparison:
    sources = [HOSTILE, "zwei drei vier", "fünf"]
    references = [["one two three four five", HOSTILE], ["two three four five"], ["five six seven eight"]]
    systems = [
        System("base" + HOSTILE, ["one two", "two three four five", ""], 34.8, 14500, CURVE),
        System("search", ["one two three four five", HOSTILE, "five six seven eight"], 10.5, 790, CURVE),
        System("file.txt", ["one", "two " + HOSTILE, "five"]),
    ]
    return compare(systems, sources, references, splits=["test" + HOSTILE], resamples=60, trials=60)


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return hostile_comparison()


class Page(HTMLParser):
    """Collects what a browser would see, and refuses elements that are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_hostile_text_stays_text(comparison: Comparison) -> None:
    text = render_page(comparison)
    page = Page(text)
    assert not page.all("script")
    shown = "".join(page.text)
    assert "<script>alert(1)</script>" in shown
    assert "[U+202E]live\u241b[31m \u2400&amp;" in shown
    allowed = {"\n"}
    assert all(character in allowed or unicodedata.category(character) != "Cc" for character in text)
    assert not set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2028") & set(text)
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)


POWERFUL = (
    "<script>",
    "</title>",
    "-->",
    "]]>",
    "&lt;",
    '"',
    "'",
    "\u202e",
    "\u2067",
    "|",
    "`",
    "](x)",
    "\n",
    "\ud800",
)
FOREIGN = st.lists(st.sampled_from(POWERFUL) | st.text(max_size=4), max_size=5).map("".join)


@given(FOREIGN, FOREIGN, FOREIGN, FOREIGN)
@settings(deadline=None, derandomize=True, max_examples=40)
def test_any_text_from_outside_stays_text(name: str, source: str, translation: str, split: str) -> None:
    systems = [
        System("a" + name, [translation, "x y z w"], curve=CURVE),
        System("b" + name, ["one two three four", "x y"], curve=CURVE),
    ]
    found = compare(
        systems, [source, source], [["one two"], ["x y z"]], splits=[split], resamples=5, trials=5
    )
    text = render_page(found)
    page = Page(text)
    plain = render_page(compare(
        [System("a", ["q", "x y z w"], curve=CURVE), System("b", ["one two three four", "x y"], curve=CURVE)],
        ["q", "q"], [["one two"], ["x y z"]], splits=["q"], resamples=5, trials=5,
    ))  # fmt: skip
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in Page(plain).tags} | {"del", "ins", "em"}
    for foreign in ("b" + name, source, split):
        assert visible(foreign) in "".join(page.text)
    for name_ in re.findall(r"<bdi dir=\"auto\">(.*?)</bdi>", text, re.DOTALL):
        assert not {unicodedata.bidirectional(character) for character in unescape(name_)} & {
            "RLO",
            "LRO",
            "RLI",
        }
    tables = [line for line in render_markdown(found).split("\n") if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in tables] == [13] * 4 + [8] * 5


def test_the_page_needs_nothing_else(comparison: Comparison) -> None:
    text = render_page(comparison)
    page = Page(text)
    assert not {"link", "img", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    assert not [attributes for _, attributes in page.tags if {"src", "href", "srcset"} & attributes.keys()]
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text
    policy = next(meta for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"


def test_the_page_can_be_read_aloud(comparison: Comparison) -> None:
    page = Page(render_page(comparison))
    assert page.all("html")[0]["lang"] == "en"
    tables = page.all("table")
    assert len(tables) == len(page.all("caption")) == 3
    assert all(head.get("scope") in ("col", "row", "rowgroup") for head in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for target in (attributes.get("aria-labelledby") or "").split():
            assert target in ids
    drawings = page.all("svg")
    assert drawings
    assert all(drawing.get("role") == "img" or drawing.get("aria-hidden") == "true" for drawing in drawings)
    assert len([drawing for drawing in drawings if drawing.get("role") == "img"]) == 2
    assert len(page.all("title")) >= 3


def test_every_line_of_a_table_has_as_many_cells_as_its_head(comparison: Comparison) -> None:
    text = render_page(comparison)
    for table in re.findall(r"<table>.*?</table>", text, flags=re.DOTALL):
        columns = len(re.findall('scope="col"', table))
        body = table.partition("</thead>")[2]
        for row in re.findall(r"<tr>(.*?)</tr>", body, flags=re.DOTALL):
            cells = len(re.findall("<td", row))
            assert cells == columns - 1
    assert len(re.findall('rowspan="3"', text)) == 2


def test_the_page_tells_the_result(comparison: Comparison) -> None:
    shown = "".join(Page(render_page(comparison)).text)
    for system in comparison.systems:
        assert f"{system.bleu.score:.2f}" in shown
        assert spread(system.chrf.interval) in shown
    assert "Largest wins" in shown
    assert "14,500" in shown
    assert comparison.signatures["bleu"] in shown
    assert "empty" in shown


def test_a_page_for_one_system_has_no_tests() -> None:
    alone = compare([System("alone", ["a b c d"])], ["x"], [["a b c d"]], resamples=50, trials=50)
    shown = "".join(Page(render_page(alone)).text)
    assert "luck" not in shown
    assert "Learning curves" not in shown
    assert "100.00" in shown


def test_three_files_are_written_and_nothing_else(comparison: Comparison, tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "comparison"
    write_comparison(comparison, directory)
    assert sorted(path.name for path in directory.iterdir()) == [
        "comparison.html", "comparison.json", "comparison.md",
    ]  # fmt: skip
    values = json.loads((directory / "comparison.json").read_text(encoding="utf-8"))
    assert values == json.loads(json.dumps(comparison.to_json()))
    assert values["systems"][0]["name"] == "base" + HOSTILE, "data are kept as they are"


def test_the_same_comparison_gives_the_same_bytes(comparison: Comparison) -> None:
    again = hostile_comparison()
    assert render_page(again) == render_page(comparison)
    assert render_markdown(again) == render_markdown(comparison)
    assert again.to_json() == comparison.to_json()


def test_markdown_tables_keep_their_shape(comparison: Comparison) -> None:
    text = render_markdown(comparison)
    lines = [line for line in text.split("\n") if line.startswith("|")]
    counts = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    assert counts == [13] * 5 + [8] * 8
    assert "<script>" not in text
    assert "\\<script\\>" in text
    assert "\x1b" not in text
    assert f"{comparison.systems[1].bleu.score:.2f}" in text
    assert comparison.signatures["ter"] in text


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_everything(comparison: Comparison, width: int) -> None:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(render_terminal(comparison))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "\x1b" not in shown
    for system in comparison.systems:
        for text in (
            f"{system.bleu.score:.2f}", f"{system.brevity_penalty:.3f}", f"{system.length_ratio:.3f}",
            f"{system.precisions[2]:.1f}/{system.precisions[3]:.1f}", f"{system.chrf.score:.2f}",
            f"{system.ter.score:.2f}", p_text(system.bleu.p_value), p_text(system.ter.p_value),
        ):  # fmt: skip
            assert text in shown
    assert "14,500" in shown
    assert max(map(len, shown.split("\n"))) <= width


words = st.lists(st.text(alphabet="ab<&>\u202e", min_size=1, max_size=3), max_size=8)


@given(words, words)
def test_marked_differences_keep_the_words(baseline: list[str], system: list[str]) -> None:
    marked = mark_differences(" ".join(baseline), " ".join(system))
    for side, original, tag, other in zip(
        marked, (baseline, system), ("del", "ins"), ("ins", "del"), strict=True
    ):
        if original:
            plain = unescape(re.sub(r"</?(?:bdi|del|ins)[^>]*>", "", side))
            assert plain == visible(" ".join(original))
        else:
            assert "empty" in side
        assert f"<{other}>" not in side
        assert (f"<{tag}>" in side) <= (baseline != system)
    kept = [re.sub(r"<(del|ins)>.*?</\1>|</?bdi[^>]*>", "", side) for side in marked]
    if baseline and system:
        assert kept[0].split() == kept[1].split(), "what is not marked is common to both"


def test_differences_are_marked_word_by_word() -> None:
    assert mark_differences("a cat sat down", "the cat sat") == (
        '<bdi dir="auto"><del>a</del> cat sat <del>down</del></bdi>',
        '<bdi dir="auto"><ins>the</ins> cat sat</bdi>',
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.234, "+1.23"), (-0.5, "\u22120.50"), (0.001, "0.00"), (-0.004, "0.00"), (0.0, "0.00")],
)
def test_signs(value: float, expected: str) -> None:
    assert signed(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, ""), (1.0, "1.000"), (0.0499, "0.050"), (0.001, "0.001"), (1 / 1001, "<0.001")],
)
def test_p_values_are_written_as_papers_do(value: float | None, expected: str) -> None:
    assert p_text(value) == expected


@pytest.mark.parametrize(
    ("metric", "difference", "p_value", "expected"),
    [
        ("bleu", 1.0, 0.01, "better"),
        ("bleu", -1.0, 0.01, "worse"),
        ("ter", 1.0, 0.01, "worse"),
        ("ter", -1.0, 0.01, "better"),
        ("chrf", 1.0, 0.05, "no clear difference"),
        ("bleu", None, None, ""),
    ],
)
def test_verdicts(metric: str, difference: float | None, p_value: float | None, expected: str) -> None:
    result = MetricResult(40.0, (39.0, 41.0), difference, None, 0.001, p_value)
    assert verdict(metric, result) == expected
