"""The lines of a run that is followed, while it writes and takes lines back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from l2s_nmt.errors import UserError
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
    texts: list[str | None], folder: Path, monkeypatch: pytest.MonkeyPatch, trained_until: int = 0
) -> tuple[list[int], list[str]]:
    """What is shown of a run whose metrics.jsonl is found like this, look by look; None: it is not there.

    Somebody is training it until so many looks are over.
    """
    (folder / "recipe.yaml").write_text(RECIPE)
    run = Run(folder)
    rest = iter(texts)
    looks = iter(range(1, 100))
    monkeypatch.setattr(watching, "is_locked", lambda path: next(looks) <= trained_until)

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


def test_a_run_that_goes_on_behind_its_end_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = line(1, 1.0) + END
    texts: list[str | None] = [first, first, first + line(5, 10.0), first + line(5, 10.0) + END]
    shown, said = followed(texts, tmp_path, monkeypatch, trained_until=5)
    assert shown == [1, 5]
    assert len(said) == 2


@pytest.mark.parametrize(
    "damaged",
    ["{\n", "[]\n", '{"kind": "validation", "update": 3, "used": 0.1}\n', '{"update": 1}\n', "\xff\n"],
)
def test_a_damaged_line_is_named(damaged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"metrics.jsonl.*: damaged: not a record of training"):
        followed([line(1, 1.0) + damaged + END], tmp_path, monkeypatch)
