"""Encoder-decoders: new ones in Marian's architecture, and any that Hugging Face loads."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from l2s_nmt.errors import UserError
from l2s_nmt.files import whole_folder


def new_model(
    tokenizer: PreTrainedTokenizerBase,
    *,
    d_model: int,
    feed_forward: int,
    heads: int,
    encoder_layers: int,
    decoder_layers: int,
    positions: int,
    dropout: float,
    seed: int,
) -> PreTrainedModel:
    """A Transformer in Marian's architecture (Junczys-Dowmunt et al. 2018) with fresh weights.

    Embeddings are shared between the languages if the tokenizer is joint, and with the output layer always.
    Every position is initialised from the seed alone.
    """
    joint = not getattr(tokenizer, "separate_vocabs", False)
    target_size = len(tokenizer.get_vocab() if joint else tokenizer.get_tgt_vocab())
    config = MarianConfig(
        vocab_size=len(tokenizer.get_vocab() if joint else tokenizer.get_src_vocab()),
        decoder_vocab_size=target_size,
        share_encoder_decoder_embeddings=joint,
        d_model=d_model,
        encoder_ffn_dim=feed_forward,
        decoder_ffn_dim=feed_forward,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        max_position_embeddings=positions,
        dropout=dropout,
        activation_function="relu",
        scale_embedding=True,
        # Small weights: each layer begins near the identity, and post-norm layers learn from the first updates on.
        init_std=0.02,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        decoder_start_token_id=tokenizer.pad_token_id,
        forced_eos_token_id=None,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: PreTrainedModel = MarianMTModel(config)
    return model


def load_model(path_or_id: str | Path, dropout: float | None = None) -> PreTrainedModel:
    """A pretrained encoder-decoder from a folder (without asking the hub) or by its hub id; safetensors only.

    Args:
        path_or_id: of the model.
        dropout: what its configuration calls by that name; None: as it was trained.

    Raises:
        UserError: it cannot be loaded, or is no encoder-decoder.
    """
    local = Path(path_or_id).is_dir()
    try:
        config = AutoConfig.from_pretrained(str(path_or_id), local_files_only=local)
        for name in ("dropout", "dropout_rate"):
            if dropout is not None and hasattr(config, name):
                setattr(config, name, dropout)
        model: PreTrainedModel = AutoModelForSeq2SeqLM.from_pretrained(
            str(path_or_id), config=config, local_files_only=local, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path_or_id}: not a model that can be loaded ({reason}); give a folder or hub id of an encoder-decoder "
            "with weights in safetensors"
        ) from error
    return model


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write weights, configuration, generation configuration and tokenizer as a plain Hugging Face folder."""
    with whole_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
