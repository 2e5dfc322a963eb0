"""How much is measured: the real thing, or a minute of everything."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Growth:
    """The values that a step is measured at, one varied at a time; the first of each list is the starting point."""

    lengths: tuple[int, ...]
    """Tokens of every source and target sentence."""
    candidates: tuple[int, ...]
    """Most probable tokens tried at a state."""
    states: tuple[int, ...]
    """Searched states of a sentence."""
    vocabularies: tuple[int, ...]
    sentences: int
    """In a step."""
    rounds: int


@dataclass(frozen=True)
class Plan:
    """Sizes and numbers of repetitions."""

    overrides: tuple[str, ...]
    """Of the recipe."""
    embedded: tuple[int, int]
    """Training and validation sentences of the generated corpus."""
    warm_up: int
    """Updates of teacher forcing before anything is measured, so that decodings end where sentences do."""
    rounds: int
    updates: int
    """Of each trainer in a round."""
    generated: int
    """Sentences whose branches ``generate`` finishes in a round."""
    growth: Growth
    reference_length: int
    """Tokens of the sentences whose reference costs are computed."""
    reference_vocabulary: int
    reference_sentences: dict[str, int]
    """Sentences in a round, by reference."""


FULL = Plan(
    overrides=(),
    embedded=(20_000, 200),
    warm_up=300,
    rounds=7,
    updates=6,
    generated=4,
    growth=Growth(
        lengths=(20, 50, 100),
        candidates=(2, 8, 32),
        states=(1, 3, 9),
        vocabularies=(4_000, 32_000),
        sentences=16,
        rounds=3,
    ),
    reference_length=100,
    reference_vocabulary=32_000,
    reference_sentences={"edit_distance": 64, "bleu": 4},
)

QUICK = Plan(
    overrides=(
        "tokenizer.vocabulary=800",
        "model.architecture={d_model: 32, feed_forward: 64, heads: 2, encoder_layers: 1, decoder_layers: 1}",
        "training.batch_tokens=384",
        "training.learning_rate=0.005",
    ),
    embedded=(800, 20),
    warm_up=120,
    rounds=2,
    updates=2,
    generated=2,
    growth=Growth(
        lengths=(8, 16),
        candidates=(2, 4),
        states=(1, 2),
        vocabularies=(500, 1_500),
        sentences=4,
        rounds=1,
    ),
    reference_length=20,
    reference_vocabulary=1_500,
    reference_sentences={"edit_distance": 8, "bleu": 2},
)
