"""The fewest floating-point operations that a training step needs, in Marian's architecture.

A product of (n, k) and (k, m) takes 2nkm; a backward pass twice its forward pass. Counted are the layers, attention
(causal, so half of the square) and the output layer where its scores are used; not padding, nor anything that
a step could do without: encoding a sentence twice, decoding a prefix twice, rolling out the token that the roll-in
took. Softmax, dropout, norms, costs and the optimiser count nothing. All lengths count EOS; tensors are float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Sizes:
    """What of a model decides about its arithmetic."""

    width: int
    encoder_feed_forward: int
    decoder_feed_forward: int
    encoder_layers: int
    decoder_layers: int
    vocabulary: int

    @staticmethod
    def of(model: PreTrainedModel) -> Sizes:
        """Those of a model in Marian's architecture."""
        config = model.config
        return Sizes(
            config.d_model,
            config.encoder_ffn_dim,
            config.decoder_ffn_dim,
            config.encoder_layers,
            config.decoder_layers,
            model.get_output_embeddings().out_features,
        )

    def encoding(self, source: Tensor) -> Tensor:
        """(B,) operations to encode sources of these lengths (B,)."""
        source, d = source.double(), self.width
        token = 2 * (4 * d * d + 2 * d * self.encoder_feed_forward)
        return self.encoder_layers * (token * source + 4 * d * source * source)

    def memory(self, source: Tensor) -> Tensor:
        """(B,) operations for the keys and values of the sources, to which every decoder layer attends."""
        return self.decoder_layers * 4 * self.width**2 * source.double()

    def decoding(self, source: Tensor, first: Tensor, last: Tensor, scored: Tensor) -> Tensor:
        """Operations to feed the decoder its inputs ``first`` to ``last`` - 1; input 0 is the start token.

        Args:
            source: (B,) lengths.
            first: (B,) inputs whose keys and values are known already.
            last: (B,)
            scored: (B,) at how many of them the next token is scored.
        """
        source, first, last, d = source.double(), first.double(), last.double(), self.width
        token = 2 * (6 * d * d + 2 * d * self.decoder_feed_forward)
        seen = (last * (last + 1) - first * (first + 1)) / 2
        layer = token * (last - first) + 4 * d * seen + 4 * d * source * (last - first)
        return self.decoder_layers * layer + 2 * d * self.vocabulary * scored.double()

    def products(self, tokens: int) -> list[tuple[int, int, int]]:
        """The (n, k, m) of the matrix products of a forward pass over so many source and target tokens."""
        d = self.width
        encoder = [
            *[(tokens, d, d)] * 4,
            (tokens, d, self.encoder_feed_forward),
            (tokens, self.encoder_feed_forward, d),
        ]
        decoder = [
            *[(tokens, d, d)] * 8,
            (tokens, d, self.decoder_feed_forward),
            (tokens, self.decoder_feed_forward, d),
        ]
        layers = encoder * self.encoder_layers + decoder * self.decoder_layers
        return [*layers, (tokens, d, self.vocabulary)]

    def stored(self, source: float, target: float, scored: float) -> float:
        """Numbers kept from a forward pass to the backward pass, about: the outputs of the operations of a layer."""
        d = self.width
        encoder = self.encoder_layers * (9 * d + 3 * self.encoder_feed_forward) * source
        decoder = self.decoder_layers * (13 * d + 3 * self.decoder_feed_forward) * target
        # The scores, their logarithms and their gradient.
        return encoder + decoder + 3 * self.vocabulary * scored


@dataclass(frozen=True)
class Search:
    """What learning to search found on B sentences with M branches: all that its arithmetic depends on."""

    source: Tensor
    """(B,) lengths."""
    target: Tensor
    """(B,)"""
    roll_in: Tensor
    """(B,)"""
    states: Tensor
    """(B,) number of searched states of each sentence."""
    deepest: Tensor
    """(B,) position of the last searched state plus 1; 0 where there is none."""
    branch_source: Tensor
    """(M,) length of each branch's source."""
    branch_position: Tensor
    """(M,) tokens before the candidate."""
    branch_length: Tensor
    """(M,) tokens of the finished sentence; position + 1 where nothing is to be decoded."""


def teacher_forcing(sizes: Sizes, source: Tensor, target: Tensor) -> float:
    """Operations of an update on the target alone."""
    return 3 * float(_forward(sizes, source, target))


def roll_out(sizes: Sizes, search: Search) -> float:
    """Operations to finish the branches from the keys and values of the roll-in."""
    first = search.branch_position + 1
    fed = search.branch_length - first
    return float(sizes.decoding(search.branch_source, first, search.branch_length, fed).sum())


def search_step(sizes: Sizes, search: Search) -> float:
    """Operations of an update by learning to search, with the cross-entropy of the target mixed in."""
    nothing = torch.zeros_like(search.source)
    seen = float(_forward(sizes, search.source, search.roll_in))
    learned = sizes.decoding(search.source, nothing, search.deepest, search.states).sum()
    update = 3 * float(_forward(sizes, search.source, search.target) + learned)
    return seen + roll_out(sizes, search) + update


def _forward(sizes: Sizes, source: Tensor, target: Tensor) -> Tensor:
    """Operations to encode sources and to score every token of the targets."""
    decoding = sizes.decoding(source, torch.zeros_like(target), target, target)
    return (sizes.encoding(source) + sizes.memory(source) + decoding).sum()
