"""Validation is shared between processes: each sentence once, the same scores everywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest

from l2s_nmt.processes import ALONE, Processes
from l2s_nmt.training import validate
from l2s_nmt.training.validate import Outcome, Validation, Validator, _perplexity
from tests.threads import in_threads

WORDS = ["ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf"]
SOURCES = [" ".join(WORDS[row % 5 : row % 5 + 2 + row % 4]) + f" {row}" for row in range(23)]


@dataclass(frozen=True)
class Copying(Validator):
    """Copies the sources, but for a third of them."""

    batches: list[list[list[int]]] = field(default_factory=list)

    def _look(self, sources: list[list[int]], targets: list[list[int]]) -> list[Outcome]:
        assert [ids[0] for ids in targets] == [ids[0] for ids in sources]
        self.batches.append(sources)
        return [
            (
                SOURCES[ids[0]] if ids[0] % 3 else "neun",
                bool(ids[0] % 4),
                (2.0 * len(wanted), len(wanted)) if ids[0] % 2 else (0.0, 0),
            )
            for ids, wanted in zip(sources, targets, strict=True)
        ]


def validator(processes: Processes, batches: list[list[list[int]]]) -> Copying:
    nothing: Any = None
    references = [[source] for source in SOURCES]
    return Copying(nothing, nothing, SOURCES, references, nothing, 12, processes, batches=batches)


def test_perplexity_is_of_finite_numbers_or_none() -> None:
    assert _perplexity([(math.log(8.0), 1), (math.log(2.0), 1), (0.0, 0)]) == pytest.approx(4.0)
    assert _perplexity([(1e6, 1)]) == math.exp(700)
    for unknown in (
        [],
        [(0.0, 0)],
        [(math.nan, 3)],
        [(1.0, 2), (math.inf, 1)],
        [(math.inf, 1), (-math.inf, 1)],
    ):
        assert _perplexity(unknown) is None


@pytest.mark.parametrize("count", [2, 3, 8, 30])
def test_each_sentence_is_scored_once(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("encode_sources", "encode_targets"):
        monkeypatch.setattr(
            validate,
            name,
            lambda tokenizer, texts: [[int(text.split()[-1])] * len(text.split()) for text in texts],
        )
    expected = validator(ALONE, [])()
    assert 20 < expected.bleu < 90
    assert expected.endless == pytest.approx(6 / 23)
    assert expected.perplexity == pytest.approx(math.exp(2))
    batches: list[list[list[int]]] = []

    def share(processes: Processes) -> Validation:
        return validator(processes, batches)()

    assert in_threads(count, share) == [expected] * count
    assert sorted(ids[0] for batch in batches for ids in batch) == list(range(len(SOURCES)))
    assert all(len(batch) == 1 or len(batch) * max(map(len, batch)) <= 12 for batch in batches)
