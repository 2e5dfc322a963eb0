"""The run directory: the contract between the commands.

RUN/README.md              the model card, also beside the weights
RUN/recipe.yaml            the resolved recipe
RUN/environment.json       versions, hardware, git commit, seed, command
RUN/data.json              what tells its training and validation data from others
RUN/code/                  copies of the user's own modules that the recipe names
RUN/tokenizer/             the tokenizer trained for the run (the plain Hugging Face folder)
RUN/best/, RUN/last/       weights in safetensors, configuration, tokenizer: load with AutoModelForSeq2SeqLM
RUN/average/               the same, of the average of the weights at the end, where the recipe averages
RUN/aggregated/            what DAgger has labelled so far
RUN/faults/                batches in which numbers were not finite, if training stopped for that
RUN/checkpoints/update-N/  everything a continued run needs
RUN/metrics.jsonl          one JSON object a line: kind "train", "validation" or "end"
RUN/translations/SPLIT.txt one translation a line
RUN/scores/SPLIT.json      BLEU, chrF, TER with their signatures
RUN/exposure/SPLIT.json    exposure bias, where a comparison measured it
RUN/l2s_nmt/               TensorBoard's events, where the recipe names that tracker
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

import psutil
import torch

from l2s_nmt.data.corpus import EmbeddedCorpus, HubData
from l2s_nmt.errors import UserError
from l2s_nmt.files import aside, is_file, recover_folder, remove_abandoned, write_json, write_text
from l2s_nmt.recipe import Data, Recipe
from l2s_nmt.recipe_file import as_settings, dump_recipe, read_recipe, with_absolute_paths

WeightsName = Literal["best", "last", "average"]

PACKAGES = (
    "accelerate",
    "datasets",
    "l2s-nmt",
    "sacrebleu",
    "safetensors",
    "sentencepiece",
    "torch",
    "transformers",
)


@dataclass(frozen=True)
class Run:
    """Paths in a run directory."""

    path: Path

    @property
    def name(self) -> str:
        """The directory's own name."""
        return self.path.resolve().name

    @property
    def recipe_path(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def metrics(self) -> Path:
        """What was measured while training."""
        return self.path / "metrics.jsonl"

    def folder_of(self, weights: WeightsName) -> Path:
        """Where such weights lie, as a Hugging Face folder."""
        return self.path / weights

    @property
    def data(self) -> Path:
        """What tells its data from others."""
        return self.path / "data.json"

    @property
    def code(self) -> Path:
        """Copies of the user's own modules."""
        return self.path / "code"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer, as a Hugging Face folder."""
        return self.path / "tokenizer"

    @property
    def checkpoints(self) -> Path:
        """The checkpoints."""
        return self.path / "checkpoints"

    def translations(self, split: str, tag: str | None = None) -> Path:
        """Translations of a split; a tag names a decoding other than the recipe's."""
        return self.path / "translations" / f"{_tagged(split, tag)}.txt"

    def scores(self, split: str, tag: str | None = None) -> Path:
        """Scores of a split."""
        return self.path / "scores" / f"{_tagged(split, tag)}.json"

    def read_recipe(self) -> Recipe:
        """The resolved recipe.

        Raises:
            UserError: the path is no run directory.
        """
        if not is_file(self.recipe_path):
            raise UserError(f"{self.path}: not a run directory (it has no recipe.yaml){self._advice()}")
        return read_recipe(self.recipe_path)

    def _advice(self) -> str:
        if not os.path.exists(self.path):  # of a name that is too long, Path says an error
            return "; there is nothing of that name: train it first, or name another"
        within = self.path.parent
        return f"; give the run itself, {within}" if is_file(within / "recipe.yaml") else ""

    def weights(self, name: WeightsName = "best") -> Path:
        """The folder of the weights: the best by validation BLEU, the last, or their average.

        Raises:
            UserError: the run has none yet.
        """
        self.read_recipe()
        if name not in get_args(WeightsName):
            raise UserError(f"weights are {' or '.join(get_args(WeightsName))}, not {name}")
        place = self.folder_of(name)
        for folder in (place, aside(place)):  # nothing is moved: training may be about to do it
            if (folder / "config.json").is_file():
                return folder
        until = {
            "best": "let its training reach a validation first",
            "last": "they are written when its training ends",
            "average": "they are written when its training ends, if training.averaging.kind is not none",
        }
        raise UserError(f"{self.path}: no weights yet (no {name}/); {until[name]}")


def _tagged(split: str, tag: str | None) -> str:
    return f"{split}.{tag}" if tag else split


def open_run(path: Path, recipe: Recipe, command: list[str]) -> Run:
    """Make a run directory, or take up one that holds the same recipe, wherever its files and limits are now.

    Raises:
        UserError: the directory holds something else, another recipe, or cannot be written.
    """
    run, recipe = Run(path), with_absolute_paths(recipe)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be made: {error.strerror}; choose another --output") from error
    _refuse_foreign(path)
    if _untrained(path):
        shutil.rmtree(run.tokenizer, ignore_errors=True)
        shutil.rmtree(run.code, ignore_errors=True)
        run.data.unlink(missing_ok=True)
        write_json(path / "environment.json", environment(recipe.seed, command))
        write_text(run.recipe_path, dump_recipe(recipe))
    else:
        _same_recipe(run, recipe)
    remove_abandoned(path)
    for name in get_args(WeightsName):
        recover_folder(run.folder_of(name))
        remove_abandoned(run.folder_of(name))
    return run


def _refuse_foreign(path: Path) -> None:
    if not _untrained(path) and not Run(path).recipe_path.exists():
        raise UserError(f"{path}: is not empty and no run directory; choose another --output")


def _untrained(path: Path) -> bool:
    """Whether nothing is there but what a start leaves that failed before its first update."""
    there = {entry.name for entry in path.iterdir() if not entry.name.startswith(".")}
    return not there or ("environment.json" in there and there <= _WRITTEN_FIRST)


def _same_recipe(run: Run, recipe: Recipe) -> None:
    written = with_absolute_paths(run.read_recipe())
    there, now = flatten(as_settings(written)), flatten(as_settings(recipe))
    changed = sorted(key for key in there.keys() | now.keys() if there.get(key) != now.get(key))
    training = recipe.training
    went_by_limits = training.schedule in ("linear", "cosine") or training.averaging.starts > 1
    free = {*_MOVED} if went_by_limits else {*_MOVED, *(f"training.{name}" for name in _LIMITS)}
    changed = [key for key in changed if key not in free]
    if changed:
        shown = "; ".join(f"{key}: {there.get(key)!r} there, {now.get(key)!r} now" for key in changed[:5])
        raise UserError(
            f"{run.path}: holds a run of another recipe ({shown}); choose another --output or remove the directory"
        )


def same_data(
    run: Run,
    recipe: Recipe,
    stamps: Mapping[str, str],
    *,
    noted: Mapping[str, str] | None = None,
    ended: bool = False,
) -> None:
    """Note what a run's data are, or see that they still are those that it was begun with.

    Only then the recipe is kept as it is now, with other limits, or data in another place.

    Args:
        run: that is trained.
        recipe: by which it goes on.
        stamps: of each split, and of each model that it learns with, what tells it from others; models that were not
            noted once are not compared.
        noted: what is written beside them, and not compared.
        ended: nothing is left to do, so the limits stay those to which it was trained.

    Raises:
        UserError: they are others, or the note cannot be read.
    """
    if run.data.exists():
        there = {**stamps, **read_stamps(run)}
        changed = [name for name, stamp in stamps.items() if there[name] != stamp]
        if changed:
            raise UserError(
                f"{run.path}: was begun with other data ({' and '.join(changed)}); bring them back, or choose another "
                f"--output (where only this program is another version, remove {run.data.name})"
            )
    else:
        write_json(run.data, {**stamps, **(noted or {})})
    if ended:
        limits = {name: getattr(run.read_recipe().training, name) for name in _LIMITS}
        recipe = replace(recipe, training=replace(recipe.training, **limits))
    text = dump_recipe(with_absolute_paths(recipe))
    if run.recipe_path.read_text(encoding="utf-8") != text:
        write_text(run.recipe_path, text)
        if not ended:
            _note_command(run)


def _note_command(run: Run) -> None:
    """The command that trains it further is the one that makes it."""
    path = run.path / "environment.json"
    with contextlib.suppress(OSError, ValueError):  # without it nothing is lost that training needs
        noted = json.loads(path.read_text(encoding="utf-8"))
        write_json(path, {**noted, "command": command_line()})


def read_stamps(run: Run) -> dict[str, str]:
    """Of each split and model that a run was begun with, what tells it from others.

    Raises:
        UserError: they cannot be read.
    """
    try:
        there: dict[str, str] = json.loads(run.data.read_text(encoding="utf-8"))
        return {"train": there["train"], "valid": there["valid"], **there}
    except FileNotFoundError:
        raise UserError(
            f"{run.path}: has no {run.data.name}, which says what its data are; give the command that trained it once "
            "more, which writes it"
        ) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{run.data}: damaged ({error!r}); if the data are the same, remove it and train the run on"
        ) from error


