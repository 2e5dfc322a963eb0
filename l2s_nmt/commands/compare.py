"""``l2s-nmt compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from l2s_nmt.commands.evaluate import evaluate_split
from l2s_nmt.commands.options import BeamOption, PenaltyOption
from l2s_nmt.commands.terminal import console, progress, say
from l2s_nmt.commands.texts import read_lines, read_references
from l2s_nmt.errors import UserError
from l2s_nmt.languages import BleuTokenizer


def compare(
    systems: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]RUN|FILE[,...]...",
            help="Runs, or files of translations; the first is the baseline. Runs that differ in their seed alone are "
            "one system; NAME=RUN,RUN,... says so of any.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the report goes.")
    ] = Path("comparison"),
    split: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            metavar="SPLIT",
            help="May be given several times: the sentences of all are then scored together, as one set; default test.",
            show_default=False,
        ),
    ] = None,
    beam: BeamOption = None,
    length_penalty: PenaltyOption = None,
    sources: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Source sentences, where no run is compared.", show_default=False),
    ] = None,
    references: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Their references; may be given several times.", show_default=False
        ),
    ] = None,
    exposure: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Measure exposure bias on at most N sentences of each split.",
            show_default=False,
        ),
    ] = None,
    comet: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Score with COMET too, by comet-score on the path.", show_default=False
        ),
    ] = None,
    bleu_tokenizer: Annotated[
        BleuTokenizer | None,
        typer.Option(
            help="What cuts text into BLEU's words; default the first run's, of files alone 13a.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Compare systems on the same sentences, with intervals and significance against the first."""
    from l2s_nmt.evaluation.exposure import exposure_of_run
    from l2s_nmt.evaluation.report import render_terminal, write_comparison
    from l2s_nmt.evaluation.systems import Options, compare_prepared, group_systems, prepare
    from l2s_nmt.evaluation.texts import decoding_text
    from l2s_nmt.files import refuse_unwritable_folder, writing_to
    from l2s_nmt.processes import together

    of_runs = {
        "--split": split,
        "--beam": beam,
        "--length-penalty": length_penalty,
        "--exposure": exposure,
    }
    unused = [option for option, value in of_runs.items() if value is not None]
    if unused and (sources or references):
        raise UserError(f"{unused[0]} is of runs, and files bring their own sentences; leave it out")
    with together() as processes:
        with processes.main_first():  # which says alone what is wrong
            given = _read_references(sources, references or []) if sources or references else None
            options = Options(split or ["test"], beam, length_penalty, exposure, comet, bleu_tokenizer)
            prepared = prepare(group_systems(systems), options, given)
            if processes.is_main:
                refuse_unwritable_folder(output)
        for run, name, decoding in prepared.evaluations():
            evaluate_split(run, name, decoding, processes)
    if not processes.is_main:
        return
    for run, name, most in prepared.exposures():
        with progress(f"{run.name}: exposure bias, {name}", None, processes) as advance:
            exposure_of_run(run, name, most, advance.at)
    compared = compare_prepared(prepared)
    with writing_to(output):
        write_comparison(compared, output)
    console().print(render_terminal(compared))
    if ways := decoding_text(compared):
        say(f"decoding: {ways}")
    for metric, signature in compared.signatures.items():
        say(f"{metric}: {signature}")
    say(f"report: {output / 'comparison.html'}")


def _read_references(sources: Path | None, references: list[Path]) -> tuple[list[str], list[list[str]]]:
    if sources is None or not references:
        raise UserError("compare: without a run to take them from, give --sources FILE and --references FILE")
    texts = read_lines(_existing(sources))
    return texts, read_references([_existing(path) for path in references], sources, len(texts))


def _existing(path: Path) -> Path:
    from l2s_nmt.files import is_file

    if not is_file(path):
        raise UserError(f"{path}: no such run or file of translations")
    return path
