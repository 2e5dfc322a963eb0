"""Functions of the user's own: found by their names; and what a cost among them returns, checked."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from l2s_nmt.errors import UserError

COST_TAKES = ("sources", "translations", "references")
"""What a cost is called with, in order."""
TextFunction = Callable[[list[str], list[str], list[list[str]]], Any]
"""Sources, translations and the references of each (none, one or several) to as many numbers: the lower the better."""


def load_function(name: str, positional: Sequence[str], keywords: Sequence[str] = ()) -> Callable[..., Any]:
    """Import a function by ``module:function``; see `load_module`.

    Args:
        name: of the function.
        positional: what it is called with, in order.
        keywords: what it is called with by name.

    Raises:
        UserError: the name has another form; or there is no such module, function, or it cannot be called so.
    """
    module, attribute = load_module(name), name.partition(":")[2]
    if not hasattr(module, attribute):
        place = getattr(module, "__file__", None) or module.__name__
        raise UserError(f"{name}: {place} has no {attribute}; define it or correct the name")
    function: Callable[..., Any] = getattr(module, attribute)
    if not callable(function):
        kind = type(function).__name__
        raise UserError(f"{name}: {attribute} is of type {kind} and cannot be called; name a function")
    with suppress(ValueError):  # of what is not written in Python nobody may know what it takes
        _check_arguments(name, inspect.signature(function), positional, keywords)
    return function


def load_module(name: str) -> ModuleType:
    """Import the module of ``module:function``; the current directory comes first.

    What the module itself raises while it is imported is passed on.

    Raises:
        UserError: the name has another form, or there is no such module.
    """
    module, colon, attribute = name.partition(":")
    names = [*module.split("."), attribute]
    if not colon or module.endswith(".py") or not all(map(str.isidentifier, names)):
        raise UserError(
            f"{name!r} is no name of a function: write module:function, such as my_module:my_function"
        )
    with _current_directory_first():
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise UserError(f"{name}: {_missing(module, error.name or module)}") from error


def _check_arguments(
    name: str, signature: inspect.Signature, positional: Sequence[str], keywords: Sequence[str]
) -> None:
    try:
        signature.bind(*positional, **dict.fromkeys(keywords))
    except TypeError as error:
        taken = ", ".join([*positional, *(["*", *keywords] if keywords else [])])
        raise UserError(f"{name}: is called as {name.partition(':')[2]}({taken}), but: {error}") from error


def as_costs(result: Any, count: int, name: str) -> Tensor:
    """Check what a function returned for ``count`` translations.

    Args:
        result: a list, array or tensor of numbers, one for each translation.
        count: number of translations.
        name: of the function, for messages.

    Returns:
        (count,) float32 on the CPU. Where a number is not finite, the update will be skipped.

    Raises:
        UserError: it is something else, or has another length.
    """
    values = _numbers(result)
    if values is None:
        raise UserError(f"{name} returned {_described(result)}; it must return a list of numbers")
    if values.shape != (count,):
        shape = len(values) if values.ndim == 1 else f"an array of shape {values.shape}"
        raise UserError(
            f"{name} returned {shape} for {count} translations; it must return one number for each"
        )
    with np.errstate(over="ignore"):
        return torch.from_numpy(values.astype(np.float32))


def _numbers(result: Any) -> np.ndarray[Any, np.dtype[Any]] | None:
    if isinstance(result, Tensor):
        # NumPy has no bfloat16.
        result = result.detach().to("cpu", torch.float64)
    try:
        values = np.asarray(result)
    except (TypeError, ValueError, RuntimeError):
        return None
    # An empty list has no type.
    return values if values.ndim and (values.dtype.kind in "biuf" or not values.size) else None


def _described(result: Any) -> str:
    kind = type(result).__name__
    if isinstance(result, list | tuple):
        inner = {type(value).__name__ for value in result}
        return f"a {kind} of {', '.join(sorted(inner))}"
    return f"something of type {kind}"


def _missing(module: str, missing: str) -> str:
    if module == missing or module.startswith(f"{missing}."):
        return f"there is no module {missing}, neither in {Path.cwd()} nor installed"
    return f"the module {module} imports {missing}, which is not installed"


@contextmanager
def _current_directory_first() -> Iterator[None]:
    """Modules are looked for in the current directory first, as where Python runs a file of it."""
    directory = str(Path.cwd())
    sys.path.insert(0, directory)
    try:
        yield
    finally:
        with suppress(ValueError):  # the module may have changed the path itself
            sys.path.remove(directory)
