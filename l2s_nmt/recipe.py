"""What a run is: frozen, typed, nested dataclasses. The docstring under each key is its help text."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from l2s_nmt.languages import BleuTokenizer, bleu_tokenizer, language_tag
from l2s_nmt.recipe_checks import refuse_without_targets
from l2s_nmt.recipe_search import Search
from l2s_nmt.recipe_types import (
    STRICT,
    Beam,
    Count,
    Depth,
    Dropout,
    Language,
    Name,
    Natural,
    NonNegative,
    Penalty,
    Positive,
    Probability,
    Seed,
    Width,
)


@dataclass(frozen=True, config=STRICT)
class Embedded:
    """The corpus that the project generates by itself."""

    train: Count = 10_000
    valid: Count = 500
    test: Count = 1_000
    references: Annotated[int, Field(ge=1, le=8)] = 1
    """References of each valid and test sentence."""
    train_references: Annotated[int, Field(ge=1, le=8)] = 1
    """References of each training sentence."""
    seed: Seed = 1


@dataclass(frozen=True, config=STRICT)
class Filters:
    """Which training pairs are left out, each counted and reported."""

    max_tokens: Count = 128
    """Longest training sentence in tokens, on either side."""
    max_ratio: Annotated[float, Field(ge=1)] | None = 6.0
    """Largest ratio between the numbers of words of the two sides (of scripts without spaces, two characters are one);
    null: any; not of sources alone."""
    duplicates: Literal["keep", "drop"] = "keep"
    """Pairs that occur again, word for word."""


@dataclass(frozen=True, config=STRICT)
class Fold:
    """A part of the training sentences that a run does not learn from, for a roll-in that has not seen them."""

    of: Annotated[int, Field(ge=2, le=1_000)] = 2
    """Parts of like size; a sentence's is drawn by its number after the filters, and is the same for all seeds."""
    left_out: Natural = 0
    """The part that is left out."""

    @model_validator(mode="after")
    def _exists(self) -> Fold:
        if self.left_out >= self.of:
            raise ValueError(f"left_out is {self.left_out}, but the parts are 0 to {self.of - 1}")
        return self


@dataclass(frozen=True, config=STRICT)
class Data:
    """Where the sentences come from: ``files``, else ``hub``, else ``embedded``; the first that is given is used."""

    source_language: Language
    target_language: Language
    source_code: Name | None = None
    """The source language as a multilingual tokenizer spells it (deu_Latn), where the data call it otherwise."""
    target_code: Name | None = None
    """The target language, likewise."""
    files: Name | None = None
    """A folder of <split>.<language>[.gz] text, or <split>.tsv, .jsonl or .parquet; splits train, valid, test."""
    hub: Name | None = None
    """Id of a data set on the Hugging Face hub."""
    hub_config: Name | None = None
    """Its configuration, where it has several."""
    hub_revision: Name | None = None
    """Its branch, tag or commit; default the newest."""
    hub_folder: Name | None = None
    """The folder in it that holds the data, where it does not say itself which files are which."""
    embedded: Embedded | None = None
    """The generated corpus."""
    train_targets: Literal["required", "none"] = "required"
    """None: training reads source sentences alone, for learning from a loss that needs no reference."""
    filters: Filters = Filters()
    fold: Fold | None = None
    """Train without one part of the sentences; the tokenizer is trained from all of them."""
    streaming: bool = False
    """Read the corpus while training, block by block in its own order, and keep nothing of it in memory or on disk.

    For corpora that are larger than the disk's free space, or that shall not be prepared first. Each block is
    shuffled in itself, so the corpus should be shuffled beforehand. A tokenizer that is to be trained is trained
    on a sample of the first million sentence pairs.
    """
    block: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    """Sentence pairs of a block of a streamed corpus, before the filters; two blocks are in memory at a time."""

    @property
    def codes(self) -> dict[str, str]:
        """The languages for the tokenizer, as `load_tokenizer` takes them."""
        return {
            "source_language": self.source_code or self.source_language,
            "target_language": self.target_code or self.target_language,
        }

    @property
    def tags(self) -> tuple[str, str] | None:
        """The languages as BCP 47 has them; None of the generated corpus, whose words are of none."""
        if self.files is None and self.hub is None:
            return None
        return language_tag(self.source_language), language_tag(self.target_language)

    @model_validator(mode="after")
    def _can_be_streamed(self) -> Data:
        if self.streaming and self.files is None and self.hub is None:
            raise ValueError(
                "streaming is of files and hub; the embedded corpus is made in memory: set it to false"
            )
        if self.streaming and self.fold is not None:
            raise ValueError(
                "streaming numbers no sentences, so it has no parts; set fold null, or streaming false"
            )
        if self.streaming and self.filters.duplicates == "drop":
            raise ValueError(
                "streaming remembers no sentences of other blocks, so it cannot drop duplicates; set "
                "filters.duplicates keep, or streaming false"
            )
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Data:
        if self.files is None and self.hub is None and self.embedded is None:
            raise ValueError("give one of files, hub or embedded")
        if self.source_language == self.target_language:
            raise ValueError("source_language and target_language are the same")
        return self


