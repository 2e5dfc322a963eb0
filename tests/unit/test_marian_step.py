"""A step of Marian's decoder is the library's, number for number, and so is a beam whose source is read in place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import MarianConfig, MarianMTModel

from l2s_nmt.decoder_state import CACHE, DecoderState, beam_cache
from l2s_nmt.model import Policy
from tests.tiny import FAMILIES, new_policy, random_batch, shared_policy

VOCABULARY = 20


def policy_of(**settings: Any) -> Policy:
    """Random weights, biases and norms: whatever is left out makes a difference."""
    config = MarianConfig(
        **{
            "vocab_size": VOCABULARY,
            "d_model": 24,
            "encoder_layers": 1,
            "decoder_layers": 3,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 3,
            "encoder_ffn_dim": 16,
            "decoder_ffn_dim": 40,
            "max_position_embeddings": 24,
            "eos_token_id": 0,
            "pad_token_id": VOCABULARY - 1,
            "decoder_start_token_id": VOCABULARY - 1,
            "forced_eos_token_id": None,
            "dropout": 0.3,
            "attention_dropout": 0.2,
            "activation_dropout": 0.2,
            "decoder_layerdrop": 0.1,
        }
        | settings
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        policy = Policy(MarianMTModel(config))
        for name, weights in policy.named_parameters():
            if weights.requires_grad and "embed_positions" not in name:
                weights.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.3)
    return policy.eval()


@torch.no_grad()
def written(policy: Policy, steps: list[Tensor]) -> list[Tensor]:
    """The hidden states of tokens that are forced, step by step; in the middle a row ends, and another is repeated."""
    batch = random_batch(policy, 4, seed=5)
    state = DecoderState(policy.encode(batch.source, batch.source_mask))
    found = []
    for number, tokens in enumerate(steps):
        if number == 4:
            state.repeat(torch.tensor([3]))
            state.keep(4, holes=torch.tensor([1]), movers=torch.tensor([4]))
        found.append(policy._step(state, tokens))
    return found


def tokens_of(steps: int) -> list[Tensor]:
    return list(torch.randint(1, VOCABULARY - 1, (steps, 4), generator=torch.Generator().manual_seed(7)))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"scale_embedding": True, "activation_function": "swish"},
        {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": VOCABULARY},
        {"attn_implementation": "eager"},
    ],
    ids=["plain", "scaled", "apart", "eager"],
)
@pytest.mark.parametrize("cast", [False, True], ids=["float32", "bf16"])
def test_a_step_is_the_librarys(settings: dict[str, Any], cast: bool) -> None:
    ours, theirs = policy_of(**settings), policy_of(**settings)
    assert ours._marian is not None
    theirs._marian = None
    steps = tokens_of(9)
    with torch.autocast("cpu", torch.bfloat16, enabled=cast):
        found, expected = written(ours, steps), written(theirs, steps)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        if settings.get("attn_implementation") == "eager":  # another order of the same sums
            torch.testing.assert_close(one, other, rtol=2e-2 if cast else 1e-5, atol=2e-2 if cast else 1e-5)
        else:
            assert torch.equal(one, other)


def test_only_decoding_without_dropout_by_marian_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    hidden = Policy._hidden

    def counted(self: Policy, *arguments: Any) -> Tensor:
        calls.append(self)
        return hidden(self, *arguments)

    policy = policy_of()
    monkeypatch.setattr(Policy, "_hidden", counted)
    written(policy, tokens_of(6))
    assert len(calls) == 1  # the first token, which reads the source
    written(policy.train(), tokens_of(6))
    assert len(calls) == 7
    for family in FAMILIES:
        assert (shared_policy(family)._marian is not None) == (family == "marian")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_beam_writes_the_same_with_its_source_in_place(family: str) -> None:
    policy = new_policy(family)
    batch = random_batch(policy, 5, seed=2)
    given = {"input_ids": batch.source, "attention_mask": batch.source_mask.long()}
    settings = {"num_beams": 4, "num_return_sequences": 4, "max_length": 14, "do_sample": False}
    found = policy.model.generate(**given, **settings, **{CACHE: (cache := beam_cache())})
    assert torch.equal(found, policy.model.generate(**given, **settings))
    assert len(set(map(tuple, found.tolist()))) > 10
    keys = [layer.keys for layer in cache.cross_attention_cache.layers]
    cache.reorder_cache(torch.arange(len(keys[0])).flip(0))
    assert all(
        layer.keys is before for layer, before in zip(cache.cross_attention_cache.layers, keys, strict=True)
    )
