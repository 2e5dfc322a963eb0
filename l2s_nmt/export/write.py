"""Export a run, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from l2s_nmt.architecture import load_model
from l2s_nmt.errors import ExportFailed, UserError
from l2s_nmt.evaluation.runs import decoding_of, load_translator, read_test_set
from l2s_nmt.export.check import TOLERANCE, Check, check
from l2s_nmt.export.convert import Quantization, convert, ctranslate2, refuse_unknown
from l2s_nmt.export.page import render_readme
from l2s_nmt.files import is_folder, whole_folder, write_text
from l2s_nmt.run import Run, WeightsName


def export_run(
    run: Run,
    output: Path,
    *,
    quantization: Quantization = "float32",
    split: str = "test",
    weights: WeightsName = "best",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Check:
    """Write a model for CTranslate2 that translates as the run does, on the same sentences by both.

    Args:
        run: a trained run.
        output: folder that is not there yet, or empty.
        quantization: how weights are stored.
        split: of the run's corpus, to compare both on.
        weights: which of the run's.
        progress: told how many translations are done, of how many.

    Raises:
        UserError: the folder holds something, CTranslate2 is not installed, or run, split or model are unsound.
        ExportFailed: the models differ (`Check.holds`), and the weights are not even rounded; nothing is written.
        OSError: it cannot be written.
    """
    ctranslate2()
    output = output.resolve()
    _refuse_taken(output)
    recipe, folder = run.read_recipe(), run.weights(weights)
    test_set = read_test_set(recipe, split)
    translator = load_translator(run, decoding_of(recipe), weights)
    refuse_unknown(translator.model, translator.tokenizer)
    done, total = 0, 2 * len(test_set.sources)

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress(done, total)

    with whole_folder(output) as temporary:
        convert(load_model(folder), translator.tokenizer, temporary, quantization)
        found = check(temporary, translator, test_set, count, recipe.bleu_tokenizer)
        if quantization == "float32" and not found.holds:
            raise ExportFailed(
                f"{output}: not exported: on {test_set.origin} the run has {found.run.bleu.score:.2f} BLEU and the "
                f"exported model {found.exported.bleu.score:.2f}, more than {TOLERANCE} apart, and {found.same} of "
                f"{found.sentences} translations are the same"
            )
        text = render_readme(run.name, recipe.data, translator, quantization, split, found)
        write_text(temporary / "README.md", text)
    return found


def _refuse_taken(output: Path) -> None:
    if output == Path.cwd():
        raise UserError(f"{output}: is the folder that you are in; name a new one with --output")
    if output.exists() and (not is_folder(output) or any(output.iterdir())):
        raise UserError(f"{output}: is there already; choose another --output, or remove it")
