"""Other models as the expert: their mean distribution, at every state of anyone's prefixes."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch import Tensor

from l2s_nmt.model import Policy
from l2s_nmt.search.context import Context, see
from l2s_nmt.search.losses.divergences import kl
from l2s_nmt.search.losses.log_loss import target_learning
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.experts import Experts
from l2s_nmt.search.roll_out.reference_costs import ReferenceCosts
from l2s_nmt.search.search import Search
from l2s_nmt.training.build_search import build_search
from tests.searches import LIMIT, TEXTS, recipe_of
from tests.tiny import VOCABULARY, next_scores, other_policies, random_batch, shared_policy, source_of

DRAWS = Draws(3, 4)


def searching(experts: tuple[Policy, ...], listed: int, samples: int = 1) -> Search:
    settings = recipe_of(
        "imitkd", roll_in={"policy": "learned", "samples": samples}, decisions={"k": listed}
    ).search
    stages = build_search(settings, LIMIT, TEXTS, experts=experts)
    assert stages is not None
    return stages


def context(size: int = 5) -> Context:
    policy = shared_policy()
    return see(policy, random_batch(policy, size, seed=6), DRAWS, LIMIT)


def all_states(tokens: Tensor) -> tuple[Tensor, Tensor]:
    rows, width = tokens.shape
    return torch.arange(rows).repeat_interleave(width), torch.arange(width).repeat(rows)


def expected(experts: tuple[Policy, ...], seen: Context, tokens: Tensor) -> Tensor:
    """(N, V) mean probabilities at every state, one sentence and one prefix at a time."""
    found = []
    for row, position in zip(*all_states(tokens), strict=True):
        source, prefix = source_of(seen.batch, int(row)), tokens[row, :position].tolist()
        scores = [expert.mask_scores(next_scores(expert, source, prefix)) for expert in experts]
        found.append(torch.stack([each.softmax(-1) for each in scores]).mean(0))
    return torch.stack(found)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("listed", [1, 4, VOCABULARY, VOCABULARY + 5])
def test_a_token_costs_minus_the_logarithm_of_the_mean_probability(number: int, listed: int) -> None:
    experts, seen = other_policies(number), context()
    tokens = seen.batch.target
    wanted = expected(experts, seen, tokens)
    decisions, costs = Experts(experts, listed).costs(seen, tokens, *all_states(tokens))
    assert decisions.actions.shape == (tokens.numel(), min(listed, VOCABULARY))
    assert decisions.mask.all()
    tiny = torch.finfo(torch.float32).tiny  # what the pad token gets, which nobody expects
    most = wanted.topk(min(listed, VOCABULARY)).values.clamp(min=tiny).log()
    torch.testing.assert_close(costs.costs, (most[:, :1] - most).float(), atol=1e-4, rtol=1e-4)
    if listed < VOCABULARY:
        rest = wanted.scatter(1, decisions.actions, 0.0).sum(1) / (VOCABULARY - listed)
        assert costs.other is not None
        torch.testing.assert_close(costs.other, (most[:, 0] - rest.log()).float(), atol=1e-4, rtol=1e-4)


def test_what_is_left_for_others_is_exact_where_it_is_next_to_nothing() -> None:
    """One less what is listed would be the error of the sum."""
    scores = torch.tensor([[0.0, -1.0, -20.0, -21.0, -22.0]])
    expert = mock.Mock(spec=Policy)
    expert.next_scores.side_effect = lambda hidden: hidden
    _, _, rest = Experts((expert,), 2)._mean([scores])
    torch.testing.assert_close(rest.double(), scores.double().softmax(-1)[:, 2:].sum(1), rtol=1e-4, atol=0)


def test_kl_imitates_the_whole_distribution_and_target_learning_its_peak() -> None:
    experts, seen = other_policies(2), context()
    tokens = seen.batch.target
    wanted = expected(experts, seen, tokens)
    decisions, costs = Experts(experts, VOCABULARY).costs(seen, tokens, *all_states(tokens))
    scores = torch.randn(len(wanted), VOCABULARY, dtype=torch.double, requires_grad=True)
    options = {"alpha": 1.0, "support": "vocabulary"}
    loss = kl(scores, decisions, costs, **options)  # type: ignore[arg-type]
    entropy = torch.special.entr(wanted).sum(1)
    cross_entropy = -(wanted * scores.log_softmax(-1)).sum(1)
    torch.testing.assert_close(loss, cross_entropy - entropy, atol=1e-4, rtol=1e-4)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(scores.grad, scores.detach().softmax(-1) - wanted, atol=1e-4, rtol=1e-4)
    peak = target_learning(scores, decisions, costs, **options)  # type: ignore[arg-type]
    best = wanted.argmax(1, keepdim=True)
    torch.testing.assert_close(peak, -scores.log_softmax(-1).gather(1, best)[:, 0])


def test_who_is_its_own_expert_has_nothing_to_learn() -> None:
    seen = context()
    tokens = seen.batch.target
    states = all_states(tokens)
    decisions, costs = Experts((shared_policy(),), VOCABULARY).costs(seen, tokens, *states)
    scores = seen.score(tokens, *states)[0].clamp(min=-1e4).requires_grad_()
    loss = kl(scores, decisions, costs, alpha=1.0, support="vocabulary")
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert loss.abs().max() < 1e-4
    assert scores.grad is not None
    assert scores.grad.abs().max() < 1e-5


def test_no_target_is_asked_for() -> None:
    experts, seen = Experts(other_policies(2), 4), context()
    tokens, batch = seen.batch.target, seen.batch
    nothing = replace(
        seen,
        batch=replace(
            batch,
            references=batch.references[:, :0],
            reference_lengths=batch.reference_lengths[:, :0],
        ),
    )
    one, other = (experts.costs(each, tokens, *all_states(tokens)) for each in (seen, nothing))
    assert torch.equal(one[0].actions, other[0].actions)
    assert torch.equal(one[1].costs, other[1].costs)


def test_samples_share_their_prefixes_and_experts_read_each_source_once() -> None:
    experts = other_policies(2)
    batch = context(7).batch
    with ExitStack() as patches:
        spies = [
            patches.enter_context(mock.patch.object(expert, "encode", wraps=expert.encode))
            for expert in experts
        ]
        found = searching(experts, 4, samples=6)(shared_policy(), batch, DRAWS)
    assert [sum(len(call.args[0]) for call in spy.call_args_list) for spy in spies] == [7, 7]
    trajectories, decisions = found.trajectories, found.decisions
    assert decisions.total_visits() == trajectories.lengths.sum()
    prefixes = [
        (int(found.owner[row]), *trajectories.tokens[row, :position].tolist())
        for row, position in zip(decisions.sentence, decisions.position, strict=True)
    ]
    assert len(set(prefixes)) == len(prefixes) < decisions.total_visits()
    seen = see(shared_policy(), batch, DRAWS, LIMIT)
    for state in range(0, len(prefixes), 9):
        row, *prefix = prefixes[state]
        source = source_of(seen.batch, row)
        mean = torch.stack(
            [expert.mask_scores(next_scores(expert, source, prefix)).softmax(-1) for expert in experts]
        ).mean(0)
        assert decisions.actions[state].tolist() == mean.topk(4).indices.tolist()


def test_the_order_of_a_batch_changes_nothing() -> None:
    search = searching(other_policies(2), 4)
    batch = context(6).batch
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    one = search(shared_policy(), batch, DRAWS)
    other = search(shared_policy(), batch.select(order), DRAWS)
    for row, place in enumerate(order.tolist()):
        here, there = one.decisions.sentence == place, other.decisions.sentence == row
        assert torch.equal(one.decisions.actions[here], other.decisions.actions[there])
        torch.testing.assert_close(one.costs.costs[here], other.costs.costs[there], atol=1e-5, rtol=1e-4)


def test_the_prefixes_of_a_beam_can_be_priced_as_well() -> None:
    settings = recipe_of(
        "imitkd",
        roll_in={"policy": "learned", "samples": 4},
        loss={"name": "beam_expected_cost"},
    ).search
    stages = build_search(settings, LIMIT, TEXTS, experts=other_policies(1))
    assert stages is not None
    assert isinstance(stages.roll_out, ReferenceCosts)
    assert stages.roll_out.linked
    found = stages(shared_policy(), context().batch, DRAWS)
    assert found.decisions.parent is not None
