"""The page, the file for scripts and the terminal, with text in them that means harm."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
import unicodedata
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from rich.console import Console

from l2s_nmt.explanation.figures import cost_text, percent
from l2s_nmt.explanation.page import render_page
from l2s_nmt.explanation.page_states import heat
from l2s_nmt.explanation.terminal import render_terminal
from l2s_nmt.explanation.types import Explanation
from l2s_nmt.explanation.write import write_explanation
from l2s_nmt.plain_text import visible
from tests.explaining import two_runs, with_texts
from tests.pages import FOREIGN, HOSTILE, Page

HIDDEN = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")


@cache
def explained() -> Explanation:
    return two_runs()


@pytest.fixture
def explanation() -> Explanation:
    return explained()


@pytest.fixture
def page(explanation: Explanation) -> Page:
    return Page(render_page(explanation))


def page_with(text: str) -> str:
    """Of one sentence, with a text wherever one comes from outside."""
    one = replace(explained(), sentences=explained().sentences[:1])
    return render_page(with_texts(one, text))


@cache
def plain_tags() -> set[str]:
    return {tag for tag, _ in Page(page_with("q")).tags} | {"del", "ins", "em"}


@given(FOREIGN)
@settings(deadline=None, derandomize=True, max_examples=30)
def test_any_text_from_outside_stays_text(foreign: str) -> None:
    text = page_with(f"a{foreign}")
    found = Page(text)
    assert {tag for tag, _ in found.tags} <= plain_tags()
    assert visible(f"a{foreign}") in "".join(found.text)
    assert len(found.all("script")) == len(found.all("style")) == 1
    assert all(not name.startswith("on") for _, attributes in found.tags for name in attributes)
    assert all(character == "\n" or unicodedata.category(character) != "Cc" for character in text)
    assert not HIDDEN & set(text)


def test_the_page_needs_nothing_else(explanation: Explanation, page: Page) -> None:
    text = render_page(explanation)
    assert all(
        not {"src", "srcset", "data", "action", "style"} & set(attributes) for _, attributes in page.tags
    )
    assert not page.all("link")
    assert not re.search(r"url\(|@import|https?:", text.replace("http-equiv", ""))
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy is not None
    assert "default-src 'none'" in policy
    for name in ("style", "script"):
        inline = text.split(f"<{name}>")[1].split(f"</{name}>")[0]
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_without_its_script_every_token_leads_to_its_state(explanation: Explanation, page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    views = [view for sentence in explanation.sentences for view in sentence.views]
    links = [str(attributes["href"]) for attributes in page.all("a")]
    assert len(links) == len(set(links)) == sum(len(view.tokens) for view in views)
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert all(link.startswith("#") for link in links)
    assert all("hidden" not in attributes for _, attributes in page.tags)
    named = [
        str(attributes["aria-labelledby"]) for _, attributes in page.tags if "aria-labelledby" in attributes
    ]
    assert named
    assert set(named) <= set(ids)


def test_the_page_tells_everything(explanation: Explanation, page: Page) -> None:
    shown = " ".join(" ".join(page.text).split())
    states = [state for s in explanation.sentences for view in s.views for state in view.states]
    candidates = [candidate for state in states for candidate in state.candidates]
    assert len(page.all("details")) == len(candidates) + 1  # and how to read it
    for out in [out for c in candidates for out in (c.by_model, c.by_reference)]:
        assert f"cost {cost_text(out.cost)}," in shown
        for change in out.changes:
            assert change.text in shown
    for candidate in candidates:
        assert percent(candidate.probability) in shown
    for name in (*explanation.runs, explanation.search.cost, explanation.search.reference):
        assert name in shown
    for name in ("before", "after"):
        assert f" {name} " in shown


def test_foreign_text_has_its_language_and_its_direction() -> None:
    one = replace(explained(), sentences=explained().sentences[:1])
    shalom = "\u05e9\u05dc\u05d5\u05dd"
    page = Page(render_page(with_texts(one, shalom, ("zh-CN", "he"))))
    spoken = [tag["lang"] for tag in page.all("bdi") if "lang" in tag]
    assert spoken[:3] == ["zh-CN", "he", "he"]  # the source and two references
    assert spoken.count("zh-CN") == 1
    views = one.sentences[0].views
    tokens = sum(len(view.tokens) for view in views)
    tried = sum(len(state.candidates) for view in views for state in view.states)
    # Of the rest the token, what is taken at its state, what stands before the other states than the first,
    # the candidates and their two roll-outs, and the translations.
    assert spoken.count("he") == 2 + tokens + tokens + (tokens - len(views)) + 3 * tried + len(views)
    assert {tag["dir"] for tag in page.all("ol")} == {"rtl"}
    page = Page(render_page(with_texts(one, "shalom")))
    assert not any("lang" in tag for tag in page.all("bdi"))
    assert {tag["dir"] for tag in page.all("ol")} == {"ltr"}


def test_no_cost_is_told_by_its_colour_alone() -> None:
    levels = [
        re.search(r'class="heat h(\d)">(.*)</span>', heat(regret, "", 1.0)) for regret in (0, 0.07, 0.5)
    ]
    assert [found.groups() for found in levels if found] == [("0", "0"), ("2", ".07"), ("5", ".50")]
    assert "h2" in heat(0.7, "", 10.0)  # the scale is that of the page
    assert heat(0.09, "", 20.0) == '<span class="heat h0">.09</span>', (
        "a small one of a large scale is not none"
    )


def test_the_same_explanation_gives_the_same_bytes(explanation: Explanation) -> None:
    assert render_page(explanation) == render_page(two_runs())


# ---- files ---------------------------------------------------------------------------------------


def test_two_files_are_written_and_nothing_else(explanation: Explanation, tmp_path: Path) -> None:
    write_explanation(explanation, tmp_path / "a" / "b")
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {
        "explanation.html",
        "explanation.json",
    }
    found: dict[str, Any] = json.loads((tmp_path / "a" / "b" / "explanation.json").read_text())
    assert found["runs"] == list(explanation.runs)
    first = explanation.sentences[0]
    assert found["sentences"][0]["pair"]["source"] == first.pair.source
    candidate = found["sentences"][0]["views"][1]["states"][0]["candidates"][0]
    expected = first.views[1].states[0].candidates[0]
    assert candidate["token"]["id"] == expected.token.id
    assert candidate["by_model"]["cost"] == expected.by_model.cost
    assert candidate["push"] == expected.push


def test_of_what_cannot_be_written_nothing_is(explanation: Explanation, tmp_path: Path) -> None:
    first = explanation.sentences[0]
    view = replace(first.views[0], translation=replace(first.views[0].translation, cost=math.nan))
    broken = replace(explanation, sentences=(replace(first, views=(view,)),))
    with pytest.raises(ValueError, match="nan"):
        write_explanation(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- terminal ------------------------------------------------------------------------------------


def terminal(explanation: Explanation, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(render_terminal(explanation))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 120])
def test_the_terminal_shows_each_choice(explanation: Explanation, width: int) -> None:
    text = terminal(explanation, width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("●") == 1 + sum(
        len(v.tokens) for s in explanation.sentences for v in s.views
    )  # the legend
    words = " ".join(text.split())
    for sentence in explanation.sentences:
        assert f"source {sentence.pair.source}" in words
        for view in sentence.views:
            assert cost_text(view.translation.cost) in words
            for state in view.states:
                if state.regret_by_model > 0:
                    assert cost_text(state.cheapest.by_model.cost) in words


def test_nothing_acts_on_the_terminal(explanation: Explanation) -> None:
    text = terminal(with_texts(explanation, HOSTILE), 100)
    assert not {"\x1b", "\0", *HIDDEN} & set(text)
    assert "[U+202E]" in text
