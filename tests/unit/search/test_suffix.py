"""The best-suffix reference against completions built and scored one by one."""

from __future__ import annotations

from itertools import product

import pytest
import sacrebleu
import torch
from torch import Tensor

from l2s_nmt.search.costs import COSTS, Cost, SentenceBleu, Smoothing, edit_distance_cost
from l2s_nmt.search.reference.edit_distance import edit_distance_costs
from l2s_nmt.search.reference.suffix import best_suffix_costs, complete, full_vocabulary_costs

PAD, EOS, FIRST = 0, 1, 2

Rows = list[list[int]]
ALL_COSTS: list[Cost] = [
    SentenceBleu(),
    SentenceBleu("add_k"),
    SentenceBleu("floor", 0.3),
    edit_distance_cost,
]


def padded(rows: Rows, width: int = 0, filler: int = PAD) -> tuple[Tensor, Tensor]:
    width = max(width, *map(len, rows))
    return (
        torch.tensor([row + [filler] * (width - len(row)) for row in rows]),
        torch.tensor([len(row) for row in rows]),
    )


def random_rows(
    count: int, shortest: int, longest: int, vocabulary: int, seed: int, p_end: float = 1.0
) -> Rows:
    """Rows of random words; a share of them end with EOS."""
    draw = torch.Generator().manual_seed(seed)
    rows: Rows = []
    for _ in range(count):
        length = int(torch.randint(shortest, longest + 1, (), generator=draw))
        row = torch.randint(FIRST, FIRST + vocabulary, (length,), generator=draw).tolist()
        rows.append([*row, EOS] if float(torch.rand((), generator=draw)) < p_end else row)
    return rows


def built(cost: Cost, prefixes: Rows, targets: Rows) -> tuple[Tensor, Tensor]:
    """Every completion of each prefix, scored; the cheapest, and the first start that reaches it."""
    completions, references, owners = [], [], []
    for owner, (prefix, target) in enumerate(zip(prefixes, targets, strict=True)):
        words, end = [token for token in prefix if token != EOS], len(target) - 1
        for j in range(end if prefix[-1] == EOS else 0, end + 1):
            completions.append(words + target[j:end])
            references.append(target[:end])
            owners.append((owner, j))
    ours, our_lengths = padded(completions)
    theirs, their_lengths = padded(references)
    best: dict[int, tuple[Tensor, int]] = {}
    for (owner, j), value in zip(owners, cost(ours, our_lengths, theirs, their_lengths), strict=True):
        if owner not in best or value < best[owner][0]:
            best[owner] = value, j
    rows = [best[owner] for owner in range(len(prefixes))]
    return torch.stack([value for value, _ in rows]), torch.tensor([j for _, j in rows])


@pytest.mark.parametrize("cost", ALL_COSTS)
@pytest.mark.parametrize("vocabulary", [2, 5, 30])
@pytest.mark.parametrize(("longest", "width"), [(1, 3), (7, 6), (4, 11)])
def test_costs_and_starts_equal_built_completions(
    cost: Cost, vocabulary: int, longest: int, width: int
) -> None:
    prefixes = random_rows(120, 1, longest, vocabulary, 1, p_end=0.2)
    targets = random_rows(120, 0, width, vocabulary, 2)
    costs, starts = best_suffix_costs(*padded(prefixes), *padded(targets), cost)
    expected, expected_starts = built(cost, prefixes, targets)
    assert torch.equal(costs, expected)
    assert torch.equal(starts, expected_starts)


@pytest.mark.parametrize("cost", ALL_COSTS)
def test_shortcuts_equal_the_way_that_works_for_any_cost(cost: Cost) -> None:
    def opaque(
        hypotheses: Tensor, lengths: Tensor, references: Tensor, reference_lengths: Tensor, /
    ) -> Tensor:
        return cost(hypotheses, lengths, references, reference_lengths)

    # Targets that repeat themselves and are longer than 127 words together with the prefix, too.
    for longest, width, vocabulary in ((8, 9, 3), (70, 70, 4)):
        prefixes = padded(random_rows(24, 1, longest, vocabulary, 3, p_end=0.2))
        targets = padded(random_rows(24, 0, width, vocabulary, 4))
        direct = best_suffix_costs(*prefixes, *targets, cost)
        general = best_suffix_costs(*prefixes, *targets, opaque)
        assert torch.equal(direct[0], general[0])
        assert torch.equal(direct[1], general[1])


