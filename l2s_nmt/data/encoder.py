"""Encodes many sentences at once, as `encode_sources` and `encode_targets` do with a few.

A Marian tokenizer looks its pieces up one by one in Python, which takes ten times as long as finding them.
SentencePiece gives the numbers of its pieces as well, so here a table leads from those to the tokenizer's ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from transformers import MarianTokenizer, PreTrainedTokenizerBase

from l2s_nmt.data.tokenizer import encode_sources, encode_targets

SCHEMA = pa.schema(
    {
        "source_ids": pa.list_(pa.int32()),
        "target_ids": pa.list_(pa.int32()),  # of the first reference; EOS alone where there is none
        "reference_ids": pa.list_(pa.list_(pa.int32())),  # of all references; empty where there is none
        "source_length": pa.int32(),  # tokens, EOS included
        "target_length": pa.int32(),
        "row": pa.int64(),  # in the dataset that was encoded
    }
)

Ids = list[list[int]]


class Encoder:
    """A tokenizer, fit for many sentences.

    Args:
        tokenizer: of the model; it is set to one language and then to the other, so nobody else may use it at the
            same time.
        threads: for SentencePiece; other tokenizers have their own ways.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, threads: int) -> None:
        self._eos = int(tokenizer.eos_token_id)
        self._sources: Callable[[list[str]], pa.ListArray] = _Whole(tokenizer, encode_sources)
        self._targets: Callable[[list[str]], pa.ListArray] = _Whole(tokenizer, encode_targets)
        if type(tokenizer) is MarianTokenizer:
            self._sources = _Pieces(tokenizer, tokenizer.spm_source, encode_sources, threads)
            tokenizer._switch_to_target_mode()
            self._targets = _Pieces(tokenizer, tokenizer.spm_target, encode_targets, threads)
            tokenizer._switch_to_input_mode()

    def __call__(self, sources: list[str], references: list[list[str]], first_row: int) -> pa.RecordBatch:
        """Encode sentences; the columns are those of `SCHEMA`.

        Args:
            sources: one text of each sentence.
            references: the texts of the target of each, the first of them its target; maybe none.
            first_row: what the rows are counted from.
        """
        flat = [text for texts in references for text in texts]
        borders = _borders(np.fromiter(map(len, references), np.int64, len(references)))
        source, further = self._sources(sources), self._targets(flat)
        if len(flat) == len(sources) and not (np.diff(borders) != 1).any():
            target = further
        else:
            nothing = pa.array([[self._eos]], further.type)
            first = np.where(np.diff(borders) > 0, borders[:-1], len(flat))
            target = pa.concat_arrays([further, nothing]).take(pa.array(first))
        columns = [
            source,
            target,
            pa.ListArray.from_arrays(pa.array(borders), further),
            source.value_lengths(),
            target.value_lengths(),
            pa.array(np.arange(first_row, first_row + len(sources))),
        ]
        return pa.record_batch(columns, schema=SCHEMA)


class _Whole:
    """Ids by the tokenizer itself."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        encode: Callable[[PreTrainedTokenizerBase, Sequence[str]], Ids],
    ) -> None:
        self._tokenizer = tokenizer
        self._encode = encode

    def __call__(self, texts: list[str]) -> pa.ListArray:
        ids = self._encode(self._tokenizer, texts) if texts else []  # no tokenizer takes an empty list
        return pa.array(ids, SCHEMA.field("source_ids").type)


class _Pieces:
    """Ids by way of SentencePiece's numbers; texts that Marian treats otherwise go through the tokenizer."""

    def __init__(
        self,
        tokenizer: MarianTokenizer,
        pieces: Any,
        encode: Callable[[PreTrainedTokenizerBase, Sequence[str]], Ids],
        threads: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._pieces = pieces
        self._encode = encode
        self._threads = threads
        self._eos = int(tokenizer.eos_token_id)
        names = pieces.id_to_piece(list(range(pieces.get_piece_size())))
        ids = tokenizer.convert_tokens_to_ids(names)
        # Behind the numbers of the pieces, the ids themselves, for what the tokenizer has encoded.
        self._ids = np.array([*ids, *range(len(tokenizer))], dtype=np.int32)
        self._size = len(names)

    def __call__(self, texts: list[str]) -> pa.ListArray:
        numbers = self._pieces.encode(texts, out_type=int, num_threads=self._threads)
        lengths, values = _flat(numbers)
        odd = self._odd(texts, lengths, values)
        if odd:
            for index, ids in zip(odd, self._encode(self._tokenizer, [texts[i] for i in odd]), strict=True):
                numbers[index] = [self._size + token for token in ids[:-1]]
            lengths, values = _flat(numbers)
        borders = _borders(lengths + 1)
        tokens = np.full(borders[-1], self._eos, dtype=np.int32)
        inside = np.ones(len(tokens), dtype=bool)
        inside[borders[1:] - 1] = False
        tokens[inside] = self._ids[values]
        return pa.ListArray.from_arrays(pa.array(borders), pa.array(tokens))

    def _odd(self, texts: list[str], lengths: NDArray[np.int64], values: NDArray[np.int64]) -> list[int]:
        """Texts with an unknown piece, whose surface may have an id, or with a language code."""
        sentence = np.repeat(np.arange(len(texts)), lengths)
        unknown = np.unique(sentence[values == self._pieces.unk_id()]).tolist()
        codes = [index for index, text in enumerate(texts) if text.startswith(">>")]
        return sorted({*unknown, *codes})


def _flat(sequences: Ids) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The length of each, and the numbers end to end."""
    lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
    return lengths, np.fromiter(chain.from_iterable(sequences), np.int64, int(lengths.sum()))


def _borders(lengths: NDArray[np.int64]) -> NDArray[np.int32]:
    """(N + 1,) where each of N sequences begins, and the end."""
    borders = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=borders[1:])
    return borders
