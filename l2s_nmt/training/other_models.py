"""The models of other runs that a search learns with: cross-trained ones that roll in, and experts that price.

Cross-trained models write the prefixes of the sentences that each of them has not learned from; experts say how
probable each token is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from l2s_nmt.architecture import load_model
from l2s_nmt.data.tokenizer import load_tokenizer, vocabularies
from l2s_nmt.errors import UserError
from l2s_nmt.model import Policy
from l2s_nmt.recipe import Data, Fold, Recipe
from l2s_nmt.run import Run, read_stamps
from l2s_nmt.weights import weights_digest

_ANY = 2**63
"""Positions of a model that has no limit."""
START = "model.from_run"
"""What `stamp_of_start` is noted as."""
_CROSS_TRAINED, _EXPERTS = "search.roll_in.cross_trained", "search.roll_out.experts"


def stamps_of_others(recipe: Recipe) -> dict[str, str]:
    """What tells the weights that a run learns with from others.

    Raises:
        UserError: a run has none.
    """
    given = {_CROSS_TRAINED: recipe.search.roll_in.cross_trained, _EXPERTS: recipe.search.roll_out.experts}
    return {
        f"run {number} of {key}": weights_digest(Run(Path(path)))
        for key, paths in given.items()
        for number, path in enumerate(paths, 1)
    }


def stamp_of_start(recipe: Recipe) -> dict[str, str]:
    """What tells the weights of the run that training starts from; nothing where it starts from none.

    Raises:
        UserError: the run has none.
    """
    start = recipe.model.from_run
    return {} if start is None else {START: weights_digest(Run(Path(start)))}


def load_cross_trained(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerBase,
    learner: Policy,
    device: torch.device,
    stamps: Mapping[str, str],
) -> list[Policy]:
    """The best weights of the runs that roll in, in evaluation mode, to be asked without gradients.

    Args:
        recipe: of the learner.
        tokenizer: of the learner.
        learner: that they roll in for.
        device: where they shall be.
        stamps: of each split of the learner's data, what tells it from others.

    Raises:
        UserError: a run left out another part than its place says, numbers the sentences in another way, or its model
            does not fit the learner's.
    """
    runs = [Run(Path(path)) for path in recipe.search.roll_in.cross_trained]
    for part, run in enumerate(runs):
        problem = _problem(run.read_recipe().data, recipe.data, Fold(len(runs), part))
        if problem is None and read_stamps(run).get("train") != stamps["train"]:
            problem = "its training data are others, so that it has seen other sentences; train it on these"
        if problem:
            raise _refusal(_CROSS_TRAINED, run, problem)
    policies = [_load(_CROSS_TRAINED, run, tokenizer, learner, device) for run in runs]
    longest = recipe.data.filters.max_tokens
    for run, policy in zip(runs, policies, strict=True):
        if min(longest, policy.positions or longest) != min(longest, learner.positions or longest):
            problem = (
                f"with its {policy.positions} positions it has kept longer sentences than the learner, so that the "
                "same sentence has another number; set model.architecture.positions alike"
            )
            raise _refusal(_CROSS_TRAINED, run, problem)
    return policies


def load_experts(
    recipe: Recipe, tokenizer: PreTrainedTokenizerBase, learner: Policy, device: torch.device
) -> list[Policy]:
    """The best weights of the runs that price tokens, in evaluation mode, to be asked without gradients.

    Raises:
        UserError: a run's model does not fit the learner's.
    """
    runs = [Run(Path(path)) for path in recipe.search.roll_out.experts]
    for run in runs:
        problem = _other_languages(run.read_recipe().data, recipe.data)
        if problem:
            raise _refusal(_EXPERTS, run, problem)
    experts = [_load(_EXPERTS, run, tokenizer, learner, device) for run in runs]
    for run, expert in zip(runs, experts, strict=True):
        if expert.outputs != learner.outputs:
            problem = f"its output layer has {expert.outputs:,} rows and the learner's {learner.outputs:,}"
            raise _refusal(_EXPERTS, run, f"{problem}; train both from scratch, or from the same model")
    return experts


def _load(
    key: str, run: Run, tokenizer: PreTrainedTokenizerBase, learner: Policy, device: torch.device
) -> Policy:
    if vocabularies(load_tokenizer(run.weights())) != vocabularies(tokenizer):
        raise _refusal(
            key, run, "its vocabulary is not the learner's; train one with tokenizer.pretrained of the other"
        )
    policy = Policy(load_model(run.weights()).to(device)).eval()
    if (policy.positions or _ANY) < (learner.positions or _ANY):
        raise _refusal(
            key, run, f"{policy.positions} positions are fewer than the learner's; set model.architecture"
        )
    return policy


def _problem(theirs: Data, ours: Data, wanted: Fold) -> str | None:
    if problem := _other_languages(theirs, ours):
        return problem
    if theirs.fold != wanted:
        has = "none, so it learned from all sentences" if theirs.fold is None else _written(theirs.fold)
        return f"its place in the list needs data.fold {_written(wanted)}, and it has {has}"
    if theirs.filters != ours.filters:
        return "its data.filters are others, so that the same sentence has another number; give both the same"
    if theirs.train_targets != ours.train_targets:
        return "its data.train_targets is another, so that the same sentence has another number; give both the same"
    return None


def _other_languages(theirs: Data, ours: Data) -> str | None:
    they, we = (" to ".join(data.codes.values()) for data in (theirs, ours))
    if they == we:
        return None
    return f"it translates {they}, and the learner {we} (data.source_code and target_code tell where only names differ)"


def _written(fold: Fold) -> str:
    return f"{{of: {fold.of}, left_out: {fold.left_out}}}"


def _refusal(key: str, run: Run, problem: str) -> UserError:
    return UserError(f"{key}: {run.path}: {problem}")
