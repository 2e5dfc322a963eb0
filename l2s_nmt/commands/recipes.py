"""``l2s-nmt recipes``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="One of them, to be copied out.", metavar="[CORPUS/ALGORITHM]")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default standard output.", show_default=False),
    ] = None,
) -> None:
    """List the recipes that come with the project, or copy one out."""
    from l2s_nmt.errors import UserError
    from l2s_nmt.files import write_text, writing_to
    from l2s_nmt.shipped import list_recipes, read_recipe_text

    if name is None and output is not None:
        raise UserError("recipes: --output is of one recipe; name it, as in quickstart/aggrevated")
    if name is None:
        found = list_recipes()
        width = max(map(len, found))
        typer.echo("\n".join(f"{key:<{width}}  {line}" for key, line in found.items()))
        return
    text = read_recipe_text(name)
    if output is None:
        typer.echo(text, nl=False)
        return
    if os.path.exists(output):
        raise UserError(f"{output}: is there already; choose another --output")
    with writing_to(output):
        write_text(output, text)
