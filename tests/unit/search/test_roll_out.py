"""Costs of deviations against finishing every branch by hand, one at a time, word by word, without a cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch, collate
from l2s_nmt.decoder_state import DecoderState
from l2s_nmt.search.context import Context, LengthLimit, see
from l2s_nmt.search.costs.bleu import SentenceBleu
from l2s_nmt.search.costs.cost import OnTokens
from l2s_nmt.search.costs.edit_distance import edit_distance_cost
from l2s_nmt.search.decisions.candidates import CandidateChoice
from l2s_nmt.search.decisions.states import StateChoice
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.suffix import Suffix
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.roll_out.branches import Branches, branches_of
from l2s_nmt.search.roll_out.deviations import Deviations, decide
from l2s_nmt.search.roll_out.finish import MixUnit, RollOutPolicy
from l2s_nmt.search.roll_out.outcome import Outcome, RollOut
from l2s_nmt.search.roll_out.reference_costs import ReferenceCosts
from l2s_nmt.search.sampling import Decoding
from l2s_nmt.search.schedules import Schedule
from l2s_nmt.search.types import Trajectories
from tests.tiny import finish, next_scores, random_sentences, shared_policy, source_of, words

LIMIT = LengthLimit(3.0, -9)
"""Short sentences are cut early, and long ones may become longer than all trajectories."""
DRAWS = Draws(seed=3, update=8)
BLEU = OnTokens(SentenceBleu("add_k"))
EDITS = OnTokens(edit_distance_cost)
GREEDY = RollIn("learned", Decoding())
SAMPLED = RollIn("learned", Decoding("sample"))
REFERENCE = RollIn("reference", Decoding())
ROLL_INS = pytest.mark.parametrize(
    "roll_in", [GREEDY, SAMPLED, REFERENCE], ids=["greedy", "sampled", "reference"]
)
COSTS = pytest.mark.parametrize("cost", [BLEU, EDITS], ids=["bleu", "edit_distance"])
UNITS: tuple[MixUnit, ...] = ("state", "roll_out", "decision", "sentence")
ALL = StateChoice("all")
LEARNED = RollOutPolicy("learned", BLEU, Suffix(BLEU))
EVERY_REFERENCE = replace(LEARNED, policy="reference")

Rule = Callable[[int], bool]
"""Whether the reference writes the token at a position."""


@cache
def batch() -> Batch:
    """Targets that resemble what the model says, so that costs differ; some are longer than the limit."""
    policy, draw = shared_policy(), np.random.default_rng(0)
    sources = random_sentences(policy, 8, seed=1, shortest=2)
    targets = []
    for source in sources:
        target = [t for t in finish(policy, source, [], len(source) + 4) if t != policy.eos] or [5]
        target[int(draw.integers(len(target)))] = int(draw.choice(words(policy)))
        target.insert(int(draw.integers(len(target))), int(draw.choice(words(policy))))
        targets.append([*target, policy.eos])
    return collate(sources, targets, np.arange(40, 48), policy.pad)


@cache
def context() -> Context:
    return see(shared_policy(), batch(), DRAWS, LIMIT)


def mixed(unit: MixUnit, p: float = 0.5, **settings: object) -> RollOutPolicy:
    chance = Schedule("constant", p)
    return replace(LEARNED, policy="mixed", mix_unit=unit, p_reference=chance, **settings)  # type: ignore[arg-type]


def top_k(roll_out: RollOutPolicy, states: StateChoice = ALL, k: int = 3) -> Deviations:
    return Deviations(states, CandidateChoice("top_k", k, roll_out.reference), roll_out)


@cache
@torch.no_grad()
def searched(roll_out: RollOut, roll_in: RollIn = GREEDY) -> Outcome:
    return roll_out(context(), trajectories_of(roll_in))


@cache
@torch.no_grad()
def trajectories_of(roll_in: RollIn) -> Trajectories:
    return roll_in(context())


@cache
@torch.no_grad()
def branches_from(roll_in: RollIn) -> tuple[Branches, DecoderState]:
    """The best two words, the reference's and EOS everywhere; and the decoder state."""
    decisions, trunk = decide(
        context(), trajectories_of(roll_in), ALL, CandidateChoice("top_k", 2, Suffix(BLEU))
    )
    return branches_of(trajectories_of(roll_in), decisions)[0], trunk


