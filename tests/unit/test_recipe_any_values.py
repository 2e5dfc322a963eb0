"""Whatever is written into a recipe, it is a recipe or an error that a user can read."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from l2s_nmt.errors import UserError
from l2s_nmt.recipe import Recipe
from l2s_nmt.recipe_file import as_settings, dump_recipe, make_recipe, read_recipe
from l2s_nmt.search.algorithms import ALGORITHMS
from tests.helpers import ROOT

DATA = {"files": "corpus", "source_language": "de", "target_language": "en"}
TEXT = "data: {files: corpus, source_language: de, target_language: en}\nsearch: {algorithm: lols}\n"
SHIPPED = ROOT / "recipes" / "eutrans_es_en" / "lols.yaml"


def paths_in(settings_: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    paths = []
    for key, value in settings_.items():
        paths.append((*above, key))
        if isinstance(value, dict):
            paths += paths_in(value, (*above, key))
    return paths


FULL = as_settings(make_recipe({"data": {**DATA, "embedded": {}}, "search": {"algorithm": "lols"}}))


KEYS = st.sampled_from(sorted({key for path in paths_in(FULL) for key in path}))
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.dates()
    | st.sampled_from([*ALGORITHMS, "kl", "full", "learned", "none", "de", "en", 10**400, -0.0])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)


def only_user_errors(action: Any) -> Recipe | None:
    try:
        recipe = action()
    except UserError:
        return None
    assert isinstance(recipe, Recipe)
    return recipe


@given(st.dictionaries(KEYS | st.text(max_size=3), VALUES, max_size=4), st.booleans())
@settings(deadline=None, max_examples=150)
def test_any_nested_values_are_a_recipe_or_an_error(values: dict[str, Any], with_data: bool) -> None:
    if with_data:
        values = {
            **values,
            "data": {**DATA, **(values["data"] if isinstance(values.get("data"), dict) else {})},
        }
    recipe = only_user_errors(lambda: make_recipe(values))
    if recipe is not None:
        assert make_recipe(as_settings(recipe)) == recipe


@given(st.sampled_from(paths_in(FULL)), VALUES | st.floats(0, 2) | st.integers(0, 9))
@settings(deadline=None, max_examples=300)
def test_any_value_at_any_key_is_a_recipe_that_reads_back_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, path: tuple[str, ...], value: Any
) -> None:
    changed = json.loads(json.dumps(FULL))
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    recipe = only_user_errors(lambda: make_recipe(changed))
    if recipe is None:
        return
    found: Any = as_settings(recipe)
    for key in path:
        found = found[key]
    if path[-1] == "p_reference" and not isinstance(value, dict):
        found = found["start"]  # a number stands for a constant schedule
    if isinstance(value, int | float) and not isinstance(value, bool):
        assert math.isclose(found, value)
    file = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    file.write_text(dump_recipe(recipe), encoding="utf-8")
    assert read_recipe(file) == recipe


@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_a_recipe_or_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    for text in (content, TEXT.encode() + content, TEXT.encode() + b"seed: " + content):
        path.write_bytes(text)
        only_user_errors(lambda: read_recipe(path))


MARKS = st.text(st.sampled_from(list("ab=.:{}[]&*!|>'\"%@`?-#,1e\n\t ~<")), max_size=12)


@given(st.lists(MARKS | st.text(max_size=8) | st.builds("{}={}".format, KEYS, MARKS), max_size=3))
@example(["search=&x {loss: *x}", "search=&x {loss: *x}"])
@example(["data={<<: {files: 1}}"])
@settings(deadline=None, max_examples=300)
def test_any_overrides_are_a_recipe_or_an_error(overrides: list[str]) -> None:
    only_user_errors(lambda: read_recipe(SHIPPED, overrides))
