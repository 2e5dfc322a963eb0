"""The virtual environment is made once, anew for another Python, and installs what is not there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers import ROOT

PYTHON = """#!/bin/bash
case "$1 $2" in
    "--version "*) echo "Python VERSION" ;;
    "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip") echo "${@: -1}" >> asked ;;
    *) exit STATUS ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "constraints.txt", "scripts/environment.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def python(project: Path, version: str, name: str = "python3", status: int = 0) -> None:
    """An interpreter that only says which it is, and notes what it is to install."""
    path = project / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(PYTHON.replace("VERSION", version).replace("STATUS", str(status)))
    path.chmod(0o755)


def install(project: Path, extras: str, **chosen: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail; source scripts/environment.sh; install_project '{extras}'"],
        cwd=project,
        env={"PATH": f"{project / 'bin'}:/usr/bin:/bin", **chosen},
        capture_output=True,
        text=True,
        check=False,
    )


def asked(project: Path) -> list[str]:
    """What was installed so far."""
    return (project / "asked").read_text().splitlines()


def test_what_is_there_is_not_installed_again(project: Path) -> None:
    python(project, "3.11.7")
    for extras in ("", "dev", "", "dev,deepspeed", "dev", "deepspeed"):
        assert install(project, extras).returncode == 0
    assert asked(project) == [".", ".[dev]", ".[dev,deepspeed]"]


def test_what_is_needed_has_changed(project: Path) -> None:
    python(project, "3.11.7")
    install(project, "dev")
    with (project / "constraints.txt").open("a") as constraints:
        constraints.write("another==1\n")
    for extras in ("", "dev"):
        install(project, extras)
    assert asked(project) == [".[dev]", ".", ".[dev]"]


def test_another_python_makes_the_environment_anew(project: Path) -> None:
    python(project, "3.11.7")
    python(project, "3.12.1", "python3.12")
    install(project, "dev")
    assert "of another Python" in install(project, "", PYTHON="python3.12").stdout
    assert "Python 3.12.1" in (project / ".venv/bin/python").read_text()
    # Where none is chosen, it is that of the environment, whatever python3 is.
    assert install(project, "").stdout == ""
    assert asked(project) == [".[dev]", "."]


def test_a_python_that_is_too_old_is_refused(project: Path) -> None:
    python(project, "3.10.2", status=1)
    outcome = install(project, "dev")
    assert outcome.returncode == 2
    assert "error: Python 3.11 or newer is needed" in outcome.stderr
    assert not (project / ".venv").exists()
