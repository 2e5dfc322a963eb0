"""Branches off a trunk, each with its own limit, against decoding word by word without a cache."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.decoder_state import DecoderState
from l2s_nmt.model import Policy
from tests.tiny import FAMILIES, VOCABULARY, finish, next_scores, random_batch, shared_policy, source_of

few = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
families = pytest.mark.parametrize("family", FAMILIES)

Branch = tuple[int, int, int, int]
"""Sentence, position, action, limit."""


@st.composite
def deviations(draw: st.DrawFn) -> tuple[int, list[Branch]]:
    """Seed of a batch of five, and branches, whose positions are to be cut to the target's."""
    action = st.integers(0, VOCABULARY - 1)
    branch = st.tuples(st.integers(0, 4), st.integers(0, 6), action, st.integers(1, 9))
    return draw(st.integers(0, 3)), draw(st.lists(branch, min_size=1, max_size=7))


def trunk_of(policy: Policy, batch: Batch) -> DecoderState:
    with torch.no_grad():
        memory = policy.encode(batch.source, batch.source_mask)
    return policy.prefill(memory, batch.target, torch.tensor([0]))[1]


@families
@few
@given(deviations())
def test_branches_equal_decoding_each_without_cache(family: str, given: tuple[int, list[Branch]]) -> None:
    seed, wanted = given
    policy = shared_policy(family)
    batch = random_batch(policy, 5, seed=20 + seed)
    branches = [
        (row, min(position, int(batch.target_lengths[row]) - 1), action, limit)
        for row, position, action, limit in wanted
        if action != policy.pad
    ]
    check_branches(policy, batch, branches)


def check_branches(policy: Policy, batch: Batch, branches: list[Branch]) -> None:
    rows, positions, actions, limits = torch.tensor(branches, dtype=torch.long).view(-1, 4).unbind(1)
    tokens, lengths = policy.continue_branches(trunk_of(policy, batch), rows, positions, actions, limits)
    expected = []
    for row, position, action, limit in branches:
        prefix = [*batch.target[row, :position].tolist(), action]
        expected.append(finish(policy, source_of(batch, row), prefix, limit)[position:])
    assert lengths.tolist() == [len(row) for row in expected]
    width = max(map(len, expected), default=0)
    assert tokens.tolist() == [[*row, *[policy.pad] * (width - len(row))] for row in expected]


@families
def test_branches_of_all_kinds_at_once(family: str) -> None:
    policy, batch = shared_policy(family), random_batch(shared_policy(family), 6, seed=30)
    everywhere = [
        (row, position, action, 1 + (5 * row + position + 3 * action) % 9)
        for row, length in enumerate(batch.target_lengths.tolist())
        for position in range(length)
        for action in (policy.eos, *range(3, 9))
    ]
    check_branches(policy, batch, everywhere[::-1])


def test_every_action_at_one_state() -> None:
    policy, batch = shared_policy(), random_batch(shared_policy(), 6, seed=31)
    row = int(batch.target_lengths.argmax())
    check_branches(policy, batch, [(row, 2, action, 9) for action in range(VOCABULARY - 1)])


def test_the_same_branch_within_every_limit() -> None:
    policy, batch = shared_policy(), random_batch(shared_policy(), 6, seed=31)
    check_branches(policy, batch, [(0, 0, 3, limit) for limit in (4, 1, 9, 2, 7, 3)])


def test_an_action_past_the_limit_is_the_last_token() -> None:
    # A reference may be longer than what the model may write. Whatever the companions' limits are, the action stays.
    policy, batch = shared_policy(), random_batch(shared_policy(), 6, seed=31)
    row = int(batch.target_lengths.argmax())
    last = int(batch.target_lengths[row]) - 1
    late = [(row, 1, 4, 2), (row, 2, 4, 2), (row, last, 4, 2), (row, last, policy.eos, 2)]
    check_branches(policy, batch, late)
    check_branches(policy, batch, [*late, ((row + 1) % 6, 0, 4, 9)])


def test_no_branches() -> None:
    policy, batch = shared_policy(), random_batch(shared_policy(), 2)
    check_branches(policy, batch, [])


def test_branches_leave_the_trunk_as_it_is() -> None:
    policy, batch = shared_policy(), random_batch(shared_policy(), 4, seed=32)
    trunk = trunk_of(policy, batch)
    arguments = (
        torch.tensor([0, 3, 1]),
        torch.tensor([0, 0, 0]),
        torch.tensor([3, 4, 5]),
        torch.full((3,), 8),
    )
    first = policy.continue_branches(trunk, *arguments)
    second = policy.continue_branches(trunk, *arguments)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@families
def test_whoever_chooses_is_told_scores_position_and_branches_and_is_obeyed(family: str) -> None:
    policy, batch = shared_policy(family), random_batch(shared_policy(family), 5, seed=33)
    branches = [
        (row, position, 3 + (row + position) % 6, 3 + (2 * row + 3 * position) % 7)
        for row, length in enumerate(batch.target_lengths.tolist())
        for position in range(0, length, 2)
    ]
    branches.append((0, 0, policy.eos, 9))
    rows, positions, actions, limits = torch.tensor(branches[::-1]).unbind(1)
    whole = [[*batch.target[row, :position].tolist(), action] for row, position, action, _ in branches[::-1]]
    draw = torch.Generator().manual_seed(0)
    asked = 0

    def choose(scores: Tensor, step: int, chosen: Tensor) -> Tensor:
        nonlocal asked
        assert scores.shape == (len(chosen), VOCABULARY)
        # EOS seldom, so that many branches reach their limits.
        tokens = torch.randint(2, 2 * VOCABULARY, (len(chosen),), generator=draw) % VOCABULARY
        tokens[tokens == policy.pad] = 5
        for branch, row_scores, token in zip(chosen.tolist(), scores, tokens.tolist(), strict=True):
            assert len(whole[branch]) == step
            source = source_of(batch, int(rows[branch]))
            torch.testing.assert_close(row_scores, next_scores(policy, source, whole[branch]))
            whole[branch].append(token)
            asked += 1
        return tokens

    tokens, lengths = policy.continue_branches(
        trunk_of(policy, batch), rows, positions, actions, limits, choose
    )
    assert asked > 20
    ends = set()
    for branch, sentence in enumerate(whole):
        written = sentence[positions[branch] :]
        assert tokens[branch, : lengths[branch]].tolist() == written
        assert (tokens[branch, lengths[branch] :] == policy.pad).all()
        assert policy.eos not in written[:-1]
        ended = written[-1] == policy.eos
        assert ended or len(sentence) == max(int(limits[branch]), int(positions[branch]) + 1)
        ends.add((ended, len(sentence) == int(limits[branch])))
    assert {(True, False), (False, True)} <= ends
