"""The costs by their names in recipes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from l2s_nmt.errors import UserError
from l2s_nmt.search.costs.bleu import SentenceBleu, Smoothing
from l2s_nmt.search.costs.chrf import characters, chrf_cost
from l2s_nmt.search.costs.cost import Cost, OnTokens, TokenCost
from l2s_nmt.search.costs.edit_distance import edit_distance_cost
from l2s_nmt.search.costs.overlap import hamming_cost, unigram_f1_cost
from l2s_nmt.search.costs.own import COST_TAKES, load_function
from l2s_nmt.search.costs.ter import ter_cost
from l2s_nmt.search.costs.text import Decode, OnText, OnWords, Split, words_13a, words_tercom

Unit = Literal["tokens", "words"]

OWN = "own"
"""The name of a cost that a function of the user's computes."""


@dataclass(frozen=True)
class CostRow:
    """What there is to know about a cost before it is built."""

    kernel: TokenCost | None
    """Against one reference; None: the cost of one's own."""
    units: tuple[Unit, ...]
    """What it can compare, the default first; nothing where there is no choice."""
    needs_text: bool
    """It looks at detokenised text, whatever the unit."""
    compares_tokens: bool
    """On tokens, it sees nothing but which are equal, and all those that no reference has are alike."""
    summary: str
    paper: str
    split: Split = words_13a
    """What cuts a text into what the kernel compares, where that is not tokens."""


_BOTH: tuple[Unit, ...] = ("tokens", "words")

COSTS: dict[str, CostRow] = {
    "bleu": CostRow(
        kernel=SentenceBleu(),
        units=_BOTH,
        needs_text=False,
        compares_tokens=True,
        summary="1 - smoothed sentence BLEU",
        paper="Papineni et al. 2002; smoothing: Chen & Cherry 2014",
    ),
    "edit_distance": CostRow(
        kernel=edit_distance_cost,
        units=_BOTH,
        needs_text=False,
        compares_tokens=True,
        summary="insertions, deletions and substitutions, divided by the length of the reference",
        paper="Levenshtein 1966",
    ),
    "ter": CostRow(
        kernel=ter_cost,
        units=_BOTH,
        needs_text=False,
        compares_tokens=True,
        summary="edit distance in which moving a phrase is one edit; slow where the order of words is wrong",
        paper="Snover et al. 2006",
        split=words_tercom,
    ),
    "hamming": CostRow(
        kernel=hamming_cost,
        units=_BOTH,
        needs_text=False,
        compares_tokens=True,
        summary="share of the positions at which the sentences differ",
        paper="Hamming 1950",
    ),
    "unigram_f1": CostRow(
        kernel=unigram_f1_cost,
        units=_BOTH,
        needs_text=False,
        compares_tokens=True,
        summary="1 - F1 of the words, whatever their order",
        paper="van Rijsbergen 1979; for translation: Melamed et al. 2003",
    ),
    "chrf": CostRow(
        kernel=chrf_cost,
        units=(),
        needs_text=True,
        compares_tokens=False,
        summary="1 - chrF2, the F-score of character n-grams of the text",
        paper="Popović 2015",
        split=characters,
    ),
    OWN: CostRow(
        kernel=None,
        units=(),
        needs_text=True,
        compares_tokens=False,
        summary="a function of your own over sources, translations and references as text; needs no references",
        paper="",
    ),
}


def build_cost(
    name: str,
    *,
    decode_target: Decode,
    decode_source: Decode,
    words: Split = words_13a,
    smoothing: Smoothing = "add_k",
    unit: Unit | None = None,
    function: str | None = None,
) -> Cost:
    """Build one named cost.

    Args:
        name: one of `COSTS`.
        decode_target: target tokens to text, for costs on text.
        decode_source: source tokens to text, for a cost of one's own.
        words: what cuts a target text into words, for costs that count them as BLEU does.
        smoothing: of sentence BLEU.
        unit: what is compared; None for the cost's default.
        function: ``module:function``, with the name ``own`` and no other.

    Raises:
        UserError: the cost cannot compare this unit; or a function is missing, not to be found or not used.
    """
    row = COSTS[name]
    if unit is not None and unit not in row.units:
        raise UserError(f"search.cost.unit: {name} has no unit to choose; leave it out")
    if (function is None) == (row.kernel is None):
        needed = (
            "is missing: give module:function" if function is None else f"is not used by {name}: leave it out"
        )
        raise UserError(f"search.cost.function {needed}, or name another cost")
    if function is not None:
        return OnText(load_function(function, COST_TAKES), decode_target, decode_source, function)
    assert row.kernel is not None
    kernel = replace(row.kernel, smoothing=smoothing) if isinstance(row.kernel, SentenceBleu) else row.kernel
    if row.needs_text or unit == "words":
        # Another language's words are those of all costs on words; only what cuts into characters stays.
        spaced = words is words_13a or row.needs_text
        return OnWords(kernel, decode_target, row.split if spaced else words)
    return OnTokens(kernel)
