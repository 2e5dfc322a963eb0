from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from l2s_nmt.architecture import load_model, new_model, save_model
from l2s_nmt.data.tokenizer import decode, encode_sources, train_tokenizer
from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.draw import Sampling
from l2s_nmt.evaluation.translate import Decoding, Translator
from l2s_nmt.model import Policy
from l2s_nmt.processes import Processes
from l2s_nmt.search.sampling import greedy
from tests.helpers import sentence_pairs
from tests.threads import in_threads

POSITIONS = 24
SENTENCES = [source for source, _ in sentence_pairs(12, seed=3)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    sources, targets = zip(*sentence_pairs(200, seed=1), strict=True)
    return train_tokenizer(
        sources,
        targets,
        algorithm="bpe",
        vocab_size=60,
        joint=True,
        byte_fallback=False,
        character_coverage=1.0,
        directory=tmp_path_factory.mktemp("tokenizer"),
        seed=1,
    )


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Random weights that look much at the source; exact enough to ignore padding."""
    model = new_model(
        tokenizer,
        d_model=16,
        feed_forward=32,
        heads=2,
        encoder_layers=1,
        decoder_layers=1,
        positions=POSITIONS,
        dropout=0.3,
        seed=6,
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "encoder_attn" in name:
                parameter.mul_(100.0)
    return model.double()


def translator(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    decoding: Decoding,
    batch_tokens: int = 10_000,
) -> Translator:
    decoding.configure(model)
    return Translator(model, tokenizer, batch_tokens)


def generated(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> torch.Tensor:
    """The tokens of one translation, the start token left out."""
    tokens: torch.Tensor = model.generate(torch.tensor(encode_sources(tokenizer, [text])))
    return tokens[0, 1:]


@given(
    sentences=st.lists(st.sampled_from([*SENTENCES, "", "  "]), max_size=10),
    batch_tokens=st.integers(1, 120),
    beam=st.sampled_from([1, 3]),
)
@settings(deadline=None, max_examples=15)
def test_translations_keep_their_order_whatever_the_batches(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: list[str],
    batch_tokens: int,
    beam: int,
) -> None:
    counts: list[int] = []
    translate = translator(model, tokenizer, Decoding(beam=beam, max_length=9), batch_tokens)
    found = translate(sentences, done=counts.append)
    assert found == [translate([text])[0] for text in sentences]
    assert sum(counts) == len(sentences)


def test_the_model_says_different_things(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Else the tests here would prove little."""
    found = translator(model, tokenizer, Decoding(beam=2, max_length=9))(SENTENCES)
    assert len(set(found)) > len(set(SENTENCES)) / 2
    assert all(found)


@pytest.mark.parametrize("blank", ["", " ", "\t "])
def test_a_blank_line_has_an_empty_translation(
    blank: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    translate = translator(model, tokenizer, Decoding(max_length=9))
    first, second = translate(SENTENCES[:2])
    assert translate([blank, SENTENCES[0], blank, SENTENCES[1]]) == ["", first, "", second]
    assert translate([blank]) == [""]
    assert translate([]) == []


@pytest.mark.parametrize("max_length", [4, 15, 300])
def test_one_beam_is_the_greedy_roll(
    max_length: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    found = translator(model, tokenizer, Decoding(beam=1, max_length=max_length))(SENTENCES)
    policy = Policy(model.eval())
    rows = [torch.tensor(ids) for ids in encode_sources(tokenizer, SENTENCES)]
    source = pad_sequence(rows, batch_first=True, padding_value=policy.pad)
    limits = torch.full((len(rows),), min(max_length, POSITIONS))
    tokens, _ = policy.roll(policy.encode(source, source != policy.pad), limits, greedy)
    assert found == decode(tokenizer, tokens.tolist())


@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("max_length", [1, 6, POSITIONS, 500])
def test_no_translation_is_longer_than_allowed(
    beam: int, max_length: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    Decoding(beam=beam, max_length=max_length).configure(model)
    lengths = [len(generated(model, tokenizer, text)) for text in SENTENCES]
    assert max(lengths) <= min(max_length, POSITIONS)
    if max_length < 7:  # the limit is what ends them, and not a token before it
        assert max(lengths) == max_length


@torch.no_grad()
def test_with_enough_beams_the_most_probable_translation_is_found(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Of all with at most two tokens, by brute force; a length penalty of 0 compares sums of log-probabilities."""
    policy = Policy(model.eval())
    size = int(model.config.vocab_size)
    Decoding(beam=size, length_penalty=0.0, max_length=2).configure(model)
    words = torch.arange(size)
    for text in SENTENCES:
        source = torch.tensor(encode_sources(tokenizer, [text]))
        memory = policy.encode(source, torch.ones_like(source)).select(torch.zeros(size, dtype=torch.long))
        log_probs = policy.score(memory, torch.stack([words, words], dim=1)).log_softmax(-1)
        log_probs[:, :, policy.pad] = -torch.inf
        first, second = log_probs[0, 0], log_probs[:, 1]
        sums = first[:, None] + second
        sums[policy.eos] = -torch.inf
        best = divmod(int(sums.argmax()), size) if sums.max() > first[policy.eos] else (policy.eos,)
        assert tuple(generated(model, tokenizer, text).tolist()) == best


def test_a_sentence_longer_than_the_positions_is_refused_with_its_place(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    translate = translator(model, tokenizer, Decoding(beam=1, max_length=5))
    long = " ".join(["balu"] * POSITIONS)
    while len(encode_sources(tokenizer, [long])[0]) > POSITIONS:
        long = long.removesuffix("balu").strip()
    assert len(encode_sources(tokenizer, [long])[0]) == POSITIONS
    assert translate([long]) != [""]
    message = rf"^some\.txt, line 3: {POSITIONS + 1} tokens, but the model has {POSITIONS} positions; split"
    with pytest.raises(UserError, match=message):
        translate(["balu", "", long + " balu"], origin="some.txt")


def test_training_mode_does_not_reach_translations(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    translate = translator(model, tokenizer, Decoding(beam=1, max_length=9))
    expected = translate(SENTENCES)
    model.train()  # with dropout
    assert translate(SENTENCES) == expected


def test_the_decoding_is_saved_with_the_weights(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    Decoding(beam=3, length_penalty=0.4, max_length=10).configure(model)
    save_model(model, tokenizer, tmp_path / "best")
    own = load_model(tmp_path / "best").generation_config
    assert (own.num_beams, own.length_penalty, own.max_length) == (3, 0.4, 11)
    assert own.do_sample is False
    assert own.decoder_start_token_id == own.pad_token_id == tokenizer.pad_token_id
    assert own.eos_token_id == tokenizer.eos_token_id


def test_pad_is_never_written(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    Decoding(beam=1, max_length=9).configure(model)
    bias = model.final_logits_bias
    try:
        model.final_logits_bias = bias.clone().index_fill_(1, torch.tensor([tokenizer.pad_token_id]), 1e6)
        tokens = generated(model, tokenizer, SENTENCES[0])
    finally:
        model.final_logits_bias = bias
    assert tokenizer.pad_token_id not in tokens.tolist()


@pytest.mark.parametrize("count", [2, 3, 20])
def test_processes_translate_each_sentence_once(
    count: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences = [*SENTENCES, "", *SENTENCES[:4]]
    alone = translator(model, tokenizer, Decoding(beam=2, max_length=9), batch_tokens=40)
    expected = alone(sentences)
    translated: list[int] = []
    generate = model.generate

    def counted(**batch: torch.Tensor) -> torch.Tensor:
        translated.append(len(batch["input_ids"]))
        found: torch.Tensor = generate(**batch)
        return found

    monkeypatch.setattr(model, "generate", counted)
    shown: list[list[int]] = [[] for _ in range(count)]

    def share(processes: Processes) -> list[str]:
        return replace(alone, processes=processes)(sentences, done=shown[processes.index].append)

    assert in_threads(count, share) == [expected] * count
    assert len(translated) > 3
    assert sum(translated) == len(sentences) - 1
    assert [sum(counts) for counts in shown] == [len(sentences)] * count


# ---- several translations of each ----------------------------------------------------------------


@torch.no_grad()
def log_probability(model: PreTrainedModel, source: torch.Tensor, tokens: list[int]) -> float:
    """Of a translation, token by token, each after a pass of its own."""
    total, written = 0.0, [int(model.config.decoder_start_token_id)]
    for token in tokens:
        scores = model(input_ids=source, decoder_input_ids=torch.tensor([written])).logits[0, -1]
        total += float(scores.log_softmax(-1)[token])
        written.append(token)
    return total


@pytest.mark.parametrize("penalty", [0.0, 1.0, 0.6])
@pytest.mark.parametrize(("beam", "number"), [(1, 1), (3, 1), (4, 3)])
def test_the_best_are_those_of_generate_with_their_probabilities(
    beam: int, number: int, penalty: float, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    translate = translator(model, tokenizer, Decoding(beam, penalty, 7), batch_tokens=30)
    found = translate.best(SENTENCES, number)
    assert [group[0].text for group in found] == translate(SENTENCES)
    for text, group in zip(SENTENCES, found, strict=True):
        assert len(group) == number
        assert [one.score for one in group] == sorted((one.score for one in group), reverse=True)
        source = torch.tensor(encode_sources(tokenizer, [text]))
        output = model.generate(
            source, num_return_sequences=number, output_scores=True, return_dict_in_generate=True
        )
        assert [one.text for one in group] == decode(tokenizer, output.sequences.tolist())
        if beam > 1:
            assert [one.score for one in group] == pytest.approx(output.sequences_scores.tolist(), rel=1e-6)
        for one, ids in zip(group, output.sequences[:, 1:].tolist(), strict=True):
            tokens = [token for token in ids if token != tokenizer.pad_token_id]
            assert one.log_probability == pytest.approx(log_probability(model, source, tokens), abs=1e-6)


def test_an_empty_line_has_no_hypotheses(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    found = translator(model, tokenizer, Decoding(2, 1.0, 7)).best(["", SENTENCES[0], " "], 2)
    assert [len(group) for group in found] == [0, 2, 0]


@given(
    batch_tokens=st.integers(1, 200),
    first=st.integers(0, len(SENTENCES) - 1),
    number=st.integers(1, 3),
    seed=st.integers(0, 2**40),
)
@settings(deadline=None, max_examples=15)
def test_samples_belong_to_their_line_and_seed(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch_tokens: int,
    first: int,
    number: int,
    seed: int,
) -> None:
    whole = replace(
        translator(model, tokenizer, Decoding(1, 1.0, 9)), sampling=Sampling(temperature=1.5, seed=seed)
    )
    parts = replace(whole, batch_tokens=batch_tokens)
    expected = whole.best(SENTENCES, 3)
    found = parts.best(SENTENCES[first:], number, before=first)
    for group, others in zip(found, expected[first:], strict=True):
        assert [one.text for one in group] == [one.text for one in others[:number]]
        assert [one.log_probability for one in group] == pytest.approx(
            [one.log_probability for one in others[:number]], abs=1e-6
        )
    assert parts(SENTENCES[first:], before=first) == [group[0].text for group in found]


def test_samples_differ_between_lines_copies_and_seeds(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    plain = translator(model, tokenizer, Decoding(1, 1.0, 9))
    hot = Sampling(temperature=2.0)
    (group, others), again = (
        replace(plain, sampling=sampling).best([SENTENCES[0]] * 2, 4)
        for sampling in (hot, replace(hot, seed=2))
    )
    texts = [one.text for one in (*group, *others, *again[0])]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("sampling", [Sampling(top_k=1), Sampling(top_p=1e-6), Sampling(temperature=1e-4)])
def test_samples_of_the_most_probable_tokens_are_the_greedy_translation(
    sampling: Sampling, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    plain = translator(model, tokenizer, Decoding(1, 1.0, 9))
    assert replace(plain, sampling=sampling)(SENTENCES) == plain(SENTENCES)


def test_first_tokens_are_drawn_as_often_as_they_are_probable(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    count = 4000
    plain = translator(model, tokenizer, Decoding(1, 1.0, 1), batch_tokens=100_000)
    drawn = replace(plain, sampling=Sampling(temperature=0.8)).best([SENTENCES[0]] * count, 1)
    # Each token has a probability of its own, whereas several may be the same text.
    counts = Counter(round(one.log_probability, 9) for (one,) in drawn)
    total = sum(math.exp(value / 0.8) for value in counts)  # the few never drawn have hardly any
    assert len(counts) > 20
    for value, often in counts.items():
        share = math.exp(value / 0.8) / total
        assert often / count == pytest.approx(share, abs=5 * math.sqrt(share / count) + 0.002)
