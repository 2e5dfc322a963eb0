"""Read a recipe: YAML, command-line overrides and the algorithm's row, merged and validated.

Every error names the file, the line, the path of the key, what was found, what is allowed and, for an unknown
key, the nearest valid one.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import RootModel, TypeAdapter, ValidationError

from l2s_nmt.arguments import path_of, strings
from l2s_nmt.errors import UserError
from l2s_nmt.plain_text import shorten
from l2s_nmt.recipe import Recipe
from l2s_nmt.recipe_yaml import KeyPath, dump_yaml, load_yaml
from l2s_nmt.search.algorithms import ALGORITHMS
from l2s_nmt.search.losses.table import LOSSES
from l2s_nmt.shipped import list_recipes

Settings = dict[str, Any]

_ADAPTER = TypeAdapter(Recipe)
_DUMP = RootModel[Recipe]
_SECTIONS = ("tokenizer", "model", "search", "training", "evaluation")
_MOST_BYTES = 2**18
"""Of a recipe file; a larger one is something else, given by mistake."""
_MOST_KEYS = 20
"""One below the other in an override."""
_SHOWN = 20
"""Errors that are told at once."""


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, with ``key.sub=value`` overrides on top.

    Raises:
        UserError: the file cannot be read, or something in it is unknown, of a wrong type or impossible.
    """
    if isinstance(path, Mapping):
        raise UserError(f"{shorten(repr(path))} is no file; make a recipe of it by l2s_nmt.make_recipe")
    items = strings(overrides, "overrides")
    text = _read_text(path_of(path, "recipe"))
    given, lines = _parse(text, str(path))
    sources: dict[KeyPath, str] = {}
    for item in items:
        settings = parse_overrides([item])
        given = put_over(given, settings)
        sources.update(dict.fromkeys(_paths(settings), _shown(item)))
    return _validate(given, str(path), lines, sources)


def make_recipe(settings: Mapping[str, Any]) -> Recipe:
    """The recipe from nested plain values, as a YAML file would give them.

    Raises:
        UserError: something in it is unknown, of a wrong type or impossible.
    """
    if not isinstance(settings, Mapping):
        raise UserError(f"{shorten(repr(settings))} is no mapping of keys to values; give a dict")
    return _validate(dict(settings), "recipe", {}, {})


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML, every key that is used written out; reads back as the same recipe."""
    return dump_yaml(as_settings(recipe))


def as_settings(recipe: Recipe) -> Settings:
    """The recipe as nested plain values, without the keys that a model or tokenizer from elsewhere leaves unused."""
    settings: Settings = _DUMP(recipe).model_dump(mode="json")
    if recipe.model.from_run is not None or recipe.model.pretrained is not None:
        del settings["tokenizer"], settings["model"]["architecture"]
    elif recipe.tokenizer.pretrained is not None:
        settings["tokenizer"] = {"pretrained": recipe.tokenizer.pretrained}
    return settings


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with its folders named from the root, so that they are found from wherever a command starts."""
    # Of what may be an id on the hub, too, only what is there.
    return map_folders(
        recipe, os.path.abspath, lambda name: os.path.abspath(name) if os.path.exists(name) else name
    )


