"""DAgger's aggregated data: what the reference has labelled so far, kept on disk and replayed.

Learning from all states visited by all policies so far, and not from those of the last one alone, is what gives
DAgger its guarantee (Ross, Gordon & Bagnell 2011). Each update adds its labelled states as one file, and learns from
earlier ones as well, drawn evenly from those that are kept:

    RUN/aggregated/UPDATE-RANK-PART.safetensors

What is drawn follows from seed and update alone; the files of an update are dealt out to the processes there are.
Files written after the newest checkpoint are removed when a run goes on from there, and old ones only once a
checkpoint is written, so an interrupted run finds what it needs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from l2s_nmt.errors import UserError
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.search import Experience
from l2s_nmt.search.types import CostVectors, Decisions, Trajectories

Rows = NDArray[np.int64]


class Aggregate:
    """The aggregated data, as one process sees them.

    Args:
        folder: where they are kept; made if missing.
        replay: earlier updates that each update learns from as well, all different.
        capacity: newest updates that are drawn from.
        seed: of what is drawn.
        rank: of this process.
        processes: how many there are.
    """

    def __init__(
        self, folder: Path, replay: int, capacity: int, seed: int, rank: int, processes: int
    ) -> None:
        self.folder = folder
        self.replay = replay
        self.capacity = capacity
        self.seed = seed
        self.rank = rank
        self.processes = processes

    def add(self, update: int, part: int, rows: Rows, experience: Experience) -> None:
        """Keep what was found on the sentences ``rows`` of one part of an update."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(update, part)
        temporary = path.with_suffix(".writing")
        save_file({"rows": torch.from_numpy(rows), **_packed(experience)}, temporary)
        temporary.replace(path)

    def draw(self, update: int) -> list[tuple[Rows, Experience]]:
        """Sentences and what was found on them, from updates before this one (none in the first).

        Raises:
            UserError: a file is damaged.
        """
        first = max(0, update - self.capacity)
        if update == first:
            return []
        keys = Draws(self.seed, update).uniform("replay", torch.tensor([0]), update - first)[0]
        chosen = sorted((first + keys.topk(min(self.replay, len(keys))).indices).tolist())
        found = [path for past in chosen for path in sorted(self.folder.glob(f"{past:08d}-*.safetensors"))]
        return [self._read(path) for path in found[self.rank :: self.processes]]

    def _read(self, path: Path) -> tuple[Rows, Experience]:
        try:
            return _unpacked(load_file(path))
        except (SafetensorError, OSError, KeyError) as error:
            raise UserError(
                f"{path}: damaged ({error}); bring it back from a copy, or remove {self.folder.parent} to begin again"
            ) from error

    def resume(self, update: int) -> None:
        """Forget this update and those behind it, which will be made again, and what is half-written."""
        for path in self.folder.glob("*"):  # safetensors begins with names of its own
            if path.suffix != ".safetensors" or int(path.name.split("-")[0]) >= update:
                path.unlink(missing_ok=True)

    def prune(self, update: int) -> None:
        """Remove what no update from this one on can draw."""
        for path in self.folder.glob("*.safetensors"):
            if int(path.name.split("-")[0]) < update - self.capacity:
                path.unlink(missing_ok=True)

    def _path(self, update: int, part: int) -> Path:
        return self.folder / f"{update:08d}-{self.rank:05d}-{part:05d}.safetensors"


def _packed(experience: Experience) -> dict[str, Tensor]:
    trajectories, decisions, costs = experience.trajectories, experience.decisions, experience.costs
    tensors = {
        "tokens": trajectories.tokens.int(),
        "lengths": trajectories.lengths.int(),
        "finished": trajectories.finished,
        "by_reference": trajectories.by_reference,
        "owner": experience.owner.int(),
        "sentence": decisions.sentence.int(),
        "position": decisions.position.int(),
        "actions": decisions.actions.int(),
        "mask": decisions.mask,
        "costs": costs.costs,
    }
    if costs.other is not None:
        tensors["other"] = costs.other
    if decisions.visits is not None:
        tensors["visits"] = decisions.visits
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def _unpacked(tensors: dict[str, Tensor]) -> tuple[Rows, Experience]:
    whole = {name: t.long() if t.dtype == torch.int32 else t for name, t in tensors.items()}
    trajectories = Trajectories(whole["tokens"], whole["lengths"], whole["finished"], whole["by_reference"])
    decisions = Decisions(
        whole["sentence"], whole["position"], whole["actions"], whole["mask"], visits=whole.get("visits")
    )
    costs = CostVectors(whole["costs"], whole.get("other"))
    experience = Experience(trajectories, whole["owner"], decisions, costs, 0, None, {})
    return whole["rows"].numpy(), experience
