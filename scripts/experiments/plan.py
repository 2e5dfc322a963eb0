"""What is compared with what: a plan, from a YAML file beside the recipes that it is about."""

from __future__ import annotations

import json
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from l2s_nmt.errors import UserError
from l2s_nmt.recipe import Recipe
from l2s_nmt.recipe_file import Settings, as_settings, make_recipe, merge, put_over, read_recipe
from l2s_nmt.recipe_types import STRICT
from l2s_nmt.recipe_yaml import load_yaml


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("the same more than once")
    return values


_SOME = (Field(min_length=1), AfterValidator(_distinct))
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
"""Also of folders."""


@dataclass(frozen=True, config=STRICT)
class System:
    """A row of the table."""

    recipe: str
    """Relative to the folder of the corpus."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Over those of the recipe and of the plan."""
    label: str | None = None
    """How the table calls it; None: by its name."""


START = "the start"
"""The row of the run that all others start from."""


@dataclass(frozen=True, config=STRICT)
class Plan:
    """One table: systems with several seeds each, the first one the baseline."""

    title: str
    systems: Annotated[dict[Name, System], Field(min_length=1)]
    question: str | None = None
    """What a user wants to know who reads the table."""
    others: dict[Name, System] = field(default_factory=dict)
    """Runs that systems learn with, such as cross-trained ones, trained before them to runs/CORPUS/NAME."""
    start: str | None = None
    """Recipe of the run that all others start from, relative to the folder of the corpus; None: from scratch."""
    seeds: Annotated[tuple[int, ...], *_SOME] = (1, 2, 3)
    settings: dict[str, Any] = field(default_factory=dict)
    """Of all systems, over those of their recipes."""
    splits: Annotated[tuple[Literal["valid", "test"], ...], *_SOME] = ("valid", "test")
    beams: Annotated[tuple[Annotated[int, Field(ge=1)], ...], *_SOME] = (1, 5)
    exposure: Annotated[int, Field(ge=1)] | None = None
    """Sentences on which exposure bias is measured."""

    @property
    def names(self) -> dict[str, str]:
        """What the table calls each system."""
        return {name: system.label or name for name, system in self.systems.items()}


@dataclass(frozen=True)
class Training:
    """A run that the plan needs."""

    name: str
    """Of the system; of the recipe where all others start from it."""
    run: Path
    settings: dict[str, Any]
    """The whole recipe, as it is published."""
    place: dict[str, Any]
    """What is to be changed in it to train here: where the corpus is, and the start."""

    def recipe(self) -> Recipe:
        """The recipe to train here.

        Raises:
            UserError: something in it is unsound.
        """
        return make_recipe(merge(self.settings, self.place))


