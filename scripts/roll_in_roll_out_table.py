"""The roll-in × roll-out table of LOLS (Chang et al. 2015, table 1), trained and printed beside the published one.

    python scripts/roll_in_roll_out_table.py --output runs/roll_in_roll_out
    python scripts/roll_in_roll_out_table.py --data eutrans_es_en --updates 150 --roll-outs 20000

Every cell starts from the same teacher-forced model (one for each seed), spends the same number of roll-outs, and
learns from the costs alone (no cross-entropy), so that what differs is who rolls in, who rolls out, and how good the
reference is: optimal (the best suffix of the target), suboptimal (that of a target some of whose words are wrong) or
bad (that of the target in reverse order). What is done already is not trained again. Writes table.json, table.md and
table.svg.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import l2s_nmt
from l2s_nmt.errors import UserError
from l2s_nmt.files import write_json, write_text
from l2s_nmt.recipe_file import with_absolute_paths
from l2s_nmt.run import Run
from scripts.arguments import count

ROLL_INS = ("reference", "learned")
ROLL_OUTS = ("reference", "mixed", "learned")
QUALITIES = ("optimal", "suboptimal", "bad")
PUBLISHED = {
    ("optimal", "reference"): (87.2, 89.7, 88.2),
    ("optimal", "learned"): (90.7, 90.5, 86.9),
    ("bad", "reference"): (68.7, 65.4, 66.7),
    ("bad", "learned"): (75.8, 89.4, 87.5),
}
"""Unlabelled attachment score of dependency parsing, by quality and roll-in, for the three roll-outs."""
EMBEDDED = {
    "embedded": {"train": 20_000, "valid": 200, "test": 1_000},
    "source_language": "vo",
    "target_language": "ta",
}
EVALUATION = {"beam": 1, "max_length": 60}

Cell = tuple[str, str, str]
"""Quality of the reference, roll-in, roll-out."""


def cells() -> Iterator[Cell]:
    """All cells, row by row."""
    for quality in QUALITIES:
        for roll_in in ROLL_INS:
            for roll_out in ROLL_OUTS:
                yield quality, roll_in, roll_out


def corpus(folder: Path | None, languages: list[str]) -> dict[str, Any]:
    """The ``data`` section: a folder of text, or the embedded corpus."""
    if folder is None:
        return EMBEDDED
    return {"files": str(folder), "source_language": languages[0], "target_language": languages[1]}


def start_recipe(seed: int, data: dict[str, Any], updates: int) -> dict[str, Any]:
    """Teacher forcing that stops early: there must be something left to learn."""
    sizes = {"d_model": 128, "feed_forward": 256, "heads": 4, "encoder_layers": 2, "decoder_layers": 2}
    return {
        "seed": seed,
        "data": data,
        "tokenizer": {"vocabulary": 1_000},
        "model": {"architecture": sizes},
        "training": {
            "batch_tokens": 1_024,
            "learning_rate": 0.002,
            "schedule": "constant",
            "warmup_updates": 100,
            "averaging": {"kind": "ema", "decay": 0.98},
            "max_updates": updates,
            "validate_every": 100,
        },
        "evaluation": EVALUATION,
    }


def cell_recipe(cell: Cell, seed: int, data: dict[str, Any], start: Path, roll_outs: int) -> dict[str, Any]:
    """One cell: the parts of LOLS with its roll-in, roll-out and reference."""
    quality, roll_in, roll_out = cell
    return {
        "seed": seed,
        "data": data,
        "model": {"from_run": str(start)},
        "search": {
            "algorithm": "lols",
            "roll_in": {"policy": roll_in},
            "roll_out": {"policy": roll_out},
            "reference": {"quality": quality},
            "loss": {"weight": 1.0, "cross_entropy": 0.0},
        },
        "training": {
            "batch_tokens": 1_024,
            "learning_rate": 0.0005,
            "schedule": "constant",
            "warmup_updates": 10,
            "averaging": {"kind": "ema", "decay": 0.97},
            "max_roll_outs": roll_outs,
            "validate_every": 1_000_000,  # the last weights count: no choice by validation
        },
        "evaluation": EVALUATION,
    }


def train_and_score(recipe: dict[str, Any], folder: Path) -> float:
    """Test BLEU of a run, which is trained if it is not there.

    Raises:
        UserError: a run to other limits is there, from which other cells may have started.
    """
    wanted, there = l2s_nmt.make_recipe(recipe), Run(folder)
    if there.recipe_path.is_file() and there.read_recipe() != with_absolute_paths(wanted):
        raise UserError(f"{folder}: was trained with other options; give those, or choose another --output")
    run = l2s_nmt.train(wanted, folder)
    return l2s_nmt.evaluate(run, "test").bleu.score


def measure(output: Path, data: dict[str, Any], seeds: int, updates: int, roll_outs: int) -> dict[str, Any]:
    """Train everything; scores by cell, one for each seed."""
    starts: list[float] = []
    scores: dict[Cell, list[float]] = {cell: [] for cell in cells()}
    for seed in range(1, seeds + 1):
        start = output / f"seed{seed}" / "teacher_forcing"
        starts.append(train_and_score(start_recipe(seed, data, updates), start))
        for cell in cells():
            folder = output / f"seed{seed}" / "-".join(cell)
            scores[cell].append(train_and_score(cell_recipe(cell, seed, data, start, roll_outs), folder))
            print(f"seed {seed}  {' / '.join(cell):35}  {scores[cell][-1]:.2f}", flush=True)
    signature = json.loads(Run(start).scores("test").read_text())["bleu"]["signature"]
    return {
        "roll_outs": roll_outs,
        "start": starts,
        "signature": signature,
        "cells": [{"cell": list(cell), "bleu": values} for cell, values in scores.items()],
    }


def summary(values: list[float]) -> str:
    """Mean and deviation over seeds."""
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


def markdown(found: dict[str, Any]) -> str:
    """The table as markdown, with the published one beside it."""
    scores = {tuple(entry["cell"]): entry["bleu"] for entry in found["cells"]}
    lines = [
        "| reference | roll-in | roll-out reference | mixed | learned | published: reference | mixed | learned |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for quality in QUALITIES:
        for roll_in in ROLL_INS:
            ours = [summary(scores[quality, roll_in, roll_out]) for roll_out in ROLL_OUTS]
            theirs = [f"{value:.1f}" for value in PUBLISHED.get((quality, roll_in), ())] or ["", "", ""]
            lines.append(f"| {quality} | {roll_in} | {' | '.join([*ours, *theirs])} |")
    lines += [
        "",
        f"Test BLEU, greedy (`{found['signature']}`), {found['roll_outs']:,} roll-outs from a teacher-forced start of "
        f"{summary(found['start'])}; published: unlabelled attachment score of dependency parsing.",
    ]
    return "\n".join(lines) + "\n"


def picture(found: dict[str, Any]) -> str:
    """The table as a picture: the change against the start, a block for each quality."""
    start = statistics.mean(found["start"])
    changes = {tuple(entry["cell"]): statistics.mean(entry["bleu"]) - start for entry in found["cells"]}
    extreme = max(1.0, *(abs(change) for change in changes.values()))
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 190" font-family="sans-serif" font-size="12" '
        'role="img"><title>Change in test BLEU by reference, roll-in and roll-out</title>'
        '<rect width="720" height="190" fill="#ffffff"/>'
    ]
    for block, quality in enumerate(QUALITIES):
        left = 70 + block * 220
        parts.append(f'<text x="{left}" y="20" font-weight="bold">{escape(quality)} reference</text>')
        for column, roll_out in enumerate(ROLL_OUTS):
            parts.append(f'<text x="{left + column * 64}" y="42">{escape(roll_out)}</text>')
            for row, roll_in in enumerate(ROLL_INS):
                change = changes[quality, roll_in, roll_out]
                shade = 255 - round(150 * abs(change) / extreme)
                colour = f"rgb({shade},255,{shade})" if change >= 0 else f"rgb(255,{shade},{shade})"
                x, y = left + column * 64, 50 + row * 48
                parts.append(
                    f'<rect x="{x}" y="{y}" width="60" height="44" fill="{colour}"/>'
                    f'<text x="{x + 30}" y="{y + 27}" text-anchor="middle">{change:+.1f}</text>'
                )
    for row, roll_in in enumerate(ROLL_INS):
        parts.append(f'<text x="62" y="{77 + row * 48}" text-anchor="end">{escape(roll_in)}</text>')
    parts.append('<text x="70" y="170">columns: roll-out; rows: roll-in; change in test BLEU</text></svg>')
    return "\n".join(parts) + "\n"


def main() -> None:
    """Train, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/roll_in_roll_out"))
    parser.add_argument("--data", type=Path, help="folder of text; default the embedded corpus")
    parser.add_argument("--languages", nargs=2, default=["es", "en"], help="of that text")
    parser.add_argument("--seeds", type=count, default=3)
    parser.add_argument("--updates", type=count, default=1_200, help="of the teacher-forced start")
    parser.add_argument("--roll-outs", type=count, default=40_000, help="of each cell")
    options = parser.parse_args()
    data = corpus(options.data, options.languages)
    try:
        found = measure(options.output, data, options.seeds, options.updates, options.roll_outs)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    write_json(options.output / "table.json", found)
    write_text(options.output / "table.md", markdown(found))
    write_text(options.output / "table.svg", picture(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
