"""Where the time of a step goes: own time of named sections, and what the decoder did in each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.profiler import record_function

from scripts.bench.clock import now


@dataclass
class Section:
    """Sums over all times that a section was entered."""

    seconds: float = 0.0
    """Without the sections inside."""
    calls: int = 0
    decoder_calls: int = 0
    decoder_tokens: int = 0
    """Fed to the decoder, padding included."""


class Sections:
    """Times methods from outside; where one calls another, the time is the inner one's."""

    def __init__(self) -> None:
        self.found: dict[str, Section] = defaultdict(Section)
        self.open: list[str] = []
        self.since = 0.0

    @contextmanager
    def watching(self, methods: list[tuple[type, str, str]], decoder: nn.Module) -> Iterator[None]:
        """Within this context the given methods are timed, and the decoder's inputs counted.

        Args:
            methods: class, name, and the section that it counts for.
            decoder: of the model.
        """
        with ExitStack() as stack:
            for owner, name, section in methods:
                original = getattr(owner, name)
                setattr(owner, name, self._timed(original, section))
                stack.callback(setattr, owner, name, original)
            hook = decoder.register_forward_pre_hook(self._count, with_kwargs=True)
            stack.callback(hook.remove)
            yield

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Within this context time counts for the section."""
        self._charge()
        self.open.append(name)
        self.found[name].calls += 1
        try:
            with record_function(f"section: {name}"):
                yield
        finally:
            self._charge()
            self.open.pop()

    def _charge(self) -> None:
        """Charge the time since the last border to the innermost section."""
        time = now()
        if self.open:
            self.found[self.open[-1]].seconds += time - self.since
        self.since = time

    def _timed(self, original: Callable[..., Any], section: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.section(section):
                return original(*args, **kwargs)

        return timed

    def _count(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        if self.open:
            found = self.found[self.open[-1]]
            found.decoder_calls += 1
            found.decoder_tokens += inputs.numel()