@dataclass(frozen=True)
class Study:
    """A plan and where it happens."""

    plan: Plan
    path: Path
    """Of the plan: CORPUS/experiments/NAME.yaml."""
    runs: Path
    data: Path | None
    """A folder with the corpus; None: where the recipes say."""

    @staticmethod
    def read(path: Path, runs: Path, data: Path | None) -> Study:
        """The plan in a file.

        Raises:
            UserError: it cannot be read, or something in it is unknown or of a wrong type.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read ({error})") from error
        values, _ = load_yaml(text, str(path), "a plan", numbered=False)
        try:
            plan = TypeAdapter(Plan).validate_json(json.dumps(values, default=str))
        except ValidationError as error:
            problems = (
                f"{path}: {'.'.join(map(str, item['loc'])) or 'a plan needs title and systems'}: {item['msg']}"
                for item in error.errors()
            )
            raise UserError("\n".join(problems)) from None
        own = {"start", path.stem, *([Path(plan.start).stem] if plan.start else [])}
        if taken := sorted(own & plan.others.keys()):
            raise UserError(
                f"{path}: others.{taken[0]}: the plan has that name or its start; give it another one"
            )
        names = [START, *plan.names.values()] if plan.start else [*plan.names.values()]
        for name in names:
            if names.count(name) > 1:
                raise UserError(
                    f"{path}: systems: two rows of the table are called {name!r}; give them other labels"
                )
        return Study(plan, path, runs, data)

    @property
    def corpus(self) -> Path:
        """The folder of the corpus's recipes."""
        return self.path.resolve().parent.parent

    @property
    def results(self) -> Path:
        """Where results are kept."""
        return self.corpus / "results" / self.path.stem

    def start(self) -> Training | None:
        """What all others start from."""
        if self.plan.start is None:
            return None
        settings = as_settings(read_recipe(self.corpus / self.plan.start))
        name = Path(self.plan.start).stem
        return Training(name, self.runs / self.corpus.name / name, settings, self._place(settings))

    def others(self) -> list[Training]:
        """What systems learn with.

        Raises:
            UserError: a recipe or a setting is unsound.
        """
        return [self._other(name, other) for name, other in self.plan.others.items()]

    def _other(self, name: str, other: System) -> Training:
        settings = _over(as_settings(read_recipe(self.corpus / other.recipe)), other.settings)
        settings = self._sound(settings, f"others.{name}")
        run = self.runs / self.corpus.name / name
        place = merge(self._place(settings), self._learned_with(settings))
        return self._checked(Training(name, run, settings, place), f"others.{name}")

    def trainings(self) -> list[Training]:
        """All systems, one after the other, each with all seeds.

        Raises:
            UserError: a recipe or a setting is unsound.
        """
        return [
            self._training(name, system, seed)
            for name, system in self.plan.systems.items()
            for seed in self.plan.seeds
        ]

    def _training(self, name: str, system: System, seed: int) -> Training:
        settings = as_settings(read_recipe(self.corpus / system.recipe))
        for own in (self.plan.settings, system.settings, {"seed": seed}):
            settings = _over(settings, own)
        settings = self._sound(settings, f"systems.{name}")
        place = self._place(settings)
        start = self.start()
        if start is not None:
            settings["model"] = {**settings["model"], "from_run": self._usual(start.name)}
            place = merge(place, {"model": {"from_run": str(start.run)}})
        place = merge(place, self._learned_with(settings))
        run = self.runs / self.corpus.name / self.path.stem / name / f"seed{seed}"
        return self._checked(Training(name, run, settings, place), f"systems.{name}")

    def _usual(self, name: str) -> str:
        """How recipes call a run that others build on."""
        return f"runs/{self.corpus.name}/{name}"

    def _learned_with(self, settings: Settings) -> Settings:
        """Where the runs are here that a training learns with, or has its tokenizer from: the start, or others."""
        names = [*self.plan.others, *([] if self.plan.start is None else [Path(self.plan.start).stem])]
        here = {self._usual(name): str(self.runs / self.corpus.name / name) for name in names}
        search: Settings = {}
        for part, key in (("roll_in", "cross_trained"), ("roll_out", "experts")):
            runs = settings["search"].get(part, {}).get(key)
            if runs:
                search[part] = {key: [here.get(run, run) for run in runs]}
        found: Settings = {"search": search}
        run, _, last = ((settings.get("tokenizer") or {}).get("pretrained") or "").rpartition("/")
        if run in here:
            found["tokenizer"] = {"pretrained": f"{here[run]}/{last}"}
        return found

    def _sound(self, settings: Settings, where: str) -> Settings:
        """Settings of a recipe, with nothing in a section that was left empty."""
        self._tried(settings, where)
        return {key: {} if value is None else value for key, value in settings.items()}

    def _checked(self, training: Training, where: str) -> Training:
        """What is unsound is found before hours are spent on the rest."""
        self._tried(merge(training.settings, training.place), where)
        return training

    def _tried(self, settings: Settings, where: str) -> None:
        try:
            make_recipe(settings)
        except UserError as error:
            raise UserError(f"{self.path}: {where}: {error}") from error

    def _place(self, settings: Settings) -> Settings:
        if self.data is None or settings["data"]["embedded"] is not None:
            return {}
        return {"data": {"files": str(self.data), "hub": None, "embedded": None}}


def _over(settings: Settings, own: Settings) -> Settings:
    """Settings with others over them; another algorithm brings all of its own parts."""
    algorithms = [_algorithm(settings), _algorithm(own) or _algorithm(settings)]
    if algorithms[0] != algorithms[1]:
        settings = {**settings, "search": {}}
    return put_over(settings, own)


def _algorithm(settings: Settings) -> Any:
    search = settings.get("search")
    return search.get("algorithm") if isinstance(search, dict) else None
