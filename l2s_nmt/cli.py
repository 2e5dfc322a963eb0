"""The command line: the commands, and how a process of theirs ends.

Exit status: 0 done; 2 something is wrong in what the user gave; 3 training cannot go on (numbers that are not finite, a
full disk, another process that failed), with the newest checkpoint intact; 130 or 143 interrupted by SIGINT or SIGTERM,
with everything saved; 1 anything else, an output that is no longer read and an export that is not equal among it.
"""

from __future__ import annotations

import codecs
import errno
import io
import logging
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from l2s_nmt.commands.compare import compare
from l2s_nmt.commands.evaluate import evaluate
from l2s_nmt.commands.explain import explain
from l2s_nmt.commands.export import export
from l2s_nmt.commands.recipes import recipes
from l2s_nmt.commands.score import score
from l2s_nmt.commands.terminal import note
from l2s_nmt.commands.train import train
from l2s_nmt.commands.translate import translate
from l2s_nmt.commands.watch import watch

app = typer.Typer(
    name="l2s-nmt",
    help="Train neural translation models by learning to search.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"l2s-nmt {metadata.version('l2s-nmt')}")
        raise typer.Exit


@app.callback()
def _before_any(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and end.", is_eager=True, callback=_say_version),
    ] = False,
) -> None:
    """Train neural translation models by learning to search."""


for command in (train, recipes, watch, translate, score, evaluate, compare, explain, export):
    app.command()(command)


def main() -> None:
    """Run a command and end the process with its exit status."""
    sys.argv[1:] = [_with_home(argument) for argument in sys.argv[1:]]
    _open_closed_streams()
    _replace_what_has_no_code()
    _quiet_libraries()
    status = _run()
    _give_up_stderr()
    sys.exit(status)


def _with_home(argument: str) -> str:
    """An option's folder with ~ read as the home folder, as a shell does it but for ``--output=~/run``."""
    option, equals, path = argument.partition("=")
    is_path = option.startswith("--") and (path == "~" or path.startswith("~/"))
    return f"{option}{equals}{os.path.expanduser(path)}" if is_path else argument


def _open_closed_streams() -> None:
    """Where the standard streams were closed (``>&-``), what goes there is lost, and nothing comes from there."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - for good


def _replace_what_has_no_code() -> None:
    """A character that the terminal's encoding lacks is shown as a question mark, and ends nothing."""
    if isinstance(sys.stdout, io.TextIOWrapper) and codecs.lookup(sys.stdout.encoding).name != "utf-8":
        sys.stdout.reconfigure(errors="replace")


def _run() -> int:
    from l2s_nmt.errors import ExportFailed, TrainingFailed, UserError

    try:
        return app(standalone_mode=False) or 0
    except (UserError, TrainingFailed, ExportFailed) as error:
        note(f"error: {error}")
        return error.exit_status
    except Exception as error:
        if isinstance(error, _USAGE):
            note(_usage(error))
            return 2
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            note(f"error: standard output cannot be written: {error.strerror}")
            _leave_unwritten()
            return 1
        status = getattr(error, "exit_status", None)
        if status is None:
            raise
        return int(status)


_USAGE = typer.BadParameter.__bases__
"""What a wrong option or argument raises; typer exports no name for it."""


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""Why a stream takes no more. What is written to files has messages of its own."""


def _leave_unwritten() -> None:
    """What is in the buffer of standard output is not tried again at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _give_up_stderr() -> None:
    """What standard error has not taken is no reason for another exit status."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _usage(error: Any) -> str:
    if error.ctx is None:
        return f"error: {error.format_message()}"
    hint = f"Try '{error.ctx.command_path} --help' for help."
    # Where there are no arguments at all, the help is the message and has been shown.
    message = f"error: {error.format_message()}" if sys.argv[1:] else ""
    return f"{error.ctx.get_usage()}\n{hint}\n{message}".rstrip()


def _quiet_libraries() -> None:
    """Libraries say nothing on the terminal, and send no figures about their use anywhere."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    # Where it is installed it is imported by every run, sets a level of its own, and writes to standard output.
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
