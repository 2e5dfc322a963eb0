"""The dynamic oracle against enumeration of every completion."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist
from torch import Tensor

from l2s_nmt.search.reference.edit_distance import (
    EditDistance,
    final_values,
    nearest_prefixes,
    optimal_values,
    reference_distances,
)
from tests.unit.search.test_copy import (
    ABSENT,
    COSTS,
    EOS,
    LETTERS,
    VOCABULARY,
    Corpus,
    References,
    Rows,
    check_completions,
    check_costs,
    check_invariance,
    context_of,
    corpora,
    dense,
    every_cost,
    finished,
    padded,
    satisfies,
    states,
)

IN_EDITS = EditDistance(COSTS["edits"])

satisfies(EditDistance)


def final_distance(distances: Tensor, lengths: Tensor, reference_lengths: Tensor, finished: Tensor) -> Tensor:
    """(B,) the edit distance between each whole trajectory and the nearest reference, EOS not counted."""
    words = lengths - finished.long()
    return final_values(distances, reference_lengths).gather(1, words[:, None])[:, 0]


def levels(longest: int) -> list[Rows]:
    """All strings over the letters, by length; the children of string i are 3i, 3i + 1 and 3i + 2."""
    return [[list(row) for row in product(LETTERS, repeat=n)] for n in range(longest + 1)]


def enumerated_values(targets: Rows, longest: int) -> list[NDArray[np.int64]]:
    """For each length, (strings, targets): the smallest distance that any completion reaches.

    Completions are enumerated up to a total length beyond which even an empty suffix is better.
    """
    strings = levels(longest + max(map(len, targets)))
    best = cdist(strings[-1], targets, scorer=Levenshtein.distance, dtype=np.int64)
    values = [best]
    for level in strings[-2::-1]:
        own = cdist(level, targets, scorer=Levenshtein.distance, dtype=np.int64)
        best = np.minimum(own, best.reshape(len(level), len(LETTERS), -1).min(1))
        values.append(best)
    return values[::-1][: longest + 2]


def costs_after(prefix: list[int], references: References) -> Tensor:
    """(sentences, V) costs after one prefix, in many sentences."""
    context, every = context_of(references), torch.arange(len(references))
    tokens = torch.tensor([*prefix, EOS]).expand(len(every), -1)
    return dense(*IN_EDITS.costs(context, tokens, every, torch.full_like(every, len(prefix))))


def distances_to(prefix: list[int], targets: Rows) -> Tensor:
    return torch.tensor([Levenshtein.distance(prefix, row) for row in targets])


def test_costs_equal_exhaustive_search_on_all_small_pairs() -> None:
    longest = 4
    targets = [row for level in levels(5)[1:] for row in level]
    values = enumerated_values(targets, longest)
    second = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    # Each target alone, and each with another one.
    groups = [
        (torch.arange(len(targets))[:, None], 1),
        (torch.stack([torch.arange(len(targets)), second], 1), 2),
    ]
    pairs = 0
    for members, count in groups:
        references = [[targets[m] for m in row] for row in members.tolist()]
        for length, level in enumerate(levels(longest)):
            # A completion of the smallest loss is one of the smallest for either reference.
            here = torch.from_numpy(values[length])[:, members].amin(-1)
            after = torch.from_numpy(values[length + 1])[:, members].amin(-1)
            for i, prefix in enumerate(level if count == 1 else level[::3]):
                i = i if count == 1 else 3 * i
                table = costs_after(prefix, references)
                best, children = here[i], after[3 * i : 3 * i + 3]
                stop = distances_to(prefix, targets)[members].amin(-1)
                assert torch.equal(table[:, 2:5], (children - best).t().float())
                assert torch.equal(table[:, EOS], (stop - best).float())
                # A letter that no target has changes the prefix into one that is an edit farther from all.
                assert (table[:, ABSENT[0]] == 1).all()
                assert torch.equal(torch.minimum(children.amin(0), stop), best)
                pairs += len(targets) if count == 1 else 0
    assert pairs == 43_923


def test_completions_reach_the_optimum_and_keep_the_length_of_the_target() -> None:
    longest = 4
    targets = [row for level in levels(4) for row in level]
    values = enumerated_values(targets, longest)
    context = context_of([[target] for target in targets])
    for length, level in enumerate(levels(longest)):
        for i, prefix in enumerate(level[::5]):
            whole = finished(IN_EDITS, context, [prefix] * len(targets), list(range(len(targets))))
            assert torch.equal(whole.losses, torch.from_numpy(values[length][5 * i]).float())
            for target, row, size in zip(targets, whole.tokens.tolist(), whole.lengths.tolist(), strict=True):
                nearest = [Levenshtein.distance(prefix, target[:j]) for j in range(len(target) + 1)]
                ties = [j for j, distance in enumerate(nearest) if distance == min(nearest)]
                # Of ties, the place at the prefix's own length, or as near as can be; the earlier of two.
                expected = min(ties, key=lambda j: (abs(j - len(prefix)), j))
                assert row[:size] == [*prefix, *target[expected:], EOS]


def test_optimal_completion_distillation_example() -> None:
    """Hypothesis "bot" against reference "foot": the targets are {f}, {f, o}, {o}, {o, t}."""
    letters = {letter: token for token, letter in enumerate("bfot", start=2)}
    bot, foot = ([letters[letter] for letter in word] for word in ("bot", "foot"))
    context = context_of([[foot]])
    table = every_cost(IN_EDITS, context, [[*bot, EOS]])
    optimal = [{letter for letter, token in letters.items() if row[token] == 0} for row in table]
    assert optimal == [{"f"}, {"f", "o"}, {"o"}, {"o", "t"}]
    # "bot" is two edits from "foot", and no completion is nearer.
    assert table[:, EOS].tolist() == [4, 3, 2, 0]
    distances = reference_distances(torch.tensor([[*bot, EOS]]), context.batch.references)
    lengths = context.batch.reference_lengths
    assert optimal_values(distances, lengths)[:, :4].tolist() == [[0, 1, 1, 2]]
    assert final_values(distances, lengths)[:, :4].tolist() == [[4, 4, 3, 2]]
    assert final_distance(distances, torch.tensor([4]), lengths, torch.tensor([True])).tolist() == [2]
    # Of "b" + "foot" and "b" + "oot" the latter is as long as the reference; likewise "bot" + "t".
    whole = finished(IN_EDITS, context, [[], bot[:1], bot[:2], bot], [0] * 4)
    words = [row[: n - 1] for row, n in zip(whole.tokens.tolist(), whole.lengths.tolist(), strict=True)]
    assert words == [foot, [*bot[:1], *foot[1:]], [*bot[:2], *foot[2:]], [*bot, *foot[3:]]]


def test_only_eos_is_optimal_after_the_whole_reference() -> None:
    table = every_cost(IN_EDITS, context_of([[[2, 3]]]), [[2, 3, EOS]])
    assert table[2].tolist() == [1, 0, 1, 1, 1, 1, 1]
    assert table[:, EOS].tolist() == [2, 1, 0]


def test_an_empty_reference_asks_for_the_end() -> None:
    table = every_cost(IN_EDITS, context_of([[[]]]), [[2, 2, EOS]])
    assert table.tolist() == [[1, 0, 1, 1, 1, 1, 1]] * 3


def test_a_repeated_token_is_listed_once_and_optimal_if_any_occurrence_is() -> None:
    # After "a", the second "a" of "aba" follows no nearest prefix, but the first does after "".
    rows = [[2, 3, 2, EOS]]
    decisions, costs = IN_EDITS.costs(context_of([[[2, 3, 2]]]), padded(rows)[0], *states(rows))
    assert decisions.actions.tolist() == rows * 4
    assert decisions.mask.tolist() == [[True, True, False, True]] * 4
    assert costs.costs.tolist() == [[0, 1, 0, 3], [1, 0, 0, 2], [0, 1, 0, 1], [1, 1, 0, 0]]


def test_of_several_references_the_nearer_one_counts_and_the_first_of_equals() -> None:
    context = context_of([[[2, 3, 4], [2, 4]]])
    table = every_cost(IN_EDITS, context, [[2, 4, EOS]])
    assert table[:, 1:5].tolist() == [[2, 0, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1]]
    whole = finished(IN_EDITS, context, [[], [2], [2, 4]], [0, 0, 0])
    rows = [row[: n - 1] for row, n in zip(whole.tokens.tolist(), whole.lengths.tolist(), strict=True)]
    assert rows == [[2, 3, 4], [2, 3, 4], [2, 4]]


@pytest.mark.parametrize("name", COSTS)
@given(corpora())
@settings(max_examples=20, deadline=None)
def test_losses_are_the_cost_of_the_completions(name: str, corpus: Corpus) -> None:
    check_completions(EditDistance(COSTS[name]), COSTS[name], corpus)


@given(corpora())
@settings(max_examples=40, deadline=None)
def test_costs_are_those_of_trying_every_token(corpus: Corpus) -> None:
    check_costs(IN_EDITS, corpus)


@given(corpora())
@settings(max_examples=40, deadline=None)
def test_costs_depend_on_the_sentence_alone(corpus: Corpus) -> None:
    check_invariance(IN_EDITS, corpus)


@given(corpora())
@settings(max_examples=40, deadline=None)
def test_a_token_costs_nothing_or_one_edit(corpus: Corpus) -> None:
    rows = [[*words, EOS] for _, words in corpus]
    table = every_cost(IN_EDITS, context_of([references for references, _ in corpus]), rows)
    words = torch.tensor([token for token in range(VOCABULARY) if token != EOS])
    assert set(table[:, words].flatten().tolist()) <= {0, 1}
    assert (table.amin(1) == 0).all()


@given(corpora(), st.lists(st.booleans(), min_size=4, max_size=4))
@settings(max_examples=60, deadline=None)
def test_advantages_add_up_to_the_final_distance(corpus: Corpus, ended: list[bool]) -> None:
    references = [each for each, _ in corpus]
    rows = [
        [*words, EOS] if end or not words else words for (_, words), end in zip(corpus, ended, strict=False)
    ]
    context = context_of(references)
    (tokens, lengths), finished_rows = padded(rows), torch.tensor([row[-1] == EOS for row in rows])
    table = every_cost(IN_EDITS, context, rows)
    distances = reference_distances(tokens, context.batch.references)
    final = final_distance(distances, lengths, context.batch.reference_lengths, finished_rows)
    assert final.tolist() == [
        min(Levenshtein.distance([token for token in row if token != EOS], target) for target in each)
        for row, each in zip(rows, references, strict=True)
    ]
    taken = table.gather(1, torch.tensor([token for row in rows for token in row])[:, None])[:, 0]
    spent = torch.stack([part.sum() for part in torch.split(taken, lengths.tolist())])
    values = optimal_values(distances, context.batch.reference_lengths)
    value = values.gather(1, lengths[:, None])[:, 0]
    # The value of the empty prefix is 0; every edit is paid for by the token that makes it necessary.
    assert torch.equal(spent, torch.where(finished_rows, final, value).float())


def test_states_come_in_the_order_in_which_they_are_asked_for() -> None:
    context, tokens = context_of([[[2, 3]], [[4], [3]]]), padded([[2, EOS], [3, 4, 2]])[0]
    sentence, position = torch.tensor([1, 0, 1]), torch.tensor([2, 1, 0])
    decisions, costs = IN_EDITS.costs(context, tokens, sentence, position)
    assert torch.equal(decisions.sentence, sentence)
    assert torch.equal(decisions.position, position)
    every = every_cost(IN_EDITS, context, [[2, EOS], [3, 4, 2]])
    assert torch.equal(dense(decisions, costs), every[[4, 1, 2]])
    none = sentence[:0]
    decisions, costs = IN_EDITS.costs(context, tokens, none, none)
    assert len(decisions) == len(costs.costs) == 0
    assert len(IN_EDITS.complete(context, tokens[:0], none, none).losses) == 0


def test_nearest_prefixes_do_not_depend_on_blocks() -> None:
    draw = torch.Generator().manual_seed(0)
    prefixes, references = (torch.randint(2, 5, shape, generator=draw) for shape in ((50, 6), (50, 3, 7)))
    lengths = torch.randint(0, 7, (50,), generator=draw)
    sizes = torch.randint(1, 8, (50, 3), generator=draw)
    whole = nearest_prefixes(prefixes, lengths, references, sizes)
    assert len({tuple(pair) for pair in torch.stack(whole, 1).tolist()}) > 5
    blocks = nearest_prefixes(prefixes, lengths, references, sizes, max_elements=500)
    assert torch.equal(torch.stack(blocks), torch.stack(whole))


def test_long_sentences_agree_with_rapidfuzz() -> None:
    length = 300
    draw = torch.Generator().manual_seed(0)
    tokens, target = (torch.randint(2, 9, (3, length), generator=draw) for _ in range(2))
    references = torch.cat([target, torch.full((3, 1), EOS)], 1)[:, None]
    whole = torch.full((3,), length)
    distances = reference_distances(tokens, references)
    final = final_distance(distances, whole, whole[:, None] + 1, torch.zeros(3, dtype=torch.bool))
    pairs = zip(tokens.tolist(), target.tolist(), strict=True)
    assert final.tolist() == [Levenshtein.distance(ours, theirs) for ours, theirs in pairs]
