"""A run made ready to be looked at: its model, and the parts of its recipe, set to look at every state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from l2s_nmt.architecture import load_model
from l2s_nmt.build_cost import build_cost, texts
from l2s_nmt.data.batches import Batch, collate
from l2s_nmt.data.tokenizer import encode_sources, encode_targets, load_tokenizer
from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.runs import short_names
from l2s_nmt.explanation.types import Facts, Pair
from l2s_nmt.explanation.words import describe
from l2s_nmt.model import Policy
from l2s_nmt.recipe import Recipe
from l2s_nmt.recipe_search import Search
from l2s_nmt.run import Run, read_metrics
from l2s_nmt.search.context import Context, LengthLimit, see
from l2s_nmt.search.costs.cost import Cost
from l2s_nmt.search.decisions.candidates import CandidateChoice
from l2s_nmt.search.decisions.states import StateChoice
from l2s_nmt.search.losses.expected_cost import expected_cost
from l2s_nmt.search.losses.table import LossFunction, Support
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.protocol import Reference
from l2s_nmt.search.roll_out.bandit import Bandit
from l2s_nmt.search.roll_out.deviations import Deviations
from l2s_nmt.search.roll_out.finish import RollOutPolicy
from l2s_nmt.search.roll_out.outcome import Outcome, RollOut
from l2s_nmt.search.roll_out.reference_costs import ReferenceActions, ReferenceCosts
from l2s_nmt.training.build import build_limit, build_objective
from l2s_nmt.training.build_search import build_reference, build_search
from l2s_nmt.training.other_models import load_experts

EVERY = StateChoice("all")


@dataclass(frozen=True)
class Loss:
    """A cost-sensitive loss with its settings."""

    function: LossFunction
    alpha: float
    support: Support

    def pushes(self, scores: Tensor, outcome: Outcome) -> Tensor:
        """(N, V) minus the derivative of the loss by each of the scores (N, V): where an update would move them."""
        with torch.enable_grad():
            leaf = scores.detach().clone().requires_grad_()
            loss = partial(self.function, alpha=self.alpha, support=self.support)
            total = loss(leaf, outcome.decisions, outcome.costs).sum()
            (gradient,) = torch.autograd.grad(total, leaf)
        return -gradient


@dataclass(frozen=True)
class Subject:
    """A run as an explanation needs it."""

    name: str
    policy: Policy
    """In evaluation mode."""
    tokenizer: PreTrainedTokenizerBase
    cost: Cost
    reference: Reference
    limit: LengthLimit
    draws: Draws
    """Of the run's last update, where its search leaves something to chance."""
    roll_out: RollOut
    """What the recipe does to learn what choices cost, at every state."""
    loss: Loss

    def read(self, pair: Pair) -> Context:
        """A batch of one sentence.

        Raises:
            UserError: the source is longer than the model's positions.
        """
        source = encode_sources(self.tokenizer, [pair.source])[0]
        if self.policy.positions is not None and len(source) > self.policy.positions:
            raise UserError(
                f"{pair.name}: the source has {len(source)} tokens, but the model of {self.name} has "
                f"{self.policy.positions} positions; split the sentence"
            )
        references = encode_targets(self.tokenizer, list(pair.references))
        batch: Batch = collate([source], references[:1], np.zeros(1, np.int64), self.policy.pad, [references])
        return see(self.policy, batch.to(self.policy.model.device), self.draws, self.limit)

    @torch.no_grad()
    def probabilities(self, pair: Pair, tokens: Tensor) -> Tensor | None:
        """(T, V) of each next token along anyone's translation (1, T); None where it is longer than the positions."""
        if self.policy.positions is not None and tokens.shape[1] > self.policy.positions:
            return None
        scores = self.policy.score(self.read(pair).memory, tokens)[0]
        return self.policy.mask_scores(scores).float().softmax(-1)


def load_subjects(runs: Sequence[Run], candidates: int) -> tuple[list[Subject], Facts]:
    """Load the best weights of runs, to be looked at with one search: that of the last run that searches.

    Args:
        runs: trained runs.
        candidates: most probable tokens tried where the recipe does not say what to try.

    Returns:
        the runs, and the search.

    Raises:
        UserError: one is no run, or has no weights yet, or the same is given twice.
    """
    recipes = [run.read_recipe() for run in runs]
    lens = max(range(len(runs)), key=lambda index: (recipes[index].search.searches, index))
    recipe = recipes[lens]
    updates = [line["update"] for line in read_metrics(runs[lens])]
    draws = Draws(recipe.seed, max(updates, default=0))
    names = short_names([run.path for run in runs])
    subjects = [_subject(run, names[run.path], recipe, draws, candidates) for run in runs]
    return subjects, describe(recipe, names[runs[lens].path], is_stand_in=not _prices_choices(recipe.search))


def _subject(run: Run, name: str, recipe: Recipe, draws: Draws, candidates: int) -> Subject:
    data, folder = run.read_recipe().data, run.weights()
    tokenizer = load_tokenizer(folder, **data.codes)
    model = load_model(folder).to("cuda" if torch.cuda.is_available() else "cpu")
    policy = Policy(model, recipe.search.max_branch_tokens).eval()
    experts = load_experts(recipe, tokenizer, policy, model.device)
    return make_subject(name, recipe, policy, tokenizer, draws, candidates, experts)


def make_subject(
    name: str,
    recipe: Recipe,
    policy: Policy,
    tokenizer: PreTrainedTokenizerBase,
    draws: Draws,
    candidates: int,
    experts: Sequence[Policy] = (),
) -> Subject:
    """A model, and the parts of the recipe that it is looked at with; see `Subject` and `load_subjects`."""
    search, decoding = recipe.search, texts(tokenizer, recipe.bleu_tokenizer)
    limit = build_limit(search, policy)
    cost = build_cost(search.cost, decoding)
    reference = build_reference(search, cost)
    stages = build_search(search, limit, decoding, experts=experts)
    parts = None if stages is None else _everywhere(stages.roll_out)
    roll_out, loss = (parts, _loss(recipe)) if parts else _stand_in(cost, reference, candidates)
    return Subject(name, policy, tokenizer, cost, reference, limit, draws, roll_out, loss)


def _prices_choices(search: Search) -> bool:
    return search.searches and search.roll_out.policy != "trajectory"


def _everywhere(roll_out: RollOut) -> RollOut | None:
    """The same at every state; None for what scores whole translations and no single choice."""
    if isinstance(roll_out, ReferenceCosts | ReferenceActions | Deviations):
        return replace(roll_out, states=EVERY)
    if isinstance(roll_out, Bandit):  # what it estimates, without its noise
        return Deviations(EVERY, roll_out.candidates, roll_out.roll_out)
    return None


def _stand_in(cost: Cost, reference: Reference, candidates: int) -> tuple[Deviations, Loss]:
    """Expected cost with learned roll-outs, for recipes that price no single choice."""
    finish = RollOutPolicy("learned", cost, reference, own_is_greedy=True)
    tried = CandidateChoice("top_k", candidates, reference)
    return Deviations(EVERY, tried, finish), Loss(expected_cost, 1.0, "vocabulary")


def _loss(recipe: Recipe) -> Loss:
    objective = build_objective(recipe)
    assert objective.loss is not None, "a recipe that searches has a loss"
    return Loss(objective.loss, objective.alpha, objective.support)
