"""Ctrl-C, and an output that is no longer read, end a command quietly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import PATIENCE, ROOT

CLOSED = "import sys, os; from l2s_nmt.cli import main; sys.argv[1:] = ['--help']; main()"


def test_an_output_that_is_not_read_ends_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    found = subprocess.run(
        [sys.executable, "-c", CLOSED], stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, check=False
    )
    os.close(writer)
    assert found.returncode == 1
    assert found.stderr == b""


WATCHED = """
import sys
class Tells:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            print("loading", flush=True)
sys.meta_path.insert(0, Tells())
sys.argv[1:] = ["train", {recipe!r}, "--dry-run"]
import l2s_nmt.__main__ as m
m.main()
"""
"""A command that says when it begins to load something."""


@pytest.mark.parametrize("seconds", [0.0, 0.3])
@pytest.mark.parametrize("module", ["l2s_nmt.cli", "typer", "pydantic", "torch", "torch._dynamo", "datasets"])
def test_ctrl_c_while_libraries_load_ends_with_130(module: str, seconds: float, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "data: {source_language: a, target_language: b, embedded: {train: 900000}}\n"
    )
    code = WATCHED.format(module=module, recipe=str(tmp_path / "recipe.yaml"))
    started = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert started.stdout is not None
    assert started.stdout.readline() == b"loading\n"
    time.sleep(seconds)
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=PATIENCE)
    assert (started.returncode, err) == (130, b"")


@pytest.mark.parametrize("after", ["os.abort()", "print('went on')"])
def test_ctrl_c_ends_quietly_whatever_a_library_that_loads_makes_of_it(after: str, tmp_path: Path) -> None:
    (tmp_path / "library.py").write_text(
        f"import os, signal\ntry: os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException: {after}\n"
    )
    code = (
        "import l2s_nmt.cli as c\n"
        "def loads(): import library\n"
        "c.app.command()(loads)\n"
        "import sys; sys.argv[1:] = ['loads']; import l2s_nmt.__main__ as m; m.main()"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert (found.returncode, found.stdout, found.stderr) == (130, b"", b"")


def test_ctrl_c_while_sentences_are_read_ends_with_130(tmp_path: Path) -> None:
    code = (
        "import sys, l2s_nmt.evaluation.runs as r, l2s_nmt.cli as c, l2s_nmt.commands.lines_in as t\n"
        "listen = t._listen; t._listen = lambda *given: (print('reading', flush=True), listen(*given))\n"
        "r.decoding_of = lambda *_, **__: None\n"
        "import l2s_nmt.run; l2s_nmt.run.Run.read_recipe = lambda self: None\n"
        "sys.argv[1:] = ['translate', 'run']; import l2s_nmt.__main__ as m; m.main()"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == b"reading\n"
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=PATIENCE)
    assert (started.returncode, err) == (130, b"")
