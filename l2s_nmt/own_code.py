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
    if changed := changed_code(run, search):
        raise UserError(f"{run.path}: {changed}; bring that back, or choose another --output")
    for name, source in _sources(search).items():
        if not (kept := _kept(run, name)).exists():
            write_text(kept, _text(source))


def changed_code(run: Run, search: Search) -> str | None:
    """Which of the functions that a run was begun with is another now; None: none.

    Raises:
        UserError: one cannot be loaded.
    """
    for name, source in _sources(search).items():
        kept = _kept(run, name)
        if kept.exists() and _text(kept) != _text(source):
            return f"was begun with another {name}: {source} is no longer what {kept} is"
    return None


def _kept(run: Run, name: str) -> Path:
    return run.code / f"{name}.py"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


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
