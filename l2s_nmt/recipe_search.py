"""The ``search`` section of a recipe: the parts that an algorithm is composed of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from l2s_nmt.recipe_checks import refuse_incompatible
from l2s_nmt.recipe_types import STRICT, Count, Name, Natural, NonNegative, Positive, Probability, Temperature
from l2s_nmt.search.algorithms import ALGORITHMS
from l2s_nmt.search.costs.bleu import Smoothing
from l2s_nmt.search.costs.table import COSTS, Unit
from l2s_nmt.search.decisions.candidates import CandidatesName
from l2s_nmt.search.decisions.states import StatesName
from l2s_nmt.search.losses.scope import Support
from l2s_nmt.search.losses.table import LOSSES
from l2s_nmt.search.roll_in import RollInPolicy
from l2s_nmt.search.roll_out.bandit import Estimator
from l2s_nmt.search.roll_out.finish import MixUnit
from l2s_nmt.search.roll_out.trajectory_loss import Baseline
from l2s_nmt.search.schedules import ScheduleName


@dataclass(frozen=True, config=STRICT)
class PReference:
    """The probability of the reference in a mixture, by update; a plain number stands for a constant."""

    schedule: ScheduleName = "constant"
    start: Probability = 0.5
    end: Probability = 0.0
    """Where it goes; not used by constant."""
    updates: Count = 1_000
    """How long it takes: linear arrives, exponential has a hundredth left, inverse_sigmoid is half-way at half."""


def _number_is_constant(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"schedule": "constant", "start": float(value)} if is_number else value


Mixture = Annotated[PReference, BeforeValidator(_number_is_constant)]


@dataclass(frozen=True, config=STRICT)
class RollIn:
    """Which policy writes the prefixes on which the model learns."""

    policy: RollInPolicy = "reference"
    p_reference: Mixture = PReference()
    """Of mixed."""
    mix_unit: Literal["state", "sentence"] = "state"
    """Of mixed: draw the policy for each token, or once for a sentence."""
    decoding: Literal["greedy", "sample", "beam"] = "greedy"
    """How the learned policy chooses its tokens."""
    temperature: Temperature = 1.0
    """Of sampling."""
    top_k: Count | None = None
    """Sample among so many most probable tokens."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Sample among the fewest tokens that have this probability together."""
    beam: Annotated[int, Field(ge=2)] = 5
    """Width of beam search."""
    samples: Count = 1
    """Trajectories of each sentence: so many samples, or the best ones of the beam."""
    cross_trained: tuple[Name, ...] = ()
    """Run directories whose models write in place of the learner, each of the part of the sentences that it has not
    learned from (data.fold): first the run that left out part 0, then that of part 1, and so on."""


@dataclass(frozen=True, config=STRICT)
class Reference:
    """The reference policy, derived from the target."""

    name: Literal["copy", "suffix", "edit_distance", "bleu", "mcts", "own"] = "suffix"
    """copy: the target's token at the same position; suffix: the suffix of the target that makes the sentence
    cheapest; edit_distance: the exact dynamic oracle; bleu: the best completion under BLEU, searched; mcts: Monte
    Carlo tree search with the true loss; own: a class of your own."""
    function: Name | None = None
    """module:name of what makes a reference of your own from the cost."""
    quality: Literal["optimal", "suboptimal", "bad"] = "optimal"
    """suboptimal: follows a target some of whose words are wrong; bad: one in reverse order."""
    noise: Probability = 0.3
    """Share of wrong words of a suboptimal reference."""
    coaching: NonNegative = 0.0
    """Weight of the learner's own log-probability in the choice of the action that is shown to it."""
    budget: Count = 500
    """Nodes that bleu may expand for a prefix."""
    simulations: Count = 32
    """Of mcts, for each state."""
    exploration: Positive = 1.5
    """Constant of mcts's PUCT rule."""
    parallel: Count = 8
    """Simulations of mcts for a state at the same time: faster, and each knows a little less; 1 is the textbook's."""


@dataclass(frozen=True, config=STRICT)
class Decisions:
    """At which states of the roll-in the search looks, and which next tokens it tries there."""

    states: StatesName = "all"
    """ends: of the last word and of the end; low_margin, high_entropy: where the model is least sure; failed_segments:
    of the first segment that went wrong."""
    per_sentence: Count = 3
    """Number of states of uniform, low_margin and high_entropy."""
    segment: Count = 4
    """Tokens in a segment, for failed_segments."""
    candidates: CandidatesName = "full"
    """The whole vocabulary (references and experts only); or the k most probable tokens, k drawn from the model, from
    model and target, or uniformly, or the target's tokens around the position, each with the reference's action and
    EOS; or the trajectory's own token alone."""
    k: Count = 4
    """How many; with full, of mcts those that it tries, of experts those that get their own cost."""


