"""What a step of learning to search costs, against teacher forcing, Seq2SeqTrainer, `generate` and the arithmetic.

    python scripts/benchmark_step.py --json benchmark.json
    python scripts/benchmark_step.py training.mixed_precision=bf16     # recipe overrides, as for l2s-nmt train

Builds the model of recipes/multi30k_de_en/teacher_forcing.yaml, warms it up by teacher forcing, and lets all
contenders work turn by turn in one process. Every ratio is the median over the rounds (with the lowest and the
highest) beside its target and its limit: what the fewest floating-point operations would give at the rate at which
this machine multiplies the model's matrices. On a GPU if there is one. The corpus is $L2S_NMT_DATA/multi30k_de_en, or
the generated one where that is not set.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from l2s_nmt.files import write_json
from l2s_nmt.run import environment
from scripts.bench import report
from scripts.bench.closed_form import measure_references
from scripts.bench.command import add_overrides_and_json, measure_with, new_parser, own_command
from scripts.bench.growth import measure_growth
from scripts.bench.memory import peak_memory
from scripts.bench.plan import FULL, QUICK, Plan
from scripts.bench.setting import RECIPE, Workbench, read_settings, warm_up
from scripts.bench.steps import STEPS, measure_steps


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything; printed as it comes."""
    plan: Plan = QUICK if options.quick else FULL
    settings = read_settings(RECIPE, options.overrides, plan, data=options.data, run=options.from_run)
    settings = warm_up(settings, plan.warm_up, folder / "start")
    bench = Workbench.open(settings, folder / "bench")
    found: dict[str, Any] = {
        "environment": environment(settings["seed"], own_command()),
        "quick": options.quick,
        "corpus": "embedded" if settings["data"]["embedded"] else Path(settings["data"]["files"]).name,
        "overrides": options.overrides,
    }
    steps = measure_steps(bench, plan)
    found |= {
        "ratios": {ratio.name: report.as_json(ratio) for ratio in steps.ratios},
        "absolute": steps.absolute,
        "checks": steps.checks,
    }
    print(report.ratios(steps), end="\n\n", flush=True)
    peaks = {name: peak_memory(settings, search) for name, search in STEPS.items()}
    found["memory"] = report.memory(peaks, steps)
    print(report.memory_table(found["memory"]), end="\n\n", flush=True)
    growth = measure_growth(bench, plan.growth)
    found["growth"] = [report.plain(line) for line in growth]
    print(report.growth_table(growth), end="\n\n", flush=True)
    references = measure_references(bench, plan)
    found["reference_costs"] = report.references(references, plan)
    print(report.references_table(found["reference_costs"]), flush=True)
    return found


def main() -> None:
    """Measure, print, write."""
    parser = new_parser(__doc__)
    add_overrides_and_json(parser)
    options = parser.parse_args()
    found = measure_with(measure, options)
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
