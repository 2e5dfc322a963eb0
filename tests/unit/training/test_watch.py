"""The lines of a run that is followed, while it writes and takes lines back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from l2s_nmt.run import Run
from l2s_nmt.training import watch as watching

RECIPE = "data: {files: corpus, source_language: de, target_language: en}\n"
BACK = "the run went back to its newest checkpoint"


class Said:
    """A display that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[int] = []

    def __enter__(self) -> Said:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def say(self, line: str) -> None:
        self.lines.append(line)

    def step(self, used: float, update: int, shown: dict[str, Any]) -> None:
        self.steps.append(update)


def line(update: int, minutes: float, kind: str = "train") -> str:
    values = {"kind": kind, "update": update, "used": 0.5, "minutes": minutes}
    return json.dumps(values | ({"best_bleu": 1.0, "best_update": 1} if kind == "end" else {})) + "\n"


def followed(
    texts: list[str | None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[int], list[str]]:
    """What is shown of a run whose metrics.jsonl is found like this, look by look; None: it is not there."""
    (folder / "recipe.yaml").write_text(RECIPE)
    run = Run(folder)
    rest = iter(texts)

    def next_look(seconds: float) -> None:
        text = next(rest)
        if text is None:
            run.metrics.unlink(missing_ok=True)
        else:
            run.metrics.write_text(text)

    monkeypatch.setattr("time.sleep", next_look)
    said = Said()
    watching.watch(run, said)  # type: ignore[arg-type]
    return said.steps, [text for text in said.lines if text == BACK or text.startswith("done")]


END = line(4, 9.0, "end")


@pytest.mark.parametrize(
    ("texts", "steps", "backs"),
    [
        pytest.param([None, line(1, 1.0), line(1, 1.0) + line(2, 2.0) + END], [1, 2], 0, id="it grows"),
        pytest.param(
            [line(1, 1.0)[:9], line(1, 1.0)[:-1], line(1, 1.0) + END], [1], 0, id="half a line is waited for"
        ),
        pytest.param(
            [line(1, 1.0) + line(2, 2.0), line(1, 1.0), line(1, 1.0) + line(2, 3.0) + END],
            [1, 2, 1, 2],
            1,
            id="seen while it is shorter",
        ),
        pytest.param(
            [line(1, 1.0) + line(2, 2.0), line(1, 1.0) + line(2, 3.0) + line(3, 4.0) + END],
            [1, 2, 1, 2, 3],
            1,
            id="longer again before it is looked at",
        ),
        pytest.param(
            [line(1, 1.0) + line(2, 2.0), line(1, 1.0) + line(2, 13.25) + END],
            [1, 2, 1, 2],
            1,
            id="with lines of other lengths",
        ),
        pytest.param([line(1, 1.0), None, line(1, 5.0) + END], [1, 1], 1, id="begun again"),
    ],
)
def test_every_line_is_shown_and_those_taken_back_again(
    texts: list[str | None], steps: list[int], backs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, said = followed(texts, tmp_path, monkeypatch)
    assert shown == steps
    assert said == [BACK] * backs + ["done: 4 updates in 9.0 minutes; best validation BLEU 1.00 at update 1"]