def map_folders(recipe: Recipe, folder: Callable[[str], str], folder_or_id: Callable[[str], str]) -> Recipe:
    """The recipe with other names for its folders.

    Args:
        recipe: any.
        folder: the new name of a folder.
        folder_or_id: the new name of what is a folder, a tokenizer's file or an id on the hub.
    """
    data, model, roll_in = recipe.data, recipe.model, recipe.search.roll_in
    tokenizer = recipe.tokenizer.pretrained
    crossed = tuple(map(folder, roll_in.cross_trained))
    experts = tuple(map(folder, recipe.search.roll_out.experts))
    return replace(
        recipe,
        data=replace(data, files=data.files and folder(data.files), hub=data.hub and folder_or_id(data.hub)),
        tokenizer=replace(recipe.tokenizer, pretrained=tokenizer and folder_or_id(tokenizer)),
        model=replace(
            model,
            from_run=model.from_run and folder(model.from_run),
            pretrained=model.pretrained and folder_or_id(model.pretrained),
        ),
        search=replace(
            recipe.search,
            roll_in=replace(roll_in, cross_trained=crossed),
            roll_out=replace(recipe.search.roll_out, experts=experts),
        ),
    )


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> Settings:
    """Nested settings with those of ``top`` over those of ``base``."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def put_over(base: Mapping[str, Any], top: Mapping[str, Any]) -> Settings:
    """Settings of a recipe with others over them; a tokenizer that is there replaces all keys of one to be trained."""
    tokenizer = top.get("tokenizer")
    if isinstance(tokenizer, dict) and tokenizer.get("pretrained") is not None:
        base = {**base, "tokenizer": {}}
    return merge(base, top)


def parse_overrides(overrides: Iterable[str]) -> Settings:
    """``a.b=value`` items as nested settings; values are read as YAML.

    Raises:
        UserError: an item has no ``=``, an empty key, or a value that is not YAML.
    """
    settings: Settings = {}
    for item in overrides:
        keys, text = _split(item)
        nested, _ = load_yaml(text, _shown(item), "the value is not YAML", numbered=False)
        for key in reversed(keys):
            nested = {key: nested}
        settings = merge(settings, nested)
    return settings


def _split(item: str) -> tuple[KeyPath, str]:
    key, equals, value = item.partition("=")
    keys = tuple(key.strip().split("."))
    if not equals or not all(keys) or len(keys) > _MOST_KEYS:
        raise UserError(f"{_shown(item)}: write it as key.sub=value, for example training.max_updates=100")
    return keys, value


def _shown(item: str) -> str:
    return f"override {shorten(repr(item))}"


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            raw = stream.read(_MOST_BYTES + 1)
        if len(raw) > _MOST_BYTES:
            raise UserError(f"{path}: is larger than {_MOST_BYTES:,} bytes; give a recipe file (.yaml)")
        return raw.decode("utf-8")
    except FileNotFoundError:
        name = str(path).removesuffix(".yaml")
        advice = (
            f"; to copy the one that comes with the project: l2s-nmt recipes {name} -o my.yaml"
            if name in list_recipes()
            else ""
        )
        raise UserError(f"{path}: no such recipe{advice}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; give a recipe file (.yaml)") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def _parse(text: str, name: str) -> tuple[Settings, dict[KeyPath, int]]:
    value, lines = load_yaml(text, name, "not valid YAML", numbered=True)
    if value is None:
        raise UserError(f"{name}: the recipe is empty; it needs at least data and training")
    if not isinstance(value, dict):
        raise UserError(f"{name}: a recipe is a mapping of keys to values, found {_describe(value)}")
    return value, lines


def _paths(settings: Settings, above: KeyPath = ()) -> Iterable[KeyPath]:
    for key, value in settings.items():
        yield (*above, str(key))
        if isinstance(value, dict):
            yield from _paths(value, (*above, str(key)))


def _validate(
    given: Settings, name: str, lines: Mapping[KeyPath, int], sources: Mapping[KeyPath, str]
) -> Recipe:
    # A section that is empty, or set to null on the command line, has its defaults.
    given = {key: value for key, value in given.items() if value is not None or key not in _SECTIONS}
    settings = _with_algorithm(given)
    try:
        text = json.dumps(settings, default=str)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{name}: a key or value is of a kind a recipe cannot hold: {error}") from error
    for path, value in _texts(given):
        if value.isascii() and "\0" not in value:
            continue
        if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value):
            raise UserError(
                f"{_where(path, name, lines, sources)}: {shorten('.'.join(path))} holds a NUL or half of a "
                "surrogate pair, which is no text; remove it"
            )
    try:
        recipe = _ADAPTER.validate_json(text)
    except ValidationError as error:
        problems = [_explain(item, name, lines, sources) for item in error.errors(include_url=False)]
        further = len(problems) - _SHOWN
        if further > 0:
            problems[_SHOWN:] = [f"{name}: {further:,} more of the kind"]
        raise UserError("\n".join(problems)) from None
    _refuse_unused(recipe, given, name)
    # A shell leaves the ~ of data.files=~/corpus as it is.
    return map_folders(recipe, os.path.expanduser, os.path.expanduser)


def _texts(value: Any, path: KeyPath = ()) -> Iterable[tuple[KeyPath, str]]:
    """Every key and every text below it, with its place."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, str(key)), str(key)
            yield from _texts(inner, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, path)


def _with_algorithm(given: Settings) -> Settings:
    search = given.get("search", {})
    if not isinstance(search, dict):
        return given
    algorithm = search.get("algorithm", "teacher_forcing")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        return given
    row: Settings = {"algorithm": algorithm, **ALGORITHMS[algorithm].settings}
    usual, own = row["loss"], search.get("loss")
    if isinstance(own, dict) and own.get("name", usual.get("name")) != usual.get("name"):
        # Its scale and support are those of the loss that another one has replaced.
        row["loss"] = {key: value for key, value in usual.items() if key not in ("alpha", "support")}
    return _with_alpha(merge({"search": row}, given))


