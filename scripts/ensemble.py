"""What experts know together: BLEU of each run by itself and of all as an ensemble, decoding greedily.

    python scripts/ensemble.py RUN RUN ... --split valid

The ensemble takes at each step the token of the greatest mean probability. It is what a search learns from that has
these runs as its experts (`search.roll_out.experts`), and so about as far as that can get.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from l2s_nmt.architecture import load_model
from l2s_nmt.data.batches import collate
from l2s_nmt.data.tokenizer import decode, encode_sources, load_tokenizer, vocabularies
from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.runs import read_test_set
from l2s_nmt.evaluation.score import score
from l2s_nmt.model import Policy
from l2s_nmt.run import Run
from l2s_nmt.search.context import LengthLimit, see
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.experts import Experts

AT_ONCE = 64
FACTOR, CONSTANT = 2, 20
"""Where translations are cut, by the length of the source."""


def main() -> None:
    """Decode by each and by all, and print BLEU and length ratio as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--split", default="valid", choices=("valid", "test"))
    options = parser.parse_args()
    try:
        print(json.dumps(measure([Run(path) for path in options.runs], options.split), indent=2))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def measure(runs: Sequence[Run], split: str) -> dict[str, dict[str, float]]:
    """BLEU and length ratio of each run and of all together, on the first one's corpus.

    Raises:
        UserError: a run has no weights or another vocabulary than the first, or the split is missing.
    """
    recipe = runs[0].read_recipe()
    test_set = read_test_set(recipe, split)
    tokenizer = load_tokenizer(runs[0].weights())
    for run in runs[1:]:
        if vocabularies(load_tokenizer(run.weights())) != vocabularies(tokenizer):
            raise UserError(f"{run.path}: its vocabulary is not that of {runs[0].path}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    policies = [Policy(load_model(run.weights()).to(device)).eval() for run in runs]
    sources = encode_sources(tokenizer, test_set.sources)
    members = {str(run.path): (policy,) for run, policy in zip(runs, policies, strict=True)}
    found = {}
    for name, chosen in {**members, "all": tuple(policies)}.items():
        bleu = score(
            decode(tokenizer, translate(chosen, sources)), test_set.references, recipe.bleu_tokenizer
        ).bleu
        found[name] = {"bleu": bleu.score, "length_ratio": bleu.length_ratio}
    return found


def translate(policies: tuple[Policy, ...], sources: Sequence[Sequence[int]]) -> list[list[int]]:
    """The tokens of each sentence's translation, without EOS; sentences of like length go together."""
    found: list[list[int]] = [[] for _ in sources]
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    for start in range(0, len(order), AT_ONCE):
        chosen = order[start : start + AT_ONCE]
        for index, row in zip(chosen, _written(policies, [sources[i] for i in chosen]).tolist(), strict=True):
            eos = policies[0].eos
            found[index] = row[: row.index(eos)] if eos in row else row
    return found


def _written(policies: tuple[Policy, ...], sources: Sequence[Sequence[int]]) -> Tensor:
    """(B, T) tokens, EOS again and again where a sentence has ended."""
    first = policies[0]
    batch = collate(sources, [[first.eos]] * len(sources), np.arange(len(sources)), first.pad)
    limit = LengthLimit(FACTOR, CONSTANT, first.positions)
    context = see(first, batch.to(first.model.device), Draws(0, 0), limit)
    every = torch.arange(len(sources), device=context.limits.device)
    tokens = every.new_empty(len(sources), 0)
    ended = torch.zeros_like(every, dtype=torch.bool)
    experts = Experts(policies, listed=1)
    while tokens.shape[1] < int(context.limits.max()) and not ended.all():
        here = torch.full_like(every, tokens.shape[1])
        decisions, _ = experts.costs(context, F.pad(tokens, (0, 1), value=first.pad), every, here)
        best = decisions.actions[:, 0].masked_fill(ended, first.eos)
        ended = ended | (best == first.eos) | (here + 1 >= context.limits)
        tokens = torch.cat([tokens, best[:, None]], 1)
    return tokens


if __name__ == "__main__":
    main()
