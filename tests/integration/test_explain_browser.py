"""The explanation in a real browser: keyboard, screen reader, colours, narrow screens, and no network."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from l2s_nmt.explanation.page import render_page
from l2s_nmt.explanation.types import Explanation
from tests.explaining import two_runs, with_texts

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    *("--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-quic"),
)
HARM = '</script><script>alert(1)</script><img src="http://127.0.0.1:9/x" onerror="alert(2)"> \u202eback'

FOCUSED = "document.activeElement"
SHOWN = """() => [...document.querySelectorAll('.view')].map(
  view => [...view.querySelectorAll('.state')].filter(state => !state.hidden).length
)"""
OPEN_ALL = """() => {
  document.querySelectorAll('.state').forEach(state => { state.hidden = false; });
  document.querySelectorAll('details').forEach(details => { details.removeAttribute('name'); details.open = true; });
}"""
# The contrast of every text with what is behind it, as WCAG defines it.
CONTRASTS = """() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (colour) => colour.slice(0, 3)
    .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
      if (colour[3] !== 0) throw new Error('a background that lets through: ' + at.className);
    }
    throw new Error('no background');
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest('script, .unseen')) continue;
    const [text, back] = [luminance(rgba(getComputedStyle(element).color)), luminance(behind(element))];
    found.push([(Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05), walker.currentNode.data]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium is installed (Debian: apt install chromium)")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, chromium_sandbox=False, args=list(QUIET))
        yield started
        started.close()


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    found = two_runs()
    return replace(found, sentences=found.sentences[:1])


@pytest.fixture(scope="module")
def file(explanation: Explanation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "explanation.html"
    path.write_text(render_page(explanation), encoding="utf-8")
    return path


class Opened:
    """A page, with all that it asked for and complained about."""

    def __init__(self, browser: Any, file: Path, **settings: Any) -> None:
        # A reader who wants no motion has the page as it is at once; with motion it has to be waited for.
        self.context = browser.new_context(**{"reduced_motion": "reduce", **settings})
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self.dismiss)
        self.page.goto(file.as_uri())

    def dismiss(self, dialog: Any) -> None:
        self.complaints.append(dialog.message)
        dialog.dismiss()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def on_focus(self, of: str) -> Any:
        """A property of what has the focus."""
        return self.page.evaluate(f"{FOCUSED}.{of}")

    def said(self) -> str:
        """What a screen reader was told last."""
        playwright.expect(self.page.locator("#live")).not_to_be_empty()
        return str(self.page.locator("#live").text_content())


@pytest.fixture
def opened(browser: Any, file: Path) -> Iterator[Opened]:
    found = Opened(browser, file)
    yield found
    found.context.close()
    assert found.requests == [file.as_uri()]
    assert found.complaints == []


def to_the_tokens(opened: Opened) -> None:
    """By the tabulator alone: past the guide."""
    for _ in range(2):
        opened.press("Tab")
    assert opened.on_focus("getAttribute('role')") == "tab"


def test_one_state_of_each_translation_is_shown_the_worst_first(
    opened: Opened, explanation: Explanation
) -> None:
    views = [view for sentence in explanation.sentences for view in sentence.views]
    assert opened.page.evaluate(SHOWN) == [1] * len(views)
    for number, view in enumerate(views):
        chosen = opened.page.locator(".view").nth(number).locator("[aria-selected=true]")
        worst = max(state.regret_by_model for state in view.states)
        place = [state.regret_by_model for state in view.states].index(worst)
        assert chosen.get_attribute("id").endswith(f"t{place + 1}")
        unfolded = opened.page.locator(".view").nth(number).locator("details[open]").count()
        assert unfolded == (worst > 0)  # where something was cheaper, it is unfolded


def test_tokens_are_chosen_by_the_keyboard_alone(opened: Opened, explanation: Explanation) -> None:
    view = explanation.sentences[0].views[0]
    last = len(view.tokens)
    assert last > 3
    to_the_tokens(opened)
    for key, place in (
        *(("Home", 1), ("ArrowLeft", 1), ("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2)),
        *(("End", last), ("ArrowRight", last)),
    ):
        opened.press(key)
        assert opened.on_focus("id") == f"s1v1t{place}"
        assert opened.on_focus("getAttribute('aria-selected')") == "true"
        assert opened.page.locator("#s1v1 ~ .state:visible").get_attribute("id") == f"s1v1p{place}"
        assert opened.said().startswith(f"Token {place} of {last}, ")
    tabbable = opened.page.locator(".view").first.locator(".token[tabindex='0']")
    assert tabbable.count() == 1  # one stop for the tabulator
    outline = opened.page.evaluate(f"getComputedStyle({FOCUSED}).outlineWidth")
    assert outline == "3px"


def test_arrows_point_where_they_go_in_scripts_from_right_to_left(
    browser: Any, explanation: Explanation, tmp_path: Path
) -> None:
    path = tmp_path / "explanation.html"
    path.write_text(render_page(with_texts(explanation, "\u05d0\u05d1")), encoding="utf-8")
    opened = Opened(browser, path)
    to_the_tokens(opened)
    opened.press("Home")
    left_of = "document.querySelector('#s1v1t{}').getBoundingClientRect().left"
    assert opened.page.evaluate(f"{left_of.format(1)} > {left_of.format(2)}")
    number = "getComputedStyle(document.querySelector('#s1v1t1 .heat')).direction"
    assert opened.page.evaluate(number) == "ltr"  # else .50 would be 50.
    for key, place in (("ArrowRight", 1), ("ArrowLeft", 2), ("ArrowLeft", 3), ("ArrowRight", 2)):
        opened.press(key)
        assert opened.on_focus("id") == f"s1v1t{place}"
    opened.context.close()
    assert opened.complaints == []


def test_candidates_are_unfolded_by_the_keyboard_alone(opened: Opened, explanation: Explanation) -> None:
    state = explanation.sentences[0].views[0].states[0]
    to_the_tokens(opened)
    opened.press("Home", "ArrowDown")
    candidates = opened.page.locator("#s1v1p1 details")
    assert candidates.count() == len(state.candidates)
    for place, candidate in enumerate(state.candidates):
        head = f"document.querySelectorAll('#s1v1p1 summary')[{place}]"
        assert opened.page.evaluate(f"{FOCUSED} === {head}")
        outs = candidates.nth(place).locator(".outs")
        if outs.is_visible():
            opened.press("Enter")
            playwright.expect(outs).not_to_be_visible()
        opened.press("Space" if place % 2 else "Enter")
        playwright.expect(outs).to_be_visible()
        text = " ".join(outs.inner_text().split())
        for out in (candidate.by_model, candidate.by_reference):
            assert all(change.text in text for change in out.changes)
        assert opened.page.locator("#s1v1p1 details[open]").count() == 1  # one at a time
        said = opened.said()
        assert f"by the model: {candidate.by_model.text}, cost " in said
        assert f"by the reference: {candidate.by_reference.text}, cost " in said
        opened.press("ArrowDown")
    opened.press("Home")
    assert opened.page.evaluate(f"{FOCUSED} === document.querySelector('#s1v1p1 summary')")
    opened.press("End", "ArrowUp")
    assert opened.on_focus("tagName") == "SUMMARY"
    opened.press("Escape")
    assert opened.on_focus("id") == "s1v1t1"


def test_a_mouse_does_as_well(opened: Opened) -> None:
    opened.page.locator("#s1v2t2").click()
    assert opened.page.locator("#s1v2p2").is_visible()
    assert opened.page.evaluate("location.hash") == ""
    candidate = opened.page.locator("#s1v2p2 details:not([open])").first
    candidate.locator("summary").click()
    assert opened.page.locator("#s1v2p2 details[open]").count() == 1


def test_all_that_can_be_reached_has_a_name(opened: Opened) -> None:
    opened.page.evaluate(OPEN_ALL)
    session = opened.context.new_cdp_session(opened.page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    names: dict[str, list[str]] = {}
    for node in nodes:
        focusable = any(p["name"] == "focusable" and p["value"]["value"] for p in node.get("properties", ()))
        if not node["ignored"] and (focusable or node["role"]["value"] in ("tablist", "tabpanel", "article")):
            names.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    assert {"tab", "tablist", "tabpanel", "article"} <= set(names)
    assert all(name.strip() for found in names.values() for name in found)
    assert all(re.search(r"regret if the model finishes ?[\d.]+", name) for name in names["tab"])
    heads = [name for name in names["DisclosureTriangle"] if name != "How to read this"]
    assert len(heads) == opened.page.locator(".candidate").count()
    for name in heads:
        assert re.search(r"probability .*%.* cost if the model finishes .*\d.* push ?(none|up|down)", name)
    assert opened.page.locator("html").get_attribute("lang") == "en"
    assert opened.page.locator("h1").count() == 1


def test_every_text_stands_out(opened: Opened) -> None:
    opened.page.evaluate(OPEN_ALL)
    for scheme in ("light", "dark"):
        opened.page.emulate_media(color_scheme=scheme)
        back = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", back))) < 128) == (scheme == "dark")
        found = opened.page.evaluate(CONTRASTS)
        assert len(found) > 500
        assert min(found)[0] >= 4.5, min(found)


def test_nothing_is_wider_than_the_screen(opened: Opened) -> None:
    opened.page.evaluate(OPEN_ALL)
    for width in (360, 640, 1440):
        opened.page.set_viewport_size({"width": width, "height": 800})
        wide = opened.page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]")
        cut = opened.page.evaluate(
            "[...document.querySelectorAll('.candidate summary, .out, .whole, dd')]"
            ".filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"
        )
        assert max(wide) <= width
        assert cut == []


def test_in_the_reader_s_own_colours_the_chosen_token_stays_visible(opened: Opened) -> None:
    style = "getComputedStyle(document.querySelector('[aria-selected=true]')).outlineStyle"
    assert opened.page.evaluate(style) == "none"
    opened.page.emulate_media(forced_colors="active")
    assert opened.page.evaluate(style) == "solid"


def test_without_scripts_it_is_a_document(browser: Any, file: Path, explanation: Explanation) -> None:
    opened = Opened(browser, file, java_script_enabled=False, reduced_motion="no-preference")
    views = [view for sentence in explanation.sentences for view in sentence.views]
    visible = opened.page.locator(".state:visible").count()
    opened.page.locator("#s1v1t2").click()
    url = opened.page.url
    opened.page.locator("#s1v1p2 summary").first.click()
    opened.page.locator("#s1v1p2 .outs").first.wait_for(state="visible")
    opened.context.close()
    assert visible == sum(len(view.states) for view in views)
    assert url.endswith("#s1v1p2")


def test_text_that_means_harm_does_none(browser: Any, explanation: Explanation, tmp_path: Path) -> None:
    path = tmp_path / "harm.html"
    path.write_text(render_page(with_texts(explanation, HARM)), encoding="utf-8")
    opened = Opened(browser, path)
    opened.page.evaluate(OPEN_ALL)
    opened.page.locator("#s1v1t2").press("ArrowLeft")
    assert "<img" in opened.said()
    assert opened.page.locator("img").count() == 0
    assert opened.page.locator("script").count() == 1
    assert (opened.requests, opened.complaints) == ([path.as_uri()], [])
    # Even a script that got in would reach nobody, and could not be written into the page.
    blocked = opened.page.evaluate(
        "() => fetch('http://127.0.0.1:9/').then(() => 'sent', error => String(error))"
    )
    assert "Failed to fetch" in blocked
    assert any("Content Security Policy" in complaint for complaint in opened.complaints)
    opened.context.close()


def test_a_notebook_shows_the_page_in_a_frame(browser: Any, explanation: Explanation, tmp_path: Path) -> None:
    path = tmp_path / "cell.html"
    shown = with_texts(explanation, HARM)._repr_html_()
    path.write_text(f"<!doctype html><meta charset=utf-8><title>cell</title>{shown}", encoding="utf-8")
    opened = Opened(browser, path)
    inside = opened.page.frame_locator("iframe")
    inside.locator("#s1v1t2").click()
    playwright.expect(inside.locator("#s1v1p2")).to_be_visible()
    assert opened.page.locator("script").count() == 0
    assert [url for url in opened.requests if not url.startswith("about:")] == [path.as_uri()]
    assert opened.complaints == []
    opened.context.close()
