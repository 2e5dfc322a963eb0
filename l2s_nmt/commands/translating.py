"""Sentences through a translator, from where they come to where they go."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import xxhash

from l2s_nmt.commands.lines_in import as_they_come, from_a_person, in_windows, standard_input
from l2s_nmt.commands.lines_out import GrowingFile, print_lines
from l2s_nmt.commands.terminal import note, progress
from l2s_nmt.commands.texts import read_lines
from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.translate import Translator
from l2s_nmt.files import writing_to
from l2s_nmt.processes import Processes

Windows = Iterator[list[str]]


class Arriving:
    """Sentences, which the main process alone reads.

    Args:
        path: of a file, which is read whole: nothing is translated of one that is unsound. None: standard input, as it
            comes.
        processes: get them all.

    Raises:
        UserError: what comes first cannot be read, or is not UTF-8.
    """

    def __init__(self, path: Path | None, processes: Processes) -> None:
        self.processes = processes
        self.name = "standard input" if path is None else str(path)
        self.is_person = path is None and processes.from_main(lambda: sys.stdin.isatty())
        self.sentences = None if path is None else processes.from_main(lambda: read_lines(path))
        """All of them, where that is known."""
        self._windows = self._open()

    def _open(self) -> Windows:
        if self.sentences is not None:
            return in_windows(self.sentences)
        if not self.processes.is_main:
            return iter(())
        if self.is_person:
            return from_a_person()
        windows = as_they_come(standard_input(), self.name)
        first = next(windows, None)  # before the model is loaded
        return _again(first, windows)

    def windows(self, work: Work) -> Windows:
        """Sentences that are translated together; what is too long for the model is refused in its turn.

        Raises:
            UserError: names the line that cannot be translated; those before have been given.
        """
        if self.sentences is not None:
            self.processes.from_main(lambda: work.check(self.sentences or [], 0))
            yield from self._windows
            return
        windows = self._patient(work) if self.is_person else self._checked(work)
        while (window := self.processes.from_main(lambda: next(windows, None))) is not None:
            yield window

    def _checked(self, work: Work) -> Windows:
        before = 0
        for window in self._windows:
            try:
                work.check(window, before)
            except UserError:
                fitting = _until_refused(work, window)
                if fitting:
                    yield fitting
                raise
            yield window
            before += len(window)

    def _patient(self, work: Work) -> Windows:
        for before, window in enumerate(self._windows):  # a line each
            try:
                work.check(window, before)
            except UserError as error:
                note(f"error: {error}")
            else:
                yield window


def _again(first: list[str] | None, others: Windows) -> Windows:
    if first is not None:
        yield first
        yield from others


def _until_refused(work: Work, window: Sequence[str]) -> list[str]:
    fitting: list[str] = []
    for sentence in window:
        try:
            work.check([sentence], 0)
        except UserError:
            break
        fitting.append(sentence)
    return fitting


class Work:
    """What is made of sentences: a line for each.

    Args:
        translator: of sentences.
        n_best: translations of each, with their scores, as JSON; None: one, as it is.
        name: of the sentences in errors.
    """

    def __init__(self, translator: Translator, n_best: int | None, name: str) -> None:
        self.translator = translator
        self.n_best = n_best
        self.name = name

    def __call__(self, sentences: Sequence[str], before: int, done: Callable[[int], None]) -> list[str]:
        """Lines for sentences behind so many others."""
        if self.n_best is None:
            return self.translator(sentences, origin=self.name, before=before, done=done)
        groups = self.translator.best(sentences, self.n_best, origin=self.name, before=before, done=done)
        return [
            json.dumps({"line": line, "translations": [asdict(one) for one in group]}, ensure_ascii=False)
            for line, group in enumerate(groups, start=before + 1)
        ]

    def check(self, sentences: Sequence[str], before: int) -> None:
        """Refuse what is too long for the model.

        Raises:
            UserError: names the first such line.
        """
        self.translator.check(sentences, self.name, before)


def print_translations(
    work: Work, arriving: Arriving, write: Callable[[Sequence[str]], None] = print_lines
) -> None:
    """Translations to standard output or another stream, each window's as soon as it is done."""
    sentences, processes = arriving.sentences, arriving.processes
    total = None if sentences is None else len(sentences)
    before = 0
    with progress("translating", total, processes, hidden=sys.stdout.isatty()) as advance:
        for window in arriving.windows(work):
            lines = work(window, before, advance)
            before += len(window)
            if processes.is_main:
                write(lines)


def stream_translations(work: Work, arriving: Arriving, path: Path) -> None:
    """Translations to a pipe or another device, each window's as soon as it is done.

    Raises:
        UserError: it cannot be written.
    """
    if not arriving.processes.is_main:
        print_translations(work, arriving)
        return
    with writing_to(path):
        stream = path.open("ab")

    def write(lines: Sequence[str]) -> None:
        with writing_to(path):
            stream.write("".join(f"{line}\n" for line in lines).encode())
            stream.flush()

    with stream:
        print_translations(work, arriving, write)


def write_translations(work: Work, arriving: Arriving, path: Path, made_by: Sequence[Any]) -> None:
    """Translations to a file, from where an interrupted command of the same input, weights and settings stopped.

    Args:
        work: what is made of sentences.
        arriving: the sentences.
        path: of the file.
        made_by: weights and settings.

    Raises:
        UserError: the file cannot be written or another command is writing it, or a sentence cannot be translated.
    """
    processes = arriving.processes
    sentences = [sentence for window in arriving.windows(work) for sentence in window]
    file = GrowingFile(path)

    def begin() -> int:
        with writing_to(path):
            return min(file.begin(_made_from(sentences, made_by), note), len(sentences))

    before = processes.from_main(begin)
    with progress("translating", len(sentences), processes) as advance:
        advance(before)
        for window in in_windows(sentences[before:]):
            lines = work(window, before, advance)
            before += len(window)
            if processes.is_main:
                with writing_to(path):
                    file.add(lines)
    if processes.is_main:
        with writing_to(path):
            file.finish()


def _made_from(sentences: Sequence[str], made_by: Sequence[Any]) -> str:
    digest = xxhash.xxh3_128()
    for text in (*map(str, made_by), *sentences):
        digest.update(text.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()
