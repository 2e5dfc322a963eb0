"""The commands as functions, for notebooks and scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.draw import Sampling
from l2s_nmt.evaluation.likelihood import Likelihood, likelihood_by_run
from l2s_nmt.evaluation.runs import TestSet, decoding_of, evaluate_run, load_translator, read_test_set
from l2s_nmt.evaluation.score import Scores
from l2s_nmt.evaluation.systems import Options, compare_prepared, group_systems, prepare
from l2s_nmt.evaluation.translate import Hypothesis
from l2s_nmt.evaluation.types import Comparison
from l2s_nmt.explanation.look import explain as explain_pairs
from l2s_nmt.explanation.pairs import choose_pairs
from l2s_nmt.explanation.subject import load_subjects
from l2s_nmt.explanation.types import Explanation
from l2s_nmt.explanation.write import write_explanation
from l2s_nmt.languages import BleuTokenizer
from l2s_nmt.plain_text import shorten
from l2s_nmt.recipe import Recipe
from l2s_nmt.run import Run, locked
from l2s_nmt.training.train import train as train_run


def open_run(path: str | Path) -> Run:
    """A run that has been trained.

    Raises:
        UserError: the path is no run directory.
    """
    run = Run(Path(path))
    run.read_recipe()
    return run


def _refuse_text(*lists: object) -> None:
    """Refuse a text where a list of texts is meant, whose sentences its characters would be.

    Raises:
        UserError: one is a text.
    """
    for given in lists:
        if isinstance(given, str):
            raise UserError(f"{shorten(repr(given))} is one text; give a list of texts")


def _refuse_both(sampling: Sampling | None, beam: int | None, length_penalty: float | None) -> None:
    if sampling is not None and (beam is not None or length_penalty is not None):
        raise UserError(
            "beam and length_penalty are of beam search, which sampling takes the place of; leave one out"
        )


def train(recipe: Recipe, output: str | Path) -> Run:
    """Train a run, or go on where an interrupted one stopped.

    Raises:
        UserError: recipe, data, model or directory are unsound.
    """
    with locked(Path(output)):
        return train_run(recipe, output)


def translate(
    run: Run,
    sources: Sequence[str],
    *,
    beam: int | None = None,
    length_penalty: float | None = None,
    sampling: Sampling | None = None,
    batch_tokens: int | None = None,
) -> list[str]:
    """Translations of sentences with the best weights of a run, in their order.

    Args:
        run: that has been trained.
        sources: sentences; an empty one has an empty translation.
        beam: beams, 1 being greedy; None: the recipe's.
        length_penalty: of beam search; None: the recipe's.
        sampling: draw translations instead; None: beam search.
        batch_tokens: padded source tokens times beams at a time; None: the recipe's.

    Raises:
        UserError: the run has no weights, or a sentence is too long for the model.
    """
    _refuse_text(sources)
    _refuse_both(sampling, beam, length_penalty)
    decoding = decoding_of(run.read_recipe(), beam=beam, length_penalty=length_penalty)
    return load_translator(run, decoding, sampling=sampling, batch_tokens=batch_tokens)(sources)


def n_best(
    run: Run,
    sources: Sequence[str],
    number: int,
    *,
    beam: int | None = None,
    length_penalty: float | None = None,
    sampling: Sampling | None = None,
    batch_tokens: int | None = None,
) -> list[list[Hypothesis]]:
    """The best translations of each sentence that beam search finds, best first, or so many samples.

    Args:
        run: that has been trained.
        sources: sentences; an empty one has no translations.
        number: of translations of each.
        beam: beams, at least that many; None: the recipe's, or that many if those are more.
        length_penalty: of beam search; None: the recipe's.
        sampling: draw translations instead; None: beam search.
        batch_tokens: padded source tokens times beams or samples at a time; None: the recipe's.

    Raises:
        UserError: the run has no weights, a sentence is too long for the model, or there are fewer beams.
    """
    _refuse_text(sources)
    _refuse_both(sampling, beam, length_penalty)
    if number < 1:
        raise UserError(f"number is {number}; give 1 or more")
    decoding = decoding_of(run.read_recipe(), beam=beam, length_penalty=length_penalty)
    if sampling is None and number > decoding.beam:
        if beam is not None:
            raise UserError(f"a beam of {beam} has no {number} best; give more beams, or leave beam out")
        decoding = replace(decoding, beam=number)
    return load_translator(run, decoding, sampling=sampling, batch_tokens=batch_tokens).best(sources, number)


def score(
    run: Run,
    translations: Sequence[str],
    *,
    split: str | None = None,
    sources: Sequence[str] | None = None,
    references: Sequence[Sequence[str]] = (),
    costs: Sequence[str] | None = None,
) -> list[Likelihood]:
    """What the best weights of a run think of given translations.

    Args:
        run: that has been trained.
        translations: one for each source sentence.
        split: of the corpus, that they translate; test if None.
        sources: what they translate, else.
        references: of each of these sources, one or several; they may be left out.
        costs: names of costs; None: the recipe's, if there are references.

    Returns:
        One for each translation: log-probability, tokens and costs.

    Raises:
        UserError: numbers differ, a text stands where a list of texts is meant, a sentence is too long for the model,
            or there is no such cost.
    """
    _refuse_text(translations, sources, *references)
    if sources is None:
        if references:
            raise UserError("references belong to sources; give these as well, or leave them out")
        test_set = read_test_set(run.read_recipe(), split or "test")
    elif split is not None:
        raise UserError("sources and split both say what is translated; give one of them")
    else:
        given = [list(texts) for texts in references] or [[] for _ in sources]
        if len(given) != len(sources):
            raise UserError(f"{len(sources)} sources, but references for {len(given)}")
        test_set = TestSet("", list(sources), given, "sources")
    return likelihood_by_run(run, translations, test_set, costs)


def evaluate(run: Run, split: str = "test", *, beam: int | None = None) -> Scores:
    """BLEU, chrF and TER of a run on a split of its corpus; written to the run directory as well."""
    return evaluate_run(run, split, decoding_of(run.read_recipe(), beam=beam))[0]


def compare(
    runs: Sequence[Run],
    *,
    splits: Sequence[str] = ("test",),
    beam: int | None = None,
    exposure: int | None = None,
    comet: str | None = None,
    bleu_tokenizer: BleuTokenizer | None = None,
) -> Comparison:
    """Runs on the same sentences, the first being the baseline; those that differ in their seed alone are one system.

    Args:
        runs: that have been trained.
        splits: of their corpus.
        beam: beams; None: the recipe's.
        exposure: sentences of each split to measure exposure bias on; None: it is not measured.
        comet: a model of COMET to score with too.
        bleu_tokenizer: what cuts text into BLEU's words; None: the first run's.

    Raises:
        UserError: runs or data are unsound, or do not belong together.
    """
    options = Options(splits, beam, exposure=exposure, comet=comet, bleu_tokenizer=bleu_tokenizer)
    prepared = prepare(group_systems([str(run.path) for run in runs]), options)
    for run, split, decoding in prepared.evaluations():
        evaluate_run(run, split, decoding)
    return compare_prepared(prepared)


def explain(
    runs: Sequence[Run],
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
    _refuse_text(references)
    pairs = choose_pairs(runs, sentence=sentence, references=references, split=split, numbers=numbers)
    explanation = explain_pairs(*load_subjects(runs, candidates), pairs, candidates)
    if output is not None:
        write_explanation(explanation, Path(output))
    return explanation
