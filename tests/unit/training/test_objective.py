"""The objective against Hugging Face's own loss, separate forwards, finite differences, and itself in parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import backward

from l2s_nmt.data.batches import Batch
from l2s_nmt.decoder_state import Memory
from l2s_nmt.errors import UserError
from l2s_nmt.model import Policy, Term
from l2s_nmt.search.losses.table import LOSSES
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.search import Experience, Search
from l2s_nmt.search.types import CostVectors, Decisions
from l2s_nmt.training.build import build_objective
from l2s_nmt.training.objective import Counts, Losses, Objective
from tests.searches import recipe_of, search_of
from tests.tiny import FAMILIES, new_policy, next_scores, random_batch, source_of

SAMPLING = {"decoding": "sample", "temperature": 1.0}
LOLS = search_of("lols", roll_in=SAMPLING, decisions={"per_sentence": 2, "k": 3})
AGGREVATED = search_of("aggrevated", roll_in=SAMPLING)
EXPECTED_COST = LOSSES["expected_cost"].function
TEACHER_FORCING = Objective(
    loss=None, weight=0.0, cross_entropy=1.0, label_smoothing=0.0, alpha=1.0, support="vocabulary"
)
BOTH = Objective(EXPECTED_COST, 2.0, 0.5, 0.1, alpha=3.0, support="vocabulary")


@torch.no_grad()
def searched(search: Search, policy: Policy, batch: Batch) -> Experience:
    return search(policy, batch, Draws(1, 1))


def counts_of(batch: Batch, experience: Experience | None) -> Counts:
    return Counts(float(batch.target_tokens), float(len(experience.decisions)) if experience else 0.0)


def value(objective: Objective, policy: Policy, batch: Batch, experience: Experience | None) -> Tensor:
    return objective(policy, batch, experience, counts_of(batch, experience))[0]


class Seen:
    """Watches the scores at the searched states."""

    def __init__(self) -> None:
        self.parts: list[tuple[Tensor, Decisions, CostVectors]] = []

    def __call__(self, scores: Tensor, decisions: Decisions, costs: CostVectors) -> None:
        assert not scores.requires_grad
        assert len(scores) == len(decisions) == len(costs.costs)
        self.parts.append((scores.clone(), decisions, costs))

    @property
    def scores(self) -> Tensor:
        return torch.cat([scores for scores, _, _ in self.parts])


def gradients(policy: Policy) -> list[Tensor]:
    taken = [p.grad.clone() for p in policy.parameters() if p.grad is not None]
    policy.zero_grad(set_to_none=True)
    return taken


@pytest.mark.parametrize("family", FAMILIES)
def test_teacher_forcing_is_hugging_faces_loss(family: str) -> None:
    policy = new_policy(family)
    batch = random_batch(policy, 7, seed=1)
    inside = torch.arange(batch.target.shape[1]) < batch.target_lengths[:, None]
    theirs = policy.model(
        input_ids=batch.source,
        attention_mask=batch.source_mask,
        labels=batch.target.masked_fill(~inside, -100),
    ).loss
    ours, terms = TEACHER_FORCING(policy, batch, None, counts_of(batch, None))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(terms.cross_entropy, theirs.detach() * batch.target_tokens)
    assert terms.search == 0
    backward(theirs)
    expected = gradients(policy)
    backward(ours)
    for found, wanted in zip(gradients(policy), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_label_smoothing_mixes_in_the_uniform_distribution() -> None:
    policy = new_policy()
    batch = random_batch(policy, 5, seed=2)
    log_probs = policy.score(policy.encode(batch.source, batch.source_mask), batch.target).log_softmax(-1)
    expected = torch.zeros((), dtype=torch.float64)
    for row, length in enumerate(batch.target_lengths.tolist()):
        for position in range(length):
            at = log_probs[row, position]
            expected -= 0.8 * at[batch.target[row, position]] + 0.2 * at.mean()
    smoothed = replace(TEACHER_FORCING, label_smoothing=0.2)
    torch.testing.assert_close(value(smoothed, policy, batch, None), expected / batch.target_tokens)


@pytest.mark.parametrize("search", [None, AGGREVATED], ids=["teacher forcing", "aggrevated"])
def test_two_readings_without_dropout_are_one(search: Search | None) -> None:
    policy = new_policy()
    batch = random_batch(policy, 40, seed=3)  # of more states than scores are made of at once
    experience = searched(search, policy, batch) if search else None
    counts = counts_of(batch, experience)
    found = []
    for objective in (BOTH, replace(BOTH, consistency=3.0)):
        loss, terms = objective(policy, batch, experience, counts)
        backward(loss)
        found.append((loss.detach(), terms, gradients(policy)))
    (once, terms, expected), (twice, same, both) = found
    torch.testing.assert_close(once, twice)
    torch.testing.assert_close((terms.cross_entropy, terms.search), (same.cross_entropy, same.search))
    torch.testing.assert_close(both, expected)


@pytest.mark.parametrize("search", [None, AGGREVATED], ids=["teacher forcing", "aggrevated"])
def test_two_readings_shall_agree(search: Search | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With noise in the second encoding in place of dropout, so that both readings are known."""
    policy = new_policy()
    batch = random_batch(policy, 40, seed=4)
    experience = searched(search, policy, batch) if search else None
    encode, noise = policy.encode, torch.Generator().manual_seed(5)

    def readings(source: Tensor, mask: Tensor) -> Memory:
        memory = encode(source, mask)
        shift = torch.randn(memory.hidden[len(batch) :].shape, generator=noise.manual_seed(5))
        return Memory(torch.cat([memory.hidden[: len(batch)], memory.hidden[len(batch) :] + shift]), mask)

    first = encode(batch.source, batch.source_mask)
    twice = readings(batch.source.repeat(2, 1), batch.source_mask.repeat(2, 1))
    second = Memory(twice.hidden[len(batch) :], batch.source_mask)
    inside = torch.arange(batch.target.shape[1]) < batch.target_lengths[:, None]
    p, q = (policy.score(memory, batch.target)[inside] for memory in (first, second))
    entropy = [
        F.cross_entropy(scores, batch.target[inside], reduction="sum", label_smoothing=0.1)
        for scores in (p, q)
    ]
    divergence = [
        F.kl_div(some.log_softmax(1), other.log_softmax(1), reduction="sum", log_target=True)
        for some, other in ((p, q), (q, p))
    ]
    assert float(divergence[0].detach()) > 1
    counts = counts_of(batch, experience)
    objective = BOTH if search else replace(BOTH, loss=None)
    alone = value(replace(objective, cross_entropy=0.0), policy, batch, experience)
    mean, apart = torch.stack(entropy).mean(), torch.stack(divergence).mean()
    expected = alone + 0.5 * (mean + 3.0 * apart) / counts.tokens
    monkeypatch.setattr(policy, "encode", readings)
    loss, terms = replace(objective, consistency=3.0)(policy, batch, experience, counts)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(terms.cross_entropy, mean.detach())
    backward(loss)
    both = gradients(policy)
    backward(expected)
    torch.testing.assert_close(both, gradients(policy))