@pytest.mark.parametrize("smoothing", ["exp", "add_k"])
def test_best_suffix_under_sacrebleu(smoothing: Smoothing) -> None:
    metric = sacrebleu.BLEU(
        tokenize="none", effective_order=True, smooth_method="exp" if smoothing == "exp" else "add-k"
    )
    prefixes, targets = random_rows(60, 1, 6, 4, 5, p_end=0), random_rows(60, 1, 8, 4, 6)
    costs, _ = best_suffix_costs(*padded(prefixes), *padded(targets), SentenceBleu(smoothing))
    for value, prefix, target in zip(costs.tolist(), prefixes, targets, strict=True):
        words = target[:-1]
        texts = [" ".join(map(str, prefix + words[j:])) for j in range(len(target))]
        best = max(metric.sentence_score(text, [" ".join(map(str, words))]).score for text in texts)
        assert value == pytest.approx(1 - best / 100, abs=1e-5)


@pytest.mark.parametrize("cost", ALL_COSTS)
def test_completed_sentences_have_the_cost_found(cost: Cost) -> None:
    prefixes, targets = random_rows(80, 1, 7, 3, 7, p_end=0.3), random_rows(80, 0, 6, 3, 8)
    (tokens, lengths), (target, target_lengths) = padded(prefixes, 10), padded(targets, 9)
    costs, starts = best_suffix_costs(tokens, lengths, target, target_lengths, cost)
    sentences, whole = complete(tokens, lengths, target, target_lengths, starts, PAD)
    assert torch.equal(cost(sentences, whole - 1, target, target_lengths - 1), costs)
    rows = zip(sentences.tolist(), whole.tolist(), prefixes, targets, starts.tolist(), strict=True)
    for sentence, length, prefix, reference, start in rows:
        words = [token for token in prefix if token != EOS]
        assert sentence[:length] == words + reference[start:]
        assert sentence[length:] == [PAD] * (len(sentence) - length)


@pytest.mark.parametrize("cost", ALL_COSTS)
def test_no_completion_at_all_beats_the_optimum_and_suffixes_never_beat_it(cost: Cost) -> None:
    words = [list(row) for n in range(1, 3) for row in product(range(FIRST, FIRST + 3), repeat=n)]
    endings = [list(row) for n in range(5) for row in product(range(FIRST, FIRST + 3), repeat=n)]
    for target in ([2, 3, 4, EOS], [3, 3, 2, EOS], [4, EOS]):
        every = padded([prefix + ending for prefix in words for ending in endings])
        losses = cost(*every, *padded([target[:-1]] * len(every[1])))
        optimum = losses.view(len(words), -1).amin(1)
        costs, _ = best_suffix_costs(*padded(words), *padded([target] * len(words)), cost)
        assert (costs >= optimum).all()
        if cost is edit_distance_cost:
            assert torch.equal(costs, optimum)


def test_a_finished_prefix_is_not_continued() -> None:
    target, target_lengths = padded([[2, 3, 4, EOS]] * 2)
    prefixes, lengths = padded([[2, 3, EOS], [2, 3]])
    costs, starts = best_suffix_costs(prefixes, lengths, target, target_lengths, edit_distance_cost)
    assert starts.tolist() == [3, 2]
    torch.testing.assert_close(costs, torch.tensor([1 / 3, 0]))


