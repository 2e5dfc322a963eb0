"""Recipes made to do harm: each is refused at once, with its place, and nothing in it is run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from l2s_nmt.errors import UserError
from l2s_nmt.recipe import Recipe
from l2s_nmt.recipe_file import dump_recipe, make_recipe, read_recipe
from tests.helpers import ROOT, command

BASE = """\
data: {source_language: a, target_language: b, embedded: {train: 10}}
training: {max_updates: 3}
"""
SHIPPED = sorted((ROOT / "recipes").rglob("*.yaml"))
LINES = [line for path in SHIPPED for line in path.read_text(encoding="utf-8").splitlines(keepends=True)]


def bomb(inner: str, outer: str) -> str:
    """Nine lines of aliases to aliases: 9**9 values, written out."""
    lines = [f"a: &a {inner}"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} {outer.format(', '.join(f'*{before}' for _ in range(9)))}")
    return "\n".join(lines) + "\n"


def refused(path: Path, text: str) -> str:
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    begun = time.process_time()
    with pytest.raises(UserError) as caught:
        read_recipe(path)
    assert time.process_time() - begun < 5
    message = str(caught.value)
    assert message.startswith(str(path))
    assert len(message) < 5_000
    return message


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "recipe.yaml"


@pytest.mark.parametrize(
    "text", [bomb("[x, x]", "[{0}]"), bomb("{k: x}", "{{<<: [{0}]}}"), BASE + bomb("[x]", "[{0}, y]")]
)
def test_a_few_lines_of_aliases_do_not_fill_the_memory(text: str, file: Path) -> None:
    assert "it stands for more than 20,000 values, aliases written out" in refused(file, text)


def test_a_few_aliases_are_welcome(file: Path) -> None:
    file.write_text(
        "data: {source_language: a, target_language: b, embedded: &sizes {train: 10, seed: 4}}\n"
        "training: &limit {max_updates: 3}\nevaluation: {<<: {beam: 2}, max_length: 9}\n"
    )
    recipe = read_recipe(file)
    assert (recipe.evaluation.beam, recipe.evaluation.max_length) == (2, 9)


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch {}']",
        "!!python/object/new:os.system ['touch {}']",
        "!!python/object/apply:subprocess.check_output [[touch, '{}']]",
        "!!python/name:os.system",
        "!!python/module:antigravity",
        "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch {}']",
    ],
)
def test_no_tag_runs_anything(tag: str, file: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    message = refused(file, f"{BASE}seed: {tag.format(trace)}\n")
    assert ", line 3: not valid YAML: could not determine a constructor for the tag" in message
    with pytest.raises(UserError, match="the value is not YAML"):
        make_override(file, f"seed={tag.format(trace)}")
    assert not trace.exists()


def make_override(file: Path, *items: str) -> Recipe:
    file.write_text(BASE)
    return read_recipe(file, items)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("seed: !!bool abc", ", line 3: not valid YAML: abc cannot be read"),
        ("seed: !!timestamp abc", ", line 3: not valid YAML: abc cannot be read"),
        ("seed: !!int abc", ", line 3: not valid YAML: abc cannot be read"),
        ("seed: " + "9" * 5_000, ", line 3: not valid YAML: 99999"),
        ("seed: !!binary x", ", line 3: not valid YAML: failed to decode base64 data"),
        ("seed: 2001-12-14t21:59:43.10-99:99", ", line 3: not valid YAML: 2001"),
        ("? {a: 1}\n: 2", ", line 3: not valid YAML: a key must be text"),
        ("1: 2\n'1': 3", ", line 4: not valid YAML: the key '1' is given twice"),
        ("seed: .nan", ", line 3: seed: found NaN, it should be a valid integer"),
        ("evaluation: {length_penalty: -.inf}", ", line 3: evaluation.length_penalty: found -Infinity, it"),
        ("seed: " + "[" * 3_000, ": not valid YAML: nested too deeply"),
        ("evaluation: {beam: 9" + "0" * 30 + "}", ", line 3: evaluation.beam: found 9000"),
        (
            "model: {architecture: {d_model: 9000000, heads: 1}}",
            ", line 3: model.architecture.d_model: found",
        ),
        ('model: {from_run: "a\\0b"}', ", line 3: model.from_run holds a NUL"),
        ('model: {from_run: "\\ud800"}', ", line 3: model.from_run holds a NUL or half of a surrogate pair"),
        ('"\\ud800": 1', ", line 3: \ud800 holds a NUL or half of a surrogate pair"),
        ("? " + "k" * 200_000 + "\n: 1", ", line 3: unknown key kkk"),
        ("x" * 300_000, ": is larger than 262,144 bytes"),
    ],
    ids=lambda text: text[:25].encode("ascii", "replace").decode(),
)
def test_what_a_recipe_cannot_hold_is_refused_with_its_line(line: str, expected: str, file: Path) -> None:
    assert refused(file, f"{BASE}{line}\n").startswith(f"{file}{expected}")


def test_a_thousand_mistakes_do_not_fill_the_screen(file: Path) -> None:
    message = refused(file, BASE + "".join(f"k{number}: 1\n" for number in range(1_000)))
    assert message.count("\n") == 20
    assert message.endswith("980 more of the kind")


@pytest.mark.parametrize("item", ["a." * 5_000 + "b=1", "x" * 100_000 + "=1", "search." * 21 + "x=1"])
def test_no_override_is_too_long_to_be_named(item: str, file: Path) -> None:
    with pytest.raises(UserError) as caught:
        make_override(file, item)
    assert str(caught.value).startswith(f"override '{item[:50]}")
    assert len(str(caught.value)) < 500


# ---- whatever is written -------------------------------------------------------------------------

MARKS = (
    "&a",
    "*a",
    "<<:",
    "[",
    "]",
    "{",
    "}",
    "-",
    "?",
    ":",
    "|",
    ">",
    "'",
    '"',
    "!",
    "#",
    "---",
    "%YAML",
    "~",
)
TAGS = ("!!str ", "!!python/name:os.system ", "!!set ", "!!binary ", "!!omap ", "!!timestamp ")
SPACE = ("\n", "\n  ", "\t", " ", "\0", "\x1b[31m", "\u202e", "\u2028", "\ufeff", "\\ud800")
SCALARS = ("1e999", "0x", "9" * 50, ".nan", "2020-02-30", "1:60", "=", "null", "yes")
PIECES = st.sampled_from(MARKS + TAGS + SPACE + SCALARS)


def mutate(text: str, cuts: list[tuple[float, int, str]]) -> str:
    for place, length, piece in cuts:
        start = int(place * len(text))
        text = text[:start] + piece + text[start + length :]
    return text


def check(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        recipe = read_recipe(path)
    except UserError as error:
        message = str(error)
    else:
        path.write_text(dump_recipe(recipe), encoding="utf-8")
        assert read_recipe(path) == recipe
        return
    assert message.startswith(str(path))


@given(
    st.sampled_from(SHIPPED),
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 8), PIECES | st.text(max_size=3)), min_size=1, max_size=4
    ),
)
@settings(deadline=None, derandomize=True, max_examples=150)
def test_a_shipped_recipe_with_anything_in_it_is_a_recipe_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, path: Path, cuts: list[tuple[float, int, str]]
) -> None:
    check(tmp_path_factory.mktemp("recipe") / "recipe.yaml", mutate(path.read_text(encoding="utf-8"), cuts))


@given(st.lists(st.sampled_from(LINES) | PIECES, max_size=25).map("".join))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_lines_of_recipes_in_any_order_are_a_recipe_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    check(tmp_path_factory.mktemp("recipe") / "recipe.yaml", text)


@given(st.text(st.characters(codec=None), max_size=8) | PIECES, st.lists(PIECES, max_size=4).map("".join))
@example("", "")
@example("data.files", "\ud800")
@example("data.source_language", "'\\0'")
@settings(deadline=None, derandomize=True, max_examples=100)
def test_any_override_is_taken_or_named(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: str
) -> None:
    file = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    item = f"{key}={value}"
    try:
        make_override(file, item)
    except UserError as error:
        message = str(error)
    else:
        return
    assert message.startswith(("override ", str(file)))


def hashable(value: object) -> bool:
    return not isinstance(value, set)


OBJECTS = (
    st.binary() | st.complex_numbers() | st.sets(st.integers()) | st.tuples(st.text()) | st.just(object())
)


@given(st.dictionaries(st.sampled_from(["data", "seed", "model"]) | OBJECTS.filter(hashable), OBJECTS))
@settings(deadline=None, derandomize=True, max_examples=50)
def test_any_object_from_python_is_a_recipe_or_an_error(values: dict[Any, Any]) -> None:
    values |= {"training": {"max_updates": 3}}
    with pytest.raises(UserError):
        make_recipe(values)


@pytest.mark.parametrize(
    "text", [bomb("[x, x]", "[{0}]"), '"\\e]0;title\\a": 1\n', "seed: !!bool x\n", "\ufeff\0", "- 1"]
)
def test_the_command_line_refuses_them_in_plain_characters(text: str, file: Path) -> None:
    file.write_text(text, encoding="utf-8")
    message = command("train", file, "--dry-run").error()
    assert all(character == "\n" or character >= " " for character in message)
