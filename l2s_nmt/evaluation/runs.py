"""Evaluate runs: their translations of a split, the scores of these, and what a comparison needs to know."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from l2s_nmt.architecture import load_model
from l2s_nmt.arguments import is_number, is_whole, texts, whole
from l2s_nmt.data.corpus import describe_split, load_split
from l2s_nmt.data.tokenizer import load_tokenizer
from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.card import write_card
from l2s_nmt.evaluation.draw import Sampling
from l2s_nmt.evaluation.score import Scores, read_scores, score, write_scores
from l2s_nmt.evaluation.translate import Decoding, Translator
from l2s_nmt.files import text_lines, try_writing, write_text
from l2s_nmt.languages import new_bleu
from l2s_nmt.processes import ALONE, Processes
from l2s_nmt.recipe import Recipe
from l2s_nmt.recipe_types import MOST_BEAMS, MOST_PENALTY
from l2s_nmt.run import Run, WeightsName, corpus_place
from l2s_nmt.weights import weights_digest, weights_identity


@dataclass(frozen=True)
class TestSet:
    """The sentences of a split."""

    __test__ = False  # no test for pytest

    split: str
    sources: list[str]
    references: list[list[str]]
    """One or several of each."""
    origin: str
    """Names the place in errors."""

    @property
    def digest(self) -> str:
        """What tells its sentences and references from others."""
        return _digest([self.sources, self.references])


def read_test_set(recipe: Recipe, split: str) -> TestSet:
    """A split of a recipe's corpus.

    Raises:
        UserError: it is missing or unsound.
    """
    texts([split], "split")
    place = corpus_place(recipe.data)
    dataset = load_split(split, **place)
    return TestSet(split, dataset["source"][:], dataset["references"][:], describe_split(split, **place))


def decoding_of(recipe: Recipe, *, beam: int | None = None, length_penalty: float | None = None) -> Decoding:
    """The recipe's decoding, with what the command line says on top.

    Raises:
        UserError: there are no beams, a length penalty for a single one, or one that is no number of use.
    """
    own = recipe.evaluation
    if beam is not None and not (is_whole(beam) and beam <= MOST_BEAMS):
        raise UserError(f"beam is {beam!r}; give 1 to {MOST_BEAMS:,}")
    if length_penalty is not None and not (is_number(length_penalty) and abs(length_penalty) <= MOST_PENALTY):
        raise UserError(f"length penalty is {length_penalty!r}; give -{MOST_PENALTY} to {MOST_PENALTY}")
    if length_penalty is not None and (own.beam if beam is None else beam) == 1:
        raise UserError(
            "the length penalty ranks several beams, and there is one; leave it out, or give more beams"
        )
    return Decoding(
        beam=own.beam if beam is None else beam,
        length_penalty=own.length_penalty if length_penalty is None else length_penalty,
        max_length=own.max_length,
    )


def tag_of(recipe: Recipe, decoding: Decoding, weights: WeightsName = "best") -> str | None:
    """What tells the files of a decoding from those of the recipe's own with the best weights, which have no tag."""
    own = decoding_of(recipe)
    parts: list[str] = [] if weights == "best" else [weights]
    if decoding != own:
        parts.append(f"beam{decoding.beam}")
    if decoding.length_penalty != own.length_penalty:
        parts.append(f"penalty{decoding.length_penalty:g}")
    return "-".join(parts) or None


