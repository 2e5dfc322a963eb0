"""Where the time of a training step goes.

    python scripts/profile_step.py                                            # learned roll-ins and roll-outs
    python scripts/profile_step.py recipes/quickstart/aggrevated.yaml --trace step.json
    python scripts/profile_step.py search.algorithm=searnn training.batch_tokens=1024

Prints the own time of each section, the top operators by torch's profiler and, in the order of sections, how often
and with how many tokens the decoder was called; --trace writes one step for chrome://tracing or ui.perfetto.dev.
A recipe whose corpus is on the hub is measured on $L2S_NMT_DATA/multi30k_de_en, or on the generated corpus where that
is not set; a model from scratch is warmed up by teacher forcing first.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch.profiler import ProfilerActivity, profile

from l2s_nmt.errors import UserError
from l2s_nmt.model import Policy
from l2s_nmt.search.context import Context
from l2s_nmt.search.decisions.candidates import CandidateChoice
from l2s_nmt.search.decisions.states import StateChoice
from l2s_nmt.search.roll_out.deviations import Deviations
from l2s_nmt.search.roll_out.finish import RollOutPolicy
from l2s_nmt.training.objective import Objective
from scripts.arguments import count
from scripts.bench.command import measure_with, new_parser
from scripts.bench.plan import FULL, QUICK
from scripts.bench.report import table
from scripts.bench.sections import Section, Sections
from scripts.bench.setting import LEARNED_STEP, RECIPE, TurnTrainer, Workbench, read_settings, warm_up

OPERATORS = 20
REST = "the rest of the loop"


def methods(trainer: TurnTrainer) -> list[tuple[type, str, str]]:
    """What is timed, and under which name; of a search its own parts."""
    found: list[tuple[type, str, str]] = [
        (TurnTrainer, "_load", "load the batch"),
        (Objective, "__call__", "forward and loss"),
        (type(trainer.accelerator), "backward", "backward"),
        (TurnTrainer, "_step", "clip, optimiser, average"),
    ]
    search = trainer.search
    if search is None:
        return found
    found += [
        (Policy, "encode", "encode, in search and update"),
        (type(search.roll_in), "__call__", "roll-in"),
        (StateChoice, "__call__", "decide: states"),
        (CandidateChoice, "__call__", "decide: candidates"),
        (Context, "score", "decide: prefill and scores"),
        (type(search.cost), "__call__", "costs of sentences"),
        (type(search.roll_out), "__call__", "roll-out: the rest"),
    ]
    if isinstance(search.roll_out, Deviations):
        found += [
            (RollOutPolicy, "__call__", "roll-out: branches"),
            (Policy, "continue_branches", "roll-out: decoding"),
        ]
        reference = search.roll_out.roll_out.reference
    else:
        reference = getattr(search.roll_out, "reference", None)
    if reference is not None:
        found += [(type(reference), name, f"reference: {name}") for name in ("complete", "costs")]
    return found


def sections_table(found: dict[str, Section], steps: int) -> str:
    """Own time of each section, the longest first."""
    total = sum(section.seconds for section in found.values())
    rows = [["section", "ms a step", "share", "calls", "decoder calls", "tokens", "tokens a call"]]
    for name, section in sorted(found.items(), key=lambda item: -item[1].seconds):
        fed = [section.decoder_calls / steps, section.decoder_tokens / steps]
        each = section.decoder_tokens / section.decoder_calls if section.decoder_calls else 0
        cells = [f"{value:,.0f}" if section.decoder_calls else "" for value in (*fed, each)]
        own = [f"{1e3 * section.seconds / steps:.1f}", f"{section.seconds / total:.1%}"]
        rows.append([name, *own, f"{section.calls / steps:.3g}", *cells])
    rows.append(["sum", f"{1e3 * total / steps:.1f}", "", "", "", "", ""])
    return table(rows)


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Warm up, time the sections, then profile one step."""
    plan = QUICK if options.quick else FULL
    recipes = [item for item in options.recipe if "=" not in item]
    overrides = [item for item in options.recipe if "=" in item]
    if len(recipes) > 1:
        raise UserError(f"one recipe at a time, not {', '.join(recipes)}")
    path = Path(recipes[0]) if recipes else RECIPE
    settings = read_settings(path, overrides, plan, data=options.data, run=options.from_run)
    bench = Workbench.open(warm_up(settings, plan.warm_up, folder / "start"), folder / "bench")
    search = (
        None
        if recipes or any(item.startswith(("search.", "search=")) for item in overrides)
        else LEARNED_STEP
    )
    trainer = bench.trainer(bench.recipe(search))
    trainer.turn(bench.chosen(0, 2))
    sections = Sections()
    updates = bench.chosen(1, options.steps)
    with sections.watching(methods(trainer), trainer.policy.model.get_decoder()), sections.section(REST):
        trainer.turn(updates)
    print(sections_table(sections.found, len(updates)), end="\n\n")
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    with (
        profile(activities=activities, record_shapes=False) as profiler,
        Sections().watching(methods(trainer), trainer.policy.model.get_decoder()),
    ):
        trainer.turn(bench.chosen(0, 1))
    order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    print(profiler.key_averages().table(sort_by=order, row_limit=OPERATORS, max_name_column_width=40))
    if options.trace:
        profiler.export_chrome_trace(str(options.trace))


def main() -> None:
    """Measure and print."""
    parser = new_parser(__doc__)
    parser.add_argument("recipe", nargs="*", metavar="RECIPE KEY=VALUE", help="a recipe and overrides of it")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write one step there")
    parser.add_argument("--steps", type=count, default=5, help="updates that are timed")
    options = parser.parse_args()
    measure_with(measure, options)


if __name__ == "__main__":
    main()
