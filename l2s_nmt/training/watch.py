"""Follow a run from another terminal, by its metrics.jsonl."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from l2s_nmt.run import Run, is_locked
from l2s_nmt.training.health import Health
from l2s_nmt.training.progress import Display, validation_text

LOOK_EVERY_SECONDS = 0.5


def watch(run: Run, display: Display) -> None:
    """Show what a run measures, from where it stands to its end.

    Args:
        run: that is or will be trained.
        display: where it is shown.

    Raises:
        UserError: it is no run directory.
    """
    run.read_recipe()
    health, shown = Health(), dict[str, Any]()
    with display:
        for line in _lines(run, display):
            kind = line["kind"]
            if kind == "end":
                display.say(
                    f"done: {line['update']:,} updates in {line['minutes']:.1f} minutes; best validation BLEU "
                    f"{line['best_bleu']:.2f} at update {line['best_update']:,}"
                )
                return
            for warning in health(kind, line):
                display.say(f"update {line['update']:,}: {warning}")
            if kind == "validation":
                shown["best_bleu"] = max(line["bleu"], shown.get("best_bleu", line["bleu"]))
                display.say(validation_text(line))
                shown["bleu"] = line["bleu"]
            else:
                shown |= line
            display.step(line["used"], line["update"], shown)


def _lines(run: Run, display: Display) -> Iterator[dict[str, Any]]:
    """Whole lines as they come; from the beginning again where a continued run took lines back."""
    position, last, told = 0, b"", False
    while True:
        # By its size alone it would not be seen: a fast run may have written as much again since the last look.
        if not _has(run.metrics, position, last):
            display.say("the run went back to its newest checkpoint")
            position, last = 0, b""
        whole = _read_whole_lines(run.metrics, position)
        if whole:
            lines = whole.splitlines(keepends=True)
            position, last, told = position + len(whole), lines[-1], False
            yield from map(json.loads, lines)
            continue
        if not told and not is_locked(run.path):
            display.say(f"{run.path}: nobody is training it now; waiting (Ctrl-C ends this)")
            told = True
        time.sleep(LOOK_EVERY_SECONDS)


def _has(path: Path, position: int, last: bytes) -> bool:
    """Whether the line that was read last still stands before this position."""
    if not last:
        return True
    if not path.exists():
        return False
    with path.open("rb") as file:
        file.seek(position - len(last))
        return file.read(len(last)) == last


def _read_whole_lines(path: Path, position: int) -> bytes:
    if not path.exists():
        return b""
    with path.open("rb") as file:
        file.seek(position)
        return b"".join(file.read().rpartition(b"\n")[:2])
