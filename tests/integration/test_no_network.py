"""Nothing is sent anywhere: with every way to the network recorded and refused, all commands do their work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.helpers import PATIENCE, ROOT, environment, tiny_recipe, write_recipe

WATCH = """
import os, sys

# Audit hooks see every call of every library, whatever names it goes by.
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        with open(os.environ["NETWORK_LOG"], "a") as log:
            log.write(f"{event} {arguments[1:] if event == 'socket.connect' else arguments}\\n")
        raise OSError("no network")

sys.addaudithook(watch)
"""


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    """Variables of a process that may not reach the network, and does not know it."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    variables = environment(tmp_path)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "DO_NOT_TRACK"):
        variables.pop(name, None)
    path = os.pathsep.join([str(tmp_path / "watch"), str(ROOT)])
    return {**variables, "NETWORK_LOG": str(tmp_path / "log"), "PYTHONPATH": path}


COMMANDS = """
import io, json, sys
from l2s_nmt.cli import main

for arguments in json.load(sys.stdin):
    sys.argv[1:] = arguments
    sys.stdin = io.TextIOWrapper(io.BytesIO(b"ba ke\\n"))
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""


def test_no_command_reaches_for_the_network(corpus: Path, tmp_path: Path, offline: dict[str, str]) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny_recipe(corpus, training={"max_updates": 2}))
    onward = tiny_recipe(
        corpus, model={"pretrained": str(tmp_path / "run" / "best")}, training={"max_updates": 1}
    )
    del onward["tokenizer"], onward["model"]["architecture"]
    run: list[str | Path] = [tmp_path / "run", "--beam", "1"]
    commands: list[list[str | Path]] = [
        ["train", recipe, "--output", tmp_path / "run", "training.trackers=[tensorboard]"],
        ["train", write_recipe(tmp_path / "onward.yaml", onward), "--output", tmp_path / "onward"],
        ["evaluate", *run],
        ["translate", *run],
        ["compare", *run, "--output", tmp_path / "report"],
        ["explain", tmp_path / "run", "--output", tmp_path / "explanation"],
        ["score", tmp_path / "run", corpus / "test.xb"],
    ]
    if find_spec("ctranslate2"):
        commands.append(["export", tmp_path / "run", "--output", tmp_path / "exported"])
    found = subprocess.run(
        [sys.executable, "-c", COMMANDS], cwd=ROOT, env=offline, capture_output=True, text=True, timeout=PATIENCE,
        input=json.dumps([list(map(str, arguments)) for arguments in commands]),
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "report" / "comparison.html").is_file()
    assert (tmp_path / "explanation" / "explanation.html").is_file()
    assert not (tmp_path / "log").exists(), (tmp_path / "log").read_text()


def test_the_watch_would_see_an_attempt(tmp_path: Path, offline: dict[str, str]) -> None:
    code = "import urllib.request as r; r.urlopen('http://127.0.0.1:9')"
    found = subprocess.run(
        [sys.executable, "-c", code], env=offline, capture_output=True, text=True, check=False
    )
    assert "no network" in found.stderr
    assert "socket.getaddrinfo" in (tmp_path / "log").read_text()
