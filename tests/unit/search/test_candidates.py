"""Candidates: who is listed, once each, and how often what is drawn."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from l2s_nmt.data.batches import Batch, collate
from l2s_nmt.decoder_state import Memory
from l2s_nmt.search.context import Context
from l2s_nmt.search.costs.cost import OnTokens
from l2s_nmt.search.costs.edit_distance import edit_distance_cost
from l2s_nmt.search.costs.overlap import hamming_cost
from l2s_nmt.search.decisions.candidates import CandidateChoice, CandidatesName
from l2s_nmt.search.randomness import PLACES, Draws
from l2s_nmt.search.reference.copy import Copy
from l2s_nmt.search.reference.edit_distance import EditDistance
from l2s_nmt.search.reference.protocol import Reference
from l2s_nmt.search.types import Decisions, Trajectories
from tests.tiny import VOCABULARY, shared_policy

Name = Literal["top_k", "sampled", "biased", "uniform", "neighbours", "taken"]
NAMES: tuple[Name, ...] = ("top_k", "sampled", "biased", "uniform", "neighbours", "taken")
EOS, PAD = shared_policy().eos, shared_policy().pad
COPY, EDIT_DISTANCE = Copy(OnTokens(hamming_cost)), EditDistance(OnTokens(edit_distance_cost))
DRAWS = Draws(1, 2)
TARGETS = [[4, 5, 6, 4, EOS], [7, EOS], [*range(1, 13), 3, 4, EOS]]


def context_of(targets: list[list[int]], rows: list[int], draws: Draws = DRAWS) -> Context:
    """Sentences with these targets; their sources play no part."""
    batch = collate([[5, EOS]] * len(targets), targets, np.array(rows), PAD)
    memory = Memory(torch.zeros(len(targets), 2, 16), batch.source_mask)
    return Context(shared_policy(), memory, batch, draws, torch.full((len(targets),), 20))


def written(context: Context, seed: int = 0, length: int = 18) -> Trajectories:
    """Trajectories of random words."""
    draw = torch.Generator().manual_seed(seed)
    shape = (len(context.batch), length)
    tokens = torch.randint(1, PAD, shape, generator=draw)
    lengths, finished = torch.full(shape[:1], length), torch.zeros(shape[0], dtype=torch.bool)
    return Trajectories(tokens, lengths, finished, torch.zeros(shape, dtype=torch.bool))


def random_scores(count: int, seed: int) -> Tensor:
    scores = 2 * torch.randn(count, VOCABULARY, generator=torch.Generator().manual_seed(seed))
    scores[:, PAD] = -torch.inf
    return scores


def listed(decisions: Decisions, row: int) -> list[int]:
    tokens: list[int] = decisions.actions[row, decisions.mask[row]].tolist()
    assert len(tokens) == len(set(tokens))
    assert PAD not in tokens
    return tokens


def test_every_way_to_choose_is_tested_here() -> None:
    # The full vocabulary is the references' own affair.
    assert {*NAMES, "full"} == set(get_args(CandidatesName))


def teachers_token(
    reference: Reference | None, context: Context, prefix: list[int], sentence: int
) -> set[int]:
    target = TARGETS[sentence]
    if reference is None:
        return set()
    if reference is COPY:
        return {target[len(prefix)] if len(prefix) < len(target) else EOS}
    whole = reference.complete(
        context,
        torch.tensor([prefix], dtype=torch.long),
        torch.tensor([len(prefix)]),
        torch.tensor([sentence]),
    )
    return {int(whole.tokens[0, len(prefix)])}


def drawn_by_hand(
    name: Name, k: int, batch: Batch, sentence: int, position: int, scores: Tensor
) -> tuple[set[int], int, int]:
    """What the first candidates are among, and how few and how many they are, EOS and reference aside."""
    vocabulary = set(range(VOCABULARY)) - {PAD}
    if name == "top_k":
        best = set(scores[: VOCABULARY - 1].argsort(descending=True)[:k].tolist())
        return best, len(best), len(best)
    if name == "neighbours":
        # Those before the sentence are its first word, those behind it its EOS.
        target, places = TARGETS[sentence], range(position - 5, position + 6)
        around = {target[min(max(place, 0), len(target) - 1)] for place in places}
        return around, len(around), len(around)
    count = min(k, VOCABULARY - 1)
    return vocabulary, 0 if name == "uniform" else count, count


states = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 17)), min_size=1, max_size=6)


@pytest.mark.parametrize("name", NAMES[:-1])
@pytest.mark.parametrize("reference", [None, COPY, EDIT_DISTANCE], ids=["none", "copy", "edits"])
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), k=st.integers(1, VOCABULARY + 2), states=states)
def test_candidates_are_those_chosen_the_reference_and_the_end_each_once(
    name: Name, reference: Reference | None, seed: int, k: int, states: list[tuple[int, int]]
) -> None:
    context = context_of(TARGETS, [3, 1, 4], Draws(seed, 0))
    trajectories, scores = written(context, seed), random_scores(len(states), seed)
    sentence, position = torch.tensor(states).unbind(1)
    decisions = CandidateChoice(name, k, reference)(context, trajectories, sentence, position, scores)
    assert torch.equal(decisions.sentence, sentence)
    assert torch.equal(decisions.position, position)
    assert decisions.actions.shape == decisions.mask.shape
    for row, (number, at) in enumerate(states):
        tokens = set(listed(decisions, row))
        prefix = trajectories.tokens[number, :at].tolist()
        always = {EOS} | teachers_token(reference, context, prefix, number)
        among, fewest, most = drawn_by_hand(name, k, context.batch, number, at, scores[row])
        assert always <= tokens <= always | among
        assert fewest <= len(tokens)
        assert len(tokens - always) <= most


def test_top_k_lists_the_best_first() -> None:
    context = context_of(TARGETS, [0, 1, 2])
    scores = random_scores(1, 4)
    nowhere = torch.tensor([0])
    decisions = CandidateChoice("top_k", 3, None)(context, written(context), nowhere, nowhere, scores)
    assert decisions.actions[0, :3].tolist() == scores[0].argsort(descending=True)[:3].tolist()


def test_what_repeats_is_masked_where_it_comes_again() -> None:
    context = context_of(TARGETS, [0, 1, 2])
    scores = torch.full((2, VOCABULARY), -1.0)
    scores[0, [4, EOS]] = torch.tensor([9.0, 1.0])
    scores[1, [EOS, 1]] = torch.tensor([9.0, 5.0])
    sentence, position = torch.tensor([0, 0]), torch.tensor([0, 7])
    decisions = CandidateChoice("top_k", 2, COPY)(context, written(context), sentence, position, scores)
    assert decisions.actions.tolist() == [[4, EOS, 4, EOS], [EOS, 1, EOS, EOS]]
    assert decisions.mask.tolist() == [[True, True, False, False], [True, True, False, False]]


def test_taken_is_the_trajectory_s_own_token_alone() -> None:
    context = context_of(TARGETS, [0, 1, 2])
    trajectories = written(context)
    sentence, position = torch.tensor([0, 2, 2]), torch.tensor([4, 0, 17])
    decisions = CandidateChoice("taken", 5, COPY)(
        context, trajectories, sentence, position, random_scores(3, 0)
    )
    assert decisions.actions.tolist() == [
        [int(trajectories.tokens[s, p])] for s, p in ((0, 4), (2, 0), (2, 17))
    ]
    assert decisions.mask.all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reference", [None, COPY, EDIT_DISTANCE], ids=["none", "copy", "edits"])
def test_no_states(name: Name, reference: Reference | None) -> None:
    context = context_of(TARGETS, [0, 1, 2])
    none = torch.tensor([], dtype=torch.long)
    decisions = CandidateChoice(name, 3, reference)(
        context, written(context), none, none, random_scores(0, 0)
    )
    assert len(decisions) == len(decisions.actions) == len(decisions.mask) == 0


def drawn(name: Name, k: int, scores: Tensor, count: int, target: list[int], position: int = 0) -> Tensor:
    """(count, k) what is drawn for many sentences with the same scores and target."""
    context = context_of([target] * count, list(range(count)))
    every = torch.arange(count)
    choice = CandidateChoice(name, k, None)
    trajectories = written(context, length=position + 1)
    decisions = choice(context, trajectories, every, torch.full((count,), position), scores.expand(count, -1))
    return decisions.actions[:, :-1]


def assert_frequencies(tokens: Tensor, probabilities: Tensor) -> None:
    """Within four standard deviations; what is impossible never comes."""
    found = torch.bincount(tokens.flatten(), minlength=len(probabilities))
    expected = probabilities * tokens.numel()
    assert ((found - expected).abs() <= 4 * (expected * (1 - probabilities)).sqrt() + 1e-9).all()


COUNT = 20_000


def test_the_first_of_the_sampled_is_drawn_from_the_policy() -> None:
    scores = random_scores(1, 8)
    tokens = drawn("sampled", 3, scores, COUNT, [4, EOS])
    assert_frequencies(tokens[:, 0], scores[0].softmax(0))


def test_the_second_of_the_sampled_is_drawn_from_what_the_first_left() -> None:
    scores = torch.full((1, VOCABULARY), -torch.inf)
    scores[0, [0, 3, 4, 9]] = torch.tensor([0.0, 1.0, -1.0, 0.5])
    p = scores[0].softmax(0)
    tokens = drawn("sampled", 2, scores, COUNT, [4, EOS])
    pairs = (p[:, None] * p / (1 - p[:, None])).fill_diagonal_(0)
    assert_frequencies(tokens[:, 0] * VOCABULARY + tokens[:, 1], pairs.flatten())


def test_the_first_of_the_biased_is_of_the_policy_or_a_word_of_the_target_by_even_chances() -> None:
    scores = random_scores(1, 9)
    # Another target, longer than this one, pads it: padding is none of its words.
    target = [4, 5, 4, EOS]
    shares = torch.zeros(VOCABULARY).scatter_add_(0, torch.tensor(target), torch.full((4,), 0.25))
    policy = scores[0].softmax(0)
    tokens = drawn("biased", 1, scores, COUNT, target)
    assert_frequencies(tokens[:, 0], (policy + shares) / 2)
    unbiased = drawn("sampled", 1, scores, COUNT, target)
    for token in (4, 5):
        assert (tokens == token).sum() > 1.5 * (unbiased == token).sum()


def test_each_sentence_is_biased_toward_its_own_target() -> None:
    certain = torch.full((1, VOCABULARY), -torch.inf)
    certain[0, 1] = 0
    targets = [[4, 4, EOS], [6, 6, 6, 6, 6, 6, 6, EOS]]
    context = context_of(targets * 50, list(range(100)))
    every = torch.arange(100)
    decisions = CandidateChoice("biased", 1, None)(
        context, written(context), every, torch.zeros_like(every), certain.expand(100, -1)
    )
    found = [set(decisions.actions[row::2, 0].tolist()) for row in range(2)]
    assert found == [{1, 4, EOS}, {1, 6, EOS}]


def test_uniform_candidates_are_any_tokens() -> None:
    tokens = drawn("uniform", 4, random_scores(1, 0), COUNT, [4, EOS])
    assert_frequencies(tokens, torch.full((VOCABULARY,), 1 / VOCABULARY))


@pytest.mark.parametrize("name", ["sampled", "biased", "uniform"])
def test_draws_belong_to_sentence_and_position(name: Name) -> None:
    target = [4, 5, 6, 4, EOS]
    scores = random_scores(1, 3).expand(4, -1)
    choice = CandidateChoice(name, 6, COPY)
    rows, sentence, position = [30, 7, 12], torch.tensor([0, 0, 1, 2]), torch.tensor([0, 3, 3, 1])

    def chosen(rows: list[int], sentence: Tensor, position: Tensor, draws: Draws = DRAWS) -> list[list[int]]:
        context = context_of([target] * len(rows), rows, draws)
        tokens = torch.full((len(rows), 9), 5)
        nothing = torch.zeros_like(tokens, dtype=torch.bool)
        trajectories = Trajectories(tokens, torch.full((len(rows),), 9), nothing[:, 0], nothing)
        decisions = choice(context, trajectories, sentence, position, scores[: len(sentence)])
        return [listed(decisions, row) for row in range(len(sentence))]

    whole = chosen(rows, sentence, position)
    # Of the same scores each state has its own draws.
    assert len({str(row) for row in whole}) == 4
    moved = chosen([12, 30], torch.tensor([1, 0, 1]), torch.tensor([3, 1, 0]))
    assert moved == [whole[1], whole[3], whole[0]]
    assert chosen(rows, sentence, position, Draws(1, 3)) != whole
    assert chosen(rows, sentence, position, Draws(2, 2)) != whole


def test_sentences_that_are_far_apart_have_draws_of_their_own() -> None:
    """Whatever the position: a state is not known by the sum of the two."""
    target = [4, 5, 6, 4, EOS]
    context = context_of([target] * 2, [0, PLACES])
    choice, scores = CandidateChoice("sampled", 6, None), random_scores(1, 3).expand(2, -1)
    decisions = choice(context, written(context), torch.tensor([0, 1]), torch.tensor([1, 0]), scores)
    assert decisions.actions[0].tolist() != decisions.actions[1].tolist()
