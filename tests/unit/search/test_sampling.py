"""Sampling against the softmax; top-k and top-p against sorting by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from l2s_nmt.search.sampling import Decoding, sample

rows_of_scores = st.lists(st.floats(-8, 8), min_size=1, max_size=9)


@settings(deadline=None, max_examples=80)
@given(scores=rows_of_scores, k=st.integers(1, 10))
def test_top_k_keeps_the_k_best_and_what_ties_with_them(scores: list[float], k: int) -> None:
    row = torch.tensor([scores])
    kept = Decoding("sample", top_k=k).kept(row)
    least = sorted(row[0].tolist(), reverse=True)[min(k, len(scores)) - 1]
    expected = torch.tensor([[value if value >= least else -torch.inf for value in row[0].tolist()]])
    assert torch.equal(kept, expected)


@settings(deadline=None, max_examples=80)
@given(scores=rows_of_scores, top_p=st.floats(0.01, 0.99))
def test_top_p_keeps_the_fewest_tokens_that_have_so_much_probability(
    scores: list[float], top_p: float
) -> None:
    row = torch.tensor([scores])
    kept = Decoding("sample", top_p=top_p).kept(row)[0].isfinite()
    probabilities = row.softmax(1)[0]
    order = probabilities.argsort(descending=True, stable=True).tolist()
    chosen = [token for token in order if kept[token]]
    assert chosen == order[: len(chosen)]
    assert len(chosen) >= 1
    rounding = 1e-5
    assert float(probabilities[chosen].sum()) >= top_p - rounding
    assert float(probabilities[chosen[:-1]].sum()) < top_p + rounding


@pytest.mark.parametrize("decoding", [Decoding("sample", top_k=9), Decoding("sample", top_p=1.0)])
def test_keeping_everything_changes_nothing(decoding: Decoding) -> None:
    scores = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(decoding.kept(scores), scores)


def test_beam_search_does_not_choose_token_by_token() -> None:
    with pytest.raises(ValueError, match="beam search"):
        Decoding("beam").chooser(None)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=40)
@given(
    scores=st.lists(st.floats(-8, 8) | st.just(-torch.inf), min_size=2, max_size=9).filter(
        lambda row: max(row) > -torch.inf
    )
)
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
