"""How the text of languages falls into words, where it has no spaces to tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from l2s_nmt.errors import UserError

BleuTokenizer = Literal["13a", "intl", "zh", "char", "ja-mecab", "ko-mecab", "flores200"]
"""Those of sacrebleu's."""

_CHINESE = frozenset({"zh", "zho", "cmn", "yue", "wuu"})
_WITHOUT_SPACES = frozenset(
    {"ja", "jpn", "th", "tha", "lo", "lao", "km", "khm", "my", "mya", "bo", "bod", "dz", "dzo"}
)
_KANA_AND_CHINESE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
UNSPACED = (
    "\u0e00-\u0fff"  # Thai, Lao, Tibetan
    "\u1000-\u109f\u1780-\u17ff" + _KANA_AND_CHINESE  # Burmese, Khmer
)
"""Characters of scripts that write no spaces, as a regular expression's class."""
_ASIAN = re.compile(f"[{_KANA_AND_CHINESE}]")
_UNSPACED = re.compile(f"[{UNSPACED}]")


def bleu_tokenizer(language: str) -> BleuTokenizer:
    """What sacrebleu's BLEU should cut a language into words with.

    Chinese by characters and other words; other languages without spaces by characters (words of Japanese need a
    package of their own); all others as WMT does.
    """
    name = re.split("[-_]", language.lower())[0]
    if name in _CHINESE:
        return "zh"
    return "char" if name in _WITHOUT_SPACES else "13a"


def language_tag(code: str) -> str:
    """A language's code, as corpora and tokenizers write it (de, zh_CN, deu_Latn), as BCP 47 has it."""
    return code.replace("_", "-")


def new_bleu(tokenizer: BleuTokenizer = "13a", *, quiet: bool = False) -> Any:
    """Return a fresh BLEU of sacrebleu.

    Args:
        tokenizer: what cuts text into its words.
        quiet: do not warn of text that looks tokenized.

    Raises:
        UserError: it needs a package that is not installed, or a model that cannot be had.
    """
    from sacrebleu.metrics import BLEU  # which takes longer than all else that a recipe needs

    try:
        return BLEU(tokenize=tokenizer, force=quiet)
    except Exception as error:  # each of its tokenizers fails in its own way
        reason = " ".join(str(error).split())
        raise UserError(
            f"BLEU's tokenizer {tokenizer} cannot be loaded ({reason}); install what it needs, or choose another, such "
            "as char (evaluation.bleu_tokenizer, --bleu-tokenizer)"
        ) from error


def mostly_asian(texts: Sequence[str]) -> bool:
    """Whether more than half of the texts have Chinese characters or kana in them."""
    return 2 * sum(map(bool, map(_ASIAN.search, texts))) > len(texts)


def number_of_words(text: str) -> int:
    """Words between white space; of scripts that write none, about one for two characters."""
    spaced = len(text.split())
    if text.isascii():
        return spaced
    return max(spaced, (len(_UNSPACED.findall(text)) + 1) // 2)
