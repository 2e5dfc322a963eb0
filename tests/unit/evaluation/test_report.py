from __future__ import annotations

import io
import json
import re
import unicodedata
from html import unescape
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from l2s_nmt.evaluation import types
from l2s_nmt.evaluation.compare import compare
from l2s_nmt.evaluation.curves import CurvePoint
from l2s_nmt.evaluation.latex import escape_latex, render_latex
from l2s_nmt.evaluation.markdown import render_markdown
from l2s_nmt.evaluation.page import render_page
from l2s_nmt.evaluation.page_sections import mark_differences
from l2s_nmt.evaluation.report import render_terminal, write_comparison
from l2s_nmt.evaluation.score import LABELS
from l2s_nmt.evaluation.texts import p_text, signed, spread, verdict
from l2s_nmt.evaluation.types import (
    Comparison,
    Expense,
    ExposureRange,
    MetricResult,
    Replicate,
    System,
    TrainingWords,
)
from l2s_nmt.plain_text import visible
from tests.pages import FOREIGN, HOSTILE, Page

CURVE = [CurvePoint(100, 1.5, 20.0, sentences=640), CurvePoint(200, 3.0, 25.0, sentences=1280)]


def hostile_comparison() -> Comparison:
    sources = [HOSTILE, "zwei drei vier", "fünf"]
    references = [["one two three four five", HOSTILE], ["two three four five"], ["five six seven eight"]]
    systems = [
        System("base" + HOSTILE, [run(["one two", "two three four five", ""], 1, 34.8, 14500)]),
        System(
            "search",
            [
                run(["one two three four five", HOSTILE, "five six seven eight"], 1, 10.5, 790),
                run(["one two three four", HOSTILE, "five six"], 2, 10.5, 790),
            ],
        ),
        System("file.txt", [Replicate("file.txt", ["one", "two " + HOSTILE, "five"])]),
    ]
    return compare(
        systems,
        sources,
        references,
        splits=["test" + HOSTILE],
        training_words=TrainingWords(
            {"zwei": 5, "drei": 10, "vier": 1000}, {"one": 5, "two": 10, "five": 1000, "seven": 1}
        ),
        resamples=60,
        trials=60,
    )


def run(hypotheses: list[str], seed: int, minutes: float, updates: int) -> Replicate:
    expense = Expense(minutes, updates, updates * 32, 12_345, 7_200_000.0, "Processor " + HOSTILE)
    exposure = [ExposureRange(1, 1, 3, 3, 3, 2), ExposureRange(2, None, 8, 2, 9, 6)]
    return Replicate(f"runs/{seed}{HOSTILE}", hypotheses, seed, expense, CURVE, exposure)


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return hostile_comparison()


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


