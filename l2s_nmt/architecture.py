"""Encoder-decoders: new ones in Marian's architecture, and any that Hugging Face loads."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    MarianConfig,
    MarianMTModel,
    MBartTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from l2s_nmt.data.tokenizer import encode_targets, of_a_run, vocabularies
from l2s_nmt.errors import UserError
from l2s_nmt.files import is_file, is_folder, whole_folder

_LAYERS = ("encoder_layers", "decoder_layers", "num_layers", "num_decoder_layers", "num_hidden_layers")
_MOST_LAYERS = 1_000
"""Beyond which a configuration is damaged; to build such a model would never end."""


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
    source, target = vocabularies(tokenizer)
    config = MarianConfig(
        vocab_size=_size(source),
        decoder_vocab_size=_size(target),
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


def _size(vocabulary: dict[str, int]) -> int:
    """Rows that its ids need: some tokenizers leave ids out."""
    return max(vocabulary.values()) + 1


def has_dropout(config: PretrainedConfig) -> bool:
    """Whether a model drops anything while it is trained."""
    names = ("dropout", "dropout_rate", "attention_dropout", "activation_dropout")
    return any(getattr(config, name, 0.0) for name in names)


def load_model(path_or_id: str | Path, dropout: float | None = None) -> PreTrainedModel:
    """A pretrained encoder-decoder from a folder (without asking the hub) or by its hub id; safetensors only.

    Args:
        path_or_id: of the model.
        dropout: what its configuration calls by that name; None: as it was trained.

    Raises:
        UserError: it cannot be loaded, or is no encoder-decoder.
    """
    local = is_folder(path_or_id)
    try:
        # Code that a folder brings along is never run: what needs it is refused.
        config = AutoConfig.from_pretrained(str(path_or_id), local_files_only=local, trust_remote_code=False)
        _refuse_endless(config)
        for name in ("dropout", "dropout_rate"):
            if dropout is not None and hasattr(config, name):
                setattr(config, name, dropout)
        for name in ("encoder_layerdrop", "decoder_layerdrop"):
            # Processes that drop other layers than the rest would wait for each other.
            if hasattr(config, name):
                setattr(config, name, 0.0)
        with _without_bars() if local else nullcontext():
            model, loaded = AutoModelForSeq2SeqLM.from_pretrained(
                str(path_or_id),
                config=config,
                local_files_only=local,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
        _refuse_unfit(model, loaded["missing_keys"])
    except Exception as error:  # transformers lets many kinds through; all mean that this is no usable model
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(
            f"{path_or_id}: not a model that can be loaded ({reason}); {_advice(path_or_id)}"
        ) from error
    found: PreTrainedModel = model
    _hold_fixed(found)
    return found


def start_with_language(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let translations start with the target language's code, as the targets do.

    The decoder of the first mBART starts with it (Liu et al. 2020); other models of many languages write it first,
    which decoding then holds them to. Their configurations may not say so, or be of another language.
    """
    if isinstance(tokenizer, MBartTokenizer):
        code = tokenizer.convert_tokens_to_ids(tokenizer.tgt_lang)
        model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = code
        return
    before_words = encode_targets(tokenizer, [""])[0][:-1]
    if before_words:
        model.generation_config.forced_bos_token_id = before_words[0]


@contextmanager
def _without_bars() -> Iterator[None]:
    """Without the bar of transformers, which would tear the command's own."""
    if not logging.is_progress_bar_enabled():
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()


def _refuse_endless(config: PretrainedConfig) -> None:
    for name in _LAYERS:
        layers = getattr(config, name, None)
        if isinstance(layers, int) and layers > _MOST_LAYERS:
            raise ValueError(f"{name} is {layers:,} in config.json")


def _refuse_unfit(model: PreTrainedModel, missing: Collection[str]) -> None:
    """Weights that are not there would be random ones, and transformers only warns."""
    absent = [name for name, weights in model.named_parameters() if name in missing and weights.requires_grad]
    if absent:
        raise ValueError(f"{len(absent)} weights are missing, such as {absent[0]}")
    words = model.get_input_embeddings().num_embeddings
    for name in ("pad_token_id", "eos_token_id"):
        token = getattr(model.config, name)
        if isinstance(token, int) and not 0 <= token < words:
            raise ValueError(f"{name} is {token:,}, but there are {words:,} tokens")


def _advice(path_or_id: str | Path) -> str:
    folder = Path(path_or_id)
    if is_file(folder / "recipe.yaml"):
        return f"it is a run: {of_a_run(folder)}"
    if is_file(folder / "model.bin") and any(folder.glob("*vocabulary*")):
        return "it is an export for CTranslate2, which cannot be trained; give the run or model that it was made from"
    looks_local = str(path_or_id).startswith((".", "/", "~")) or str(path_or_id).count("/") > 1
    if looks_local and not folder.exists():
        return "there is no such folder"
    if is_folder(folder) and any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors")):
        return (
            "its weights are a pickle, which can run code when it is read; where you trust it, convert it once: "
            "AutoModelForSeq2SeqLM.from_pretrained(FOLDER).save_pretrained(FOLDER) writes safetensors"
        )
    return "give a folder or hub id of an encoder-decoder with weights in safetensors"


def _hold_fixed(model: PreTrainedModel) -> None:
    """Keep as they are the weights that the architecture never learns, such as sinusoidal positions.

    Loaded ones count as trainable, and processes that train together would wait for their gradients.
    """
    with torch.device("meta"):
        fresh = type(model)(model.config)
    fixed = {name for name, parameter in fresh.named_parameters() if not parameter.requires_grad}
    for name, parameter in model.named_parameters():
        if name in fixed:
            parameter.requires_grad_(False)


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write weights, configuration, generation configuration and tokenizer as a plain Hugging Face folder.

    Args:
        model: of which all but the weights is written.
        tokenizer: its tokenizer.
        folder: where to.
        weights: by name; None: the model's.
    """
    with whole_folder(folder) as temporary:
        with _without_bars():
            model.save_pretrained(temporary, state_dict=weights)
        tokenizer.save_pretrained(temporary)
