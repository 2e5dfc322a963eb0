"""Processes that belong together find each other, whoever else knocks."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import Any

import pytest

from l2s_nmt import lifeline
from l2s_nmt.errors import TrainingFailed


@pytest.mark.parametrize("knock", [b"\x16\x03\x01\x02\x00\x01\xfc\n", b"GET / HTTP/1.1\n", b"", b"x" * 200])
def test_a_stranger_at_the_door_is_sent_away(knock: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    told: Queue[tuple[int, str]] = Queue()
    monkeypatch.setattr(lifeline, "broadcast_object_list", lambda given: told.put(given[0]))
    with ThreadPoolExecutor(1) as pool:
        accepted: Any = pool.submit(lifeline._accept, 2)
        port, token = told.get(timeout=60)
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(knock)
        with socket.create_connection(("127.0.0.1", port)) as other:
            other.sendall(f"{token} 1\n".encode())
            others = accepted.result(timeout=60)
            assert [*others] == [1]
            others[1].close()


def test_who_does_not_reach_the_main_process_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setattr(lifeline, "broadcast_object_list", lambda given: [(port, "token")])
    with pytest.raises(TrainingFailed, match=r"process 1 does not reach the main one \(.*refused\); may it"):
        lifeline._connect(1, 2)
