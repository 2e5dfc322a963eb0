"""From what the command line names to systems: which runs are seeds of one, what they wrote, what they cost."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from typing import Any

from datasets import Dataset

from l2s_nmt.data.corpus import load_split
from l2s_nmt.data.store import checksum
from l2s_nmt.errors import UserError
from l2s_nmt.evaluation import compare as comparing
from l2s_nmt.evaluation.breakdown import count_words
from l2s_nmt.evaluation.comet import find_program, score_by_comet
from l2s_nmt.evaluation.compare import refuse_equal_names
from l2s_nmt.evaluation.curves import read_curve
from l2s_nmt.evaluation.exposure import exposure_of_run
from l2s_nmt.evaluation.runs import common_test_set, decoding_of, read_translations, short_names, tag_of
from l2s_nmt.evaluation.translate import Decoding
from l2s_nmt.evaluation.types import (
    Comparison,
    Expense,
    ExposureRange,
    Replicate,
    System,
    TrainingWords,
    add_ranges,
)
from l2s_nmt.files import is_file, is_folder
from l2s_nmt.languages import BleuTokenizer, new_bleu
from l2s_nmt.recipe_file import as_settings
from l2s_nmt.run import Run, corpus_place, flatten, read_metrics


@dataclass(frozen=True)
class Group:
    """What makes up a system: runs that differ in nothing but their seed, or a file, or what a person named."""

    name: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Options:
    """How runs are looked at."""

    splits: Sequence[str] = ("test",)
    beam: int | None = None
    """None: the recipe's."""
    length_penalty: float | None = None
    """None: the recipe's."""
    exposure: int | None = None
    """Sentences of each split to measure exposure bias on; None: it is not measured."""
    comet: str | None = None
    """A model of COMET; None: it is not asked."""
    bleu_tokenizer: BleuTokenizer | None = None
    """What cuts text into BLEU's words; None: as the first run's recipe says, without runs 13a."""


@dataclass(frozen=True)
class Prepared:
    """Systems that were found to be sound, before anything is translated."""

    groups: Sequence[Group]
    options: Options
    runs: dict[Path, Run]
    decodings: dict[Path, Decoding]
    files: dict[Path, list[str]]
    """The translations in files."""
    sources: list[str]
    references: list[list[str]]

    def exposures(self) -> Iterator[tuple[Run, str, int]]:
        """On what exposure bias has to be measured, unless it was before: runs, splits, and how many sentences."""
        if self.options.exposure is not None:
            yield from product(self.runs.values(), self.options.splits, [self.options.exposure])

    def evaluations(self) -> Iterator[tuple[Run, str, Decoding]]:
        """What has to be translated and scored, unless it was before: runs, splits, and how."""
        for path, run in self.runs.items():
            for split in self.options.splits:
                yield run, split, self.decodings[path]


def prepare(
    groups: Sequence[Group], options: Options, texts: tuple[list[str], list[list[str]]] | None = None
) -> Prepared:
    """Look at systems, the first being the baseline.

    Args:
        groups: the systems.
        options: how to look at runs.
        texts: sources and references; None: those of the runs.

    Raises:
        UserError: a run or file is missing or unsound, or they do not belong together.
    """
    paths = [path for group in groups for path in group.paths]
    runs = {path: Run(path) for path in paths if is_folder(path)}
    decodings = {
        path: decoding_of(run.read_recipe(), beam=options.beam, length_penalty=options.length_penalty)
        for path, run in runs.items()
    }
    files = {path: read_translations(path) for path in paths if path not in runs}
    if texts is not None and runs:
        raise UserError(
            f"compare: {next(iter(runs))} is a run, which has sentences of its own; leave out --sources and "
            "--references, or translate them with it (l2s-nmt translate) and compare the files"
        )
    if texts is None:
        if not runs:
            raise UserError(
                "compare: without a run to take them from, give --sources FILE and --references FILE"
            )
        test_set = common_test_set(list(runs.values()), options.splits)
        texts = test_set.sources, test_set.references
    for path, lines in files.items():
        if len(lines) != len(texts[0]):
            raise UserError(
                f"{path}: {len(lines)} translations of {len(texts[0])} sentences; give one a line"
            )
    refuse_equal_names([group.name for group in groups])
    prepared = Prepared(groups, options, runs, decodings, files, *texts)
    new_bleu(_bleu_tokenizer(prepared))
    if options.comet is not None:
        find_program()
    return prepared


