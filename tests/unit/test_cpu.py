"""The fast dropout is a dropout: frequencies, scale, gradient, and where it must do nothing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import backward
from torch.overrides import TorchFunctionMode

from l2s_nmt.cpu import FastDropout, keep_freed_memory
from l2s_nmt.model import Term
from tests.tiny import new_policy, random_batch

SIZE = 1 << 20


@pytest.mark.parametrize("p", [0.001, 0.1, 0.3, 0.5, 0.9])
def test_share_mean_and_variance(p: float) -> None:
    torch.manual_seed(1)
    with FastDropout():
        dropped = F.dropout(torch.ones(SIZE, dtype=torch.float64), p)
    error = 5 * (p * (1 - p) / SIZE) ** 0.5
    assert abs(float((dropped == 0).double().mean()) - p) < error + 2**-16
    assert abs(float(dropped.mean()) - 1) < error / (1 - p)
    assert float(dropped.var()) == pytest.approx(p / (1 - p), rel=0.05)
    kept = set(dropped.tolist()) - {0.0}
    assert len(kept) == 1
    assert kept.pop() == pytest.approx(1 / (1 - p), rel=2**-16 / (1 - p))


def test_the_mean_is_kept_exactly_for_the_rounded_probability() -> None:
    # Of all 2^16 numbers that decide about an element, each drawn once, the mean must be 1.
    p = 0.3
    with FastDropout():
        scale = float(F.dropout(torch.ones(64, dtype=torch.float64), p).max())
    assert scale * (2**16 - round(p * 2**16)) / 2**16 == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 5])
def test_neighbours_are_independent(lag: int) -> None:
    # Four elements come from one number.
    torch.manual_seed(2)
    with FastDropout():
        kept = (F.dropout(torch.ones(SIZE), 0.5) != 0).double()
    both = float((kept[:-lag] * kept[lag:]).mean())
    assert abs(both - 0.25) < 5 * (3 / 16 / SIZE) ** 0.5


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5, 9), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_kept_elements_are_scaled_and_their_gradient_with_them(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    torch.manual_seed(3)
    values = torch.rand(shape, dtype=dtype).add(1).requires_grad_()
    with FastDropout():
        dropped = F.dropout(values, 0.25)
    assert dropped.shape == shape
    assert dropped.dtype == dtype
    backward(dropped.sum())
    assert values.grad is not None
    mask = torch.where(dropped == 0, 0.0, torch.tensor(1 / 0.75, dtype=dtype))
    assert torch.equal(values.grad, mask.to(dtype))
    assert torch.equal(dropped, values * mask)


def test_a_transposed_input_is_dropped_like_any() -> None:
    torch.manual_seed(4)
    with FastDropout():
        dropped = F.dropout(torch.ones(8, 6).t(), 0.5)
    assert set(dropped.flatten().tolist()) == {0.0, 2.0}


def test_draws_follow_the_seed() -> None:
    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        with FastDropout():
            return F.dropout(torch.ones(100), 0.5)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_identity_in_evaluation_and_without_probability() -> None:
    values = torch.rand(50)
    before = torch.get_rng_state()
    with FastDropout():
        assert torch.equal(F.dropout(values, 0.5, training=False), values)
        assert torch.equal(F.dropout(values, 0.0), values)
        assert torch.equal(nn.Dropout(0.5).eval()(values), values)
    assert torch.equal(torch.get_rng_state(), before)


def test_everything_is_dropped_with_probability_1() -> None:
    with FastDropout():
        assert not F.dropout(torch.ones(50), 1.0).any()


@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_impossible_probabilities_are_refused(p: float) -> None:
    with FastDropout(), pytest.raises(ValueError, match="probability"):
        F.dropout(torch.ones(3), p)


def test_in_place_is_still_in_place() -> None:
    values = torch.ones(50)
    with FastDropout():
        assert F.dropout(values, 0.5, inplace=True) is values
    assert values.eq(0).any()


class _Dropouts(TorchFunctionMode):
    """Counts torch's own dropouts that drop anything: those that a mode inside this one leaves to torch."""

    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += func is F.dropout and (kwargs or {}).get("p", 0.2) > 0
        return func(*args, **(kwargs or {}))


def test_replaces_torchs_own_in_a_model_within_the_context_only() -> None:
    policy = new_policy().train()
    for module in policy.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.2  # type: ignore[assignment]
    batch = random_batch(policy, 3)
    term = Term(torch.arange(3), lambda part, scores: scores.sum())
    arguments = (batch.source, batch.source_mask, batch.target, torch.arange(3), [term])
    with _Dropouts() as outside:
        policy(*arguments)
    with _Dropouts() as within, FastDropout():
        policy(*arguments)
    assert outside.count > 5
    assert within.count == 0


def test_keeping_freed_memory_may_be_asked_for_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    keep_freed_memory()
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())  # no mallopt: another C library
    keep_freed_memory()
    assert torch.ones(1000).sum() == 1000
