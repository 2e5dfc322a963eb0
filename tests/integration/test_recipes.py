"""The shipped recipes are listed, copied out, and read."""

from __future__ import annotations

from pathlib import Path

import pytest

from l2s_nmt.recipe_file import read_recipe
from l2s_nmt.shipped import list_recipes
from tests.helpers import ROOT, command, done

NAMES = sorted(
    f"{path.parent.name}/{path.stem}"
    for path in (ROOT / "recipes").glob("*/*.yaml")
    if path.parent.name != "accelerate"
)


def test_every_recipe_has_a_line_that_says_what_it_trains() -> None:
    lines = done(command("recipes")).out.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert all(20 < len(line.split(maxsplit=1)[1]) < 140 for line in lines)
    assert len(set(list_recipes().values())) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_copied_out_as_it_is(name: str, tmp_path: Path) -> None:
    shipped = ROOT / "recipes" / f"{name}.yaml"
    assert done(command("recipes", name)).out == shipped.read_text()
    copy = tmp_path / "copy.yaml"
    done(command("recipes", name, "--output", copy))
    assert read_recipe(copy, []) == read_recipe(shipped, [])
    assert f"{copy}: is there already" in command("recipes", name, "--output", copy).error()


def test_a_file_without_a_name_is_refused(tmp_path: Path) -> None:
    assert "--output is of one recipe; name it" in command("recipes", "--output", tmp_path / "x").error()
    assert not [*tmp_path.iterdir()]


def test_a_name_that_is_none_is_refused_with_those_there_are() -> None:
    message = command("recipes", "../README").error()
    assert "quickstart/aggrevated" in message