@pytest.mark.parametrize("cost", ALL_COSTS)
def test_costs_do_not_depend_on_blocks_padding_or_order(cost: Cost) -> None:
    prefixes, targets = random_rows(50, 1, 7, 3, 9, p_end=0.3), random_rows(50, 0, 8, 3, 10)
    costs, starts = best_suffix_costs(*padded(prefixes), *padded(targets), cost)
    variants = [
        best_suffix_costs(*padded(prefixes, 11, EOS), *padded(targets, 12, FIRST), cost),
        best_suffix_costs(*padded(prefixes), *padded(targets), cost, max_elements=1000),
        tuple(
            part.flip(0) for part in best_suffix_costs(*padded(prefixes[::-1]), *padded(targets[::-1]), cost)
        ),
    ]
    for other_costs, other_starts in variants:
        assert torch.equal(other_costs, costs)
        assert torch.equal(other_starts, starts)


def states(rows: Rows) -> tuple[Tensor, Tensor]:
    pairs = [(b, t) for b, row in enumerate(rows) for t in range(len(row))]
    return torch.tensor([b for b, _ in pairs]), torch.tensor([t for _, t in pairs])


@pytest.mark.parametrize("cost", ALL_COSTS)
def test_full_vocabulary_equals_trying_every_token(cost: Cost) -> None:
    vocabulary = 9
    # Tokens 6, 7 and 8 are in no target; 6 and 7 occur in the trajectories, and so in prefixes.
    rows, targets = random_rows(12, 1, 5, 6, 11), random_rows(12, 0, 6, 4, 12)
    (tokens, _), (target, target_lengths) = padded(rows), padded(targets)
    sentence, position = states(rows)
    decisions, costs = full_vocabulary_costs(tokens, sentence, position, target, target_lengths, cost)
    tried = [
        [*rows[b][:t], a]
        for b, t in zip(sentence.tolist(), position.tolist(), strict=True)
        for a in range(EOS, vocabulary)
    ]
    owner = sentence.repeat_interleave(vocabulary - 1)
    values, _ = best_suffix_costs(*padded(tried), target[owner], target_lengths[owner], cost)
    expected = values.view(len(sentence), -1)
    expected = expected - expected.amin(1, keepdim=True)
    assert costs.other is not None
    table = costs.other[:, None].repeat(1, vocabulary)
    for n in range(len(decisions)):
        chosen = decisions.actions[n, decisions.mask[n]]
        assert sorted(chosen.tolist()) == sorted(set(targets[int(sentence[n])]))
        table[n, chosen] = costs.costs[n, decisions.mask[n]]
    assert torch.equal(table[:, EOS:], expected)
    assert not costs.costs[~decisions.mask].any()
    blocks = full_vocabulary_costs(tokens, sentence, position, target, target_lengths, cost, max_elements=700)
    assert torch.equal(blocks[1].costs, costs.costs)


def test_full_vocabulary_under_edit_distance_is_the_dynamic_oracle() -> None:
    rows, targets = random_rows(30, 0, 8, 4, 13), random_rows(30, 1, 7, 4, 14)
    (tokens, lengths), (target, target_lengths) = padded(rows), padded(targets)
    oracle, edits = edit_distance_costs(tokens, lengths, target, target_lengths)
    decisions, costs = full_vocabulary_costs(
        tokens, oracle.sentence, oracle.position, target, target_lengths, edit_distance_cost
    )
    words = (target_lengths - 1)[oracle.sentence]
    assert torch.equal(decisions.actions, oracle.actions)
    assert torch.equal(decisions.mask, oracle.mask)
    assert costs.other is not None
    torch.testing.assert_close(costs.costs * words[:, None], edits.costs)
    torch.testing.assert_close(costs.other * words, torch.ones(len(words)))


@pytest.mark.parametrize("name", COSTS)
def test_no_states_give_no_costs(name: str) -> None:
    tokens, none = torch.zeros(2, 5, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    costs, starts = best_suffix_costs(tokens[:0], none, tokens[:0], none, COSTS[name])
    assert costs.shape == starts.shape == (0,)
    target, lengths = padded([[2, EOS], [3, EOS]])
    decisions, vectors = full_vocabulary_costs(tokens, none, none, target, lengths, COSTS[name])
    assert len(decisions) == 0
    assert vectors.costs.shape == (0, 2)
