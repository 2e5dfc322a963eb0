"""Read a recipe: YAML, command-line overrides and the algorithm's row, merged and validated.

Every error names the file, the line, the path of the key, what was found, what is allowed and, for an unknown
key, the nearest valid one.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import RootModel, TypeAdapter, ValidationError

from l2s_nmt.errors import UserError
from l2s_nmt.recipe import Recipe
from l2s_nmt.search.algorithms import ALGORITHMS
from l2s_nmt.search.losses.table import LOSSES

Settings = dict[str, Any]
KeyPath = tuple[str, ...]

USUAL_ALPHA = 10.0
"""Scale of the costs where a recipe gives none."""
_ADAPTER = TypeAdapter(Recipe)
_DUMP = RootModel[Recipe]
_UNREADABLE = (yaml.YAMLError, ValueError, TypeError, RecursionError)
"""What reading YAML raises: by design, for a date or number that is none, a list as a key, deep nesting."""


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-4 is a number (YAML 1.1 reads it as text) and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes text that the loader would read as a number."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, with ``key.sub=value`` overrides on top.

    Raises:
        UserError: the file cannot be read, or something in it is unknown, of a wrong type or impossible.
    """
    text = _read_text(Path(path))
    given, lines = _parse(text, str(path))
    sources: dict[KeyPath, str] = {}
    for item in overrides:
        settings = parse_overrides([item])
        given = merge(given, settings)
        sources.update(dict.fromkeys(_paths(settings), f"override {item!r}"))
    return _validate(given, str(path), lines, sources)


def make_recipe(settings: Mapping[str, Any]) -> Recipe:
    """The recipe from nested plain values, as a YAML file would give them.

    Raises:
        UserError: something in it is unknown, of a wrong type or impossible.
    """
    return _validate(dict(settings), "recipe", {}, {})


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML, every key that is used written out; reads back as the same recipe."""
    return yaml.dump(as_settings(recipe), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def as_settings(recipe: Recipe) -> Settings:
    """The recipe as nested plain values, without the keys that a model from elsewhere leaves unused."""
    settings: Settings = _DUMP(recipe).model_dump(mode="json")
    if recipe.model.from_run is not None or recipe.model.pretrained is not None:
        del settings["tokenizer"], settings["model"]["architecture"]
    return settings


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> Settings:
    """Nested settings with those of ``top`` over those of ``base``."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def parse_overrides(overrides: Iterable[str]) -> Settings:
    """``a.b=value`` items as nested settings; values are read as YAML.

    Raises:
        UserError: an item has no ``=``, an empty key, or a value that is not YAML.
    """
    settings: Settings = {}
    for item in overrides:
        keys, text = _split(item)
        try:
            value = _load(text)
        except _UNREADABLE as error:
            raise UserError(f"override {item!r}: the value is not YAML ({_first_line(error)})") from error
        nested: Any = value
        for key in reversed(keys):
            nested = {key: nested}
        settings = merge(settings, nested)
    return settings


def _split(item: str) -> tuple[KeyPath, str]:
    key, equals, value = item.partition("=")
    keys = tuple(key.strip().split("."))
    if not equals or not all(keys):
        raise UserError(f"override {item!r}: write it as key.sub=value, for example training.max_updates=100")
    return keys, value


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such recipe") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; give a recipe file (.yaml)") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def _parse(text: str, name: str) -> tuple[Settings, dict[KeyPath, int]]:
    try:
        value = _load(text)
        lines = dict(_lines(yaml.compose(text, _Loader), ()))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}, line {mark.line + 1}" if mark else name
        raise UserError(f"{where}: not valid YAML: {error.problem}") from error
    except _UNREADABLE as error:
        raise UserError(f"{name}: not valid YAML: {_first_line(error)}") from error
    if value is None:
        raise UserError(f"{name}: the recipe is empty; it needs at least data and training")
    if not isinstance(value, dict):
        raise UserError(f"{name}: a recipe is a mapping of keys to values, found {_describe(value)}")
    return value, lines


