from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from l2s_nmt.errors import TrainingFailed, UserError
from l2s_nmt.files import (
    recover_folder,
    remove_abandoned,
    replace_folder,
    text_lines,
    try_writing,
    whole_folder,
    write_json,
    write_text,
    write_there,
    writing,
)


class Crash(BaseException):
    """What no handler of errors catches."""


def crash(*_: object, **__: object) -> Any:
    raise Crash


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_whoever_may_read_a_folder_may_read_its_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with whole_folder(tmp_path / "folder") as temporary:
            (temporary / "inner").mkdir()
            for name in ("open", "inner/closed"):
                (temporary / name).touch(mode=0o600)
    finally:
        os.umask(before)
    for name in ("open", "inner/closed"):
        assert (tmp_path / "folder" / name).stat().st_mode & 0o777 == 0o640


# ---- files ---------------------------------------------------------------------------------------


def test_lines_of_text_and_of_compressed_text() -> None:
    raw = "\ufeffa\r\nä\u2028b\n\n".encode()
    assert text_lines(raw, "it") == text_lines(gzip.compress(raw), "it") == ["a", "ä\u2028b", ""]
    assert text_lines(gzip.compress(b""), "it") == []
    with pytest.raises(UserError, match="it, line 2: not UTF-8"):
        text_lines(gzip.compress(b"a\n\xff\n"), "it")
    for damaged in (gzip.compress(raw)[:-4], gzip.compress(raw)[:-9] + b"x" * 9, b"\x1f\x8b"):
        with pytest.raises(UserError, match=r"it: the compressed file is damaged \(.*\); copy it again"):
            text_lines(damaged, "it")


def test_text_is_written_as_it_is_and_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "file.txt", "ü\r\nz\u2028\n")
    assert (tmp_path / "a" / "b" / "file.txt").read_bytes() == "ü\r\nz\u2028\n".encode()
    assert names(tmp_path / "a" / "b") == ["file.txt"]


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_what_fails_while_writing_leaves_the_old_file_and_nothing_else(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(step, crash)
        with pytest.raises(Crash):
            write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_name_that_is_not_utf8_is_escaped_and_read_back_from_json(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"name": "\udcff"})
    assert json.loads((tmp_path / "file.json").read_text(encoding="utf-8")) == {"name": "\udcff"}


def test_a_disk_that_is_full_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "x" * 100_000)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_reader_sees_one_whole_file_or_the_other(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    texts = {"a" * 50_000, "b" * 100_000}
    write_text(path, next(iter(texts)))
    seen, stop = set(), threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20):
        for text in texts:
            write_text(path, text)
    stop.set()
    reader.join()
    assert seen <= texts


def test_json_is_readable_and_never_holds_what_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"ü": [1, None]})
    assert path.read_text() == '{\n  "ü": [\n    1,\n    null\n  ]\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, float("nan"))
    assert json.loads(path.read_text()) == {"ü": [1, None]}


# ---- folders -------------------------------------------------------------------------------------


def test_a_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "best"
    for content in ("one", "two"):
        with whole_folder(path) as folder:
            (folder / content).write_text(content)
            if content == "two":
                assert names(path) == ["one"]  # until the end the old one stays
        assert names(path) == [content]
    assert names(tmp_path) == ["best"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Crash])
def test_an_error_within_leaves_the_old_folder_and_nothing_else(
    error: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "best"
    with whole_folder(path) as folder:
        (folder / "old").touch()

    def fail_within() -> None:
        with whole_folder(path) as folder:
            (folder / "new").touch()
            raise error

    with pytest.raises(error):
        fail_within()
    assert names(path) == ["old"]
    assert names(tmp_path) == ["best"]


def test_what_a_killed_process_left_is_not_mixed_into_the_next(tmp_path: Path) -> None:
    path = tmp_path / "best"
    left = tmp_path / ".best.new"
    left.mkdir()
    (left / "half").touch()
    with whole_folder(path) as folder:
        (folder / "whole").touch()
    assert names(path) == ["whole"]
    assert names(tmp_path) == ["best"]


@pytest.mark.parametrize("survived", [0, 1, 2, 3])
def test_a_crash_at_any_step_of_the_exchange_is_mended(
    survived: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two steps there is one whole folder, at its place once it is recovered."""
    path, new = tmp_path / "best", tmp_path / ".best.new"
    for folder, name in ((path, "old"), (new, "new")):
        folder.mkdir()
        (folder / name).touch()
    steps = 0
    rename, rmtree = Path.rename, __import__("shutil").rmtree

    def counted(action: Any) -> Any:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal steps
            if steps == survived:
                raise Crash
            steps += 1
            return action(*arguments, **options)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", counted(rename))
        patch.setattr("shutil.rmtree", counted(rmtree))
        with pytest.raises(Crash):
            replace_folder(new, path)
    recover_folder(path)
    assert names(path) == (["old"] if survived < 3 else ["new"])
    with whole_folder(path) as folder:
        (folder / "newer").touch()
    assert names(path) == ["newer"]
    assert names(tmp_path) == ["best"]


def test_recovering_leaves_a_folder_that_is_there(tmp_path: Path) -> None:
    path, old = tmp_path / "best", tmp_path / ".best.old"
    recover_folder(path)
    assert names(tmp_path) == []
    for folder, name in ((path, "new"), (old, "old")):
        folder.mkdir()
        (folder / name).touch()
    recover_folder(path)
    assert names(path) == ["new"]


def test_what_a_process_that_is_no_more_began_to_write_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    for name in (f".a.json.{ended.pid}.tmp", f".b.json.{os.getpid()}.tmp", ".mine.tmp", "c.json"):
        (tmp_path / name).touch()
    remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f".b.json.{os.getpid()}.tmp", ".mine.tmp", "c.json"}
    remove_abandoned(tmp_path / "missing")


def test_a_copy_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "a").symlink_to("nowhere")
    with (
        pytest.raises(TrainingFailed, match=r"to: cannot be written \(.*No such file or directory"),
        writing(tmp_path / "to"),
    ):
        shutil.copytree(tmp_path / "from", tmp_path / "to")


def try_writing_often(folder: Path) -> None:
    for _ in range(300):
        try_writing(folder)


def test_many_may_try_to_write_at_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        for done in [pool.submit(try_writing_often, tmp_path) for _ in range(2)]:
            done.result()
    assert not list(tmp_path.iterdir())


def test_what_has_been_moved_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_there(tmp_path / "moved" / "file", "text")
    assert not list(tmp_path.iterdir())
