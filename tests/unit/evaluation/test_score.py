from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF, TER

from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.score import Scores, read_scores, reference_streams, score, write_scores

HYPOTHESES = ["the cat sat on the mat .", "a small dog runs", "he saw the old house", ""]
FIRST = ["the cat sat on a mat .", "a little dog is running", "he saw the old house", "nothing"]
SECOND = ["a cat was sitting on the mat .", "a small dog runs fast", "she saw a new house", "not a thing"]


def test_one_reference_gives_what_sacrebleu_gives() -> None:
    scores = score(HYPOTHESES, [[reference] for reference in FIRST])
    bleu = BLEU().corpus_score(HYPOTHESES, [FIRST])
    assert scores.sentences == 4
    assert scores.bleu.score == bleu.score
    assert scores.bleu.brevity_penalty == bleu.bp
    assert scores.bleu.length_ratio == bleu.sys_len / bleu.ref_len
    assert list(scores.bleu.precisions) == bleu.precisions
    assert scores.chrf.score == CHRF().corpus_score(HYPOTHESES, [FIRST]).score
    assert scores.ter.score == TER().corpus_score(HYPOTHESES, [FIRST]).score
    assert scores.bleu.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert "nc:6" in scores.chrf.signature
    assert "tok:tercom" in scores.ter.signature


def test_several_references_give_what_sacrebleu_gives_for_its_streams() -> None:
    scores = score(HYPOTHESES, list(zip(FIRST, SECOND, strict=True)))
    for metric, found in ((BLEU(), scores.bleu), (CHRF(), scores.chrf), (TER(), scores.ter)):
        assert found.score == metric.corpus_score(HYPOTHESES, [FIRST, SECOND]).score
        assert found.signature.startswith("nrefs:2|")


def test_ragged_references_count_only_those_that_are_there() -> None:
    ragged = [[FIRST[0], SECOND[0]], [FIRST[1]], [FIRST[2], SECOND[2]], [FIRST[3]]]
    scores = score(HYPOTHESES, ragged)
    assert scores.bleu.signature.startswith("nrefs:var|")
    # An absent reference must be the same as one that repeats another: neither adds an n-gram or a length.
    repeated = [[FIRST[0], SECOND[0]], [FIRST[1], FIRST[1]], [FIRST[2], SECOND[2]], [FIRST[3], FIRST[3]]]
    again = score(HYPOTHESES, repeated)
    assert scores.bleu.score == again.bleu.score
    assert scores.bleu.length_ratio == again.bleu.length_ratio
    assert scores.chrf.score == again.chrf.score
    assert scores.ter.score == again.ter.score


def test_an_absent_reference_is_not_an_empty_one() -> None:
    hypotheses, ragged = ["one", "a b c d e f"], [["one two three"], ["a b c d e f", "a b c d e"]]
    scores = score(hypotheses, ragged)
    assert scores.bleu.length_ratio == pytest.approx(7 / 9)  # closest references: 3 and 6 words
    assert scores.bleu.brevity_penalty == pytest.approx(math.exp(1 - 9 / 7))
    empty = score(hypotheses, [["one two three", ""], ragged[1]])
    assert empty.bleu.length_ratio == pytest.approx(7 / 6)  # "" is the closest reference of "one"


@given(st.lists(st.lists(st.text(), min_size=1, max_size=4), min_size=1, max_size=6))
def test_streams_keep_every_reference_in_its_place(references: list[list[str]]) -> None:
    streams = reference_streams(references)
    assert all(len(stream) == len(references) for stream in streams)
    back = [
        [text for text in alternatives if text is not None] for alternatives in zip(*streams, strict=True)
    ]
    assert back == references


@pytest.mark.parametrize(
    ("hypotheses", "references", "words"),
    [
        (["a"], [["a"], ["b"]], "1 translations, but references for 2 sentences"),
        ([], [], "no sentences to score"),
        (["a", "b"], [["a"], []], "sentence 2 has no reference"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    hypotheses: list[str], references: list[list[str]], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        score(hypotheses, references)


def test_the_file_has_the_documented_shape_and_reads_back(tmp_path: Path) -> None:
    scores = score(HYPOTHESES, [[reference] for reference in FIRST])
    path = tmp_path / "scores" / "test.json"
    write_scores(path, scores, split="test", decoding={"beam_size": 5})
    values = json.loads(path.read_text(encoding="utf-8"))
    assert list(values) == ["split", "sentences", "bleu", "chrf", "ter", "decoding"]
    assert values["split"] == "test"
    assert values["sentences"] == 4
    assert set(values["bleu"]) == {"score", "signature", "brevity_penalty", "length_ratio", "precisions"}
    assert len(values["bleu"]["precisions"]) == 4
    assert set(values["chrf"]) == set(values["ter"]) == {"score", "signature"}
    assert values["decoding"] == {"beam_size": 5}
    assert read_scores(path) == scores
    assert Scores.from_json(scores.to_json()) == scores
    assert [entry.name for entry in path.parent.iterdir()] == ["test.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sentences": 1}', '{"sentences": "x", "bleu": 3}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "test.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"test\.json"):
        read_scores(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"test\.json"):
        read_scores(tmp_path / "test.json")
