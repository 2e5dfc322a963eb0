"""The contender: transformers' Seq2SeqTrainer on the same model and corpus, at its best batch setting."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    DataCollatorForSeq2Seq,
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)

from l2s_nmt.cpu import keep_freed_memory
from l2s_nmt.data.encode import encode_split
from l2s_nmt.recipe import Recipe
from l2s_nmt.training.prepare import cache_folder
from scripts.bench.clock import Turn, now
from scripts.bench.setting import Workbench

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4  # names of glibc's mallopt


class Rival:
    """Seq2SeqTrainer with batches grouped by length and as many target tokens an update as ours, on average.

    Args:
        bench: the corpus and the starting weights.
        recipe: of teacher forcing.
    """

    def __init__(self, bench: Workbench, recipe: Recipe) -> None:
        self.model = bench.policy().model
        encoded = _encoded(bench, recipe)
        sentences = sum(map(len, bench.updates)) / len(bench.updates)
        self.clock = _Clock()
        self.collate = _Counting(DataCollatorForSeq2Seq(bench.tokenizer, model=self.model))
        self.trainer = _Shuffled(
            model=self.model,
            args=_arguments(recipe, bench.folder / "seq2seq_trainer", round(sentences)),
            train_dataset=encoded,
            data_collator=self.collate,
            processing_class=bench.tokenizer,
            callbacks=[self.clock],
        )
        self.trainer.remove_callback(PrinterCallback)

    def turn(self, updates: int, number: int) -> Turn:
        """Make some updates of the given turn after one that does not count; the work is in target tokens."""
        self.trainer.args.max_steps = updates + 1
        self.trainer.number = number
        self.clock.times.clear()
        self.collate.tokens.clear()
        self.trainer.train()
        seconds = self.clock.times[-1] - self.clock.times[0]
        return Turn(seconds, sum(self.collate.tokens[1 : updates + 1]))


class _Shuffled(Seq2SeqTrainer):  # type: ignore[misc]  # transformers is untyped here
    """Takes its batches in any order; its own begins with the longest sentences of some thousands, in each turn."""

    number = 0
    """Of the turn."""

    def _get_train_sampler(self, *given: Any) -> Any:
        rows, size = torch.tensor(list(super()._get_train_sampler(*given))), self.args.train_batch_size
        batches = rows[: len(rows) // size * size].view(-1, size)
        order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(self.number))
        return batches[order].flatten().tolist()


class _Clock(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Notes when updates end."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(now())


class _Counting:
    """Counts the target tokens of each batch that it pads."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate
        self.tokens: list[int] = []

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        batch = self.collate(rows)
        self.tokens.append(int((batch["labels"] != -100).sum()))
        return batch


def _encoded(bench: Workbench, recipe: Recipe) -> Dataset:
    """The training sentences as that trainer wants them."""
    encoded, _ = encode_split(
        bench.corpus.train,
        bench.tokenizer,
        max_tokens=recipe.data.filters.max_tokens,
        cache_directory=cache_folder(),
        origin=bench.corpus.train_origin,
    )
    # Grouped as our batches are: by the longer side.
    longer = [max(pair) for pair in zip(encoded["source_length"], encoded["target_length"], strict=True)]
    columns = {"source_ids": "input_ids", "target_ids": "labels"}
    return encoded.select_columns(list(columns)).rename_columns(columns).add_column("length", longer)


def _arguments(recipe: Recipe, folder: Path, sentences: int) -> Any:
    training = recipe.training
    return Seq2SeqTrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=sentences,
        train_sampling_strategy="group_by_length",
        max_steps=1,
        learning_rate=training.learning_rate,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        weight_decay=training.weight_decay,
        adam_beta2=training.adam_beta2,
        adam_epsilon=1e-9,
        max_grad_norm=training.clip_norm,
        label_smoothing_factor=training.label_smoothing,
        bf16=training.mixed_precision == "bf16",
        fp16=training.mixed_precision == "fp16",
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        seed=recipe.seed,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )


class UsualMemory:
    """Within this context the C library handles large blocks as it does in a process that never asked otherwise.

    Our training keeps freed memory (`l2s_nmt.cpu.keep_freed_memory`), for the whole process. These are the values
    to which glibc's own rule rises once a program has freed blocks of 32 MiB.
    """

    def __enter__(self) -> None:
        if not sys.platform.startswith("linux"):
            return
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL("libc.so.6")
            library.mallopt(_MMAP_MAX, 1 << 16)
            library.mallopt(_MMAP_THRESHOLD, 1 << 25)
            library.mallopt(_TRIM_THRESHOLD, 1 << 26)
            library.mallopt(_TOP_PAD, 1 << 17)
            library.malloc_trim(0)

    def __exit__(self, *_: object) -> None:
        keep_freed_memory()