def load_translator(
    run: Run,
    decoding: Decoding,
    weights: WeightsName = "best",
    processes: Processes = ALONE,
    *,
    sampling: Sampling | None = None,
    batch_tokens: int | None = None,
) -> Translator:
    """Weights of a run, ready to translate.

    Args:
        run: a trained run.
        decoding: how to translate.
        weights: which of the run's.
        processes: share the sentences.
        sampling: draw translations instead; None: search for the best.
        batch_tokens: padded source tokens times hypotheses decoded at a time; None: the recipe's.

    Raises:
        UserError: it is no run, or has no weights yet; or the beam, the length penalty or the tokens are none.
    """
    if batch_tokens is not None:
        whole(batch_tokens, "batch_tokens")
    recipe = run.read_recipe()
    folder = run.weights(weights)
    model = load_model(folder)
    decoding.configure(model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = load_tokenizer(folder, **recipe.data.codes)
    at_a_time = batch_tokens or recipe.evaluation.batch_tokens
    return Translator(model.to(device), tokenizer, at_a_time, processes, sampling)


def load_known(
    run: Run, decoding: Decoding, weights: WeightsName, processes: Processes, **options: Any
) -> tuple[Translator, str]:
    """What `load_translator` gives, and the digest of the very weights: training may put others there meanwhile.

    Raises:
        UserError: as there; or processes have found other weights than the main one.
    """
    with processes.main_first():  # which says alone what is wrong
        while True:
            before = weights_identity(run, weights)
            translator = load_translator(run, decoding, weights, processes, **options)
            digest = weights_digest(run, weights)
            if weights_identity(run, weights) == before:
                break
    if processes.from_main(lambda: digest) != digest:
        raise UserError(f"{run.path}: training wrote other weights while these were loaded; try again")
    return translator, digest


def evaluate_run(
    run: Run,
    split: str,
    decoding: Decoding,
    progress: Callable[[int, int], None] = lambda done, total: None,
    weights: WeightsName = "best",
    processes: Processes = ALONE,
) -> tuple[Scores, bool]:
    """Translate and score a split with weights of a run, unless these have been scored so already.

    Several processes share the sentences; the main one alone reads and writes.

    Args:
        run: a trained run.
        split: of its corpus.
        decoding: how to translate.
        progress: told how many sentences are done, of how many.
        weights: which of the run's.
        processes: share the sentences.

    Returns:
        The scores, and whether they were there already.

    Raises:
        UserError: the run has no weights, or the split is missing or unsound.
    """
    tag = tag_of(run.read_recipe(), decoding, weights)
    path = run.scores(split, tag)

    def look() -> tuple[TestSet, Scores | None]:
        test_set = read_test_set(run.read_recipe(), split)
        found = scores_of(run, test_set, decoding, weights)
        if found is None:
            # Before hours of translating, not after.
            refuse_unwritable(run, path)
            new_bleu(run.read_recipe().bleu_tokenizer)
        return test_set, found

    def finish() -> Scores:
        scores = score(translations, test_set.references, run.read_recipe().bleu_tokenizer)
        made_by = _made_by(run, test_set, decoding, digest, translations)
        with writing_in(run):
            write_text(run.translations(split, tag), "".join(f"{line}\n" for line in translations))
            write_scores(path, scores, split=split, decoding=made_by)
            write_card(run)
        return scores

    test_set, there_already = processes.from_main(look)
    if there_already is not None:
        return there_already, True
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress(done, len(test_set.sources))

    translator, digest = load_known(run, decoding, weights, processes)
    translations = translator(test_set.sources, origin=test_set.origin, done=count)
    return processes.from_main(finish), False


def scores_of(
    run: Run, test_set: TestSet, decoding: Decoding, weights: WeightsName = "best"
) -> Scores | None:
    """The scores that weights of a run have on a test set; None: they have not been scored so, or cannot be read.

    Raises:
        UserError: the run has no weights.
    """
    tag = tag_of(run.read_recipe(), decoding, weights)
    path = run.scores(test_set.split, tag)
    there = read_translations(run.translations(test_set.split, tag))
    if _decoding_in(path) != _made_by(run, test_set, decoding, weights_digest(run, weights), there):
        return None
    try:
        return read_scores(path)
    except UserError:
        return None  # damaged: scored anew


def refuse_unwritable(run: Run, path: Path) -> None:
    """See that a file of a run can be written, before the work whose result it will hold.

    Raises:
        UserError: it cannot.
    """
    with writing_in(run):
        try_writing(path.parent)


@contextmanager
def writing_in(run: Run) -> Iterator[None]:
    """Within this context what cannot be written in a run is an error of the user's.

    Raises:
        UserError: names it.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename2 or error.filename or run.path}: cannot be written: {error.strerror}; make room, or copy "
            "the run to where you may write"
        ) from error


def read_translations(path: Path) -> list[str]:
    """One translation a line; empty if there is no such file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return text_lines(path.read_bytes(), str(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def common_test_set(runs: Sequence[Run], splits: Sequence[str]) -> TestSet:
    """The splits that runs have in common, as one.

    Raises:
        UserError: a split is missing, unsound or given twice, or a run has other sentences or references in it than
            the first.
    """
    for split in splits:
        if splits.count(split) > 1:
            raise UserError(f"--split {split} is given twice; its sentences would count twice")
    first, *others = (
        (run, pool([read_test_set(run.read_recipe(), split) for split in splits])) for run in runs
    )
    for run, test_set in others:
        for what, same in (
            ("sentences", test_set.sources == first[1].sources),
            ("references", test_set.references == first[1].references),
        ):
            if not same:
                raise UserError(
                    f"{run.path} and {first[0].path} have different {what} in their {test_set.split} data; "
                    "compare runs on one corpus"
                )
    return first[1]


def pool(test_sets: Sequence[TestSet]) -> TestSet:
    """Several test sets as one."""
    first, *others = test_sets
    for other in others:
        first = replace(
            first,
            split=f"{first.split}+{other.split}",
            sources=first.sources + other.sources,
            references=first.references + other.references,
        )
    return first


def short_names(paths: Sequence[Path]) -> dict[Path, str]:
    """The shortest ends of the paths that tell them apart.

    Raises:
        UserError: two are the same.
    """
    parts = {path: path.resolve().parts for path in paths}
    if len(set(parts.values())) < len(paths):
        raise UserError("the same system is given twice")
    depth = 1
    while len({p[-depth:] for p in parts.values()}) < len(parts):
        depth += 1
    return {path: "/".join(p[-depth:]) for path, p in parts.items()}


def _made_by(
    run: Run, test_set: TestSet, decoding: Decoding, digest: str, translations: Sequence[str]
) -> dict[str, object]:
    """What scores are told by from others of the same run."""
    tokenizer = run.read_recipe().bleu_tokenizer
    return {
        **decoding.to_json(),
        **({} if tokenizer == "13a" else {"bleu_tokenizer": tokenizer}),
        "weights": digest,
        "test_set": test_set.digest,
        "translations": _digest(list(translations)),
    }


def _digest(texts: Sequence[object]) -> str:
    return hashlib.blake2b(json.dumps(texts).encode(), digest_size=16).hexdigest()


def _decoding_in(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["decoding"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
