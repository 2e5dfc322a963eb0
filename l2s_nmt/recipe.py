"""What a run is: frozen, typed, nested dataclasses. The docstring under each key is its help text."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from l2s_nmt.search.algorithms import ALGORITHMS

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Language = Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9_-]+$")]


@dataclass(frozen=True, config=STRICT)
class Embedded:
    """The corpus that the project generates by itself."""

    train: Count = 10_000
    valid: Count = 500
    test: Count = 1_000
    references: Annotated[int, Field(ge=1, le=8)] = 1
    """References of each valid and test sentence; train has one."""
    seed: Seed = 1


@dataclass(frozen=True, config=STRICT)
class Filters:
    """Which training pairs are left out, each counted and reported."""

    max_tokens: Count = 128
    """Longest training sentence in tokens, on either side."""
    max_ratio: Annotated[float, Field(ge=1)] = 6.0
    """Largest ratio between the numbers of words of the two sides."""
    duplicates: Literal["keep", "drop"] = "keep"
    """Pairs that occur again, word for word."""


@dataclass(frozen=True, config=STRICT)
class Data:
    """Where the sentences come from: ``files``, else ``hub``, else ``embedded``; the first that is given is used."""

    source_language: Language
    target_language: Language
    files: str | None = None
    """A folder of <split>.<language>[.gz] text, or <split>.tsv, .jsonl or .parquet; splits train, valid, test."""
    hub: str | None = None
    """Id of a data set on the Hugging Face hub."""
    hub_config: str | None = None
    """Its configuration, where it has several."""
    embedded: Embedded | None = None
    """The generated corpus."""
    filters: Filters = Filters()

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

    algorithm: Literal["unigram", "bpe"] = "unigram"
    vocabulary: Annotated[int, Field(ge=16)] = 8_000
    """Number of pieces (of each side, when separate)."""
    joint: bool = True
    """One vocabulary for both languages, with shared embeddings."""
    byte_fallback: bool = True
    """Spell unseen characters in bytes, so that nothing is unknown."""
    character_coverage: Annotated[float, Field(gt=0.9, le=1)] = 1.0


@dataclass(frozen=True, config=STRICT)
class Architecture:
    """A Transformer from scratch, in Marian's architecture."""

    d_model: Count = 256
    feed_forward: Count = 1_024
    heads: Count = 4
    encoder_layers: Count = 3
    decoder_layers: Count = 3
    positions: Count = 512
    """Longest sentence in tokens."""

    @model_validator(mode="after")
    def _divisible(self) -> Architecture:
        if self.d_model % self.heads:
            raise ValueError(f"d_model ({self.d_model}) must be a multiple of heads ({self.heads})")
        return self


@dataclass(frozen=True, config=STRICT)
class Model:
    """The policy: a new Transformer, another run's model, or a pretrained one."""

    from_run: str | None = None
    """A run directory: start from its best weights, with its tokenizer."""
    pretrained: str | None = None
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
class RollIn:
    """Which policy writes the prefixes on which the model learns."""

    policy: Literal["reference", "learned"] = "reference"
    decoding: Literal["greedy", "sample"] = "greedy"
    """How the learned policy chooses its tokens."""
    temperature: Positive = 1.0
    """Of sampling."""


@dataclass(frozen=True, config=STRICT)
class Decisions:
    """At which states of the roll-in the search looks, and which next tokens it tries there."""

    states: Literal["all", "uniform"] = "all"
    per_sentence: Count = 3
    """Number of states drawn from each sentence, when uniform."""
    candidates: Literal["full", "top_k"] = "full"
    """The whole vocabulary (closed-form references), or the k most probable tokens, the reference's and EOS."""
    k: Count = 4


@dataclass(frozen=True, config=STRICT)
class RollOut:
    """Which policy finishes the sentence after each candidate."""

    policy: Literal["none", "reference", "learned", "mixed"] = "none"
    reference: Literal["edit_distance", "suffix"] = "suffix"
    """The reference policy: the exact dynamic oracle of the edit distance, or the best suffix under the cost."""
    p_reference: Probability = 0.5
    """Probability of the reference in a mixture, drawn once per sentence."""


@dataclass(frozen=True, config=STRICT)
class Cost:
    """The loss of a finished sentence."""

    name: Literal["bleu", "edit_distance"] = "bleu"
    smoothing: Literal["exp", "add_k", "floor"] = "add_k"
    """Of sentence BLEU."""


@dataclass(frozen=True, config=STRICT)
class Loss:
    """The cost-sensitive loss, and the cross-entropy mixed with it."""

    name: Literal["expected_cost", "kl", "target_learning"] = "expected_cost"
    alpha: Positive = 10.0
    """Sharpness of softmax(-alpha * cost) in kl."""
    weight: NonNegative = 0.0
    """Weight of the cost-sensitive loss."""
    cross_entropy: NonNegative = 1.0
    """Weight of the cross-entropy on the reference."""

    @model_validator(mode="after")
    def _something(self) -> Loss:
        if self.weight == 0 and self.cross_entropy == 0:
            raise ValueError("weight and cross_entropy are both 0: there is nothing to learn from")
        return self


