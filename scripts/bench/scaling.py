"""Processes that share the steps of one group's trainers, and the group as the benchmark sees it.

A group is started by accelerate's launcher and waits for orders: a line on its standard input names a step and a round,
and its main process answers with a line of JSON. A group that waits takes no time from one that works.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2s_nmt.processes import Processes, in_touch
from l2s_nmt.recipe_file import Settings
from scripts.bench.clock import Turn, stopwatch
from scripts.bench.setting import LEARNED_STEP, TEACHER_FORCING, TurnTrainer, Workbench

ROOT = Path(__file__).resolve().parents[2]
STEPS: dict[str, Settings] = {
    "teacher_forcing": TEACHER_FORCING,
    "aggrevated": {"algorithm": "aggrevated"},
    "lols": {"algorithm": "lols"},
    "learned_roll_outs": LEARNED_STEP,
}


@dataclass(frozen=True)
class Shared:
    """A turn of a group."""

    turn: Turn
    """Until the last process is done; the work is the sentences of all."""
    busy: list[float]
    """Seconds of the search on each process, which wait for nobody."""

    @property
    def balance(self) -> float | None:
        """Mean over the longest of these seconds; None without search."""
        return sum(self.busy) / len(self.busy) / max(self.busy) if max(self.busy) else None


class Group:
    """Processes of one thread each.

    Args:
        count: how many.
        order: path of a JSON file with settings and plan for the workers.
    """

    def __init__(self, count: int, order: Path) -> None:
        self.count = count
        start = ["--multi_gpu", "--num_processes", str(count)] if count > 1 else ["--num_processes", "1"]
        options = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
        launch = ["-m", "accelerate.commands.launch", *start, *options, "--main_process_port", "0"]
        self.process = subprocess.Popen(
            [sys.executable, *launch, "-m", "scripts.bench.scaling", str(order)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def turn(self, step: str, number: int) -> Shared:
        """Let the group make the updates of a round."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([step, number]) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        return Shared(Turn(answer["seconds"], answer["sentences"]), answer["busy"])

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise RuntimeError(f"a group of {self.count} ended with status {self.process.wait()}")


@contextmanager
def groups(counts: tuple[int, ...], order: Path) -> Iterator[list[Group]]:
    """Groups that wait for orders; one after another, since the first encodes the corpus."""
    started: list[Group] = []
    try:
        started += (Group(count, order) for count in counts)
        yield started
    finally:
        for group in started:
            group.process.communicate()  # the end of the orders is the end of the group


def work(order: Path) -> None:
    """Obey, as one process of a group."""
    given = json.loads(order.read_text(encoding="utf-8"))
    place = order.parent / f"{os.environ.get('WORLD_SIZE', '1')}-{os.environ.get('RANK', '0')}"
    bench = Workbench.open(given["settings"], place)
    with in_touch(bench.accelerator):
        processes = Processes.of(bench.accelerator)
        trainers = {name: bench.trainer(bench.recipe(STEPS[name])) for name in given["steps"]}
        _say(processes, {"ready": True})
        while line := processes.from_main(sys.stdin.readline):
            step, number = json.loads(line)
            _say(processes, _turn(processes, trainers[step], bench.chosen(number, given["updates"])))


def _turn(processes: Processes, trainer: TurnTrainer, updates: list[Any]) -> dict[str, Any]:
    trainer.sums.take()
    processes.gather(None)  # all begin together
    with stopwatch() as watch:
        trainer.turn(updates)
        processes.gather(None)
    mine = trainer.sums.take()
    busy = processes.gather(
        float(mine.get("seconds_roll_in", 0.0)) + float(mine.get("seconds_roll_out", 0.0))
    )
    return {"seconds": watch.seconds, "sentences": sum(map(len, updates)), "busy": busy}


def _say(processes: Processes, answer: dict[str, Any]) -> None:
    if processes.is_main:
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
