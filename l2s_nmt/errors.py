"""The exceptions whose message is all that a person has to see."""

from __future__ import annotations

import signal


class UserError(Exception):
    """Something is wrong in what the user gave: a recipe, a file, an option, a run directory.

    The message names the file, line or key, says what was found and what to do. The command line prints it
    without a traceback and exits with status 2.
    """

    exit_status = 2


class TrainingFailed(Exception):
    """Training cannot go on, through no mistake in what the user gave; the newest checkpoint is intact.

    Numbers that are not finite, a full disk, another process that died. The command line prints the message without
    a traceback and exits with status 3.
    """

    exit_status = 3


class ExportFailed(Exception):
    """An exported model does not translate as the run does, through no mistake in what the user gave.

    The command line prints the message without a traceback and exits with status 1.
    """

    exit_status = 1


class Interrupted(Exception):
    """Training was asked to stop by a signal; everything is saved."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; the same command goes on from here")
        self.exit_status = 128 + number
        """What a shell expects of a process that ended by this signal."""