@dataclass(frozen=True, config=STRICT)
class RollOut:
    """Which policy finishes the sentence after each candidate."""

    policy: Literal["none", "reference", "learned", "mixed", "trajectory", "expert"] = "none"
    """none: with loss.weight above 0 the reference's action is imitated; trajectory: the roll-in itself is scored;
    expert: other models say how good each token is."""
    p_reference: Mixture = PReference()
    """Of mixed."""
    mix_unit: MixUnit = "sentence"
    """Of mixed: what the policy is drawn for; competing candidates share the draw, except with roll_out."""
    horizon: Natural | None = None
    """Tokens that the learned policy writes after the candidate before the reference finishes the rest."""
    baseline: Baseline = "none"
    """Subtracted from the loss of a trajectory: that of greedy decoding, or the mean of the sentence's others."""
    experts: tuple[Name, ...] = ()
    """Of expert: run directories. A token costs minus the logarithm of the mean of the probabilities that their models
    give it."""


@dataclass(frozen=True, config=STRICT)
class Bandit:
    """One deviation and one observed loss a sentence, in place of all candidates; the reference's action is one of
    those that may be tried, though the reference has seen the target."""

    exploration: Literal["uniform", "boltzmann", "bootstrap"] = "boltzmann"
    epsilon: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of the uniform distribution over the candidates."""
    temperature: Temperature = 1.0
    """Of boltzmann."""
    bag: Count = 5
    """Policies of bootstrap: dropout masks."""
    estimator: Estimator = "doubly_robust"


@dataclass(frozen=True, config=STRICT)
class Aggregation:
    """DAgger's data: everything the reference has labelled so far, kept on disk and replayed."""

    replay: Count = 1
    """Earlier updates that each update learns from as well, all different."""
    capacity: Count = 1_000
    """Updates that are drawn from, the newest ones; files of older ones go with the next checkpoint."""


@dataclass(frozen=True, config=STRICT)
class WeightedCost:
    """One term of a sum of costs."""

    name: Literal[tuple(COSTS)]  # type: ignore[valid-type]
    weight: Positive = 1.0
    unit: Unit | None = None
    smoothing: Smoothing = "add_k"
    function: Name | None = None


@dataclass(frozen=True, config=STRICT)
class Cost:
    """The loss of a finished sentence."""

    name: Literal[(*COSTS, "sum")] = "bleu"  # type: ignore[valid-type]
    unit: Unit | None = None
    """Compare tokens, or the words of the detokenised text; default the first that the cost can."""
    smoothing: Smoothing = "add_k"
    """Of sentence BLEU."""
    function: Name | None = None
    """module:function of a cost of your own: lists of sources, translations and references to a list of numbers."""
    terms: tuple[WeightedCost, ...] = ()
    """Of a sum."""

    @property
    def needs_reference(self) -> bool:
        """Whether it compares with a reference, as all do but one of your own, which may not."""
        return any(term.name != "own" for term in self.terms or (self,))


@dataclass(frozen=True, config=STRICT)
class Loss:
    """The cost-sensitive loss, and the cross-entropy mixed with it."""

    name: Literal[(*LOSSES, "own")] = "expected_cost"  # type: ignore[valid-type]
    function: Name | None = None
    """module:function of a loss of your own."""
    alpha: Positive | None = None
    """Scale of the costs, in the losses that have one (left out, 10); of log P in minimum_risk (0.05) and
    beam_expected_cost (0.2). A loss of your own gets 1 where it is left out."""
    support: Support = "vocabulary"
    """Normalise the policy over all tokens, or over the candidates alone (sampled softmax)."""
    weight: NonNegative = 0.0
    """Weight of the cost-sensitive loss, the algorithm's even where another loss is named; minimum_risk weighs so much
    over roll_in.samples."""
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
    reference: Reference = Reference()
    decisions: Decisions = Decisions()
    roll_out: RollOut = RollOut()
    bandit: Bandit | None = None
    aggregation: Aggregation | None = None
    cost: Cost = Cost()
    loss: Loss = Loss()
    length_limit: LengthLimit = LengthLimit()
    max_branch_tokens: Count | None = None
    """Most tokens of roll-outs in memory at once, their number times the longest's; none: as many as fit."""

    @model_validator(mode="after")
    def _compatible(self) -> Search:
        refuse_incompatible(self)
        return self

    @property
    def searches(self) -> bool:
        """There is more than teacher forcing."""
        return self.loss.weight > 0