@dataclass(frozen=True, config=STRICT)
class Tokenizer:
    """SentencePiece, trained from the training data. Left out where the model brings its own tokenizer."""

    pretrained: Name | None = None
    """One that is there already, in place of all other keys: a folder (of another run, RUN/tokenizer), a hub id, or a
    SentencePiece model (FILE.model, FILE.spm) of both languages."""
    algorithm: Literal["unigram", "bpe"] = "unigram"
    vocabulary: Annotated[int, Field(ge=16, le=1_000_000)] = 8_000
    """Number of pieces (of each side, when separate)."""
    joint: bool = True
    """One vocabulary for both languages, with shared embeddings."""
    byte_fallback: bool = True
    """Spell unseen characters in bytes, so that nothing is unknown."""
    character_coverage: Annotated[float, Field(ge=0.98, le=1)] = 1.0
    """Share of the characters of the text that become pieces."""


@dataclass(frozen=True, config=STRICT)
class Architecture:
    """A Transformer from scratch, in Marian's architecture."""

    d_model: Width = 256
    feed_forward: Width = 1_024
    heads: Width = 4
    encoder_layers: Depth = 3
    decoder_layers: Depth = 3
    positions: Width = 512
    """Longest sentence in tokens."""

    @model_validator(mode="after")
    def _divisible(self) -> Architecture:
        if self.d_model % self.heads:
            raise ValueError(f"d_model ({self.d_model}) must be a multiple of heads ({self.heads})")
        return self


@dataclass(frozen=True, config=STRICT)
class Model:
    """The policy: a new Transformer, another run's model, or a pretrained one."""

    from_run: Name | None = None
    """A run directory: start from its best weights, with its tokenizer."""
    pretrained: Name | None = None
    """A folder or hub id of a Hugging Face encoder-decoder, with its tokenizer."""
    architecture: Architecture = Architecture()
    dropout: Dropout | None = None
    """Dropout of the layers; default 0.1 from scratch, else what the model has."""

    @model_validator(mode="after")
    def _one_start(self) -> Model:
        if self.from_run is not None and self.pretrained is not None:
            raise ValueError("give from_run or pretrained, not both")
        return self


