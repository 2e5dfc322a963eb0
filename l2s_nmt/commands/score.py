"""``l2s-nmt score``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from l2s_nmt.commands.options import RunArgument, WeightsOption
from l2s_nmt.commands.terminal import note, progress
from l2s_nmt.commands.texts import STANDARD_INPUT, read_lines, read_references

if TYPE_CHECKING:
    from l2s_nmt.evaluation.likelihood import Likelihood
    from l2s_nmt.evaluation.runs import TestSet
    from l2s_nmt.run import Run


def score(
    run: RunArgument,
    translations: Annotated[
        Path,
        typer.Argument(
            metavar="TRANSLATIONS",
            help="A file, one translation a line; - for standard input.",
            show_default=False,
        ),
    ],
    split: Annotated[
        str | None,
        typer.Option(
            "--split", metavar="SPLIT", help="What is translated; default test.", show_default=False
        ),
    ] = None,
    sources: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Else the source sentences.", show_default=False),
    ] = None,
    references: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Their references; may be given several times.", show_default=False
        ),
    ] = None,
    cost: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="May be given several times; default the recipe's.", show_default=False
        ),
    ] = None,
    weights: WeightsOption = "best",
) -> None:
    """Print what the model thinks of given translations: log-probabilities and costs, one line each."""
    from l2s_nmt.evaluation.likelihood import likelihood_by_run
    from l2s_nmt.processes import together
    from l2s_nmt.run import Run

    trained = Run(run)
    with together() as processes:
        given = processes.from_main(lambda: _texts(trained, translations, split, sources, references or []))
        with progress("scoring", len(given[0]), processes) as advance:
            found = likelihood_by_run(
                trained,
                *given,
                costs=cost or None,
                origin="standard input" if translations == STANDARD_INPUT else str(translations),
                weights=weights,
                processes=processes,
                done=advance,
            )
    if processes.is_main:
        _show(found)


def _texts(
    run: Run, translations: Path, split: str | None, sources: Path | None, references: Sequence[Path]
) -> tuple[list[str], TestSet]:
    from l2s_nmt.errors import UserError
    from l2s_nmt.evaluation.runs import TestSet, read_test_set

    if sources is None and references:
        raise UserError("score: --references belong to --sources; give --sources FILE, or leave them out")
    if sources is not None and split is not None:
        raise UserError("score: --sources and --split both say what is translated; give one of them")
    files = [translations, *([] if sources is None else [sources]), *references]
    if files.count(STANDARD_INPUT) > 1:
        raise UserError("score: standard input (-) is given twice, and can be read once; give a file")
    recipe = run.read_recipe()
    lines = read_lines(translations)
    if sources is None:
        return lines, read_test_set(recipe, split or "test")
    texts = read_lines(sources)
    return lines, TestSet("", texts, read_references(references, sources, len(texts)), str(sources))


def _show(found: Sequence[Likelihood]) -> None:
    """A table on standard output, and what it comes to on standard error."""
    names = list(found[0].costs) if found else []
    typer.echo("\t".join(["line", "log_probability", "tokens", "per_token", *names]))
    for line, one in enumerate(found, start=1):
        costs = (f"{one.costs[name]:.6f}" for name in names)
        typer.echo(
            "\t".join(
                [f"{line}", f"{one.log_probability:.6f}", f"{one.tokens}", f"{one.per_token:.6f}", *costs]
            )
        )
    total, tokens = math.fsum(one.log_probability for one in found), sum(one.tokens for one in found)
    parts = [f"{len(found):,} translations, {tokens:,} tokens, log-probability {total:.2f}"]
    if found:
        parts.append(f"{total / tokens:.4f} per token")
        parts += [
            f"mean {name} {math.fsum(one.costs[name] for one in found) / len(found):.4f}" for name in names
        ]
    note(", ".join(parts))