@dataclass(frozen=True, config=STRICT)
class LengthLimit:
    """Roll-ins and roll-outs end after factor * source tokens + constant tokens."""

    factor: Positive = 1.5
    constant: Natural = 10


@dataclass(frozen=True, config=STRICT)
class Search:
    """Learning to search; ``algorithm`` names a row that fills in the rest, and each key can be set on top."""

    algorithm: Literal[tuple(ALGORITHMS)] = "teacher_forcing"  # type: ignore[valid-type]
    roll_in: RollIn = RollIn()
    decisions: Decisions = Decisions()
    roll_out: RollOut = RollOut()
    cost: Cost = Cost()
    loss: Loss = Loss()
    length_limit: LengthLimit = LengthLimit()

    @model_validator(mode="after")
    def _compatible(self) -> Search:
        _check_compatible(self)
        return self


def _check_compatible(search: Search) -> None:
    """Refuse parts that cannot work together, with the reason and what would."""
    roll_out, cost, decisions, loss = search.roll_out, search.cost, search.decisions, search.loss
    if roll_out.policy == "none":
        if loss.weight > 0:
            raise ValueError(
                "roll_out.policy none gives no costs, so loss.weight must be 0; "
                "use roll_out.policy reference, learned or mixed to search"
            )
        return
    if loss.weight == 0:
        raise ValueError("loss.weight is 0, so the roll-outs would go unused; set roll_out.policy none")
    if roll_out.policy in ("learned", "mixed") and decisions.candidates == "full":
        raise ValueError(
            f"roll_out.policy {roll_out.policy} cannot finish a sentence for every token of the vocabulary; "
            "set decisions.candidates top_k, or roll_out.policy reference"
        )
    if roll_out.policy == "learned":
        return
    if roll_out.reference == "edit_distance":
        if cost.name != "edit_distance":
            raise ValueError(
                f"the edit_distance reference does not answer for cost {cost.name}; "
                "set cost.name edit_distance, or roll_out.reference suffix"
            )
        if roll_out.policy == "mixed":
            raise ValueError("a mixed roll-out compares finished sentences: set roll_out.reference suffix")
        if decisions.candidates != "full" or decisions.states != "all":
            raise ValueError(
                "the edit_distance reference answers at every state for the whole vocabulary at no extra cost; "
                "set decisions.states all and decisions.candidates full"
            )


@dataclass(frozen=True, config=STRICT)
class Averaging:
    """Average of the weights, validated and saved as ``best`` in place of the raw ones."""

    kind: Literal["none", "ema", "last"] = "none"
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Of the exponential moving average."""
    last: Count = 5
    """Number of last validations whose weights are averaged."""


@dataclass(frozen=True, config=STRICT)
class Training:
    """The loop: batches, optimiser, schedule, limits."""

    batch_tokens: Count = 4_096
    """Padded tokens of the longer side in one update, over all processes and accumulation steps."""
    accumulation: Count = 1
    """Parts into which each process splits its share of an update."""
    learning_rate: Positive = 1e-3
    schedule: Literal["constant", "inverse_sqrt", "linear", "cosine"] = "inverse_sqrt"
    """After the warm-up; linear and cosine fall to final_rate at the end of max_updates (or max_minutes)."""
    warmup_updates: Natural = 400
    final_rate: Probability = 0.0
    """Where linear and cosine end, as a fraction of learning_rate."""
    weight_decay: NonNegative = 0.0
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = 0.98
    clip_norm: Positive = 1.0
    label_smoothing: Dropout = 0.1
    averaging: Averaging = Averaging()
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    max_updates: Count | None = None
    max_epochs: Count | None = None
    max_minutes: Positive | None = None
    """Time in the loop, validation included; over all sittings of an interrupted run."""
    validate_every: Count = 500
    """Updates between two validations."""
    checkpoint_every: Count = 500
    """Updates between two checkpoints."""
    patience: Count | None = None
    """Stop after so many validations without a better BLEU."""
    log_every: Count = 20
    """Updates between two lines in metrics.jsonl."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow", "comet_ml"], ...] = ()

    @model_validator(mode="after")
    def _ends(self) -> Training:
        limits = (self.max_updates, self.max_epochs, self.max_minutes, self.patience)
        if all(limit is None for limit in limits):
            raise ValueError("give a limit: max_updates, max_epochs, max_minutes or patience")
        falls = self.schedule in ("linear", "cosine")
        if falls and self.max_updates is None and self.max_minutes is None:
            raise ValueError(
                f"schedule {self.schedule} needs max_updates or max_minutes to know where it ends"
            )
        return self


@dataclass(frozen=True, config=STRICT)
class Evaluation:
    """How translations are decoded for scores; validation while training is greedy."""

    beam: Count = 5
    length_penalty: float = 1.0
    max_length: Count = 256
    batch_tokens: Count = 8_192


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
