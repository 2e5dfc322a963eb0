"""The constants that decide how hard the corpus is to learn; changing any of them changes every sentence."""

from __future__ import annotations

from typing import Final

NOUNS: Final = 160
"""Noun lemmas. More of them means that more words of the test set were rarely or never seen in training."""
VERBS: Final = 64
ADJECTIVES: Final = 40
ADVERBS: Final = 20

ZIPF_SHIFT: Final = 2
"""The word of rank r = 1, 2, … has the weight 1 / (r + shift), the law of Zipf and Mandelbrot. A larger shift
flattens the distribution: the frequent words lose weight to the rare ones, and every sentence is harder."""

SYNONYM_PERCENT: Final = 25
"""Lemmas that have two or three words of the target language to choose from. The choice cannot be predicted,
so this lowers the best score that any model can reach."""

AMBIGUOUS_PERCENT: Final = 15
"""Source nouns, verbs and adjectives whose translation another word of the sentence decides."""
