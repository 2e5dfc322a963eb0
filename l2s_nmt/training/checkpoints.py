"""Checkpoints: a folder that holds everything a continued run needs, whole or not there.

checkpoints/update-00000500/model.safetensors      weights
                            average.safetensors    their average, where one is kept
                            optimizer.pt           optimiser and gradient scaler (tensors and plain values only)
                            sums.pt                of each process: sums for the next line of metrics.jsonl
                            state.json             position in the data, limits, best score, place in metrics.jsonl
                            checksums.json         of all of these

There is no random state to keep: every draw follows from the seed, the update, and the sentence or the process.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from l2s_nmt.errors import UserError
from l2s_nmt.files import whole_folder, write_json
from l2s_nmt.training.averaging import Averager
from l2s_nmt.training.metrics import Mark
from l2s_nmt.training.sharding import State, set_weights

Sums = dict[str, "torch.Tensor | float"]

CHECKSUMS = "checksums.json"
KEPT = 2
OBSERVATION_RATE = 0.01
"""Weight of the newest update in the running mean of the losses, once there were many."""


@dataclass
class Progress:
    """Where a run stands; the only mutable record of the loop, saved in every checkpoint."""

    update: int = 0
    epoch: int = 0
    block: int = 0
    """Of the epoch; the whole corpus is one block unless it is streamed."""
    batch: int = 0
    """Updates done in this block."""
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
    """Updates skipped for a cost, loss or gradient that was not finite."""
    skipped_in_a_row: int = 0
    level: float = 0.0
    """Running mean of the losses observed under bandit feedback."""
    observations: int = 0
    """Updates that it was made from."""
    joules: float | None = None
    """Energy taken, over all sittings in which a device told it."""
    started_at: int = 0
    """Updates before the latest start from the first weights."""
    blocks: int | None = None
    """Of an epoch; of a streamed corpus not known before its end was reached, in this sitting or another."""
    finished: bool = False

    def observe(self, loss: float) -> None:
        """Take up the mean of the losses that an update observed."""
        self.observations += 1
        self.level += (loss - self.level) * max(1 / self.observations, OBSERVATION_RATE)


def save_checkpoint(
    folder: Path,
    progress: Progress,
    mark: Mark,
    weights: State,
    average: State,
    optimizer_state: dict[str, Any],
    sums: list[Sums],
) -> Path:
    """Write a checkpoint and remove all but the newest two.

    Args:
        folder: of all checkpoints.
        progress: where the run stands.
        mark: where metrics.jsonl stands.
        weights: of the model, by name; one of several names is enough for a load.
        average: of the weights.
        optimizer_state: of the optimiser and the scaler.
        sums: of each process, for the next line of metrics.jsonl.
    """
    target = folder / f"update-{progress.update:08d}"
    with whole_folder(target) as temporary:
        once = {id(tensor): name for name, tensor in reversed(weights.items())}
        save_file({n: weights[n].contiguous() for n in once.values()}, temporary / "model.safetensors")
        save_file({k: v.contiguous() for k, v in average.items()}, temporary / "average.safetensors")
        for name, value in (("optimizer.pt", optimizer_state), ("sums.pt", sums)):
            with (temporary / name).open("wb") as file:  # which says what went wrong; by path, torch does not
                torch.save(value, file)
        write_json(temporary / "state.json", {"progress": asdict(progress), "metrics": asdict(mark)})
        write_json(
            temporary / CHECKSUMS, {path.name: _checksum(path) for path in sorted(temporary.iterdir())}
        )
    remove_old(folder)
    return target


def remove_old(folder: Path) -> None:
    """Remove all checkpoints but the newest two."""
    for old in list_checkpoints(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def remove_halves(folder: Path) -> None:
    """Remove what processes that were killed had begun to write; nobody else may be writing."""
    for begun in folder.glob(".update-*"):
        shutil.rmtree(begun, ignore_errors=True)


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints, oldest first."""
    return sorted(folder.glob("update-*")) if folder.exists() else []


def newest_whole(folder: Path, say: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is as it was written; None where there never was one.

    Damaged ones are put aside, as ``damaged-update-N``.

    Args:
        folder: of all checkpoints.
        say: is told of each that is damaged.

    Raises:
        UserError: all are damaged.
    """
    for checkpoint in reversed(list_checkpoints(folder)):
        damage = what_is_damaged(checkpoint)
        if damage is None:
            return checkpoint
        put_aside = checkpoint.with_name(f"damaged-{checkpoint.name}")
        shutil.rmtree(put_aside, ignore_errors=True)
        checkpoint.rename(put_aside)
        say(f"{checkpoint}: damaged ({damage}); now {put_aside.name}, and the one before it is used")
    if any(folder.glob("damaged-*")):
        raise UserError(
            f"{folder}: every checkpoint is damaged; bring one back from a copy, or remove the folder and "
            f"{folder.with_name('metrics.jsonl')} to begin again"
        )
    return None


def what_is_damaged(checkpoint: Path) -> str | None:
    """What of a checkpoint is not as it was written; None if all is."""
    try:
        expected = json.loads((checkpoint / CHECKSUMS).read_text(encoding="utf-8"))
        wrong = [name for name, checksum in expected.items() if _checksum(checkpoint / name) != checksum]
    except (OSError, ValueError, AttributeError) as error:
        return str(error)
    return f"{', '.join(wrong)} not as written" if wrong else None


def _checksum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()


def update_of(checkpoint: Path) -> int:
    """The update after which a checkpoint was written."""
    return int(checkpoint.name.removeprefix("update-"))


def read_state(checkpoint: Path) -> tuple[Progress, Mark]:
    """The progress, and where metrics.jsonl stood at a checkpoint.

    Raises:
        UserError: it was written by another version.
    """
    try:
        state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        return Progress(**state["progress"]), Mark(**state["metrics"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise of_another_version(checkpoint, error) from error


def load_checkpoint(
    checkpoint: Path, model: torch.nn.Module, averager: Averager
) -> tuple[dict[str, Any], list[Sums]]:
    """Load weights and average in place; return the optimiser's state and the sums of each process.

    Raises:
        UserError: it was written by another version.
    """
    try:
        set_weights(model, load_file(checkpoint / "model.safetensors"))
        averager.load_state(load_file(checkpoint / "average.safetensors"))
        optimizer = torch.load(checkpoint / "optimizer.pt", weights_only=True, map_location="cpu")
        return optimizer, torch.load(checkpoint / "sums.pt", weights_only=True)
    except Exception as error:  # its checksums are right, so it holds something else
        raise of_another_version(checkpoint, error) from error


def of_another_version(checkpoint: Path, error: Exception) -> UserError:
    """What to say of a checkpoint that holds something else."""
    return UserError(
        f"{checkpoint}: cannot be taken up ({error}); it was written by another version. Go on with that one, or "
        "choose another --output"
    )


def seed_update(seed: int, update: int, rank: int) -> None:
    """Seed what dropout draws in one update, differently on each process; so no generator has a past to be saved."""
    torch.manual_seed(int(np.random.SeedSequence([seed, update, rank]).generate_state(1, np.uint64)[0] >> 1))
