"""The commands; the only file that knows the terminal.

Exit status: 0 done; 2 something is wrong in what the user gave; 3 training cannot go on (numbers that are not finite, a
full disk, another process that failed), with the newest checkpoint intact; 130 or 143 interrupted by SIGINT or SIGTERM,
with everything saved; 1 anything else, an output that is no longer read among it.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from l2s_nmt.plain_text import visible, visible_lines

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from l2s_nmt.evaluation.translate import Decoding
    from l2s_nmt.processes import Processes
    from l2s_nmt.run import Run

app = typer.Typer(
    name="l2s-nmt",
    help="Train neural translation models by learning to search.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


GRACE_SECONDS = 5.0
"""Between Ctrl-C and the end of a command that does not end."""

RunArgument = Annotated[Path, typer.Argument(help="A run directory.", metavar="RUN", show_default=False)]


SplitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--split", metavar="SPLIT", help="May be given several times; default test.", show_default=False
    ),
]
BeamOption = Annotated[
    int | None,
    typer.Option("--beam", min=1, help="Beams; 1 is greedy; default the recipe's.", show_default=False),
]


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number")
    return value


PenaltyOption = Annotated[
    float | None,
    typer.Option("--length-penalty", help="Default the recipe's.", show_default=False, callback=_finite),
]

WeightsOption = Annotated[
    Literal["best", "last", "average"],
    typer.Option("--weights", help="The best by validation BLEU, the last, or the average of the weights."),
]


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to train.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY.SUB=VALUE]...", help="Settings on top of the recipe.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="RUN", help="The run directory.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check recipe and data, say what would be trained, and end.")
    ] = False,
) -> None:
    """Train a model from a recipe; the same command goes on where an interrupted run stopped."""
    from l2s_nmt.errors import UserError
    from l2s_nmt.recipe_file import dump_recipe, read_recipe

    resolved = read_recipe(recipe, overrides or [])
    if dry_run:
        from l2s_nmt.training.prepare import dry_run as check

        counts = check(resolved, _note)
        typer.echo(dump_recipe(resolved), nl=False)
        size = (
            f"{counts['batches']:,} updates in the first block of {resolved.data.block:,} rows"
            if counts["sentences"] is None
            else f"{counts['sentences']:,} training sentences, {counts['batches']:,} updates an epoch"
        )
        typer.echo(f"# {counts['parameters']:,} parameters, {size}")
        return
    if output is None:
        raise UserError(
            "train: say where the run goes with --output RUN (or check the recipe with --dry-run)"
        )
    from l2s_nmt.run import locked
    from l2s_nmt.training.train import train as run_training

    if os.environ.get("RANK", "0") != "0":
        run_training(resolved, output)
        return
    with locked(output):
        run_training(resolved, output)


@app.command()
def recipes(
    name: Annotated[
        str | None, typer.Argument(help="One of them, to be copied out.", metavar="[CORPUS/ALGORITHM]")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default standard output.", show_default=False),
    ] = None,
) -> None:
    """List the recipes that come with the project, or copy one out."""
    from l2s_nmt.errors import UserError
    from l2s_nmt.files import write_text
    from l2s_nmt.shipped import list_recipes, read_recipe_text

    if name is None:
        found = list_recipes()
        width = max(map(len, found))
        typer.echo("\n".join(f"{key:<{width}}  {line}" for key, line in found.items()))
        return
    text = read_recipe_text(name)
    if output is None:
        typer.echo(text, nl=False)
        return
    if output.exists():
        raise UserError(f"{output}: is there already; choose another --output")
    with _writing(output):
        write_text(output, text)


@app.command()
def watch(run: RunArgument) -> None:
    """Follow a run that is trained elsewhere."""
    from l2s_nmt.run import Run
    from l2s_nmt.training.progress import Display
    from l2s_nmt.training.watch import watch as follow

    follow(Run(run), Display(enabled=True))


@app.command()
def translate(
    run: RunArgument,
    source: Annotated[
        Path | None,
        typer.Option("--input", "-i", metavar="FILE", help="One sentence a line; default standard input."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="One translation a line; default standard output."
        ),
    ] = None,
    beam: BeamOption = None,
    length_penalty: PenaltyOption = None,
    weights: WeightsOption = "best",
) -> None:
    """Translate sentences with a run."""
    from l2s_nmt.evaluation.runs import decoding_of, load_translator
    from l2s_nmt.files import write_text
    from l2s_nmt.processes import together
    from l2s_nmt.run import Run

    trained = Run(run)
    with together() as processes:
        with processes.main_first():  # which says alone what is wrong
            decoding = decoding_of(trained.read_recipe(), beam=beam, length_penalty=length_penalty)
        sentences = processes.from_main(lambda: _read_lines(source))
        with processes.main_first():
            translator = load_translator(trained, decoding, weights, processes)
        with _progress("translating", len(sentences), processes) as advance:
            translations = translator(sentences, origin=str(source or "standard input"), done=advance)
        text = "".join(f"{line}\n" for line in translations)
        if not processes.is_main:
            return
        if output is None:
            typer.echo(text.encode(), nl=False)  # UTF-8 wherever it goes
        else:
            with _writing(output):
                write_text(output, text)


@app.command()
def evaluate(
    run: RunArgument,
    split: SplitOption = None,
    beam: BeamOption = None,
    length_penalty: PenaltyOption = None,
    weights: WeightsOption = "best",
) -> None:
    """Translate splits of the run's corpus and score them: BLEU, chrF and TER, with sacrebleu's signatures."""
    from l2s_nmt.evaluation.runs import decoding_of
    from l2s_nmt.processes import together
    from l2s_nmt.run import Run

    trained = Run(run)
    with together() as processes:
        with processes.main_first():  # which says alone what is wrong
            decoding = decoding_of(trained.read_recipe(), beam=beam, length_penalty=length_penalty)
            trained.weights(weights)
        for name in split or ["test"]:
            _evaluate(trained, name, decoding, processes, weights)


def _evaluate(
    run: Run,
    split: str,
    decoding: Decoding,
    processes: Processes,
    weights: Literal["best", "last", "average"] = "best",
) -> None:
    from l2s_nmt.evaluation.runs import evaluate_run

    def show(done: int, total: int) -> None:
        advance.at(done, total)

    with _progress(f"{run.name}: {split}", None, processes) as advance:
        scores, reused = evaluate_run(run, split, decoding, show, weights, processes)
    if not processes.is_main:
        return
    bleu = scores.bleu
    _say(
        f"{run.path}, {split}, {scores.sentences} sentences, beam {decoding.beam}"
        f"{' (scored already)' if reused else ''}\n"
        f"  BLEU {bleu.score:.2f}  {'/'.join(f'{p:.1f}' for p in bleu.precisions)}  "
        f"BP {bleu.brevity_penalty:.3f}  ratio {bleu.length_ratio:.3f}  {bleu.signature}\n"
        f"  chrF {scores.chrf.score:.2f}  {scores.chrf.signature}\n"
        f"  TER  {scores.ter.score:.2f}  {scores.ter.signature}"
    )


@app.command()
def compare(
    systems: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN|FILE...",
            help="Runs, or files of translations; the first is the baseline.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the report goes.")
    ] = Path("comparison"),
    split: SplitOption = None,
    beam: BeamOption = None,
    length_penalty: PenaltyOption = None,
    sources: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Source sentences, where no run is compared.", show_default=False),
    ] = None,
    references: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Their references; may be given several times.", show_default=False
        ),
    ] = None,
) -> None:
    """Compare systems on the same sentences, with intervals and significance against the first."""
    from l2s_nmt.evaluation import compare as comparing
    from l2s_nmt.evaluation.report import render_terminal, write_comparison
    from l2s_nmt.evaluation.runs import (
        common_test_set,
        decoding_of,
        read_translations,
        short_names,
        system_of_run,
    )
    from l2s_nmt.files import is_folder
    from l2s_nmt.processes import together
    from l2s_nmt.run import Run

    splits = split or ["test"]
    runs = {path: Run(path) for path in systems if is_folder(path)}
    decodings = {
        path: decoding_of(run.read_recipe(), beam=beam, length_penalty=length_penalty)
        for path, run in runs.items()
    }
    names = short_names(systems)
    files = {path: read_translations(_existing(path)) for path in systems if path not in runs}
    if runs and sources is None and references is None:
        test_set = common_test_set(list(runs.values()), splits)
        texts, answers = test_set.sources, test_set.references
    else:
        texts, answers = _read_references(sources, references or [])
    with together() as processes:
        for path, run in runs.items():
            for name in splits:
                _evaluate(run, name, decodings[path], processes)
    if not processes.is_main:
        return
    compared = comparing.compare(
        [
            system_of_run(runs[path], splits, decodings[path], names[path])
            if path in runs
            else comparing.System(names[path], files[path])
            for path in systems
        ],
        texts,
        answers,
        splits=splits if runs else [],
    )
    with _writing(output):
        write_comparison(compared, output)
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(render_terminal(compared))
    for metric, signature in compared.signatures.items():
        typer.echo(f"{metric}: {signature}")
    _say(f"report: {output / 'comparison.html'}")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    from l2s_nmt.errors import UserError

    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}; choose another --output") from error


def _existing(path: Path) -> Path:
    from l2s_nmt.errors import UserError
    from l2s_nmt.files import is_file

    if not is_file(path):
        raise UserError(f"{path}: no such run or file of translations")
    return path


def _read_references(sources: Path | None, references: list[Path]) -> tuple[list[str], list[list[str]]]:
    from l2s_nmt.errors import UserError
    from l2s_nmt.evaluation.runs import read_translations

    if sources is None or not references:
        raise UserError("compare: without a run to take them from, give --sources FILE and --references FILE")
    texts = read_translations(_existing(sources))
    streams = [read_translations(_existing(path)) for path in references]
    for path, stream in zip(references, streams, strict=True):
        if len(stream) != len(texts):
            raise UserError(f"{path} has {len(stream)} lines, but {sources} has {len(texts)}")
    return texts, [list(group) for group in zip(*streams, strict=True)]


def _read_lines(path: Path | None) -> list[str]:
    from l2s_nmt.errors import UserError
    from l2s_nmt.files import text_lines

    name = str(path or "standard input")
    try:
        raw = sys.stdin.buffer.read() if path is None else path.read_bytes()
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror}") from error
    return text_lines(raw, name)


class _Advance:
    """Moves a progress bar on."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self.bar, self.task = bar, task

    def __call__(self, more: int) -> None:
        self.bar.advance(self.task, more)

    def at(self, done: int, total: int) -> None:
        self.bar.update(self.task, completed=done, total=total)


