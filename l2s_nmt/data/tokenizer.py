"""From text to token ids and back: SentencePiece trained from the corpus or elsewhere, or a pretrained tokenizer.

What is trained here is a `transformers.MarianTokenizer` (Junczys-Dowmunt et al. 2018) around SentencePiece
(Kudo & Richardson 2018), so that `AutoTokenizer` loads the folder without this package. Ids: pad 0, EOS 1,
unknown 2, then the pieces in SentencePiece's own order. There is no BOS: Marian starts its decoder with pad.
"""

from __future__ import annotations

import copy
import io
import json
import random
import re
import tempfile
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Literal

import sentencepiece
from transformers import AutoTokenizer, MarianTokenizer, PreTrainedTokenizerBase

from l2s_nmt.errors import UserError
from l2s_nmt.files import is_file, is_folder

PAD, EOS, UNKNOWN = 0, 1, 2
SPECIAL = ("<pad>", "</s>", "<unk>")
"""By id."""
SENTENCEPIECE = (".model", ".spm")
"""How the names of SentencePiece's model files end."""

_LINE_BREAKS = re.compile("[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")
"""Where ``str.splitlines`` and other programs end a line."""
_SAMPLE = 500_000  # sentences; more hardly change the pieces, and each takes about 2 kB of memory
_THREADS = 4  # written into the model file: fixed, so that the file is the same on every machine


def train_tokenizer(
    sources: Iterable[str],
    targets: Iterable[str],
    *,
    algorithm: Literal["unigram", "bpe"],
    vocab_size: int,
    joint: bool,
    byte_fallback: bool,
    character_coverage: float,
    directory: Path,
    seed: int,
) -> PreTrainedTokenizerBase:
    """Train SentencePiece and save it as a Marian tokenizer in `directory`.

    The same sentences and settings give the same files. Text is not normalised (no NFKC): what is decoded is
    what was encoded, runs of spaces aside. From a larger corpus a random sample of half a million sentences is
    used.

    Args:
        sources: source sentences.
        targets: target sentences.
        algorithm: unigram language model (Kudo 2018) or byte-pair encoding (Sennrich et al. 2016).
        vocab_size: number of ids, the three special ones included; of each side if they are separate.
        joint: one model and one vocabulary for both sides; else two, as `separate_vocabs` of Marian.
        byte_fallback: spell characters that have no piece in bytes, so that nothing is unknown.
        character_coverage: share of the characters of the text that become pieces.
        directory: made if missing; its tokenizer files are replaced.
        seed: of the sample.

    Raises:
        UserError: the corpus is empty, too small for `vocab_size`, or has more characters than `vocab_size`.
    """

    def train(sentences: Iterable[str], side: str) -> bytes:
        sample = _sample(sentences, seed)
        return _train_pieces(sample, side, algorithm, vocab_size, byte_fallback, character_coverage)

    if joint:
        models = [train(chain(sources, targets), "of both languages")] * 2
    else:
        models = [train(sources, "of the source language"), train(targets, "of the target language")]
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".training-") as work:
        tokenizer = _marian(models, joint, Path(work))
        saved = Path(work) / "saved"
        tokenizer.save_pretrained(saved)
        for path in saved.iterdir():
            path.replace(directory / path.name)
    return load_tokenizer(directory)


def load_tokenizer(
    path_or_id: str | Path, *, source_language: str | None = None, target_language: str | None = None
) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a folder (without asking the hub), by its hub id, or around a SentencePiece model.

    A SentencePiece model (a file that ends with .model or .spm) is of both languages; its pieces keep their order
    after pad 0, EOS 1 and unknown 2.

    Multilingual tokenizers (mBART, M2M-100, NLLB) are set to the two languages, which may be given as the
    tokenizer spells them (`de_DE`, `deu_Latn`) or, where that is unique, by the part before the underscore.
    Other tokenizers ignore the languages.

    Raises:
        UserError: it cannot be loaded, lacks padding or EOS, or does not know a language.
    """
    local = is_folder(path_or_id)
    if is_file(Path(path_or_id) / "recipe.yaml"):
        raise UserError(f"{path_or_id}: it is a run: {of_a_run(path_or_id)}")
    if Path(path_or_id).suffix in SENTENCEPIECE and not local:
        return _around(Path(path_or_id))
    try:
        with _without_sacremoses_advice():
            tokenizer = AutoTokenizer.from_pretrained(
                str(path_or_id), local_files_only=local, trust_remote_code=False
            )
    except (
        Exception
    ) as error:  # transformers lets many kinds through; all mean that this is no usable tokenizer
        reason = str(error).strip().split("\n")[0]
        hint = (
            "give a folder with a saved tokenizer"
            if local
            else "give an existing folder or check id and connection"
        )
        raise UserError(f"{path_or_id}: no tokenizer can be loaded ({reason}); {hint}") from error
    if tokenizer.pad_token_id is None or tokenizer.eos_token_id is None:
        raise UserError(
            f"{path_or_id}: the tokenizer has no padding or no EOS token; it is not one for translation"
        )
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise UserError(
            f"{path_or_id}: padding and end of sentence are the same token ({tokenizer.eos_token!r}), and padding is "
            "never written; give the tokenizer a padding token of its own"
        )
    if hasattr(tokenizer, "src_lang") and hasattr(tokenizer, "tgt_lang"):
        for attribute, language in (("src_lang", source_language), ("tgt_lang", target_language)):
            if language is not None:
                setattr(tokenizer, attribute, _language_code(tokenizer, language, str(path_or_id)))
    return tokenizer


def of_a_run(folder: str | Path) -> str:
    """What to give where a run stands in the place of a model or tokenizer."""
    return f"give model.from_run={folder}, model.pretrained={folder}/best, or tokenizer.pretrained={folder}/tokenizer"


def _around(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a SentencePiece model that was trained elsewhere."""
    try:
        model = path.read_bytes()
        taken = [piece for piece in _pieces(model) if piece in SPECIAL]
        if taken:
            raise UserError(
                f"{path}: has the piece {taken[0]} as a part of texts, which is a special token here; train it without "
                "that among its user_defined_symbols"
            )
        with tempfile.TemporaryDirectory() as work:
            return _marian([model] * 2, True, Path(work))
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: no SentencePiece model that can be read ({error})") from error