@given(FOREIGN, FOREIGN, FOREIGN, FOREIGN)
@settings(deadline=None, derandomize=True, max_examples=40)
def test_any_text_from_outside_stays_text(name: str, source: str, translation: str, split: str) -> None:
    systems = [
        System("a" + name, [run([translation, "x y z w"], 1, 1.0, 10)]),
        System("b" + name, [run(["one two three four", "x y"], 1, 1.0, 10)]),
    ]
    found = compare(
        systems, [source, source], [["one two"], ["x y z"]], splits=[split], resamples=5, trials=5
    )
    text = render_page(found)
    page = Page(text)
    plain = render_page(compare(
        [
            System("a", [run(["q", "x y z w"], 1, 1.0, 10)]),
            System("b", [run(["one two three four", "x y"], 1, 1.0, 10)]),
        ],
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
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in tables][:9] == [14] * 4 + [8] * 5
    rows = render_latex(found).partition("midrule\n")[2].partition("\\bottomrule")[0].strip().split("\n")
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [4, 4]


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


def test_a_notebook_shows_the_page(comparison: Comparison) -> None:
    (frame,) = Page(comparison._repr_html_()).all("iframe")
    assert frame["srcdoc"] == render_page(comparison)


def test_the_page_can_be_read_aloud(comparison: Comparison) -> None:
    page = Page(render_page(comparison))
    assert page.all("html")[0]["lang"] == "en"
    tables = page.all("table")
    assert len(tables) == len(page.all("caption")) == 11
    assert all(head.get("scope") in ("col", "row", "rowgroup") for head in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for target in (attributes.get("aria-labelledby") or "").split():
            assert target in ids
    drawings = page.all("svg")
    assert drawings
    assert all(drawing.get("role") == "img" or drawing.get("aria-hidden") == "true" for drawing in drawings)
    assert len([drawing for drawing in drawings if drawing.get("role") == "img"]) == 3
    assert len(page.all("title")) >= 3


def test_every_line_of_a_table_has_as_many_cells_as_its_head(comparison: Comparison) -> None:
    text = render_page(comparison)
    for table in re.findall(r"<table>.*?</table>", text, flags=re.DOTALL):
        columns = len(re.findall('scope="col"', table))
        body = table.partition("</thead>")[2]
        for row in re.findall(r"<tr>(.*?)</tr>", body, flags=re.DOTALL):
            cells = len(re.findall("<td", row))
            assert cells == columns - 1
    assert len(re.findall('<th scope="rowgroup" rowspan="3"', text)) == 2 + 2, "tests and exposure"


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
    alone = compare(
        [System("alone", [Replicate("alone", ["a b c d"])])], ["x"], [["a b c d"]], resamples=50, trials=50
    )
    shown = "".join(Page(render_page(alone)).text)
    assert "luck" not in shown
    assert "Learning curves" not in shown
    assert "100.00" in shown


def test_four_files_are_written_and_nothing_else(comparison: Comparison, tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "comparison"
    write_comparison(comparison, directory)
    assert sorted(path.name for path in directory.iterdir()) == [
        "comparison.html", "comparison.json", "comparison.md", "comparison.tex",
    ]  # fmt: skip
    values = json.loads((directory / "comparison.json").read_text(encoding="utf-8"))
    assert values == json.loads(json.dumps(comparison.to_json()))
    assert values["systems"][0]["name"] == "base" + HOSTILE, "data are kept as they are"


def test_what_comparison_json_holds_is_described() -> None:
    described = types.__doc__ or ""

    def keys(value: object) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(keys, value))
        return set(value).union(*map(keys, value.values())) if isinstance(value, dict) else set()

    metrics = r"(bleu|chrf|ter)"
    for key in keys(hostile_comparison().to_json()) - {"bleu", "chrf", "ter"}:
        name = re.sub(f"^{metrics}_(?!$)", "M_", key) if re.match(f"{metrics}_[dipo]", key) else key
        assert f"``{name}``" in described, key


def test_several_seeds_are_shown_as_mean_and_deviation(comparison: Comparison) -> None:
    search = comparison.systems[1]
    scores = [run.scores["bleu"] for run in search.runs]
    deviation = abs(scores[0] - scores[1]) / 2**0.5
    assert search.bleu.score == pytest.approx(sum(scores) / 2)
    assert search.bleu.deviation == pytest.approx(deviation)
    for text in (
        render_markdown(comparison),
        "".join(Page(render_page(comparison)).text),
        render_latex(comparison).replace(r"$\pm$", "±"),
    ):
        assert f"{search.bleu.score:.2f} ± {deviation:.2f}" in text


def test_curves_are_switched_without_a_script(comparison: Comparison) -> None:
    text = render_page(comparison)
    page = Page(text)
    buttons = page.all("input")
    assert [button["id"] for button in buttons] == ["by-minutes", "by-updates", "by-sentences"]
    assert {button["type"] for button in buttons} == {"radio"}, "arrow keys move between them"
    assert ["checked" in button for button in buttons] == [True, False, False]
    assert [label["for"] for label in page.all("label")] == [button["id"] for button in buttons]
    for axis in ("minutes", "updates", "sentences"):
        assert f"#by-{axis}:checked ~ .of-{axis}" in text
        assert [figure["class"] for figure in page.all("figure")].count(f"of-{axis}") == 1


def test_the_latex_table_can_be_set(comparison: Comparison) -> None:
    text = render_latex(comparison)
    rows = text.partition("\\midrule\n")[2].partition("\\bottomrule")[0].strip().split("\n")
    assert len(rows) == 3
    for row in rows:
        assert row.endswith(r"\\")
        assert len(re.findall(r"(?<!\\)&", row)) == 4
        assert not row.startswith(("[", "*"))
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0
    assert "\x1b" not in text


@given(st.text())
def test_latex_sees_nothing_but_text(text: str) -> None:
    escaped = escape_latex(text)
    commands = r"\\text\w+\{\}|\\[&%$#_{}]|\{[\[*]\}"
    rest = re.sub(commands, "", escaped)
    assert not set('\\&%$#_{}~^<>|"[*') & set(rest)
    back = {"textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<",
            "textgreater": ">", "textbar": "|", "textquotedbl": '"'}  # fmt: skip
    plain = re.sub(
        commands,
        lambda found: back.get(found[0].strip("\\{}"), found[0][1]) if len(found[0]) > 3 else found[0][1],
        escaped,
    )
    assert plain == visible(text)


def test_the_same_comparison_gives_the_same_bytes(comparison: Comparison) -> None:
    again = hostile_comparison()
    assert render_page(again) == render_page(comparison)
    assert render_markdown(again) == render_markdown(comparison)
    assert render_latex(again) == render_latex(comparison)
    assert again.to_json() == comparison.to_json()


def test_markdown_tables_keep_their_shape(comparison: Comparison) -> None:
    text = render_markdown(comparison)
    lines = [line for line in text.split("\n") if line.startswith("|")]
    counts = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    assert counts[:13] == [14] * 5 + [8] * 8
    tables = re.split(r"\n\n", text)
    for table in tables:
        if table.startswith("|"):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.split("\n")}) == 1
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


