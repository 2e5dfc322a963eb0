"""Many sentences at once are encoded as each of them by its tokenizer."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from l2s_nmt.data import encoder
from l2s_nmt.data.encoder import SCHEMA, Encoder
from l2s_nmt.data.tokenizer import encode_sources, encode_targets, train_tokenizer

SOURCES, TARGETS = ["der Hund ist ein Tier", "x y ß >>"] * 20, ["the dog is an animal", "x y <s"] * 20


@pytest.fixture(scope="module", params=["joint", "separate"])
def tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> PreTrainedTokenizerBase:
    joint = request.param == "joint"
    return train_tokenizer(
        SOURCES,
        TARGETS,
        algorithm="bpe",
        vocab_size=290 if joint else 24,
        joint=joint,
        byte_fallback=joint,  # else much of a text is unknown
        character_coverage=1.0,
        directory=tmp_path_factory.mktemp("tokenizer"),
        seed=0,
    )


odd = st.sampled_from(
    [
        "",
        " ",
        "  the   dog ",
        "</s>",
        "<unk> x",
        "<pad>",
        ">>de<< Hund",
        ">> x",
        ">>x",
        "\u2581 a",
        "<0x41>",
        "a\u2028b",
    ]
)
texts = st.lists(
    st.text(st.characters(codec="utf-8"), max_size=8) | odd | st.sampled_from(SOURCES + TARGETS), max_size=5
)


@settings(max_examples=150, deadline=None)
@given(sources=texts, data=st.data())
def test_as_one_by_one(tokenizer: PreTrainedTokenizerBase, sources: list[str], data: st.DataObject) -> None:
    references = [data.draw(texts.map(lambda given: given[:3])) for _ in sources]
    found = Encoder(tokenizer, threads=2)(sources, references, 7)
    assert found.schema == SCHEMA
    assert found["row"].to_pylist() == list(range(7, 7 + len(sources)))
    for row, source, several in zip(found.to_pylist(), sources, references, strict=True):
        expected = [encode_targets(tokenizer, [text])[0] for text in several]
        assert row["source_ids"] == encode_sources(tokenizer, [source])[0]
        assert row["reference_ids"] == expected
        assert row["target_ids"] == (expected[0] if expected else [tokenizer.eos_token_id])
        assert row["source_length"] == len(row["source_ids"])
        assert row["target_length"] == len(row["target_ids"])


def test_any_other_tokenizer_encodes_itself(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Encoder(tokenizer, threads=1)(SOURCES, [[text] for text in TARGETS], 0)
    monkeypatch.setattr(encoder, "MarianTokenizer", int)
    assert Encoder(tokenizer, threads=1)(SOURCES, [[text] for text in TARGETS], 0).equals(expected)


def test_a_word_that_the_vocabulary_has_and_the_pieces_have_not(tokenizer: PreTrainedTokenizerBase) -> None:
    # As of Opus-MT, whose vocabulary is made apart from its pieces.
    own = copy.deepcopy(tokenizer)
    own.encoder["▁Q"], own.encoder["Q"] = 5, 6
    own._switch_to_input_mode()
    found = Encoder(own, threads=1)(["x Q y", "y"], [[], []], 0)["source_ids"].to_pylist()
    assert found == encode_sources(own, ["x Q y", "y"])
    assert own.separate_vocabs == any(token in (5, 6) for token in found[0])
