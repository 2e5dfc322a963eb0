"""Follow a run from another terminal, by its metrics.jsonl."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from l2s_nmt.errors import UserError
from l2s_nmt.run import Run, is_locked, read_record
from l2s_nmt.training.health import Health
from l2s_nmt.training.progress import Display, validation_text

LOOK_EVERY_SECONDS = 0.5


def watch(run: Run, display: Display) -> None:
    """Show what a run measures, from where it stands to its end.

    Args:
        run: that is trained, or was.
        display: where it is shown.

    Raises:
        UserError: it is no run directory, or its metrics are damaged.
    """
    run.read_recipe()
    shown, ended = _Shown(display), False
    with display:
        for line in _lines(run, display):
            if line is not None:
                try:
                    shown.add(line)
                    ended = line["kind"] == "end"
                except (KeyError, TypeError, ValueError) as error:
                    raise UserError(
                        f"{run.metrics}, update {line['update']}: damaged: not a record of training ({error!r})"
                    ) from error
            elif ended and not is_locked(run.path):  # else it goes on, with raised limits
                return


class _Shown:
    """What of a run's records is shown."""

    def __init__(self, display: Display) -> None:
        self._display, self._health = display, Health()
        self._newest = dict[str, Any]()

    def add(self, line: dict[str, Any]) -> None:
        """Show a record."""
        kind, newest = line["kind"], self._newest
        if kind == "end":
            self._display.say(
                f"done: {line['update']:,} updates in {line['minutes']:.1f} minutes; best validation BLEU "
                f"{line['best_bleu']:.2f} at update {line['best_update']:,}"
            )
            return
        for warning in self._health(kind, line):
            self._display.say(f"update {line['update']:,}: {warning}")
        if kind == "validation":
            newest["best_bleu"] = max(line["bleu"], newest.get("best_bleu", line["bleu"]))
            self._display.say(validation_text(line))
            newest["bleu"] = line["bleu"]
        else:
            newest |= line
        self._display.step(line["used"], line["update"], newest)


def _lines(run: Run, display: Display) -> Iterator[dict[str, Any] | None]:
    """Whole lines as they come, and None where there is none; from the beginning where a run took lines back."""
    position, last, told = 0, b"", False
    while True:
        there = _read(run.metrics, position - len(last))
        # By its size alone it would not be seen: a fast run may have written as much again since the last look.
        if not there.startswith(last):
            display.say("the run went back to its newest checkpoint")
            position, last = 0, b""
            continue
        whole = there[len(last) :].rpartition(b"\n")[0]
        if whole:
            lines = [line + b"\n" for line in whole.split(b"\n")]
            position, last, told = position + len(whole) + 1, lines[-1], False
            yield from (read_record(line.decode(errors="replace"), str(run.metrics)) for line in lines)
            continue
        yield None
        if not told and not is_locked(run.path):
            behind = json.loads(last)["update"] if last else 0
            display.say(
                f"{run.path}: nobody is training it now{_why(run, behind)}; waiting (Ctrl-C ends this)"
            )
            told = True
        time.sleep(LOOK_EVERY_SECONDS)


def _why(run: Run, behind: int) -> str:
    """What ended training, where it left a fault at that update or behind it; it went on after those before."""
    for path in sorted((run.path / "faults").glob("*.json"))[-1:]:
        with suppress(OSError, ValueError, KeyError):
            fault = json.loads(path.read_text(encoding="utf-8"))
            if fault["update"] >= behind:
                return f" ({fault['reason']}: see {path})"
    return ""


def _read(path: Path, position: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(position)
            return file.read()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