def compare_prepared(prepared: Prepared) -> Comparison:
    """Compare systems whose evaluations have been made.

    Raises:
        UserError: the numbers of translations differ, or what a run holds is damaged.
    """
    names = short_names([path for group in prepared.groups for path in group.paths])

    def replicate(path: Path) -> Replicate:
        if path in prepared.runs:
            return _replicate(prepared.runs[path], names[path], prepared.decodings[path], prepared.options)
        return Replicate(names[path], prepared.files[path])

    systems = [System(group.name, [replicate(path) for path in group.paths]) for group in prepared.groups]
    model, texts = prepared.options.comet, (prepared.sources, prepared.references)
    return comparing.compare(
        systems,
        *texts,
        splits=prepared.options.splits if prepared.runs else (),
        languages=_languages(prepared),
        training_words=_training_words(prepared, systems),
        learned=None if model is None else score_by_comet(model, systems, *texts),
        bleu_tokenizer=_bleu_tokenizer(prepared),
    )


def _languages(prepared: Prepared) -> tuple[str, str] | None:
    first = next(iter(prepared.runs.values()), None)
    return None if first is None else first.read_recipe().data.tags


def _bleu_tokenizer(prepared: Prepared) -> BleuTokenizer:
    if prepared.options.bleu_tokenizer is not None:
        return prepared.options.bleu_tokenizer
    first = next(iter(prepared.runs.values()), None)
    return "13a" if first is None else first.read_recipe().bleu_tokenizer


def group_systems(arguments: Sequence[str]) -> list[Group]:
    """The systems that arguments name: ``RUN``, ``FILE``, or ``NAME=RUN,RUN,…`` for a name and seeds of one's own.

    Runs without a name whose recipes differ in the seed alone, also in what they started from, are one system.

    Raises:
        UserError: a path is no run or file, or is given twice.
    """
    named = [_named(argument) for argument in arguments]
    paths = [path for _, group in named for path in group]
    for path in paths:
        if not (is_folder(path) or is_file(path)):
            raise UserError(f"{path}: no such run or file of translations")
    short = short_names(paths)
    found: list[Group] = []
    recipes: dict[str, list[Path]] = {}
    for name, own in named:
        if name is not None or is_file(own[0]):
            found.append(Group(name or short[own[0]], own))
            continue
        alike = recipes.setdefault(recipe_but_for_seed(Run(own[0])), [])
        if not alike:  # its place in the order; its name is known when all of its seeds are
            found.append(Group("", own))
        alike.extend(own)
    whole = {members[0]: members for members in recipes.values()}
    grouped = [_seed_groups(whole[group.paths[0]], short) if not group.name else [group] for group in found]
    return _unambiguous([group for groups in grouped for group in groups], short)


def _named(argument: str) -> tuple[str | None, tuple[Path, ...]]:
    name, equals, listed = argument.partition("=")
    if not equals or is_folder(argument) or is_file(argument):
        return None, (Path(argument),)
    paths = tuple(Path(path) for path in listed.split(",") if path)
    if not name or not paths:
        raise UserError(f"{argument!r}: name a system as NAME=RUN or NAME=RUN,RUN,…")
    return name, paths


def recipe_but_for_seed(run: Run) -> str:
    """The recipe of a run and of the runs that it started from, without their seeds: equal for seeds of one system.

    Raises:
        UserError: the path is no run directory.
    """
    seedless = [{**settings, "seed": None} for settings in _history(run)]
    return json.dumps(seedless, sort_keys=True)


def seeds_of(run: Run) -> tuple[int, ...]:
    """The seed of a run, that of the run it started from, and so on, as far as these are there.

    Raises:
        UserError: the path is no run directory.
    """
    return tuple(settings["seed"] for settings in _history(run))


