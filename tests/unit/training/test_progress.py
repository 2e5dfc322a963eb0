"""What a person sees while a run trains."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console
from rich.live import Live

from l2s_nmt.training.lossy import lossy_stderr
from l2s_nmt.training.progress import Display, validation_text, view_of

MEASURED = {
    "loss": 2.5,
    "target_tokens_per_second": 5_321.4,
    "bleu": 39.82,
    "best_bleu": 40.1,
    "roll_in_cost": 0.512,
    "improvable": 0.35,
    "advantage_where_improvable": 0.041,
    "length_ratio": 0.98,
    "entropy": 1.21,
    "roll_outs_per_second": 2_300.0,
    "seconds_roll_in": 2.0,
    "seconds_roll_out": 4.0,
    "seconds_scoring": 1.0,
    "seconds_update": 3.0,
    "skipped": 2,
}


def test_the_view_says_what_matters() -> None:
    assert view_of(1_234, MEASURED) == [
        "          update 1,234  loss 2.500  valid BLEU 39.82  best 40.10  5,321 tokens/s  2 updates skipped",
        "  search  roll-in cost 0.512  improvable 35%  advantage 0.041  length 0.98  entropy 1.21  2,300 roll-outs/s",
        "  time    roll-in 20%  roll-out 40%  scoring 10%  update 30%",
    ]


def test_teacher_forcing_has_no_line_of_search() -> None:
    assert view_of(7, {"loss": 2.5, "seconds_update": 3.0}) == ["          update 7  loss 2.500"]
    assert view_of(7, {}) == ["          update 7"]


@pytest.mark.parametrize(
    ("perplexity", "text"), [(None, ""), (3.14159, "perplexity 3.14, "), (1e304, "perplexity 1.0e+304, ")]
)
def test_a_validation_is_told_in_a_line(perplexity: float | None, text: str) -> None:
    line = {"update": 1_000, "minutes": 2.0, "bleu": 3.0, "perplexity": perplexity, "length_ratio": 1.0}
    assert validation_text(line) == f"update 1,000, 2.0 min: validation BLEU 3.00, {text}length ratio 1.000"


def test_a_log_file_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(enabled=True) as display:
        display.step(0.251, 10, {"loss": 1.0})
        display.step(0.252, 11, {"loss": 1.0})
    assert capsys.readouterr().err.splitlines() == [" 25 %  update 10  loss 1.000"]
    with Display(enabled=False) as display:
        display.say("nothing")
        display.step(0.3, 12, {})
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_live_view() -> None:
    written = io.StringIO()
    display = Display(enabled=True)
    display.console = Console(file=written, force_terminal=True, width=120)
    display.view = Live(console=display.console)
    display.live = True
    with display:
        display.step(0.5, 10, MEASURED)
        display.say("a line that stays")
    text = written.getvalue()
    for part in ("training", "50%", "update 10", "roll-in cost 0.512", "scoring 10%", "a line that stays"):
        assert part in text


def test_what_looks_like_a_picture_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Display(enabled=True).say("3:100:2 and :dog:")
    assert capsys.readouterr().err == "3:100:2 and :dog:\n"


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), BrokenPipeError(), RuntimeError("reentrant call")]
)
def test_training_goes_on_where_standard_error_takes_nothing(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise error

        def flush(self) -> None:
            raise error

    monkeypatch.setattr(sys, "stderr", Broken())
    with Display(enabled=True, stream=lossy_stderr()) as display:
        display.say("a line")
        display.step(0.5, 10, MEASURED)


def test_a_live_view_on_a_stream_that_loses_lines_is_the_same_view(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    written = Terminal()
    monkeypatch.setattr(sys, "stderr", written)
    with Display(enabled=True, stream=lossy_stderr()) as display:
        assert display.live
        display.say("a line that stays")
        display.step(0.5, 10, MEASURED)
        display.view.refresh()
    assert "a line that stays" in written.getvalue()
    assert "roll-in cost 0.512" in written.getvalue()
