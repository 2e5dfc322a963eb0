"""The command line that all benchmarks have in common."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from l2s_nmt.errors import UserError

Found = TypeVar("Found")


def own_command() -> list[str]:
    """The command that is running, without where it is."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


def new_parser(text: str | None) -> argparse.ArgumentParser:
    """A parser that knows how large, on what corpus and from which run.

    Args:
        text: what the benchmark says of itself.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model; the figures mean nothing")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="train.de, train.en, valid.de, valid.en")
    parser.add_argument("--from-run", type=Path, metavar="RUN", help="its weights in place of a warm-up")
    return parser


def add_overrides_and_json(parser: argparse.ArgumentParser) -> None:
    """Let a recipe be changed, and the figures be written."""
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the recipe of teacher forcing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")


def measure_with(measure: Callable[[argparse.Namespace, Path], Found], options: argparse.Namespace) -> Found:
    """Measure in a folder that is gone afterwards; where the user has to change something, say so and exit with 2."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        with tempfile.TemporaryDirectory() as folder:
            return measure(options, Path(folder))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