_MOVED = ("data.files", "data.hub", "data.hub_revision")
"""What of a recipe may be elsewhere when a run goes on; data.json tells whether the data are the same."""
_LIMITS = ("max_updates", "max_epochs", "max_minutes", "max_roll_outs", "patience")
"""Of training, what may be raised to train a run further, unless the learning rate or the starts have gone by it."""


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


LOCK = ".lock"
_WRITTEN_FIRST = {"environment.json", "recipe.yaml", "data.json", "code", "tokenizer"}


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a run directory for this process alone; the lock goes with the process, however it ends.

    Of several processes that a launcher started the main one holds it for all.

    Raises:
        UserError: another process holds it, it is no run directory, or its name is not UTF-8.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    if any("\ud800" <= character <= "\udfff" for character in str(path)):
        raise UserError(
            f"{path}: the name is not UTF-8, which the libraries that write weights need; choose another"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        _refuse_foreign(path)
        handle = (path / LOCK).open("a+")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}; choose another --output") from error
    with handle:
        for patience in (True, True, False):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if not patience:
                    raise UserError(
                        f"{path}: another process is writing this run; wait for it or stop it"
                    ) from None
                time.sleep(0.1)  # for one that only looks (`is_locked`)
        yield


def is_locked(path: Path) -> bool:
    """Whether a process is writing a run directory now."""
    try:
        with (path / LOCK).open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def environment(seed: int, command: list[str]) -> dict[str, Any]:
    """What a run's figures depend on besides its recipe."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "command": command,
        "seed": seed,
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": gpus,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "git_commit": _git_commit(),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _git_commit() -> str | None:
    here = Path(__file__)

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=here.parent, capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout.strip()

    try:
        git(
            "ls-files", "--error-unmatch", here.name
        )  # installed, it may be inside another project's repository
        return git("describe", "--always", "--dirty", "--abbrev=40")
    except (OSError, subprocess.SubprocessError):
        return None


class Place(TypedDict):
    """Where a corpus lives, as ``load_split`` takes it."""

    files: str | None
    hub: HubData | None
    embedded: EmbeddedCorpus | None
    source_language: str
    target_language: str


def hub_data(data: Data) -> HubData | None:
    """A recipe's data set on the hub."""
    if data.hub is None:
        return None
    return HubData(data.hub, data.hub_config, data.hub_revision, data.hub_folder)


