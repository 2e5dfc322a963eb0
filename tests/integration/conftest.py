"""One corpus of the toy language for all, and caches that end with the session."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.helpers import command, done, environment, write_corpus, write_recipe
from tests.same_training import recipe

Whole = Callable[..., tuple[Path, Path]]
"""Its recipe and the run."""


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C, and so would the commands of the tests."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(folder).items():
            patch.setenv(name, value)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")
        yield


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Runs that take each update in one piece on one process, by search, size of the updates and settings."""
    made: dict[str, tuple[Path, Path]] = {}

    def run(search: str, batch_tokens: int, **settings: Any) -> tuple[Path, Path]:
        name = f"{search}-{batch_tokens}-{settings}"
        if name not in made:
            folder = tmp_path_factory.mktemp(search)
            path = write_recipe(folder / "recipe.yaml", recipe(corpus, search, batch_tokens, **settings))
            done(command("train", path, "--output", folder / "run"))
            made[name] = path, folder / "run"
        return made[name]

    return run
