"""What two processes of one thread gain over one of one thread: the efficiency of training on several processes.

    python scripts/benchmark_scaling.py --json scaling.json
    python scripts/benchmark_scaling.py training.batch_tokens=1280      # recipe overrides, as for l2s-nmt train

Groups of processes that accelerate's launcher starts make the same updates of the model of
recipes/multi30k_de_en/teacher_forcing.yaml, turn by turn. Its batch_tokens are for each of the several processes, as
when machines are added to train faster; one process makes the same large updates. Efficiency is the time of one
process over N times that of N: 1 where nothing is lost in waiting, in reductions, or for the memory that the cores
share. Medians over the rounds, with the lowest and the highest; wants as many idle cores as processes. The corpus is
$L2S_NMT_DATA/multi30k_de_en, or the generated one where that is not set.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from l2s_nmt.files import write_json
from l2s_nmt.run import environment
from scripts.arguments import count
from scripts.bench.clock import Spread
from scripts.bench.command import add_overrides_and_json, measure_with, new_parser, own_command
from scripts.bench.plan import FULL, QUICK
from scripts.bench.report import table
from scripts.bench.scaling import STEPS, Group, Shared, groups
from scripts.bench.setting import RECIPE, read_settings, warm_up

TARGET = 0.85
"""Of the efficiency of a step of learning to search on two processes."""


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything; printed at the end."""
    plan = QUICK if options.quick else FULL
    settings = read_settings(RECIPE, options.overrides, plan, data=options.data, run=options.from_run)
    settings["training"]["batch_tokens"] *= options.processes
    settings = warm_up(settings, plan.warm_up, folder / "start")
    order = folder / "order.json"
    rounds, updates = options.rounds or plan.rounds, options.updates or plan.updates
    order.write_text(
        json.dumps({"settings": settings, "steps": options.steps, "updates": updates}), encoding="utf-8"
    )
    with groups((1, options.processes), order) as (one, several):
        found = {step: _compare(step, one, several, rounds) for step in options.steps}
    print(_shown(found))
    return {
        "environment": environment(settings["seed"], own_command()),
        "quick": options.quick,
        "corpus": "embedded" if settings["data"]["embedded"] else Path(settings["data"]["files"]).name,
        "overrides": options.overrides,
        "processes": options.processes,
        "threads_of_a_process": 1,
        "rounds": rounds,
        "updates_of_a_round": updates,
        "batch_tokens": settings["training"]["batch_tokens"],
        "target": TARGET,
        "steps": found,
    }


def _compare(step: str, one: Group, several: Group, rounds: int) -> dict[str, Any]:
    turns: list[tuple[Shared, Shared]] = [
        (one.turn(step, number), several.turn(step, number)) for number in range(rounds + 1)
    ][1:]  # the first one warms up
    updates = [[turn.turn.seconds for turn in pair] for pair in turns]
    efficiency = Spread.of([a / (several.count * b) for a, b in updates])
    balances = [shared.balance for _, shared in turns if shared.balance is not None]
    return {
        "efficiency": asdict(efficiency),
        "seconds_on_one": asdict(Spread.of([a for a, _ in updates])),
        "seconds_on_several": asdict(Spread.of([b for _, b in updates])),
        "sentences_per_second": asdict(
            Spread.of([shared.turn.work / shared.turn.seconds for _, shared in turns])
        ),
        "balance": asdict(Spread.of(balances)) if balances else None,
        "met": None if step == "teacher_forcing" else efficiency.median >= TARGET,
    }


def _shown(found: dict[str, Any]) -> str:
    rows = [["step", "efficiency", "target", "", "s a round, 1", "s a round, all", "balance of the search"]]
    for step, figures in found.items():
        met = figures["met"]
        spreads = [
            str(Spread(**figures[name])) if figures[name] else ""
            for name in ("efficiency", "seconds_on_one", "seconds_on_several", "balance")
        ]
        target, verdict = ("", "") if met is None else (f">= {TARGET}", "met" if met else "missed")
        rows.append([step, spreads[0], target, verdict, *spreads[1:]])
    return table(rows)


def main() -> None:
    """Measure, print, write."""
    parser = new_parser(__doc__)
    add_overrides_and_json(parser)
    parser.add_argument("--processes", type=count, default=2, metavar="N", help="against one; default 2")
    parser.add_argument(
        "--steps", nargs="+", choices=STEPS, default=list(STEPS), metavar="STEP", help=", ".join(STEPS)
    )
    parser.add_argument("--rounds", type=count, metavar="N", help=f"default {FULL.rounds}")
    parser.add_argument("--updates", type=count, metavar="N", help=f"of a round; default {FULL.updates}")
    options = parser.parse_args()
    found = measure_with(measure, options)
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
