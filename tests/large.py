"""A corpus of any size within a minute or two: generated sentences, repeated with a number that makes them differ."""

from __future__ import annotations

from pathlib import Path

from l2s_nmt.data import embedded

BASE = 50_000


def write_large_corpus(folder: Path, pairs: int) -> Path:
    """Write `train.vo` and `train.ta` with so many pairs that all differ, and a few for validation."""
    folder.mkdir(parents=True, exist_ok=True)
    sentences = embedded.generate("train", min(BASE, pairs), seed=1, references=1)
    base = [(source, texts[0]) for source, texts in sentences]
    for side, language in enumerate(("vo", "ta")):
        texts = [pair[side] for pair in base]
        with (folder / f"train.{language}").open("w", encoding="utf-8") as file:
            for number in range(-(-pairs // len(texts))):
                count = min(len(texts), pairs - number * len(texts))
                file.write("".join([f"{text} {number}\n" for text in texts[:count]]))
        (folder / f"valid.{language}").write_text(
            "".join(f"{text}\n" for text in texts[:20]), encoding="utf-8"
        )
    return folder
