from __future__ import annotations

from pathlib import Path

import pytest

from l2s_nmt.commands.texts import read_references
from l2s_nmt.errors import UserError


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_an_empty_line_is_no_further_reference_but_may_be_the_first(tmp_path: Path) -> None:
    one = write(tmp_path / "one", "a", "", "c")
    two = write(tmp_path / "two", "", "b", "d")
    assert read_references([one, two], tmp_path / "sources", 3) == [["a"], ["", "b"], ["c", "d"]]


def test_every_sentence_has_its_line(tmp_path: Path) -> None:
    one = write(tmp_path / "one", "a", "b")
    with pytest.raises(UserError, match=r"one has 2 lines, but .*sources has 3"):
        read_references([one], tmp_path / "sources", 3)
