"""Monte Carlo tree search against writing out every sentence, one at a time, word by word, without a cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from l2s_nmt.data.batches import Batch, collate
from l2s_nmt.search.context import SIMULATED, Context, LengthLimit, see
from l2s_nmt.search.costs.bleu import SentenceBleu
from l2s_nmt.search.costs.cost import Cost, OnTokens
from l2s_nmt.search.costs.edit_distance import edit_distance_cost
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.mcts import MonteCarloTree
from l2s_nmt.search.reference.mcts_tree import Listed, Tree, Walk
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.sampling import Decoding
from l2s_nmt.search.schedules import Schedule
from l2s_nmt.search.types import CostVectors, Decisions
from tests.tiny import finish, next_scores, random_sentences, shared_policy, source_of, words
from tests.unit.search.test_copy import padded, satisfies

EOS = 1
BLEU = OnTokens(SentenceBleu("add_k"))
EDITS = OnTokens(edit_distance_cost)
COSTS = pytest.mark.parametrize("cost", [BLEU, EDITS], ids=["bleu", "edit_distance"])
SHORT = LengthLimit(0, 3)
K = 2

satisfies(lambda cost: MonteCarloTree(cost, 4, 1.5, K, parallel=2))


@cache
def batch() -> Batch:
    """Targets that resemble what the model says."""
    policy, draw = shared_policy(), np.random.default_rng(0)
    sources = random_sentences(policy, 4, seed=1, shortest=3)
    targets = []
    for source in sources:
        target = [token for token in finish(policy, source, [], 9) if token != policy.eos] or [5]
        target[int(draw.integers(len(target)))] = int(draw.choice(words(policy)))
        targets.append([*target, policy.eos])
    return collate(sources, targets, np.arange(4), policy.pad)


def context(limit: LengthLimit, rows: list[int] | None = None) -> Context:
    seen = see(shared_policy(), batch(), Draws(3, 8), limit)
    return seen if rows is None else seen.select(torch.tensor(rows))


def tokens() -> Tensor:
    """(B, T) prefixes: the targets, one word of them replaced."""
    rows = batch().target.clone()
    rows[:, 1] = words(shared_policy())[0]
    return rows


def states(*positions: int) -> tuple[Tensor, Tensor]:
    pairs = [(b, t) for b in range(4) for t in positions]
    return torch.tensor([b for b, _ in pairs]), torch.tensor([t for _, t in pairs])


def loss_of(cost: Cost, sentence: int, row: list[int]) -> float:
    end = row.index(shared_policy().eos) if shared_policy().eos in row else len(row)
    hypothesis = torch.tensor([row])
    return cost(hypothesis, torch.tensor([end]), torch.tensor([sentence]), batch()).item()


def considered(sentence: int, prefix: list[int], k: int) -> list[int]:
    """The k most probable tokens, the target's at the position, and EOS."""
    policy = shared_policy()
    scores = next_scores(policy, source_of(batch(), sentence), prefix)
    target = batch().target[sentence, : int(batch().target_lengths[sentence])].tolist()
    golden = target[len(prefix)] if len(prefix) < len(target) else policy.eos
    return list(dict.fromkeys([*scores.topk(k).indices.tolist(), golden, policy.eos]))


def exhaustive(cost: Cost, sentence: int, prefix: list[int], limit: int, k: int = K) -> dict[int, float]:
    """The loss of the best sentence after each token considered."""
    found = {}
    for token in considered(sentence, prefix, k):
        row = [*prefix, token]
        whole = token == shared_policy().eos or len(row) >= limit
        found[token] = (
            loss_of(cost, sentence, row) if whole else min(exhaustive(cost, sentence, row, limit, k).values())
        )
    return found


def by_action(decisions: Decisions, costs: CostVectors) -> list[dict[int, float]]:
    assert costs.other is None
    assert not costs.costs[~decisions.mask].any()
    rows = []
    for actions, mask, values in zip(decisions.actions, decisions.mask, costs.costs, strict=True):
        listed = actions[mask].tolist()
        assert len(set(listed)) == len(listed)
        rows.append(dict(zip(listed, values[mask].tolist(), strict=True)))
    return rows


