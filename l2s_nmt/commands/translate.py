"""``l2s-nmt translate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l2s_nmt.commands.options import BeamOption, PenaltyOption, RunArgument, WeightsOption
from l2s_nmt.commands.texts import STANDARD_INPUT
from l2s_nmt.errors import UserError

if TYPE_CHECKING:
    from l2s_nmt.evaluation.draw import Sampling


STANDARD_OUTPUT = ("-", "/dev/stdout")
"""Its names: opened anew by the second, it would begin where it was when the command began."""


def translate(
    run: RunArgument,
    source: Annotated[
        Path | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE",
            help="One sentence a line; default standard input (-), line by line, with a prompt on a terminal.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="One line for each sentence; the same command goes on where an interrupted one stopped. Default "
            "standard output.",
        ),
    ] = None,
    beam: BeamOption = None,
    length_penalty: PenaltyOption = None,
    n_best: Annotated[
        int | None,
        typer.Option(
            "--n-best",
            min=1,
            metavar="N",
            help="The N best of the beam, or N samples, with their scores: one JSON object for each sentence.",
            show_default=False,
        ),
    ] = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="Draw translations from the model, in place of beam search.")
    ] = False,
    temperature: Annotated[
        float | None, typer.Option(help="Of --sample; default 1.", show_default=False)
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option("--top-k", min=1, help="Sample among so many most probable tokens.", show_default=False),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            "--top-p",
            help="Sample among the fewest tokens that have this probability together.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of --sample; default 1.", show_default=False)
    ] = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            "--batch-tokens",
            min=1,
            help="Padded source tokens times beams or samples at a time; default the recipe's.",
            show_default=False,
        ),
    ] = None,
    weights: WeightsOption = "best",
) -> None:
    """Translate sentences with a run."""
    sampling = _sampling(sample, temperature, top_k, top_p, seed, beam, length_penalty)
    from l2s_nmt.commands.lines_out import check_output, is_stream
    from l2s_nmt.commands.translating import (
        Arriving,
        Work,
        print_translations,
        stream_translations,
        write_translations,
    )
    from l2s_nmt.evaluation.runs import decoding_of, load_known, load_translator
    from l2s_nmt.processes import together
    from l2s_nmt.run import Run

    trained = Run(run)
    with together() as processes:
        with processes.main_first():  # which says alone what is wrong
            if output is not None:
                check_output(output, source)
            decoding = decoding_of(trained.read_recipe(), beam=beam, length_penalty=length_penalty)
            if n_best is not None and sampling is None and n_best > decoding.beam:
                raise UserError(
                    f"--n-best {n_best}: a beam of {decoding.beam} has no more than {decoding.beam}; give --beam "
                    f"{n_best} as well"
                )
        arriving = Arriving(None if source == STANDARD_INPUT else source, processes)
        options: dict[str, Any] = {"sampling": sampling, "batch_tokens": batch_tokens}
        standard = output is None or str(output) in STANDARD_OUTPUT
        if output is not None and not standard and not is_stream(output):
            translator, digest = load_known(trained, decoding, weights, processes, **options)
            work = Work(translator, n_best, arriving.name)
            write_translations(work, arriving, output, (digest, decoding, sampling, n_best))
            return
        with processes.main_first():
            translator = load_translator(trained, decoding, weights, processes, **options)
        work = Work(translator, n_best, arriving.name)
        if output is None or standard:
            print_translations(work, arriving)
        else:
            stream_translations(work, arriving, output)


def _sampling(
    sample: bool,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    beam: int | None,
    length_penalty: float | None,
) -> Sampling | None:
    given = {"--temperature": temperature, "--top-k": top_k, "--top-p": top_p, "--seed": seed}
    if not sample:
        for name, value in given.items():
            if value is not None:
                raise UserError(f"{name} is of sampling; give --sample as well, or leave it out")
        return None
    for name, unfit in (("--beam", beam), ("--length-penalty", length_penalty)):
        if unfit is not None:
            raise UserError(
                f"{name} is of beam search, which --sample takes the place of; leave one of them out"
            )
    from l2s_nmt.evaluation.draw import Sampling

    return Sampling(1.0 if temperature is None else temperature, top_k, top_p, 1 if seed is None else seed)
