"""``l2s-nmt export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from l2s_nmt.commands.options import RunArgument, WeightsOption
from l2s_nmt.commands.terminal import note, progress, say

if TYPE_CHECKING:
    from huggingface_hub import RepoUrl

    from l2s_nmt.export.convert import Quantization
    from l2s_nmt.run import Run, WeightsName


def export(
    run: RunArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="A new folder for CTranslate2's model.", show_default=False
        ),
    ] = None,
    quantization: Annotated[
        Literal["float32", "float16", "bfloat16", "int16", "int8"] | None,
        typer.Option(help="How its weights are stored; default float32.", show_default=False),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="SPLIT",
            help="Of the corpus, to compare run and model on; default test.",
            show_default=False,
        ),
    ] = None,
    weights: WeightsOption = "best",
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            metavar="REPO",
            help="Upload weights, tokenizer and card to the Hugging Face hub, and what is in --output.",
            show_default=False,
        ),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Let nobody else see it there.")] = False,
) -> None:
    """Write a run's model for CTranslate2, checked on a test set, or push it to the Hugging Face hub."""
    from l2s_nmt.errors import UserError
    from l2s_nmt.run import Run

    trained = Run(run)
    if output is None and push_to_hub is None:
        raise UserError("export: say where to: --output DIR for CTranslate2, --push-to-hub REPO, or both")
    if output is None and (quantization or split):
        raise UserError("export: --quantization and --split are of CTranslate2's model; give --output DIR")
    if push_to_hub is None and private:
        raise UserError("export: --private is of --push-to-hub REPO; give both, or leave it out")
    trained.weights(weights)
    repository = None if push_to_hub is None else _open(push_to_hub, private)
    if output is not None:
        _convert(trained, output, quantization or "float32", split or "test", weights)
    if repository is not None:
        _push(trained, repository, weights, output)


def _convert(run: Run, output: Path, quantization: Quantization, split: str, weights: WeightsName) -> None:
    from l2s_nmt.export.write import export_run
    from l2s_nmt.files import writing_to
    from l2s_nmt.processes import ALONE

    with progress(f"{run.name}: {split}, by both models", None, ALONE) as advance, writing_to(output):
        found = export_run(
            run, output, quantization=quantization, split=split, weights=weights, progress=advance.at
        )
    say(
        f"{output}, {quantization}; {split}, {found.sentences} sentences, {found.same} translated as by the run"
    )
    for name, side in (("run", found.run), ("exported", found.exported)):
        say(
            f"  {name:8}  BLEU {side.bleu.score:.2f}  {side.per_second:.1f} sentences/s on {side.device}  "
            f"{side.bleu.signature}"
        )
    if not found.holds:
        note(f"warning: with weights of {quantization} BLEU is {found.difference:+.2f} from that of the run")


def _open(repository: str, private: bool) -> RepoUrl:
    from l2s_nmt.export.hub import open_repository

    return open_repository(repository, private=private)


def _push(run: Run, repository: RepoUrl, weights: WeightsName, exported: Path | None) -> None:
    from l2s_nmt.evaluation.card import render_card
    from l2s_nmt.export.hub import upload

    upload(repository.repo_id, run.weights(weights), render_card(run), exported)
    say(f"uploaded: {repository}")