def sentences_of(
    reference: MonteCarloTree, limit: LengthLimit, position: int
) -> tuple[list[list[int]], Tensor]:
    """The best sentence of each row after so many tokens of it, and the losses."""
    sentence, lengths = states(position)
    whole = reference.complete(context(limit), tokens()[sentence], lengths, sentence)
    rows = [row[:n] for row, n in zip(whole.tokens.tolist(), whole.lengths.tolist(), strict=True)]
    for owner, row, loss in zip(sentence.tolist(), rows, whole.losses.tolist(), strict=True):
        assert row[:position] == tokens()[owner, :position].tolist()
        assert row.index(shared_policy().eos) == len(row) - 1
        assert loss == loss_of(reference.cost, owner, row)
    return rows, whole.losses


@COSTS
@pytest.mark.parametrize("parallel", [1, 7])
def test_enough_simulations_are_exhaustive(cost: Cost, parallel: int) -> None:
    sentence, position = states(0, 1, 2)
    limits = [2, 4, 3, 4]
    seen = replace(context(SHORT), limits=torch.tensor(limits))
    reference = MonteCarloTree(cost, 400, 1.5, K, parallel)
    decisions, costs = reference.costs(seen, tokens(), sentence, position)
    assert torch.equal(decisions.sentence, sentence)
    assert torch.equal(decisions.position, position)
    whole = reference.complete(seen, tokens()[sentence], position, sentence)
    for n, found in enumerate(by_action(decisions, costs)):
        owner, prefix = int(sentence[n]), tokens()[sentence[n], : position[n]].tolist()
        expected = exhaustive(cost, owner, prefix, limits[owner])
        best = min(expected.values())
        assert found == pytest.approx({token: loss - best for token, loss in expected.items()})
        assert whole.losses[n].item() == best


@pytest.mark.parametrize(("simulations", "parallel"), [(1, 1), (7, 1), (7, 3), (2, 5), (6, 4)])
def test_as_many_sentences_are_written_as_are_asked_for(simulations: int, parallel: int) -> None:
    seen = context(LengthLimit(0, 7))
    reference = MonteCarloTree(EDITS, simulations, 1.5, 3, parallel)
    reference.complete(seen, tokens(), *reversed(states(0)))
    assert seen.notes[SIMULATED] == 4 * simulations


def test_sentences_that_end_with_the_token_tried_count_as_well() -> None:
    """Though nothing is left to write of them."""
    seen = context(LengthLimit(0, 2))
    MonteCarloTree(EDITS, 400, 1.5, K).costs(seen, tokens(), *states(0))
    every = 0
    for row in range(4):
        for token in considered(row, [], K):
            every += 1 if token == shared_policy().eos else len(considered(row, [token], K))
    assert seen.notes[SIMULATED] == every


@torch.no_grad()
def test_simulations_count_where_the_reference_writes_some_of_the_sentences() -> None:
    seen = context(SHORT)
    reference = MonteCarloTree(EDITS, 3, 1.5, K)
    written = RollIn("mixed", Decoding(), reference, Schedule("constant", 0.5), "sentence")(seen)
    by_tree = int(written.by_reference[:, 0].sum())
    assert 0 < by_tree < 4
    assert seen.notes[SIMULATED] == 3 * by_tree


@pytest.mark.parametrize(("parallel", "most"), [(1, 5), (2, 4), (3, 3), (4, 4)])
def test_no_more_sentences_are_written_at_once_than_there_may_be(parallel: int, most: int) -> None:
    """Of five rows, whole states take as many as they fill."""
    policy = shared_policy()
    reference = MonteCarloTree(EDITS, 19, 1.5, 3, parallel, max_rows=5)
    with mock.patch.object(policy, "continue_branches", wraps=policy.continue_branches) as spy:
        reference.costs(context(LengthLimit(0, 7)), tokens(), *states(0, 1))
    assert max(len(call.args[1]) for call in spy.call_args_list) == most


def test_what_the_policy_would_not_say_is_considered() -> None:
    # With one token of the policy's, only the target's own can improve on stopping early.
    reference = MonteCarloTree(EDITS, 1000, 1.5, 1)
    prefix = batch().target[:, :-3]
    lengths = (batch().target_lengths - 3).clamp(min=0)
    whole = reference.complete(context(LengthLimit(0, 9)), prefix, lengths, torch.arange(4))
    assert whole.losses.tolist() == [0] * 4


