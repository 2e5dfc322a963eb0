"""A run is followed from another terminal."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.helpers import command, done, tiny_recipe, write_recipe
from tests.processes import Copy, lines_of, start_copy, wait_until


def test_a_run_is_followed_to_its_end(corpus: Path, tmp_path: Path) -> None:
    """Through a stop, and the lines that are taken back when it goes on."""
    run = tmp_path / "run"
    training = {"max_updates": 60, "log_every": 2, "validate_every": 20, "checkpoint_every": 50}
    path = write_recipe(
        tmp_path / "recipe.yaml", tiny_recipe(corpus, search={"algorithm": "aggrevated"}, training=training)
    )
    first = start_copy("train", path, "--output", run)
    wait_until(lambda: lines_of(run / "metrics.jsonl") >= 5, first)
    first.send(signal.SIGKILL)
    assert first.outcome().status == -signal.SIGKILL
    watching = start_copy("watch", run)
    wait_until(lambda: b"nobody is training it now" in said_by(watching), watching)
    training_said = done(command("train", path, "--output", run)).err
    outcome = done(watching.outcome())
    assert f"{run}: nobody is training it now" in outcome.err
    assert "the run went back to its newest checkpoint" in outcome.err
    assert " %  update " in outcome.err
    validated = [line for line in training_said.splitlines() if line.startswith("update ")]
    assert len(validated) in (2, 3)  # what it went back behind is done again
    for line in validated:
        update, found = line.partition(",")[0], line.partition("validation ")[2]
        assert "perplexity" in found
        assert any(said.startswith(update) and said.endswith(found) for said in outcome.err.splitlines())
    assert "done: 60 updates in " in outcome.err


def said_by(watching: Copy) -> bytes:
    return os.pread(watching.err.fileno(), 1 << 16, 0)


def test_what_is_no_run_is_not_watched(tmp_path: Path) -> None:
    assert "not a run directory" in command("watch", tmp_path).error()


def test_watching_ends_with_the_terminal(corpus: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "recipe.yaml", tiny_recipe(corpus, training={"max_updates": 2}))
    done(command("train", path, "--output", tmp_path / "run"))
    (tmp_path / "run" / "metrics.jsonl").write_text("")
    watching = start_copy("watch", tmp_path / "run")
    wait_until(lambda: b"nobody is training it now" in said_by(watching), watching)
    watching.send(signal.SIGINT)
    outcome = watching.outcome()
    assert outcome.status == 130
    assert "Traceback" not in outcome.err
