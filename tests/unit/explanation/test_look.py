"""What an explanation says against decoding every sentence by hand, word by word, without a cache."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from l2s_nmt.explanation.look import GREEDY, OTHER_TOKENS, look, with_own
from l2s_nmt.explanation.subject import Subject
from l2s_nmt.explanation.types import Candidate, Pair, State, View
from l2s_nmt.search.algorithms import ALGORITHMS
from l2s_nmt.search.context import Context
from l2s_nmt.search.types import Decisions
from tests.explaining import Spelling, pairs, spell, tiny_explanation, tiny_subject
from tests.tiny import finish, next_scores, shared_policy


@pytest.fixture(params=range(3))
def pair(request: pytest.FixtureRequest) -> Pair:
    number: int = request.param
    return pairs()[number]


@cache
def subject(algorithm: str = "lols") -> Subject:
    return tiny_subject(algorithm)


@cache
def view(pair: Pair, algorithm: str = "lols") -> View:
    return look(subject(algorithm), pair, 3)


def ids(text: str) -> list[int]:
    return [int(word[1:]) for word in text.split()]


def limit(pair: Pair) -> int:
    return len(pair.source.split()) + 1 + 3


def source(pair: Pair) -> list[int]:
    return [*ids(pair.source), shared_policy().eos]


def prefix(found: View, place: int) -> list[int]:
    return [token.id for token in found.tokens[:place]]


def every_candidate(found: View) -> list[tuple[int, State, Candidate]]:
    return [(place, state, c) for place, state in enumerate(found.states) for c in state.candidates]


def cost_of(pair: Pair, text: str, of: Subject) -> float:
    """Of a text alone, against all references of its pair."""
    context = of.read(pair)
    tokens = torch.tensor([[*ids(text), 0]])
    return float(of.cost(tokens, torch.tensor([tokens.shape[1] - 1]), torch.tensor([0]), context.batch))


def test_the_roll_in_is_greedy(pair: Pair) -> None:
    written = finish(shared_policy(), source(pair), [], limit(pair))
    assert [token.id for token in view(pair).tokens] == written
    assert view(pair).translation.text == spell(written)
    assert view(pair).translation.finished == (shared_policy().eos in written)
    assert view(pair).translation.cost == pytest.approx(cost_of(pair, spell(written), subject()))


def test_the_model_finishes_every_candidate(pair: Pair) -> None:
    found = view(pair)
    for place, _, candidate in every_candidate(found):
        begun = [*prefix(found, place), candidate.token.id]
        written = finish(shared_policy(), source(pair), begun, limit(pair))
        assert candidate.by_model.text == spell(written)
        assert candidate.by_model.finished == (shared_policy().eos in written)
        assert candidate.by_model.cost == pytest.approx(cost_of(pair, spell(written), subject()), abs=1e-6)
    assert len({candidate.by_model.text for _, _, candidate in every_candidate(found)}) > 3


def test_the_reference_finishes_with_the_best_suffix(pair: Pair) -> None:
    found, eos = view(pair), shared_policy().eos
    for place, _, candidate in every_candidate(found):
        begun = [*prefix(found, place), candidate.token.id]
        suffixes = [ids(text)[start:] for text in pair.references for start in range(len(ids(text)) + 1)]
        whole = [begun] if eos in begun else [[*begun, *suffix] for suffix in suffixes]
        least = min(cost_of(pair, spell(tokens), subject()) for tokens in whole)
        assert candidate.by_reference.cost == pytest.approx(least, abs=1e-6)
        assert cost_of(pair, candidate.by_reference.text, subject()) == pytest.approx(least, abs=1e-6)


def test_the_own_token_leads_to_the_roll_in(pair: Pair) -> None:
    for token, state in zip(view(pair).tokens, view(pair).states, strict=True):
        own = [candidate for candidate in state.candidates if candidate.is_own]
        assert len(own) == 1
        assert own[0] is state.own
        assert own[0].token == token
        assert own[0].by_model.text == view(pair).translation.text
        assert own[0].by_model.cost == view(pair).translation.cost
        assert {change.kind for change in own[0].by_model.changes} <= {"same"}


def test_probabilities_are_those_of_the_next_token(pair: Pair) -> None:
    found = view(pair)
    for place, state in enumerate(found.states):
        expected = next_scores(shared_policy(), source(pair), prefix(found, place)).softmax(-1)
        listed = [candidate.probability for candidate in state.candidates]
        for candidate in state.candidates:
            assert candidate.probability == pytest.approx(float(expected[candidate.token.id]), rel=1e-4)
        assert listed == sorted(listed, reverse=True)
        assert state.rest_probability == pytest.approx(1 - sum(listed), abs=1e-6)
        most = expected.topk(3).indices.tolist()
        assert set(most) | {shared_policy().eos} <= {candidate.token.id for candidate in state.candidates}
        assert sum(candidate.is_reference for candidate in state.candidates) == 1


def test_regret_is_what_the_own_token_costs_more(pair: Pair) -> None:
    for state in view(pair).states:
        for regret, name in (
            (state.regret_by_model, "by_model"),
            (state.regret_by_reference, "by_reference"),
        ):
            costs = [getattr(candidate, name).cost for candidate in state.candidates]
            assert regret == pytest.approx(getattr(state.own, name).cost - min(costs))
        assert state.cheapest.by_model.cost == min(c.by_model.cost for c in state.candidates)
    assert any(state.regret_by_model > 0 for state in view(pair).states)


def raw_scores(pair: Pair, found: View) -> Tensor:
    """(T, V) as training sees them, the padding not masked."""
    policy = shared_policy()
    with torch.no_grad():
        output = policy.model(
            input_ids=torch.tensor([source(pair)]),
            decoder_input_ids=torch.tensor([[policy.start, *prefix(found, len(found.tokens) - 1)]]),
            use_cache=False,
        )
    scores: Tensor = output.logits[0].clone()
    return scores


@pytest.mark.parametrize("algorithm", ["lols", "aggrevated", "ocd", "searnn", "coaching", "aggrevate"])
def test_pushes_are_the_slope_of_the_loss(pair: Pair, algorithm: str) -> None:
    """By finite differences, one score at a time."""
    of, found = subject(algorithm), view(pair, algorithm)
    context: Context = of.read(pair)
    with torch.no_grad():
        outcome = of.roll_out(context, GREEDY(context))
    scores, step = raw_scores(pair, found), 1e-5

    def loss(moved: Tensor) -> Tensor:
        return of.loss.function(
            moved, outcome.decisions, outcome.costs, alpha=of.loss.alpha, support=of.loss.support
        )

    seen = 0.0
    for place, state, candidate in every_candidate(found):
        change = torch.zeros_like(scores)
        change[place, candidate.token.id] = step
        slope = float((loss(scores + change) - loss(scores - change))[place] / (2 * step))
        assert candidate.push == pytest.approx(-slope, abs=1e-6)
        seen = max(seen, abs(slope))
        if of.loss.support == "vocabulary":  # softmax: what is pushed up is taken from the others
            total = sum(c.push for c in state.candidates) + state.rest_push
            assert total == pytest.approx(0, abs=1e-6)
    assert seen > 1e-3


def test_the_expected_cost_pushes_down_what_is_dearer_than_expected(pair: Pair) -> None:
    """A run that searches for nothing is looked at with learned roll-outs and the expected cost."""
    found = view(pair, "teacher_forcing")
    scores = raw_scores(pair, found)
    for place, state in enumerate(found.states):
        listed = [candidate.token.id for candidate in state.candidates]
        chances = scores[place, listed].softmax(-1).tolist()  # nothing is known of the others
        cheapest = min(candidate.by_model.cost for candidate in state.candidates)
        charged = [candidate.by_model.cost - cheapest for candidate in state.candidates]
        mean = sum(chance * cost for chance, cost in zip(chances, charged, strict=True))
        for candidate, chance, cost in zip(state.candidates, chances, charged, strict=True):
            assert candidate.charged == pytest.approx(cost, abs=1e-6)
            assert candidate.push == pytest.approx(chance * (mean - cost), abs=1e-6)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_can_be_looked_at(algorithm: str) -> None:
    for pair in pairs():
        found = view(pair, algorithm)
        assert len(found.states) == len(found.tokens)
        assert any(abs(candidate.push) > 1e-6 for _, _, candidate in every_candidate(found))
        assert any(candidate.charged is not None for _, _, candidate in every_candidate(found))
        assert all(state.regret_by_model >= 0 and state.regret_by_reference >= 0 for state in found.states)


def test_a_second_run_is_seen_on_the_prefixes_of_the_first() -> None:
    first, second = tiny_subject("lols"), tiny_subject("lols", changed=True)
    explanation = tiny_explanation(first, second)
    for sentence in explanation.sentences:
        before, after = sentence.views
        assert {change.kind for change in before.translation.changes} == {"same"}
        for found, other in ((before, second), (after, first)):
            for place, _, candidate in every_candidate(found):
                scores = next_scores(other.policy, source(sentence.pair), prefix(found, place))
                expected = float(scores.softmax(-1)[candidate.token.id])
                assert candidate.beside == pytest.approx(expected, rel=1e-4)
    alone = tiny_explanation(first)
    assert all(c.beside is None for s in alone.sentences for _, _, c in every_candidate(s.views[0]))


def test_the_own_token_is_there_even_if_it_is_not_the_most_probable() -> None:
    sentence, position = torch.tensor([0, 0]), torch.tensor([0, 1])
    mask = torch.tensor([[True, True], [True, False]])
    tried = with_own(
        Decisions(sentence, position, torch.tensor([[3, 4], [3, 5]]), mask), torch.tensor([[4, 5, 0]])
    )
    assert tried.actions.tolist() == [[3, 4, 4], [3, 5, 5]]
    assert tried.mask.tolist() == [[True, True, False], [True, False, True]]


def test_runs_of_other_tokens_are_explained_without_each_other_s_probabilities() -> None:
    class OtherSpelling(Spelling):
        def save_pretrained(self, folder: str) -> None:
            (Path(folder) / "pieces").write_text("other")

    first, second = tiny_subject("lols"), tiny_subject("lols", changed=True)
    second = replace(second, tokenizer=cast(PreTrainedTokenizerBase, OtherSpelling()))
    explanation = tiny_explanation(first, second)
    views = [view for sentence in explanation.sentences for view in sentence.views]
    assert all(candidate.beside is None for found in views for _, _, candidate in every_candidate(found))
    assert OTHER_TOKENS in explanation.search.note
    assert OTHER_TOKENS not in tiny_explanation(first).search.note


def test_what_the_recipe_does_not_try_is_charged_nothing() -> None:
    """Candidates beyond those of the recipe are shown, but the loss is not told of them."""
    few = tiny_subject("lols", decisions={"k": 1})
    found = look(few, pairs()[0], 5)
    charged = [[c.charged for c in state.candidates] for state in found.states]
    assert any(None in row for row in charged)
    assert all(any(cost is not None for cost in row) for row in charged)
