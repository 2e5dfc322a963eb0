"""What the references' costs take: every position, the full vocabulary, no roll-out."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from l2s_nmt.build_cost import build_cost, texts
from l2s_nmt.data.batches import collate
from l2s_nmt.model import Policy
from l2s_nmt.search.context import Context, LengthLimit, see
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.protocol import Reference
from l2s_nmt.training.build_search import build_reference
from scripts.bench.clock import Rounds, Turn, stopwatch, take_turns
from scripts.bench.plan import Plan
from scripts.bench.setting import Workbench

_SPECIAL = 3
"""Ids below are padding, EOS and unknown."""
_WRONG = 0.3
"""Share of the roll-in's tokens that are not the target's."""


def measure_references(bench: Workbench, plan: Plan) -> Rounds:
    """Sentences for whose every position and token the costs are computed, by reference."""
    policy = bench.policy().eval()
    contenders = {}
    for name, sentences in plan.reference_sentences.items():
        reference = _reference(bench, name)
        tokens, context = roll_ins(policy, plan.reference_length, plan.reference_vocabulary, sentences)
        contenders[name] = partial(_turn, reference, tokens, context)
    return take_turns(contenders, plan.growth.rounds)


def _reference(bench: Workbench, name: str) -> Reference:
    """The exact oracle under edit distance, or the best suffix under sentence BLEU."""
    chosen = {"edit_distance": "edit_distance", "bleu": "suffix"}[name]
    search = {
        "algorithm": "aggrevated",
        "reference": {"name": chosen},
        "cost": {"name": name},
    }
    settings = bench.recipe(search).search
    return build_reference(settings, build_cost(settings.cost, texts(bench.tokenizer, "13a")))


def roll_ins(policy: Policy, length: int, vocabulary: int, count: int) -> tuple[torch.Tensor, Context]:
    """(B, T) targets with some tokens exchanged, as a model writes them, and their context."""
    draw = np.random.default_rng(1)
    words = draw.integers(_SPECIAL, vocabulary, (count, length - 1))
    end = np.full((count, 1), policy.eos)
    wrong = np.where(
        draw.random(words.shape) < _WRONG, draw.integers(_SPECIAL, vocabulary, words.shape), words
    )
    target = np.concatenate([words, end], 1)
    source = [[policy.eos]] * count
    batch = collate(source, target.tolist(), np.arange(count), policy.pad)
    batch = batch.to(policy.model.device)
    tokens = torch.from_numpy(np.concatenate([wrong, end], 1)).to(policy.model.device)
    return tokens, see(policy, batch, Draws(1, 0), LengthLimit(1.0, length))


def _turn(reference: Reference, tokens: torch.Tensor, context: Context, number: int) -> Turn:
    every = torch.ones_like(tokens, dtype=torch.bool).nonzero()
    with stopwatch() as watch:
        reference.costs(context, tokens, every[:, 0], every[:, 1])
    return Turn(watch.seconds, len(tokens))
