"""Roll-outs in parts: by a budget, and after memory ran out."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from l2s_nmt import decoding
from l2s_nmt.data.batches import Batch
from l2s_nmt.decoder_state import DecoderState
from l2s_nmt.decoding import best_tokens, branches_at_once, in_parts
from l2s_nmt.model import Policy
from l2s_nmt.search.sampling import greedy
from tests.tiny import FAMILIES, new_policy, random_batch, shared_policy

Finished = tuple[Tensor, Tensor]


def trunk_of(policy: Policy, batch: Batch) -> DecoderState:
    with torch.no_grad():
        memory = policy.encode(batch.source, batch.source_mask)
    return policy.prefill(memory, batch.target, torch.tensor([0]))[1]


def every_branch(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four actions at every second position, not in the order of positions."""
    branches = [
        (row, position, action, 4 + (row + action) % 6)
        for row, length in enumerate(batch.target_lengths.tolist())
        for position in reversed(range(0, length, 2))
        for action in (3, 5, 8, 9)
    ]
    sentence, position, action, limits = torch.tensor(branches).unbind(1)
    return sentence, position, action, limits


def finished(policy: Policy) -> Finished:
    batch = random_batch(shared_policy(), 5, seed=40)
    return policy.continue_branches(trunk_of(policy, batch), *every_branch(batch))


def same(one: Finished, other: Finished) -> bool:
    return torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("budget", [1, 25, 60, 10_000])
def test_a_budget_changes_nothing(family: str, budget: int) -> None:
    policy = new_policy(family)
    expected = finished(policy)
    policy.max_branch_tokens = budget
    assert same(finished(policy), expected)


def test_a_budget_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = new_policy()
    sizes: list[int] = []
    advance = policy.advance

    def counted(state: DecoderState, tokens: Tensor) -> Tensor:
        sizes.append(len(tokens))
        return advance(state, tokens)

    monkeypatch.setattr(policy, "advance", counted)
    finished(policy)
    assert max(sizes) > 6
    sizes.clear()
    policy.max_branch_tokens = 60  # ten tokens at most
    finished(policy)
    assert max(sizes) == 6


def test_whoever_chooses_is_told_the_branch_whatever_the_budget() -> None:
    batch = random_batch(shared_policy(), 5, seed=40)
    branches = every_branch(batch)
    for budget in (None, 30):
        policy = new_policy()
        policy.max_branch_tokens = budget
        told: dict[int, list[int]] = {}

        def choose(scores: Tensor, step: int, rows: Tensor, told: dict[int, list[int]] = told) -> Tensor:
            for row in rows.tolist():
                told.setdefault(row, []).append(step)
            return 3 + (rows + step) % 7

        tokens, lengths = policy.continue_branches(trunk_of(policy, batch), *branches, choose)
        position = branches[1]
        for row, length in enumerate(lengths.tolist()):
            first = int(position[row]) + 1
            assert told.get(row, []) == list(range(first, first + length - 1))
            assert tokens[row, 1:length].tolist() == [3 + (row + step) % 7 for step in told.get(row, [])]


def test_where_memory_runs_out_it_goes_on_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = new_policy()
    expected = finished(policy)
    advance = policy.advance

    def small(state: DecoderState, tokens: Tensor) -> Tensor:
        if len(tokens) > 9:
            raise torch.OutOfMemoryError("no")
        return advance(state, tokens)

    monkeypatch.setattr(policy, "advance", small)
    with pytest.warns(UserWarning, match=r"out of memory with \d+ roll-outs at a time; going on with \d+"):
        assert same(finished(policy), expected)


def test_not_even_one_fits() -> None:
    def finish(rows: Tensor) -> None:
        raise torch.OutOfMemoryError("no")

    with pytest.warns(UserWarning, match="going on with [12]"), pytest.raises(torch.OutOfMemoryError):
        list(in_parts(torch.arange(4), 4, finish))


@pytest.mark.parametrize("family", FAMILIES)
def test_sentences_may_leave_late(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, batch = shared_policy(family), random_batch(shared_policy(family), 9, seed=41)
    memory, limits = policy.encode(batch.source, batch.source_mask), torch.arange(9) % 5 + 4
    rolled, expected = policy.roll(memory, limits, greedy), finished(policy)
    sizes: list[int] = []
    next_scores = policy.next_scores

    def counted(hidden: Tensor) -> Tensor:
        sizes.append(len(hidden))
        return next_scores(hidden)

    monkeypatch.setattr(policy, "next_scores", counted)
    monkeypatch.setattr(decoding, "settle_every", lambda device: 3)
    assert same(policy.roll(memory, limits, greedy), rolled)
    assert any(one == other for one, other in pairwise(sizes))
    assert same(finished(policy), expected)


def test_parts_are_all_rows_in_their_order() -> None:
    asked: list[list[int]] = []

    def finish(rows: Tensor) -> int:
        if len(rows) > 2:
            raise torch.OutOfMemoryError("no")
        asked.append(rows.tolist())
        return len(rows)

    with pytest.warns(UserWarning, match="going on with 2"):
        found = list(in_parts(torch.tensor([4, 2, 0, 1, 3]), 5, finish))
    assert asked == [[4, 2], [0, 1], [3]]
    assert [count for _, count in found] == [2, 2, 1]


def test_what_fits_is_counted_in_bytes() -> None:
    policy, batch = shared_policy(), random_batch(shared_policy(), 3)
    trunk = trunk_of(policy, batch)
    # Two layers of keys and values of 16 numbers in double precision.
    assert trunk.bytes_a_token() == 2 * 2 * 16 * 8
    width, source = 10, batch.source.shape[1]
    assert branches_at_once(trunk, width, 1_000) == 2**28 // ((width + source) * 512 + 1_000)


def test_best_tokens_are_the_first_of_the_best() -> None:
    scores = torch.tensor([[0.0, 2.0, 2.0], [1.0, -1.0, 1.0]])
    assert best_tokens(scores).tolist() == best_tokens(scores.bfloat16()).tolist() == [1, 0]


def test_on_a_gpu_what_torch_keeps_of_what_it_freed_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("mem_get_info", (1_000, 10_000)),
        ("memory_reserved", 8_000),
        ("memory_allocated", 3_000),
    ):
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    trunk: Any = SimpleNamespace(
        bytes_a_token=lambda: 2, mask=SimpleNamespace(device=torch.device("cuda", 0), shape=(3, 4))
    )
    assert branches_at_once(trunk, 6, 10) == int(decoding._SHARE * 6_000) // (10 * 2 + 10)
