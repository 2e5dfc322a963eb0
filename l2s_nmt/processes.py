"""The processes that a launcher started, which share the work; or the one that works alone."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list, patch_environment

from l2s_nmt.lifeline import lifeline

T = TypeVar("T")

TIMEOUT = timedelta(days=1)
"""Long enough for the first preparation of a large corpus, for which the others wait; a process that is gone is
noticed by the lifeline."""


@dataclass(frozen=True)
class Processes:
    """This process among those that share a piece of work."""

    index: int = 0
    """Of this process; 0 is the main one."""
    count: int = 1

    @staticmethod
    def of(state: Accelerator | PartialState) -> Processes:
        """The processes as accelerate sees them."""
        return Processes(state.process_index, state.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.index == 0

    def gather(self, value: T) -> list[T]:
        """The values of all processes, on each of them."""
        if self.count == 1:
            return [value]
        values: list[T] = [value] * self.count
        torch.distributed.all_gather_object(values, value)
        return values

    def union(self, mine: dict[int, T]) -> dict[int, T]:
        """What the processes have for the rows that they shared, on each of them."""
        return {row: one for share in self.gather(mine) for row, one in share.items()}

    def from_main(self, find: Callable[[], T]) -> T:
        """What the main process finds, on all of them; the others do not look."""
        if self.count == 1:
            return find()
        found: T = broadcast_object_list([find() if self.is_main else None])[0]
        return found

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process passes through this context before the others."""
        if not self.is_main:
            torch.distributed.barrier()
        yield
        if self.is_main and self.count > 1:
            torch.distributed.barrier()


ALONE = Processes()


@contextmanager
def together() -> Iterator[Processes]:
    """Meet the processes that the launcher started; the failure of one within this context ends all."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    with patch_environment(accelerate_use_deepspeed="false"):  # there is no optimiser to deal out
        state = PartialState(cpu=not torch.cuda.is_available(), timeout=TIMEOUT)
    with in_touch(state):
        yield Processes.of(state)


@contextmanager
def in_touch(state: Accelerator | PartialState) -> Iterator[None]:
    """Within this context the failure of one process ends all.

    The process group stays for what a script does next, since one that is made anew under the same launcher may not
    come about. It is taken down when the process ends, unless that is for a failure: then nobody may be there.
    """
    atexit.unregister(_part)
    with lifeline(state):
        yield
    if state.num_processes > 1:
        atexit.register(_part)


def _part() -> None:
    """Take the process group down, when its thread has nothing left to do.

    After the last reduction that thread lets go of a tensor, for which it needs the interpreter. To take the group down
    is to wait for the thread while holding the interpreter: now and then a process would hang for ever at its end.
    """
    if torch.distributed.is_initialized():
        time.sleep(0.5)
        torch.distributed.destroy_process_group()
