from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2s_nmt.explanation.figures import cost_text, percent, push_text, token_text
from l2s_nmt.explanation.types import Token
from l2s_nmt.explanation.words import changes, describe, tokens_of
from l2s_nmt.search.algorithms import ALGORITHMS
from tests.explaining import spelling
from tests.searches import recipe_of

SENTENCES = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=8).map(" ".join)


@given(SENTENCES, SENTENCES)
def test_changes_lead_from_one_sentence_to_the_other(before: str, after: str) -> None:
    found = changes(before, after)
    assert "".join(change.text for change in found if change.kind != "added").strip() == before
    assert "".join(change.text for change in found if change.kind != "removed").strip() == after
    assert all(change.text.strip() for change in found)
    words = "".join(change.text for change in found).split()
    assert words == [word for change in found for word in change.text.split()]
    if before == after:
        assert {change.kind for change in found} <= {"same"}


class Pieces:
    all_special_ids = (0, 1)
    eos_token_id = 1

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [{1: "</s>", 2: "\u2581dog", 3: "gy", 4: "\u2581"}[token] for token in ids]


def test_a_token_that_has_no_piece_is_shown_by_its_number() -> None:
    class Fewer(Pieces):
        def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
            return [None if token == 7 else "gy" for token in ids]  # type: ignore[misc]

    assert [token.text for token in tokens_of(Fewer(), [3, 7])] == ["gy", "<7>"]


def test_pieces_become_words_that_go_on_or_begin() -> None:
    found = tokens_of(Pieces(), [4, 2, 3, 1])
    assert [(token.text, token.joins, token.ends) for token in found] == [
        ("\u2423", False, False),
        ("dog", False, False),
        ("gy", True, False),
        ("</s>", False, True),
    ]
    assert [token_text(token) for token in found] == ["\u2423", "dog", "+gy", "end of sentence"]
    assert tokens_of(spelling(), [3])[0] == Token(3, "w3", joins=False, ends=False)


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0.0, "0 %"), (0.004, "<1 %"), (0.42, "42 %"), (0.994, "99 %"), (0.999, ">99 %"), (1.0, "100 %")],
)
def test_probabilities_are_never_rounded_to_certainty(probability: float, text: str) -> None:
    assert percent(probability) == text


def test_figures_have_their_signs() -> None:
    assert (cost_text(0.314), cost_text(-0.001), cost_text(-0.5)) == ("0.31", "0.00", "\u22120.50")
    assert (push_text(0.0314), push_text(-0.5), push_text(0.0001)) == ("↑ 0.031", "↓ 0.500", "·")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_search_can_be_described(algorithm: str) -> None:
    facts = describe(recipe_of(algorithm), "run", is_stand_in=False)
    assert facts.algorithm == algorithm
    assert all([facts.run, facts.roll_in, facts.roll_out, facts.reference, facts.cost, facts.loss])
    assert ("greedy" in facts.note) == (facts.roll_in != "the model's words, greedy")
    stand_in = describe(recipe_of(algorithm), "run", is_stand_in=True)
    assert "the expected cost" in stand_in.note
