"""The fast decoder against Hugging Face's `generate` and against decoding word by word without a cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import MarianMTModel

from l2s_nmt.data.batches import Batch
from l2s_nmt.decoder_state import Memory
from l2s_nmt.errors import UserError
from l2s_nmt.model import Policy, Term
from l2s_nmt.search.sampling import greedy
from tests.tiny import (
    FAMILIES,
    POSITIONS,
    VOCABULARY,
    every_state,
    finish,
    new_policy,
    next_scores,
    random_batch,
    shared_policy,
    source_of,
)

families = pytest.mark.parametrize("family", FAMILIES)


@torch.no_grad()
def memory_of(policy: Policy, batch: Batch) -> Memory:
    return policy.encode(batch.source, batch.source_mask)


def rolled(policy: Policy, batch: Batch, limits: Tensor) -> list[list[int]]:
    tokens, lengths = policy.roll(memory_of(policy, batch), limits, greedy)
    assert tokens.shape == (len(batch), lengths.max())
    for row, length in zip(tokens, lengths, strict=True):
        assert (row[length:] == policy.pad).all()
    return [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)]


def scores_by_forward(policy: Policy, batch: Batch, rows: Tensor, sentence: Tensor, states: Tensor) -> Tensor:
    """What the losses of a training step are shown, in two terms."""
    seen: list[Tensor] = []

    def loss(part: slice, scores: Tensor) -> Tensor:
        seen.append(scores.detach().clone())
        return scores.sum()

    half = len(states) // 2
    terms = [Term(states[:half], loss), Term(states[half:], loss, whole=True)]
    policy(batch.source, batch.source_mask, rows, sentence, terms)
    return torch.cat(seen)


@families
def test_models_end_sentences_at_different_times(family: str) -> None:
    # What the other tests rest on: a model that never ends, or always at once, would prove little.
    policy, batch = shared_policy(family), random_batch(shared_policy(family), 24)
    sentences = rolled(policy, batch, torch.full((24,), 5))
    assert len({len(sentence) for sentence in sentences}) >= 3
    assert len({token for sentence in sentences for token in sentence}) >= 6
    assert any(sentence[-1] != policy.eos for sentence in sentences)


@families
@pytest.mark.parametrize("limit", [1, 2, 11])
def test_greedy_roll_equals_generate(family: str, limit: int) -> None:
    policy = shared_policy(family)
    batch = random_batch(policy, 16, seed=3)
    generated = policy.model.generate(
        input_ids=batch.source,
        attention_mask=batch.source_mask.long(),
        max_length=limit + 1,
        num_beams=1,
        do_sample=False,
        bad_words_ids=[[policy.pad]],
    )[:, 1:]
    tokens, _ = policy.roll(memory_of(policy, batch), torch.full((16,), limit), greedy)
    assert tokens.tolist() == generated.tolist()


@families
def test_roll_equals_decoding_without_cache_within_the_limit_of_each_row(family: str) -> None:
    policy, batch = shared_policy(family), random_batch(shared_policy(family), 14, seed=4)
    limits = torch.arange(14) % 9 + 1
    expected = [finish(policy, source_of(batch, row), [], int(limits[row])) for row in range(14)]
    assert rolled(policy, batch, limits) == expected


@families
def test_roll_does_not_depend_on_order_or_companions(family: str) -> None:
    policy, batch = shared_policy(family), random_batch(shared_policy(family), 10, seed=5)
    limits = torch.arange(10) % 4 + 7
    whole = rolled(policy, batch, limits)
    order = torch.tensor([7, 2, 9, 0, 4, 1, 8, 3, 6, 5])
    assert rolled(policy, batch.select(order), limits[order]) == [whole[row] for row in order]
    for row in range(10):
        alone = torch.tensor([row])
        assert rolled(policy, batch.select(alone), limits[alone]) == [whole[row]]


def test_roll_shows_each_choice_the_scores_after_what_was_chosen_before() -> None:
    policy, batch = shared_policy(), random_batch(shared_policy(), 5, seed=6)
    written: dict[int, list[int]] = {row: [] for row in range(5)}
    draw = torch.Generator().manual_seed(0)

    def choose(scores: Tensor, step: int, rows: Tensor) -> Tensor:
        assert scores.shape == (len(rows), VOCABULARY)
        assert (scores[:, policy.pad] == -torch.inf).all()
        chosen = torch.randint(0, VOCABULARY - 1, (len(rows),), generator=draw)
        for row, row_scores, token in zip(rows.tolist(), scores, chosen.tolist(), strict=True):
            assert len(written[row]) == step
            torch.testing.assert_close(row_scores, next_scores(policy, source_of(batch, row), written[row]))
            written[row].append(token)
        return chosen

    limits = torch.tensor([3, 9, 1, 6, 9])
    tokens, lengths = policy.roll(memory_of(policy, batch), limits, choose)
    for row in range(5):
        assert tokens[row, : lengths[row]].tolist() == written[row]
        assert lengths[row] == limits[row] or written[row][-1] == policy.eos
        assert policy.eos not in written[row][:-1]


@families
def test_scores_are_those_after_each_prefix_with_and_without_a_cache(family: str) -> None:
    policy, batch = shared_policy(family), random_batch(shared_policy(family), 5, seed=7)
    with torch.no_grad():
        memory = memory_of(policy, batch)
        scores = policy.score(memory, batch.target)
        prefilled, _ = policy.prefill(memory, batch.target, every_state(batch.target))
    masked = policy.mask_scores(scores.clone())
    assert torch.isneginf(masked[..., policy.pad]).all()
    assert torch.isfinite(scores).all()
    torch.testing.assert_close(prefilled, masked.flatten(0, 1))
    for row, length in enumerate(batch.target_lengths.tolist()):
        for position in range(length):
            prefix = batch.target[row, :position].tolist()
            expected = next_scores(policy, source_of(batch, row), prefix)
            torch.testing.assert_close(masked[row, position], expected)


@families
def test_only_the_states_asked_for_are_scored_in_their_order(family: str) -> None:
    policy, batch = shared_policy(family), random_batch(shared_policy(family), 4, seed=8)
    states = torch.randperm(batch.target.numel(), generator=torch.Generator().manual_seed(0))[:9]
    states[-1] = states[0]
    with torch.no_grad():
        memory = memory_of(policy, batch)
        some, _ = policy.prefill(memory, batch.target, states)
        same = scores_by_forward(policy, batch, batch.target, torch.arange(4), states)
        every = policy.score(memory, batch.target).flatten(0, 1)
    assert every.shape == (batch.target.numel(), VOCABULARY)
    torch.testing.assert_close(same, every[states])
    torch.testing.assert_close(some, policy.mask_scores(every)[states])


@families
def test_forward_pairs_each_target_row_with_its_source(family: str) -> None:
    policy, batch = shared_policy(family), random_batch(shared_policy(family), 4, seed=8)
    sentence = torch.tensor([2, 0, 0, 3, 2])
    rows = random_batch(policy, 5, seed=9).target
    with torch.no_grad():
        together = scores_by_forward(policy, batch, rows, sentence, every_state(rows))
        for index in range(5):
            one, row = sentence[index : index + 1], rows[index : index + 1]
            alone = scores_by_forward(policy, batch.select(one), row, torch.tensor([0]), every_state(row))
            torch.testing.assert_close(together.view(5, -1, VOCABULARY)[index], alone)


@families
def test_no_state_at_all_gives_every_weight_a_gradient_of_zero(family: str) -> None:
    """Other processes, which have states, wait for it."""
    policy = new_policy(family)
    batch = random_batch(policy, 4, seed=7)

    def weights_with_gradient(states: Tensor) -> set[str]:
        policy.zero_grad()
        term = Term(states, lambda part, scores: scores.sum())
        loss = policy(batch.source, batch.source_mask, batch.target, torch.arange(4), [term])
        loss.backward()
        assert bool(loss == 0) == (len(states) == 0)
        return {name for name, weight in policy.named_parameters() if weight.grad is not None}

    with_states = weights_with_gradient(torch.arange(5))
    assert weights_with_gradient(torch.arange(0)) == with_states
    assert all(not weight.grad.any() for weight in policy.parameters() if weight.grad is not None)


def test_what_fails_leaves_the_policy_as_it_was() -> None:
    policy, batch = new_policy(), random_batch(shared_policy(), 3)
    with pytest.raises(IndexError):
        scores_by_forward(policy, batch, torch.full((3, 2), 10_000), torch.arange(3), torch.arange(2))
    expected = shared_policy().score(memory_of(shared_policy(), batch), batch.target)
    torch.testing.assert_close(policy.score(memory_of(policy, batch), batch.target), expected)
    own = policy.model(input_ids=batch.source, decoder_input_ids=batch.target).logits
    assert own.shape == (*batch.target.shape, VOCABULARY)


@pytest.mark.parametrize("name", ["pad", "eos", "start"])
def test_a_model_without_special_tokens_is_refused(name: str) -> None:
    key = {"pad": "pad_token_id", "eos": "eos_token_id", "start": "decoder_start_token_id"}[name]
    model = new_policy().model
    model.config.__dict__[key] = None
    setattr(model.generation_config, key, None)
    with pytest.raises(UserError, match=rf"\(config\.json\) has no .*{name}"):
        Policy(model)


def test_a_model_that_cannot_write_its_end_is_refused() -> None:
    model = new_policy().model
    model.config.pad_token_id = model.config.eos_token_id
    with pytest.raises(UserError, match="give padding one of its own"):
        Policy(model)


def test_a_bias_of_the_output_layer_counts_everywhere() -> None:
    model = new_policy().model
    draw = torch.Generator().manual_seed(2)
    model.final_logits_bias += torch.randn(VOCABULARY, generator=draw, dtype=torch.float64)
    policy, batch = Policy(model), random_batch(shared_policy(), 4, seed=10)
    states = every_state(batch.target)
    with torch.no_grad():
        memory = memory_of(policy, batch)
        own = policy.model(
            input_ids=batch.source,
            attention_mask=batch.source_mask.long(),
            decoder_input_ids=policy._shifted(batch.target),
        ).logits
        torch.testing.assert_close(policy.score(memory, batch.target), own)
        torch.testing.assert_close(
            scores_by_forward(policy, batch, batch.target, torch.arange(4), states), own.flatten(0, 1)
        )
    expected = [finish(policy, source_of(batch, row), [], 6) for row in range(4)]
    assert rolled(policy, batch, torch.full((4,), 6)) == expected


def test_a_model_that_changes_its_scores_afterwards_is_refused() -> None:
    class Capped(MarianMTModel):  # type: ignore[misc]
        def forward(self, *arguments: Any, **options: Any) -> Any:
            output = super().forward(*arguments, **options)
            output.logits = 0.5 * torch.tanh(output.logits / 0.5)
            return output

    with pytest.raises(UserError, match="Capped: models that change the scores"):
        Policy(Capped(new_policy().model.config))


@pytest.mark.parametrize("training", [True, False])
def test_making_a_policy_leaves_its_model_in_the_mode_it_was_in(training: bool) -> None:
    assert Policy(new_policy().model.train(training)).model.training == training


def test_a_policy_holds_the_weights_of_its_model_and_no_others() -> None:
    policy = new_policy()
    assert set(policy.state_dict()) == {f"model.{name}" for name in policy.model.state_dict()}


def test_of_several_end_tokens_the_first_ends_a_sentence() -> None:
    policy = new_policy()
    policy.model.config.eos_token_id = [0, 5]
    assert Policy(policy.model).eos == 0


def test_positions_are_those_of_the_model_unless_they_are_relative() -> None:
    assert [shared_policy(family).positions for family in FAMILIES] == [POSITIONS, None, POSITIONS]
