"""Sentences that begin alike are written once, and come out as if each were written for itself."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from l2s_nmt.decoder_state import DecoderState, Memory
from l2s_nmt.model import Policy
from l2s_nmt.search.sampling import sample
from l2s_nmt.shared_prefixes import _by_pairs, first_with_prefix
from tests.tiny import FAMILIES, random_batch, shared_policy

SAMPLES, SENTENCES = 6, 7
SOURCE = torch.arange(SENTENCES).repeat_interleave(SAMPLES)
LIMITS = (torch.arange(SENTENCES) % 4 + 5).repeat_interleave(SAMPLES)


def memory_of(policy: Policy, source: Tensor) -> Memory:
    batch = random_batch(policy, SENTENCES, seed=8)
    with torch.no_grad():
        return policy.encode(batch.source, batch.source_mask).select(source)


def written(policy: Policy, source: Tensor, temperature: float, shared: bool) -> list[list[int]]:
    """A sample for each source, by uniform numbers of its own."""
    uniform = torch.rand((len(source), 12), generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def choose(scores: Tensor, step: int, rows: Tensor) -> Tensor:
        assert len(scores) == len(rows)
        return sample(scores / temperature, uniform[rows, step])

    memory = memory_of(policy, source)
    found, lengths = policy.roll(memory, LIMITS, choose, source=source if shared else None)
    return [row[:length].tolist() for row, length in zip(found, lengths.tolist(), strict=True)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [0.05, 0.7, 3.0])
def test_what_is_shared_is_what_each_would_write(family: str, temperature: float) -> None:
    policy = shared_policy(family)
    alone = written(policy, SOURCE, temperature, shared=False)
    assert written(policy, SOURCE, temperature, shared=True) == alone
    mixed = SOURCE[torch.randperm(len(SOURCE), generator=torch.Generator().manual_seed(1))]
    assert written(policy, mixed, temperature, shared=True) == written(policy, mixed, temperature, False)


def fed(policy: Policy, temperature: float, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[list[int]]]:
    """Rows that the decoder was given, and what came out."""
    count = 0
    step = policy._step

    def counted(state: DecoderState, tokens: Tensor) -> Tensor:
        nonlocal count
        assert len(state) == len(tokens)
        count += len(tokens)
        return step(state, tokens)

    with monkeypatch.context() as patch:
        patch.setattr(policy, "_step", counted)
        sentences = written(policy, SOURCE, temperature, shared=True)
    return count, sentences


@pytest.mark.parametrize("temperature", [0.05, 0.7, 3.0])
def test_each_prefix_goes_through_the_decoder_once(
    temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, sentences = fed(shared_policy(), temperature, monkeypatch)
    states = [
        (source, tuple(sentence[:length]))
        for source, sentence in zip(SOURCE.tolist(), sentences, strict=True)
        for length in range(len(sentence))
    ]
    assert count == len(set(states)) < len(states)


def test_sentences_that_never_part_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    count, sentences = fed(shared_policy(), 1e-6, monkeypatch)
    assert count == sum(len(sentence) for sentence in sentences[::SAMPLES])
    for first in range(0, len(sentences), SAMPLES):
        assert all(sentence == sentences[first] for sentence in sentences[first : first + SAMPLES])


@given(
    st.integers(1, 5).flatmap(
        lambda width: st.lists(
            st.tuples(st.integers(0, 2), st.lists(st.integers(0, 2), min_size=width, max_size=width)),
            min_size=1,
            max_size=12,
        )
    )
)
def test_the_first_with_a_prefix_by_comparing_all(rows: list[tuple[int, list[int]]]) -> None:
    tokens, source = torch.tensor([words for _, words in rows]), torch.tensor([which for which, _ in rows])
    found = first_with_prefix(tokens, source)
    assert torch.equal(_by_pairs(tokens, source), found)
    with mock.patch("l2s_nmt.shared_prefixes._PAIRS", 2 * tokens.numel()):
        assert torch.equal(_by_pairs(tokens, source), found)
    for row, (which, words) in enumerate(rows):
        for length in range(len(words)):
            alike = [n for n, (w, ws) in enumerate(rows) if w == which and ws[:length] == words[:length]]
            assert int(found[row, length]) == alike[0]
