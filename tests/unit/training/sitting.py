"""A trainer of a tiny model on a tiny corpus, without files of its own but those of the run."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from l2s_nmt.build_cost import Texts
from l2s_nmt.data.batches import Batch, Rows, collate, split_batch
from l2s_nmt.data.training_data import TrainingData, in_one_block
from l2s_nmt.model import Policy
from l2s_nmt.search.losses.table import LOSSES
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.search import Experience
from l2s_nmt.training.averaging import Averager
from l2s_nmt.training.checkpoints import Progress
from l2s_nmt.training.limits import Limits
from l2s_nmt.training.loop import Trainer
from l2s_nmt.training.objective import Objective
from l2s_nmt.training.progress import Display
from l2s_nmt.training.schedule import Schedule
from l2s_nmt.training.starts import Starts
from l2s_nmt.training.stepper import AccelerateStepper
from l2s_nmt.training.validate import Validation
from tests.helpers import read_lines, without_times
from tests.searches import search_of
from tests.tiny import new_policy, random_sentences

SENTENCES, ROWS_A_BATCH = 24, 4
EPOCH = SENTENCES // ROWS_A_BATCH
SAMPLING = {"decoding": "sample", "temperature": 1.0}
LOLS = search_of("lols", roll_in=SAMPLING, decisions={"per_sentence": 2, "k": 3})
AGGREVATED = search_of("aggrevated", roll_in=SAMPLING)
EXPECTED_COST = LOSSES["expected_cost"].function
TEACHER_FORCING = Objective(None, 0.0, 1.0, 0.1, 1.0, "vocabulary")
BOTH = Objective(EXPECTED_COST, 2.0, 0.5, 0.1, 1.0, "vocabulary")
LIMITS = Limits(
    max_updates=12,
    max_epochs=None,
    max_minutes=None,
    patience=None,
    validate_every=5,
    checkpoint_every=100,
    log_every=4,
)

Weights = dict[str, Tensor]


def weights(policy: nn.Module) -> Weights:
    return {name: value.detach().clone() for name, value in policy.state_dict().items()}


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _numbers(sentences: Sequence[Sequence[int]]) -> list[str]:
    return [" ".join(map(str, tokens)) for tokens in sentences]


@dataclass
class Sitting:
    """One sitting of a run with everything small and in reach; callbacks see it."""

    folder: Path
    limits: Limits = LIMITS
    search: Any = None
    aggregate: Any = None
    objective: Any = TEACHER_FORCING
    averaging: str = "none"
    starts: int = 1
    schedule: Schedule = field(default_factory=lambda: Schedule("constant", 0, 0.0))
    accumulation: int = 1
    dropout: float = 0.1
    double: bool = False
    clip_norm: float = 1.0
    seed: int = 3
    accelerator: Accelerator = field(default_factory=lambda: Accelerator(cpu=True))
    bleus: Callable[[Sitting], float] | None = None
    on_load: Callable[[Sitting], None] = lambda sitting: None
    saved: dict[str, Weights] = field(default_factory=dict)
    validated: list[Weights] = field(default_factory=list)
    loads: int = 0

    def __post_init__(self) -> None:
        self.policy = new_policy()
        if not self.double:
            self.policy.float()
        for module in self.policy.modules():
            if isinstance(getattr(module, "dropout", None), float):
                module.dropout = self.dropout  # type: ignore[assignment]
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(self.policy.parameters(), lr=0.01)
        self.averager = Averager(self.policy, self.averaging, 0.8, 2, self.starts)  # type: ignore[arg-type]
        stepper = AccelerateStepper(self.accelerator, self.policy, self.optimizer, self.clip_norm)
        self.sources = random_sentences(self.policy, SENTENCES, seed=5, shortest=2)
        self.targets = [[*reversed(source[:-1]), self.policy.eos] for source in self.sources]
        self.folder.mkdir(exist_ok=True)
        self.trainer = Trainer(
            accelerator=self.accelerator,
            policy=self.policy,
            stepper=stepper,
            schedule=self.schedule,
            averager=self.averager,
            starts=Starts(self.averager, stepper),
            search=self.search,
            aggregate=self.aggregate,
            objective=self.objective,
            data=TrainingData(in_one_block(self._epoch), self._split, self._load),
            limits=self.limits,
            validate=self._validate,
            save_weights=lambda name: self.saved.__setitem__(name, weights(self.policy)),
            folder=self.folder,
            seed=self.seed,
            accumulation=self.accumulation,
            display=Display(enabled=False),
            texts=Texts(_numbers, _numbers),
        )

    def _epoch(self, epoch: int) -> list[Rows]:
        order = np.random.default_rng([1, epoch]).permutation(SENTENCES)
        return [order[start : start + ROWS_A_BATCH] for start in range(0, SENTENCES, ROWS_A_BATCH)]

    def _split(self, rows: Rows, count: int) -> list[Rows]:
        return split_batch(rows, np.array([len(self.sources[row]) for row in rows]), count)

    def _load(self, rows: Rows) -> Batch:
        self.loads += 1
        self.on_load(self)
        return collate(
            [self.sources[row] for row in rows], [self.targets[row] for row in rows], rows, self.policy.pad
        )

    def _validate(self) -> Validation:
        assert not self.policy.training
        self.validated.append(weights(self.policy))
        if self.bleus is not None:
            return Validation(self.bleus(self), 9.0, 1.0, 0.0, 0.0, ("a", "b", "c"))
        size = sum(float(p.detach().double().abs().sum()) for p in self.policy.parameters())
        return Validation(50 * (1 + math.sin(10 * size)), 9.0, 1.0, 0.0, 0.0, ("a", "b", "c"))

    def run(self, stray_seed: int = 11) -> Progress:
        torch.manual_seed(stray_seed)  # which decides nothing
        return self.trainer.run()

    def lines(self) -> list[dict[str, Any]]:
        return without_times(read_lines(self.folder / "metrics.jsonl"))

    def lines_of(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["kind"] == kind]


def forget(sitting: Sitting) -> None:
    """So that whatever a checkpoint does not bring back is missed."""
    with torch.no_grad():
        for parameter in sitting.policy.parameters():
            parameter.zero_()


class Crash(Exception):
    """The process ends without being asked."""


def stop_by_signal(sitting: Sitting) -> None:
    if sitting.loads == 7:
        os.kill(os.getpid(), signal.SIGTERM)


def stop_by_crash(sitting: Sitting) -> None:
    if sitting.loads == 10:
        raise Crash


@dataclass
class Watched:
    """A search that something else looks at."""

    call: Callable[[Policy, Batch, Draws, float], Experience]

    def __call__(self, policy: Policy, batch: Batch, draws: Draws, level: float) -> Experience:
        return self.call(policy, batch, draws, level)

    def roll_in_costs(self, experience: Experience, batch: Batch) -> Tensor | None:
        return AGGREVATED.roll_in_costs(experience, batch)