@COSTS
@pytest.mark.parametrize(("position", "parallel"), [(0, 1), (0, 4), (2, 1), (2, 3)])
def test_the_first_simulation_is_greedy_and_more_never_do_harm(
    cost: Cost, position: int, parallel: int
) -> None:
    limit = LengthLimit(1, 2)
    limits = context(limit).limits.tolist()
    greedy = [
        finish(shared_policy(), source_of(batch(), b), tokens()[b, :position].tolist(), limits[b])
        for b in range(4)
    ]
    rows, before = sentences_of(MonteCarloTree(cost, 1, 1.5, K, parallel), limit, position)
    eos = shared_policy().eos
    assert rows == [row if row[-1] == eos else [*row, eos] for row in greedy]
    first = before
    for simulations in (2, 3, 5, 8, 13):
        _, after = sentences_of(MonteCarloTree(cost, simulations, 1.5, K, parallel), limit, position)
        assert (after <= before).all()
        before = after
    assert (before < first).any()


@pytest.mark.parametrize("parallel", [1, 3])
def test_neither_order_nor_chunks_nor_repeated_states_change_anything(parallel: int) -> None:
    limit = LengthLimit(1, 2)
    reference = MonteCarloTree(BLEU, 9, 1.5, 3, parallel)
    sentence, position = states(0, 1, 3)
    whole = by_action(*reference.costs(context(limit), tokens(), sentence, position))
    in_chunks = replace(reference, max_rows=2)
    assert by_action(*in_chunks.costs(context(limit), tokens(), sentence, position)) == whole
    order = torch.tensor([11, 3, 3, 0, 7, 5, 2, 9, 10, 1, 8, 4, 6, 0])
    turned = reference.costs(context(limit), tokens(), sentence[order], position[order])
    assert by_action(*turned) == [whole[n] for n in order.tolist()]
    rows = [2, 0, 3, 1]
    # The states of sentence b are those of row rows.index(b) of the other batch.
    moved = torch.tensor([rows.index(b) for b in sentence.tolist()])
    other = reference.costs(context(limit, rows), tokens()[rows], moved, position)
    assert by_action(*other) == whole


def test_each_sentence_is_scored_once() -> None:
    seen: list[tuple[int, ...]] = []

    def cost(hypotheses: Tensor, lengths: Tensor, sentence: Tensor, batch: Batch, /) -> Tensor:
        for row, n, owner in zip(hypotheses.tolist(), lengths.tolist(), sentence.tolist(), strict=True):
            seen.append((owner, *row[:n]))
        return EDITS(hypotheses, lengths, sentence, batch)

    sentence, position = states(0, 1)
    # The second prefix is what the search tries after the first, too.
    MonteCarloTree(cost, 100, 1.5, K).costs(context(SHORT), batch().target, sentence, position)
    assert len(seen) > 20
    # EOS is no word: the same words with and without it are two sentences at the limit.
    assert all(seen.count(row) == 1 for row in seen if len(row) < 4)
    assert all(seen.count(row) <= 2 for row in seen)


@pytest.mark.parametrize("position", [2, 3, 5])
def test_at_the_limit_and_behind_it_one_more_token_is_written(position: int) -> None:
    sentence, lengths = states(position)
    prefixes = batch().target[:, 1:2].repeat(1, 6)
    reference = MonteCarloTree(EDITS, 30, 1.5, K)
    decisions, costs = reference.costs(context(SHORT), prefixes, sentence, lengths)
    whole = reference.complete(context(SHORT), prefixes, lengths, sentence)
    for n, found in enumerate(by_action(decisions, costs)):
        prefix = prefixes[n, :position].tolist()
        expected = {token: loss_of(EDITS, n, [*prefix, token]) for token in considered(n, prefix, K)}
        assert found == pytest.approx(
            {token: loss - min(expected.values()) for token, loss in expected.items()}
        )
        assert whole.losses[n].item() == min(expected.values())
        assert whole.lengths[n] <= position + 2


