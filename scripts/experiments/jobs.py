"""Commands of `l2s-nmt` side by side, each on its share of the cores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

from l2s_nmt.errors import UserError

Item = TypeVar("Item")


def side_by_side(
    items: Sequence[Item],
    jobs: int,
    work: Callable[[Item], str | None],
    name: Callable[[Item], str],
    done: str,
) -> None:
    """Do a piece of work for each item.

    Args:
        items: to be worked on.
        jobs: at a time.
        work: returns what went wrong, if something did.
        name: of an item.
        done: says what was done.

    Raises:
        UserError: something went wrong with some; the others have been done.
    """
    problems: list[str] = []
    with _pool(jobs) as pool:
        running = {pool.submit(work, item): item for item in items}
        for number, ended in enumerate(as_completed(running), start=1):
            item = name(running[ended])
            problem = ended.result()
            print(f"{number} of {len(items)}  {item}  {problem or done}", flush=True)
            if problem:
                problems.append(f"{item}: {problem}")
    if problems:
        raise UserError("\n".join(problems))


def command(arguments: Sequence[str], threads: int) -> str | None:
    """Run one command of `l2s-nmt`; the last thing it said where it failed."""
    ended = subprocess.run(
        [sys.executable, "-m", "l2s_nmt", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return (ended.stderr.strip().splitlines() or ["failed"])[-1] if ended.returncode else None


@contextmanager
def _pool(jobs: int) -> Iterator[ThreadPoolExecutor]:
    """On Ctrl-C, which the commands get as well and save themselves, nothing more is begun."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield pool
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
