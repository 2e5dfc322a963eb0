"""The ratios: steps against teacher forcing and Seq2SeqTrainer, the roll-out engine against `generate`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F

from scripts.bench import arithmetic
from scripts.bench.clock import (
    Contender,
    Rounds,
    Spread,
    Turn,
    price_ratio,
    prices,
    rates,
    stopwatch,
    take_turns,
)
from scripts.bench.plan import Plan
from scripts.bench.rollouts import Arena
from scripts.bench.seq2seq import Rival, UsualMemory
from scripts.bench.setting import LEARNED_STEP, REFERENCE_STEP, TEACHER_FORCING, TurnTrainer, Workbench

STEPS = {
    "teacher_forcing": TEACHER_FORCING,
    "reference_step": REFERENCE_STEP,
    "learned_step": LEARNED_STEP,
}
_COMPARED_STATES = 20
"""States at which the sentences of `generate` are compared with those of slow decoding."""
_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Ratio:
    """One figure of the benchmark."""

    name: str
    measured: Spread
    better: Literal["higher", "lower"]
    target: float | None
    limit: float
    """What no implementation can pass at the measured matrix rate."""

    @property
    def met(self) -> bool | None:
        """The median reaches the target; None without one."""
        if self.target is None:
            return None
        if self.better == "higher":
            return self.measured.median >= self.target
        return self.measured.median <= self.target


@dataclass(frozen=True)
class Steps:
    """What was measured in one sequence of turns."""

    ratios: list[Ratio]
    absolute: dict[str, Any]
    checks: dict[str, float]
    """What must be near 1 for the figures to mean anything."""
    stored: dict[str, float]
    """Numbers kept from a forward pass to its backward pass, as multiples of teacher forcing's, by step."""


@dataclass(frozen=True)
class Needs:
    """The arithmetic of the typical update."""

    update: dict[str, float]
    """Operations of a step, by its name."""
    tokens: float
    """Target tokens."""
    branch: float
    """Operations of a branch, on average over all, those that need none included."""
    stored: dict[str, float]
    """Numbers kept for the backward pass, by step."""

    @staticmethod
    def of(sizes: arithmetic.Sizes, arena: Arena) -> Needs:
        """Both searching steps have greedy roll-ins, so these are the same."""
        learned = arena.needed()
        reference = everywhere(learned)
        tokens, source = float(learned.target.sum()), float(learned.source.sum())

        def stored(search: arithmetic.Search) -> float:
            deepest, states = float(search.deepest.sum()), float(search.states.sum())
            return sizes.stored(source, tokens + deepest, tokens + states)

        return Needs(
            update={
                "teacher_forcing": arithmetic.teacher_forcing(sizes, learned.source, learned.target),
                "reference_step": arithmetic.search_step(sizes, reference),
                "learned_step": arithmetic.search_step(sizes, learned),
            },
            tokens=tokens,
            branch=arithmetic.roll_out(sizes, learned) / max(len(learned.branch_length), 1),
            stored={
                "teacher_forcing": sizes.stored(source, tokens, tokens),
                "reference_step": stored(reference),
                "learned_step": stored(learned),
            },
        )


def everywhere(search: arithmetic.Search) -> arithmetic.Search:
    """The same roll-ins with every state searched and nothing rolled out."""
    none = search.source[:0]
    roll_in = search.roll_in
    return arithmetic.Search(search.source, search.target, roll_in, roll_in, roll_in, none, none, none)


def measure_steps(bench: Workbench, plan: Plan) -> Steps:
    """Let trainers, engine, `generate` and plain matrix products work turn by turn."""
    # First, since it sets up accelerate's state anew.
    rival = Rival(bench, bench.recipe(TEACHER_FORCING))
    trainers = {name: bench.trainer(bench.recipe(search)) for name, search in STEPS.items()}
    arena = _arena(bench)
    sizes = arithmetic.Sizes.of(trainers["teacher_forcing"].policy.model)
    needs = Needs.of(sizes, arena)
    contenders: dict[str, Contender] = {
        "matrix": partial(_multiply, sizes, int(needs.tokens), bench),
        **{name: partial(_train, bench, trainer, plan.updates) for name, trainer in trainers.items()},
        "seq2seq_trainer": partial(_rival, rival, plan.updates, keeps_memory=False),
        "seq2seq_trainer_keeping_memory": partial(_rival, rival, plan.updates, keeps_memory=True),
        "engine": partial(_autocast, bench, arena.engine),
        "generate": partial(_autocast, bench, partial(arena.generate, sentences=plan.generated)),
    }
    turns = take_turns(contenders, plan.rounds)
    checks = {
        "seq2seq_trainer_tokens_to_ours": sum(turn.work for turn in turns["seq2seq_trainer"])
        / sum(turn.work for turn in turns["teacher_forcing"]),
        "roll_in_tokens_to_target_tokens": float(arena.trajectories.lengths.sum()) / needs.tokens,
        "engine_agrees_with_slow_decoding": arena.agreement,
        "generate_agrees_with_slow_decoding": arena.generated_alike(_COMPARED_STATES),
    }
    stored = {name: value / needs.stored["teacher_forcing"] for name, value in needs.stored.items()}
    return Steps(_ratios(turns, needs), _absolute(turns, needs, arena, plan.updates), checks, stored)


