"""A model in Marian's architecture as one of CTranslate2's, put together from the parts of its converter.

That converter takes the last token for the padding, drops it, and lets the decoder start from zeros, as Marian does.
Here the padding is the first token, and what stands for it has been trained, since the output layer shares it. So all
tokens stay where they are, the decoder starts from the padding, and a bias keeps it from being written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from transformers import MarianMTModel, MarianTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from l2s_nmt.data.tokenizer import vocabularies
from l2s_nmt.errors import UserError

Quantization = Literal["float32", "float16", "bfloat16", "int16", "int8"]
"""How weights are stored."""

_NEVER = -1e4
"""A score that is not chosen, in half precision too."""


def ctranslate2() -> Any:
    """The package, which is installed on demand.

    Raises:
        UserError: it is not installed.
    """
    try:
        import ctranslate2 as package
        import ctranslate2.converters.transformers as _  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"export: needs CTranslate2, which cannot be imported here ({error}); pip install 'l2s-nmt[export]'"
        ) from error
    return package


def refuse_unknown(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make sure that a model can be converted, and used with its tokenizer as the page beside it says.

    Raises:
        UserError: one of them is of another kind.
    """
    if not isinstance(model, MarianMTModel):
        raise UserError(
            f"export: the model is a {type(model).__name__}; only Marian's architecture is converted here, which new "
            "models and Opus-MT have. ct2-transformers-converter may know it: try it on the folder of the weights, and "
            "check what comes out"
        )
    if not isinstance(tokenizer, MarianTokenizer):
        raise UserError(
            f"export: the tokenizer is a {type(tokenizer).__name__}; only Marian's are exported here, which are around "
            "SentencePiece models"
        )
    config = model.config
    if config.encoder_attention_heads != config.decoder_attention_heads:
        raise UserError(
            f"export: encoder and decoder have {config.encoder_attention_heads} and "
            f"{config.decoder_attention_heads} attention heads, but CTranslate2 knows one number for both"
        )


def pieces(tokenizer: PreTrainedTokenizerBase) -> tuple[list[str], list[str]]:
    """The tokens of source and target in the order of their ids."""
    source, target = vocabularies(tokenizer)
    return sorted(source, key=source.__getitem__), sorted(target, key=target.__getitem__)


@torch.no_grad()
def convert(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, quantization: Quantization
) -> None:
    """Write a model and its tokenizer for CTranslate2.

    Args:
        model: on the CPU; its weights are rounded in place and of no use afterwards.
        tokenizer: its tokenizer.
        folder: that exists.
        quantization: how weights are stored.

    Raises:
        UserError: CTranslate2 is not installed, or model or tokenizer are of another kind.
    """
    refuse_unknown(model, tokenizer)
    model.config.normalize_before = model.config.normalize_embedding = False  # so says its loader of Marian
    spec = ctranslate2().converters.transformers.BartLoader().get_model_spec(model)
    bias = model.final_logits_bias.flatten().clone()
    bias[model.config.pad_token_id] = _NEVER
    spec.decoder.projection.bias = bias
    source, target = pieces(tokenizer)
    spec.register_source_vocabulary(source[: model.get_input_embeddings().num_embeddings])
    spec.register_target_vocabulary(target[: len(bias)])
    spec.config.eos_token = tokenizer.eos_token
    spec.config.unk_token = tokenizer.unk_token
    spec.config.bos_token = spec.config.decoder_start_token = target[model.config.decoder_start_token_id]
    spec.validate()
    spec.optimize(quantization=quantization)
    spec.save(str(folder))
    tokenizer.save_pretrained(folder)