def copied(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The same tokenizer for another thread: one that encodes is set to a language meanwhile."""
    with _without_sacremoses_advice():
        return copy.deepcopy(tokenizer)


def vocabularies(tokenizer: PreTrainedTokenizerBase) -> tuple[dict[str, int], dict[str, int]]:
    """The tokens of source and target with their ids: the same for both, unless the tokenizer keeps two apart."""
    source: dict[str, int] = tokenizer.get_vocab()
    # Not ``get_tgt_vocab``, which fails where there are special tokens.
    return source, dict(tokenizer.target_encoder) if getattr(tokenizer, "separate_vocabs", False) else source


def encode_sources(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Source ids of each text, with EOS and what else the tokenizer adds (language codes); never cut off.

    Text that looks like a special token (`</s>`) is text to a tokenizer from `train_tokenizer`.
    """
    encoded = tokenizer(text=_without_codes(tokenizer, texts), split_special_tokens=True, verbose=False)
    eos = tokenizer.eos_token_id
    return [list(ids) if eos in ids else [*ids, eos] for ids in encoded["input_ids"]]


def encode_targets(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Target ids of each text, each ending with its only EOS; never cut off.

    A language code before the sentence stays; one after EOS (the first mBART) is dropped, since its decoder
    starts with it. Text that looks like a special token is text, as in `encode_sources`; where a pretrained
    tokenizer sees an EOS or padding in it, that is dropped.
    """
    encoded = tokenizer(
        text_target=_without_codes(tokenizer, texts), split_special_tokens=True, verbose=False
    )
    eos, never_inside = tokenizer.eos_token_id, (tokenizer.eos_token_id, tokenizer.pad_token_id)
    return [_ending_with(eos, list(ids), never_inside) for ids in encoded["input_ids"]]


def _without_codes(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[str]:
    """The texts, with a space before what Marian's tokenizer would take for the code of a language and drop.

    A code that it has in its vocabulary (``>>fra<<`` of a model for several languages) stays one.
    """
    if not isinstance(tokenizer, MarianTokenizer):
        return list(texts)

    def is_dropped(text: str) -> bool:
        end = text.find("<<") if text.startswith(">>") else -1
        return end >= 0 and tokenizer.convert_tokens_to_ids(text[: end + 2]) == tokenizer.unk_token_id

    return [f" {text}" if is_dropped(text) else text for text in texts]


def _ending_with(eos: int, ids: list[int], never_inside: Collection[int]) -> list[int]:
    last = len(ids) - 1 - ids[::-1].index(eos) if eos in ids else len(ids)
    return [*(token for token in ids[:last] if token not in never_inside), eos]


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[Sequence[int]]) -> list[str]:
    """Text of each sequence of target ids (ragged), without special tokens.

    A translation is one line, whoever reads it: all line breaks of Unicode, which a model can spell in bytes, become
    spaces.
    """
    sequences = [list(sequence) for sequence in ids]
    if isinstance(tokenizer, MarianTokenizer):
        # A model may have scores for more; others leave out what they have no word for, and this one fails.
        known = len(tokenizer.target_encoder) if tokenizer.separate_vocabs else len(tokenizer)
        sequences = [[token for token in sequence if token < known] for sequence in sequences]
    texts = tokenizer.batch_decode(sequences, skip_special_tokens=True)
    return [_LINE_BREAKS.sub(" ", text) for text in texts]


def decode_sources(tokenizer: PreTrainedTokenizerBase, ids: Sequence[Sequence[int]]) -> list[str]:
    """Text of each sequence of source ids (ragged), without special tokens."""
    if not getattr(tokenizer, "separate_vocabs", False):
        return decode(tokenizer, ids)
    pieces = {index: piece for piece, index in vocabularies(tokenizer)[0].items()}
    special = set(tokenizer.all_special_ids)
    words = [[pieces[index] for index in sequence if index not in special] for sequence in ids]
    return [tokenizer.spm_source.decode(sequence) for sequence in words]


def _sample(sentences: Iterable[str], seed: int) -> list[str]:
    """At most `_SAMPLE` sentences, each equally likely; SentencePiece's own sample has a fixed seed."""
    generator = random.Random(seed)
    sample: list[str] = []
    for number, sentence in enumerate(sentences):
        if number < _SAMPLE:
            sample.append(sentence)
        elif (place := generator.randrange(number + 1)) < _SAMPLE:
            sample[place] = sentence
    return sample


def _train_pieces(
    sentences: list[str],
    side: str,
    algorithm: str,
    vocab_size: int,
    byte_fallback: bool,
    character_coverage: float,
) -> bytes:
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type=algorithm,
            vocab_size=vocab_size,
            byte_fallback=byte_fallback,
            character_coverage=character_coverage,
            normalization_rule_name="identity",
            pad_id=PAD,
            eos_id=EOS,
            unk_id=UNKNOWN,
            bos_id=-1,
            num_threads=_THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise _explained(str(error), side, vocab_size) from error
    return model.getvalue()


def _explained(message: str, side: str, vocab_size: int) -> Exception:
    if largest := re.search(r"Vocabulary size too high .*<= (\d+)", message):
        return UserError(
            f"the text {side} is too small for a vocabulary of {vocab_size} pieces; {largest[1]} is the most "
            f"that it gives"
        )
    if smallest := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return UserError(
            f"a vocabulary of {vocab_size} pieces does not hold the characters of the text {side}; set it to "
            f"{smallest[1]} or more, or lower tokenizer.character_coverage (0.98 is the least)"
        )
    if "!sentences_.empty()" in message or "all_chars_count" in message:
        return UserError(
            f"the text {side} is empty, or its lines are all blank or too long for SentencePiece (do they end with "
            "LF?); there is nothing to train a tokenizer from"
        )
    return RuntimeError(f"SentencePiece failed on the text {side}: {message}")


def _marian(models: list[bytes], joint: bool, work: Path) -> PreTrainedTokenizerBase:
    vocabularies = []
    for name, model in zip(("source", "target"), models, strict=True):
        (work / f"{name}.spm").write_bytes(model)
        vocabulary = {piece: index for index, piece in enumerate([*SPECIAL, *_pieces(model)])}
        (work / f"{name}.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        vocabularies.append(work / f"{name}.json")
    with _without_sacremoses_advice():
        return MarianTokenizer(
            source_spm=str(work / "source.spm"),
            target_spm=str(work / "target.spm"),
            vocab=str(vocabularies[0]),
            target_vocab_file=None if joint else str(vocabularies[1]),
            separate_vocabs=not joint,
            split_special_tokens=True,  # "</s>" in a sentence is text, in a plain interpreter too
            clean_up_tokenization_spaces=False,
        )


def _pieces(model: bytes) -> list[str]:
    """What texts are made of, in SentencePiece's own order."""
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [pieces.id_to_piece(i) for i in range(pieces.get_piece_size()) if not _is_special(pieces, i)]


def _is_special(pieces: sentencepiece.SentencePieceProcessor, index: int) -> bool:
    """No part of a text: padding, ends, unknown, and what was set aside."""
    return bool(pieces.is_control(index) or pieces.is_unknown(index) or pieces.is_unused(index))


def _language_code(tokenizer: PreTrainedTokenizerBase, language: str, name: str) -> str:
    codes = _language_codes(tokenizer)
    if language in codes:
        return language
    matches = [code for code in codes if code.split("_")[0] == language]
    if len(matches) == 1:
        return matches[0]
    near = matches or get_close_matches(language, codes, n=5, cutoff=0.3) or codes[:5]
    raise UserError(
        f"{name}: the tokenizer does not know the language {language!r}; give it as the tokenizer spells it, in "
        f"data.source_code or data.target_code, for example {', '.join(near)}"
    )


def _language_codes(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The codes as `src_lang` takes them: known as a table (M2M-100, mBART) or as special tokens (NLLB)."""
    table = getattr(tokenizer, "lang_code_to_id", None)
    if table:
        return sorted(table)
    shape = re.compile(r"[a-z]{2,3}_[A-Za-z]{2,4}")
    return sorted(token for token in tokenizer.all_special_tokens if shape.fullmatch(token))


@contextmanager
def _without_sacremoses_advice() -> Iterator[None]:
    """Marian tokenizers advise to install sacremoses, which nothing here uses."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Recommended: pip install sacremoses")
        yield
