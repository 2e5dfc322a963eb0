"""Searches as a recipe makes them, for tiny policies whose tokens are spelt as words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from l2s_nmt.build_cost import Texts
from l2s_nmt.recipe import Recipe
from l2s_nmt.recipe_file import make_recipe, merge
from l2s_nmt.search.context import LengthLimit
from l2s_nmt.search.search import Search
from l2s_nmt.training.build_search import build_search

LIMIT = LengthLimit(1.0, 3)
DATA = {"files": "corpus", "source_language": "de", "target_language": "en"}


def spell(ids: Sequence[Sequence[int]]) -> list[str]:
    """A word for each token."""
    return [" ".join(f"word{token}" for token in sequence) for sequence in ids]


TEXTS = Texts(source=spell, target=spell)
NEEDED: dict[str, Any] = {"imitkd": {"roll_out": {"experts": ["another_run"]}}}
"""What has no default in the row of an algorithm."""


def recipe_of(algorithm: str, **search: Any) -> Recipe:
    """A recipe with the row of an algorithm and settings of its search on top."""
    needed = NEEDED.get(algorithm, {})
    return make_recipe({"data": DATA, "search": merge({"algorithm": algorithm, **needed}, search)})


def search_of(algorithm: str, limit: LengthLimit = LIMIT, **search: Any) -> Search:
    """The stages of a recipe that searches."""
    stages = build_search(recipe_of(algorithm, **search).search, limit, TEXTS)
    assert stages is not None
    return stages
