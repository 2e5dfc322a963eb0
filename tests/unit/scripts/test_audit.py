"""The audit says what it found out, and says so where it found out nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers import ROOT


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def audit(folder: Path, answer: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a project with one package, where pip-audit answers as told."""
    shutil.copytree(
        ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("*.py", "__pycache__")
    )
    script(folder / ".venv" / "bin" / "python", "echo torch==2.8.0+cpu")
    script(folder / ".venv-audit" / "bin" / "pip-audit", f'for last; do :; done; cp "$last" asked\n{answer}')
    return subprocess.run(
        ["bash", str(folder / "scripts" / "audit.sh")], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("echo No known vulnerabilities found", 0),
        ("echo Found 2 known vulnerabilities in 1 package; exit 1", 1),
        ("echo 'ERROR: torch: Dependency not found on PyPI and could not be audited'; exit 1", 2),
        ("echo 'ConnectionError: Failed to resolve'; exit 1", 2),
    ],
)
def test_the_status_tells_sound_from_vulnerable_from_unknown(
    answer: str, status: int, tmp_path: Path
) -> None:
    outcome = audit(tmp_path, answer)
    assert outcome.returncode == status, outcome.stderr
    assert ("the vulnerability service could not be asked" in outcome.stderr) == (status == 2)
    assert (tmp_path / "asked").read_text() == "torch==2.8.0\n"


def test_without_an_installation_there_is_nothing_to_audit(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    outcome = subprocess.run(
        ["bash", str(tmp_path / "scripts" / "audit.sh")], capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 2
    assert "nothing is installed in .venv" in outcome.stderr