def test_states_that_belong_together_are_not_parted() -> None:
    parts = [*new_policy()._parts(Term(torch.arange(999), lambda states, scores: scores.sum(), together=3))]
    assert len(parts) > 1
    assert {part.start % 3 for part in parts} == {part.stop % 3 for part in parts[:-1]} == {0}
    assert [row for part in parts for row in range(999)[part]] == [*range(999)]


def test_states_of_several_trajectories_count_as_if_each_were_looked_at() -> None:
    policy = new_policy()
    batch = random_batch(policy, 40, seed=6)  # of more states than scores are made of at once
    search = replace(AGGREVATED, samples=6)
    apart = replace(
        search, roll_out=lambda context, found: search.roll_out(replace(context, source=None), found)
    )
    results = []
    for each in (search, apart):
        experience = searched(each, policy, batch)
        counts = Counts(float(batch.target_tokens), experience.decisions.total_visits())
        loss, terms = BOTH(policy, batch, experience, counts)
        backward(loss)
        results.append(
            (len(experience.decisions), counts.states, loss.detach(), terms.search, gradients(policy))
        )
    (fewer, states, *shared), (all_states, same_states, *separate) = results
    assert fewer < all_states == states == same_states
    torch.testing.assert_close(shared, separate)


OF_SINGLE_STATES = [
    name for name, row in LOSSES.items() if not row.whole_translations and not row.compares_prefixes
]


