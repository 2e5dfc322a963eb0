"""Weights by name, and what of the launcher's settings is refused; sharding itself is tested on several processes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from l2s_nmt.errors import UserError
from l2s_nmt.training.sharding import set_weights, wanted, weights_of, whole
from tests.tiny import new_policy


class Tied(nn.Module):
    """One weight has two names, and there is a buffer."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(4, 3)
        self.head = nn.Linear(3, 4, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("bias", torch.randn(4))


def test_weights_go_from_one_module_to_another() -> None:
    first, second = Tied(1), Tied(2)
    weights = weights_of(first)
    assert weights.keys() == {"embedding.weight", "head.weight", "bias"}
    assert weights["embedding.weight"] is weights["head.weight"]
    set_weights(second, {name: weights[name] for name in ("head.weight", "bias")})
    assert torch.equal(second.embedding.weight, first.embedding.weight)
    assert second.head.weight is second.embedding.weight
    assert torch.equal(second.get_buffer("bias"), first.get_buffer("bias"))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"bias": torch.zeros(4)}, "embedding.weight"),
        ({"bias": torch.zeros(4), "head.weight": torch.zeros(4, 3), "more": torch.zeros(1)}, "more"),
        ({"bias": torch.zeros(5), "head.weight": torch.zeros(4, 3)}, r"bias: \(5,\) instead of \(4,\)"),
    ],
)
def test_other_weights_are_refused(wrong: dict[str, torch.Tensor], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        set_weights(Tied(1), wrong)


def test_weights_that_are_not_dealt_out_are_whole() -> None:
    policy = new_policy()
    before = [id(parameter) for parameter in policy.parameters()]
    with whole(policy):
        assert [id(parameter) for parameter in policy.parameters()] == before


def test_nothing_is_dealt_out_unless_the_launcher_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    assert wanted() is None


@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        ("FSDP_VERSION", "1", "fsdp_version"),
        ("FSDP_AUTO_WRAP_POLICY", "TRANSFORMER_BASED_WRAP", "fsdp_auto_wrap_policy"),
        ("FSDP_ACTIVATION_CHECKPOINTING", "true", "fsdp_activation_checkpointing"),
        ("FSDP_OFFLOAD_PARAMS", "true", "fsdp_offload_params"),
        ("FSDP_CPU_RAM_EFFICIENT_LOADING", "true", "fsdp_cpu_ram_efficient_loading"),
    ],
)
def test_what_would_not_work_is_refused(
    variable: str, value: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    assert wanted() is not None
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=key):
        wanted()
