"""Exported models write what the original ones write, whatever their weights are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, T5Tokenizer

from l2s_nmt.architecture import load_model, new_model, save_model
from l2s_nmt.data.tokenizer import train_tokenizer
from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.runs import TestSet
from l2s_nmt.evaluation.translate import Decoding, Translator
from l2s_nmt.export.check import check
from l2s_nmt.export.convert import convert, pieces, refuse_unknown
from tests.helpers import sentence_pairs
from tests.tiny import shared_policy

PAIRS = sentence_pairs(40, seed=3, longest=8)


@pytest.fixture(scope="module", params=[True, False], ids=["joint", "separate"])
def tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> PreTrainedTokenizerBase:
    sources, targets = zip(*sentence_pairs(200, seed=1), strict=True)
    return train_tokenizer(
        sources,
        targets,
        algorithm="bpe",
        vocab_size=40,
        joint=request.param,
        byte_fallback=False,
        character_coverage=1.0,
        directory=tmp_path_factory.mktemp("tokenizer"),
        seed=1,
    )


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Random weights that look much at the source, with a bias on the words; padding's are no zeros."""
    model = new_model(
        tokenizer, d_model=16, feed_forward=32, heads=2, encoder_layers=1, decoder_layers=1, positions=40, dropout=0.3,
        seed=6,
    )  # fmt: skip
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(3)
        for name, parameter in model.named_parameters():
            if "encoder_attn" in name:
                parameter.mul_(100.0)
        for side in (model.get_encoder(), model.get_decoder()):
            side.get_input_embeddings().weight[tokenizer.pad_token_id].normal_(std=0.2)
        model.final_logits_bias.normal_(std=0.02)
        model.final_logits_bias[0, tokenizer.pad_token_id] = -9.0
        model.final_logits_bias[0, tokenizer.eos_token_id] = 0.1  # so that sentences end
    return model.eval()


@pytest.mark.parametrize("decoding", [Decoding(1, max_length=9), Decoding(4, 0.5, 12), Decoding(3, 1.0, 12)])
def test_translations_are_equal(
    decoding: Decoding, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    pytest.importorskip("ctranslate2")
    decoding.configure(model)
    if decoding.beam == 1:  # beam search weighs what is left without padding a little differently
        model.final_logits_bias[0, tokenizer.pad_token_id] = 9.0
    save_model(model, tokenizer, tmp_path / "weights")
    convert(load_model(tmp_path / "weights"), tokenizer, tmp_path, "float32")
    sources = [*(source for source, _ in PAIRS[:20]), "", *(source for source, _ in PAIRS[20:])]
    translator = Translator(model, tokenizer, 200)
    assert len(set(translator(sources))) > 5, "else it would prove little"
    counts: list[int] = []
    found = check(
        tmp_path, translator, TestSet("", sources, [[text] for text in sources], "x"), counts.append
    )
    # Beams end by rules of their own: of what random weights find about equal, one translation may differ. Where
    # CTranslate2 stops at as many translations as the beam is wide, it is four.
    assert found.same >= len(sources) - (decoding.beam > 1)
    assert found.sentences == len(sources)
    assert sum(counts) == 2 * len(sources)
    assert decoding.beam > 1 or (found.holds and found.run.bleu == found.exported.bleu)


def test_tokens_are_in_the_order_of_their_ids(tokenizer: PreTrainedTokenizerBase) -> None:
    for side in pieces(tokenizer):
        assert side[:3] == ["<pad>", "</s>", "<unk>"]
        assert len(set(side)) == len(side) == 40


def test_what_cannot_be_converted_is_refused(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    refuse_unknown(model, tokenizer)
    with pytest.raises(UserError, match="the tokenizer is a T5Tokenizer; only Marian's"):
        refuse_unknown(model, T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)], extra_ids=0))
    with pytest.raises(UserError, match="the model is a T5ForConditionalGeneration; only Marian's"):
        refuse_unknown(shared_policy("t5").model, tokenizer)
    model.config.decoder_attention_heads = 4
    with pytest.raises(UserError, match="2 and 4 attention heads"):
        refuse_unknown(model, tokenizer)
