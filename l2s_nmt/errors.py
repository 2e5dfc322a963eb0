"""The exceptions whose message is all that a person has to see."""

from __future__ import annotations


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