@pytest.mark.parametrize("name", OF_SINGLE_STATES)
@pytest.mark.parametrize("search", [LOLS, AGGREVATED], ids=["lols", "aggrevated"])
@pytest.mark.parametrize("cross_entropy", [0.0, 0.5])
def test_the_terms_are_those_of_separate_forwards(name: str, search: Search, cross_entropy: float) -> None:
    policy = new_policy()
    batch = random_batch(policy, 6, seed=3)
    experience = searched(search, policy, batch)
    objective = replace(BOTH, loss=LOSSES[name].function, cross_entropy=cross_entropy)
    counts = Counts(tokens=70.0, states=30.0)
    seen = Seen()
    total, terms = objective(policy, batch, experience, counts, seen)

    logits = policy.score(policy.encode(batch.source, batch.source_mask), experience.trajectories.tokens)
    at_states = logits[experience.decisions.sentence, experience.decisions.position]
    apart = (
        LOSSES[name]
        .function(at_states, experience.decisions, experience.costs, alpha=3.0, support="vocabulary")
        .sum()
    )
    entropy = value(replace(TEACHER_FORCING, label_smoothing=0.1), policy, batch, None) * batch.target_tokens
    expected = cross_entropy * entropy / 70 + 2.0 * apart / 30
    torch.testing.assert_close(seen.scores, at_states)
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(terms.search, apart.detach())
    if cross_entropy:
        torch.testing.assert_close(terms.cross_entropy, entropy.detach())
    else:
        assert terms.cross_entropy is None
    assert not terms.search.requires_grad
    assert apart.abs() > 1e-3

    backward(total)
    together = gradients(policy)
    backward(expected)
    for found, wanted in zip(together, gradients(policy), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("search", [None, LOLS, AGGREVATED], ids=["teacher forcing", "lols", "aggrevated"])
def test_parts_add_up_to_the_whole(search: Search | None) -> None:
    policy = new_policy()
    batch = random_batch(policy, 8, seed=4)
    objective = BOTH if search else TEACHER_FORCING
    whole_experience = searched(search, policy, batch) if search else None
    counts = counts_of(batch, whole_experience)
    whole, whole_terms = objective(policy, batch, whole_experience, counts)
    backward(whole)
    expected = gradients(policy)
    total, sums = torch.zeros((), dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for row in range(8):
        part = batch.select(torch.tensor([row]))
        experience = searched(search, policy, part) if search else None
        share, terms = objective(policy, part, experience, counts)
        backward(share)
        assert terms.cross_entropy is not None
        total, sums = total + share.detach(), sums + torch.stack([terms.cross_entropy, terms.search])
    assert whole_terms.cross_entropy is not None
    torch.testing.assert_close(total, whole.detach())
    torch.testing.assert_close(sums, torch.stack([whole_terms.cross_entropy, whole_terms.search]))
    for found, wanted in zip(gradients(policy), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("search", [LOLS, AGGREVATED], ids=["lols", "aggrevated"])
def test_gradient_against_finite_differences(search: Search) -> None:
    policy = new_policy()
    batch = random_batch(policy, 4, seed=5)
    experience = searched(search, policy, batch)  # the same at each point: the search has no gradient
    backward(value(BOTH, policy, batch, experience))
    draw = torch.Generator().manual_seed(0)
    embeddings = [module.weight for module in policy.modules() if isinstance(module, torch.nn.Embedding)]
    for parameter in policy.parameters():
        gradient = parameter.grad
        if gradient is None:
            continue
        direction = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
        if any(parameter is weight for weight in embeddings):
            direction[policy.pad] = 0  # torch.nn.Embedding does not train the row of the padding token
        step = 1e-6
        with torch.no_grad():
            parameter.add_(direction, alpha=step)
            above = value(BOTH, policy, batch, experience)
            parameter.add_(direction, alpha=-2 * step)
            below = value(BOTH, policy, batch, experience)
            parameter.add_(direction, alpha=step)
        slope = (above - below) / (2 * step)
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("algorithm", ["reinforce", "minimum_risk"])
def test_several_trajectories_of_a_sentence_are_scored_with_its_source(algorithm: str) -> None:
    policy = new_policy()
    batch = random_batch(policy, 5, seed=4)
    experience = searched(search_of(algorithm, roll_in={"samples": 3}), policy, batch)
    assert experience.owner.tolist() == [row for row in range(5) for _ in range(3)]
    function = LOSSES[recipe_of(algorithm).search.loss.name].function
    seen = Seen()
    replace(BOTH, loss=function, whole=True)(policy, batch, experience, Counts(1.0, 1.0), seen)
    states = zip(experience.decisions.sentence.tolist(), experience.decisions.position.tolist(), strict=True)
    for n, (row, position) in enumerate(states):
        prefix = experience.trajectories.tokens[row, :position].tolist()
        expected = next_scores(policy, source_of(batch, int(experience.owner[row])), prefix)
        possible = expected.isfinite()  # all but the padding token
        torch.testing.assert_close(seen.scores[n, possible], expected[possible])


@pytest.mark.parametrize("search", [LOLS, AGGREVATED], ids=["lols", "aggrevated"])
def test_a_constant_added_to_all_costs_leaves_the_gradient_of_the_expected_cost(search: Search) -> None:
    policy = new_policy()
    batch = random_batch(policy, 5, seed=6)
    experience = searched(search, policy, batch)
    shift = torch.linspace(-1, 2, len(experience.decisions))  # another constant at each state
    costs = experience.costs
    moved = CostVectors(
        (costs.costs + shift[:, None]).masked_fill(~experience.decisions.mask, 0),
        None if costs.other is None else costs.other + shift,
    )
    objective = replace(BOTH, cross_entropy=0.0)
    backward(value(objective, policy, batch, experience))
    expected = gradients(policy)
    backward(value(objective, policy, batch, replace(experience, costs=moved)))
    found = gradients(policy)
    assert max(float(gradient.abs().max()) for gradient in expected) > 1e-3
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_what_stands_behind_the_sentences_has_no_influence() -> None:
    policy = new_policy()
    batch = random_batch(policy, 5, seed=7)
    experience = searched(LOLS, policy, batch)
    expected = value(BOTH, policy, batch, experience)
    noise = replace(
        batch,
        target=_scribbled(batch.target, batch.target_lengths, 9),
        source=_scribbled(batch.source, batch.source_mask.sum(1), 3),
        source_mask=F.pad(batch.source_mask, (0, 3)),
    )
    trajectories = experience.trajectories
    tokens = _scribbled(trajectories.tokens, trajectories.lengths, 1)
    scribbled = replace(experience, trajectories=replace(trajectories, tokens=tokens))
    torch.testing.assert_close(value(BOTH, policy, noise, scribbled), expected)


def _scribbled(tokens: Tensor, lengths: Tensor, more: int) -> Tensor:
    wider = F.pad(tokens, (0, more), value=4)
    outside = torch.arange(wider.shape[1]) >= lengths[:, None]
    return torch.where(outside, 5, wider)


def test_one_forward_serves_both_terms() -> None:
    policy = new_policy()
    batch = random_batch(policy, 4, seed=8)
    experience = searched(LOLS, policy, batch)
    calls = []
    policy.register_forward_pre_hook(lambda module, arguments: calls.append(len(arguments[2])))
    value(BOTH, policy, batch, experience)
    assert calls == [8]
    value(replace(BOTH, cross_entropy=0.0), policy, batch, experience)
    assert calls == [8, 4]


def test_no_states_and_no_division_by_zero() -> None:
    policy = new_policy()
    batch = random_batch(policy, 3, seed=9)
    experience = searched(LOLS, policy, batch)
    none = torch.empty(0, dtype=torch.long)
    empty = replace(
        experience,
        decisions=replace(
            experience.decisions,
            sentence=none,
            position=none,
            actions=none.view(0, 5),
            mask=none.view(0, 5).bool(),
        ),
        costs=CostVectors(torch.empty(0, 5)),
    )
    found, terms = BOTH(policy, batch, empty, Counts(float(batch.target_tokens), 0.0))
    assert isinstance(terms, Losses)
    assert terms.search == 0
    torch.testing.assert_close(found, value(replace(BOTH, loss=None), policy, batch, None))


@pytest.mark.parametrize(
    "wrong", [lambda each: each.sum(), lambda each: each[1:], lambda each: float(each.detach().sum())]
)
def test_a_loss_that_is_not_one_of_each_state_is_refused(wrong: Callable[[Tensor], Any]) -> None:
    policy, batch = new_policy(), random_batch(new_policy(), 3, seed=2)
    experience = searched(AGGREVATED, policy, batch)

    def loss(*arguments: Any, **settings: Any) -> Any:
        return wrong(EXPECTED_COST(*arguments, **settings))

    with pytest.raises(
        UserError, match=r"search\.loss\.function returned .* must return a tensor with the loss of each"
    ):
        value(replace(BOTH, loss=loss), policy, batch, experience)


def test_a_loss_that_nothing_could_be_learned_from_is_refused() -> None:
    policy, batch = new_policy(), random_batch(new_policy(), 3, seed=2)
    experience = searched(AGGREVATED, policy, batch)

    def loss(*arguments: Any, **settings: Any) -> Tensor:
        return EXPECTED_COST(*arguments, **settings).detach()

    with pytest.raises(
        UserError, match=r"search\.loss\.function returned losses that do not depend on the scores"
    ):
        value(replace(BOTH, loss=loss), policy, batch, experience)
    with torch.no_grad():
        value(replace(BOTH, loss=loss), policy, batch, experience)


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        ("lols", {"loss": {"name": "target_learning", "support": "candidates"}}),
        ("searnn", {"loss": {"support": "candidates"}}),
        ("minimum_risk", {}),
        # More states than are scored at a time.
        (
            "aggrevated",
            {"loss": {"name": "beam_expected_cost", "alpha": 0.7}, "roll_in": {**SAMPLING, "samples": 6}},
        ),
    ],
)
def test_the_objective_of_a_recipe_is_what_it_says(algorithm: str, settings: dict[str, Any]) -> None:
    recipe = recipe_of(algorithm, **settings)
    loss, policy = recipe.search.loss, new_policy()
    batch = random_batch(policy, 24, seed=3)
    found = searched(search_of(algorithm, **settings), policy, batch)
    total, _ = build_objective(recipe)(policy, batch, found, Counts(70.0, 30.0))
    memory = policy.encode(batch.source[found.owner], batch.source_mask[found.owner])
    decisions = found.decisions
    at = policy.score(memory, found.trajectories.tokens)[decisions.sentence, decisions.position]
    if LOSSES[loss.name].of_trajectories:  # of what was written, in which there is no padding
        at[:, policy.pad] = -torch.inf
    function, alpha = LOSSES[loss.name].function, loss.alpha or 1.0
    each = function(at, decisions, found.costs, alpha=alpha, support=loss.support)
    smoothed = replace(TEACHER_FORCING, label_smoothing=recipe.training.label_smoothing)
    entropy = value(smoothed, policy, batch, None) * batch.target_tokens
    expected = loss.cross_entropy * entropy / 70 + loss.weight * decisions.weigh(each).sum() / 30
    torch.testing.assert_close(total, expected)
