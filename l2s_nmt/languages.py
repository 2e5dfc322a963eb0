"""How the text of languages falls into words, where it has no spaces to tell."""

from __future__ import annotations

import re
from typing import Literal

BleuTokenizer = Literal["13a", "intl", "zh", "char", "ja-mecab", "ko-mecab", "flores200"]
"""Those of sacrebleu's."""

_CHINESE = frozenset({"zh", "zho", "cmn", "yue", "wuu"})
_WITHOUT_SPACES = frozenset(
    {"ja", "jpn", "th", "tha", "lo", "lao", "km", "khm", "my", "mya", "bo", "bod", "dz", "dzo"}
)
_UNSPACED = re.compile(
    "[\u0e00-\u0fff"  # Thai, Lao, Tibetan
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"  # kana and Chinese characters
)


def bleu_tokenizer(language: str) -> BleuTokenizer:
    """What sacrebleu's BLEU should cut a language into words with.

    Chinese by characters and other words; other languages without spaces by characters (words of Japanese need a
    package of their own); all others as WMT does.
    """
    name = re.split("[-_]", language.lower())[0]
    if name in _CHINESE:
        return "zh"
    return "char" if name in _WITHOUT_SPACES else "13a"


def number_of_words(text: str) -> int:
    """Words between white space; of scripts that write none, about one for two characters."""
    spaced = len(text.split())
    if text.isascii():
        return spaced
    return max(spaced, (len(_UNSPACED.findall(text)) + 1) // 2)
