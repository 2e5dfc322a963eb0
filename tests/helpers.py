"""Run the command line in this process or in one of its own, and make tiny corpora of invented words for it."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parent.parent
PATIENCE = 600.0
"""Seconds to wait for processes, so that what hangs ends at all; machines may be slow, and busy with other things."""
SOURCE_WORDS = tuple(a + b for a in ("ba", "ke", "mo") for b in ("lu", "ri", "sat", "non"))
TARGET_WORDS = tuple(a + b for a in ("fi", "gor", "te") for b in ("xa", "pil", "du", "wes"))


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str

    def error(self) -> str:
        """The one message of a command that refused what it was given."""
        assert self.status == 2, (self.status, self.err)
        assert "Traceback" not in self.err
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, self.err
        return self.err[self.err.index("error: ") :]


def command(*arguments: str | Path, stdin: bytes = b"") -> Outcome:
    """Run `l2s-nmt ARGUMENTS` in this process, as its entry point does; anything unforeseen is raised."""
    from l2s_nmt.cli import main

    out, err = io.BytesIO(), io.BytesIO()
    streams = {
        "stdin": io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"),
        "stdout": io.TextIOWrapper(out, encoding="utf-8", write_through=True),
        "stderr": io.TextIOWrapper(err, encoding="utf-8", errors="backslashreplace", write_through=True),
    }
    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(sys, "argv", ["l2s-nmt", *map(str, arguments)]))
        for name, stream in streams.items():
            patches.enter_context(mock.patch.object(sys, name, stream))
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Outcome(status, out.getvalue().decode(), err.getvalue().decode())


def done(outcome: Outcome) -> Outcome:
    """The outcome of a command that must succeed."""
    assert outcome.status == 0, outcome.err
    return outcome


def start(*arguments: str | Path, launcher: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start `python -m l2s_nmt ARGUMENTS` as a process of its own, by a launcher such as accelerate's."""
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "l2s_nmt", *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def process(*arguments: str | Path, launcher: Sequence[str] = (), stdin: bytes = b"") -> Outcome:
    """Run `python -m l2s_nmt ARGUMENTS` as a process of its own."""
    started = start(*arguments, launcher=launcher)
    try:
        out, err = started.communicate(stdin, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)  # with the processes that a launcher started
        raise
    return Outcome(started.returncode, out.decode(), err.decode())


def launcher(processes: int, kind: str = "--multi_gpu") -> tuple[str, ...]:
    """The launcher of so many processes on this machine, with accelerate's option for their kind.

    With --cpu it starts a single one, whatever the number; with --multi_gpu that many, on a CPU as well.
    """
    return (
        *("-m", "accelerate.commands.launch", *kind.split(), "--num_processes", str(processes)),
        *(
            "--num_machines",
            "1",
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
            "--main_process_port",
            "0",
        ),
    )


def translate_word(word: str) -> str:
    """The one translation of a word of the toy language."""
    return TARGET_WORDS[SOURCE_WORDS.index(word)]


def sentence_pairs(count: int, seed: int, longest: int = 6) -> list[tuple[str, str]]:
    """Sentence pairs of the toy language: each word has one translation, in the same order."""
    draw = random.Random(seed)
    pairs = []
    for _ in range(count):
        words = draw.choices(SOURCE_WORDS, k=draw.randint(1, longest))
        pairs.append((" ".join(words), " ".join(map(translate_word, words))))
    return pairs


def write_corpus(folder: Path, *, train: int = 300, valid: int = 20, test: int = 30) -> Path:
    """Write the toy language as `<split>.xa` and `<split>.xb`; the test sentences are longer than the others."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, count) in enumerate({"train": train, "valid": valid, "test": test}.items()):
        pairs = sentence_pairs(count, seed, longest=10 if split == "test" else 6)
        for language, side in zip(("xa", "xb"), zip(*pairs, strict=True), strict=True):
            (folder / f"{split}.{language}").write_text("".join(f"{text}\n" for text in side))
    return folder


def tiny_recipe(corpus: Path, **sections: dict[str, Any]) -> dict[str, Any]:
    """A recipe that trains in a second; the sections are merged into it."""
    recipe: dict[str, dict[str, Any]] = {
        "data": {"files": str(corpus), "source_language": "xa", "target_language": "xb"},
        "tokenizer": {"algorithm": "bpe", "vocabulary": 80, "byte_fallback": False},
        "model": {
            "architecture": {
                "d_model": 32,
                "feed_forward": 64,
                "heads": 2,
                "encoder_layers": 1,
                "decoder_layers": 1,
                "positions": 64,
            }
        },
        "training": {"batch_tokens": 256, "learning_rate": 0.003, "warmup_updates": 5, "max_updates": 10},
    }
    for section, settings in sections.items():
        recipe[section] = {**recipe.get(section, {}), **settings}
    if "from_run" in recipe["model"]:
        del recipe["tokenizer"], recipe["model"]["architecture"]
    return recipe


def write_recipe(path: Path, recipe: dict[str, Any]) -> Path:
    """Write a recipe (JSON is YAML)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(recipe, indent=1))
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_times(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl without what the clock decides."""

    def timed(key: str) -> bool:
        return key in ("minutes", "joules") or key.startswith("seconds_") or key.endswith("_per_second")

    return [{key: value for key, value in line.items() if not timed(key)} for line in lines]


def files_below(folder: Path) -> set[str]:
    """Every file below a folder, by its path in it."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def environment(folder: Path) -> dict[str, str]:
    """Variables that keep caches in a folder and processes off the network."""
    return {
        **os.environ,
        "HF_HOME": str(folder / "hf"),
        "HF_DATASETS_CACHE": str(folder / "datasets"),
        "HF_HUB_OFFLINE": "1",
        "L2S_NMT_CACHE": str(folder / "encoded"),
    }