@cache
@torch.no_grad()
def losses_of(roll_out: RollOutPolicy, roll_in: RollIn = GREEDY, draws: Draws = DRAWS) -> Tensor:
    """The loss of every branch; only the roll-out has the draws."""
    branches, trunk = branches_from(roll_in)
    return roll_out(replace(context(), draws=draws), trunk, branches)


def target_of(row: int) -> list[int]:
    """Without EOS."""
    words: list[int] = batch().target[row, : batch().target_lengths[row] - 1].tolist()
    return words


def loss(cost: OnTokens, sentence: list[int], row: int) -> float:
    """Of a finished sentence, with or without EOS."""
    words = [token for token in sentence if token != shared_policy().eos]
    hypothesis = torch.tensor([[*words, 0]])
    return float(cost(hypothesis, torch.tensor([len(words)]), torch.tensor([row]), batch()))


@cache
def learned_token(row: int, prefix: tuple[int, ...]) -> int:
    return int(next_scores(shared_policy(), source_of(batch(), row), prefix).argmax())


@cache
def completed(row: int, prefix: tuple[int, ...], cost: OnTokens) -> list[int]:
    """By the longest of the best suffixes of the target."""
    eos = shared_policy().eos
    if eos in prefix:
        return list(prefix)
    target = target_of(row)
    whole = [[*prefix, *target[start:], eos] for start in range(len(target) + 1)]
    return min(whole, key=lambda sentence: loss(cost, sentence, row))


def by_hand(
    row: int, branch: list[int], by_reference: Rule, cost: OnTokens, most: int | None = None
) -> float:
    """The loss of a branch finished word by word, until it has ``most`` words, or as many as its limit allows."""
    tokens, eos = list(branch), shared_policy().eos
    limit = int(LIMIT(batch().source_mask)[row]) if most is None else most
    while eos not in tokens and len(tokens) < limit:
        if by_reference(len(tokens)):
            tokens.append(completed(row, tuple(tokens), cost)[len(tokens)])
        else:
            tokens.append(learned_token(row, tuple(tokens)))
    return loss(cost, tokens, row)


def never(position: int) -> bool:
    return False


def pure(name: str, row: int, branch: list[int], cost: OnTokens) -> float:
    if name == "learned":
        return by_hand(row, branch, never, cost)
    return loss(cost, completed(row, tuple(branch), cost), row)


def each(branches: Branches) -> list[tuple[int, list[int]]]:
    """Row and prefix, with the candidate, of each branch."""
    numbers = (branches.sentence.tolist(), branches.position.tolist(), branches.action.tolist())
    return [
        (row, [*branches.tokens[row, :position].tolist(), action])
        for row, position, action in zip(*numbers, strict=True)
    ]


def assert_same(one: Outcome, other: Outcome) -> None:
    """Bit for bit, the number of branches included."""
    for name in ("sentence", "position", "actions", "mask"):
        assert torch.equal(getattr(one.decisions, name), getattr(other.decisions, name))
    assert torch.equal(one.costs.costs, other.costs.costs)
    assert one.roll_outs == other.roll_outs


@ROLL_INS
@COSTS
@pytest.mark.parametrize("name", ["learned", "reference"])
def test_costs_equal_finishing_each_branch_by_hand(name: str, roll_in: RollIn, cost: OnTokens) -> None:
    outcome = searched(top_k(RollOutPolicy(name, cost, Suffix(cost))), roll_in)  # type: ignore[arg-type]
    decisions, costs, trajectories = outcome.decisions, outcome.costs, trajectories_of(roll_in)
    sentence, position = ALL(context(), trajectories)
    assert torch.equal(decisions.sentence, sentence)
    assert torch.equal(decisions.position, position)
    expected = torch.full(costs.costs.shape, torch.inf)
    branches, state, slot = branches_of(trajectories, decisions)
    expected[state, slot] = torch.tensor([pure(name, *branch, cost) for branch in each(branches)])
    expected = (expected - expected.amin(1, keepdim=True)).masked_fill(~decisions.mask, 0)
    torch.testing.assert_close(costs.costs, expected, atol=1e-6, rtol=0)
    assert outcome.roll_outs == int(decisions.mask.sum())
    assert costs.other is None
    assert costs.costs.max() > 0.1
    assert not costs.costs[~decisions.mask].any()


