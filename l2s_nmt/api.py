"""The commands as functions, for notebooks and scripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from l2s_nmt.arguments import is_whole, listed, path_of, texts, whole
from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.draw import Sampling
from l2s_nmt.evaluation.likelihood import Likelihood, likelihood_by_run
from l2s_nmt.evaluation.report import write_comparison
from l2s_nmt.evaluation.runs import TestSet, decoding_of, evaluate_run, read_test_set
from l2s_nmt.evaluation.runs import load_translator as load
from l2s_nmt.evaluation.score import Scores
from l2s_nmt.evaluation.systems import Options, compare_prepared, group_systems, prepare
from l2s_nmt.evaluation.translate import Hypothesis, Translator
from l2s_nmt.evaluation.types import Comparison
from l2s_nmt.explanation.look import explain as explain_pairs
from l2s_nmt.explanation.pairs import choose_pairs
from l2s_nmt.explanation.subject import load_subjects
from l2s_nmt.explanation.types import Explanation
from l2s_nmt.explanation.write import write_explanation
from l2s_nmt.files import refuse_unwritable_folder, writing_to
from l2s_nmt.languages import BleuTokenizer
from l2s_nmt.plain_text import shorten
from l2s_nmt.recipe import Recipe
from l2s_nmt.recipe_file import read_recipe
from l2s_nmt.run import Run, WeightsName, locked
from l2s_nmt.training.train import train as train_run

AnyRun = Run | str | Path
"""A run that has been trained, or the directory of one."""


def open_run(path: AnyRun) -> Run:
    """A run that has been trained.

    Raises:
        UserError: the path is no run directory.
    """
    run = path if isinstance(path, Run) else Run(path_of(path, "run"))
    run.read_recipe()
    return run


class TranslatorOptions(TypedDict, total=False):
    """How translations are made, as keyword arguments."""

    beam: int | None
    """Beams, 1 being greedy; None: the recipe's."""
    length_penalty: float | None
    """Of beam search; None: the recipe's."""
    sampling: Sampling | None
    """Draw translations instead; None: beam search."""
    batch_tokens: int | None
    """Padded source tokens times beams or samples at a time; None: the recipe's."""
    weights: WeightsName
    """Best (which is taken if nothing is said), last, or their average."""


def load_translator(run: AnyRun, **options: Unpack[TranslatorOptions]) -> Translator:
    """A model of a run, loaded once: called with sentences it gives their translations, its ``best`` several of each.

    Args:
        run: that has been trained.
        options: how it translates.

    Raises:
        UserError: the run has no such weights, or an option is none that can be.
    """
    unknown = options.keys() - TranslatorOptions.__annotations__.keys()
    if unknown:
        raise UserError(
            f"{min(unknown)} is no option of translating; there are {', '.join(TranslatorOptions.__annotations__)}"
        )
    beam, length_penalty = options.get("beam"), options.get("length_penalty")
    sampling = options.get("sampling")
    if sampling is not None and not isinstance(sampling, Sampling):
        raise UserError(f"sampling is {shorten(repr(sampling))}; give l2s_nmt.Sampling(), with its settings")
    if sampling is not None and (beam is not None or length_penalty is not None):
        raise UserError(
            "beam and length_penalty are of beam search, which sampling takes the place of; leave one out"
        )
    run = _run(run)
    decoding = decoding_of(run.read_recipe(), beam=beam, length_penalty=length_penalty)
    weights = options.get("weights", "best")
    return load(run, decoding, weights, sampling=sampling, batch_tokens=options.get("batch_tokens"))


def train(recipe: Recipe | str | Path, output: str | Path) -> Run:
    """Train a run, or go on where an interrupted one stopped.

    Args:
        recipe: what to train, or the file that says so.
        output: the run directory.

    Raises:
        UserError: recipe, data, model or directory are unsound.
        TrainingFailed: numbers are not finite, a file cannot be written, or another process failed.
        Interrupted: a signal came; the same call goes on.
    """
    chosen = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    folder = path_of(output, "output")
    with locked(folder):
        return train_run(chosen, folder)