def test_a_sentence_that_is_cut_is_given_its_end() -> None:
    def shortness(hypotheses: Tensor, lengths: Tensor, sentence: Tensor, batch: Batch, /) -> Tensor:
        return 1 / (1 + lengths.float())

    rows, _ = sentences_of(MonteCarloTree(shortness, 30, 1.5, K), SHORT, 2)
    assert [len(row) for row in rows] == [4] * 4  # and the last is EOS


def test_of_sentences_whose_cost_is_no_number_the_greedy_one_is_taken() -> None:
    """So that the update is skipped for its cost, whatever may be wrong with that."""

    def unknown(hypotheses: Tensor, lengths: Tensor, sentence: Tensor, batch: Batch, /) -> Tensor:
        return torch.full((len(lengths),), torch.nan)

    sentence, lengths = states(0)
    whole = MonteCarloTree(unknown, 5, 1.5, K).complete(context(SHORT), tokens(), lengths, sentence)
    greedy = MonteCarloTree(EDITS, 1, 1.5, K).complete(context(SHORT), tokens(), lengths, sentence)
    assert torch.equal(whole.tokens, greedy.tokens)
    assert whole.losses.isnan().all()


def test_a_sentence_whose_cost_is_a_number_is_cheaper_than_one_without() -> None:
    tree = Tree([], 3, EOS, 1.5)
    listed = [Listed([5, EOS], [0.5, 0.5]), Listed([EOS, 5], [0.5, 0.5])]
    tree.receive(tree.select(), [5, EOS], listed, float("nan"))
    tree.receive(tree.select(), [EOS], [], 0.7)
    assert (tree.best, tree.loss) == ([EOS], 0.7)
    tree.receive(tree.select(), [5, 5, EOS], [], float("nan"))
    assert (tree.best, tree.loss) == ([EOS], 0.7)


def test_a_finished_prefix_stays_as_it_is() -> None:
    policy = shared_policy()
    rows = [[*batch().target[b, :1].tolist(), policy.eos] for b in range(4)]
    prefixes, lengths = padded([*rows, [policy.eos]], filler=policy.eos)
    owners = [0, 1, 2, 3, 0]
    whole = MonteCarloTree(BLEU, 5, 1.5, K).complete(context(SHORT), prefixes, lengths, torch.tensor(owners))
    for owner, row, found, n, loss in zip(
        owners,
        [*rows, [policy.eos]],
        whole.tokens.tolist(),
        whole.lengths.tolist(),
        whole.losses,
        strict=True,
    ):
        assert found[:n] == row
        assert loss.item() == loss_of(BLEU, owner, row)


def test_no_states_give_no_costs() -> None:
    none = torch.zeros(0, dtype=torch.long)
    reference = MonteCarloTree(BLEU, 5, 1.5, K)
    decisions, costs = reference.costs(context(SHORT), tokens(), none, none)
    assert decisions.actions.shape == decisions.mask.shape == costs.costs.shape == (0, 1)
    assert len(reference.complete(context(SHORT), tokens()[:0], none, none).losses) == 0


Play = Callable[[tuple[int, ...]], float]


def grown(
    tree: Tree, simulations: int, priors: dict[int, float], loss: Play, parallel: int = 1
) -> list[tuple[int, ...]]:
    """Grow a tree by a policy that has the same preferences everywhere; the sentences in their order."""
    order = sorted(priors, key=lambda token: -priors[token])
    listed = Listed(order, [priors[token] for token in order])
    written: list[tuple[int, ...]] = []
    while len(written) < simulations and not tree.closed:
        begun: list[Walk] = []
        while len(begun) < min(parallel, simulations - len(written)) and not tree.closed:
            begun.append(tree.select())
        for walk in reversed(begun):  # whichever is done first
            tokens, chain = walk.tokens, []
            while not tree.finished(tokens):
                chain.append(listed)
                tokens = [*tokens, order[0]]
            tree.receive(walk, tokens, chain, loss(tuple(tokens)))
            written.append(tuple(tokens))
    return written


