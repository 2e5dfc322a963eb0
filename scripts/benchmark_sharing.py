"""What it saves to write samples of a sentence, and to learn from them, once as far as they begin alike.

    python scripts/benchmark_sharing.py --from-run runs/multi30k_de_en/teacher_forcing --json sharing.json
    python scripts/benchmark_sharing.py --samples 32 training.batch_tokens=160

Two trainers of recipes/multi30k_de_en/aggrevated.yaml take turns in one process on the same updates: one that shares
prefixes, as training does, and one for which every sample is a sentence of its own. Beside the ratio of their times
stands its limit: how many times as many states the samples have as there are different ones, as if nothing but these
took time. The corpus is $L2S_NMT_DATA/multi30k_de_en, or the generated one where that is not set.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from l2s_nmt.files import write_json
from l2s_nmt.recipe_file import merge
from l2s_nmt.run import environment
from l2s_nmt.search.context import Context
from l2s_nmt.search.roll_out.outcome import Outcome, RollOut
from l2s_nmt.search.search import Search
from l2s_nmt.search.types import Trajectories
from scripts.arguments import count
from scripts.bench.clock import Contender, Spread, Turn, price_ratio, rates, take_turns
from scripts.bench.command import add_overrides_and_json, measure_with, new_parser, own_command
from scripts.bench.plan import FULL, QUICK, Plan
from scripts.bench.report import plain, table
from scripts.bench.setting import RECIPE, TurnTrainer, Workbench, read_settings, warm_up


class Apart(Search):
    """Every sample is a sentence of its own."""

    def _context(self, *args: Any) -> tuple[Context, Any]:
        context, owner = super()._context(*args)
        return replace(context, source=None), owner


class Counting:
    """A roll-out that counts the states it is asked about, and those that differ."""

    def __init__(self, roll_out: RollOut) -> None:
        self.roll_out = roll_out
        self.states, self.different = 0.0, 0

    def __call__(self, context: Context, trajectories: Trajectories) -> Outcome:
        """Pass on."""
        outcome = self.roll_out(context, trajectories)
        self.states += outcome.decisions.total_visits()
        self.different += len(outcome.decisions)
        return outcome


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Let both take turns."""
    plan: Plan = QUICK if options.quick else FULL
    settings = read_settings(RECIPE, options.overrides, plan, data=options.data, run=options.from_run)
    if not any(item.startswith("training.batch_tokens=") for item in options.overrides) and not options.quick:
        settings = merge(settings, {"training": {"batch_tokens": 640}})  # as in the recipe
    bench = Workbench.open(warm_up(settings, plan.warm_up, folder / "start"), folder / "bench")
    recipe = bench.recipe({"algorithm": "aggrevated", "roll_in": {"samples": options.samples}})
    shared, apart = bench.trainer(recipe), bench.trainer(recipe)
    assert shared.search is not None
    assert apart.search is not None
    counting = Counting(shared.search.roll_out)
    shared.search = replace(shared.search, roll_out=counting)
    apart.search = Apart(**vars(apart.search))
    contenders: dict[str, Contender] = {
        name: partial(_train, bench, trainer, plan.updates)
        for name, trainer in (("shared", shared), ("apart", apart))
    }
    turns = take_turns(contenders, plan.rounds)
    return {
        "environment": environment(recipe.seed, own_command()),
        "quick": options.quick,
        "overrides": options.overrides,
        "samples": options.samples,
        "apart_to_shared": price_ratio(turns["apart"], turns["shared"]),
        "limit": counting.states / counting.different,
        "target_tokens_per_second": {name: rates(turns[name]) for name in contenders},
    }


def _train(bench: Workbench, trainer: TurnTrainer, updates: int, number: int) -> Turn:
    return trainer.turn(bench.chosen(number, updates))


def main() -> None:
    """Measure, print, write."""
    parser = new_parser(__doc__)
    add_overrides_and_json(parser)
    parser.add_argument("--samples", type=count, default=8, help="of each sentence")
    options = parser.parse_args()
    found = measure_with(measure, options)
    rates_of: dict[str, Spread] = found["target_tokens_per_second"]
    rows = [["", "median (range)", "limit"]]
    rows.append(["apart / shared, seconds", str(found["apart_to_shared"]), f"{found['limit']:.3g}"])
    rows += [[f"{name}, target tokens a second", str(rate), ""] for name, rate in rates_of.items()]
    print(table(rows))
    if options.json:
        write_json(options.json, plain(found))


if __name__ == "__main__":
    main()
