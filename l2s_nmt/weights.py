"""The weights of a run as a file: what tells them from others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader

from l2s_nmt.errors import UserError
from l2s_nmt.run import Run, WeightsName


def weights_digest(run: Run, weights: WeightsName = "best") -> str:
    """What tells weights of a run from others.

    Raises:
        UserError: the run has none, or they cannot be read.
    """
    with _weights_file(run, weights) as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def weights_identity(run: Run, weights: WeightsName) -> tuple[int, int, int]:
    """Of the file that weights of a run are in: another after it was written anew.

    Raises:
        UserError: the run has none, or they cannot be read.
    """
    with _weights_file(run, weights) as file:
        status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_mtime_ns


@contextmanager
def _weights_file(run: Run, weights: WeightsName) -> Iterator[BufferedReader]:
    path = run.weights(weights) / "model.safetensors"
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise UserError(f"{path}: the weights cannot be read: {error.strerror}") from error
