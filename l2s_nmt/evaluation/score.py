"""BLEU, chrF and TER of translations, computed by sacrebleu, named by its signatures, kept in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sacrebleu.metrics import CHRF, TER

from l2s_nmt.errors import UserError
from l2s_nmt.files import write_json
from l2s_nmt.languages import BleuTokenizer, mostly_asian, new_bleu

METRICS = ("bleu", "chrf", "ter")
"""The names of the metrics, in the order in which they are reported."""
LABELS = {"bleu": "BLEU", "chrf": "chrF", "ter": "TER", "comet": "COMET"}
"""How people write them, and the learned metric."""


@dataclass(frozen=True)
class MetricScore:
    """A corpus score and the signature with which anybody can compute it again."""

    score: float
    """From 0 to 100; TER may exceed 100, and there lower is better."""
    signature: str
    """sacrebleu's signature: version, number of references, tokenisation, smoothing."""


@dataclass(frozen=True)
class BleuScore(MetricScore):
    """A corpus BLEU (Papineni et al. 2002, as standardised by Post 2018) and what it is made of."""

    brevity_penalty: float
    """At most 1; below 1 where the translations are shorter than the references."""
    length_ratio: float
    """Words of the translations divided by words of the closest references."""
    precisions: tuple[float, ...]
    """Percentages of the 1-grams to 4-grams that occur in the references."""


@dataclass(frozen=True)
class Scores:
    """The scores of one system on one set of sentences."""

    sentences: int
    bleu: BleuScore
    chrf: MetricScore
    """chrF2: character n-grams (Popović 2015)."""
    ter: MetricScore
    """Translation edit rate (Snover et al. 2006)."""

    def to_json(self) -> dict[str, Any]:
        """Return what ``json.dumps`` writes; `from_json` turns it back."""
        values = asdict(self)
        values["bleu"]["precisions"] = list(self.bleu.precisions)
        return values

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Scores:
        """Read what `to_json` returned; further keys are ignored.

        Raises:
            UserError: a key is missing or holds something else than a score.
        """
        try:
            bleu = values["bleu"]
            return Scores(
                sentences=int(values["sentences"]),
                bleu=BleuScore(
                    score=float(bleu["score"]),
                    signature=str(bleu["signature"]),
                    brevity_penalty=float(bleu["brevity_penalty"]),
                    length_ratio=float(bleu["length_ratio"]),
                    precisions=tuple(float(precision) for precision in bleu["precisions"]),
                ),
                chrf=_metric_score(values["chrf"]),
                ter=_metric_score(values["ter"]),
            )
        except KeyError as error:
            raise UserError(f"scores: the key {error} is missing; evaluate the run again") from error
        except (TypeError, ValueError) as error:
            raise UserError(f"scores: {error}; evaluate the run again") from error


def score(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], tokenizer: BleuTokenizer = "13a"
) -> Scores:
    """Score translations against their references.

    Args:
        hypotheses: one plain (detokenised) translation a sentence.
        references: for each sentence its one or more references; their number may differ between sentences.
        tokenizer: what cuts them into BLEU's words.

    Raises:
        UserError: there are no sentences, their two numbers differ, or a sentence has no reference.
    """
    check_aligned(len(hypotheses), references)
    streams = reference_streams(references)
    results: dict[str, Any] = {}
    signatures: dict[str, str] = {}
    for name, metric in new_metrics(tokenizer, references).items():
        results[name] = metric.corpus_score(list(hypotheses), streams)
        signatures[name] = str(metric.get_signature())
    bleu = results["bleu"]
    return Scores(
        sentences=len(hypotheses),
        bleu=BleuScore(
            score=float(bleu.score),
            signature=signatures["bleu"],
            brevity_penalty=float(bleu.bp),
            length_ratio=float(bleu.ratio),
            precisions=tuple(float(precision) for precision in bleu.precisions),
        ),
        chrf=MetricScore(float(results["chrf"].score), signatures["chrf"]),
        ter=MetricScore(float(results["ter"].score), signatures["ter"]),
    )


def new_metrics(tokenizer: BleuTokenizer = "13a", references: Sequence[Sequence[str]] = ()) -> dict[str, Any]:
    """Return fresh sacrebleu metrics by name; each learns the number of references from what it reads.

    Where most references are Chinese or Japanese, TER counts each of their characters (other scripts without spaces it
    does not know).
    """
    asian = mostly_asian([text for alternatives in references for text in alternatives])
    return {
        "bleu": new_bleu(tokenizer),
        "chrf": CHRF(),
        "ter": TER(normalized=asian, asian_support=asian),
    }


def reference_streams(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """Turn references by sentence into sacrebleu's streams: stream k holds every sentence's k-th reference.

    Where a sentence has fewer references than another, its place in the later streams is None, which
    sacrebleu leaves out; an empty string would be a reference of length 0 and change the brevity penalty.
    """
    streams = max(len(alternatives) for alternatives in references)
    return [
        [alternatives[stream] if stream < len(alternatives) else None for alternatives in references]
        for stream in range(streams)
    ]


def check_aligned(hypotheses: int, references: Sequence[Sequence[str]]) -> None:
    """Refuse to score nothing, different numbers of sentences, or a sentence without a reference.

    Raises:
        UserError: says which of these it is, with the counts or the number of the sentence.
    """
    if hypotheses != len(references):
        raise UserError(
            f"{hypotheses} translations, but references for {len(references)} sentences: "
            "both need one entry for each sentence"
        )
    if not references:
        raise UserError("no sentences to score: the translations and the references are empty")
    for number, alternatives in enumerate(references, start=1):
        if not alternatives:
            raise UserError(f"sentence {number} has no reference: each needs at least one")


def write_scores(path: Path, scores: Scores, *, split: str, decoding: Mapping[str, Any]) -> None:
    """Write ``scores/<split>.json``, whole or not at all.

    Args:
        path: the file; its folder is made where it is missing.
        scores: what to write.
        split: the name of the set of sentences, such as ``test``.
        decoding: how the translations were made (beam size, length penalty …), anything that JSON can hold.
    """
    values = {"split": split, **scores.to_json(), "decoding": dict(decoding)}
    write_json(path, values)


def read_scores(path: Path) -> Scores:
    """Read what `write_scores` wrote.

    Raises:
        UserError: the file is missing, is not JSON, or lacks a score.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot read the scores ({error}); evaluate the run again") from error
    try:
        return Scores.from_json(values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _metric_score(values: Mapping[str, Any]) -> MetricScore:
    return MetricScore(float(values["score"]), str(values["signature"]))
