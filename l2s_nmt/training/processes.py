"""What the main process does before the others, and how they hear of its errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

Result = TypeVar("Result")


class FailedElsewhere(Exception):
    """The main process failed and says why."""

    exit_status = 2


def main_first(accelerator: Accelerator, action: Callable[[], Result]) -> Result:
    """Do something on the main process, then on the others, which find what it wrote.

    Args:
        accelerator: of this process.
        action: done once on every process.

    Raises:
        FailedElsewhere: on the other processes, if it raised an error on the main one; they do not wait for ever.
    """
    if not accelerator.is_main_process:
        failed = broadcast_object_list([None])[0]
        if failed:
            raise FailedElsewhere
        return action()
    try:
        result = action()
    except BaseException:
        broadcast_object_list([True])
        raise
    broadcast_object_list([False])
    return result
