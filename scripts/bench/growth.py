"""How the time of a learned step grows with lengths, candidates, states and vocabulary, against its arithmetic."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch, collate
from l2s_nmt.data.training_data import TrainingData, in_one_block
from l2s_nmt.model import Policy
from l2s_nmt.recipe import Recipe
from l2s_nmt.recipe_file import merge
from scripts.bench import arithmetic
from scripts.bench.clock import Contender, Rounds, Spread, Turn, price_ratio, prices, take_turns
from scripts.bench.plan import Growth
from scripts.bench.rollouts import Arena
from scripts.bench.setting import LEARNED_STEP, TurnTrainer, Workbench

_NEVER = -1e4
"""Added to the score of a token that must not be chosen."""
_SPECIAL = 3
"""Ids below are padding, EOS and unknown."""


@dataclass(frozen=True)
class Point:
    """One setting of the step."""

    axis: str
    length: int
    candidates: int
    states: int
    vocabulary: int

    @property
    def value(self) -> int:
        """On its axis."""
        return {
            "length": self.length,
            "candidates": self.candidates,
            "states": self.states,
            "vocabulary": self.vocabulary,
        }[self.axis]


def points(growth: Growth, vocabulary: int) -> list[Point]:
    """All settings: short sentences, 3 states, 4 candidates and the model's vocabulary, one of them varied."""
    start = Point("length", growth.lengths[0], 4, 3, vocabulary)
    return [
        *(replace(start, length=value) for value in growth.lengths),
        *(replace(start, axis="candidates", candidates=value) for value in growth.candidates),
        *(replace(start, axis="states", states=value) for value in growth.states),
        *(replace(start, axis="vocabulary", vocabulary=value) for value in growth.vocabularies),
    ]


def measure_growth(bench: Workbench, growth: Growth) -> list[dict[str, Any]]:
    """Time and arithmetic of each setting, as multiples of the first of its axis."""
    base = _endless(bench.policy())
    sizes = arithmetic.Sizes.of(base.model)
    policies = {sizes.vocabulary: base}
    settings = points(growth, sizes.vocabulary)
    contenders: dict[str, Contender] = {}
    operations: dict[str, float] = {}
    for point in settings:
        if point.vocabulary not in policies:
            policies[point.vocabulary] = with_vocabulary(base, point.vocabulary).to(bench.accelerator.device)
        policy = policies[point.vocabulary]
        batch = sentences_of_length(bench, policy, point, growth.sentences)
        trainer = _trainer(bench, policy, point, batch)
        assert trainer.search is not None
        with bench.accelerator.autocast():
            arena = Arena.open(trainer.search, policy, batch.to(bench.accelerator.device))
        operations[_name(point)] = arithmetic.search_step(arithmetic.Sizes.of(policy.model), arena.needed())
        contenders[_name(point)] = partial(_turn, trainer)
    turns = take_turns(contenders, growth.rounds)
    return [_line(point, settings, turns, operations) for point in settings]


def _turn(trainer: TurnTrainer, number: int) -> Turn:
    return replace(trainer.turn([np.arange(1)]), work=1)


def _name(point: Point) -> str:
    return f"{point.axis} {point.value}"


def _line(
    point: Point, settings: Sequence[Point], turns: Rounds, operations: dict[str, float]
) -> dict[str, Any]:
    name = _name(point)
    first = next(_name(other) for other in settings if other.axis == point.axis)
    expected = operations[name] / operations[first]
    grown = price_ratio(turns[name], turns[first])
    return {
        "axis": point.axis,
        "value": point.value,
        "seconds": prices(turns[name]),
        "growth": grown,
        "arithmetic": expected,
        "excess": Spread(grown.median / expected, grown.low / expected, grown.high / expected),
    }


def _trainer(bench: Workbench, policy: Policy, point: Point, batch: Batch) -> TurnTrainer:
    search = merge(
        LEARNED_STEP,
        {
            "decisions": {"per_sentence": point.states, "k": point.candidates},
            "length_limit": {"factor": 1.0, "constant": 0},
        },
    )
    recipe: Recipe = bench.recipe(search)
    data = TrainingData(
        block=in_one_block(lambda _: [batch.rows.numpy()]),
        split=lambda rows, parts: [rows] * parts,
        load=lambda _: batch,
    )
    return bench.trainer(recipe, policy, data)


def _endless(policy: Policy) -> Policy:
    """The policy that never says EOS, so that every sentence reaches its limit."""
    policy.model.final_logits_bias[0, policy.eos] = _NEVER
    return policy


def with_vocabulary(policy: Policy, size: int) -> Policy:
    """The policy with a smaller or a larger vocabulary; new tokens are scored and never chosen."""
    config = copy.deepcopy(policy.model.config)
    config.vocab_size = config.decoder_vocab_size = size
    model = type(policy.model)(config)
    old = policy.model.state_dict()
    with torch.no_grad():
        for name, values in model.state_dict().items():
            common = tuple(slice(min(pair)) for pair in zip(values.shape, old[name].shape, strict=True))
            values[common] = old[name][common].to(values)
        model.final_logits_bias[0, policy.model.final_logits_bias.shape[1] :] = _NEVER
    return Policy(model)


def sentences_of_length(bench: Workbench, policy: Policy, point: Point, count: int) -> Batch:
    """Sentences of so many tokens, cut from the corpus laid end to end."""
    sides = {"source": _words(bench, "source"), "target": _words(bench, "target")}
    cut = {
        side: [
            [*(_fold(token, point.vocabulary) for token in islice(words, point.length - 1)), policy.eos]
            for _ in range(count)
        ]
        for side, words in sides.items()
    }
    return collate(cut["source"], cut["target"], np.arange(count), policy.pad)


def _words(bench: Workbench, side: str) -> Any:
    """The tokens of one side of the corpus, one after the other, from the front again when they are used up."""
    while True:
        for rows in bench.updates:
            batch = bench.data.load(rows)
            tokens: Tensor = batch.source if side == "source" else batch.target
            yield from chain.from_iterable([t for t in row if t >= _SPECIAL] for row in tokens.tolist())


def _fold(token: int, vocabulary: int) -> int:
    return token if token < vocabulary else _SPECIAL + token % (vocabulary - _SPECIAL)