def _load(text: str) -> Any:
    value = yaml.load(text, _Loader)
    json.dumps(value, default=str)  # refuses what refers to itself
    return value


def _paths(settings: Settings, above: KeyPath = ()) -> Iterable[KeyPath]:
    for key, value in settings.items():
        yield (*above, str(key))
        if isinstance(value, dict):
            yield from _paths(value, (*above, str(key)))


def _lines(node: yaml.Node | None, path: KeyPath) -> Iterable[tuple[KeyPath, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            yield here, key.start_mark.line + 1
            yield from _lines(value, here)


def _validate(
    given: Settings, name: str, lines: Mapping[KeyPath, int], sources: Mapping[KeyPath, str]
) -> Recipe:
    settings = _with_algorithm(given)
    try:
        text = json.dumps(settings, default=str)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{name}: a key or value is of a kind a recipe cannot hold: {error}") from error
    try:
        recipe = _ADAPTER.validate_json(text)
    except ValidationError as error:
        problems = [_explain(item, name, lines, sources) for item in error.errors(include_url=False)]
        raise UserError("\n".join(problems)) from None
    _refuse_unused(recipe, given, name)
    return recipe


def _with_algorithm(given: Settings) -> Settings:
    search = given.get("search", {})
    if not isinstance(search, dict):
        return given
    algorithm = search.get("algorithm", "teacher_forcing")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        return given
    row: Settings = {"search": {"algorithm": algorithm, **ALGORITHMS[algorithm].settings}}
    return _with_alpha(merge(row, given))


def _with_alpha(settings: Settings) -> Settings:
    """Fill in the scale of the costs where the loss has one."""
    loss = settings["search"].get("loss") or {}
    row = LOSSES.get(str(loss.get("name"))) if isinstance(loss, dict) else None
    if row is None or not row.uses_alpha:
        return settings
    return merge({"search": {"loss": {"alpha": USUAL_ALPHA}}}, settings)


def _refuse_unused(recipe: Recipe, given: Settings, name: str) -> None:
    start = recipe.model.from_run or recipe.model.pretrained
    if start is None:
        return
    reason = f"is not used, because the model comes from {start}; remove it"
    if "tokenizer" in given:
        raise UserError(f"{name}: tokenizer {reason}")
    if "architecture" in (given.get("model") or {}):
        raise UserError(f"{name}: model.architecture {reason}")


def _explain(
    item: Mapping[str, Any], name: str, lines: Mapping[KeyPath, int], sources: Mapping[KeyPath, str]
) -> str:
    path = tuple(str(part) for part in item["loc"])
    key = ".".join(path) or "recipe"
    where = _where(path, name, lines, sources)
    kind, found = item["type"], _describe(item.get("input"))
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        valid = _keys_at(path[:-1])
        near = difflib.get_close_matches(path[-1], valid, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}? " if near else ""
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
    return f"{where}: {key}: found {found}, {message.replace('input should', 'it should')}"


def _where(path: KeyPath, name: str, lines: Mapping[KeyPath, int], sources: Mapping[KeyPath, str]) -> str:
    for end in range(len(path), 0, -1):
        if path[:end] in sources:
            return sources[path[:end]]
        if path[:end] in lines:
            return f"{name}, line {lines[path[:end]]}"
    return name


def _keys_at(path: KeyPath) -> list[str]:
    """The keys of the dataclass that stands at a path of the recipe."""
    here: Any = Recipe
    for part in path:
        hints = typing.get_type_hints(here) if dataclasses.is_dataclass(here) else {}
        options = (hints.get(part), *typing.get_args(hints.get(part)))
        here = next((option for option in options if dataclasses.is_dataclass(option)), None)
    return [field.name for field in dataclasses.fields(here)] if here is not None else []


def _describe(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
