"""The tutorial runs as it stands, block after block."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from l2s_nmt.run import Run, read_metrics
from tests.helpers import ROOT

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "recipes/tutorial/README.md").read_text(), re.DOTALL)
SMALLER = (
    '"search.length_limit={factor: 1.0, constant: 5}", "data.embedded={train: 2000, valid: 50, test: 50}"'
)
"""A model that has hardly been trained does not end by itself."""


@pytest.mark.parametrize("minutes", ["0.1", pytest.param("3", marks=pytest.mark.slow)])
def test_lols_is_built_from_its_parts(
    minutes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) >= 5
    names: dict[str, Any] = {}
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    for number, block in enumerate(BLOCKS):
        if minutes != "3":
            start = f'"training.max_minutes={minutes}", "tokenizer.vocabulary=500", {SMALLER}'
            block = block.replace('"training.max_minutes=3"', start)
            block = block.replace('"training.max_updates=5"', f'"training.max_updates=5", {SMALLER}')
        exec(compile(block, f"block {number}", "exec"), names)
    printed = capsys.readouterr().out
    assert "cost of the roll-ins: " in printed
    assert " costs 0.000" in printed
    assert len(names["decisions"]) == 24
    assert names["outcome"].roll_outs > 24
    assert float(names["costs"].costs.max()) > 0
    lines = read_metrics(Run(Path("runs/tutorial/lols")))
    assert lines[-1]["roll_outs"] > 0
