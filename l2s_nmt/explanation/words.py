"""A search in words; tokens as people read them; what changed between two sentences."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from l2s_nmt.evaluation.differences import word_changes
from l2s_nmt.explanation.types import LONE_SPACE, Change, Facts, Token
from l2s_nmt.recipe import Recipe
from l2s_nmt.recipe_search import PReference, Search

_SPACE = "\u2581"
"""What SentencePiece writes for the space before a word."""


def tokens_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[Token]:
    """Target tokens as people read them."""
    # A model may have scores for more than there are pieces.
    pieces = [
        piece or f"<{token}>"
        for token, piece in zip(ids, tokenizer.convert_ids_to_tokens(list(ids)), strict=True)
    ]
    special = set(tokenizer.all_special_ids)
    return [
        Token(
            token,
            piece.removeprefix(_SPACE).replace(_SPACE, " ") or LONE_SPACE,
            joins=not piece.startswith(_SPACE) and token not in special,
            ends=token == tokenizer.eos_token_id,
        )
        for token, piece in zip(ids, pieces, strict=True)
    ]


def changes(before: str, after: str) -> tuple[Change, ...]:
    """The words of two sentences in one line: those of both, those of the first alone, those of the second alone."""
    return tuple(Change(kind, text) for kind, text in word_changes(before, after))


def describe(recipe: Recipe, name: str, *, is_stand_in: bool) -> Facts:
    """A search, in words.

    Args:
        recipe: of a run.
        name: what the run is called.
        is_stand_in: the recipe prices no single choice, so that the explanation does it instead.
    """
    search = recipe.search
    return Facts(
        run=name,
        algorithm=search.algorithm,
        roll_in=_roll_in(search),
        roll_out=_roll_out(search),
        reference=search.reference.name
        + ("" if search.reference.quality == "optimal" else f", {search.reference.quality}"),
        cost=" + ".join(f"{term.weight:g} {term.name}" for term in search.cost.terms) or search.cost.name,
        loss=_loss(search),
        note=_note(search, name, is_stand_in),
    )


def _loss(search: Search) -> str:
    loss = search.loss
    if not search.searches:
        return "cross-entropy alone"
    beside = f", beside {loss.cross_entropy:g} × cross-entropy" if loss.cross_entropy else ""
    return f"{loss.weight:g} × {loss.name}{beside}"


def _roll_in(search: Search) -> str:
    roll_in = search.roll_in
    if roll_in.policy == "reference":
        return "the reference's words"
    how = {
        "greedy": "greedy",
        "sample": f"sampled at temperature {roll_in.temperature:g}",
        "beam": "beam search",
    }
    own = f"the model's words, {how[roll_in.decoding]}"
    return own if roll_in.policy == "learned" else f"by chance the reference's or {own}"


def _roll_out(search: Search) -> str:
    roll_out = search.roll_out
    if not search.searches:
        return "none"
    horizon = "" if roll_out.horizon is None else f", the reference after {roll_out.horizon} tokens"
    return {
        "none": "none: the reference's action is right, every other wrong",
        "reference": "the reference finishes",
        "learned": f"the model finishes{horizon}",
        "mixed": f"the reference or the model finishes, drawn for each {roll_out.mix_unit.replace('_', '-')}"
        f" ({_chance(roll_out.p_reference)}){horizon}",
        "trajectory": "none: the whole translation is scored",
        "expert": "none: other models say how good each token is",
    }[roll_out.policy]


def _chance(p: PReference) -> str:
    return f"p {p.start:g}" if p.schedule == "constant" else f"p from {p.start:g} to {p.end:g}"


def _note(search: Search, name: str, is_stand_in: bool) -> str:
    if not is_stand_in:
        notes = []
        if search.roll_in.policy != "learned" or search.roll_in.decoding != "greedy":
            notes.append("The roll-in shown is greedy, that of training is not.")
        if search.decisions.states != "all":
            notes.append("All states are shown; training looks at some of them.")
        if search.bandit is not None:
            notes.append(
                "Training observes one choice a sentence and estimates from it what is shown in full."
            )
        if search.roll_out.policy == "mixed":
            notes.append("Who finished for the loss was drawn as in the run's last update.")
        return " ".join(notes)
    why = "scores whole translations" if search.searches else "searches for nothing"
    return (
        f"The training of {name} {why}. What is pushed here is what the expected cost would push, each candidate "
        f"finished by the model, under {search.cost.name}."
    )
