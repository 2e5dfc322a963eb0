"""The model card of a run: what it is, where it comes from, how good it is, and how to make it again.

It is the README.md of the run directory and of each of its folders of weights, in the form in which the Hugging Face
hub reads it, and is written anew when training ends and whenever the run is scored.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from contextlib import suppress
from typing import Any, get_args

import yaml

from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.score import read_scores
from l2s_nmt.files import write_there
from l2s_nmt.recipe import Data, Recipe
from l2s_nmt.recipe_file import dump_recipe, map_folders
from l2s_nmt.run import Run, WeightsName, hub_data, read_metrics
from l2s_nmt.search.algorithms import ALGORITHMS
from l2s_nmt.weights import weights_digest

_PATH = re.compile(r"(?:(?<=^-\w)|(?<![\w.~/:]))/[^\s,\]}\"']+")
"""One from the root: in a list, in a mapping, or behind an option of one letter."""
POINTS = 12
"""Validations in the table of the curve."""


def write_card(run: Run) -> None:
    """Write the card of a run that has weights, beside each of them.

    Training may put others in their place meanwhile, which have a card of their own when it ends.
    """
    text = render_card(run)
    folders = [run.folder_of(name) for name in get_args(WeightsName)]
    for folder in (run.path, *(folder for folder in folders if folder.is_dir())):
        path = folder / "README.md"
        if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
            with suppress(FileNotFoundError):
                write_there(path, text)


def render_card(run: Run) -> str:
    """The card as Markdown.

    Raises:
        UserError: recipe or metrics are damaged.
    """
    recipe = map_folders(run.read_recipe(), _last_name, _last_name)  # where they are is nobody else's
    metrics = read_metrics(run)
    environment = _environment(run)
    sections = [
        _front_matter(recipe),
        _introduction(run, recipe),
        _scores(run),
        _training(recipe, metrics, environment),
        _curve(metrics),
        _again(recipe, environment),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _last_name(path: str) -> str:
    """Of a path from the root, with that of the run for a part of one; other names are kept."""
    if not os.path.isabs(path):
        return path
    folder, last = os.path.split(path)
    of_a_run = last in ("tokenizer", *get_args(WeightsName))
    return f"{os.path.basename(folder)}/{last}" if of_a_run else last


def _front_matter(recipe: Recipe) -> str:
    data = recipe.data
    values: dict[str, Any] = {
        **({"language": [data.source_language, data.target_language]} if data.tags else {}),
        "library_name": "transformers",
        "pipeline_tag": "translation",
        "tags": ["translation", "l2s_nmt", "learning-to-search", recipe.search.algorithm],
    }
    if data.hub and data.files is None:
        values["datasets"] = [data.hub]
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---"


def _introduction(run: Run, recipe: Recipe) -> str:
    data, algorithm = recipe.data, ALGORITHMS[recipe.search.algorithm]
    return f"""# {on_one_line(run.name)}

Translates {on_one_line(data.source_language)} to {on_one_line(data.target_language)}.
Trained with l2s_nmt by `{recipe.search.algorithm}`: {algorithm.summary} ({algorithm.paper}).

