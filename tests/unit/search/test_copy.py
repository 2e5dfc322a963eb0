"""The copying reference, and what the tests of all references share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from l2s_nmt.data.batches import Batch, collate
from l2s_nmt.decoder_state import Memory
from l2s_nmt.model import Policy
from l2s_nmt.search.context import Context
from l2s_nmt.search.costs.bleu import SentenceBleu
from l2s_nmt.search.costs.cost import Cost, OnTokens
from l2s_nmt.search.costs.edit_distance import edit_distance_cost, prefix_distances
from l2s_nmt.search.costs.overlap import hamming_cost
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.copy import Copy
from l2s_nmt.search.reference.protocol import Completions, Reference
from l2s_nmt.search.reference.vocabulary import target_actions, vocabulary_costs
from l2s_nmt.search.types import CostVectors, Decisions

PAD, EOS = 0, 1
LETTERS = (2, 3, 4)
ABSENT = (5, 6)
VOCABULARY = 7

Rows = list[list[int]]
References = list[Rows]
Corpus = list[tuple[Rows, list[int]]]
"""For each sentence its references and what was written, all without EOS."""


def edits(hypotheses: Tensor, lengths: Tensor, references: Tensor, reference_lengths: Tensor, /) -> Tensor:
    """Edit distance, not divided by anything."""
    index = torch.arange(len(lengths))
    return prefix_distances(hypotheses, references)[index, lengths, reference_lengths].float()


def opaque(cost: Cost) -> Cost:
    """The same cost, in a way that no reference recognises."""
    return lambda hypotheses, lengths, sentence, batch: cost(hypotheses, lengths, sentence, batch)


COSTS: dict[str, Cost] = {
    "edits": OnTokens(edits),
    "edit_distance": OnTokens(edit_distance_cost),
    "bleu": OnTokens(SentenceBleu()),
    "add_k": OnTokens(SentenceBleu("add_k")),
    "floor": OnTokens(SentenceBleu("floor")),
    "hamming": OnTokens(hamming_cost),
}


def corpora(references: int = 3, shortest: int = 0) -> st.SearchStrategy[Corpus]:
    """Small ones, in which not all words that are written are in a reference."""
    reference = st.lists(st.sampled_from(LETTERS), min_size=shortest, max_size=4)
    written = st.lists(st.sampled_from((*LETTERS, *ABSENT)), max_size=5)
    sentence = st.tuples(st.lists(reference, min_size=1, max_size=references), written)
    return st.lists(sentence, min_size=1, max_size=4)


def padded(rows: Rows, width: int = 0, filler: int = PAD) -> tuple[Tensor, Tensor]:
    """Rows (M, T) as long as the longest and the width, and their lengths."""
    width = max(width, *map(len, rows))
    return (
        torch.tensor([row + [filler] * (width - len(row)) for row in rows], dtype=torch.long),
        torch.tensor([len(row) for row in rows]),
    )


def context_of(
    references: References,
    *,
    rows: list[int] | None = None,
    wider: int = 0,
    filler: int = PAD,
    draws: Draws | None = None,
) -> Context:
    """A context with nothing but references, given without EOS; more padding leaves room for one more reference."""
    ended = [[[*row, EOS] for row in each] for each in references]
    numbers = np.arange(len(ended)) if rows is None else np.array(rows)
    first = [each[0] for each in ended]
    batch = collate(first, first, numbers, PAD, ended)
    if wider:
        inside = torch.arange(batch.references.shape[2] + wider) < batch.reference_lengths[..., None]
        tokens = F.pad(batch.references, (0, wider)).masked_fill(~inside, filler)
        batch = replace(
            batch,
            target=tokens[:, 0, : batch.target.shape[1] + 1],
            references=F.pad(tokens, (0, 0, 0, 1), value=filler),
            reference_lengths=F.pad(batch.reference_lengths, (0, 1)),
        )
    policy = cast(Policy, SimpleNamespace(pad=PAD, eos=EOS, first=None))
    return Context(policy, cast(Memory, None), batch, draws or Draws(3, 8), torch.full((len(ended),), 20))


def states(rows: Rows) -> tuple[Tensor, Tensor]:
    """All states of trajectories: after each of their prefixes but the whole."""
    pairs = [(b, t) for b, row in enumerate(rows) for t in range(len(row))]
    return torch.tensor([b for b, _ in pairs]), torch.tensor([t for _, t in pairs])


def dense(decisions: Decisions, costs: CostVectors, vocabulary: int = VOCABULARY) -> Tensor:
    """(N, V) cost of every action."""
    assert costs.other is not None
    state, slot = decisions.mask.nonzero(as_tuple=True)
    action = decisions.actions[state, slot]
    assert len(set(zip(state.tolist(), action.tolist(), strict=True))) == len(state)
    table = costs.other[:, None].repeat(1, vocabulary)
    table[state, action] = costs.costs[state, slot]
    assert not costs.costs[~decisions.mask].any()
    return table


def every_cost(reference: Reference, context: Context, rows: Rows, **padding: int) -> Tensor:
    """(N, V) cost of every action at every state of trajectories with EOS."""
    return dense(*reference.costs(context, padded(rows, **padding)[0], *states(rows)))


def finished(reference: Reference, context: Context, prefixes: Rows, sentence: list[int]) -> Completions:
    """Complete prefixes, whose padding is no padding."""
    tokens, lengths = padded(prefixes, max(map(len, prefixes)) + 1, filler=LETTERS[0])
    return reference.complete(context, tokens, lengths, torch.tensor(sentence))


def check_completions(reference: Reference, cost: Cost, corpus: Corpus) -> Completions:
    """Every prefix of what was written, finished or not, with the right form and the right loss."""
    context = context_of([references for references, _ in corpus])
    prefixes = [
        (b, row[:t])
        for b, (_, words) in enumerate(corpus)
        for row in [[*words, EOS]]
        for t in range(len(row) + 1)
    ]
    sentence = [b for b, _ in prefixes]
    whole = finished(reference, context, [prefix for _, prefix in prefixes], sentence)
    for (_, prefix), row, length in zip(prefixes, whole.tokens.tolist(), whole.lengths.tolist(), strict=True):
        assert row[: len(prefix)] == prefix
        assert row.index(EOS) == length - 1
        assert set(row[length:]) <= {PAD}
        assert prefix[-1:] != [EOS] or length == len(prefix)
    losses = cost(whole.tokens, whole.lengths - 1, torch.tensor(sentence), context.batch)
    torch.testing.assert_close(whole.losses, losses, atol=1e-6, rtol=0)
    nothing = reference.complete(
        context,
        torch.empty(len(corpus), 0, dtype=torch.long),
        torch.zeros(len(corpus), dtype=torch.long),
        torch.arange(len(corpus)),
    )
    empty = [n for n, (_, prefix) in enumerate(prefixes) if not prefix]
    assert torch.equal(nothing.losses, whole.losses[empty])
    for row, other in zip(nothing.tokens.tolist(), whole.tokens[empty].tolist(), strict=True):
        assert row[: row.index(EOS)] == other[: other.index(EOS)]
    return whole


def check_costs(reference: Reference, corpus: Corpus) -> None:
    """The cost of every token of the vocabulary is the loss of the sentence finished after it, less the smallest."""
    context = context_of([references for references, _ in corpus])
    rows = [[*words, EOS] for _, words in corpus]
    sentence, position = states(rows)
    tried = [
        [*rows[b][:t], action]
        for b, t in zip(sentence.tolist(), position.tolist(), strict=True)
        for action in range(VOCABULARY)
    ]
    owner = sentence.repeat_interleave(VOCABULARY).tolist()
    losses = finished(reference, context, tried, owner).losses.view(-1, VOCABULARY)
    expected = losses - losses.amin(1, keepdim=True)
    torch.testing.assert_close(every_cost(reference, context, rows), expected, atol=1e-6, rtol=0)


def check_invariance(reference: Reference, corpus: Corpus) -> None:
    """Neither the order of the batch nor padding changes a cost or a completion."""
    references, written = [each for each, _ in corpus], [[*words, EOS] for _, words in corpus]
    numbers = list(range(len(corpus)))
    context = context_of(references)
    sizes = [len(row) for row in written]
    whole = every_cost(reference, context, written)
    turned = context_of(references[::-1], rows=numbers[::-1])
    parts = torch.split(every_cost(reference, turned, written[::-1]), sizes[::-1])
    assert torch.equal(torch.cat(parts[::-1]), whole)
    completed = finished(reference, context, [row[:-1] for row in written], numbers)
    for filler in (PAD, EOS, LETTERS[0]):
        wider = context_of(references, wider=3, filler=filler)
        assert torch.equal(every_cost(reference, wider, written, width=9, filler=filler), whole)
        again = finished(reference, wider, [row[:-1] for row in written], numbers)
        assert torch.equal(again.tokens, completed.tokens)
        assert torch.equal(again.losses, completed.losses)


@pytest.mark.parametrize("name", COSTS)
@given(corpora())
@settings(max_examples=25, deadline=None)
def test_losses_are_the_cost_of_the_completions(name: str, corpus: Corpus) -> None:
    check_completions(Copy(COSTS[name]), COSTS[name], corpus)


@pytest.mark.parametrize("name", COSTS)
@given(corpora())
@settings(max_examples=15, deadline=None)
def test_costs_are_those_of_trying_every_token(name: str, corpus: Corpus) -> None:
    check_costs(Copy(COSTS[name]), corpus)


@pytest.mark.parametrize("name", ["bleu", "hamming"])
@given(corpora())
@settings(max_examples=15, deadline=None)
def test_costs_depend_on_the_sentence_alone(name: str, corpus: Corpus) -> None:
    check_invariance(Copy(COSTS[name]), corpus)


@given(corpora())
@settings(max_examples=50, deadline=None)
def test_hamming_costs_equal_those_of_trials(corpus: Corpus) -> None:
    context = context_of([references for references, _ in corpus])
    rows = [[*words, EOS] for _, words in corpus]
    direct = every_cost(Copy(COSTS["hamming"]), context, rows)
    assert torch.equal(direct, every_cost(Copy(opaque(COSTS["hamming"])), context, rows))


@given(corpora(references=1))
@settings(max_examples=30, deadline=None)
def test_under_hamming_only_the_target_is_right_and_the_wrong_words_cost_the_same(corpus: Corpus) -> None:
    context = context_of([references for references, _ in corpus])
    targets = [[*references[0], EOS] for references, _ in corpus]
    table = every_cost(Copy(COSTS["hamming"]), context, targets)
    golden = torch.tensor([token for row in targets for token in row])[:, None]
    assert torch.equal(table.argmin(1, keepdim=True), golden)
    assert ((table == 0).sum(1) == 1).all()
    wrong = table.scatter(1, torch.cat([golden, torch.full_like(golden, EOS)], 1), -1)
    size = (context.batch.target_lengths - 1)[states(targets)[0]]
    place = torch.maximum(states(targets)[1] + 1, size)[:, None]
    torch.testing.assert_close(wrong[wrong >= 0], (1 / place).expand_as(wrong)[wrong >= 0])


@given(corpora())
@settings(max_examples=50, deadline=None)
def test_the_first_reference_is_copied_by_position(corpus: Corpus) -> None:
    context = context_of([references for references, _ in corpus])
    prefixes = [words for _, words in corpus]
    whole = finished(Copy(COSTS["edits"]), context, prefixes, list(range(len(corpus))))
    rows = [row[:n] for row, n in zip(whole.tokens.tolist(), whole.lengths.tolist(), strict=True)]
    expected = [[*words, *references[0][len(words) :], EOS] for references, words in corpus]
    assert rows == expected
    chosen = whole.next_tokens(torch.tensor([len(words) for words in prefixes]))
    golden = [([*each[0], EOS][len(words) :] or [EOS])[0] for each, words in corpus]
    assert chosen.tolist() == golden


def test_no_states_have_no_costs() -> None:
    context = context_of([[[2]], [[3], [4, 2]]])
    none = torch.empty(0, dtype=torch.long)
    for cost in COSTS.values():
        decisions, costs = Copy(cost).costs(context, torch.zeros(2, 5, dtype=torch.long), none, none)
        assert len(decisions) == 0
        assert costs.costs.shape == (0, 4)
        assert len(Copy(cost).complete(context, torch.empty(0, 3, dtype=torch.long), none, none).losses) == 0


def test_actions_are_the_distinct_tokens_of_all_references_in_order() -> None:
    one = context_of([[[3, 2, 3]], [[4]]], wider=2, filler=EOS).batch
    actions, mask = target_actions(one.references[:, :1], one.reference_lengths[:, :1])
    assert torch.equal(actions, one.references[:, 0])
    assert [row[chosen].tolist() for row, chosen in zip(actions, mask, strict=True)] == [
        [3, 2, EOS],
        [4, EOS],
    ]
    several = context_of([[[3, 2, 3], [2, 4]], [[4]]], wider=2, filler=EOS).batch
    actions, mask = target_actions(several.references, several.reference_lengths)
    assert actions.shape == (2, 4)
    assert [row[chosen].tolist() for row, chosen in zip(actions, mask, strict=True)] == [
        [3, 2, EOS, 4],
        [4, EOS],
    ]


def seen_by(context: Context, rows: Rows, max_elements: int) -> tuple[Tensor, list[Tensor]]:
    """Costs by a loss that is the last token's distance from 2, and the prefixes that it was asked for."""
    asked = []

    def losses(prefixes: Tensor, lengths: Tensor, sentence: Tensor) -> Tensor:
        asked.append(prefixes)
        return (prefixes.gather(1, lengths[:, None] - 1)[:, 0] - 2).abs().float()

    tokens = padded(rows)[0]
    _, costs = vocabulary_costs(context, tokens, *states(rows), losses, max_elements=max_elements)
    assert costs.other is not None
    return torch.cat([costs.costs, costs.other[:, None]], 1), asked