@pytest.mark.parametrize("policy", [LEARNED, *map(mixed, UNITS)], ids=["learned", *UNITS])
def test_reusing_the_greedy_roll_in_changes_nothing(policy: RollOutPolicy) -> None:
    assert_same(searched(top_k(replace(policy, own_is_greedy=True))), searched(top_k(policy)))


@pytest.mark.parametrize("horizon", [None, 2])
def test_reusing_the_greedy_roll_in_saves_the_branches_that_repeat_it(
    horizon: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = []
    continue_branches = shared_policy().continue_branches

    def counted(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        finished.append(len(arguments[1]))
        return continue_branches(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(shared_policy(), "continue_branches", counted)
    # Of a weight that no other test has looked up.
    learned = RollOutPolicy("learned", BLEU, Suffix(BLEU), Schedule("constant", 0.123), horizon=horizon)
    plain, reused = (searched(top_k(replace(learned, own_is_greedy=own))) for own in (False, True))
    assert_same(plain, reused)
    # With a horizon, the reference finishes the trajectory's own tokens as well.
    saved = len(plain.decisions) if horizon is None else 0
    assert finished == [plain.roll_outs, plain.roll_outs - saved]


@torch.no_grad()
def test_where_every_branch_is_the_trajectory_nothing_is_decoded() -> None:
    # The greedy translation is the target, and the end of it, where there is one, is the only branch.
    trajectories = trajectories_of(GREEDY)
    tokens, lengths = trajectories.tokens, trajectories.lengths
    seen = context()
    copied = replace(
        seen.batch,
        target=tokens,
        target_lengths=lengths,
        references=tokens[:, None],
        reference_lengths=lengths[:, None],
    )
    ended = trajectories.finished.nonzero().squeeze(1)
    assert len(ended)
    only = Branches(tokens, ended, lengths[ended] - 1, tokens[ended, lengths[ended] - 1])
    _, trunk = seen.score(tokens, only.sentence, only.position)
    losses = replace(LEARNED, own_is_greedy=True)(replace(seen, batch=copied), trunk, only)
    assert losses.tolist() == [0.0] * len(ended)


@pytest.mark.parametrize("policy", [LEARNED, EVERY_REFERENCE, *map(mixed, UNITS)])
@torch.no_grad()
def test_nothing_to_decide(policy: RollOutPolicy) -> None:
    none = torch.empty(0, dtype=torch.long)
    nowhere: StateChoice = lambda context, trajectories: (none, none)  # type: ignore[assignment]  # noqa: E731
    outcome = top_k(policy, nowhere)(context(), trajectories_of(GREEDY))
    assert len(outcome.decisions) == len(outcome.costs.costs) == outcome.roll_outs == 0


def test_where_it_looks_has_no_influence_on_what_is_found_there() -> None:
    everywhere, some = (
        searched(top_k(mixed("decision"))),
        searched(top_k(mixed("decision"), StateChoice("uniform", 2))),
    )
    chosen = StateChoice("uniform", 2)(context(), trajectories_of(GREEDY))
    assert torch.equal(some.decisions.sentence, chosen[0])
    assert torch.equal(some.decisions.position, chosen[1])
    for n, (row, position) in enumerate(zip(chosen[0], chosen[1], strict=True)):
        same = (everywhere.decisions.sentence == row) & (everywhere.decisions.position == position)
        assert torch.equal(some.costs.costs[n], everywhere.costs.costs[same][0])


@COSTS
@ROLL_INS
def test_the_costs_of_the_full_vocabulary_agree_with_those_of_the_listed_actions(
    cost: OnTokens, roll_in: RollIn
) -> None:
    listed = searched(top_k(RollOutPolicy("reference", cost, Suffix(cost))), roll_in)
    full = searched(ReferenceCosts(ALL, Suffix(cost)), roll_in)
    assert torch.equal(full.decisions.sentence, listed.decisions.sentence)
    assert torch.equal(full.decisions.position, listed.decisions.position)
    assert full.costs.other is not None
    assert full.roll_outs == 0
    for n in range(len(listed.decisions)):
        every = full.costs.other[n].repeat(shared_policy().model.config.vocab_size)
        known = full.decisions.mask[n]
        every[full.decisions.actions[n, known]] = full.costs.costs[n, known]
        real = listed.decisions.mask[n]
        found = every[listed.decisions.actions[n, real]]
        torch.testing.assert_close(listed.costs.costs[n, real], found - found.min(), atol=1e-6, rtol=0)
