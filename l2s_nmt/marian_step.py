"""One more token through a decoder of Marian's architecture, without what the library does around its few products.

A step of decoding has little to multiply, and the library makes modules' outputs and masks anew for every token; to do
so it waits for a GPU. The operations here are the library's, in the same order, so that the numbers are the same.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import MarianMTModel, PreTrainedModel

from l2s_nmt.decoder_state import DecoderState


class MarianStep:
    """A decoder's step, in evaluation mode, for states that have had their first token.

    Args:
        model: whose decoder it is.
    """

    def __init__(self, model: MarianMTModel) -> None:
        self.decoder: Any = model.get_decoder()

    @staticmethod
    def of(model: PreTrainedModel) -> MarianStep | None:
        """None for other architectures."""
        return MarianStep(model) if type(model) is MarianMTModel else None

    def __call__(self, state: DecoderState, tokens: Tensor) -> Tensor:
        """(R, D) what the output layer is given after one more token (R,) of each row; the state moves on."""
        decoder, cache, mask = self.decoder, state.cache, state.mask[:, None, None].bool()
        position = decoder.embed_positions.weight[cache.get_seq_length()]
        hidden: Tensor = F.embedding(tokens, decoder.embed_tokens.weight) * decoder.embed_scale + position
        for number, layer in enumerate(decoder.layers):
            own, source = layer.self_attn, layer.encoder_attn
            pair = (_heads(_linear(part, hidden), own.num_heads) for part in (own.k_proj, own.v_proj))
            keys, values = cache.self_attention_cache.update(*pair, number)
            hidden = _norm(layer.self_attn_layer_norm, hidden + _attend(own, hidden, keys, values, None))
            read = cache.cross_attention_cache.layers[number]
            found = _attend(source, hidden, read.keys, read.values, mask)
            hidden = _norm(layer.encoder_attn_layer_norm, hidden + found)
            found = _linear(layer.fc2, layer.activation_fn(_linear(layer.fc1, hidden)))
            hidden = _norm(layer.final_layer_norm, hidden + found)
        return hidden


def _attend(attention: Any, hidden: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    queries = _heads(_linear(attention.q_proj, hidden), attention.num_heads)
    found = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=attention.scaling)
    return _linear(attention.out_proj, found.reshape(hidden.shape))


def _heads(values: Tensor, heads: int) -> Tensor:
    """(R, heads, 1, size) from (R, D)."""
    return values.view(len(values), heads, 1, -1)


def _linear(layer: nn.Linear, values: Tensor) -> Tensor:
    return F.linear(values, layer.weight, layer.bias)


def _norm(layer: nn.LayerNorm, values: Tensor) -> Tensor:
    return F.layer_norm(values, layer.normalized_shape, layer.weight, layer.bias, layer.eps)
