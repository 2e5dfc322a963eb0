"""Files of sentences, one a line, that are given to commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

STANDARD_INPUT = Path("-")


def read_lines(path: Path) -> list[str]:
    """The sentences of a file, or of standard input by the name ``-``.

    Raises:
        UserError: it cannot be read, or is not UTF-8.
    """
    from l2s_nmt.errors import UserError
    from l2s_nmt.files import text_lines

    try:
        if path == STANDARD_INPUT:
            return text_lines(sys.stdin.buffer.read(), "standard input")
        return text_lines(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def read_references(paths: Sequence[Path], sources: Path, count: int) -> list[list[str]]:
    """The references of each of so many source sentences, one from each file; none where no file is given.

    An empty line in a file behind the first is no further reference, as in a corpus.

    Raises:
        UserError: a file cannot be read, is not UTF-8, or has not as many lines as there are sources.
    """
    from l2s_nmt.errors import UserError

    streams = [read_lines(path) for path in paths]
    for path, stream in zip(paths, streams, strict=True):
        if len(stream) != count:
            raise UserError(f"{path} has {len(stream)} lines, but {sources} has {count}")
    return [
        [stream[row] for number, stream in enumerate(streams) if number == 0 or stream[row]]
        for row in range(count)
    ]
