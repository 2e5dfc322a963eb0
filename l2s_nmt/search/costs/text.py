"""Costs on detokenised text: on its words, as scores are reported, or by a function over texts.

Texts are few where branches are many: equal token sequences are decoded once, and equal texts of a sentence are
scored once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import chain, compress

import numpy as np
import torch
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_ter import TercomTokenizer
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.languages import BleuTokenizer, new_bleu
from l2s_nmt.search.costs.cost import TokenCost, nearest_reference
from l2s_nmt.search.costs.own import TextFunction, as_costs

Decode = Callable[[list[list[int]]], list[str]]
"""Token sequences to their texts."""
Split = Callable[[str], list[str]]
"""A text to its words."""

_13A = Tokenizer13a()
_TERCOM = TercomTokenizer()


def words_13a(text: str) -> list[str]:
    """The words that sacrebleu's BLEU counts by default: punctuation is apart."""
    words: list[str] = _13A(text.rstrip()).split()
    return words


def words_by(bleu_tokenizer: BleuTokenizer) -> Split:
    """What cuts a text into words as a tokenizer of sacrebleu's does."""
    if bleu_tokenizer == "13a":
        return words_13a

    @cache
    def tokenizer() -> Callable[[str], str]:  # loaded where a cost is on words, and not else
        found: Callable[[str], str] = new_bleu(bleu_tokenizer).tokenizer
        return found

    return lambda text: tokenizer()(text.rstrip()).split()


def words_tercom(text: str) -> list[str]:
    """The words that sacrebleu's TER counts by default: whatever is between spaces, in lower case."""
    words: list[str] = _TERCOM(text.rstrip()).split()
    return words


@dataclass(frozen=True)
class OnWords:
    """A cost on the words of the text; where a sentence has several references, the nearest one counts.

    Args:
        kernel: the cost against one reference, on words as numbers.
        decode: target tokens to text.
        split: text to words.
    """

    kernel: TokenCost
    decode: Decode
    split: Split = words_13a

    def __call__(self, hypotheses: Tensor, lengths: Tensor, sentence: Tensor, batch: Batch, /) -> Tensor:
        """See `Cost`.

        Raises:
            UserError: a sentence has no reference.
        """
        texts = _read(hypotheses, lengths, sentence, batch, self.decode)
        number: dict[str, int] = {}
        distinct = dict.fromkeys(chain(texts.translations, *texts.references))
        words = {
            text: [number.setdefault(word, len(number)) for word in self.split(text)] for text in distinct
        }
        ours, our_lengths = _table([words[text] for text in texts.translations])
        theirs, their_lengths = _reference_table([[words[text] for text in row] for row in texts.references])
        device = hypotheses.device
        costs = nearest_reference(
            self.kernel,
            ours.to(device),
            our_lengths.to(device),
            torch.tensor(texts.sentence, dtype=torch.long, device=device),
            theirs.to(device),
            their_lengths.to(device),
        )
        return costs[texts.index.to(device)]


@dataclass(frozen=True)
class OnText:
    """A cost that a function over texts computes, all those of a batch in one call; needs no references.

    Args:
        function: sources, translations and the references of each to as many numbers.
        decode_target: target tokens to text.
        decode_source: source tokens to text.
        name: of the function, for messages.
    """

    function: TextFunction
    decode_target: Decode
    decode_source: Decode
    name: str = "the cost function"

    def __call__(self, hypotheses: Tensor, lengths: Tensor, sentence: Tensor, batch: Batch, /) -> Tensor:
        """See `Cost`.

        Raises:
            UserError: the function returned something else than a number for each translation.
        """
        texts = _read(hypotheses, lengths, sentence, batch, self.decode_target)
        if not texts.translations:
            return torch.zeros(lengths.shape, device=lengths.device)
        tokens, mask = batch.source[texts.rows].tolist(), batch.source_mask[texts.rows].tolist()
        kept = [list(compress(row, inside)) for row, inside in zip(tokens, mask, strict=True)]
        sources = _decoded(kept, self.decode_source)
        result = self.function(
            [sources[row] for row in texts.sentence],
            list(texts.translations),
            [list(texts.references[row]) for row in texts.sentence],
        )
        costs = as_costs(result, len(texts.translations), self.name)
        return costs[texts.index].to(hypotheses.device)


@dataclass(frozen=True)
class _Texts:
    """The U distinct translations of S sentences, in the order in which they come."""

    translations: list[str]
    sentence: list[int]
    """(U) which of the S sentences each translates."""
    index: Tensor
    """(M,) the place of each hypothesis among the U."""
    rows: Tensor
    """(S,) rows of the batch."""
    references: list[list[str]]
    """(S) those there are."""


def _read(hypotheses: Tensor, lengths: Tensor, sentence: Tensor, batch: Batch, decode: Decode) -> _Texts:
    rows, owner = torch.unique(sentence, return_inverse=True)
    ours = [row[:count] for row, count in zip(hypotheses.tolist(), lengths.tolist(), strict=True)]
    # The final EOS is not part of the text.
    counts = (batch.reference_lengths[rows] - 1).tolist()
    theirs = [
        [words[:count] for words, count in zip(row, row_counts, strict=True) if count >= 0]
        for row, row_counts in zip(batch.references[rows].tolist(), counts, strict=True)
    ]
    texts = iter(_decoded([*ours, *chain.from_iterable(theirs)], decode))
    place: dict[tuple[str, int], int] = {}
    index = [place.setdefault((next(texts), row), len(place)) for row in owner.tolist()]
    return _Texts(
        translations=[text for text, _ in place],
        sentence=[row for _, row in place],
        index=torch.tensor(index, dtype=torch.long),
        rows=rows,
        references=[[next(texts) for _ in row] for row in theirs],
    )


def _decoded(sequences: list[list[int]], decode: Decode) -> list[str]:
    """The text of each sequence; equal ones are decoded once."""
    keys = [tuple(sequence) for sequence in sequences]
    distinct = dict.fromkeys(keys)
    texts = decode([list(key) for key in distinct]) if distinct else []
    text = dict(zip(distinct, texts, strict=True))
    return [text[key] for key in keys]


def _table(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """The rows (U, W), padded, and their lengths (U,)."""
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    table = np.zeros((len(rows), int(lengths.max(initial=0))), dtype=np.int64)
    values = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
    table[np.arange(table.shape[1]) < lengths[:, None]] = values
    return torch.from_numpy(table), torch.from_numpy(lengths)


def _reference_table(references: list[list[list[int]]]) -> tuple[Tensor, Tensor]:
    """The references (S, K, W), padded, K >= 1, and their lengths (S, K), -1 where there is none."""
    count = max([1, *map(len, references)])
    tokens, lengths = _table([row for rows in references for row in (*rows, *[[]] * (count - len(rows)))])
    present = torch.tensor([len(rows) for rows in references], dtype=torch.long)[:, None]
    lengths = lengths.view(-1, count).masked_fill(torch.arange(count) >= present, -1)
    return tokens.view(len(references), count, tokens.shape[1]), lengths
