"""Arguments and options that several commands have."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import typer

RunArgument = Annotated[Path, typer.Argument(help="A run directory.", metavar="RUN", show_default=False)]


SplitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--split", metavar="SPLIT", help="May be given several times; default test.", show_default=False
    ),
]
BeamOption = Annotated[
    int | None,
    typer.Option("--beam", min=1, help="Beams; 1 is greedy; default the recipe's.", show_default=False),
]


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number")
    return value


PenaltyOption = Annotated[
    float | None,
    typer.Option("--length-penalty", help="Default the recipe's.", show_default=False, callback=_finite),
]

WeightsOption = Annotated[
    Literal["best", "last", "average"],
    typer.Option("--weights", help="The best by validation BLEU, the last, or the average of the weights."),
]
