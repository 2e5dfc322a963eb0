"""The YAML of recipes: nothing but plain values, of a recipe's size, every error with its line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import yaml

from l2s_nmt.errors import UserError

KeyPath = tuple[str, ...]

_MOST_VALUES = 20_000
"""That a text may stand for, aliases written out."""
_BAD_SCALAR = (ValueError, TypeError, KeyError, AttributeError, OverflowError)
"""What PyYAML's constructors raise for a date, number or truth value that is none."""


_PLAIN = {
    "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "tag:yaml.org,2002:int": (r"[-+]?(0|[1-9][0-9_]*)", "-+0123456789"),
    "tag:yaml.org,2002:float": (
        r"[-+]?([0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+|[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*([eE][-+]?[0-9]+)?"
        r"|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
}
"""What unquoted text is a truth value or a number, and the characters that it may begin with."""


class _Loader(yaml.SafeLoader):
    """Safe YAML in which ``no`` is a text, 1e-4 a number and 1:30 none, and a key given twice an error.

    YAML 1.1, as PyYAML has it, reads ``no``, Norwegian or a precision, as a truth value, 1e-4 as a text, 1:30 as 90 and
    010 as 8.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012  (as PyYAML has it)
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _PLAIN]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _problem("a key must be text", key)
            if key.value in seen:
                raise _problem(f"the key {key.value!r} is given twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except _BAD_SCALAR as error:
            raise _problem(f"{node.value!s:.60} cannot be read ({error!s:.60})", node) from error


class _Dumper(yaml.SafeDumper):
    """Quotes text that the loader would read as a number."""


for _tag, (_pattern, _first) in _PLAIN.items():
    for _kind in (_Loader, _Dumper):
        _kind.add_implicit_resolver(_tag, re.compile(rf"^({_pattern})$"), list(_first))


def load_yaml(text: str, where: str, what: str, *, numbered: bool) -> tuple[Any, dict[KeyPath, int]]:
    """The value of a text, and the lines of its keys.

    Args:
        text: one YAML document.
        where: the place for messages.
        what: begins the message, as in "not valid YAML".
        numbered: whether messages give the line.

    Raises:
        UserError: it is not YAML, holds more than plain values, or too many.
    """
    try:
        return _load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark and numbered else ""
        problem = (error.problem or "").partition("\n")[0]
        raise UserError(f"{where}{line}: {what}: {problem}") from error
    except RecursionError:
        raise UserError(f"{where}: {what}: nested too deeply") from None
    except (yaml.YAMLError, *_BAD_SCALAR) as error:
        raise UserError(f"{where}: {what}: {str(error).partition(chr(10))[0]}") from error


def dump_yaml(value: Any) -> str:
    """Plain values as YAML, which ``load_yaml`` reads as the same."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _load(text: str) -> tuple[Any, dict[KeyPath, int]]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, {}
        _refuse_explosion(node)
        lines = dict(_lines(node, ()))
        value = loader.construct_document(node)
    finally:
        loader.dispose()
    json.dumps(value, default=str)  # refuses keys that are no plain values
    return value, lines


def _refuse_explosion(root: yaml.Node) -> None:
    """Refuse aliases that refer to themselves, or that stand for more values than any recipe has.

    Ten lines of aliases to aliases can stand for thousands of millions of values. They are counted without being
    written out.
    """
    counts: dict[int, int] = {}

    def count(node: yaml.Node) -> int:
        if id(node) not in counts:
            counts[id(node)] = 0  # being counted
            counts[id(node)] = 1 + sum(map(count, _below(node)))
        elif not counts[id(node)]:
            raise _problem("a value refers to itself", node)
        return counts[id(node)]

    if count(root) > _MOST_VALUES:
        raise _problem(f"it stands for more than {_MOST_VALUES:,} values, aliases written out", root)


def _below(node: yaml.Node) -> Iterable[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return (part for pair in node.value for part in pair)
    return node.value if isinstance(node, yaml.SequenceNode) else ()


def _lines(node: yaml.Node, path: KeyPath) -> Iterable[tuple[KeyPath, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            yield here, key.start_mark.line + 1
            yield from _lines(value, here)


def _problem(text: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, text, node.start_mark)
