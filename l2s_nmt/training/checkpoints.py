"""Checkpoints: a folder that holds everything a continued run needs, whole or not there.

checkpoints/update-000500/model.safetensors      weights
                          average.safetensors    their average, where one is kept
                          optimizer.pt           optimiser and gradient scaler (tensors and plain values only)
                          random-RANK.pt         of each process: random state, sums for the next log line
                          state.json             position in the data, limits, best score, size of metrics.jsonl
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, load_model, save_file, save_model

from l2s_nmt.errors import UserError
from l2s_nmt.files import whole_folder, write_json
from l2s_nmt.training.averaging import Averager

KEPT = 2
OBSERVATION_RATE = 0.01
"""Weight of the newest update in the running mean of the losses, once there were many."""


@dataclass
class Progress:
    """Where a run stands; the only mutable record of the loop, saved in every checkpoint."""

    update: int = 0
    epoch: int = 0
    batch: int = 0
    """Updates done in this epoch."""
    sentences: int = 0
    """Sentences seen, over all epochs."""
    roll_outs: int = 0
    """Branches finished by a roll-out policy."""
    seconds: float = 0.0
    """Time in the loop, over all sittings."""
    best_bleu: float = -1.0
    best_update: int = 0
    failures: int = 0
    """Validations in a row without a better BLEU."""
    skipped: int = 0
    """Updates skipped for a loss or gradient that was not finite."""
    level: float = 0.0
    """Running mean of the losses observed under bandit feedback."""
    observations: int = 0
    """Updates that it was made from."""
    finished: bool = False

    def observe(self, loss: float) -> None:
        """Take up the mean of the losses that an update observed."""
        self.observations += 1
        self.level += (loss - self.level) * max(1 / self.observations, OBSERVATION_RATE)


def save_checkpoint(
    folder: Path,
    progress: Progress,
    metrics_bytes: int,
    model: torch.nn.Module,
    averager: Averager,
    optimizer_state: dict[str, Any],
    random_states: list[dict[str, Any]],
) -> Path:
    """Write a checkpoint and remove all but the newest two."""
    target = folder / f"update-{progress.update:08d}"
    with whole_folder(target) as temporary:
        save_model(model, str(temporary / "model.safetensors"))
        save_file({k: v.contiguous() for k, v in averager.state().items()}, temporary / "average.safetensors")
        torch.save(optimizer_state, temporary / "optimizer.pt")
        for rank, state in enumerate(random_states):
            torch.save(state, temporary / f"random-{rank}.pt")
        write_json(temporary / "state.json", {"progress": asdict(progress), "metrics_bytes": metrics_bytes})
    for old in list_checkpoints(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints, oldest first."""
    return sorted(folder.glob("update-*")) if folder.exists() else []


def read_state(checkpoint: Path) -> tuple[Progress, int]:
    """The progress and the size of metrics.jsonl at a checkpoint.

    Raises:
        UserError: it is damaged.
    """
    try:
        state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        return Progress(**state["progress"]), int(state["metrics_bytes"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{checkpoint}: damaged ({error}); remove it to go on from the one before") from error


def load_checkpoint(
    checkpoint: Path, model: torch.nn.Module, averager: Averager, rank: int
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Load weights and average in place; return the optimiser's state and this process's random state.

    Raises:
        UserError: it is damaged.
    """
    try:
        load_model(model, str(checkpoint / "model.safetensors"))
        averager.load_state(load_file(checkpoint / "average.safetensors"))
        optimizer = torch.load(checkpoint / "optimizer.pt", weights_only=True, map_location="cpu")
        random = checkpoint / f"random-{rank}.pt"
        return optimizer, torch.load(random, weights_only=True) if random.exists() else None
    except Exception as error:  # whatever a reader of damaged bytes raises
        raise UserError(f"{checkpoint}: damaged ({error}); remove it to go on from the one before") from error


def random_state() -> dict[str, Any]:
    """The state of the generators that training draws from (dropout)."""
    state: dict[str, Any] = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Put the generators back."""
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def seed_everything(seed: int, rank: int) -> None:
    """Seed the generators, differently on each process so that dropout differs."""
    torch.manual_seed(int(np.random.SeedSequence([seed, rank]).generate_state(1)[0]))
