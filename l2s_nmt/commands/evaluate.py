"""``l2s-nmt evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from l2s_nmt.commands.options import BeamOption, PenaltyOption, RunArgument, SplitOption, WeightsOption
from l2s_nmt.commands.terminal import progress, say

if TYPE_CHECKING:
    from l2s_nmt.evaluation.translate import Decoding
    from l2s_nmt.processes import Processes
    from l2s_nmt.run import Run


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
            evaluate_split(trained, name, decoding, processes, weights)


def evaluate_split(
    run: Run,
    split: str,
    decoding: Decoding,
    processes: Processes,
    weights: Literal["best", "last", "average"] = "best",
) -> None:
    """Translate and score one split, and say what came out."""
    from l2s_nmt.evaluation.runs import evaluate_run

    def show(done: int, total: int) -> None:
        advance.at(done, total)

    with progress(f"{run.name}: {split}", None, processes) as advance:
        scores, reused = evaluate_run(run, split, decoding, show, weights, processes)
    if not processes.is_main:
        return
    bleu = scores.bleu
    say(
        f"{run.path}, {split}, {scores.sentences} sentences, beam {decoding.beam}"
        f"{' (scored already)' if reused else ''}\n"
        f"  BLEU {bleu.score:.2f}  {'/'.join(f'{p:.1f}' for p in bleu.precisions)}  "
        f"BP {bleu.brevity_penalty:.3f}  ratio {bleu.length_ratio:.3f}  {bleu.signature}\n"
        f"  chrF {scores.chrf.score:.2f}  {scores.chrf.signature}\n"
        f"  TER  {scores.ter.score:.2f}  {scores.ter.signature}"
    )
