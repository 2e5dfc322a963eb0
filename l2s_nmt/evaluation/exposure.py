"""Exposure bias, measured: how often the next token is right after the model's own prefix and after the reference's.

A model trained on perfect prefixes may do worse behind its own mistakes, and the more so the further it has come
(Ranzato et al. 2016; Arora et al. 2022 see it as the accumulation of errors in imitation learning). What the right
token is behind a mistake says the dynamic oracle of edit distance: one with which a best completion goes on, which
loses nothing against the best (Sabour et al. 2019). The same is asked after the reference's prefix, where it is the
reference's next token; so nothing but the prefix differs. Both are greedy, token by token.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from l2s_nmt.architecture import load_model
from l2s_nmt.data.batches import Batch, collate, longest_first
from l2s_nmt.data.tokenizer import encode_sources, encode_targets, load_tokenizer
from l2s_nmt.decoding import best_tokens
from l2s_nmt.evaluation.runs import TestSet, read_test_set, refuse_unwritable, writing_in
from l2s_nmt.evaluation.types import ExposureRange
from l2s_nmt.files import write_json
from l2s_nmt.model import Policy
from l2s_nmt.run import Run
from l2s_nmt.search.context import LengthLimit
from l2s_nmt.search.reference.edit_distance import edit_distance_costs
from l2s_nmt.search.sampling import greedy
from l2s_nmt.search.types import cost_of
from l2s_nmt.weights import weights_digest

STARTS = (1, 2, 6, 11, 16, 21, 31, 41, 61)
"""Where the ranges of positions begin."""
_FORMAT = 1
"""Part of what a file was made by: raise it when the same run is to be measured differently."""
_SCORES = 2**26
"""Most scores of next tokens in memory at once."""

Encoded = tuple[list[int], list[list[int]]]
"""The tokens of a source, and of its references."""


def exposure_of_run(
    run: Run, split: str, most: int, done: Callable[[int, int], None] = lambda done, total: None
) -> tuple[ExposureRange, ...]:
    """Measure the best weights of a run on a split, unless that was done before.

    Args:
        run: a trained run; ``exposure/SPLIT.json`` in it keeps the result.
        split: of its corpus.
        most: sentences to look at, evenly spaced over the split; all if there are fewer.
        done: told how many sentences are done, of how many.

    Raises:
        UserError: the run has no weights or cannot be written, or the split is missing or unsound.
    """
    path = run.path / "exposure" / f"{split}.json"
    test_set = read_test_set(run.read_recipe(), split)
    made_by = {
        "format": _FORMAT,
        "sentences": most,
        "weights": weights_digest(run),
        "test_set": test_set.digest,
    }
    found = _read(path, made_by)
    if found is None:
        refuse_unwritable(run, path)
        found = _measure(run, test_set, most, done)
        with writing_in(run):
            write_json(path, {"made_by": made_by, "ranges": [asdict(row) for row in found]})
    return found


def _read(path: Path, made_by: dict[str, object]) -> tuple[ExposureRange, ...] | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["made_by"] == made_by:
            return tuple(ExposureRange(**row) for row in values["ranges"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # measured anew
    return None


def _measure(
    run: Run, test_set: TestSet, most: int, done: Callable[[int, int], None]
) -> tuple[ExposureRange, ...]:
    recipe = run.read_recipe()
    folder = run.weights()
    tokenizer = load_tokenizer(folder, **recipe.data.codes)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    policy = Policy(load_model(folder).to(device)).eval()
    own = recipe.search.length_limit
    limit = LengthLimit(own.factor, own.constant, policy.positions)
    filled = [row for row, text in enumerate(test_set.sources) if text.strip()]
    chosen = [filled[place] for place in _evenly(len(filled), most)]
    sources = encode_sources(tokenizer, [test_set.sources[row] for row in chosen]) if chosen else []
    references = [encode_targets(tokenizer, test_set.references[row]) for row in chosen]
    longest = policy.positions or max(map(len, sources), default=0) + 10**9
    fitting = [
        pair
        for pair in zip(sources, references, strict=True)
        if max(len(pair[0]), *map(len, pair[1])) <= longest
    ]
    return measure_exposure(policy, fitting, limit, recipe.evaluation.batch_tokens, done)


def _evenly(count: int, most: int) -> list[int]:
    """At most so many of the numbers below a count, evenly spaced."""
    kept = min(count, most)
    return [number * count // kept for number in range(kept)]


@torch.no_grad()
def measure_exposure(
    policy: Policy,
    sentences: Sequence[Encoded],
    limit: LengthLimit,
    batch_tokens: int,
    done: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[ExposureRange, ...]:
    """Measure a policy on encoded sentences.

    Args:
        policy: in evaluation mode, on its device.
        sentences: their sources and references, each ending with EOS.
        limit: where the model's own sentences are cut.
        batch_tokens: padded tokens decoded at a time.
        done: told how many sentences are done, of how many.

    Returns:
        One range after the other; behind the longest sentence they hold nothing.
    """
    totals = np.zeros((4, len(STARTS)), dtype=np.int64)
    ready = 0
    for batch in _batches(sentences, policy, batch_tokens):
        batch = batch.to(policy.model.device)
        memory = policy.encode(batch.source, batch.source_mask)
        tokens, lengths = policy.roll(memory, limit(batch.source_mask), greedy)
        totals[:2] += _count(tokens, lengths, tokens, batch, policy.eos)
        best = best_tokens(policy.mask_scores(policy.score(memory, batch.target)))
        totals[2:] += _count(batch.target, batch.target_lengths, best, batch, policy.eos)
        ready += len(batch)
        done(ready, len(sentences))
    ends = [*(start - 1 for start in STARTS[1:]), None]
    return tuple(
        ExposureRange(first, last, *map(int, column))
        for first, last, column in zip(STARTS, ends, totals.T, strict=True)
    )


def _batches(sentences: Sequence[Encoded], policy: Policy, batch_tokens: int) -> Iterator[Batch]:
    """Sentences of similar length together, the longest first."""
    widths = [max(len(source), *map(len, references)) for source, references in sentences]
    vocabulary = policy.model.get_output_embeddings().weight.shape[0]
    budget = max(1, min(batch_tokens, _SCORES // vocabulary))
    for rows in longest_first(range(len(sentences)), widths, budget):
        references = [sentences[row][1] for row in rows]
        yield collate(
            [sentences[row][0] for row in rows],
            [texts[0] for texts in references],
            np.array(rows),
            policy.pad,
            references,
        )


def _count(tokens: Tensor, lengths: Tensor, chosen: Tensor, batch: Batch, eos: int) -> np.ndarray:
    """How many states there are, and at how many of them the chosen token is right, in each range of positions.

    Args:
        tokens: (B, T) prefixes, padded with anything.
        lengths: (B,) how many of their tokens count.
        chosen: (B, T) what the model says after ``tokens[:, :t]``.
        batch: their references.
        eos: id of EOS.

    Returns:
        (2, ranges).
    """
    places = torch.arange(tokens.shape[1], device=tokens.device)
    sentence, position = (places < lengths[:, None]).nonzero(as_tuple=True)
    decisions, costs = edit_distance_costs(
        tokens, sentence, position, batch.references, batch.reference_lengths, eos
    )
    cost = cost_of(decisions, costs, chosen[sentence, position])
    starts = torch.tensor(STARTS, device=tokens.device)
    ranges = torch.bucketize(position + 1, starts, right=True) - 1
    counts = [torch.bincount(found, minlength=len(STARTS)) for found in (ranges, ranges[cost == 0])]
    return torch.stack(counts).cpu().numpy()