def test_each_distinct_token_and_one_absent_one_are_tried_once_in_blocks() -> None:
    context = context_of([[[2, 2, 3]], [[4, 5]]])
    rows = [[2, 2, EOS], [6, EOS]]
    costs, asked = seen_by(context, rows, 1 << 20)
    # EOS, 2, 3 and the smallest id that is free, 4; EOS, 4, 5, and 2.
    assert costs.tolist() == [[0, 0, 1, 1, 2]] * 3 + [[2, 3, 1, 0, 0]] * 2
    assert len(asked) == 1
    assert asked[0].shape == (3 * 4 + 2 * 4, 3)
    in_blocks, asked = seen_by(context, rows, 9)
    assert torch.equal(in_blocks, costs)
    assert [len(prefixes) for prefixes in asked] == [3] * 6 + [2]


def test_an_absent_token_is_neither_padding_nor_eos_and_in_no_reference() -> None:
    for eos, pad, words in ((0, 1, [2, 3]), (2, 3, [0, 4, 1]), (9, 8, [0, 1, 2, 700])):
        target = torch.tensor([[*words, eos]])
        batch = Batch(
            source=target,
            source_mask=target > 0,
            target=target,
            target_lengths=torch.tensor([len(words) + 1]),
            references=target[:, None],
            reference_lengths=torch.tensor([[len(words) + 1]]),
            rows=torch.tensor([0]),
        )
        policy = cast(Policy, SimpleNamespace(pad=pad, eos=eos, first=None))
        context = replace(context_of([[words]]), policy=policy, batch=batch)
        tried: list[int] = []

        def losses(prefixes: Tensor, lengths: Tensor, sentence: Tensor, tried: list[int] = tried) -> Tensor:
            tried += prefixes[:, 0].tolist()
            return torch.zeros(len(lengths))

        zero = torch.tensor([0])
        vocabulary_costs(context, target, zero, zero, losses)
        absent = set(tried) - {*words, eos}
        assert absent == {min(set(range(10)) - {*words, eos, pad})}


def satisfies(make: Callable[[Cost], Reference]) -> None:
    """For the type checker."""


satisfies(Copy)
