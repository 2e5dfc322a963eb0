"""Tiny encoder-decoders, random sentences for them, and a slow decoder to compare with."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import backward
from transformers import (
    MarianConfig,
    MarianMTModel,
    MBartConfig,
    MBartForConditionalGeneration,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from l2s_nmt.data.batches import Batch, collate
from l2s_nmt.model import Policy

FAMILIES = ("marian", "t5", "mbart")
VOCABULARY = 14
POSITIONS = 24

_BART_LIKE = {
    "vocab_size": VOCABULARY,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": POSITIONS,
    "init_std": 0.2,
    "forced_eos_token_id": None,
    "tie_word_embeddings": False,
    "dropout": 0.0,
}


@cache
@torch.enable_grad()
def shared_policy(family: str = "marian") -> Policy:
    """A policy for all tests that leave it as it is, in evaluation mode; in double precision: rounding decides nothing.

    It has learned a little of how to reverse a sentence. A model with random weights says one word for ever;
    this one writes different words, and ends different sentences at different times.
    """
    make = {"marian": _marian, "t5": _t5, "mbart": _mbart}[family]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        policy = Policy(make().double())
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
    for step in range(50):
        sources = random_sentences(policy, 32, seed=1000 + step, shortest=2)
        targets = [[*reversed(source[:-1]), policy.eos] for source in sources]
        batch = collate(sources, targets, np.arange(32), policy.pad)
        scores = policy.score(policy.encode(batch.source, batch.source_mask), batch.target)
        golden = batch.target.masked_fill(batch.target == policy.pad, -100)
        optimizer.zero_grad()
        backward(F.cross_entropy(scores.flatten(0, 1), golden.flatten()))
        optimizer.step()
    policy.zero_grad()
    return policy.eval()


def new_policy(family: str = "marian") -> Policy:
    """A policy like the shared one, to be changed."""
    return copy.deepcopy(shared_policy(family))


def other_policies(number: int) -> tuple[Policy, ...]:
    """Policies that write other sentences than the shared one, and than each other."""
    made = tuple(new_policy() for _ in range(number))
    for seed, policy in enumerate(made):
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            for weights in policy.parameters():
                weights.add_(0.1 * torch.randn_like(weights))
    return made


def _marian() -> PreTrainedModel:
    pad = VOCABULARY - 1
    special = {"eos_token_id": 0, "pad_token_id": pad, "decoder_start_token_id": pad}
    return MarianMTModel(MarianConfig(**_BART_LIKE, **special))


def _mbart() -> PreTrainedModel:
    special = {"eos_token_id": 2, "pad_token_id": 1, "decoder_start_token_id": 2}
    return MBartForConditionalGeneration(MBartConfig(**_BART_LIKE, **special))


def _t5() -> PreTrainedModel:
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,  # as many as in the decoder: `generate` makes its cache by this number
        num_decoder_layers=2,
        num_heads=2,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=16,
        tie_word_embeddings=False,
        dropout_rate=0.0,
        eos_token_id=1,
        pad_token_id=0,
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config)


def words(policy: Policy) -> list[int]:
    """The tokens that are no special ones."""
    return [token for token in range(VOCABULARY) if token not in (policy.pad, policy.eos)]


def random_sentences(
    policy: Policy, count: int, seed: int, shortest: int = 1, longest: int = 7
) -> list[list[int]]:
    """Random words and EOS; the lengths count EOS."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(shortest, longest + 1, size=count)
    return [[*draw.choice(words(policy), length - 1).tolist(), policy.eos] for length in lengths]


def random_batch(policy: Policy, count: int = 6, seed: int = 0, first_row: int = 0) -> Batch:
    """Random sentence pairs of different lengths."""
    return collate(
        random_sentences(policy, count, 2 * seed, shortest=2),
        random_sentences(policy, count, 2 * seed + 1),
        np.arange(first_row, first_row + count),
        policy.pad,
    )


def every_state(tokens: Tensor) -> Tensor:
    """All states of target rows (R, T), as `Policy.forward` counts them."""
    return torch.arange(tokens.numel())


def source_of(batch: Batch, row: int) -> list[int]:
    """The tokens of one source sentence."""
    tokens: list[int] = batch.source[row, batch.source_mask[row]].tolist()
    return tokens


def next_scores(policy: Policy, source: Sequence[int], prefix: Sequence[int]) -> Tensor:
    """(V,) scores after a prefix: one sentence alone, by the whole model, with neither padding nor cache."""
    with torch.no_grad():
        output = policy.model(
            input_ids=torch.tensor([source]),
            attention_mask=torch.ones(1, len(source), dtype=torch.long),
            decoder_input_ids=torch.tensor([[policy.start, *prefix]]),
            use_cache=False,
        )
    scores: Tensor = output.logits[0, -1]
    scores[policy.pad] = -torch.inf
    return scores


def finish(policy: Policy, source: Sequence[int], prefix: Sequence[int], limit: int) -> list[int]:
    """Finish a prefix greedily, word by word from scratch, until EOS or ``limit`` tokens in all."""
    tokens = list(prefix)
    while policy.eos not in tokens and len(tokens) < limit:
        tokens.append(int(next_scores(policy, source, tokens).argmax()))
    return tokens
