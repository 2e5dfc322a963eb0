"""A state of an explanation as HTML: its candidates, and their roll-outs."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from l2s_nmt.evaluation.differences import around_words
from l2s_nmt.evaluation.texts import html_text, isolated, signed
from l2s_nmt.explanation.figures import cost_text, percent, push_text, token_text
from l2s_nmt.explanation.types import (
    LONE_SPACE,
    Candidate,
    Change,
    Explanation,
    RollOut,
    State,
    Token,
    View,
)
from l2s_nmt.plain_text import visible

_LEVELS = (0.005, 0.05, 0.1, 0.2, 0.4)
"""Regrets at which the next shade of the heat map begins, for costs of at most 1."""


@dataclass(frozen=True)
class Frame:
    """What all states of the page have in common."""

    cost: float
    """Full scale of regrets: the largest, at least 1."""
    push: float
    """Full scale of pushes: the strongest."""
    source: str | None
    """The language of the sources, where it is known."""
    target: str | None
    """That of the translations."""

    @classmethod
    def of(cls, explanation: Explanation) -> Frame:
        """Of everything that is shown."""
        languages = explanation.sentences[0].pair.languages if explanation.sentences else None
        states = [s for sentence in explanation.sentences for view in sentence.views for s in view.states]
        regrets = [regret for s in states for regret in (s.regret_by_model, s.regret_by_reference)]
        pushes = [abs(candidate.push) for s in states for candidate in s.candidates]
        scale = max([1.0, *regrets]), max(pushes, default=0.0) or 1.0
        return cls(*scale, *(languages or (None, None)))


def heat(regret: float, label: str, scale: float) -> str:
    """A cell of the heat map: shade and number."""
    level = sum(regret >= start * scale for start in _LEVELS)
    number = cost_text(regret)
    number = "0" if number == cost_text(0.0) else number.removeprefix("0")
    unseen = f'<span class="unseen">{label}</span>' if label else ""
    return f'<span class="heat h{level}">{unseen}{number}</span>'


def token_label(token: Token, language: str | None) -> str:
    """A token in the row of the translation."""
    if token.ends:
        return (
            '<span class="word end"><span aria-hidden="true">⏎</span><span class="unseen">end</span></span>'
        )
    continued = '<span class="unseen">continued </span>' if token.joins else ""
    return f'<span class="word">{continued}{html_text(token.text, language)}</span>'


def changed(changes: tuple[Change, ...], language: str | None) -> str:
    """A sentence with what is not the same marked."""
    marks = {"same": "{}", "removed": "<del>{}</del>", "added": "<ins>{}</ins>"}
    said = {"same": "", "removed": "gone: ", "added": "new: "}

    def marked(change: Change) -> str:
        unseen = f'<span class="unseen">{said[change.kind]}</span>' if said[change.kind] else ""
        return around_words(
            change.text, lambda words: marks[change.kind].format(f"{unseen}{escape(visible(words))}")
        )

    parts = "".join(map(marked, changes))
    return isolated(parts, language) if parts else '<em class="empty">empty</em>'


def state_section(view: View, place: int, key: str, frame: Frame, when: str | None, *, is_worst: bool) -> str:
    """The state before a token.

    Args:
        view: of one run.
        place: of the token.
        key: the element's id.
        frame: of the page.
        when: ``before`` or ``after``, where there are two runs.
        is_worst: it is the first to look at: its regret is the largest.
    """
    state = view.states[place]
    prefix = "".join(map(_written, view.tokens[:place])).strip()
    after = f"After {html_text(prefix, frame.target)}" if prefix else "At the beginning"
    taken = html_text(token_text(state.own.token), frame.target)
    cheapest = min(candidate.by_model.cost for candidate in state.candidates)
    candidates = "".join(
        _candidate(state, candidate, cheapest, key, frame, when) for candidate in state.candidates
    )
    said = (
        f"Token {place + 1} of {len(view.tokens)}, {_plain(state.own.token)}, {_verdict(state)}. "
        f"{len(state.candidates)} candidates."
    )
    worst = ' data-worst=""' if is_worst else ""
    return (
        f'<section class="state" id="{key}" data-say="{escape(said)}"{worst}>'
        f'<h4>{after}</h4><p class="choice">The model takes <b>{taken}</b>: '
        f"{_verdict(state)}.</p>"
        '<div class="candidates"><p class="columns" aria-hidden="true"><span>candidate</span><span>probability</span>'
        "<span>cost, model</span><span>cost, reference</span><span>push</span></p>"
        f"{candidates}</div>"
        f'<p class="note">All other tokens: probability {escape(percent(state.rest_probability))}, push '
        f"{_push_words(state.rest_push)}.</p></section>"
    )


def _written(token: Token) -> str:
    return f"{'' if token.joins else ' '}{'' if token.text == LONE_SPACE else token.text}"


def _verdict(state: State) -> str:
    if state.regret_by_model <= 0:
        return "no candidate is cheaper if the model finishes"
    return f"{cost_text(state.regret_by_model)} dearer than the cheapest if the model finishes"


def _plain(token: Token) -> str:
    return visible(token_text(token))


def _candidate(
    state: State, candidate: Candidate, cheapest: float, key: str, frame: Frame, when: str | None
) -> str:
    best = min(other.by_reference.cost for other in state.candidates)
    marks = "".join(
        f' <span class="pill">{name}</span>'
        for name, is_so in (
            ("model's choice", candidate.is_own),
            ("reference's choice", candidate.is_reference),
            ("cheapest", candidate.by_model.cost <= cheapest < state.own.by_model.cost),
        )
        if is_so
    )
    said = (
        f"{_plain(candidate.token)}. Finished by the model: {visible(candidate.by_model.text)}, cost "
        f"{cost_text(candidate.by_model.cost)}. Finished by the reference: {visible(candidate.by_reference.text)}, "
        f"cost {cost_text(candidate.by_reference.cost)}."
    )
    by_model, by_reference = candidate.by_model.cost, candidate.by_reference.cost
    open_first = ' data-first=""' if candidate is state.cheapest and state.regret_by_model > 0 else ""
    return (
        f'<details class="candidate" name="{key}" data-say="{escape(said)}"{open_first}><summary>'
        f'<span class="tried">{html_text(token_text(candidate.token), frame.target)}'
        f"{marks}</span>"
        f"{_probability(candidate, when)}"
        f"{_cost(by_model, by_model - cheapest, ' cost if the model finishes ', frame)}"
        f"{_cost(by_reference, by_reference - best, ' if the reference finishes ', frame)}"
        f"{_push(candidate.push, frame.push)}</summary>"
        f'<div class="outs">{_out("The model finishes", candidate.by_model, state.own.by_model, frame.target)}'
        f"{_out('The reference finishes', candidate.by_reference, state.own.by_model, frame.target)}</div>"
        f"{_charged(candidate)}</details>"
    )


def _probability(candidate: Candidate, when: str | None) -> str:
    own = f"<b>{escape(percent(candidate.probability))}</b>"
    text, tick = own, ""
    if candidate.beside is not None:
        other = escape(percent(candidate.beside))
        text = f"{own} → {other}" if when == "before" else f"{other} → {own}"
        tick = f'<rect class="tick-other" x="{99 * candidate.beside:.1f}" y="0" width="1.5" height="8"/>'
    return (
        '<span class="probability"><span class="unseen"> probability </span>'
        '<svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="rail" width="100" height="8"/>'
        f'<rect class="filled" width="{100 * candidate.probability:.1f}" height="8"/>{tick}</svg>'
        f"<span>{text}</span></span>"
    )


def _cost(cost: float, regret: float, label: str, frame: Frame) -> str:
    level = sum(regret >= start * frame.cost for start in _LEVELS)
    return f'<span class="heat h{level}"><span class="unseen">{label}</span>{cost_text(cost)}</span>'


def _push(push: float, strongest: float) -> str:
    size = 50 * min(1.0, abs(push) / strongest)
    start = 50 if push > 0 else 50 - size
    return (
        '<span class="push"><span class="unseen"> push </span>'
        '<svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="rail" width="100" height="8"/>'
        f'<rect class="{"up" if push > 0 else "down"}" x="{start:.1f}" width="{size:.1f}" height="8"/>'
        f'<rect class="middle" x="49.6" width=".8" height="8"/></svg>{_push_size(push)}</span>'
    )


def _push_words(push: float) -> str:
    """As a reader of the screen says it: an arrow may be passed over."""
    size = push_text(push).lstrip("↑↓ ")
    return "none" if size == "·" else f"{'up' if push > 0 else 'down'} {size}"


def _push_size(push: float) -> str:
    return f'<span aria-hidden="true">{push_text(push)}</span><span class="unseen">{_push_words(push)}</span>'


def _out(heading: str, out: RollOut, own: RollOut, language: str | None) -> str:
    difference = signed(out.cost - own.cost)
    beside = "as the translation" if difference == "0.00" else f"{difference} against the translation"
    cut = "" if out.finished else "; cut by its length"
    if difference != "0.00" and all(change.kind == "same" for change in out.changes):
        cut += "; the same words, in other tokens"
    return (
        f'<div class="out"><h5>{heading}</h5><p>{changed(out.changes, language)}</p>'
        f'<p class="note">cost {cost_text(out.cost)}, {beside}{cut}</p></div>'
    )


def _charged(candidate: Candidate) -> str:
    if candidate.charged is None:
        text = "The recipe would not try this token here: its cost is not in the loss."
    else:
        text = f"The loss is told a cost of {cost_text(candidate.charged)} above the cheapest action's."
    return f'<p class="note charged">{text}</p>'
