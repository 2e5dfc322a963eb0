"""A program that answers as comet-score does stands in for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.comet import score_by_comet
from l2s_nmt.evaluation.compare import compare
from l2s_nmt.evaluation.types import Replicate, System

PROGRAM = """#!{python}
import argparse, json, sys
parser = argparse.ArgumentParser()
for name in ("-s", "-r", "--model", "--gpus", "--to_json"):
    parser.add_argument(name)
parser.add_argument("-t", nargs="+")
for name in ("--only_system", "--quiet"):
    parser.add_argument(name, action="store_true")
given = parser.parse_args()
{special}
def lines(path):
    return [line.rstrip("\\n") for line in open(path, encoding="utf-8")]
def score(source, translation, reference):
    return (len(set(translation.split()) & set(reference.split())) + 0.125 * len(source)) / 10
data = {{
    path: [{{"COMET": score(*row)}} for row in zip(lines(given.s), lines(path), lines(given.r), strict=True)]
    for path in given.t
}}
json.dump(data, open(given.to_json, "w"))
"""

SOURCES = ["x", "yy\u2028y"]
REFERENCES = [["a b c", "z z z"], ["d e f"]]
SYSTEMS = [
    System("first", [Replicate("1", ["a", "d e"]), Replicate("2", ["", "d\re"])]),
    System("second", [Replicate("3", ["a b c", "d e f"])]),
]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    return install(tmp_path)


def install(folder: Path, special: str = "") -> Path:
    path = folder / "comet-score"
    path.write_text(PROGRAM.format(python=sys.executable, special=special))
    path.chmod(0o755)
    return path


def test_every_translation_is_scored_against_the_first_reference(program: Path) -> None:
    found = score_by_comet("some/model", SYSTEMS, SOURCES, REFERENCES)
    assert [len(runs) for runs in found.scores] == [2, 1]
    assert found.scores[0][0] == pytest.approx([11.25, 25.0])
    assert found.scores[0][1] == pytest.approx([1.25, 25.0])
    assert found.scores[1][0] == pytest.approx([31.25, 35.0])
    assert found.signature == "comet-score|model:some/model|reference:first|times:100"


def test_it_is_a_metric_like_the_others(program: Path) -> None:
    learned = score_by_comet("m", SYSTEMS, SOURCES, REFERENCES)
    found = compare(SYSTEMS, SOURCES, REFERENCES, learned=learned, resamples=100, trials=100)
    assert found.metrics == ("bleu", "chrf", "ter", "comet")
    first, second = (system.metrics["comet"] for system in found.systems)
    assert first.score == pytest.approx(np.mean([11.25, 25.0, 1.25, 25.0]))
    assert second.difference == pytest.approx(33.125 - first.score)
    assert second.p_value_randomisation is not None
    values = json.loads(json.dumps(found.to_json()))
    assert values["systems"][1]["comet"] == pytest.approx(33.125)
    assert values["systems"][1]["comet_p_value"] == second.p_value


def test_without_the_program_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        UserError, match="no comet-score on the path; install unbabel-comet into an environment"
    ):
        score_by_comet("m", SYSTEMS, SOURCES, REFERENCES)


@pytest.mark.parametrize(
    ("special", "words"),
    [
        ("sys.exit('no such model')", "ended with status 1: no such model"),
        ("sys.exit(3)", "ended with status 3: it said nothing"),
        ("sys.exit(0)", "wrote no scores"),
        ("open(given.to_json, 'w').write('{}'); sys.exit(0)", "something else than scores"),
        (
            "json.dump({path: [{'COMET': 1}] for path in given.t}, open(given.to_json, 'w')); sys.exit(0)",
            "scored 1 translations of 2",
        ),
        (
            "json.dump({path: [{'COMET': float('nan')}] * 2 for path in given.t}, open(given.to_json, 'w'))\n"
            "sys.exit(0)",
            "or not with numbers",
        ),
    ],
)
def test_what_goes_wrong_there_is_told(program: Path, special: str, words: str) -> None:
    install(program.parent, special)
    with pytest.raises(UserError, match=words):
        score_by_comet("m", SYSTEMS, SOURCES, REFERENCES)
