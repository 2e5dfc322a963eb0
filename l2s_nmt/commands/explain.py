"""``l2s-nmt explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from l2s_nmt.commands.terminal import console, say


def explain(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN [RUN]", help="A run, or one before and one after.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the page goes.")
    ] = Path("explanation"),
    sentence: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="A source sentence of your own.", show_default=False),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Its translation; may be given several times.", show_default=False),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="SPLIT", help="Of the corpus; default test.", show_default=False),
    ] = None,
    index: Annotated[
        list[int] | None,
        typer.Option(
            "--index",
            min=1,
            metavar="N",
            help="A sentence of the split, from 1; may be given several times.",
            show_default=False,
        ),
    ] = None,
    candidates: Annotated[
        int, typer.Option(min=1, max=50, help="Most probable tokens tried at each state.")
    ] = 5,
) -> None:
    """Show what the search sees in a sentence: candidates, roll-outs, costs, and what the loss pushes."""
    from l2s_nmt.explanation.look import explain as look
    from l2s_nmt.explanation.pairs import choose_pairs
    from l2s_nmt.explanation.subject import load_subjects
    from l2s_nmt.explanation.terminal import render_terminal
    from l2s_nmt.explanation.write import write_explanation
    from l2s_nmt.files import refuse_unwritable_folder, writing_to
    from l2s_nmt.run import Run

    opened = [Run(path) for path in runs]
    pairs = choose_pairs(opened, sentence=sentence, references=reference, split=split, numbers=index)
    refuse_unwritable_folder(output)
    explanation = look(*load_subjects(opened, candidates), pairs, candidates)
    with writing_to(output):
        write_explanation(explanation, output)
    console().print(render_terminal(explanation))
    say(f"page: {output / 'explanation.html'}")