@dataclass(frozen=True, config=STRICT)
class Averaging:
    """Average of the weights, validated and saved as ``best`` in place of the raw ones."""

    kind: Literal["none", "ema", "mean", "last"] = "none"
    """Of all updates, the recent ones counting most; of all alike; or of the last validations."""
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Of the exponential moving average."""
    last: Count = 5
    """Number of last validations whose weights are averaged."""
    starts: Count = 1
    """Times that training starts from its first weights, each time for its share of the limits and with a learning-rate
    schedule and an average of its own; the mean of all starts is validated and saved (Zinkevich et al. 2010).
    The end of each is validated in any case."""


@dataclass(frozen=True, config=STRICT)
class Training:
    """The loop: batches, optimiser, schedule, limits."""

    batch_tokens: Count = 4_096
    """Padded tokens of the longer side in one update, over all processes and accumulation steps."""
    accumulation: Count = 1
    """Parts into which each process splits its share of an update."""
    learning_rate: Positive = 1e-3
    """The highest, of AdamW."""
    schedule: Literal["constant", "inverse_sqrt", "linear", "cosine"] = "inverse_sqrt"
    """After the warm-up; linear and cosine fall to final_rate at the end of max_updates (or max_minutes)."""
    warmup_updates: Natural = 400
    """Over which the learning rate rises."""
    final_rate: Probability = 0.0
    """Where linear and cosine end, as a fraction of learning_rate."""
    weight_decay: NonNegative = 0.0
    """Of AdamW; biases and layer norms are spared."""
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = 0.98
    """Decay of AdamW's mean of squared gradients."""
    clip_norm: Positive = 1.0
    """Largest norm of the gradient."""
    label_smoothing: Dropout = 0.1
    """Share of the cross-entropy that goes to all tokens alike; the search has none."""
    consistency: NonNegative = 0.0
    """Weight, in the cross-entropy, of how far two readings of a reference disagree, each with a dropout of its own
    (R-Drop, Liang et al. 2021); 0: each is read once."""
    averaging: Averaging = Averaging()
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    """Of the passes through the model, on GPUs; weights and losses stay in float32."""
    max_updates: Count | None = None
    """Steps of the optimiser."""
    max_epochs: Count | None = None
    """Passes over the training data."""
    max_minutes: Positive | None = None
    """Time in the loop, validation included; over all sittings of an interrupted run."""
    max_roll_outs: Count | None = None
    """Branches finished by a roll-out policy."""
    max_skipped: Count = 20
    """Updates skipped in a row for a cost, loss or gradient that is not finite, after which training stops."""
    validate_every: Count = 500
    """Updates between two validations."""
    checkpoint_every: Count = 500
    """Updates between two checkpoints."""
    patience: Count | None = None
    """Stop after so many validations without a better BLEU."""
    log_every: Count = 20
    """Updates between two lines in metrics.jsonl."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow", "comet_ml"], ...] = ()
    """A list of those that get the figures too."""

    @model_validator(mode="after")
    def _ends(self) -> Training:
        limits = (
            self.max_updates,
            self.max_epochs,
            self.max_minutes,
            self.max_roll_outs,
            self.patience,
        )
        if all(limit is None for limit in limits):
            raise ValueError("give a limit: max_updates, max_epochs, max_minutes, max_roll_outs or patience")
        if self.averaging.starts > 1 and self.patience is not None:
            raise ValueError(
                "averaging.starts share out a limit, and patience is none: it would end the first validations of a new "
                "start; remove it, and give max_updates, max_epochs, max_minutes or max_roll_outs"
            )
        if self.max_updates is not None and self.averaging.starts > self.max_updates:
            raise ValueError(
                f"max_updates {self.max_updates} are too few for averaging.starts {self.averaging.starts}, which share "
                "them out; raise max_updates, or lower averaging.starts"
            )
        falls = self.schedule in ("linear", "cosine")
        if falls and self.max_updates is None and self.max_minutes is None:
            raise ValueError(
                f"schedule {self.schedule} needs max_updates or max_minutes to know where it ends"
            )
        return self


@dataclass(frozen=True, config=STRICT)
class Evaluation:
    """How translations are decoded for scores; validation while training is greedy."""

    beam: Beam = 5
    """Beams; 1 is greedy."""
    length_penalty: Penalty = 1.0
    """Power of the length by which log-probabilities are divided; larger ones favour longer translations."""
    max_length: Count = 256
    """Longest translation in tokens."""
    batch_tokens: Count = 8_192
    """Padded source tokens times beams at a time."""
    bleu_tokenizer: BleuTokenizer | None = None
    """What cuts text into the words that BLEU and costs on words compare, by sacrebleu's name; left out, by the target
    language: zh of Chinese; char of Japanese, Thai, Lao, Khmer, Burmese and Tibetan; 13a of all others."""


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """Everything that a training run depends on."""

    data: Data
    seed: Seed = 1
    tokenizer: Tokenizer = Tokenizer()
    model: Model = Model()
    search: Search = Search()
    training: Training = Field(default_factory=lambda: Training(max_epochs=10))
    evaluation: Evaluation = Evaluation()

    @property
    def bleu_tokenizer(self) -> BleuTokenizer:
        """What cuts target text into words, by sacrebleu's name."""
        return self.evaluation.bleu_tokenizer or bleu_tokenizer(self.data.codes["target_language"])

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if self.data.train_targets == "none":
            refuse_without_targets(self.search)
        if self.data.streaming and self.search.aggregation is not None:
            raise ValueError(
                "search.aggregation replays sentences of earlier updates, which data.streaming does not keep; set "
                "data.streaming false, or search.aggregation null"
            )
        if self.data.streaming and self.search.roll_in.cross_trained:
            raise ValueError(
                "search.roll_in.cross_trained goes by the number of a sentence, and data.streaming numbers none; set "
                "data.streaming false, or search.roll_in.cross_trained []"
            )
        training = self.training
        if self.data.streaming and training.averaging.starts > 1 and training.max_epochs is not None:
            raise ValueError(
                "averaging.starts share out training.max_epochs, and data.streaming does not know how long the first "
                "one is; set training.max_updates or max_minutes in its place, or data.streaming false"
            )
        if training.consistency and not self.search.loss.cross_entropy:
            raise ValueError(
                "training.consistency is of the cross-entropy on the reference, which has no weight here; set "
                "search.loss.cross_entropy above 0, or training.consistency 0"
            )
        if training.consistency and self.model.dropout == 0:
            raise ValueError(
                "training.consistency asks two readings to agree that differ by dropout alone, and there is none; set "
                "model.dropout above 0, or training.consistency 0"
            )
        others = (training.max_updates, training.max_epochs, training.max_minutes, training.patience)
        search = self.search
        nothing = search.reference.name != "mcts" and (
            search.roll_out.policy in ("none", "expert")
            or (search.roll_out.policy == "reference" and search.decisions.candidates == "full")
        )
        if training.max_roll_outs and nothing and all(limit is None for limit in others):
            raise ValueError(
                "training.max_roll_outs is the only limit, but nothing is rolled out; set training.max_updates"
            )
        return self
