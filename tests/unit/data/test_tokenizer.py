from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, Literal

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import (
    MBart50Tokenizer,
    MBartTokenizer,
    NllbTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    T5Tokenizer,
)

from l2s_nmt.data.tokenizer import (
    EOS,
    PAD,
    UNKNOWN,
    copied,
    decode,
    encode_sources,
    encode_targets,
    load_tokenizer,
    train_tokenizer,
    vocabularies,
)
from l2s_nmt.errors import UserError


def sentences(seed: int, syllables: str, ending: str) -> list[str]:
    """Sentences from a made-up language with about a thousand words."""
    generator = random.Random(seed)
    words = ["".join(generator.choices(syllables.split(), k=generator.randint(1, 4))) for _ in range(1_000)]
    return [" ".join([*generator.choices(words, k=8), ending]) for _ in range(300)]


SOURCES = sentences(1, "ba be bi bo bu scha schi scho schu", "Katzen")
TARGETS = sentences(2, "la le li lo lu tha thi tho thu", "garden")


def train(directory: Path, **changes: Any) -> PreTrainedTokenizerBase:
    arguments: dict[str, Any] = {
        "algorithm": "unigram",
        "vocab_size": 330,
        "joint": True,
        "byte_fallback": True,
        "character_coverage": 1.0,
        "directory": directory,
        "seed": 1,
    }
    return train_tokenizer(SOURCES, TARGETS, **(arguments | changes))


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    return train(tmp_path_factory.mktemp("joint"))


