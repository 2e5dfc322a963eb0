"""The table of roll-ins and roll-outs: what it is asked for in vain, and how figures become a table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from l2s_nmt import make_recipe
from l2s_nmt.errors import UserError
from l2s_nmt.run import open_run
from scripts.roll_in_roll_out_table import EMBEDDED, cells, markdown, picture, start_recipe, train_and_score
from tests.helpers import ROOT

FIGURES = {
    "roll_outs": 40_000,
    "start": [60.0, 62.0],
    "signature": "nrefs:1",
    "cells": [
        {"cell": list(cell), "bleu": [58.0 + number, 60.0 + number]} for number, cell in enumerate(cells())
    ],
}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "error: nowhere"),
        (["--seeds", "0"], "argument --seeds: 0 is too few; give 1 or more"),
        (["--updates", "many"], "argument --updates: 'many' is no whole number"),
        (["--roll-outs", "-1"], "argument --roll-outs: -1 is too few; give 1 or more"),
    ],
)
def test_what_cannot_be_is_refused(options: list[str], message: str, tmp_path: Path) -> None:
    command = [sys.executable, "scripts/roll_in_roll_out_table.py", *options, "--output", str(tmp_path)]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert outcome.returncode == 2
    assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_each_cell_has_its_mean_and_what_was_published() -> None:
    lines = markdown(FIGURES).splitlines()
    # The deviation of 58 and 60 is the square root of 2.
    assert lines[2] == ("| optimal | reference | 59.0 ± 1.4 | 60.0 ± 1.4 | 61.0 ± 1.4 | 87.2 | 89.7 | 88.2 |")
    assert lines[4].startswith("| suboptimal | reference | 65.0 ± 1.4 |")
    assert lines[7] == "| bad | learned | 74.0 ± 1.4 | 75.0 ± 1.4 | 76.0 ± 1.4 | 75.8 | 89.4 | 87.5 |"
    assert "a teacher-forced start of 61.0 ± 1.4" in lines[-1]


def test_the_picture_shows_the_change_from_the_start() -> None:
    texts = [element.text for element in ElementTree.fromstring(picture(FIGURES)).iter()]
    assert [text for text in texts if text and text[0] in "+-"] == [
        *("-2.0", "+1.0", "-1.0", "+2.0", "+0.0", "+3.0"),
        *("+4.0", "+7.0", "+5.0", "+8.0", "+6.0", "+9.0"),
        *("+10.0", "+13.0", "+11.0", "+14.0", "+12.0", "+15.0"),
    ]


def test_a_run_with_other_options_is_refused(tmp_path: Path) -> None:
    recipe = start_recipe(1, EMBEDDED, 2)
    open_run(tmp_path / "run", make_recipe(recipe), [])
    with pytest.raises(UserError, match="was trained with other options; give those"):
        train_and_score(start_recipe(1, EMBEDDED, 6), tmp_path / "run")
