"""Draw the page "Which settings should I use?" from the figures of the plans that ask a question.

    python scripts/which_settings.py

Each plan with a question whose figures are in results/ beside it becomes a section: the question, the table, and what
was best. Nothing is trained; run_experiments.py makes the figures.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.markdown import plain
from l2s_nmt.files import write_text
from scripts.experiments.drawing import Found, overview, read_figures
from scripts.experiments.plan import Study
from scripts.experiments.results import comparison_path

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
HEAD = """# Which settings should I use?

Drawn by `python scripts/which_settings.py` from the figures of the plans below. BLEU; in brackets the difference from
the first row and its p-value. All systems of a table start from the same run, or all from scratch, and get the same
time. Differences that a p-value does not tell from chance are no reason to choose: one seed of several systems has a
best by chance, too.
"""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipes", type=Path, default=RECIPES, metavar="FOLDER", help="default recipes")
    options = parser.parse_args()
    try:
        page = options.recipes / "which_settings.md"
        write_text(page, "\n".join([HEAD, *sections(options.recipes)]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(page)


def sections(recipes: Path) -> list[str]:
    """A section for each plan that asks a question and has been run.

    Raises:
        UserError: a plan is unsound, or none has been run.
    """
    found = []
    for path in sorted(recipes.glob("*/experiments/*.yaml")):
        study = Study.read(path, Path("runs"), None)
        if study.plan.question and all(
            comparison_path(study, split, beam).exists()
            for split in study.plan.splits
            for beam in study.plan.beams
        ):
            found.append(_section(study, read_figures(study)))
    if not found:
        raise UserError(
            f"{recipes}: no plan that asks a question has figures; run one with run_experiments.py"
        )
    return found


def _section(study: Study, figures: Found) -> str:
    plan = f"{study.corpus.name}/experiments/{study.path.name}"
    table = f"{study.corpus.name}/results/{study.path.stem}/table.md"
    seeds = f"{len(study.plan.seeds)} seeds" if len(study.plan.seeds) > 1 else "one seed"
    return (
        f"## {study.plan.question}\n\n{plain(study.plan.title)}.\n\n{overview(figures)}\n\n{_best(figures)} "
        f"([plan]({plan}), {seeds}; [all figures]({table}))\n"
    )


def _best(figures: Found) -> str:
    """The best system of each way of decoding."""
    words = []
    for (split, beam), comparison in figures.items():
        best = max(comparison["systems"], key=lambda system: float(system["bleu"]))
        decoding = "greedily" if beam == 1 else f"with beam {beam}"
        words.append(f"{best['name']} {decoding} ({split})")
    return f"Best: {'; '.join(words)}."


if __name__ == "__main__":
    main()
