"""A reference of the user's own, in every place where a reference is asked: that of the README."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.errors import UserError
from l2s_nmt.search.context import LengthLimit, see
from l2s_nmt.search.costs.cost import Cost
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.copy import Copy
from l2s_nmt.search.reference.edit_distance import EditDistance
from l2s_nmt.search.reference.protocol import Reference
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


def test_a_loss_of_prefixes_needs_the_cost_of_every_token(tmp_path: Path) -> None:
    (tmp_path / "my_prices.py").write_text(
        "from dataclasses import replace\n"
        "from l2s_nmt.search.reference.suffix import Suffix\n"
        "class Listed(Suffix):\n"
        "    def costs(self, *states):\n"
        "        decisions, costs = super().costs(*states)\n"
        "        return decisions, replace(costs, other=None)\n"
    )
    search = search_of(
        "aggrevated",
        reference={"name": "own", "function": "my_prices:Listed"},
        roll_in={"samples": 2},
        loss={"name": "beam_expected_cost"},
    )
    with torch.no_grad(), pytest.raises(UserError, match=r"search.reference.function gives have no `other`"):
        search(shared_policy(), random_batch(shared_policy(), 5, seed=3), Draws(1, 0))


def test_a_worse_one_is_tried_and_need_not_know_costs() -> None:
    search_of("aggrevated", reference={**OWN, "quality": "bad"})


class Counted:
    """A cost of one's own that counts what it is asked."""

    def __init__(self) -> None:
        self.sentences = 0

    def __call__(self, hypotheses: Tensor, lengths: Tensor, sentence: Tensor, batch: Batch, /) -> Tensor:
        self.sentences += len(lengths)
        return lengths.float()


@pytest.mark.parametrize("made", [Copy, EditDistance])
def test_the_next_token_is_told_without_the_cost_of_the_sentence(
    made: Callable[[Cost], Reference],
) -> None:
    cost = Counted()
    policy, batch = shared_policy(), random_batch(shared_policy(), 5, seed=3)
    context = see(policy, batch, Draws(1, 0), LengthLimit(1.0, 3))
    nothing, none = batch.target[:, :0], torch.zeros(5, dtype=torch.long)
    found = made(cost).complete(context, nothing, none, torch.arange(5))
    assert torch.equal(found.next_tokens(none), batch.target[:, 0])
    assert cost.sentences == 0
    assert torch.equal(found.losses, (batch.target_lengths - 1).float())
    assert found.losses is found.losses
    assert cost.sentences == 5


def test_the_cheapest_suffix_under_a_cost_of_ones_own_may_be_no_target(tmp_path: Path) -> None:
    (tmp_path / "my_words.py").write_text(
        "def words(sources, translations, references):\n    return [len(t.split()) for t in translations]\n"
    )
    search = search_of(
        "lols", cost={"name": "own", "function": "my_words:words"}, roll_in={"policy": "reference"}
    )
    with torch.no_grad():
        found = search(shared_policy(), random_batch(shared_policy(), 5, seed=3), Draws(1, 0)).trajectories
    assert found.lengths.tolist() == [1] * 5


@pytest.mark.parametrize("algorithm", ["dagger", "scheduled_sampling", "lols", "searn"])
def test_it_need_not_know_costs_where_nobody_asks_for_them(algorithm: str) -> None:
    search_of(algorithm, reference=OWN)


@pytest.mark.parametrize(
    ("algorithm", "reference"), [("aggrevated", OWN), ("dagger", {**OWN, "coaching": 0.5})]
)
def test_it_must_know_costs_where_they_are_weighed(algorithm: str, reference: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="StopNow without the method costs"):
        search_of(algorithm, reference=reference)
