"""Processes that train together, as copies of this one, which has all libraries loaded."""

from __future__ import annotations

import atexit
import io
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from accelerate.state import AcceleratorState, GradientState
from tqdm import tqdm

from tests.helpers import PATIENCE, ROOT, Outcome


@dataclass
class Copy:
    """A command of `l2s-nmt` in a copy of this process, with streams of its own."""

    pid: int
    out: IO[bytes]
    err: IO[bytes]
    status: int | None = field(default=None, init=False)

    def runs(self) -> bool:
        """Whether it has not ended yet."""
        if self.status is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is None

    def send(self, number: int) -> None:
        """A signal, if it still runs."""
        if self.runs():
            os.kill(self.pid, number)

    def outcome(self, within: float = PATIENCE) -> Outcome:
        """Wait for its end for so many seconds; the status is negative where a signal ended it."""
        until = time.monotonic() + within
        while self.runs():
            assert time.monotonic() < until, "it does not end"
            time.sleep(0.02)
        texts = []
        for stream in (self.out, self.err):
            stream.seek(0)
            texts.append(stream.read().decode())
        assert self.status is not None
        return Outcome(self.status, *texts)


def start_copy(*arguments: str | Path, prepare: Callable[[], object] = lambda: None) -> Copy:
    """Start one process of a command, which works alone, after something else was done there."""
    return _copy(arguments, ROOT, b"", {}, prepare)


def copied(*arguments: str | Path) -> Outcome:
    """What a command leaves behind that runs in a copy, with everything that the end of a process is."""
    (outcome,) = ends([start_copy(*arguments)], within=PATIENCE)
    return outcome


def start_together(count: int, *arguments: str | Path, folder: Path = ROOT, stdin: bytes = b"") -> list[Copy]:
    """Start so many processes of one command, as a cluster's scheduler does, with nobody to look after them.

    Args:
        count: of processes.
        arguments: of `l2s-nmt`.
        folder: where they work.
        stdin: of each.
    """
    port = str(_free_port())
    return [
        _copy(
            arguments,
            folder,
            stdin,
            {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(count),
                "LOCAL_WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            },
        )
        for rank in range(count)
    ]


def _free_port() -> int:
    """Below those that a system gives to whom it does not matter, who might get it before it is used."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = 10_000 + 200 * worker + random.randrange(200)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def ends(copies: Sequence[Copy], within: float) -> list[Outcome]:
    """What each left behind; none is there afterwards."""
    until = time.monotonic() + within
    try:
        return [copy.outcome(until - time.monotonic()) for copy in copies]
    finally:
        for copy in copies:
            copy.send(signal.SIGKILL)


def wait_until(happened: Callable[[], bool], *copies: Copy, within: float = PATIENCE) -> None:
    """Wait for so many seconds for something that processes do, none of which may end before; if not, none is left."""
    until = time.monotonic() + within
    while not happened():
        if time.monotonic() < until and all(copy.runs() for copy in copies):
            time.sleep(0.005)
            continue
        for copy in copies:
            copy.send(signal.SIGKILL)
        raise AssertionError(f"nothing happened within {within} s", [copy.outcome() for copy in copies])


def lines_of(path: Path) -> int:
    """Of a file that may not be there yet."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def together(count: int, *arguments: str | Path, stdin: bytes = b"") -> str:
    """What so many processes of one command printed, all of them together; they must succeed."""
    outcomes = ends(start_together(count, *arguments, stdin=stdin), within=PATIENCE)
    for outcome in outcomes:
        assert outcome.status == 0, outcome.err
    return "".join(outcome.out for outcome in outcomes)


def _copy(
    arguments: Sequence[str | Path],
    folder: Path,
    stdin: bytes,
    environment: dict[str, str],
    prepare: Callable[[], object] = lambda: None,
) -> Copy:
    given, out, err = (tempfile.TemporaryFile() for _ in range(3))  # noqa: SIM115 (closed by whoever drops a Copy)
    given.write(stdin)
    given.seek(0)
    child = os.fork()
    if child:
        given.close()
        return Copy(child, out, err)
    status = 70  # of what is unforeseen
    atexit._clear()  # what the tests have to do when they end
    try:
        for number, stream in enumerate((given, out, err)):
            os.dup2(stream.fileno(), number)
        os.chdir(folder)
        os.environ.update(environment)
        prepare()
        status = _run([str(argument) for argument in arguments])
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        atexit._run_exitfuncs()
        os._exit(status)


def _run(arguments: Sequence[str]) -> int:
    from l2s_nmt.cli import main

    sys.argv = ["l2s-nmt", *arguments]
    sys.stdin = io.TextIOWrapper(io.FileIO(0), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), encoding="utf-8", write_through=True)
    sys.stderr = io.TextIOWrapper(
        io.FileIO(2, "w"), encoding="utf-8", errors="backslashreplace", write_through=True
    )
    # The locks of tqdm are shared with copies, so one that is killed while it holds them would stop all others.
    tqdm.set_lock(threading.RLock())
    # What commands of this process left behind, which worked alone.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    try:
        main()
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
