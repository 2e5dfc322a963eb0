"""An explanation on the terminal: a line for each token, and the candidates wherever another was cheaper."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from l2s_nmt.evaluation.differences import Kind, around_words
from l2s_nmt.explanation.figures import cost_text, percent, push_text, token_text
from l2s_nmt.explanation.types import Candidate, Change, Explained, Explanation, State, View
from l2s_nmt.plain_text import visible

_STYLES = {"same": "", "removed": "red strike", "added": "green underline"}


def render_terminal(explanation: Explanation) -> RenderableType:
    """All sentences, one after the other."""
    search = explanation.search
    facts = f"search of {search.run}: {search.algorithm}; roll-in: {search.roll_in}; roll-out: {search.roll_out}; "
    facts += f"reference: {search.reference}; cost: {search.cost}; loss: {search.loss}"
    lines = [Text(visible(facts), style="dim")]
    if search.note:
        lines.append(Text(visible(search.note), style="dim"))
    parts: list[RenderableType] = [*lines]
    for sentence in explanation.sentences:
        parts += ["", *_sentence(explanation, sentence)]
    parts += ["", Text(_LEGEND, style="dim")]
    return Group(*parts)


_LEGEND = (
    "cost: of the sentence that the model, or the reference, finishes after the token; push: where the loss moves the "
    "token's score; ● the model's choice, ○ the reference's"
)


def _sentence(explanation: Explanation, sentence: Explained) -> Iterator[RenderableType]:
    pair = sentence.pair
    yield Text.assemble((visible(pair.name), "bold"))
    yield Text.assemble(("source       ", "dim"), visible(pair.source))
    for reference in pair.references:
        yield Text.assemble(("reference    ", "dim"), visible(reference))
    for name, view in zip(explanation.runs, sentence.views, strict=True):
        whole = view.translation
        cut = "" if whole.finished else ", cut by its length"
        yield Text.assemble(
            ("translation  ", "dim"),
            _changed(whole.changes),
            (f"   cost {cost_text(whole.cost)}{cut}, by {visible(name)}", "dim"),
        )
        yield _states(view)


def _states(view: View) -> Table:
    has_two = view.states[0].own.beside is not None
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("token", overflow="fold", min_width=8)
    columns = (
        ("prob.", "other run" if has_two else ""),
        ("cost", "model"),
        ("cost", "reference"),
        ("push", ""),
    )
    for name, detail in columns:
        table.add_column(Text.assemble(name, "\n", (detail, "dim")), justify="right", no_wrap=True)
    table.add_column("what the model makes of it", overflow="fold", ratio=1)
    for state in view.states:
        for candidate in _shown(state):
            table.add_row(*_cells(state, candidate))
    return table


def _shown(state: State) -> Iterator[Candidate]:
    """The token taken; where one finishes cheaper, all that the model finishes cheaper, and the reference's."""
    yield state.own
    if state.regret_by_model > 0 or state.regret_by_reference > 0:
        for candidate in state.candidates:
            cheaper = candidate.by_model.cost < state.own.by_model.cost
            if not candidate.is_own and (cheaper or candidate.is_reference):
                yield candidate


def _cells(state: State, candidate: Candidate) -> list[Text]:
    style = "" if candidate.is_own else "dim"
    mark = ("●" if candidate.is_own else " ") + ("○" if candidate.is_reference else " ")
    probability = percent(candidate.probability)
    if candidate.beside is not None:
        probability += f" {percent(candidate.beside)}"
    told = Text("") if candidate.is_own else _changed(candidate.by_model.changes)
    cheaper = candidate.by_model.cost < state.own.by_model.cost
    return [
        Text(mark),
        Text(visible(token_text(candidate.token)), style="bold" if candidate.is_own else ""),
        Text(probability, style=style),
        Text(cost_text(candidate.by_model.cost), style="green" if cheaper else style),
        Text(cost_text(candidate.by_reference.cost), style=style),
        Text(push_text(candidate.push), style=style),
        told,
    ]


def _changed(changes: tuple[Change, ...]) -> Text:
    return Text.assemble(
        *(
            (around_words(change.text, partial(_marked, change.kind)), _STYLES[change.kind])
            for change in changes
        )
    )


def _marked(kind: Kind, words: str) -> str:
    # Marks as well as colours, which not every terminal shows.
    marks = {"same": "{}", "removed": "[-{}-]", "added": "{{+{}+}}"}
    return marks[kind].format(visible(words))
