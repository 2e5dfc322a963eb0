"""Train neural translation models by learning to search.

import l2s_nmt

recipe = l2s_nmt.read_recipe("recipes/quickstart/teacher_forcing.yaml")
run = l2s_nmt.train(recipe, "runs/mine")
print(l2s_nmt.evaluate(run, "test").bleu.score)
print(l2s_nmt.translate(run, ["..."]))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from l2s_nmt.api import (
        compare,
        evaluate,
        explain,
        load_translator,
        n_best,
        open_run,
        score,
        train,
        translate,
    )
    from l2s_nmt.errors import Interrupted, TrainingFailed, UserError
    from l2s_nmt.evaluation.draw import Sampling
    from l2s_nmt.evaluation.translate import Hypothesis, Translator
    from l2s_nmt.recipe import Recipe
    from l2s_nmt.recipe_file import make_recipe, read_recipe

__all__ = [
    "Hypothesis",
    "Interrupted",
    "Recipe",
    "Sampling",
    "TrainingFailed",
    "Translator",
    "UserError",
    "compare",
    "evaluate",
    "explain",
    "load_translator",
    "make_recipe",
    "n_best",
    "open_run",
    "read_recipe",
    "score",
    "train",
    "translate",
]

_HOMES = {
    "Hypothesis": "evaluation.translate",
    "Translator": "evaluation.translate",
    "Interrupted": "errors",
    "TrainingFailed": "errors",
    "Sampling": "evaluation.draw",
    "Recipe": "recipe",
    "UserError": "errors",
    "make_recipe": "recipe_file",
    "read_recipe": "recipe_file",
}


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    # Looked up when used, so that a command's --help need not wait for torch.
    if name == "__version__":
        return import_module("importlib.metadata").version("l2s-nmt")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'api')}"), name)
