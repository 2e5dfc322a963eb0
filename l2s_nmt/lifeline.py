"""Lines between the processes of a run, by which all learn at once that one has failed or died.

A process that waits in a reduction for one that is gone would wait until a timeout, which must be long, since it must
also outlast the preparation of a large corpus. So each process holds a connection to the main one: an error is told
over it, and when a process dies, its system closes it; when a machine dies, nobody answers the probes that the main
process's system sends, and the connection breaks within half a minute. Whoever learns of a failure says so and ends,
whatever it waits for.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list

from l2s_nmt.errors import Interrupted, TrainingFailed

GRACE_SECONDS = 10.0
"""How long a process whose reduction broke waits to hear why."""
HEAD_START_SECONDS = 2.0
"""How long the process that failed has to say why, before a launcher sees another one end and kills it."""
MEETING_SECONDS = 60.0
PROBES = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}


@contextmanager
def lifeline(processes: Accelerator | PartialState) -> Iterator[None]:
    """Within this context the failure of one process ends all, with status 3; a single process needs no line.

    Raises:
        TrainingFailed: the processes cannot reach each other.
    """
    if processes.num_processes == 1:
        yield
        return
    line = _connect(processes.process_index, processes.num_processes)
    try:
        yield
    except Interrupted:  # all processes agreed on it
        line.close()
        raise
    except BaseException as error:
        if _by_another(error) and line.news.wait(GRACE_SECONDS):
            threading.Event().wait()  # for the end
        line.tell(error)
        raise
    line.close()


def _by_another(error: BaseException) -> bool:
    """Whether another process may have caused it: gloo has no class of its own for what it raises."""
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)


class Line:
    """The connections of one process.

    Args:
        rank: of this process.
        others: the ranks at the other ends, with their connections.
    """

    def __init__(self, rank: int, others: dict[int, socket.socket]) -> None:
        self.rank = rank
        self.others = others
        self.news = threading.Event()
        self.closed = False
        for other in others:
            threading.Thread(target=self._listen, args=(other,), daemon=True).start()

    def tell(self, error: BaseException) -> None:
        """Let the others end, too."""
        text = str(error).partition("\n")[0] or type(error).__name__
        self._send({"rank": self.rank, "failed": text})
        self.closed = True

    def close(self) -> None:
        """This process needs the others no more, nor they it."""
        self._send({"rank": self.rank, "done": True})
        self.closed = True

    def _listen(self, other: int) -> None:
        try:
            text = self.others[other].makefile("r", encoding="utf-8").readline()
            message = json.loads(text)
        except (OSError, ValueError):
            message = {"rank": other, "failed": "it died, or its machine is out of reach"}
        if not self.closed and "failed" in message:
            self._end(message)

    def _end(self, message: dict[str, Any]) -> None:
        self.news.set()
        self._send(message)
        time.sleep(HEAD_START_SECONDS)
        print(f"stopped: process {message['rank']} failed: {message['failed']}", file=sys.stderr, flush=True)
        os._exit(TrainingFailed.exit_status)  # nothing else gets a thread out of a reduction

    def _send(self, message: dict[str, Any]) -> None:
        for connection in self.others.values():
            with suppress(OSError):
                connection.sendall(json.dumps(message).encode() + b"\n")


def _connect(rank: int, processes: int) -> Line:
    if rank == 0:
        return Line(rank, _accept(processes))
    port, token = broadcast_object_list([None])[0]
    main = "127.0.0.1" if _on_one_machine() else os.environ.get("MASTER_ADDR", "127.0.0.1")
    try:
        connection = _probed(socket.create_connection((main, port), timeout=MEETING_SECONDS))
        connection.settimeout(None)
        connection.sendall(f"{token} {rank}\n".encode())
    except OSError as error:
        raise TrainingFailed(
            f"process {rank} does not reach the main one ({error}); may it connect to {main}, at any port?"
        ) from error
    return Line(rank, {0: connection})


def _accept(processes: int) -> dict[int, socket.socket]:
    """A connection from each of the others, which know the token."""
    token = secrets.token_hex(16)
    others: dict[int, socket.socket] = {}
    with socket.create_server(("127.0.0.1" if _on_one_machine() else "", 0)) as server:
        broadcast_object_list([(server.getsockname()[1], token)])
        server.settimeout(MEETING_SECONDS)
        while len(others) < processes - 1:
            try:
                connection = _probed(server.accept()[0])
            except TimeoutError as error:
                raise TrainingFailed(
                    f"only {len(others) + 1} of {processes} processes reached the main one; may they connect to "
                    f"{os.environ.get('MASTER_ADDR', '127.0.0.1')}?"
                ) from error
            given, _, rank = _greeting(connection).partition(" ")
            if secrets.compare_digest(given.encode(), token.encode()):
                others[int(rank)] = connection
            else:
                connection.close()
    return others


def _on_one_machine() -> bool:
    return os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE")


def _greeting(connection: socket.socket) -> str:
    connection.settimeout(GRACE_SECONDS)
    read = b""
    with suppress(OSError):
        while not read.endswith(b"\n") and len(read) < 100 and (more := connection.recv(1)):
            read += more
    connection.settimeout(None)
    return read.decode("ascii", "replace").strip()


def _probed(connection: socket.socket) -> socket.socket:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in PROBES.items():
        if hasattr(socket, name):  # not on every system
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection
