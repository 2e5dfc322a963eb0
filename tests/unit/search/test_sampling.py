"""Sampling against the softmax, and top-k and top-p against definitions by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from l2s_nmt.search.context import LengthLimit, see
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.sampling import Decoding, greedy, sample, sample_distinct
from tests.tiny import random_batch, shared_policy

few = settings(deadline=None, max_examples=60)
some_scores = st.lists(st.floats(-8, 8, width=32) | st.just(-torch.inf), min_size=2, max_size=9).filter(
    lambda row: max(row) > -torch.inf
)


@few
@given(scores=some_scores)
def test_frequencies_are_those_of_the_softmax(scores: list[float]) -> None:
    count = 4096
    grid = (torch.arange(count) + 0.5) / count
    tokens = sample(torch.tensor([scores]).expand(count, -1), grid)
    found = torch.bincount(tokens, minlength=len(scores))
    torch.testing.assert_close(
        found, torch.tensor(scores).softmax(0) * count, atol=1.01, rtol=0, check_dtype=False
    )
    assert not found[torch.tensor(scores).isneginf()].any()


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_the_ends_of_the_unit_interval_draw_tokens_that_are_possible(uniform: float) -> None:
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(2000, 50, generator=draw)
    scores[:, [0, 1, -2, -1]] = -torch.inf
    tokens = sample(scores, torch.full((2000,), uniform))
    assert (tokens == (2 if uniform == 0 else 47)).all()


def test_each_row_is_drawn_by_its_own_number() -> None:
    scores = torch.tensor([[0.0, 0.0], [0.0, 0.0], [-torch.inf, 3.0]])
    assert sample(scores, torch.tensor([0.1, 0.9, 0.1])).tolist() == [0, 1, 1]


def test_half_precision_scores_are_summed_in_full_precision() -> None:
    scores: Tensor = torch.zeros(1, 30_000, dtype=torch.bfloat16)
    assert int(sample(scores, torch.tensor([0.5]))) == 15_000
    kept = Decoding("sample", top_p=0.5).kept(scores)
    assert abs(int(kept.isfinite().sum()) - 15_000) <= 1


def test_each_of_the_distinct_is_drawn_from_what_those_before_it_left_however_little() -> None:
    count = 4000
    grid = (torch.arange(count) + 0.5) / count
    weights = torch.tensor([[3e-12, 1.0, 0.0, 1e-12]]).expand(count, -1)
    tokens = sample_distinct(weights, torch.stack([torch.full((count,), 0.5), grid, grid], 1))
    assert (tokens[:, 0] == 1).all()
    assert torch.bincount(tokens[:, 1]).tolist() == [3000, 0, 0, 1000]
    assert torch.equal(tokens[:, 2], 3 - tokens[:, 1])


def test_where_nothing_is_left_the_most_probable_token_is_drawn_again() -> None:
    assert sample_distinct(torch.tensor([[0.0, 0.2, 0.8]]), torch.full((1, 4), 0.9)).tolist() == [
        [2, 1, 2, 2]
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_greedy_takes_the_first_of_the_best(dtype: torch.dtype) -> None:
    rows = [[0.0, 2.0, 2.0, -torch.inf], [-torch.inf, -torch.inf, -3.0, -4.0], [5.0, -1.0, 5.0, 5.0]]
    tokens = greedy(torch.tensor(rows, dtype=dtype), 0, torch.arange(3))
    assert tokens.tolist() == [1, 2, 0]
    assert tokens.dtype == torch.long


def kept_by_hand(scores: list[float], top_k: int | None, top_p: float | None) -> set[int]:
    """The tokens that stay, by the definitions; of equally probable ones at the border of top-p, the first."""
    tokens = sorted(range(len(scores)), key=lambda token: -scores[token])
    if top_k is not None:
        least = scores[tokens[:top_k][-1]]
        tokens = [token for token in tokens if scores[token] >= least]
    if top_p is None:
        return set(tokens)
    weights = torch.tensor([scores[token] for token in tokens], dtype=torch.float64).softmax(0).tolist()
    reached, stay = 0.0, set()
    for token, weight in zip(tokens, weights, strict=True):
        assume(abs(reached - top_p) > 1e-5)  # rounding would decide
        if reached < top_p and weight > 0:
            stay.add(token)
        reached += weight
    return stay


@few
@given(
    # in eighths: scores that differ by less than a probability can show are ties to one side and not to the other
    rows=st.lists(
        st.lists(st.integers(-32, 32).map(lambda n: n / 8), min_size=6, max_size=6), min_size=1, max_size=3
    ),
    banned=st.sets(st.integers(0, 5), max_size=4),
    top_k=st.none() | st.integers(1, 7),
    top_p=st.none() | st.floats(0.01, 0.99),
)
def test_top_k_and_top_p_keep_the_tokens_they_say_with_their_scores(
    rows: list[list[float]], banned: set[int], top_k: int | None, top_p: float | None
) -> None:
    for row in rows:
        for token in banned:
            row[token] = -torch.inf
    scores = torch.tensor(rows)
    kept = Decoding("sample", top_k=top_k, top_p=top_p).kept(scores)
    for before, after, row in zip(scores, kept, rows, strict=True):
        stay = kept_by_hand(row, top_k, top_p) - banned
        assert set(after.isfinite().nonzero().flatten().tolist()) == stay
        assert torch.equal(after[list(stay)], before[list(stay)])


def test_tokens_that_reach_top_p_exactly_are_enough() -> None:
    kept = Decoding("sample", top_p=0.5).kept(torch.zeros(1, 4))
    assert kept.isfinite().tolist() == [[True, True, False, False]]


@pytest.mark.parametrize(
    "all_of_them", [Decoding("sample"), Decoding("sample", top_p=1.0), Decoding("sample", top_k=6)]
)
def test_limits_that_leave_nothing_out_change_nothing(all_of_them: Decoding) -> None:
    scores = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) * 9
    scores[:, 5] = -torch.inf
    assert torch.equal(all_of_them.kept(scores), scores)
    assert torch.equal(Decoding("sample", top_k=99, top_p=1.0).kept(scores), scores)


@pytest.mark.parametrize("one", [Decoding("sample", top_k=1), Decoding("sample", top_p=1e-9)])
def test_the_best_token_stays_and_alone_is_greedy(one: Decoding) -> None:
    scores = torch.randn(50, 30, generator=torch.Generator().manual_seed(1))
    kept = one.kept(scores)
    assert torch.equal(kept.isfinite().sum(1), torch.ones(50, dtype=torch.long))
    assert torch.equal(kept.argmax(1), scores.argmax(1))
    assert torch.equal(sample(kept, torch.linspace(0, 0.999, 50)), greedy(scores, 0, torch.arange(50)))


def test_temperature_comes_before_top_p() -> None:
    # At temperature 1 the best token has 0.9 of the probability; at temperature 100, about a tenth.
    policy = shared_policy()
    context = see(policy, random_batch(policy, 1), Draws(1, 1), LengthLimit(1.0, 3))
    scores = torch.full((1, 10), 0.0)
    scores[0, 3] = 4.4
    draws = [Draws(1, update) for update in range(60)]
    drawn: dict[float, set[int]] = {}
    for temperature in (1.0, 100.0):
        decoding = Decoding("sample", temperature, top_p=0.5)
        choosers = [decoding.chooser(replace(context, draws=draw)) for draw in draws]
        drawn[temperature] = {int(choose(scores, 0, torch.tensor([0]))) for choose in choosers}
    assert drawn[1.0] == {3}
    assert len(drawn[100.0]) == 5


def test_scores_in_half_precision_may_be_drawn_at_a_low_temperature() -> None:
    """Divided by it they would be infinite there."""
    policy = shared_policy()
    context = see(policy, random_batch(policy, 1), Draws(1, 1), LengthLimit(1.0, 3))
    scores = torch.tensor([[12.0, 3.0, -5.0, -torch.inf]], dtype=torch.half)
    assert int(Decoding("sample", 1e-4).chooser(context)(scores, 0, torch.tensor([0]))) == 0


def test_beam_search_does_not_choose_token_by_token() -> None:
    policy = shared_policy()
    context = see(policy, random_batch(policy, 1), Draws(1, 1), LengthLimit(1.0, 3))
    with pytest.raises(ValueError, match="beam"):
        Decoding("beam").chooser(context)
