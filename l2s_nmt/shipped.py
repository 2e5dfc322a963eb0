"""The recipes that come with the project: found in its checkout, or in what was installed."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from l2s_nmt.errors import UserError

_INSTALLED = Path(__file__).parent / "recipes"
FOLDER = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parent.parent / "recipes"


def list_recipes() -> dict[str, str]:
    """What each recipe trains, by its name ``corpus/algorithm``: the first line of its comment."""
    found = {}
    for path in sorted(FOLDER.glob("*/*.yaml")):
        if path.parent.name != "accelerate":  # settings of the launcher
            with path.open(encoding="utf-8") as file:
                found[f"{path.parent.name}/{path.stem}"] = file.readline().strip().removeprefix("# ")
    return found


def read_recipe_text(name: str) -> str:
    """The text of a recipe.

    Raises:
        UserError: there is none of that name.
    """
    names = list_recipes()
    name = name.removesuffix(".yaml")
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"{name}: no recipe of that name{hint}\n  " + "\n  ".join(names))
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
