"""From the ``search.cost`` section of a recipe to the cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from l2s_nmt.data.tokenizer import decode, decode_sources
from l2s_nmt.languages import BleuTokenizer
from l2s_nmt.recipe_search import Cost as CostSettings
from l2s_nmt.recipe_search import WeightedCost
from l2s_nmt.search.costs.combined import WeightedSum
from l2s_nmt.search.costs.cost import Cost
from l2s_nmt.search.costs.table import build_cost as named_cost
from l2s_nmt.search.costs.text import Split, words_13a, words_by

Decode = Callable[[Sequence[Sequence[int]]], list[str]]


@dataclass(frozen=True)
class Texts:
    """How token ids become text, for costs that look at words."""

    source: Decode
    target: Decode
    words: Split = words_13a
    """Of a target text."""


def texts(tokenizer: PreTrainedTokenizerBase, bleu_tokenizer: BleuTokenizer) -> Texts:
    """Of a run's tokenizer, and of what cuts target text into words."""
    return Texts(
        source=lambda ids: decode_sources(tokenizer, ids),
        target=lambda ids: decode(tokenizer, ids),
        words=words_by(bleu_tokenizer),
    )


def build_cost(settings: CostSettings, texts: Texts) -> Cost:
    """The loss of a finished sentence."""
    if settings.name == "sum":
        return WeightedSum(tuple((term.weight, _one_cost(term, texts)) for term in settings.terms))
    return _one_cost(settings, texts)


def _one_cost(settings: CostSettings | WeightedCost, texts: Texts) -> Cost:
    return named_cost(
        settings.name,
        smoothing=settings.smoothing,
        unit=settings.unit,
        decode_target=texts.target,
        decode_source=texts.source,
        words=texts.words,
        function=settings.function,
    )