def _arena(bench: Workbench) -> Arena:
    """The typical update, for a policy that no trainer puts into training mode."""
    policy, recipe = bench.policy(), bench.recipe(LEARNED_STEP)
    search = bench.search(recipe, policy)
    assert search is not None
    batch = bench.data.load(bench.typical()).to(bench.accelerator.device)
    with bench.accelerator.autocast():
        return Arena.open(search, policy, batch)


def _train(bench: Workbench, trainer: TurnTrainer, updates: int, number: int) -> Turn:
    return trainer.turn(bench.chosen(number, updates))


def _rival(rival: Rival, updates: int, number: int, *, keeps_memory: bool) -> Turn:
    if keeps_memory:
        return rival.turn(updates, number)
    with UsualMemory():
        return rival.turn(updates, number)


def _autocast(bench: Workbench, contender: Contender, number: int) -> Turn:
    with bench.accelerator.autocast():
        return contender(number)


def _multiply(sizes: arithmetic.Sizes, tokens: int, bench: Workbench, number: int) -> Turn:
    """The matrix products of a forward pass on the typical update; the work is in operations."""
    dtype = _DTYPES[bench.accelerator.mixed_precision]
    device = bench.accelerator.device
    shapes = sizes.products(tokens)
    factors = {
        (n, k, m): (
            torch.randn(n, k, device=device, dtype=dtype),
            torch.randn(m, k, device=device, dtype=dtype),
        )
        for n, k, m in shapes
    }
    for rows, weight in factors.values():
        F.linear(rows, weight)
    with stopwatch() as watch:
        for shape in shapes:
            F.linear(*factors[shape])
    return Turn(watch.seconds, float(sum(2 * n * k * m for n, k, m in shapes)))


def _ratios(turns: Rounds, needs: Needs) -> list[Ratio]:
    rate = rates(turns["matrix"]).median
    least = {name: operations / rate / needs.tokens for name, operations in needs.update.items()}
    baseline = turns["teacher_forcing"]
    flops = [Turn(turn.seconds * needs.branch, turn.work) for turn in turns["matrix"]]
    return [
        *(
            Ratio(
                f"teacher_forcing_vs_{name}",
                price_ratio(turns[name], baseline),
                "higher",
                1.2 if name == "seq2seq_trainer" else None,
                prices(turns[name]).median / least["teacher_forcing"],
            )
            for name in ("seq2seq_trainer", "seq2seq_trainer_keeping_memory")
        ),
        *(
            Ratio(
                f"{name}_vs_teacher_forcing",
                price_ratio(turns[name], baseline),
                "lower",
                target,
                least[name] / least["teacher_forcing"],
            )
            for name, target in (("reference_step", 2.2), ("learned_step", 4.0))
        ),
        Ratio(
            "roll_out_engine_vs_generate",
            price_ratio(turns["generate"], turns["engine"]),
            "higher",
            12.0,
            prices(turns["generate"]).median / (needs.branch / rate),
        ),
        Ratio("roll_out_engine_vs_flop_limit", price_ratio(turns["engine"], flops), "lower", 4.0, 1.0),
    ]


def _absolute(turns: Rounds, needs: Needs, arena: Arena, updates: int) -> dict[str, Any]:
    rate = rates(turns["matrix"])
    found: dict[str, Any] = {"matrix_gflops_per_second": _scaled(rate, 1e-9)}
    for name in (*STEPS, "seq2seq_trainer", "seq2seq_trainer_keeping_memory"):
        found[name] = {
            "target_tokens_per_second": asdict(rates(turns[name])),
            "target_tokens_per_update": asdict(Spread.of([t.work / updates for t in turns[name]])),
            "milliseconds_per_update": _scaled(Spread.of([t.seconds / updates for t in turns[name]]), 1e3),
        }
        if name in needs.update:
            found[name]["least_milliseconds"] = 1e3 * needs.update[name] / rate.median
    for name in ("engine", "generate"):
        found[name] = {"branches_per_second": asdict(rates(turns[name]))}
    search = arena.needed()
    found["typical_update"] = {
        "sentences": len(search.source),
        "source_tokens": int(search.source.sum()),
        "target_tokens": int(search.target.sum()),
        "roll_in_tokens": int(search.roll_in.sum()),
        "states": int(search.states.sum()),
        "branches": len(search.branch_length),
        "branch_tokens": int((search.branch_length - search.branch_position - 1).sum()),
    }
    return found


def _scaled(spread: Spread, factor: float) -> dict[str, float]:
    return {name: value * factor for name, value in asdict(spread).items()}