@given(
    st.dictionaries(st.integers(EOS, 4), st.floats(0.01, 1), min_size=1),
    st.integers(1, 4),
    st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]), min_size=7, max_size=7),
    st.floats(0, 5),
    st.integers(1, 9),
)
@settings(max_examples=60, deadline=None)
def test_a_tree_writes_each_sentence_once_and_keeps_the_best(
    priors: dict[int, float], limit: int, losses: list[float], exploration: float, parallel: int
) -> None:
    tree = Tree([], limit, EOS, exploration)
    table: dict[tuple[int, ...], float] = {}

    def loss(sentence: tuple[int, ...]) -> float:
        table[sentence] = losses[hash(sentence) % 7]
        return table[sentence]

    written = grown(tree, 10_000, priors, loss, parallel)
    assert tree.closed
    assert len(set(written)) == len(written)
    words = len(set(priors) - {EOS})
    stops = sum(words**n for n in range(limit)) if EOS in priors else 0
    assert len(written) == stops + words**limit
    assert tree.loss == min(table.values())
    assert tuple(tree.best) == next(row for row in written if table[row] == tree.loss)
    assert tree.root is not None
    for token, edge in zip(tree.root.listed.actions, tree.root.edges, strict=True):
        below = [row for row in written if row[0] == token]
        assert edge.loss == min(table[row] for row in below)
        assert edge.visits == len(below)


def test_the_rule_weighs_what_was_found_against_the_prior() -> None:
    priors = {2: 0.66, 3: 0.23, 4: 0.11}

    def loss(sentence: tuple[int, ...]) -> float:
        return {2: 0.4, 3: 0.9, 4: 0.1}[sentence[0]] - 0.05 * (sentence[1] == 4)

    # Without exploration: what is no worse than the first is tried; then the best is followed.
    assert [row[0] for row in grown(Tree([], 2, EOS, 0.0), 5, priors, loss)] == [2, 2, 2, 3, 4]
    # With very much: by the prior, less the more often it was followed.
    firsts = [row[0] for row in grown(Tree([], 5, EOS, 1000.0), 7, priors, loss)]
    assert firsts == [2, 2, 3, 2, 2, 2, 3]
    # After the third token was found to be best, it is followed more than its prior says.
    firsts = [row[0] for row in grown(Tree([], 5, EOS, 1.0), 40, priors, loss)]
    assert firsts.count(4) > 20


def by_the_rule(
    priors: dict[int, float], losses: dict[int, float], exploration: float, simulations: int
) -> list[int]:
    """First tokens that PUCT chooses, where they decide the losses: a loop over a few numbers."""
    greedy = max(priors, key=priors.__getitem__)
    visits, chosen = {greedy: 1}, [greedy]
    while len(chosen) < simulations:
        worst = max(losses[token] for token in visits)
        span = worst - min(losses[token] for token in visits)
        weight = exploration * math.sqrt(sum(visits.values()))
        untried = [token for token in priors if token not in visits][:1]
        scores = {}
        for token in [*visits, *untried]:
            # What is untried is worth what decoding greedily was, until it is known better.
            loss = losses[token if token in visits else greedy]
            value = (worst - loss) / span if span else 0.0
            scores[token] = value + weight * priors[token] / (1 + visits.get(token, 0))
        chosen.append(max(scores, key=scores.__getitem__))
        visits[chosen[-1]] = visits.get(chosen[-1], 0) + 1
    return chosen


def test_the_root_follows_the_rule_to_the_letter() -> None:
    priors, losses = {2: 0.5, 3: 0.3, 4: 0.2}, {2: 0.5, 3: 0.0, 4: 1.0}
    written = grown(Tree([], 6, EOS, 2.0), 12, priors, lambda row: losses[row[0]])
    assert [row[0] for row in written] == by_the_rule(priors, losses, 2.0, 12)


def test_sentences_under_way_count_as_visits() -> None:
    tree = Tree([], 3, EOS, 1000.0)
    listed = Listed([2, 3, 4], [0.5, 0.3, 0.2])
    begun = [tree.select()]
    assert tree.closed, "without its first sentence there is nothing to choose from"
    tree.receive(begun.pop(), [2, 2, 2], [listed] * 3, 0.5)
    while not tree.closed:
        begun.append(tree.select())
    # By the prior less the visits; nothing behind a token that is being tried: not (3, 2), say.
    assert [walk.tokens for walk in begun] == [[3], [2, 3], [4], [2, 2, 3], [2, 4], [2, 2, 4]]
    tree.receive(begun[0], [3, 2, 2], [listed] * 2, 0.7)
    assert tree.select().tokens == [3, 3]
