"""What of the launcher's settings for DeepSpeed is refused; training with it is tested on several processes."""

from __future__ import annotations

import pytest

from l2s_nmt.errors import UserError
from l2s_nmt.training.zero import wanted


def test_nothing_is_dealt_out_unless_the_launcher_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED", raising=False)
    assert wanted() is None


@pytest.mark.parametrize("stage", [1, 2])
def test_the_stage_is_the_launchers(stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", str(stage))
    assert wanted() == stage


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ZERO_STAGE", "3", "zero_stage of DeepSpeed's configuration: only 1 or 2 works"),
        ("ZERO_STAGE", "0", "zero_stage of DeepSpeed's configuration: only 1 or 2 works"),
        ("CONFIG_FILE", "zero.json", "deepspeed_config_file of DeepSpeed's configuration: only none works"),
        (
            "OFFLOAD_OPTIMIZER_DEVICE",
            "cpu",
            "offload_optimizer_device of DeepSpeed's configuration: only none",
        ),
        ("OFFLOAD_PARAM_DEVICE", "nvme", "offload_param_device of DeepSpeed's configuration: only none"),
    ],
)
def test_what_would_not_work_is_refused(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    assert wanted() == 2
    monkeypatch.setenv(f"ACCELERATE_DEEPSPEED_{variable}", value)
    with pytest.raises(UserError, match=message):
        wanted()
