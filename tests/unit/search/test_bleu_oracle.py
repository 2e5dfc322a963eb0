"""The oracle under BLEU against all completions, written out and scored."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from l2s_nmt.search.context import LengthLimit, see
from l2s_nmt.search.costs.bleu import SentenceBleu, Smoothing, bleu_cost
from l2s_nmt.search.costs.cost import OnTokens
from l2s_nmt.search.decisions.states import StateChoice
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference import bleu as module
from l2s_nmt.search.reference.bleu import BleuCompletions, BleuOracle
from l2s_nmt.search.reference.bleu_bound import bleu, bleu_bound
from l2s_nmt.search.reference.bleu_search import Found, Target, search
from l2s_nmt.search.reference.suffix import Suffix
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.roll_out.reference_costs import ReferenceActions
from l2s_nmt.search.sampling import Decoding
from l2s_nmt.search.search import Search
from tests.tiny import random_batch, shared_policy
from tests.unit.search.test_copy import (
    ABSENT,
    EOS,
    LETTERS,
    Corpus,
    References,
    Rows,
    check_completions,
    check_costs,
    check_invariance,
    context_of,
    corpora,
    padded,
)

SMOOTHINGS: tuple[Smoothing, ...] = get_args(Smoothing)
ENOUGH = 100_000
A, B, C = LETTERS
X = ABSENT[0]

smoothings = pytest.mark.parametrize("smoothing", SMOOTHINGS)


def sentences(longest: int, shortest: int = 0) -> st.SearchStrategy[list[int]]:
    return st.lists(st.sampled_from((*LETTERS, X)), min_size=shortest, max_size=longest)


def completed(oracle: BleuOracle, prefixes: Rows, references: Rows) -> BleuCompletions:
    """Completions of prefixes of one sentence."""
    tokens, lengths = padded(prefixes)
    return oracle.complete(context_of([references]), tokens, lengths, torch.zeros_like(lengths))


def suffix_losses(smoothing: Smoothing, prefixes: Rows, references: Rows) -> Tensor:
    tokens, lengths = padded(prefixes)
    reference = Suffix(OnTokens(SentenceBleu(smoothing)))
    return reference.complete(context_of([references]), tokens, lengths, torch.zeros_like(lengths)).losses


def words(longest: int) -> Rows:
    """All sentences of three words of the references and one that they lack."""
    return [list(row) for n in range(longest + 1) for row in product((*LETTERS, X), repeat=n)]


def optimum(smoothing: Smoothing, references: Rows) -> Tensor:
    """The smallest loss of any completion of each prefix of at most two words, by at most five more."""
    prefixes, endings = words(2), words(5)
    every = padded([prefix + ending for prefix in prefixes for ending in endings])
    batch = context_of([references]).batch
    losses = OnTokens(SentenceBleu(smoothing))(*every, torch.zeros_like(every[1]), batch)
    return losses.view(len(prefixes), -1).amin(1)


CASES: References = [[[A]], [[A, B, C]], [[A, B, A]], [[A, A, B, B]], [[A, B, C, A], [C, B]], [[], [B]]]


@smoothings
@pytest.mark.parametrize("references", CASES, ids=str)
def test_it_is_the_optimum_over_all_completions(smoothing: Smoothing, references: Rows) -> None:
    found = completed(BleuOracle(smoothing, ENOUGH), words(2), references)
    assert found.proven.all()
    assert torch.equal(found.bounds, found.losses)
    expected = optimum(smoothing, references)
    torch.testing.assert_close(found.losses, expected, atol=2e-6, rtol=0)


@smoothings
@given(
    st.lists(st.lists(st.sampled_from(LETTERS), max_size=7), min_size=1, max_size=2),
    st.lists(sentences(6), min_size=1, max_size=3),
    st.integers(0, 4),
)
@settings(max_examples=20, deadline=None)
def test_a_small_budget_leaves_bounds_on_both_sides(
    smoothing: Smoothing, references: Rows, prefixes: Rows, budget: int
) -> None:
    best = completed(BleuOracle(smoothing, ENOUGH), prefixes, references)
    found = completed(BleuOracle(smoothing, budget), prefixes, references)
    more = completed(BleuOracle(smoothing, budget + 3), prefixes, references)
    assert best.proven.all()
    assert (found.bounds <= best.losses + 2e-6).all()
    assert (best.losses <= found.losses + 2e-6).all()
    assert (more.losses <= found.losses + 2e-6).all()
    assert (found.bounds <= more.bounds + 2e-6).all()
    assert (found.losses[found.proven] <= best.losses[found.proven] + 2e-6).all()
    assert (found.losses <= suffix_losses(smoothing, prefixes, references) + 2e-6).all()


@smoothings
@given(st.lists(st.sampled_from(LETTERS), max_size=8), sentences(7), sentences(7))
@settings(max_examples=80, deadline=None)
def test_no_continuation_is_better_than_the_bound(
    smoothing: Smoothing, target: list[int], prefix: list[int], continuation: list[int]
) -> None:
    numbered = Target(target)
    state = numbered.state(prefix)
    bound = bleu_bound(smoothing, state.matches, state.words, len(target), numbered.openings(state))
    after = numbered.state(prefix + continuation)
    assert bleu(smoothing, after.matches, after.words, len(target)) <= bound + 1e-12


@smoothings
@given(st.lists(st.sampled_from(LETTERS), max_size=8), sentences(9))
@settings(max_examples=60, deadline=None)
def test_the_state_of_a_sentence_says_its_bleu(
    smoothing: Smoothing, target: list[int], sentence: list[int]
) -> None:
    state = Target(target).state(sentence)
    batch = context_of([[target]]).batch
    loss = OnTokens(SentenceBleu(smoothing))(*padded([sentence]), torch.tensor([0]), batch)
    assert bleu(smoothing, state.matches, state.words, len(target)) == pytest.approx(
        1 - loss.item(), abs=2e-6
    )


@smoothings
def test_bleu_of_all_statistics_is_that_of_the_cost(smoothing: Smoothing) -> None:
    rows = [
        (length, target, matches)
        for length, target in product(range(7), range(7))
        for matches in product(*[range(max(1, min(length, target) - n + 1)) for n in range(4)])
    ]
    matches = torch.tensor([row[2] for row in rows]).t()
    lengths, targets = torch.tensor([row[0] for row in rows]), torch.tensor([row[1] for row in rows])
    expected = 1 - bleu_cost(matches, lengths, targets, smoothing=smoothing)
    ours = torch.tensor([bleu(smoothing, match, length, target) for length, target, match in rows])
    torch.testing.assert_close(ours, expected, atol=2e-6, rtol=0)


def test_it_finds_what_no_suffix_says() -> None:
    # All suffixes say words again; here one word is said again, for the n-gram that leads to it.
    reference = [2, 3, 4, 5, 6, 7, 8, 9]
    found = completed(BleuOracle("add_k", ENOUGH), [[5, 6, 7, 8, 9]], [reference])
    assert found.losses.item() < suffix_losses("add_k", [[5, 6, 7, 8, 9]], [reference]).item() - 0.05
    assert found.tokens.tolist() == [[5, 6, 7, 8, 9, 2, 3, 4, 5, EOS]]
    assert found.lengths.tolist() == [10]
    rest = search("add_k", [Target(reference)], [5, 6, 7, 8, 9], 0.0, ENOUGH)
    assert rest.words == (2, 3, 4, 5)


@pytest.mark.parametrize("budget", range(4))
def test_no_more_is_expanded_than_the_budget_says(budget: int) -> None:
    found = search("add_k", [Target([2, 3, 4, 5, 6, 7, 8, 9])], [5, 6, 7, 8, 9], 0.0, budget)
    assert not found.proven
    # Each word needs a step, and the first improves on what is known.
    assert len(found.words or ()) <= budget
    assert (found.words is not None) == (budget > 0)


def test_the_best_suffix_stays_where_nothing_is_better() -> None:
    found = completed(BleuOracle("exp", 0), [[], [A], [A, B, EOS]], [[A, B, C]])
    assert [row[:n] for row, n in zip(found.tokens.tolist(), found.lengths.tolist(), strict=True)] == [
        [A, B, C, EOS],
        [A, B, C, EOS],
        [A, B, EOS],
    ]
    assert found.losses[:2].tolist() == [0, 0]
    assert found.losses[2] > 0
    assert found.proven.all()


def test_the_gap_and_the_share_proven() -> None:
    prefixes, reference = [[5, 6, 7, 8, 9], [2, 3]], [2, 3, 4, 5, 6, 7, 8, 9]
    found = completed(BleuOracle("add_k", 0), prefixes, [reference])
    assert found.proven.tolist() == [False, True]
    assert found.share_proven == 0.5
    gaps = found.losses - found.bounds
    assert found.mean_gap == pytest.approx(gaps[0].item() / 2)
    assert gaps[0] > 0.01
    best = completed(BleuOracle("add_k", ENOUGH), prefixes, [reference])
    assert (best.share_proven, best.mean_gap) == (1, 0)


def test_prefixes_that_differ_in_words_no_reference_has_are_searched_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def count(*arguments: object) -> Found:
        asked.append(arguments[2])
        return Found(None, 0.5, False)

    monkeypatch.setattr(module, "search", count)
    completed(BleuOracle("exp", 5), [[A, 90], [A, 91], [A, C], [A, B], [A, B]], [[A, B], [C]])
    assert asked == [(A, -1), (A, C), (A, B)]


@pytest.mark.parametrize("smoothing", ["exp", "add_k"])
@given(corpora())
@settings(max_examples=15, deadline=None)
def test_losses_are_the_cost_of_the_completions(smoothing: Smoothing, corpus: Corpus) -> None:
    whole = check_completions(BleuOracle(smoothing, 3), OnTokens(SentenceBleu(smoothing)), corpus)
    assert isinstance(whole, BleuCompletions)


@pytest.mark.parametrize("smoothing", ["exp", "add_k"])
@pytest.mark.parametrize("budget", [1, ENOUGH])
@given(corpora())
@settings(max_examples=5, deadline=None)
def test_costs_are_the_losses_after_each_token(smoothing: Smoothing, budget: int, corpus: Corpus) -> None:
    check_costs(BleuOracle(smoothing, budget), corpus)


@given(corpora(references=2))
@settings(max_examples=4, deadline=None)
def test_costs_depend_on_the_sentence_alone(corpus: Corpus) -> None:
    check_invariance(BleuOracle("add_k", 4), corpus)


def test_no_states_give_no_costs() -> None:
    context, none = context_of([[[2]], [[3]]]), torch.zeros(0, dtype=torch.long)
    tokens = torch.zeros(2, 5, dtype=torch.long)
    decisions, costs = BleuOracle("exp", 5).costs(context, tokens, none, none)
    assert len(decisions) == 0
    assert costs.costs.shape == (0, 2)
    whole = BleuOracle("exp", 5).complete(context, tokens[:0], none, none)
    assert (len(whole.losses), whole.mean_gap, whole.share_proven) == (0, 0, 1)


def test_the_search_reports_the_gap() -> None:
    policy, batch = shared_policy(), random_batch(shared_policy(), 6, seed=3)
    states = StateChoice("all", 1)
    for budget, proven in ((0, False), (ENOUGH, True)):
        oracle = BleuOracle("add_k", budget)
        cost = OnTokens(SentenceBleu("add_k"))
        limit = LengthLimit(0.5, 3)
        search = Search(RollIn("learned", Decoding()), ReferenceActions(states, oracle), cost, limit)
        experience = search(policy, batch, Draws(1, 0))
        notes = experience.notes
        assert notes["oracle_asked"] == len(experience.decisions)
        assert (notes["oracle_proven"] == notes["oracle_asked"]) == proven
        assert (notes["oracle_gap"] == 0) == proven
        decisions = experience.decisions
        prefixes = experience.trajectories.tokens[decisions.sentence]
        seen = see(policy, batch, Draws(1, 0), limit)
        whole = oracle.complete(seen, prefixes, decisions.position, decisions.sentence)
        assert notes["oracle_gap"] == pytest.approx(float((whole.losses - whole.bounds).sum()))