def _with_alpha(settings: Settings) -> Settings:
    """Fill in the scale where the loss has one."""
    loss = settings["search"].get("loss") or {}
    row = LOSSES.get(str(loss.get("name"))) if isinstance(loss, dict) else None
    if row is None or not row.uses_alpha or loss.get("alpha") is not None:
        return settings
    return merge(settings, {"search": {"loss": {"alpha": row.alpha}}})


def _refuse_unused(recipe: Recipe, given: Settings, name: str) -> None:
    start, tokenizer = recipe.model.from_run or recipe.model.pretrained, recipe.tokenizer.pretrained
    if start is not None:
        reason = f"is not used, because the model comes from {start}; remove it"
        if "tokenizer" in given:
            raise UserError(f"{name}: tokenizer {reason} (on the command line: tokenizer=null)")
        if "architecture" in (given.get("model") or {}):
            raise UserError(
                f"{name}: model.architecture {reason} (on the command line: model=null before the others)"
            )
    unused = sorted(set(given.get("tokenizer") or {}) - {"pretrained"}) if tokenizer is not None else []
    if unused:
        raise UserError(
            f"{name}: tokenizer.{unused[0]} is not used, because the tokenizer comes from {tokenizer}; remove it"
        )


def _explain(
    item: Mapping[str, Any], name: str, lines: Mapping[KeyPath, int], sources: Mapping[KeyPath, str]
) -> str:
    path = tuple(str(part) for part in item["loc"])
    key = shorten(".".join(path)) or "recipe"
    where = _where(path, name, lines, sources)
    kind, found = item["type"], _describe(item.get("input"))
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        valid = _keys_at(path[:-1])
        elsewhere = [".".join(other) for other in _all_keys() if other[-1] == path[-1]]
        near = elsewhere or difflib.get_close_matches(path[-1], valid, n=1, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        return f"{where}: unknown key {key}; {hint}allowed here: {', '.join(valid)}"
    if kind in ("missing", "missing_argument"):
        return f"{where}: {key} is missing; add it"
    if kind == "value_error":
        return f"{where}: {key}: {item['ctx']['error']}"
    if kind == "literal_error":
        allowed = item["ctx"]["expected"].replace("'", "")
        near = difflib.get_close_matches(str(item["input"]), re.split(r", | or ", allowed), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{where}: {key}: found {found}, allowed: {allowed}{hint}"
    if kind in ("dataclass_type", "dataclass_exact_type"):
        return f"{where}: {key}: found {found}, expected keys: {', '.join(_keys_at(path))}"
    message = item["msg"][0].lower() + item["msg"][1:]
    return (
        f"{where}: {key}: found {found}, {message.replace('input should', 'it should')}"
        f"{_hint(kind, item.get('input'))}"
    )


def _hint(kind: str, found: Any) -> str:
    """How to write what was meant."""
    if kind == "string_type" and isinstance(found, bool | int | float):
        return "; put it in quotes"
    if kind == "bool_type":
        return "; write true or false"
    if kind == "tuple_type" and isinstance(found, str):
        return f"; put it in brackets: [{shorten(found)}]"
    return ""


def _where(path: KeyPath, name: str, lines: Mapping[KeyPath, int], sources: Mapping[KeyPath, str]) -> str:
    for end in range(len(path), 0, -1):
        here = path[:end]
        line = f"{name}, line {lines[here]}" if here in lines else None
        if here in sources:
            # A section to which an override has added is of both.
            added = line is not None and _is_section(here, lines) and _is_section(here, sources)
            return f"{line}, with {sources[here]}" if added else sources[here]
        if line is not None:
            return line
    return name


def _is_section(path: KeyPath, keys: Iterable[KeyPath]) -> bool:
    return any(key[: len(path)] == path for key in keys if len(key) > len(path))


@cache
def _all_keys(path: KeyPath = ()) -> list[KeyPath]:
    """Of the whole recipe, with the sections that they are in."""
    names = [(*path, name) for name in _keys_at(path)]
    return [key for name in names for key in (name, *_all_keys(name))]


def _keys_at(path: KeyPath) -> list[str]:
    """The keys of the dataclass that stands at a path of the recipe."""
    here: Any = Recipe
    for part in path:
        if part.isdecimal():  # a place in a list, whose kind is known already
            continue
        hints = typing.get_type_hints(here) if dataclasses.is_dataclass(here) else {}
        options = (hints.get(part), *typing.get_args(hints.get(part)))
        here = next((option for option in options if dataclasses.is_dataclass(option)), None)
    return [field.name for field in dataclasses.fields(here)] if here is not None else []


def _describe(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    return shorten(json.dumps(value, ensure_ascii=False, default=str))