def _history(run: Run, later: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The settings of a run, of the run it started from, and so on."""
    settings = flatten(as_settings(run.read_recipe())) | {"code": _code(run)}
    start = settings["model.from_run"]
    here = os.path.realpath(run.path)
    if start is None or here in later or not Run(Path(start)).recipe_path.is_file():
        return [settings]
    return [settings | {"model.from_run": True}, *_history(Run(Path(start)), (*later, here))]


def _code(run: Run) -> dict[str, str]:
    """What tells each of the user's own modules that the recipe names from others."""
    return {path.name: checksum(path) for path in sorted(run.code.glob("*.py"))}


def _seed_groups(paths: Sequence[Path], short: dict[Path, str]) -> list[Group]:
    """Runs of one recipe as one system, by seed; each by itself where two have the same seeds: no pairs then."""
    seeds = {seeds_of(Run(path))[::-1]: path for path in paths}
    if len(seeds) < len(paths):
        return [Group(short[path], (path,)) for path in paths]
    in_order = tuple(seeds[each] for each in sorted(seeds))
    return [Group(_common_name(in_order, short), in_order)]


def _common_name(paths: Sequence[Path], short: dict[Path, str]) -> str:
    """What the names of the seeds begin with, without the word seed; else their folder's, or the first one."""
    names = [short[path] for path in paths]
    if len(names) == 1:
        return names[0]
    first, last = min(names), max(names)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    common = first[:length]
    folders = {path.resolve().parent.name for path in paths}
    folder = folders.pop() if len(folders) == 1 else ""
    return re.sub(r"[-_./ ]*(seeds?)?[-_./ ]*\d*$", "", common) or folder or names[0]


def _unambiguous(groups: Sequence[Group], short: dict[Path, str]) -> list[Group]:
    """Groups that would have the name of another are called by their first path."""
    counts = Counter(group.name for group in groups)
    return [
        Group(short[group.paths[0]], group.paths)
        if counts[group.name] > 1 and len(group.paths) > 1
        else group
        for group in groups
    ]


def _replicate(run: Run, name: str, decoding: Decoding, options: Options) -> Replicate:
    """An evaluated run as a comparison sees it."""
    seed, *earlier = seeds_of(run)
    tag = tag_of(run.read_recipe(), decoding)
    return Replicate(
        name=name,
        hypotheses=[
            line for split in options.splits for line in read_translations(run.translations(split, tag))
        ],
        seed=seed,
        earlier_seeds=tuple(earlier),
        expense=read_expense(run),
        curve=read_curve(run),
        exposure=_exposure(run, options),
        decoding=decoding.to_json(),
    )


def _exposure(run: Run, options: Options) -> tuple[ExposureRange, ...] | None:
    if options.exposure is None:
        return None
    return add_ranges([exposure_of_run(run, split, options.exposure) for split in options.splits])


def read_expense(run: Run) -> Expense:
    """What a run cost so far.

    Raises:
        UserError: its metrics are damaged.
    """
    nothing: dict[str, Any] = {}
    last = max(reversed(read_metrics(run)), key=lambda line: line["update"], default=nothing)
    return Expense(
        minutes=last.get("minutes"),
        updates=last.get("update"),
        sentences=last.get("sentences"),
        roll_outs=last.get("roll_outs"),
        joules=last.get("joules"),
        hardware=_hardware(run),
    )


def _hardware(run: Run) -> str | None:
    try:
        made = json.loads((run.path / "environment.json").read_text(encoding="utf-8"))
        gpus = Counter(str(gpu) for gpu in made["gpus"])
        processor = str(made["processor"]) or "unknown processor"
        cores = f"{processor}, {made['threads']} of {made['cores']} cores"
        return ", ".join(f"{count} × {gpu}" for gpu, count in gpus.items()) or cores
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _training_words(prepared: Prepared, systems: Sequence[System]) -> TrainingWords | None:
    """Count in the training split of the first run's corpus, whatever filters and folds leave out of it.

    None where there is no run, or its data are gone or streamed.
    """
    first = next(iter(prepared.runs.values()), None)
    if first is None:
        return None
    data = first.read_recipe().data
    if data.streaming:
        return None
    targets = data.train_targets == "required"
    try:
        train = load_split("train", **corpus_place(data), targets=targets)
    except UserError:
        return None
    sources = count_words(_texts(train, "source"), prepared.sources)
    if not targets:
        return TrainingWords(sources, None)
    written = chain.from_iterable(run.hypotheses for system in systems for run in system.replicates)
    wanted = chain(written, chain.from_iterable(prepared.references))
    return TrainingWords(sources, count_words(chain.from_iterable(_texts(train, "references")), wanted))


def _texts(train: Dataset, column: str) -> Iterator[Any]:
    for table in train.select_columns(column).with_format("arrow").iter(10_000):
        yield from table[column].to_pylist()