```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

model = AutoModelForSeq2SeqLM.from_pretrained("FOLDER")  # this one
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
batch = tokenizer(["..."], return_tensors="pt")
print(tokenizer.batch_decode(model.generate(**batch), skip_special_tokens=True))
```"""


def _scores(run: Run) -> str:
    """Of the weights that are there: training may have gone on since others were scored."""
    rows = []
    files = sorted((run.path / "scores").glob("*.json"))
    there = _digests(run) if files else set()
    for path in files:
        try:
            scores = read_scores(path)
            made = json.loads(path.read_text(encoding="utf-8"))["decoding"]
            if made["weights"] not in there:
                continue
        except (UserError, OSError, ValueError, KeyError, TypeError):
            continue  # of another version; evaluate writes it anew
        rows.append(
            f"| {on_one_line(path.stem)} | {scores.sentences:,} | {made.get('beam')} | {scores.bleu.score:.2f} | "
            f"{scores.chrf.score:.2f} | {scores.ter.score:.2f} | {scores.bleu.length_ratio:.3f} | "
            f"`{scores.bleu.signature.replace('|', chr(92) + '|')}` |"  # in a table it parts cells, code or not
        )
    if not rows:
        return "## Scores\n\nNot evaluated yet (`l2s-nmt evaluate`)."
    header = "| split | sentences | beam | BLEU | chrF | TER | length ratio | BLEU's signature |"
    return "\n".join(["## Scores", "", header, "|---|---:|---:|---:|---:|---:|---:|---|", *rows])


def _digests(run: Run) -> set[str]:
    found = set()
    for name in get_args(WeightsName):
        with suppress(UserError):  # not all are there
            found.add(weights_digest(run, name))
    return found


def _training(recipe: Recipe, metrics: list[dict[str, Any]], environment: dict[str, Any]) -> str:
    rows = {"data": _corpus(recipe.data)}
    if recipe.model.from_run or recipe.model.pretrained:
        rows["started from"] = str(recipe.model.from_run or recipe.model.pretrained)
    if recipe.tokenizer.pretrained:
        rows["tokenizer"] = recipe.tokenizer.pretrained
    if metrics:
        last = metrics[-1]
        rows["training"] = (
            f"{last['update']:,} updates, {last.get('sentences', 0):,} sentences, "
            f"{last.get('roll_outs', 0):,} roll-outs, {last.get('minutes', 0.0):.1f} minutes"
        )
    hardware = [*environment.get("gpus", []), environment.get("processor")]
    rows["hardware"] = ", ".join(str(part) for part in hardware if part) + (
        f", {environment['processes']} processes" if environment.get("processes", 1) > 1 else ""
    )
    rows["seed"] = str(recipe.seed)
    rows["versions"] = ", ".join(f"{k} {v}" for k, v in environment.get("packages", {}).items())
    table = [f"| {name} | {on_one_line(value)} |" for name, value in rows.items() if value]
    return "\n".join(["## Training", "", "| | |", "|---|---|", *table])


def _corpus(data: Data) -> str:
    """What the loader takes: the first that is given."""
    if data.files is not None:
        return f"files in {data.files}"
    if (hub := hub_data(data)) is not None:
        return str(hub)
    size = f"{data.embedded.train:,}" if data.embedded else "0"
    return f"the generated corpus, {size} sentence pairs"


def _curve(metrics: list[dict[str, Any]]) -> str:
    points = [
        line for line in metrics if line.get("kind") == "validation" and {"bleu", "minutes"} <= line.keys()
    ]
    if not points:
        return ""
    step = -(-len(points) // POINTS)
    best = max(points, key=lambda line: line["bleu"])
    shown = [line for number, line in enumerate(reversed(points)) if number % step == 0 or line is best]
    rows = [
        f"| {line['update']:,} | {line['minutes']:.1f} | {line['bleu']:.2f}{' (best)' if line is best else ''} |"
        for line in reversed(shown)
    ]
    return "\n".join(
        [
            "## Validation while training (greedy, cut where roll-ins are)",
            "",
            "| update | minutes | BLEU |",
            "|---:|---:|---:|",
            *rows,
        ]
    )


def _again(recipe: Recipe, environment: dict[str, Any]) -> str:
    command = shlex.join(_shown(str(argument)) for argument in environment.get("command", []))
    made = _fenced(command, "bash") if command else "`l2s_nmt.train` in a Python program"
    return f"## Made by\n\n{made}\n\nwith the recipe\n\n{_fenced(dump_recipe(recipe), 'yaml')}"


def _shown(argument: str) -> str:
    """An argument of the command, without where things are: a path, by itself or within."""
    name, equals, value = argument.partition("=")
    shown = f"{name}={_last_name(value)}" if equals else _last_name(argument)
    return _PATH.sub(lambda found: _last_name(found[0]), shown)


def _fenced(text: str, language: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def on_one_line(text: str) -> str:
    """On one line of a table, and no markup."""
    escaped = "".join(f"\\{c}" if c in "\\|`*_[]<>#" else c for c in " ".join(text.split()))
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in escaped)


def _environment(run: Run) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((run.path / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    kinds = {"gpus": list, "processor": str, "processes": int, "packages": dict, "command": list}
    return {
        name: found[name]
        for name, kind in kinds.items()
        if isinstance(found, dict) and isinstance(found.get(name), kind)
    }
