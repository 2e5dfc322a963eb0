"""Ctrl-C ends a command quietly from its first moment on; imports next to nothing, to be there before all else is."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_SECONDS = 5.0
"""Between Ctrl-C and the end of a command that does not end."""

IMPORT_SYSTEM = "<frozen importlib._bootstrap>"
"""The file that its frames say they are of."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C ends the process with status 130, also where a library turns it into an error of its own."""
    interrupted = False

    def end_soon(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        if _importing(frame):
            os._exit(130)
        end = threading.Timer(GRACE_SECONDS, os._exit, (130,))
        end.daemon = True
        end.start()
        raise KeyboardInterrupt

    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, end_soon)
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:
        if not interrupted:
            raise
        sys.exit(130)
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported: what loads in C++ may abort at an exception, or take it for its own."""
    while frame is not None and frame.f_code.co_filename != IMPORT_SYSTEM:
        frame = frame.f_back
    return frame is not None
