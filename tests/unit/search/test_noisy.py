"""References made worse: what they follow, and that they are judged by the true references."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.search.costs.cost import Cost
from l2s_nmt.search.randomness import SENTENCES, Draws
from l2s_nmt.search.reference.copy import Copy
from l2s_nmt.search.reference.edit_distance import EditDistance
from l2s_nmt.search.reference.noisy import Noise, Noisy, distorted
from l2s_nmt.search.reference.protocol import Reference
from l2s_nmt.search.reference.suffix import Suffix
from tests.unit.search.test_copy import (
    COSTS,
    EOS,
    Corpus,
    References,
    check_completions,
    check_costs,
    check_invariance,
    context_of,
    corpora,
    every_cost,
    finished,
    satisfies,
)

KINDS: list[Noise] = ["suboptimal", "bad"]
MAKERS: list[Callable[[Cost], Reference]] = [Copy, Suffix, EditDistance]

satisfies(lambda cost: Noisy(Copy(cost), cost, "bad"))


def sentences(batch: Batch) -> References:
    """All references of a batch, without EOS."""
    return [
        [row[: n - 1] for row, n in zip(rows.tolist(), lengths.tolist(), strict=True) if n]
        for rows, lengths in zip(batch.references, batch.reference_lengths, strict=True)
    ]


def suboptimal(references: References, probability: float, draws: Draws | None = None) -> References:
    context = context_of(references, draws=draws)
    batch = distorted(context.batch, context.draws.seed, "suboptimal", probability)
    assert torch.equal(batch.reference_lengths, context.batch.reference_lengths)
    ends = batch.reference_lengths[:, :, None].clamp(min=1) - 1
    present = batch.reference_lengths > 0
    assert (batch.references.gather(2, ends)[..., 0][present] == EOS).all()
    assert torch.equal(batch.target, batch.references[:, 0, : batch.target.shape[1]])
    return sentences(batch)


@given(corpora())
@settings(max_examples=50, deadline=None)
def test_every_word_that_can_be_is_replaced_by_another_of_its_sentence(corpus: Corpus) -> None:
    references = [each for each, _ in corpus]
    for true, noisy in zip(references, suboptimal(references, 1.0), strict=True):
        for words, others in zip(true, noisy, strict=True):
            assert len(words) == len(others)
            assert set(others) <= set(words)
            for word, other in zip(words, others, strict=True):
                assert (word != other) == (len(set(words)) > 1)


def test_the_share_of_replaced_words_is_the_probability_and_each_other_word_is_as_likely() -> None:
    references = [[[2, 3, 4, 5]] * 2 for _ in range(2000)]
    whole = torch.tensor(suboptimal(references, 0.3))
    assert (whole != torch.tensor([2, 3, 4, 5])).float().mean() == pytest.approx(0.3, abs=0.01)
    others = whole[:, :, 1][whole[:, :, 1] != 3]
    for word in (2, 4, 5):
        assert (others == word).float().mean() == pytest.approx(1 / 3, abs=0.04)
    # Sentences, references and positions are distorted independently.
    changed = (whole != torch.tensor([2, 3, 4, 5])).flatten(1).float().t()
    assert (torch.corrcoef(changed) - torch.eye(8)).abs().amax() < 0.1


def test_a_word_that_occurs_more_often_is_drawn_more_often() -> None:
    drawn = torch.tensor(suboptimal([[[2, 3, 3, 4]]] * 2000, 1.0))[:, 0, 0]
    assert (drawn == 3).float().mean() == pytest.approx(2 / 3, abs=0.04)


def test_the_teacher_is_the_same_at_every_update_and_another_for_every_seed() -> None:
    references: References = [[[2, 3, 4, 5, 6, 7]], [[3, 4, 5, 2], [5, 6, 7]]]
    first = suboptimal(references, 0.5, Draws(3, 8))
    assert first == suboptimal(references, 0.5, Draws(3, 9))
    assert first != suboptimal(references, 0.5, Draws(4, 8))
    # A sentence is known by its row in the data, not in the batch.
    turned = context_of(references[::-1], rows=[1, 0], wider=4).batch
    assert sentences(distorted(turned, 3, "suboptimal", 0.5)) == first[::-1]
    again = context_of([references[0]] * 2).batch
    one, two = sentences(distorted(again, 3, "suboptimal", 0.5))
    assert one == first[0]
    assert one != two


def test_the_samples_of_a_sentence_have_one_teacher() -> None:
    rows = [5, 5 + SENTENCES, 5 + 2 * SENTENCES]
    samples = context_of([[[2, 3, 4, 5, 6, 7]]] * 3, rows=rows).batch
    one, *others = sentences(distorted(samples, 3, "suboptimal", 0.5))
    assert others == [one, one]


def test_a_bad_teacher_reverses_the_words() -> None:
    context = context_of([[[2, 3, 4, 5], [3, 2]], [[]]], wider=2)
    batch = distorted(context.batch, 1, "bad", 0.0)
    assert sentences(batch) == [[[5, 4, 3, 2], [2, 3]], [[]]]
    assert torch.equal(batch.target, batch.references[:, 0, : batch.target.shape[1]])
    # The words alone are reversed: EOS and padding are where they were.
    behind = batch.references == context.batch.references
    assert behind[0, 0, 4:].all()
    assert behind[1].all()


@pytest.mark.parametrize("make", MAKERS)
@given(corpora())
@settings(max_examples=15, deadline=None)
def test_without_noise_it_is_the_inner_reference(make: Callable[[Cost], Reference], corpus: Corpus) -> None:
    cost = COSTS["edits"]
    inner, noisy = make(cost), Noisy(make(cost), cost, "suboptimal", 0.0)
    context = context_of([references for references, _ in corpus])
    rows = [[*words, EOS] for _, words in corpus]
    assert torch.equal(every_cost(noisy, context, rows), every_cost(inner, context, rows))
    prefixes, every = [words for _, words in corpus], list(range(len(corpus)))
    ours, theirs = (finished(reference, context, prefixes, every) for reference in (noisy, inner))
    assert torch.equal(ours.tokens, theirs.tokens)
    assert torch.equal(ours.losses, theirs.losses)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("kind", KINDS)
@given(corpora(), st.sampled_from(sorted(COSTS)))
@settings(max_examples=12, deadline=None)
def test_losses_and_costs_are_those_against_the_true_references(
    make: Callable[[Cost], Reference], kind: Noise, corpus: Corpus, name: str
) -> None:
    noisy = Noisy(make(COSTS["edits"]), COSTS[name], kind, 0.6)
    check_completions(noisy, COSTS[name], corpus)
    check_costs(noisy, corpus)


@pytest.mark.parametrize("kind", KINDS)
@given(corpora())
@settings(max_examples=10, deadline=None)
def test_costs_depend_on_the_sentence_alone(kind: Noise, corpus: Corpus) -> None:
    check_invariance(Noisy(Suffix(COSTS["bleu"]), COSTS["edits"], kind, 0.6), corpus)


@pytest.mark.parametrize("make", MAKERS)
def test_from_nothing_it_says_the_distorted_target(make: Callable[[Cost], Reference]) -> None:
    context = context_of([[[2, 3, 4, 5]], [[6, 7]]])
    losses: dict[Noise, Tensor] = {}
    for kind in KINDS:
        noisy = Noisy(make(COSTS["edits"]), COSTS["edits"], kind)
        whole = finished(noisy, context, [[], []], [0, 1])
        rows = [[row[: n - 1]] for row, n in zip(whole.tokens.tolist(), whole.lengths.tolist(), strict=True)]
        assert rows == sentences(distorted(context.batch, context.draws.seed, kind, 1.0))
        losses[kind] = whole.losses
    assert losses["bad"].tolist() == [4, 2]
    assert (losses["suboptimal"] > 0).all()


def test_it_still_follows_the_words_of_the_sentence_that_is_asked_for() -> None:
    context = context_of([[[2, 3]], [[4, 5, 6]]])
    noisy = Noisy(Copy(COSTS["edits"]), COSTS["edits"], "bad")
    whole = finished(noisy, context, [[6], [3], [7, 7, 7]], [1, 0, 1])
    assert whole.tokens.tolist() == [[6, 5, 4, EOS], [3, 2, EOS, 0], [7, 7, 7, EOS]]
    picked = replace(context, batch=context.batch.select(torch.tensor([1])))
    assert finished(noisy, picked, [[6]], [0]).tokens.tolist() == [[6, 5, 4, EOS]]


def test_a_code_at_the_beginning_is_no_word() -> None:
    batch = context_of([[[9, 2, 3, 4, 5], [9, 3, 2], [9]], [[9, 6]]]).batch
    assert sentences(distorted(batch, 1, "bad", 0.0, fixed=1)) == [
        [[9, 5, 4, 3, 2], [9, 2, 3], [9]],
        [[9, 6]],
    ]
    for seed in range(20):
        for reference, others in zip(
            [words for of_one in sentences(batch) for words in of_one],
            [
                words
                for of_one in sentences(distorted(batch, seed, "suboptimal", 1.0, fixed=1))
                for words in of_one
            ],
            strict=True,
        ):
            assert others[0] == 9
            assert 9 not in others[1:]
            assert len(others) == len(reference)