def test_sentences_have_their_languages() -> None:
    systems = [System("a", [Replicate("a", ["one", "two"])]), System("b", [Replicate("b", ["one", "three"])])]
    texts = ["eins", "zwei"], [["one"], ["three"]]

    def page(languages: tuple[str, str] | None) -> Page:
        return Page(render_page(compare(systems, *texts, languages=languages, resamples=5, trials=5)))

    assert [tag["lang"] for tag in page(("de", 'e"n')).all("bdi") if "lang" in tag] == ["de", *['e"n'] * 3]
    assert not any("lang" in tag for tag in page(None).all("bdi"))


def test_differences_are_marked_character_by_character_where_there_are_no_spaces() -> None:
    assert mark_differences("\u660e\u5929 B2 \u770b\u623f", "\u6628\u5929 B2 \u770b\u623f") == (
        '<bdi dir="auto"><del>\u660e</del>\u5929 B2 \u770b\u623f</bdi>',
        '<bdi dir="auto"><ins>\u6628</ins>\u5929 B2 \u770b\u623f</bdi>',
    )
    assert mark_differences("\u770b \u770b\u623f", "\u770b\u623f") == (
        '<bdi dir="auto"><del>\u770b</del> \u770b\u623f</bdi>',
        '<bdi dir="auto">\u770b\u623f</bdi>',
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


def test_the_terminal_goes_by_the_p_value_of_the_verdict() -> None:
    sources, references = ["x"] * 12, [[f"one two three {number} five"] for number in range(12)]
    texts = [row[0] for row in references]
    worse = [text.replace("five", "six") if number % 3 else text for number, text in enumerate(texts)]
    systems = [System("a", [Replicate("a", worse)]), System("b", [Replicate("b", [*worse[:6], *texts[6:]])])]
    table = render_terminal(compare(systems, sources, references, resamples=200, trials=200))
    found = compare(systems, sources, references, resamples=200, trials=200).systems[1]
    heads = [str(column.header).split("\n")[0] for column in table.columns]
    for name in ("chrf", "ter"):
        result = found.metrics[name]
        assert result.p_value != result.p_value_randomisation
        column = table.columns[heads.index(LABELS[name])]
        assert str(list(column.cells)[1]).split("\n")[1] == p_text(result.p_value_randomisation)


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        ((1, 1, 1), "(approximate randomisation)"),
        ((1, 2, 2), "(two-level bootstrap and $t$ test)"),
        ((1, 1, 2), "(two-level bootstrap and $t$ test; of systems with one seed approximate randomisation)"),
    ],
)
def test_the_caption_names_the_tests_that_were_made(seeds: tuple[int, ...], expected: str) -> None:
    texts = ["one two three four", "five six seven eight"]
    systems = [
        System(f"s{number}", [Replicate(f"s{number}-{seed}", texts, seed) for seed in range(count)])
        for number, count in enumerate(seeds)
    ]
    found = compare(systems, texts, [[text] for text in texts], resamples=20, trials=20)
    assert expected in render_latex(found)
    assert ("one of the two tails" in render_markdown(found)) == (max(seeds) == 1)
