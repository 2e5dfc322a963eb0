"""What every token of the vocabulary costs, from few trials.

A cost that compares tokens for equality with those of the references cannot tell two tokens apart that no
reference has. So the cost vector over the whole vocabulary has one entry for each distinct token of the
references, EOS among them, and one that all others share (Goldberg and Nivre 2012 try each transition of a parser
in the same way).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from l2s_nmt.search.context import Context
from l2s_nmt.search.costs.ngrams import MAX_ELEMENTS, row_blocks
from l2s_nmt.search.types import CostVectors, Decisions

Losses = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The losses (M,) of prefixes (M, P) of lengths (M,) of the sentences (M,), when a reference has finished them."""


def vocabulary_costs(
    context: Context,
    tokens: Tensor,
    sentence: Tensor,
    position: Tensor,
    losses: Losses,
    *,
    max_elements: int = MAX_ELEMENTS,
) -> tuple[Decisions, CostVectors]:
    """Try each distinct token of the references, and one that none of them has.

    Args:
        context: of B sentences.
        tokens: (B, T) trajectories, padded with anything.
        sentence: (N,) row of each state.
        position: (N,) the state is the prefix ``tokens[sentence, :position]``; below T.
        losses: of a prefix with a token at its end, finished.
        max_elements: tokens of all prefixes that are finished at once; more are finished in blocks.

    Returns:
        N decisions, whose actions are those of `target_actions`, and their costs, the smallest subtracted: exact
        over the whole vocabulary where the losses see nothing but which tokens equal those of the references.
    """
    actions, mask = target_actions(context.batch.references, context.batch.reference_lengths)
    absent = _absent_tokens(context)[:, None]
    tried = torch.cat([actions, absent], 1)[sentence]
    state, slot = torch.cat([mask, torch.ones_like(absent, dtype=torch.bool)], 1)[sentence].nonzero(
        as_tuple=True
    )
    found = []
    for rows in row_blocks(len(state), tokens.shape[1], max_elements):
        owner, end = sentence[state[rows]], position[state[rows]]
        token = tried[state[rows], slot[rows]]
        branches = tokens[owner].scatter_(1, end[:, None], token[:, None])
        found.append(losses(branches, end + 1, owner))
    table = torch.full(tried.shape, torch.inf, device=tokens.device)
    table[state, slot] = torch.cat(found).float()
    decisions = Decisions(sentence, position, tried[:, :-1], mask[sentence])
    return decisions, less_the_smallest(decisions, table[:, :-1], table[:, -1])


def less_the_smallest(decisions: Decisions, losses: Tensor, other: Tensor) -> CostVectors:
    """Costs from the losses of N states' listed actions (N, K), masked ones any, and of all others (N,)."""
    smallest = torch.minimum(losses.masked_fill(~decisions.mask, torch.inf).amin(1), other)
    return CostVectors((losses - smallest[:, None]).masked_fill(~decisions.mask, 0), other - smallest)


def target_actions(references: Tensor, reference_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Find the distinct tokens of all references of each sentence, EOS included, in the order of their first places.

    Args:
        references: (B, M, R) each ending with EOS; padded with anything.
        reference_lengths: (B, M) their lengths, EOS included; 0 where there is none.

    Returns:
        (B, K) tokens, and (B, K) bool: which of them are distinct ones. A single reference comes as it is, K = R,
        each token true in its first place; those of several are moved together.
    """
    tokens = references.flatten(1)
    inside = reference_places(references, reference_lengths)
    same = (tokens[:, :, None] == tokens[:, None, :]) & inside[:, None, :]
    first = inside & ~same.tril(-1).any(2)
    if references.shape[1] == 1:
        return tokens, first
    count = int(first.sum(1).max()) if len(first) else 0
    order = (~first).to(torch.uint8).argsort(dim=1, stable=True)[:, :count]
    return tokens.gather(1, order), first.gather(1, order)


def reference_places(references: Tensor, reference_lengths: Tensor) -> Tensor:
    """(B, M * R) bool: where references (B, M, R) of lengths (B, M) have a token, EOS included."""
    places = torch.arange(references.shape[2], device=references.device)
    return (places < reference_lengths[:, :, None]).flatten(1)


def _absent_tokens(context: Context) -> Tensor:
    """(B,) the smallest id that is in no reference of a sentence, and neither EOS nor padding."""
    references = context.batch.references
    tokens = references.flatten(1)
    # So many ids that one of them is free.
    width = tokens.shape[1] + 3
    inside = reference_places(references, context.batch.reference_lengths) & (tokens < width)
    taken = torch.zeros(len(tokens), width + 1, dtype=torch.bool, device=tokens.device)
    taken.scatter_(1, tokens.masked_fill(~inside, width), True)
    for special in (context.policy.eos, context.policy.pad):
        taken[:, min(special, width)] = True
    return (~taken[:, :width]).int().argmax(1)
