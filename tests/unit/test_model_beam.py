"""Beam search within the limit of each sentence, against the library for each alone, and against brute force."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.model import Policy
from l2s_nmt.search.sampling import greedy
from tests.tiny import FAMILIES, new_policy, next_scores, random_batch, shared_policy, source_of, words

families = pytest.mark.parametrize("family", FAMILIES)


@torch.no_grad()
def searched(policy: Policy, batch: Batch, limits: Tensor, beam: int, best: int = 1) -> list[list[int]]:
    tokens, lengths = policy.beam_search(policy.encode(batch.source, batch.source_mask), limits, beam, best)
    assert tokens.shape == (len(batch) * best, lengths.max())
    assert (lengths <= limits.repeat_interleave(best)).all()
    for row, length in zip(tokens, lengths, strict=True):
        assert (row[length:] == policy.pad).all()
    return [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)]


def alone(policy: Policy, source: list[int], limit: int, beam: int) -> list[int]:
    """Beam search by the library for one sentence, without padding."""
    tokens: list[int] = policy.model.generate(
        input_ids=torch.tensor([source]),
        num_beams=beam,
        do_sample=False,
        max_new_tokens=limit,
        bad_words_ids=[[policy.pad]],
        renormalize_logits=True,
    )[0, 1:].tolist()
    return tokens


@families
def test_each_sentence_is_searched_for_as_if_alone_within_its_limit(family: str) -> None:
    policy, batch = shared_policy(family), random_batch(shared_policy(family), 10, seed=3)
    limits = torch.tensor([9, 2, 3, 4, 5, 9, 3, 6, 1, 4])
    expected = [alone(policy, source_of(batch, row), int(limits[row]), 3) for row in range(10)]
    assert searched(policy, batch, limits, 3) == expected
    ends = [
        (row[-1] == policy.eos, len(row) == limit)
        for row, limit in zip(expected, limits.tolist(), strict=True)
    ]
    assert {(True, False), (False, True)} <= set(ends)


def test_what_is_best_depends_on_the_limit() -> None:
    # What the test above rests on: to cut the best of the longer sentences would not do.
    policy, batch = shared_policy(), random_batch(shared_policy(), 24, seed=3)
    long, short = (searched(policy, batch, torch.full((24,), limit), 3) for limit in (9, 3))
    assert any(one[:3] != other for one, other in zip(long, short, strict=True))


@families
def test_a_beam_of_one_is_greedy(family: str) -> None:
    policy, batch = shared_policy(family), random_batch(shared_policy(family), 12, seed=4)
    limits = torch.arange(12) % 7 + 1
    with torch.no_grad():
        tokens, lengths = policy.roll(policy.encode(batch.source, batch.source_mask), limits, greedy)
    assert searched(policy, batch, limits, 1) == [
        row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)
    ]


def best_of_all(policy: Policy, source: list[int], limit: int, best: int) -> list[list[int]]:
    """The sentences of the best mean log-probability a token, of all that end or are as long as the limit."""

    def total(sentence: list[int]) -> Tensor:
        return before[tuple(sentence[:-1])] + after[tuple(sentence[:-1])][sentence[-1]]

    before: dict[tuple[int, ...], Tensor] = {(): torch.tensor(0.0)}
    after: dict[tuple[int, ...], Tensor] = {}
    sentences = []
    for length in range(1, limit + 1):
        for prefix in product(words(policy), repeat=length - 1):
            if prefix:
                before[prefix] = total(list(prefix))
            after[prefix] = next_scores(policy, source, prefix).log_softmax(0)
            last = [policy.eos, *words(policy)] if length == limit else [policy.eos]
            sentences += [[*prefix, token] for token in last]
    sentences.sort(key=lambda sentence: float(total(sentence)) / len(sentence), reverse=True)
    return sentences[:best]


@pytest.mark.parametrize("best", [1, 4])
def test_a_beam_that_holds_every_prefix_finds_the_best_sentences_of_all(best: int) -> None:
    policy, batch = new_policy(), random_batch(shared_policy(), 6, seed=5)
    # Padding is no part of the policy, however probable the model thinks it.
    policy.model.final_logits_bias[0, policy.pad] = 6.0
    limits = torch.tensor([3, 1, 2, 3, 2, 3])
    expected = [
        sentence
        for row in range(6)
        for sentence in best_of_all(policy, source_of(batch, row), int(limits[row]), best)
    ]
    assert searched(policy, batch, limits, 150, best) == expected


def test_the_model_s_own_generation_configuration_has_no_say_and_is_left_as_it_is() -> None:
    policy, batch = new_policy(), random_batch(shared_policy(), 8, seed=6)
    limits = torch.arange(8) % 4 + 2
    expected = searched(shared_policy(), batch, limits, 3)
    own = policy.model.generation_config
    own.forced_eos_token_id = policy.eos
    own.min_length = 7
    own.length_penalty = 5.0
    own.no_repeat_ngram_size = 1
    own.suppress_tokens = [3, 4, 5]
    before = own.to_dict()
    assert searched(policy, batch, limits, 3) == expected
    assert policy.model.generation_config is own
    assert own.to_dict() == before


def test_the_configuration_comes_back_after_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, batch = new_policy(), random_batch(shared_policy(), 3)
    own = policy.model.generation_config

    def fail(**options: object) -> None:
        assert policy.model.generation_config is not own
        raise MemoryError

    monkeypatch.setattr(policy.model, "generate", fail)
    with pytest.raises(MemoryError):
        searched(policy, batch, torch.full((3,), 4), 2)
    assert policy.model.generation_config is own
