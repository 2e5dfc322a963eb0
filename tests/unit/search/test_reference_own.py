"""A reference of the user's own, in every place where a reference is asked: that of the README."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from l2s_nmt.errors import UserError
from l2s_nmt.search.randomness import Draws
from tests.helpers import ROOT
from tests.searches import search_of
from tests.tiny import random_batch, shared_policy

OWN: dict[str, Any] = {"name": "own", "function": "my_reference:StopNow"}


@pytest.fixture(autouse=True)
def stop_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(
        r"```python\n(\"\"\"my_reference\.py.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    (tmp_path / "my_reference.py").write_text(code)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("roll_in", ["reference", "mixed"])
def test_it_rolls_in_itself_and_not_the_target(roll_in: str) -> None:
    mixture = {"mix_unit": "sentence", "p_reference": 1.0} if roll_in == "mixed" else {}
    search = search_of("lols", reference=OWN, roll_in={"policy": roll_in, **mixture})
    with torch.no_grad():
        found = search(shared_policy(), random_batch(shared_policy(), 5, seed=3), Draws(1, 0)).trajectories
    assert found.lengths.tolist() == [1] * 5
    assert (found.tokens[:, 0] == shared_policy().eos).all()
    assert found.by_reference[:, 0].all()


@pytest.mark.parametrize("algorithm", ["dagger", "scheduled_sampling", "lols", "searn"])
def test_it_need_not_know_costs_where_nobody_asks_for_them(algorithm: str) -> None:
    search_of(algorithm, reference=OWN)


@pytest.mark.parametrize(
    ("algorithm", "reference"), [("aggrevated", OWN), ("dagger", {**OWN, "coaching": 0.5})]
)
def test_it_must_know_costs_where_they_are_weighed(algorithm: str, reference: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="StopNow without the method costs"):
        search_of(algorithm, reference=reference)
