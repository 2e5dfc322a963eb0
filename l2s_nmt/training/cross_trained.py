"""The models of cross-trained runs, which roll in on the sentences that each of them has not learned from."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from l2s_nmt.architecture import load_model
from l2s_nmt.data.tokenizer import load_tokenizer, vocabularies
from l2s_nmt.errors import UserError
from l2s_nmt.model import Policy
from l2s_nmt.recipe import Data, Fold, Recipe
from l2s_nmt.run import Run

_ANY = 2**63
"""Positions of a model that has no limit."""


def load_cross_trained(
    recipe: Recipe, tokenizer: PreTrainedTokenizerBase, learner: Policy, device: torch.device
) -> list[Policy]:
    """The best weights of the runs that the recipe names, in evaluation mode and without gradients.

    Raises:
        UserError: a run left out another part than its place says, numbers the sentences in another way, or its model
            does not fit the learner's.
    """
    paths = recipe.search.roll_in.cross_trained
    policies = []
    for part, path in enumerate(paths):
        run = Run(Path(path))
        problem = _problem(run.read_recipe().data, recipe.data, Fold(len(paths), part))
        if problem:
            raise _refusal(run, problem)
        if vocabularies(load_tokenizer(run.weights())) != vocabularies(tokenizer):
            raise _refusal(
                run, "its vocabulary is not the learner's; train it on the same data and tokenizer"
            )
        policy = Policy(load_model(run.weights()).to(device)).eval().requires_grad_(False)
        if (policy.positions or _ANY) < (learner.positions or _ANY):
            raise _refusal(
                run, f"{policy.positions} positions are fewer than the learner's; set model.architecture"
            )
        policies.append(policy)
    return policies


def _problem(theirs: Data, ours: Data, wanted: Fold) -> str | None:
    if theirs.fold != wanted:
        has = "none, so it learned from all sentences" if theirs.fold is None else _written(theirs.fold)
        return f"its place in the list needs data.fold {_written(wanted)}, and it has {has}"
    if theirs.filters != ours.filters:
        return "its data.filters are others, so that the same sentence has another number; give both the same"
    return None


def _written(fold: Fold) -> str:
    return f"{{of: {fold.of}, left_out: {fold.left_out}}}"


def _refusal(run: Run, problem: str) -> UserError:
    return UserError(f"search.roll_in.cross_trained: {run.path}: {problem}")
