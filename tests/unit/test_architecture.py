"""Weights come from safetensors alone, and nothing that a folder brings along is run."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, MBart50Tokenizer, MBartTokenizer, PreTrainedModel, T5Tokenizer
from transformers.utils import logging

from l2s_nmt.architecture import load_model, new_model, start_with_language
from l2s_nmt.data.tokenizer import encode_targets, load_tokenizer, train_tokenizer, vocabularies
from l2s_nmt.errors import UserError
from tests.helpers import sentence_pairs
from tests.tiny import new_policy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    new_policy("marian").model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


class Payload:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.trace,)


def test_safetensors_are_read(folder: Path) -> None:
    assert isinstance(load_model(folder), PreTrainedModel)


def test_a_pickle_is_refused_and_not_opened(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(tmp_path / "trace")))
    with pytest.raises(
        UserError, match=r"pickle, which can run code.*save_pretrained\(FOLDER\) writes safetensors"
    ):
        load_model(folder)
    assert not (tmp_path / "trace").exists()


def test_the_conversion_that_is_advised_works(folder: Path) -> None:
    model = load_model(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    AutoModelForSeq2SeqLM.from_pretrained(folder).save_pretrained(folder)
    again = load_model(folder)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_safetensors_are_read_where_a_pickle_lies_beside_them(folder: Path, tmp_path: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(tmp_path / "trace")))
    load_model(folder)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("model_type", ["marian", "my_own"])
def test_code_in_the_folder_of_a_model_is_not_run(model_type: str, folder: Path, tmp_path: Path) -> None:
    code = f"import pathlib; pathlib.Path({str(tmp_path / 'trace')!r}).touch()\nclass Own: ...\n"
    (folder / "own.py").write_text(code)
    path = folder / "config.json"
    own = {"AutoConfig": "own.Own", "AutoModelForSeq2SeqLM": "own.Own", "AutoTokenizer": ["own.Own", None]}
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": own, "model_type": model_type}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": own, "tokenizer_class": "Own"}))
    if model_type == "marian":
        load_model(folder)  # known to transformers: its own class is taken
    else:
        with pytest.raises(UserError, match="not a model that can be loaded"):
            load_model(folder)
    with pytest.raises(UserError, match="no tokenizer can be loaded"):
        load_tokenizer(folder)
    assert not (tmp_path / "trace").exists()


def test_weights_that_are_missing_are_not_made_up(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("fc1.weight"))
    del weights[name]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=f"1 weights are missing, such as {name}"):
        load_model(folder)


@pytest.mark.parametrize("family", ["marian", "t5", "mbart"])
def test_whole_models_of_every_family_are_loaded(family: str, tmp_path: Path) -> None:
    new_policy(family).model.save_pretrained(tmp_path)
    load_model(tmp_path)


@pytest.mark.parametrize("joint", [True, False])
def test_each_side_has_an_embedding_for_each_of_its_tokens(joint: bool, tmp_path: Path) -> None:
    sources, targets = zip(*sentence_pairs(200, seed=1), strict=True)
    tokenizer = train_tokenizer(
        sources,
        (text.upper() for text in targets),
        algorithm="bpe",
        vocab_size=50,
        joint=joint,
        byte_fallback=False,
        character_coverage=1.0,
        directory=tmp_path,
        seed=1,
    )
    source, target = vocabularies(tokenizer)
    assert (source == target) == joint
    model = new_model(
        tokenizer,
        d_model=8,
        feed_forward=8,
        heads=2,
        encoder_layers=1,
        decoder_layers=1,
        positions=16,
        dropout=0.0,
        seed=1,
    )
    encoder, decoder = (part.get_input_embeddings() for part in (model.get_encoder(), model.get_decoder()))
    assert (encoder.weight is decoder.weight) == joint
    assert [encoder.num_embeddings, decoder.num_embeddings] == [len(source), len(target)]
    assert model.get_output_embeddings().weight is decoder.weight


def test_loading_from_a_folder_shows_no_bar(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    new_policy().model.save_pretrained(tmp_path)
    before = logging.is_progress_bar_enabled()
    logging.enable_progress_bar()
    try:
        capfd.readouterr()
        load_model(tmp_path)
        assert capfd.readouterr() == ("", "")
        assert logging.is_progress_bar_enabled(), "other bars are the caller's"
    finally:
        if not before:
            logging.disable_progress_bar()


def test_the_first_mbart_starts_with_the_code_of_the_target_language() -> None:
    tokenizer = MBartTokenizer()
    tokenizer.src_lang, tokenizer.tgt_lang = "de_DE", "ro_RO"
    model = new_policy("mbart").model
    model.config.decoder_start_token_id = None
    start_with_language(model, tokenizer)
    code = tokenizer.convert_tokens_to_ids("ro_RO")
    assert model.config.decoder_start_token_id == model.generation_config.decoder_start_token_id == code


def test_translations_begin_with_the_code_that_targets_begin_with() -> None:
    model, tokenizer = new_policy("mbart").model, MBart50Tokenizer()
    tokenizer.tgt_lang = "de_DE"
    before = model.config.decoder_start_token_id
    model.generation_config.forced_bos_token_id = tokenizer.convert_tokens_to_ids("en_XX")
    start_with_language(model, tokenizer)
    assert model.config.decoder_start_token_id == before
    assert model.generation_config.forced_bos_token_id == tokenizer.convert_tokens_to_ids("de_DE")
    assert encode_targets(tokenizer, [""])[0][0] == tokenizer.convert_tokens_to_ids("de_DE")


def test_where_targets_begin_with_words_nothing_is_forced() -> None:
    model = new_policy("t5").model
    assert encode_targets(T5Tokenizer(), [""]) == [[T5Tokenizer().eos_token_id]]
    start_with_language(model, T5Tokenizer())
    assert model.generation_config.forced_bos_token_id is None


def test_no_layers_are_dropped(tmp_path: Path) -> None:
    """Processes that drop others than the rest would wait for each other."""
    model = new_policy("mbart").model
    model.config.encoder_layerdrop = model.config.decoder_layerdrop = 0.5
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path).config
    assert (loaded.encoder_layerdrop, loaded.decoder_layerdrop) == (0.0, 0.0)