def translate(run: AnyRun, sources: Sequence[str], **options: Unpack[TranslatorOptions]) -> list[str]:
    """Translations of sentences with a run, in their order; for several calls, load it once (`load_translator`).

    Args:
        run: that has been trained.
        sources: sentences; an empty one has an empty translation.
        options: how they are translated.

    Raises:
        UserError: the run has no such weights, a sentence is too long for the model, or an option is none that can
            be.
    """
    sentences = texts(sources, "sources")
    return load_translator(run, **options)(sentences)


def n_best(
    run: AnyRun, sources: Sequence[str], number: int, **options: Unpack[TranslatorOptions]
) -> list[list[Hypothesis]]:
    """The best translations of each sentence that beam search finds, best first, or so many samples.

    Args:
        run: that has been trained.
        sources: sentences; an empty one has no translations.
        number: of translations of each.
        options: how they are made; of beams the recipe's number, or that of the translations if those are more.

    Raises:
        UserError: the run has no such weights, a sentence is too long for the model, there are fewer beams, or an
            option is none that can be.
    """
    sentences = texts(sources, "sources")
    whole(number, "number")
    beam = options.get("beam")
    if beam is None and options.get("sampling") is None:
        options["beam"] = max(_run(run).read_recipe().evaluation.beam, number)
    elif is_whole(beam) and beam < number:
        raise UserError(f"a beam of {beam} has no {number} best; give more beams, or leave beam out")
    return load_translator(run, **options).best(sentences, number)


def score(
    run: AnyRun,
    translations: Sequence[str],
    *,
    split: str | None = None,
    sources: Sequence[str] | None = None,
    references: Sequence[Sequence[str]] = (),
    costs: Sequence[str] | None = None,
    weights: WeightsName = "best",
) -> list[Likelihood]:
    """What a run thinks of given translations.

    Args:
        run: that has been trained.
        translations: one for each source sentence.
        split: of the corpus, that they translate; test if None.
        sources: what they translate, else.
        references: of each of these sources, one or several; they may be left out.
        costs: names of costs; None: the recipe's, if there are references.
        weights: best, last, or their average.

    Returns:
        One for each translation: log-probability, tokens and costs.

    Raises:
        UserError: numbers differ, a text stands where a list of texts is meant, a sentence is too long for the model,
            or there is no such cost.
    """
    run, translations = _run(run), texts(translations, "translations")
    theirs = [texts(each, "references of a source") for each in listed(references, "references")]
    chosen = None if costs is None else texts(costs, "costs")
    if sources is None:
        if theirs:
            raise UserError("references belong to sources; give these as well, or leave them out")
        test_set = read_test_set(run.read_recipe(), split or "test")
    elif split is not None:
        raise UserError("sources and split both say what is translated; give one of them")
    else:
        sentences = texts(sources, "sources")
        given = theirs or [[] for _ in sentences]
        if len(given) != len(sentences):
            raise UserError(f"{len(sentences)} sources, but references for {len(given)}")
        if any(given) and not all(given):
            raise UserError(f"source {given.index([]) + 1} has no references; give some of each, or of none")
        test_set = TestSet("", sentences, given, "sources")
    return likelihood_by_run(run, translations, test_set, chosen, weights=weights)


def evaluate(
    run: AnyRun,
    split: str = "test",
    *,
    beam: int | None = None,
    length_penalty: float | None = None,
    weights: WeightsName = "best",
) -> Scores:
    """BLEU, chrF and TER of a run on a split of its corpus; written to the run directory as well.

    Args:
        run: that has been trained.
        split: of its corpus.
        beam: beams, 1 being greedy; None: the recipe's.
        length_penalty: of beam search; None: the recipe's.
        weights: best, last, or their average.

    Raises:
        UserError: the run has no such weights, or the split is missing or unsound.
    """
    run = _run(run)
    decoding = decoding_of(run.read_recipe(), beam=beam, length_penalty=length_penalty)
    return evaluate_run(run, split, decoding, weights=weights)[0]


