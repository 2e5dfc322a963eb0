"""What is measured: the recipe's model, warmed up, on its corpus, in the trainers that users run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from l2s_nmt.build_cost import texts
from l2s_nmt.cpu import keep_freed_memory
from l2s_nmt.data.batches import Rows
from l2s_nmt.data.training_data import TrainingData
from l2s_nmt.errors import UserError
from l2s_nmt.model import Policy
from l2s_nmt.recipe import Recipe
from l2s_nmt.recipe_file import Settings, as_settings, make_recipe, merge, read_recipe
from l2s_nmt.run import Run
from l2s_nmt.search.search import Search
from l2s_nmt.training import build, prepare
from l2s_nmt.training.build_search import build_search
from l2s_nmt.training.checkpoints import seed_update
from l2s_nmt.training.loop import Trainer
from l2s_nmt.training.progress import Display
from l2s_nmt.training.starts import Starts
from l2s_nmt.training.train import train
from l2s_nmt.training.validate import Validation
from scripts.bench.clock import Turn, stopwatch
from scripts.bench.plan import Plan

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "multi30k_de_en" / "teacher_forcing.yaml"

TEACHER_FORCING: Settings = {"algorithm": "teacher_forcing"}
REFERENCE_STEP: Settings = {"algorithm": "aggrevated", "roll_in": {"decoding": "greedy"}}
"""Edit distance at all positions over the full vocabulary, on greedy roll-ins of the model."""
LEARNED_STEP: Settings = {
    "algorithm": "lols",
    "decisions": {"per_sentence": 3, "k": 4},
    "roll_out": {"policy": "learned"},
}
"""Three states a sentence, four candidates each, greedy roll-ins and roll-outs of the model."""

_FROZEN = {"learning_rate": 1e-9, "schedule": "constant", "warmup_updates": 0, "trackers": []}
"""The weights all but stay, so that the last round has the same work as the first."""


class TurnTrainer(Trainer):
    """The training loop, stopped and continued at will."""

    def turn(self, updates: Sequence[Any]) -> Turn:
        """Make some updates, each from its row numbers; the work is in target tokens."""
        before = self.progress.update
        with stopwatch() as watch:
            for rows in updates:
                self._update(rows)
                if self.progress.update % self.limits.log_every == 0:
                    self.recorder.log(self.progress)
        assert self.progress.update == before + len(updates)
        tokens = sum(int(self.data.load(rows).target_lengths.sum()) for rows in updates)
        return Turn(watch.seconds, tokens)


def read_settings(
    recipe: Path, overrides: Sequence[str], plan: Plan, *, data: Path | None, run: Path | None
) -> Settings:
    """The settings of what is measured, with a corpus that is at hand.

    Args:
        recipe: with ``key.sub=value`` overrides on top.
        overrides: of the recipe, over those of the plan, which are for new models.
        plan: says how large the generated corpus is.
        data: a folder with the recipe's languages; None: $L2S_NMT_DATA/multi30k_de_en in place of a corpus from
            the hub where it is set, else the generated corpus.
        run: start from its weights, on its corpus unless ``data`` is given.
    """
    chosen = read_recipe(recipe, overrides)
    if prepare.model_start(chosen) is None:
        chosen = read_recipe(recipe, [*plan.overrides, *overrides])
    settings = as_settings(chosen)
    if run is not None:
        settings = starting_from(settings, run)
        settings["data"] = as_settings(Run(run).read_recipe())["data"]
    home = os.environ.get("L2S_NMT_DATA")
    if data is not None:
        settings["data"] = merge(
            settings["data"], {"files": str(data.resolve()), "hub": None, "embedded": None}
        )
    elif settings["data"]["files"] is None and settings["data"]["hub"] is not None:
        if home:
            place: Settings = {"files": str(Path(home).resolve() / "multi30k_de_en"), "hub": None}
        else:
            train, valid = plan.embedded
            corpus = {"train": train, "valid": valid, "test": valid}
            place = {"hub": None, "embedded": corpus, "source_language": "vo", "target_language": "ta"}
        settings["data"] = merge(settings["data"], place)
    return settings


def starting_from(settings: Settings, run: Path) -> Settings:
    """The settings with the best weights of a run in place of a new model."""
    kept = {key: value for key, value in settings.items() if key != "tokenizer"}
    return {**kept, "model": {"from_run": str(run), "dropout": settings["model"]["dropout"]}}


def warm_up(settings: Settings, updates: int, folder: Path) -> Settings:
    """Train by teacher forcing for a while, and start from there; a model that is trained stays as it is."""
    if settings["model"]["from_run"] or settings["model"]["pretrained"]:
        return settings
    training: Settings = {
        "warmup_updates": updates // 3,
        "max_updates": updates,
        "max_minutes": None,
        "averaging": {"kind": "none"},
        "validate_every": updates,
        "trackers": [],
    }
    changed = {**merge(settings, {"training": training}), "search": TEACHER_FORCING}
    train(make_recipe(changed), folder)
    return starting_from(settings, folder)


@dataclass(frozen=True)
class Workbench:
    """Everything that the contenders have in common."""

    settings: Settings
    corpus: prepare.Corpus
    tokenizer: PreTrainedTokenizerBase
    data: TrainingData
    updates: Sequence[Rows]
    """The updates of the first epoch, as row numbers."""
    accelerator: Accelerator
    folder: Path

    @staticmethod
    def open(settings: Settings, folder: Path) -> Workbench:
        """Read corpus, tokenizer and encoded sentences.

        Raises:
            UserError: something in the settings is unsound, or the model is too new to have a tokenizer.
        """
        disable_progress_bar()
        frozen = merge(settings, {"training": _FROZEN})
        recipe = make_recipe(frozen)
        if prepare.model_start(recipe) is None:
            raise UserError("there is no trained model to measure; warm one up first")
        display = Display(enabled=False)
        corpus = prepare.read_corpus(recipe, display.say)
        tokenizer = prepare.find_tokenizer(recipe, corpus, folder / "tokenizer")
        model = prepare.find_model(recipe, tokenizer)
        data = prepare.training_data(recipe, corpus, tokenizer, model, display.say)
        accelerator = build.build_accelerator(recipe, str(folder))
        if accelerator.device.type == "cpu":
            keep_freed_memory()
        seed_update(recipe.seed, 0, accelerator.process_index)
        return Workbench(frozen, corpus, tokenizer, data, data.block(0, 0) or [], accelerator, folder)

    def recipe(self, search: Mapping[str, Any] | None = None) -> Recipe:
        """The recipe, with another search in place of its own."""
        return make_recipe(self.settings if search is None else {**self.settings, "search": dict(search)})

    def policy(self) -> Policy:
        """A policy of its own with the starting weights."""
        recipe = self.recipe()
        model = prepare.find_model(recipe, self.tokenizer)
        return Policy(model.to(self.accelerator.device), recipe.search.max_branch_tokens)

    def search(self, recipe: Recipe, policy: Policy) -> Search | None:
        """The recipe's search; None for teacher forcing."""
        return build_search(
            recipe.search, build.build_limit(recipe.search, policy), texts(self.tokenizer, "13a")
        )

    def trainer(
        self, recipe: Recipe, policy: Policy | None = None, data: TrainingData | None = None
    ) -> TurnTrainer:
        """The recipe's training loop, with a policy of its own and the corpus's data unless others are given."""
        policy = policy or self.policy()
        self.folder.mkdir(parents=True, exist_ok=True)
        stepper = build.build_stepper(recipe, policy, self.accelerator, print)
        averager = build.build_averager(recipe, policy)
        return TurnTrainer(
            accelerator=self.accelerator,
            policy=policy,
            stepper=stepper,
            schedule=build.build_schedule(recipe),
            averager=averager,
            starts=Starts(averager, stepper),
            search=self.search(recipe, policy),
            aggregate=build.build_aggregate(recipe, self.folder, self.accelerator),
            objective=build.build_objective(recipe),
            data=data or self.data,
            limits=build.build_limits(recipe),
            validate=_no_validation,
            save_weights=lambda name: None,
            folder=self.folder,
            seed=recipe.seed,
            accumulation=recipe.training.accumulation,
            display=Display(enabled=False),
            texts=texts(self.tokenizer, "13a"),
        )

    def chosen(self, number: int, count: int) -> list[Rows]:
        """The ``count`` updates of a round."""
        return [self.updates[(number * count + i) % len(self.updates)] for i in range(count)]

    def typical(self) -> Rows:
        """An update of middling size: the one with the median number of sentences."""
        return sorted(self.updates, key=len)[len(self.updates) // 2]


def _no_validation() -> Validation:
    raise AssertionError("a turn does not validate")
