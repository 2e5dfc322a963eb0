"""``l2s-nmt train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from l2s_nmt.commands.terminal import note


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to train.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY.SUB=VALUE]...", help="Settings on top of the recipe.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="RUN",
            help="The run directory; may be left out with --dry-run.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check recipe and data, say what would be trained, and end.")
    ] = False,
) -> None:
    """Train a model from a recipe; the same command goes on where an interrupted run stopped."""
    from l2s_nmt.errors import UserError
    from l2s_nmt.recipe_file import dump_recipe, read_recipe

    resolved = read_recipe(recipe, overrides or [])
    if dry_run:
        from l2s_nmt.training.prepare import dry_run as check

        counts = check(resolved, note)
        typer.echo(dump_recipe(resolved), nl=False)
        size = (
            f"{counts['batches']:,} updates in the first block of {resolved.data.block:,} rows"
            if counts["sentences"] is None
            else f"{counts['sentences']:,} training sentences, {counts['batches']:,} updates an epoch"
        )
        typer.echo(f"# {counts['parameters']:,} parameters, {size}")
        return
    if output is None:
        raise UserError(
            "train: say where the run goes with --output RUN (or check the recipe with --dry-run)"
        )
    from l2s_nmt.run import locked
    from l2s_nmt.training.train import train as run_training

    with locked(output):
        run_training(resolved, output)
