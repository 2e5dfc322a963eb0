"""Code of the user's own, on which a run depends as on its recipe: a copy stays with the run.

RUN/code/MODULE.py    the file of each module that the recipe names a cost, a loss or a reference of
"""

from __future__ import annotations

from pathlib import Path

from l2s_nmt.errors import UserError
from l2s_nmt.files import write_text
from l2s_nmt.recipe_search import Search
from l2s_nmt.run import Run
from l2s_nmt.search.costs.own import load_module


def same_code(run: Run, search: Search) -> None:
    """Keep what a run's own functions are, or see that they still are those that it was begun with.

    What their modules import is not looked at.

    Raises:
        UserError: they are others, or cannot be loaded.
    """
    for name, source in _sources(search).items():
        text, kept = source.read_text(encoding="utf-8", errors="replace"), run.code / f"{name}.py"
        if not kept.exists():
            write_text(kept, text)
        elif kept.read_text(encoding="utf-8") != text:
            raise UserError(
                f"{run.path}: was begun with another {name}: {source} is no longer what {kept} is; bring that back, or "
                "choose another --output"
            )


def _sources(search: Search) -> dict[str, Path]:
    """The file of each module, by the module's name; what is not written in Python has none."""
    costs = search.cost.terms or (search.cost,)
    functions = (*(cost.function for cost in costs), search.loss.function, search.reference.function)
    found = {}
    for module in (load_module(function) for function in functions if function is not None):
        source = getattr(module, "__file__", None)
        if source is not None and source.endswith(".py"):
            found[module.__name__] = Path(source)
    return found
