"""The best-suffix reference against completions built and scored one by one."""

from __future__ import annotations

from itertools import product

import pytest
import sacrebleu
import torch
from hypothesis import given, settings
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.search.costs.bleu import SentenceBleu, Smoothing
from l2s_nmt.search.costs.cost import Cost, OnTokens
from l2s_nmt.search.costs.ngrams import MAX_ELEMENTS
from l2s_nmt.search.reference.edit_distance import EditDistance
from l2s_nmt.search.reference.suffix import Suffix, best_suffixes
from tests.unit.search.test_copy import (
    COSTS,
    EOS,
    Corpus,
    References,
    Rows,
    check_completions,
    check_costs,
    check_invariance,
    context_of,
    corpora,
    every_cost,
    finished,
    opaque,
    padded,
    satisfies,
    states,
)

FIRST = 2

satisfies(Suffix)


def random_rows(
    count: int, shortest: int, longest: int, vocabulary: int, seed: int, p_end: float = 0.0
) -> Rows:
    """Rows of random words; a share of them end with EOS."""
    draw = torch.Generator().manual_seed(seed)
    rows: Rows = []
    for _ in range(count):
        length = int(torch.randint(shortest, longest + 1, (), generator=draw))
        row = torch.randint(FIRST, FIRST + vocabulary, (length,), generator=draw).tolist()
        rows.append([*row, EOS] if float(torch.rand((), generator=draw)) < p_end else row)
    return rows


def random_references(count: int, longest: int, vocabulary: int, seed: int, most: int = 1) -> References:
    """One to some references for each sentence; the first sentence has them all."""
    rows = iter(random_rows(count * most, 0, longest, vocabulary, seed))
    return [[next(rows) for _ in range(most)][: most if n == 0 else 1 + n % most] for n in range(count)]


def found(
    prefixes: Rows, references: References, cost: Cost, max_elements: int = MAX_ELEMENTS
) -> tuple[Tensor, Tensor, Tensor]:
    """The best suffixes, of one prefix for each sentence."""
    context = context_of(references)
    sentence = torch.arange(len(prefixes))
    return best_suffixes(context, *padded(prefixes), sentence, cost, max_elements=max_elements)


def built(cost: Cost, prefixes: Rows, references: References) -> tuple[Tensor, Tensor, Tensor]:
    """Every completion of each prefix, scored; the cheapest, and the first reference and start that reach it."""
    completions, owners = [], []
    for owner, (prefix, each) in enumerate(zip(prefixes, references, strict=True)):
        words = [token for token in prefix if token != EOS]
        for m, target in enumerate(each):
            for j in range(len(target) if prefix[-1:] == [EOS] else 0, len(target) + 1):
                completions.append(words + target[j:])
                owners.append((owner, m, j))
    sentence = torch.tensor([owner for owner, _, _ in owners])
    losses = cost(*padded(completions), sentence, context_of(references).batch)
    best: dict[int, tuple[Tensor, int, int]] = {}
    for (owner, m, j), value in zip(owners, losses, strict=True):
        if owner not in best or value < best[owner][0]:
            best[owner] = value, m, j
    losses = torch.stack([best[owner][0] for owner in range(len(prefixes))])
    places = torch.tensor([best[owner][1:] for owner in range(len(prefixes))])
    return losses, places[:, 0], places[:, 1]


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("vocabulary", [2, 5, 30])
@pytest.mark.parametrize(("longest", "width", "most"), [(1, 3, 1), (7, 6, 1), (4, 11, 1), (5, 6, 3)])
def test_costs_and_starts_equal_built_completions(
    name: str, vocabulary: int, longest: int, width: int, most: int
) -> None:
    prefixes = random_rows(120, 1, longest, vocabulary, 1, p_end=0.2)
    references = random_references(120, width, vocabulary, 2, most)
    losses, which, starts = found(prefixes, references, COSTS[name])
    expected, expected_which, expected_starts = built(COSTS[name], prefixes, references)
    assert torch.equal(losses, expected)
    # In closed form each suffix is held against the reference that it is from: ties are others, if of equal cost.
    if most == 1 or name != "edit_distance":
        assert torch.equal(which, expected_which)
        assert torch.equal(starts, expected_starts)


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize(("longest", "vocabulary", "most"), [(8, 3, 1), (70, 4, 1), (40, 3, 2)])
def test_shortcuts_equal_the_way_that_works_for_any_cost(
    name: str, longest: int, vocabulary: int, most: int
) -> None:
    # References that repeat themselves and are longer than 127 words together with the prefix, too.
    prefixes = random_rows(16, 1, longest, vocabulary, 3, p_end=0.2)
    references = random_references(16, longest, vocabulary, 4, most)
    direct = found(prefixes, references, COSTS[name])
    general = found(prefixes, references, opaque(COSTS[name]))
    for ours, theirs in zip(direct, general, strict=True):
        if ours.is_floating_point() or most == 1 or name != "edit_distance":
            assert torch.equal(ours, theirs)


