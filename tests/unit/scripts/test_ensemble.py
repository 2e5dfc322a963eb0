"""Greedy decoding of an ensemble, step by step."""

from __future__ import annotations

import torch

from l2s_nmt.model import Policy
from scripts.ensemble import CONSTANT, FACTOR, translate
from tests.tiny import POSITIONS, next_scores, other_policies, random_sentences, shared_policy


def expected(policies: tuple[Policy, ...], source: list[int]) -> list[int]:
    written: list[int] = []
    limit = min(FACTOR * len(source) + CONSTANT, POSITIONS)
    while len(written) < limit:
        scores = [policy.mask_scores(next_scores(policy, source, written)) for policy in policies]
        best = int(torch.stack([each.softmax(-1) for each in scores]).mean(0).argmax())
        if best == policies[0].eos:
            return written
        written.append(best)
    return written


def test_each_token_is_the_most_probable_of_all_together() -> None:
    policies = (shared_policy(), *other_policies(2))
    sources = random_sentences(policies[0], 5, seed=4, shortest=2)
    together = translate(policies, sources)
    alone = translate(policies[:1], sources)
    assert together == [expected(policies, source) for source in sources]
    assert alone == [expected(policies[:1], source) for source in sources]
    assert together != alone