@pytest.fixture(scope="module")
def separate(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    return train(tmp_path_factory.mktemp("separate"), joint=False, algorithm="bpe", vocab_size=320)


def test_ids(joint: PreTrainedTokenizerBase) -> None:
    assert (joint.pad_token_id, joint.eos_token_id, joint.unk_token_id) == (PAD, EOS, UNKNOWN) == (0, 1, 2)
    assert len(joint) == 330
    assert joint.bos_token_id is None
    assert sorted(joint.get_vocab().values()) == list(range(330))


@pytest.mark.parametrize("kind", ["joint", "separate"])
def test_round_trip_of_the_corpus(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(kind)
    ids = encode_targets(tokenizer, TARGETS)
    assert decode(tokenizer, ids) == TARGETS
    assert all(sequence[-1] == EOS and EOS not in sequence[:-1] for sequence in ids)
    assert all(UNKNOWN not in sequence for sequence in ids + encode_sources(tokenizer, SOURCES))


def test_separate_vocabularies_differ(separate: PreTrainedTokenizerBase) -> None:
    assert encode_sources(separate, ["Hund"]) != encode_targets(separate, ["Hund"])
    # Words of its own language are known to each side and spelled out by the other.
    assert len(encode_sources(separate, ["Katzen"])[0]) < len(encode_targets(separate, ["Katzen"])[0])
    assert len(encode_targets(separate, ["garden"])[0]) < len(encode_sources(separate, ["garden"])[0])


text = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"], exclude_characters="▁")
)


@settings(max_examples=100, deadline=None)
@given(words=st.lists(text, max_size=4))
def test_bytes_spell_whatever_was_never_seen(joint: PreTrainedTokenizerBase, words: list[str]) -> None:
    sentence = " ".join(filter(None, words))
    ids = encode_targets(joint, [sentence])
    assert UNKNOWN not in ids[0]
    assert decode(joint, ids) == [sentence]


def test_emoji_and_special_tokens_in_the_text_are_text(joint: PreTrainedTokenizerBase) -> None:
    sentences = [
        "👨\u200d👩\u200d👧 ﬁ ™",
        "</s> a <pad> b <unk>",
        "<0x41>",
        "",
        ">>the<< dog",
        ">>a<< b >>c<<",
    ]
    ids = encode_targets(joint, sentences)
    assert decode(joint, ids) == sentences
    assert [sequence.count(EOS) for sequence in ids] == [1] * 6
    assert ids == encode_sources(joint, sentences)


def test_a_code_that_the_vocabulary_has_stays_one(joint: PreTrainedTokenizerBase) -> None:
    several = copied(joint)
    several.encoder[">>fra<<"] = 7
    several.decoder[7] = ">>fra<<"
    code, text = encode_sources(several, [">>fra<< the dog", "the dog"])
    assert code == [7, *text]


def test_decoding_skips_specials_and_gives_one_line(joint: PreTrainedTokenizerBase) -> None:
    (ids,) = encode_targets(joint, ["the dog"])
    newline = joint.convert_tokens_to_ids("<0x0A>")
    assert decode(joint, [[PAD, *ids, PAD], [EOS], [], [*ids[:-1], newline, *ids]]) == [
        "the dog",
        "",
        "",
        "the dog  the dog",
    ]


def test_without_byte_fallback_the_unseen_is_unknown(tmp_path: Path) -> None:
    tokenizer = train(tmp_path, byte_fallback=False, vocab_size=100)
    assert UNKNOWN in encode_sources(tokenizer, ["😀"])[0]


@pytest.mark.parametrize("kind", ["joint", "separate"])
def test_what_no_word_belongs_to_is_left_out(kind: str, request: pytest.FixtureRequest) -> None:
    """A model may have more scores than its tokenizer has words, for the sake of round numbers."""
    tokenizer = request.getfixturevalue(kind)
    (ids,) = encode_targets(tokenizer, TARGETS[:1])
    last = max(vocabularies(tokenizer)[1].values())
    assert decode(tokenizer, [[last + 1, *ids[:-1], last + 8, EOS], ids]) == [TARGETS[0], TARGETS[0]]
    assert decode(tokenizer, [[last]]) != [""]


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
def test_same_input_same_files(
    tmp_path: Path, algorithm: str, joint: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l2s_nmt.data.tokenizer._SAMPLE", 150)  # so that a sample is drawn
    size = 350
    for name in ("one", "two"):
        train(tmp_path / name, algorithm=algorithm, joint=joint, vocab_size=size)
    train(tmp_path / "three", algorithm=algorithm, joint=joint, vocab_size=size, seed=2)
    files = {
        name: {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}
        for name in ("one", "two", "three")
    }
    expected = {"source.spm", "target.spm", "vocab.json", "tokenizer_config.json"}
    assert set(files["one"]) == expected | (set() if joint else {"target_vocab.json"})
    assert files["one"] == files["two"]
    assert files["one"] != files["three"], "another seed draws another sample"


def test_long_texts_do_not_warn_and_are_not_cut(
    joint: PreTrainedTokenizerBase, capfd: pytest.CaptureFixture[str]
) -> None:
    assert len(encode_sources(joint, ["x " * 2_000])[0]) > 2_000
    assert capfd.readouterr().err == ""


def test_loading_gives_no_advice(joint: PreTrainedTokenizerBase) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = load_tokenizer(joint.name_or_path)
    assert encode_targets(again, TARGETS[:5]) == encode_targets(joint, TARGETS[:5])


@pytest.mark.parametrize("kind", ["joint", "separate"])
def test_plain_interpreter(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(kind)
    sentence = "the </s> dog 😀"
    code = (
        "import sys; from transformers import AutoTokenizer\n"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "ids = tokenizer(text_target=sys.argv[2]).input_ids\n"
        "print(ids); print(tokenizer.decode(ids, skip_special_tokens=True))\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, tokenizer.name_or_path, sentence]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}
    printed = subprocess.run(command, check=True, capture_output=True, encoding="utf-8", env=environment)
    assert printed.stdout.splitlines() == [str(encode_targets(tokenizer, [sentence])[0]), sentence]


@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
def test_too_small_a_corpus_names_the_largest_size(tmp_path: Path, algorithm: str) -> None:
    with pytest.raises(
        UserError, match=r"too small for a vocabulary of 30000 pieces; [0-9]+ is the most"
    ) as caught:
        train(tmp_path / "out", algorithm=algorithm, vocab_size=30_000)
    assert not (tmp_path / "out").exists()
    largest = int(str(caught.value).split("; ")[1].split()[0])
    assert len(train(tmp_path / "out", algorithm=algorithm, vocab_size=largest)) == largest


def test_too_small_a_vocabulary_names_the_smallest_size(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"of 100 pieces .* set it to [0-9]+ or more") as caught:
        train(tmp_path, vocab_size=100)
    smallest = int(str(caught.value).split("set it to ")[1].split()[0])
    assert len(train(tmp_path, vocab_size=smallest)) == smallest


@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
@pytest.mark.parametrize("sources", [[], ["", ""], [" "]])
def test_a_corpus_without_a_character(
    sources: list[str], algorithm: Literal["unigram", "bpe"], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="text of the source language is empty, or its lines are all blank"):
        train_tokenizer(
            sources,
            TARGETS,
            algorithm=algorithm,
            vocab_size=300,
            joint=False,
            byte_fallback=True,
            character_coverage=1.0,
            directory=tmp_path,
            seed=1,
        )


def test_the_hub_is_not_asked_for_a_folder(
    joint: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    assert len(load_tokenizer(joint.name_or_path)) == len(joint)


def test_nothing_to_load(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tokenizer can be loaded.*give a folder"):
        load_tokenizer(tmp_path)


def test_no_padding(tmp_path: Path) -> None:
    backend = Tokenizer(models.WordLevel({"a": 0, "</s>": 1}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no padding or no EOS"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("kind", "given", "codes", "source", "target"),
    [
        # language codes stand before the sentence, on both sides
        (
            NllbTokenizer,
            ("deu_Latn", "eng"),
            ("deu_Latn", "eng_Latn"),
            ["deu_Latn", "</s>"],
            ["eng_Latn", "</s>"],
        ),
        (MBart50Tokenizer, ("de", "en_XX"), ("de_DE", "en_XX"), ["de_DE", "</s>"], ["en_XX", "</s>"]),
        # or after EOS, where the decoder starts with that of the target
        (MBartTokenizer, ("de", "en"), ("de_DE", "en_XX"), ["</s>", "de_DE"], ["</s>"]),
    ],
)
def test_multilingual_tokenizers(
    tmp_path: Path,
    kind: Any,
    given: tuple[str, str],
    codes: tuple[str, str],
    source: list[str],
    target: list[str],
) -> None:
    kind().save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path, source_language=given[0], target_language=given[1])
    assert (tokenizer.src_lang, tokenizer.tgt_lang) == codes
    assert tokenizer.convert_ids_to_tokens(encode_sources(tokenizer, [""])[0]) == source
    assert tokenizer.convert_ids_to_tokens(encode_targets(tokenizer, [""])[0]) == target
    (ids,) = encode_targets(tokenizer, ["a </s> b"])
    assert ids.index(tokenizer.eos_token_id) == len(ids) - 1
    assert ids.count(tokenizer.unk_token_id) >= 2, "the sentence must go on after an EOS in the text"
    (padded,) = encode_targets(tokenizer, ["a <pad> b"])
    assert tokenizer.pad_token_id not in padded, "nothing would count behind it"
    assert padded.count(tokenizer.unk_token_id) >= 2
    with pytest.raises(UserError, match=r"does not know the language 'xx'.*for example [a-z]+_[A-Z]"):
        load_tokenizer(tmp_path, target_language="xx")


def test_ambiguous_language_lists_its_codes(tmp_path: Path) -> None:
    NllbTokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"'zho'.*for example zho_Hans, zho_Hant"):
        load_tokenizer(tmp_path, source_language="zho")


def test_t5(tmp_path: Path, joint: PreTrainedTokenizerBase) -> None:
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁a", -1.0), ("▁b", -1.0), ("▁", -2.0)]
    T5Tokenizer(vocab=vocabulary, extra_ids=0).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path, source_language="de", target_language="en")
    assert encode_targets(tokenizer, ["a b", ""]) == [[3, 4, 1], [1]]
    assert decode(tokenizer, [[0, 3, 4, 1]]) == ["a b"]


@pytest.mark.parametrize(
    "ids", [{}, {"pad_id": 3, "bos_id": 2, "eos_id": 1, "unk_id": 0}, {"bos_id": -1, "eos_id": -1}]
)
def test_a_sentencepiece_model_of_others(ids: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "others.model"
    with file.open("wb") as writer:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SOURCES + TARGETS),
            model_writer=writer,
            vocab_size=300,
            user_defined_symbols=["<br>"],
            minloglevel=2,
            **ids,
        )
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(file))
    tokenizer = load_tokenizer(file)
    tokenizer.save_pretrained(tmp_path / "saved")
    for ours in (tokenizer, load_tokenizer(tmp_path / "saved")):
        assert (ours.pad_token_id, ours.eos_token_id, ours.unk_token_id) == (PAD, EOS, UNKNOWN)
        assert sorted(ours.get_vocab().values()) == list(range(len(ours)))
        for encode in (encode_sources, encode_targets):
            encoded = encode(ours, [TARGETS[0], "a <br> b", "Ω"])
            pieces = [ours.convert_ids_to_tokens(sequence[:-1]) for sequence in encoded]
            assert pieces[:2] == theirs.encode([TARGETS[0], "a <br> b"], out_type=str)
            assert UNKNOWN in encoded[2]
            assert all(sequence[-1] == EOS for sequence in encoded)
        assert decode(ours, encode_targets(ours, TARGETS)) == TARGETS


@pytest.mark.parametrize(("piece", "ids"), [("<pad>", {}), ("</s>", {"eos_id": -1})])
def test_a_sentencepiece_model_whose_texts_may_hold_a_special_token(
    piece: str, ids: dict[str, Any], tmp_path: Path
) -> None:
    """Its piece would take the place of padding or of the end."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SOURCES + TARGETS),
        model_prefix=str(tmp_path / "others"),
        vocab_size=300,
        user_defined_symbols=[piece],
        minloglevel=2,
        **ids,
    )
    with pytest.raises(UserError, match=rf"others\.model: has the piece {piece}.*user_defined_symbols"):
        load_tokenizer(tmp_path / "others.model")


def test_a_file_that_is_no_sentencepiece_model(tmp_path: Path) -> None:
    file = tmp_path / "broken.model"
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=r"broken\.model: no SentencePiece model that can be read"):
        load_tokenizer(file)


def test_padding_that_is_the_end_of_a_sentence_is_refused(tmp_path: Path) -> None:
    backend = Tokenizer(models.WordLevel({"a": 0, "<end>": 1}, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", pad_token="<end>")
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"are the same token \('<end>'\).*a padding token of its own"):
        load_tokenizer(tmp_path)


def test_a_sentencepiece_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"missing\.model: no SentencePiece model that can be read.*No such file"
    ):
        load_tokenizer(tmp_path / "missing.model")
