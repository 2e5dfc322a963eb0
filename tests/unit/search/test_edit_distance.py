"""The dynamic oracle against enumeration of every completion."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist
from torch import Tensor

from l2s_nmt.search.costs import prefix_distances
from l2s_nmt.search.reference.edit_distance import (
    edit_distance_costs,
    final_distance,
    optimal_values,
    target_actions,
)
from l2s_nmt.search.types import CostVectors, Decisions

PAD, EOS = 0, 1
LETTERS = (2, 3, 4)
ABSENT = 5

Rows = list[list[int]]
words = st.lists(st.sampled_from(LETTERS), max_size=7)


def padded(rows: Rows, width: int = 0, filler: int = PAD) -> tuple[Tensor, Tensor]:
    width = max(width, *map(len, rows))
    return (
        torch.tensor([row + [filler] * (width - len(row)) for row in rows]),
        torch.tensor([len(row) for row in rows]),
    )


def finished(rows: Rows) -> Rows:
    return [[*row, EOS] for row in rows]


def dense(decisions: Decisions, costs: CostVectors, vocabulary: int) -> Tensor:
    """(N, V) cost of every action."""
    assert costs.other is not None
    table = costs.other[:, None].repeat(1, vocabulary)
    for n, (actions, mask) in enumerate(zip(decisions.actions, decisions.mask, strict=True)):
        chosen = actions[mask]
        assert len(chosen.unique()) == len(chosen)
        table[n, chosen] = costs.costs[n, mask]
    assert not costs.costs[~decisions.mask].any()
    return table


def select(decisions: Decisions, costs: CostVectors, rows: Tensor) -> tuple[Decisions, CostVectors]:
    assert costs.other is not None
    parts = (decisions.sentence, decisions.position, decisions.actions, decisions.mask)
    return Decisions(*(part[rows] for part in parts)), CostVectors(costs.costs[rows], costs.other[rows])


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


def test_costs_equal_exhaustive_search_on_all_small_pairs() -> None:
    longest = 4
    prefixes = levels(longest)
    targets = [row for level in levels(5)[1:] for row in level]
    values = enumerated_values(targets, longest)
    target, target_lengths = padded(finished(targets))
    pairs = 0
    for length, level in enumerate(prefixes):
        for i, prefix in enumerate(level):
            tokens = torch.tensor([*prefix, EOS]).expand(len(targets), -1)
            lengths = torch.full((len(targets),), length + 1)
            decisions, costs = edit_distance_costs(tokens, lengths, target, target_lengths)
            here = decisions.position == length
            decisions, costs = select(decisions, costs, here)
            table = dense(decisions, costs, ABSENT + 1)
            best = torch.from_numpy(values[length][i])
            children = torch.from_numpy(values[length + 1][3 * i : 3 * i + 3])
            stop = torch.tensor([Levenshtein.distance(prefix, row) for row in targets])
            assert torch.equal(table[:, 2:5], (children - best).t().float())
            assert torch.equal(table[:, EOS], (stop - best).float())
            # A letter that no target has changes the prefix into one that is an edit farther from all.
            assert (table[:, ABSENT] == 1).all()
            assert torch.equal(torch.minimum(children.amin(0), stop), best)
            pairs += len(targets)
    assert pairs == 43_923


def test_optimal_completion_distillation_example() -> None:
    """Hypothesis "bot" against reference "foot": the targets are {f}, {f, o}, {o}, {o, t}."""
    letters = {letter: token for token, letter in enumerate("bfot", start=2)}
    tokens, lengths = padded([[*(letters[letter] for letter in "bot"), EOS]])
    target, target_lengths = padded([[*(letters[letter] for letter in "foot"), EOS]])
    decisions, costs = edit_distance_costs(tokens, lengths, target, target_lengths)
    table = dense(decisions, costs, 6)
    optimal = [{letter for letter, token in letters.items() if row[token] == 0} for row in table]
    assert optimal == [{"f"}, {"f", "o"}, {"o"}, {"o", "t"}]
    # "bot" is two edits from "foot", and no completion is nearer.
    assert table[:, EOS].tolist() == [4, 3, 2, 0]
    distances = prefix_distances(tokens, target)
    assert optimal_values(distances[:, :4, :5], target_lengths).tolist() == [[0, 1, 1, 2]]
    assert final_distance(distances, lengths, target_lengths, torch.tensor([True])).tolist() == [2]


def test_only_eos_is_optimal_after_the_whole_reference() -> None:
    tokens, lengths = padded([[2, 3, EOS]])
    decisions, costs = edit_distance_costs(tokens, lengths, tokens, lengths)
    table = dense(decisions, costs, 6)
    assert table[2].tolist() == [1, 0, 1, 1, 1, 1]
    assert table[:, EOS].tolist() == [2, 1, 0]


def test_an_empty_reference_asks_for_the_end() -> None:
    tokens, lengths = padded([[2, 2, EOS]])
    target, target_lengths = padded([[EOS]])
    table = dense(*edit_distance_costs(tokens, lengths, target, target_lengths), 4)
    assert table.tolist() == [[1, 0, 1, 1]] * 3


def test_a_repeated_token_is_listed_once_and_optimal_if_any_occurrence_is() -> None:
    # After "a", the second "a" of "aba" follows no nearest prefix, but the first does after "".
    target, target_lengths = padded([[2, 3, 2, EOS]])
    tokens, lengths = padded([[2, 3, 2, EOS]])
    decisions, costs = edit_distance_costs(tokens, lengths, target, target_lengths)
    assert decisions.mask.tolist() == [[True, True, False, True]] * 4
    assert costs.costs.tolist() == [[0, 1, 0, 3], [1, 0, 0, 2], [0, 1, 0, 1], [1, 1, 0, 0]]


@given(st.lists(st.tuples(words, words, st.booleans()), min_size=1, max_size=5))
@settings(max_examples=80, deadline=None)
def test_advantages_add_up_to_the_final_distance(batch: list[tuple[list[int], list[int], bool]]) -> None:
    rows = [[*ours, EOS] if ended or not ours else ours for ours, _, ended in batch]
    tokens, lengths = padded(rows)
    target, target_lengths = padded(finished([theirs for _, theirs, _ in batch]))
    ended = torch.tensor([row[-1] == EOS for row in rows])
    table = dense(*edit_distance_costs(tokens, lengths, target, target_lengths), ABSENT + 1)
    distances = prefix_distances(tokens, target)
    final = final_distance(distances, lengths, target_lengths, ended)
    stripped = [[token for token in row if token != EOS] for row in rows]
    pairs = zip(stripped, [theirs for _, theirs, _ in batch], strict=True)
    assert final.tolist() == [Levenshtein.distance(ours, theirs) for ours, theirs in pairs]
    taken = table.gather(1, torch.tensor([token for row in rows for token in row])[:, None])[:, 0]
    spent = torch.stack([part.sum() for part in torch.split(taken, lengths.tolist())])
    values = optimal_values(distances, target_lengths)
    value = values.gather(1, lengths[:, None])[:, 0]
    assert torch.equal(spent, torch.where(ended, final, value).float())
    assert (table.amin(1) == 0).all()


@given(st.lists(st.tuples(words, words), min_size=1, max_size=5))
@settings(max_examples=80, deadline=None)
def test_costs_do_not_depend_on_padding_or_order(batch: list[tuple[list[int], list[int]]]) -> None:
    ours, theirs = finished([a for a, _ in batch]), finished([b for _, b in batch])
    whole = dense(*edit_distance_costs(*padded(ours), *padded(theirs)), 6)
    tables = torch.split(whole, [len(row) for row in ours])
    reverse = dense(*edit_distance_costs(*padded(ours[::-1]), *padded(theirs[::-1])), 6)
    assert torch.equal(torch.cat(tables[::-1]), reverse)
    for filler in (PAD, EOS, LETTERS[0]):
        wider = edit_distance_costs(*padded(ours, 12, filler), *padded(theirs, 11, filler))
        assert torch.equal(whole, dense(*wider, 6))
    for i, table in enumerate(tables):
        alone = edit_distance_costs(*padded(ours[i : i + 1]), *padded(theirs[i : i + 1]))
        assert torch.equal(table, dense(*alone, 6))


def test_states_are_all_positions_in_order_and_distances_can_be_reused() -> None:
    tokens, lengths = padded([[2, EOS], [3, 4, 2]])
    target, target_lengths = padded([[2, 3, EOS], [4, EOS]])
    decisions, costs = edit_distance_costs(tokens, lengths, target, target_lengths)
    assert decisions.sentence.tolist() == [0, 0, 1, 1, 1]
    assert decisions.position.tolist() == [0, 1, 0, 1, 2]
    distances = prefix_distances(tokens, target)
    again = edit_distance_costs(tokens, lengths, target, target_lengths, distances=distances)
    assert torch.equal(again[1].costs, costs.costs)


def test_target_actions_ignore_what_stands_behind_the_end() -> None:
    first, same = target_actions(torch.tensor([[2, 3, 2, EOS, 3, EOS]]), torch.tensor([4]))
    assert first.tolist() == [[True, True, False, True, False, False]]
    assert same[0].nonzero().tolist() == [[0, 0], [0, 2], [1, 1], [2, 0], [2, 2], [3, 3]]


def test_long_sentences_agree_with_rapidfuzz() -> None:
    length = 300
    draw = torch.Generator().manual_seed(0)
    tokens, target = (torch.randint(2, 9, (3, length), generator=draw) for _ in range(2))
    whole = torch.full((3,), length)
    distances = prefix_distances(tokens, target)
    final = final_distance(distances, whole, whole + 1, torch.zeros(3, dtype=torch.bool))
    pairs = zip(tokens.tolist(), target.tolist(), strict=True)
    assert final.tolist() == [Levenshtein.distance(ours, theirs) for ours, theirs in pairs]