def compare(
    runs: AnyRun | Sequence[AnyRun],
    *,
    splits: Sequence[str] = ("test",),
    beam: int | None = None,
    length_penalty: float | None = None,
    exposure: int | None = None,
    comet: str | None = None,
    bleu_tokenizer: BleuTokenizer | None = None,
    output: str | Path | None = None,
) -> Comparison:
    """Runs on the same sentences, the first being the baseline; those that differ in their seed alone are one system.

    Args:
        runs: that have been trained.
        splits: of their corpus; the sentences of several are scored together.
        beam: beams; None: the recipe's.
        length_penalty: of beam search; None: the recipe's.
        exposure: sentences of each split to measure exposure bias on; None: it is not measured.
        comet: a model of COMET to score with too.
        bleu_tokenizer: what cuts text into BLEU's words; None: the first run's.
        output: folder for the report (comparison.html and others); None: nothing is written.

    Raises:
        UserError: runs or data are unsound, or do not belong together.
    """
    if exposure is not None:
        whole(exposure, "exposure")
    folder = None if output is None else path_of(output, "output")
    if not (chosen := texts(splits, "splits")):
        raise UserError("no split is given")
    options = Options(chosen, beam, length_penalty, exposure, comet, bleu_tokenizer)
    prepared = prepare(group_systems([str(run.path) for run in _runs(runs)]), options)
    if folder is not None:
        refuse_unwritable_folder(folder)
    for run, split, decoding in prepared.evaluations():
        evaluate_run(run, split, decoding)
    comparison = compare_prepared(prepared)
    if folder is not None:
        with writing_to(folder):
            write_comparison(comparison, folder)
    return comparison


def explain(
    runs: AnyRun | Sequence[AnyRun],
    *,
    sentence: str | None = None,
    references: Sequence[str] = (),
    split: str | None = None,
    numbers: Sequence[int] = (),
    candidates: int = 5,
    output: str | Path | None = None,
) -> Explanation:
    """What the search sees in sentences: roll-in, states, candidates, roll-outs, costs, and what the loss pushes.

    Args:
        runs: one run, or one before and one after.
        sentence: of your own, with its references.
        references: its translations, one or several.
        split: of the corpus, else; test if None.
        numbers: of sentences of the split, from 1; the first if empty.
        candidates: most probable tokens tried at each state.
        output: folder for explanation.html and explanation.json; None: nothing is written.

    Raises:
        UserError: there is no such sentence, or a run cannot be loaded.
    """
    whole(candidates, "candidates")
    if sentence is not None:
        texts([sentence], "sentence")
    folder = None if output is None else path_of(output, "output")
    chosen, theirs = _runs(runs), texts(references, "references")
    which = [whole(number, "a number of a sentence") for number in listed(numbers, "numbers")]
    pairs = choose_pairs(chosen, sentence=sentence, references=theirs, split=split, numbers=which)
    if folder is not None:
        refuse_unwritable_folder(folder)
    explanation = explain_pairs(*load_subjects(chosen, candidates), pairs, candidates)
    if folder is not None:
        with writing_to(folder):
            write_explanation(explanation, folder)
    return explanation


def _run(run: AnyRun) -> Run:
    """The run, opened where its directory is given.

    Raises:
        UserError: it is none.
    """
    if isinstance(run, str | Path):
        return open_run(run)
    if not isinstance(run, Run):
        raise UserError(f"{shorten(repr(run))} is no run; give one that train returned, or its directory")
    return run


def _runs(runs: AnyRun | Sequence[AnyRun]) -> list[Run]:
    """The runs that are given, or the one.

    Raises:
        UserError: there is none, or what is given is none.
    """
    found = [_run(one) for one in ([runs] if isinstance(runs, AnyRun) else listed(runs, "runs"))]
    if not found:
        raise UserError("no run is given")
    return found
