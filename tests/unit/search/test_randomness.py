"""Draws against SplitMix64 in plain integers, and as random numbers."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from l2s_nmt.search.randomness import Draws

M = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15


def mix(value: int) -> int:
    value &= M
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & M
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & M
    return value ^ (value >> 31)


def plain(seed: int, update: int, purpose: str, sentence: int, index: int) -> float:
    """One draw: SplitMix64 keyed in turn by seed and purpose, update, sentence, and index."""
    state = mix((seed ^ int.from_bytes(purpose.encode()[:8], "little")) + GAMMA)
    state = mix(state + update * 0x632BE59BD9B4E019 + GAMMA)
    state = mix(state + (sentence + 1) * GAMMA)
    return (mix(state + (index + 1) * GAMMA) >> 40) / (1 << 24)


def chi_square(counts: Tensor) -> float:
    """The statistic against equal frequencies, as standard deviations from its mean."""
    expected = counts.sum() / counts.numel()
    freedom = counts.numel() - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / (2 * freedom) ** 0.5)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, M),
    update=st.integers(0, 10**9),
    purpose=st.sampled_from(["roll_in", "roll_out", "states", "a", "long_purpose"]),
    sentences=st.lists(st.integers(0, 10**9), min_size=1, max_size=4),
    count=st.integers(1, 5),
)
def test_equals_splitmix64(seed: int, update: int, purpose: str, sentences: list[int], count: int) -> None:
    drawn = Draws(seed, update).uniform(purpose, torch.tensor(sentences), count)
    expected = [[plain(seed, update, purpose, row, index) for index in range(count)] for row in sentences]
    assert drawn.tolist() == expected
    assert drawn.dtype == torch.float32


def test_the_mixing_function_is_the_published_one() -> None:
    # The first outputs of SplitMix64 from state 0, as its reference implementation prints them.
    outputs = [mix(step * GAMMA) for step in (1, 2, 3)]
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@pytest.mark.parametrize("purpose", ["roll_in", "roll_out", "states"])
def test_uniform_within_a_sentence_and_across_sentences(purpose: str) -> None:
    for drawn in (
        Draws(1, 2).uniform(purpose, torch.tensor([5]), 1 << 16),
        Draws(1, 2).uniform(purpose, torch.arange(1 << 16), 1),
        torch.cat([Draws(seed, 0).uniform(purpose, torch.tensor([0]), 1) for seed in range(1 << 10)]),
        torch.cat([Draws(0, update).uniform(purpose, torch.tensor([0]), 1) for update in range(1 << 10)]),
    ):
        assert float(drawn.min()) >= 0
        assert float(drawn.max()) < 1
        assert abs(chi_square(torch.histc(drawn, 64, 0, 1))) < 4


def test_independent_of_other_purposes_updates_seeds_sentences_and_places() -> None:
    rows = torch.arange(1 << 14)
    base = Draws(1, 7).uniform("roll_in", rows, 2)
    series = {
        "base": base[:, 0],
        "place": base[:, 1],
        "purpose": Draws(1, 7).uniform("roll_out", rows, 1)[:, 0],
        "update": Draws(1, 8).uniform("roll_in", rows, 1)[:, 0],
        "seed": Draws(2, 7).uniform("roll_in", rows, 1)[:, 0],
        "sentence": base[:, 0].roll(1),
    }
    for one, other in combinations(series, 2):
        cells = (series[one] * 8).long() * 8 + (series[other] * 8).long()
        assert abs(chi_square(torch.bincount(cells, minlength=64).float())) < 4, (one, other)


def test_belongs_to_the_sentence_and_not_to_its_place() -> None:
    draws = Draws(3, 4)
    rows = torch.tensor([8, 1, 500, 3])
    drawn = draws.uniform("states", rows, 6)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(draws.uniform("states", rows[order], 6), drawn[order])
    assert torch.equal(draws.uniform("states", rows[1:2], 9)[:, :6], drawn[1:2])
    assert len(set(drawn.flatten().tolist())) == drawn.numel()


def test_drawing_leaves_the_default_generator_alone() -> None:
    before = torch.get_rng_state()
    Draws(1, 1).uniform("states", torch.arange(3), 3)
    assert torch.equal(torch.get_rng_state(), before)
