"""Text from files, corpora and models, made safe to show to people."""

from __future__ import annotations

import unicodedata
from typing import Literal

from l2s_nmt.errors import UserError


def refuse_surrogates(text: str, name: str) -> None:
    """See that a text can be written as UTF-8, which what came from bytes of another encoding cannot.

    Raises:
        UserError: it cannot.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{name} is not UTF-8 text ({shorten(ascii(text))}); convert it first") from error


def visible(text: str) -> str:
    """Replace what would act on a page or terminal instead of being seen on it.

    Control characters become their pictures, line separators and the characters that override the direction
    of text become their code points in brackets. Joiners and the direction marks of Arabic or Hebrew stay.
    """
    return "".join(map(_visible, text))


def visible_lines(text: str) -> str:
    """The same, line by line: what is written over several lines stays so."""
    return "\n".join(map(visible, text.split("\n")))


def direction(text: str) -> Literal["ltr", "rtl"]:
    """How it is written: from left to right or from right to left, as its first letter says."""
    kinds = (unicodedata.bidirectional(character) for character in text)
    first = next((kind for kind in kinds if kind in ("L", "R", "AL")), "L")
    return "ltr" if first == "L" else "rtl"


def shorten(text: str, longest: int = 100) -> str:
    """Its beginning, where it is longer than so many characters."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _visible(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069 or code in (0x2028, 0x2029):
        return f"[U+{code:04X}]"
    return "\ufffd" if unicodedata.category(character) in ("Cc", "Cs") else character