def test_a_cost_that_may_be_dear_is_asked_of_each_completion_once() -> None:
    context = context_of([[[2, 3, 4], [5, 6]], [[7]]], wider=3)
    asked: list[int] = []

    def dear(tokens: Tensor, lengths: Tensor, sentence: Tensor, batch: Batch) -> Tensor:
        asked.append(len(tokens))
        return COSTS["edits"](tokens, lengths, sentence, batch)

    prefixes = torch.tensor([[2, 9, 9], [5, EOS, 9], [8, 8, 8]])
    lengths, sentence = torch.tensor([1, 2, 3]), torch.tensor([0, 0, 1])
    found = best_suffixes(context, prefixes, lengths, sentence, dear)
    assert asked == [
        (4 + 3) + 2 + 2
    ]  # where each reference may be taken up, its end included; one where it has ended
    for ours, theirs in zip(
        found, best_suffixes(context, prefixes, lengths, sentence, COSTS["edits"]), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_a_word_said_more_often_than_a_byte_can_count() -> None:
    prefixes, references = [[FIRST] * 70], [[[FIRST] * 70]]
    direct, expected = found(prefixes, references, COSTS["bleu"]), built(COSTS["bleu"], prefixes, references)
    for ours, theirs in zip(direct, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("smoothing", ["exp", "add_k"])
def test_best_suffix_under_sacrebleu(smoothing: Smoothing) -> None:
    metric = sacrebleu.BLEU(
        tokenize="none", effective_order=True, smooth_method="exp" if smoothing == "exp" else "add-k"
    )
    prefixes, references = random_rows(60, 1, 6, 4, 5), random_references(60, 8, 4, 6)
    losses, _, _ = found(prefixes, references, OnTokens(SentenceBleu(smoothing)))
    for value, prefix, (target,) in zip(losses.tolist(), prefixes, references, strict=True):
        texts = [" ".join(map(str, prefix + target[j:])) for j in range(len(target) + 1)]
        best = max(metric.sentence_score(text, [" ".join(map(str, target))]).score for text in texts)
        assert value == pytest.approx(1 - best / 100, abs=1e-5)


@pytest.mark.parametrize("name", COSTS)
def test_no_suffix_beats_the_optimum(name: str) -> None:
    words = [list(row) for n in range(3) for row in product(range(FIRST, FIRST + 3), repeat=n)]
    endings = [list(row) for n in range(5) for row in product(range(FIRST, FIRST + 3), repeat=n)]
    for references in ([[2, 3, 4]], [[3, 3, 2]], [[4]], [[2, 3, 4], [4, 4]]):
        context = context_of([references])
        every = padded([prefix + ending for prefix in words for ending in endings])
        losses = COSTS[name](*every, torch.zeros_like(every[1]), context.batch)
        optimum = losses.view(len(words), -1).amin(1)
        whole = finished(Suffix(COSTS[name]), context, words, [0] * len(words))
        assert (whole.losses >= optimum).all()
        # After nothing the reference says a whole target; under edit distance it is always optimal.
        assert whole.losses[0] == 0
        if name in ("edits", "edit_distance"):
            assert torch.equal(whole.losses, optimum)


def test_a_finished_prefix_is_not_continued() -> None:
    losses, which, starts = found([[2, 3, EOS], [2, 3]], [[[2, 3, 4]]] * 2, COSTS["edit_distance"])
    assert which.tolist() == [0, 0]
    assert starts.tolist() == [3, 2]
    torch.testing.assert_close(losses, torch.tensor([1 / 3, 0]))


def test_the_suffix_of_any_reference_is_taken() -> None:
    references = [[[2, 3, 4], [5, 6, 7, 8]]]
    for cost in COSTS.values():
        losses, which, starts = found([[5, 6]], references, cost)
        assert (losses.item(), which.item(), starts.item()) == (0, 1, 2)


@pytest.mark.parametrize("name", COSTS)
def test_blocks_change_nothing(name: str) -> None:
    prefixes, references = random_rows(50, 1, 7, 3, 9, p_end=0.3), random_references(50, 8, 3, 10, 2)
    whole = found(prefixes, references, COSTS[name])
    for part, other in zip(found(prefixes, references, COSTS[name], max_elements=1000), whole, strict=True):
        assert torch.equal(part, other)


@pytest.mark.parametrize("name", COSTS)
@given(corpora())
@settings(max_examples=15, deadline=None)
def test_losses_are_the_cost_of_the_completions(name: str, corpus: Corpus) -> None:
    check_completions(Suffix(COSTS[name]), COSTS[name], corpus)


@pytest.mark.parametrize("name", COSTS)
@given(corpora())
@settings(max_examples=15, deadline=None)
def test_costs_are_those_of_trying_every_token(name: str, corpus: Corpus) -> None:
    check_costs(Suffix(COSTS[name]), corpus)


@pytest.mark.parametrize("name", ["edits", "edit_distance", "bleu"])
@given(corpora())
@settings(max_examples=10, deadline=None)
def test_costs_depend_on_the_sentence_alone(name: str, corpus: Corpus) -> None:
    check_invariance(Suffix(COSTS[name]), corpus)


@pytest.mark.parametrize("most", [1, 3])
def test_under_edit_distance_it_is_the_dynamic_oracle(most: int) -> None:
    rows = [[*row, EOS] for row in random_rows(30, 0, 8, 4, 13)]
    context = context_of(random_references(30, 7, 4, 14, most))
    oracle = every_cost(EditDistance(COSTS["edits"]), context, rows)
    assert torch.equal(every_cost(Suffix(COSTS["edits"]), context, rows), oracle)
    if most == 1:
        words = (context.batch.target_lengths - 1).clamp(min=1)[states(rows)[0], None]
        normalised = every_cost(Suffix(COSTS["edit_distance"]), context, rows)
        torch.testing.assert_close(normalised * words, oracle)


@pytest.mark.parametrize("name", COSTS)
def test_no_states_give_no_costs(name: str) -> None:
    context, none = context_of([[[2]], [[3]]]), torch.zeros(0, dtype=torch.long)
    tokens = torch.zeros(2, 5, dtype=torch.long)
    decisions, costs = Suffix(COSTS[name]).costs(context, tokens, none, none)
    assert len(decisions) == 0
    assert costs.costs.shape == (0, 2)
    assert len(Suffix(COSTS[name]).complete(context, tokens[:0], none, none).losses) == 0