@contextmanager
def _progress(what: str, total: int | None, processes: Processes) -> Iterator[_Advance]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    hidden = not (processes.is_main and sys.stderr.isatty())
    with Progress(console=Console(stderr=True), disable=hidden, transient=True) as bar:
        yield _Advance(bar, bar.add_task(escape(visible(what)), total=total))


def _say(text: str) -> None:
    typer.echo(visible_lines(text))


def _note(text: str) -> None:
    typer.echo(visible_lines(text), err=True)


def main() -> None:
    """Run a command and end the process with its exit status."""
    with _interruptible():
        _quiet_libraries()
        sys.exit(_run())


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the process with status 130, also where a library turns it into an error of its own."""
    interrupted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        # Some libraries, while they load, take it for an error of their own and go on.
        end = threading.Timer(GRACE_SECONDS, os._exit, (130,))
        end.daemon = True
        end.start()
        raise KeyboardInterrupt

    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, note)
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


def _run() -> int:
    from l2s_nmt.errors import TrainingFailed, UserError

    try:
        return app(standalone_mode=False) or 0
    except (UserError, TrainingFailed) as error:
        _note(f"error: {error}")
        return error.exit_status
    except Exception as error:
        if isinstance(error, _USAGE):
            _note(_usage(error))
            return 2
        status = getattr(error, "exit_status", None)
        if status is None:
            raise
        return int(status)


_USAGE = typer.BadParameter.__bases__
"""What a wrong option or argument raises; typer exports no name for it."""


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