def corpus_place(data: Data) -> Place:
    """Where a recipe's corpus lives."""
    own = data.embedded
    embedded = (
        None
        if own is None
        else EmbeddedCorpus(own.train, own.valid, own.test, own.references, own.seed, own.train_references)
    )
    return Place(
        files=data.files,
        hub=hub_data(data),
        embedded=embedded,
        source_language=data.source_language,
        target_language=data.target_language,
    )


def read_metrics(run: Run) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; one that was cut off while it was written is left out.

    Raises:
        UserError: a line is damaged.
    """
    try:
        text = run.metrics.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{run.metrics}: cannot be read: {error.strerror}") from error
    *lines, _cut_off = text.split("\n")
    return [read_record(line, f"{run.metrics}, line {number}") for number, line in enumerate(lines, 1)]


def read_record(line: str, where: str) -> dict[str, Any]:
    """A line of metrics.jsonl.

    Raises:
        UserError: it is none.
    """
    try:
        record = json.loads(line)
        if not isinstance(record["update"], int) or not math.isfinite(record.get("minutes", 0.0)):
            raise ValueError("update and minutes are numbers")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{where}: damaged: not a record of training ({error!r})") from error
    found: dict[str, Any] = record
    return found


def command_line() -> list[str]:
    """The command of this project that is running; none where another program calls it, whose arguments are its own."""
    program = Path(sys.argv[0])
    ours = program.name == "l2s-nmt" or program.resolve() == Path(__file__).with_name("__main__.py")
    return ["l2s-nmt", *sys.argv[1:]] if ours else []
