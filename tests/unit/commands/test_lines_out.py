from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2s_nmt.commands.lines_out import GrowingFile, is_stream
from l2s_nmt.errors import UserError

LINES = ["ba", "", "ké", "mo"]


def silent(text: str) -> None:
    raise AssertionError(text)


@given(st.integers(0, 11), st.integers(1, 4))
def test_a_file_that_was_cut_anywhere_is_gone_on_with(
    tmp_path_factory: pytest.TempPathFactory, length: int, at_once: int
) -> None:
    path = tmp_path_factory.mktemp("out") / "folder" / "file"
    file = GrowingFile(path)
    assert file.begin("this", silent) == 0
    file.add(LINES)
    whole = file.partial.read_bytes()
    assert len(whole) == 11
    file.partial.write_bytes(whole[:length])
    del file  # as its process ends
    said: list[str] = []
    file = GrowingFile(path)
    there = file.begin("this", said.append)
    assert there == whole[:length].count(b"\n")
    assert len(said) == (there > 0)
    assert not path.exists()
    for first in range(there, len(LINES), at_once):
        file.add(LINES[first : first + at_once])
    file.finish()
    assert path.read_bytes() == whole
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("step", ["replace", "unlink"])
def test_a_crash_at_the_very_end_loses_no_line(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = GrowingFile(tmp_path / "file")
    file.begin("this", silent)
    file.add(LINES)
    whole = file.partial.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Path, step, lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            file.finish()
    del file
    if not (tmp_path / "file").exists():
        file = GrowingFile(tmp_path / "file")
        assert file.begin("this", lambda text: None) == len(LINES)
        file.finish()
    assert (tmp_path / "file").read_bytes() == whole


def test_other_lines_are_begun_anew(tmp_path: Path) -> None:
    file = GrowingFile(tmp_path / "file")
    file.begin("this", silent)
    file.add(LINES)
    said: list[str] = []
    assert file.begin("that", said.append) == 0
    assert "begun anew" in said[0]
    assert file.begin("that", silent) == 0
    file.add(["ke"])
    file.finish()
    assert (tmp_path / "file").read_text() == "ke\n"


@pytest.mark.parametrize("note", ["", "[]", "{", '{"made_from": 3}', "null", "\0"])
def test_a_note_that_is_none_is_of_other_lines(note: str, tmp_path: Path) -> None:
    file = GrowingFile(tmp_path / "file")
    file.begin("this", silent)
    file.add(LINES)
    file.note.write_text(note)
    assert file.begin("this", lambda text: None) == 0
    assert file.partial.read_bytes() == b""


def test_a_file_is_written_by_one_alone(tmp_path: Path) -> None:
    first, second = GrowingFile(tmp_path / "file"), GrowingFile(tmp_path / "file")
    first.begin("this", silent)
    first.add(LINES[:2])
    for made_from in ("this", "that"):
        with pytest.raises(UserError, match="file: another process is writing it"):
            second.begin(made_from, silent)
    first.add(LINES[2:])
    first.finish()
    assert (tmp_path / "file").read_text().splitlines() == LINES
    assert second.begin("that", silent) == 0
    second.finish()
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]
    assert (tmp_path / "file").read_bytes() == b""


def test_a_file_in_memory_is_a_file_and_a_device_none() -> None:
    assert is_stream(Path("/dev/null"))
    folder = Path("/dev/shm")
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        pytest.skip("there is no folder in memory here")
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        assert not is_stream(Path(file.name))
        pipe = Path(f"{file.name}.pipe")
        os.mkfifo(pipe)
        try:
            assert is_stream(pipe)
        finally:
            pipe.unlink()
