from __future__ import annotations

import io
import os
import queue
import time
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from l2s_nmt.commands import lines_in
from l2s_nmt.commands.lines_in import as_they_come, in_windows
from l2s_nmt.errors import UserError
from l2s_nmt.files import text_lines


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")))
@example(b"\xef\xbb\xbf")
@example(b"\xef\xbb\xbfba\r\n\r\n\rke")
@settings(deadline=None)
def test_a_stream_has_the_lines_of_its_text(content: bytes) -> None:
    assume(not content.startswith(b"\x1f\x8b"))  # a compressed file can be read as a whole alone
    found: list[str] = []
    problem = None
    try:
        for window in as_they_come(io.BytesIO(content), "given"):
            assert window
            found += window
    except UserError as error:
        problem = str(error)
    assert (problem is None) == is_text(content)
    if problem is None:
        assert found == text_lines(content, "given")
        return
    with pytest.raises(UserError) as caught:
        text_lines(content, "given")
    assert problem == str(caught.value)
    assert f"line {len(found) + 1}:" in problem
    before = content.removeprefix(BOM_UTF8).split(b"\n")[: len(found)]
    assert [line.decode().removesuffix("\r") for line in before] == found


def is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.fixture
def pipe() -> Iterator[tuple[int, Iterator[list[str]]]]:
    reading, writing = os.pipe()
    with open(reading, "rb") as stream:
        yield writing, as_they_come(stream, "given")


def test_a_line_is_given_before_the_next_is_written(pipe: tuple[int, Iterator[list[str]]]) -> None:
    writing, windows = pipe
    for line in ("one", "", "three"):
        os.write(writing, f"{line}\n".encode())
        assert next(windows) == [line]
    os.write(writing, b"half")
    os.close(writing)
    assert list(windows) == [["half"]]


def test_lines_that_have_come_are_given_together(
    pipe: tuple[int, Iterator[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_in, "AT_ONCE", 5)
    queues: list[Any] = []

    def new_queue(size: int, make: Any = queue.Queue) -> Any:
        queues.append(make(size))
        return queues[-1]

    monkeypatch.setattr("l2s_nmt.commands.lines_in.queue.Queue", new_queue)
    writing, windows = pipe
    os.write(writing, b"0\n")
    assert next(windows) == ["0"]
    os.write(writing, "".join(f"{line}\n" for line in range(1, 12)).encode())
    os.close(writing)
    while not all(queue.full() for queue in queues):  # it has read what there is room for
        time.sleep(0.001)
    sizes = [len(window) for window in windows]
    assert sum(sizes) == 11
    assert sizes[0] == 5
    assert max(sizes) == 5


@given(st.lists(st.text(max_size=2), max_size=12))
def test_windows_of_what_is_there(lines: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_in, "AT_ONCE", 5)
        windows = list(in_windows(lines))
    assert [line for window in windows for line in window] == lines
    assert all(0 < len(window) <= 5 for window in windows)
