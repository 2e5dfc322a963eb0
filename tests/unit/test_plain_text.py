from __future__ import annotations

import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from l2s_nmt.plain_text import direction, visible, visible_lines


@given(st.text(st.characters(codec=None)))
@settings(deadline=None, derandomize=True)
def test_visible_text_has_no_power(text: str) -> None:
    shown = visible(text)
    for character in shown:
        assert unicodedata.category(character) not in ("Cc", "Cs")
        assert unicodedata.bidirectional(character) not in (
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        )
    shown.encode()
    assert visible(shown) == shown


def test_visible_text_keeps_what_languages_need() -> None:
    text = "Grüße, 你好, می\u200cخواهم, \u200fשלום, क्\u200dष, 👩\u200d💻"  # noqa: RUF001
    assert visible(text) == text


def test_the_first_letter_tells_how_a_text_is_written() -> None:
    assert direction("") == direction("12, 3!") == direction("(a \u05d0") == "ltr"
    assert direction("\u05d0 b") == direction("12 \u0628") == "rtl"


@given(st.text(st.characters(codec=None)))
@settings(deadline=None, derandomize=True)
def test_lines_stay_lines(text: str) -> None:
    assert visible_lines(text).split("\n") == [visible(line) for line in text.split("\n")]
