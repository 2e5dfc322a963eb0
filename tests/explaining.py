"""Explanations by tiny policies whose tokens are spelt as words, and one full of text that means harm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from l2s_nmt.explanation.look import explain
from l2s_nmt.explanation.subject import Subject, make_subject
from l2s_nmt.explanation.types import Explained, Explanation, Pair, RollOut
from l2s_nmt.explanation.words import changes, describe
from l2s_nmt.search.randomness import Draws
from tests.searches import recipe_of
from tests.tiny import finish, new_policy, random_sentences, shared_policy

LIMIT = {"factor": 1.0, "constant": 3}


class Spelling:
    """A word for each token of the tiny policies."""

    separate_vocabs = False

    def __init__(self) -> None:
        policy = shared_policy()
        self.eos_token_id, self.pad_token_id = policy.eos, policy.pad
        self.all_special_ids = [policy.eos, policy.pad]

    def __call__(self, *, text: Sequence[str] = (), text_target: Sequence[str] = (), **_: Any) -> Any:
        return {"input_ids": [[int(word[1:]) for word in line.split()] for line in (text or text_target)]}

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return ["</s>" if token in self.all_special_ids else f"\u2581w{token}" for token in ids]

    def batch_decode(self, ids: Sequence[Sequence[int]], **_: Any) -> list[str]:
        return [" ".join(f"w{t}" for t in row if t not in self.all_special_ids) for row in ids]

    def save_pretrained(self, folder: str) -> None:
        """It has no files."""


def spelling() -> PreTrainedTokenizerBase:
    return cast(PreTrainedTokenizerBase, Spelling())


def spell(ids: Sequence[int]) -> str:
    return Spelling().batch_decode([ids])[0]


def tiny_subject(algorithm: str, count: int = 3, *, changed: bool = False, **search: Any) -> Subject:
    """The shared policy looked at with the search of an algorithm; or one whose weights are a little others."""
    recipe = recipe_of(algorithm, length_limit=LIMIT, **search)
    policy = new_policy() if changed else shared_policy()
    if changed:
        policy.model.get_input_embeddings().weight.data *= 1.3
    experts = [new_policy() for _ in recipe.search.roll_out.experts]
    for expert in experts:
        expert.model.get_input_embeddings().weight.data *= 0.7
    return make_subject(algorithm, recipe, policy, spelling(), Draws(3, 8), count, experts)


@cache
def pairs(count: int = 3) -> tuple[Pair, ...]:
    """Targets like what the model says, with a mistake in it, so that costs differ."""
    policy = shared_policy()
    found = []
    for number, source in enumerate(random_sentences(policy, count, seed=1, shortest=4), 1):
        target = [token for token in finish(policy, source, [], len(source) + 3) if token != policy.eos] or [
            5
        ]
        target[number % len(target)] = 7
        found.append(
            Pair(f"test, sentence {number}", spell(source), (spell([*target, 8]), spell(target[::-1])))
        )
    return tuple(found)


def tiny_explanation(*subjects: Subject, count: int = 3) -> Explanation:
    facts = describe(recipe_of("lols"), subjects[-1].name, is_stand_in=False)
    return explain(subjects, facts, pairs(), count)


def two_runs() -> Explanation:
    return tiny_explanation(tiny_subject("lols"), tiny_subject("aggrevated", changed=True))


def with_texts(explanation: Explanation, text: str, languages: tuple[str, str] | None = None) -> Explanation:
    """The same with a text wherever a corpus, a model or a file name has a say."""

    def rolled(out: RollOut) -> RollOut:
        return replace(out, text=text, changes=changes("one two", text))

    sentences = []
    for sentence in explanation.sentences:
        views = []
        for view in sentence.views:
            states = [
                replace(
                    state,
                    candidates=tuple(
                        replace(
                            candidate,
                            token=replace(candidate.token, text=text, ends=False),
                            by_model=rolled(candidate.by_model),
                            by_reference=rolled(candidate.by_reference),
                        )
                        for candidate in state.candidates
                    ),
                )
                for state in view.states
            ]
            tokens = tuple(replace(token, text=text, ends=False) for token in view.tokens)
            views.append(
                replace(view, translation=rolled(view.translation), tokens=tokens, states=tuple(states))
            )
        sentences.append(Explained(Pair(text, text, (text, text), languages), tuple(views)))
    search = replace(explanation.search, run=text, cost=text, note=text)
    return Explanation(tuple(text for _ in explanation.runs), search, tuple(sentences))
