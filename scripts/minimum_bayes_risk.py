"""What a model's own beliefs are worth: greedy decoding, beam search, minimum Bayes risk, and the best of its samples.

    python scripts/minimum_bayes_risk.py RUN --split valid --samples 64

Minimum Bayes risk decoding (Kumar & Byrne 2004; Eikema & Aziz 2020) draws samples and takes the one that is nearest to
all others, here under sentence BLEU. It knows what the model knows, and no more, so it says about how far better use
of that goes. The best of the samples is chosen with the reference: what would be there to learn.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.draw import Sampling
from l2s_nmt.evaluation.runs import decoding_of, load_translator, read_test_set
from l2s_nmt.evaluation.score import score
from l2s_nmt.run import Run
from scripts.arguments import count

ORDERS = 4

Floats = NDArray[np.float64]


def main() -> None:
    """Decode in all ways, and print BLEU and length ratio of each as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--split", default="valid", choices=("valid", "test"))
    parser.add_argument("--samples", type=count, default=64, metavar="N", help="of each sentence; default 64")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help="of sampling; default 1")
    options = parser.parse_args()
    try:
        print(
            json.dumps(
                measure(Run(options.run), options.split, options.samples, options.temperature), indent=2
            )
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def measure(run: Run, split: str, samples: int, temperature: float) -> dict[str, dict[str, float]]:
    """BLEU and length ratio of each way of decoding.

    Raises:
        UserError: the run has no weights, or the split is missing.
    """
    recipe = run.read_recipe()
    test_set = read_test_set(recipe, split)
    found = {}
    for beam in (1, 5):
        translator = load_translator(run, decoding_of(recipe, beam=beam))
        found["greedy" if beam == 1 else f"beam {beam}"] = translator(test_set.sources)
    sampler = load_translator(run, decoding_of(recipe, beam=1), sampling=Sampling(temperature=temperature))
    drawn = [[one.text for one in group] for group in sampler.best(test_set.sources, samples)]
    found[f"minimum Bayes risk, {samples} samples"] = [
        group[int(utilities(group, group).mean(1).argmax())] if group else "" for group in drawn
    ]
    found[f"best of {samples} samples"] = [
        group[int(utilities(group, wanted).max(1).argmax())] if group else ""
        for group, wanted in zip(drawn, test_set.references, strict=True)
    ]
    scores = {
        name: score(texts, test_set.references, recipe.bleu_tokenizer).bleu for name, texts in found.items()
    }
    return {name: {"bleu": bleu.score, "length_ratio": bleu.length_ratio} for name, bleu in scores.items()}


def utilities(translations: Sequence[str], references: Sequence[str]) -> Floats:
    """Sentence BLEU of H translations against each of R references, on words, add-one smoothed.

    Args:
        translations: H texts, words apart by spaces.
        references: R texts.

    Returns:
        (H, R), from 0 to 1.
    """
    words, wanted = ([text.split() for text in texts] for texts in (translations, references))
    lengths, widths = (np.array([[len(text)] for text in texts], dtype=float) for texts in (words, wanted))
    logarithm = np.zeros((len(words), len(wanted)))
    with np.errstate(divide="ignore"):
        for order in range(1, ORDERS + 1):
            added = 0.0 if order == 1 else 1.0
            total = np.maximum(lengths - order + 1, 0.0) + added
            precision = (_matches(words, wanted, order) + added) / np.maximum(total, 1.0)
            logarithm += np.log(precision) / ORDERS
        brevity = np.minimum(0.0, 1 - widths.T / np.maximum(lengths, 1e-9))  # of nothing no word is right
    bleu: Floats = np.exp(logarithm + brevity)
    return bleu


def _matches(words: Sequence[list[str]], wanted: Sequence[list[str]], order: int) -> Floats:
    """(H, R) how many n-grams each two have in common."""
    counts = [[_ngrams(text, order) for text in texts] for texts in (words, wanted)]
    column = {ngram: place for place, ngram in enumerate(set().union(*counts[0], *counts[1]))}
    tables = [np.zeros((len(texts), len(column))) for texts in counts]
    for table, texts in zip(tables, counts, strict=True):
        for row, text in enumerate(texts):
            for ngram, number in text.items():
                table[row, column[ngram]] = number
    rows = [np.minimum(row, tables[1]).sum(1) for row in tables[0]]
    return np.array(rows).reshape(len(words), len(wanted))


def _ngrams(text: list[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(text[start : start + order]) for start in range(len(text) - order + 1))


if __name__ == "__main__":
    main()
