"""The explanation as one HTML page that needs nothing else: no network, light and dark, readable without its script.

The whole explanation stands in the page as a document: every token links to its state, every candidate unfolds. The
script only shows one state at a time and lets the arrow keys move between them.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib import resources

from l2s_nmt.evaluation.style import STYLE
from l2s_nmt.evaluation.texts import html_text, signed
from l2s_nmt.explanation.figures import cost_text
from l2s_nmt.explanation.page_states import Frame, changed, heat, state_section, token_label
from l2s_nmt.explanation.types import Explained, Explanation, Facts, View
from l2s_nmt.plain_text import direction, visible


def render_page(explanation: Explanation) -> str:
    """Return the whole page; every text that comes from a corpus, a model or a file name is escaped."""
    style, script = STYLE + _resource("page.css"), _resource("page.js")
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    title = f"Explained: {' · '.join(visible(name) for name in explanation.runs)}"
    frame = Frame.of(explanation)
    sentences = (
        _sentence(explanation.runs, sentence, number, frame)
        for number, sentence in enumerate(explanation.sentences, 1)
    )
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)}</title>",
            f"<style>{style}</style></head>",
            f'<body class="{"two" if len(explanation.runs) == 2 else "one"}">',
            _head(explanation),
            "<main>",
            *sentences,
            "</main>",
            '<p id="live" class="unseen" role="status" aria-live="polite"></p>',
            f"<script>{script}</script>",
            "</body></html>\n",
        ]
    )


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """What a content security policy knows an inline style or script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _head(explanation: Explanation) -> str:
    names = [html_text(name) for name in explanation.runs]
    runs = names[0] if len(names) == 1 else f"{names[0]} before and {names[1]} after"
    note = f'<p class="note">{html_text(explanation.search.note)}</p>' if explanation.search.note else ""
    return (
        f'<header><h1>What the search sees</h1><p class="lead">{runs}</p>'
        f"{_facts(explanation.search)}{note}{_guide()}</header>"
    )


def _facts(search: Facts) -> str:
    lines = (
        ("Search of", f"{search.run} ({search.algorithm})"),
        ("Roll-in", search.roll_in),
        ("Roll-out", search.roll_out),
        ("Reference", search.reference),
        ("Cost", search.cost),
        ("Loss", search.loss),
    )
    body = "".join(f"<div><dt>{label}</dt><dd>{html_text(value)}</dd></div>" for label, value in lines)
    return f'<dl class="facts">{body}</dl>'


def _guide() -> str:
    levels = "".join(heat(regret, "", 1.0) for regret in (0.0, 0.02, 0.07, 0.15, 0.3, 0.6))
    return (
        '<details class="guide"><summary>How to read this</summary><div>'
        "<p>The model writes a translation, token by token: the <b>roll-in</b>. Under each token stands its "
        "<b>regret</b>: how much more the finished sentence costs than with the cheapest candidate, first if the "
        f'model finishes it, then if the reference does.</p><p class="levels">{levels}</p>'
        "<p>Choose a token to see the state before it: the <b>candidates</b>, how probable they are to the model, "
        "what they cost, and where the loss <b>pushes</b> their scores. Choose a candidate to unfold its two "
        "<b>roll-outs</b>: the sentence after it, finished by the model and by the reference. Words that differ from "
        "the model's translation are marked: <del>gone</del>, <ins>new</ins>.</p>"
        "<p><kbd>←</kbd> <kbd>→</kbd> <kbd>Home</kbd> <kbd>End</kbd> move along the tokens, <kbd>↓</kbd> <kbd>↑</kbd> "
        "along the candidates, <kbd>Enter</kbd> unfolds, <kbd>Esc</kbd> goes back to the token.</p>"
        "</div></details>"
    )


def _sentence(runs: tuple[str, ...], sentence: Explained, number: int, frame: Frame) -> str:
    pair = sentence.pair
    lines = [("Source", pair.source, frame.source)]
    lines.extend(("Reference", reference, frame.target) for reference in pair.references)
    body = "".join(
        f"<div><dt>{label}</dt><dd>{html_text(text, language)}</dd></div>" for label, text, language in lines
    )
    views = "".join(
        _view(runs, sentence.views, index, f"s{number}v{index + 1}", frame)
        for index in range(len(sentence.views))
    )
    return (
        f'<section class="sentence" aria-labelledby="s{number}"><h2 id="s{number}">{html_text(pair.name)}</h2>'
        f'<dl class="pair">{body}</dl><div class="views">{views}</div></section>'
    )


def _view(runs: tuple[str, ...], views: tuple[View, ...], index: int, key: str, frame: Frame) -> str:
    view = views[index]
    when = ("before", "after")[index] if len(views) == 2 else None
    whole = view.translation
    cut = "" if whole.finished else ", cut by its length"
    gain = ""
    if index:
        difference = signed(whole.cost - views[0].translation.cost)
        gain = ", as before" if difference == "0.00" else f", {difference} against before"
    badge = f' <span class="when">{when}</span>' if when else ""
    tokens = "".join(
        f'<li><a class="token{" joins" if token.joins else ""}" id="{key}t{place}" href="#{key}p{place}">'
        f"{token_label(token, frame.target)}"
        f"{heat(state.regret_by_model, 'regret if the model finishes ', frame.cost)}"
        f"{heat(state.regret_by_reference, 'if the reference finishes ', frame.cost)}</a></li>"
        for place, (token, state) in enumerate(zip(view.tokens, view.states, strict=True), 1)
    )
    worst = max(range(len(view.states)), key=lambda place: view.states[place].regret_by_model)
    states = "".join(
        state_section(view, place, f"{key}p{place + 1}", frame, when, is_worst=place == worst)
        for place in range(len(view.states))
    )
    return (
        f'<article class="view" aria-labelledby="{key}"><h3 id="{key}">{html_text(runs[index])}{badge}</h3>'
        f'<p class="whole">{changed(whole.changes, frame.target)} '
        f"<small>cost {cost_text(whole.cost)}{gain}{cut}</small></p>"
        f'<div class="row"><p class="strips" aria-hidden="true"><span>translation</span>'
        f"<span>model finishes</span><span>reference finishes</span></p>"
        f'<ol class="tokens" dir="{direction(whole.text)}" '
        f'aria-label="Translation by {escape(visible(runs[index]))}, token by token">{tokens}</ol>'
        f"</div>{states}</article>"
    )
