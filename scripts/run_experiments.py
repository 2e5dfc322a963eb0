"""Train, score and tabulate everything that a plan compares; what is done already is not done again.

    python scripts/run_experiments.py recipes/eutrans_es_en/experiments/algorithms.yaml
    python scripts/run_experiments.py recipes/*/experiments/*.yaml --redraw

A plan names a start, that all systems continue from, the systems, their seeds and what they have in common; the first
system is the baseline. Interrupted, the same command goes on. Figures, recipes and metrics go into results/PLAN beside
the corpus's recipes, with table.md and curves.svg, which --redraw makes from them alone. Runs go to --runs. The corpus
is the folder of its name in $L2S_NMT_DATA, where that is set, else what the recipes say. Of several plans one that
cannot be done does not keep the others from it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from l2s_nmt.errors import UserError
from scripts.arguments import count
from scripts.experiments.drawing import draw
from scripts.experiments.plan import Study
from scripts.experiments.results import keep_results
from scripts.experiments.scorings import score_all
from scripts.experiments.trainings import train_all


def corpus_here(plan: Path) -> Path | None:
    """The folder of the plan's corpus in $L2S_NMT_DATA, if it is there."""
    folder = Path(os.environ.get("L2S_NMT_DATA", "")).resolve() / plan.resolve().parent.parent.name
    return folder if "L2S_NMT_DATA" in os.environ and folder.is_dir() else None


def main() -> None:
    """Train, score, compare, draw, plan by plan."""
    options = parse()
    try:
        done = [carried_out(plan, options) for plan in options.plans]
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        sys.exit(130)
    if not all(done):
        sys.exit(2)


def parse() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("plans", type=Path, nargs="+", metavar="PLAN", help="CORPUS/experiments/NAME.yaml")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="default runs")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="of the corpus")
    parser.add_argument(
        "--jobs", type=count, default=1, metavar="N", help="trainings and scorings side by side; default 1"
    )
    parser.add_argument(
        "--threads",
        type=count,
        default=None,
        metavar="N",
        help="of each training; default all cores over the jobs",
    )
    parser.add_argument("--redraw", action="store_true", help="table and picture only")
    options = parser.parse_args()
    if options.data and len({plan.resolve().parent.parent for plan in options.plans}) > 1:
        parser.error("--data is the folder of one corpus, and the plans are of several; run them one by one")
    return options


def carried_out(plan: Path, options: argparse.Namespace) -> bool:
    """Whether a plan's table could be made; if not, the reason is printed."""
    threads = options.threads or max(1, (os.cpu_count() or 1) // options.jobs)
    try:
        study = Study.read(plan, options.runs, options.data or corpus_here(plan))
        if not options.redraw:
            train_all(study, options.jobs, threads)
            score_all(study, options.jobs, threads)
            keep_results(study)
        draw(study)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return False
    print((study.results / "table.md").read_text(encoding="utf-8"))
    return True


if __name__ == "__main__":
    main()
