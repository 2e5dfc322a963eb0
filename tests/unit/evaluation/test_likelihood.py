from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.likelihood import Given, Likelihood, cost_settings, measure_likelihood
from l2s_nmt.model import Policy
from l2s_nmt.processes import Processes
from l2s_nmt.search.costs.bleu import SentenceBleu
from l2s_nmt.search.costs.cost import OnTokens
from l2s_nmt.search.costs.edit_distance import edit_distance_cost
from tests.searches import recipe_of
from tests.threads import in_threads
from tests.tiny import FAMILIES, finish, new_policy, random_sentences, shared_policy

COSTS = {"bleu": OnTokens(SentenceBleu()), "edits": OnTokens(edit_distance_cost)}


def given(policy: Policy, count: int = 12) -> list[Given]:
    """Some translations are the model's own; the numbers of references differ."""
    sources = random_sentences(policy, count, seed=3, shortest=2)
    others = random_sentences(policy, 3 * count, seed=4)
    found = []
    for row, source in enumerate(sources):
        own = [token for token in finish(policy, source, [], len(source) + 3) if token != policy.eos]
        translation = [*own, policy.eos] if row % 2 else others[row]
        found.append(Given(source, translation, others[count + row :: count][: 1 + row % 2]))
    return found


@torch.no_grad()
def log_probability(policy: Policy, one: Given) -> float:
    """Of one sentence by itself, from the model's own output: with neither padding nor cache."""
    inputs = {
        "input_ids": torch.tensor([one.source]),
        "decoder_input_ids": torch.tensor([[policy.start, *one.translation[:-1]]]),
    }
    each = policy.model(**inputs).logits[0].log_softmax(-1)
    return sum(float(row[token]) for row, token in zip(each, one.translation, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_sums_are_those_of_every_sentence_by_itself(family: str) -> None:
    policy = shared_policy(family)
    sentences = given(policy)
    expected = [log_probability(policy, one) for one in sentences]
    assert len({round(value, 6) for value in expected}) == len(sentences)
    for batch_tokens in (1, 40, 4096):
        found = measure_likelihood(policy, sentences, {}, batch_tokens)
        assert [one.log_probability for one in found] == pytest.approx(expected, abs=1e-9)
        assert [one.tokens for one in found] == [len(one.translation) for one in sentences]
        assert all(one.per_token == one.log_probability / one.tokens for one in found)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("forced", [None, 5])
def test_the_mean_of_a_token_is_what_beam_search_ranks_by(family: str, forced: int | None) -> None:
    policy = new_policy(family)
    policy.model.generation_config.forced_bos_token_id = forced
    compared = 0
    for source in random_sentences(policy, 8, seed=5, shortest=3):
        search: dict[str, Any] = {"num_beams": 4, "num_return_sequences": 4, "length_penalty": 1.0}
        beams = policy.model.generate(
            torch.tensor([source]),
            max_length=12,
            suppress_tokens=[policy.pad],
            output_scores=True,
            return_dict_in_generate=True,
            **search,
        )
        for tokens, score in zip(
            beams.sequences[:, 1:].tolist(), beams.sequences_scores.tolist(), strict=True
        ):
            if policy.eos not in tokens:
                continue  # cut
            translation = tokens[: tokens.index(policy.eos) + 1]
            (found,) = measure_likelihood(policy, [Given(source, translation, [])], {}, 64)
            assert found.per_token == pytest.approx(score, abs=1e-6)
            compared += 1
    assert compared > 10


def test_costs_are_against_the_nearest_reference_of_each_sentence() -> None:
    policy = shared_policy()
    sentences = [*given(policy), Given([3, policy.eos], [4, 5, policy.eos], [[4, 5, policy.eos]])]
    found = measure_likelihood(policy, sentences, COSTS, 48)
    for one, sentence in zip(found, sentences, strict=True):
        assert list(one.costs) == ["bleu", "edits"]
        single = [
            measure_likelihood(policy, [replace(sentence, references=[text])], COSTS, 48)[0].costs
            for text in sentence.references
        ]
        for name, value in one.costs.items():
            assert value == pytest.approx(min(costs[name] for costs in single), abs=1e-6)
    assert found[-1].costs == {"bleu": 0.0, "edits": 0.0}
    assert len({one.costs["edits"] for one in found}) > 4


def test_without_a_reference_a_cost_says_so() -> None:
    policy = shared_policy()
    with pytest.raises(UserError, match="without a target"):
        measure_likelihood(policy, [Given([3, policy.eos], [policy.eos], [])], COSTS, 48)


@pytest.mark.parametrize("count", [2, 3, 20])
def test_processes_share_the_sentences(count: int) -> None:
    policy = shared_policy()
    sentences = given(policy)
    expected = measure_likelihood(policy, sentences, COSTS, 24)
    shown: list[list[int]] = [[] for _ in range(count)]
    own = [new_policy() for _ in range(count)]  # a policy is no thing for two threads at a time

    def share(processes: Processes) -> list[Likelihood]:
        place = processes.index
        return measure_likelihood(own[place], sentences, COSTS, 24, processes, shown[place].append)

    assert in_threads(count, share) == [expected] * count
    assert [sum(counts) for counts in shown] == [len(sentences)] * count


def test_nothing_gives_nothing() -> None:
    assert measure_likelihood(shared_policy(), [], COSTS, 24) == []


def test_all_translations_together_are_certain() -> None:
    """Of those with at most one word, and of the words after which others follow."""
    policy = shared_policy()
    source = [3, 4, policy.eos]
    ended = [Given(source, [*words, policy.eos], []) for words in ([], *([word] for word in range(14)))]
    begun = [Given(source, [word], []) for word in range(14) if word != policy.eos]

    def mass(sentences: list[Given]) -> float:
        found = measure_likelihood(policy, sentences, {}, 4096)
        return math.fsum(math.exp(one.log_probability) for one in found)

    assert mass(ended[:1]) + mass(begun) == pytest.approx(1.0)
    # What ends after a word is a part of what begins with it.
    assert 0 < mass(ended[1:]) < mass(begun)


# ---- which costs ---------------------------------------------------------------------------------


def test_the_recipe_says_which_cost_and_how() -> None:
    own = recipe_of("lols", cost={"name": "bleu", "unit": "words"})
    assert cost_settings(own, None, has_references=True) == {"bleu": own.search.cost}
    chosen = cost_settings(own, ["chrf", "bleu"], has_references=True)
    assert list(chosen) == ["chrf", "bleu"]
    assert chosen["bleu"].unit == "words"
    other = recipe_of("lols", cost={"name": "ter"})
    assert cost_settings(other, ["bleu"], has_references=True)["bleu"].unit is None


def test_a_cost_that_cannot_be_had_is_refused() -> None:
    recipe = recipe_of("lols")
    assert cost_settings(recipe, None, has_references=False) == {}
    with pytest.raises(UserError, match=r"--cost bleu: compares with references; give --references FILE"):
        cost_settings(recipe, ["bleu"], has_references=False)
    with pytest.raises(UserError, match=r"--cost blue: .* did you mean bleu\?"):
        cost_settings(recipe, ["blue"], has_references=True)
    with pytest.raises(UserError, match="--cost own: "):  # the recipe has none
        cost_settings(recipe, ["own"], has_references=True)


def test_a_cost_of_ones_own_needs_no_references() -> None:
    own = recipe_of("lols", cost={"name": "own", "function": "my:cost"})
    assert list(cost_settings(own, None, has_references=False)) == ["own"]
    terms = [{"name": "own", "function": "my:cost"}, {"name": "bleu"}]
    both = recipe_of("lols", cost={"name": "sum", "terms": terms})
    assert cost_settings(both, None, has_references=False) == {}
    assert list(cost_settings(both, None, has_references=True)) == ["sum"]


def test_a_sum_of_costs_of_ones_own_needs_no_references() -> None:
    terms = [{"name": "own", "function": "my:cost"}, {"name": "own", "function": "my:other"}]
    recipe = recipe_of("lols", cost={"name": "sum", "terms": terms})
    assert list(cost_settings(recipe, None, has_references=False)) == ["sum"]
