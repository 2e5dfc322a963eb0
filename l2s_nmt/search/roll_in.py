"""Roll-in: which policy writes the prefixes on which the model will learn.

Learning on the model's own prefixes is what separates learning to search from teacher forcing (Ross, Gordon &
Bagnell 2011, DAgger). In between lies the mixture that draws at every token (Bengio et al. 2015, scheduled
sampling; Daumé, Langford & Marcu 2009, SEARN) or once a sentence (Leblond et al. 2018, SEARNN).

A model that has learned from a sentence makes other mistakes on it than on new text. Cross-trained models, each of
which has not seen one part of the sentences, write of that part what a model writes of new text (Cohen & Carvalho
2005, stacked sequential learning).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from l2s_nmt.decoder_state import Trunk
from l2s_nmt.model import Policy
from l2s_nmt.search.context import Context
from l2s_nmt.search.mixture import StateMixture
from l2s_nmt.search.parts import part_of
from l2s_nmt.search.reference.protocol import Reference
from l2s_nmt.search.sampling import Decoding
from l2s_nmt.search.schedules import HALF, Schedule
from l2s_nmt.search.types import Trajectories

RollInPolicy = Literal["reference", "learned", "mixed"]


@dataclass(frozen=True)
class RollIn:
    """Write a trajectory for every sentence of a batch.

    Args:
        policy: ``reference``, ``learned`` (the model), or ``mixed``: either, by chance.
        decoding: how the model chooses its tokens.
        reference: the reference policy; None stands for the target itself.
        p_reference: probability of the reference in a mixture, by update.
        mix_unit: draw the policy for each ``state`` or once for the ``sentence``.
        keeps_trunk: keep what the decoding saw, for roll-outs that start from it.
        cross_trained: policies that write in place of the learner, number i of the sentences of part i; empty: the
            learner writes.
    """

    policy: RollInPolicy
    decoding: Decoding
    reference: Reference | None = None
    p_reference: Schedule = HALF
    mix_unit: Literal["state", "sentence"] = "state"
    keeps_trunk: bool = False
    cross_trained: tuple[Policy, ...] = ()

    def __call__(self, context: Context) -> Trajectories:
        """Roll in; the draws of a sentence depend on nothing but the sentence."""
        if self.policy == "reference" or self._always_reference(context.draws.update):
            return self._reference(context)
        if self.cross_trained:
            return self._by_part(context)
        if self.policy == "learned":
            return self._learned(context)
        if self.mix_unit == "sentence":
            return self._by_sentence(context)
        return self._by_state(context)

    def _always_reference(self, update: int) -> bool:
        """A mixture that always draws the reference is the reference, which writes a sentence as a whole."""
        return self.policy == "mixed" and self.p_reference(update) == 1

    def _reference(self, context: Context) -> Trajectories:
        tokens, lengths = context.batch.target, context.batch.target_lengths
        if self.reference is not None:
            every = torch.arange(len(lengths), device=lengths.device)
            nothing = tokens.new_empty((len(lengths), 0))
            whole = self.reference.complete(context, nothing, torch.zeros_like(lengths), every)
            tokens, lengths = whole.tokens, whole.lengths
        tokens = tokens[:, : int(lengths.max())]
        finished = torch.ones_like(lengths, dtype=torch.bool)
        return Trajectories(tokens, lengths, finished, torch.ones_like(tokens, dtype=torch.bool))

    def _learned(self, context: Context) -> Trajectories:
        policy = context.policy
        trunk = None
        if self.decoding.name == "beam":
            tokens, lengths = self._beam(context)
        else:
            trunk = self._trunk(context)
            tokens, lengths = policy.roll(
                context.memory, context.limits, self.decoding.chooser(context), trunk, context.source
            )
        by_reference = torch.zeros_like(tokens, dtype=torch.bool)
        return _trajectories(tokens, lengths, policy.eos, by_reference, trunk)

    def _beam(self, context: Context) -> tuple[Tensor, Tensor]:
        """Of a sentence that stands in several rows, one after the other, as many of the best hypotheses."""
        beam, best = self.decoding.beam, self.decoding.best
        if best > 1:
            context = context.select(torch.arange(0, len(context.limits), best, device=context.limits.device))
        return context.policy.beam_search(context.memory, context.limits, beam, best)

    def _trunk(self, context: Context) -> Trunk | None:
        return Trunk(int(context.limits.max())) if self.keeps_trunk else None

    def _by_sentence(self, context: Context) -> Trajectories:
        chosen = context.uniform("mix_in", 1)[:, 0] < self.p_reference(context.draws.update)
        return _by_group(context, chosen.long(), (self._learned, self._reference))

    def _by_part(self, context: Context) -> Trajectories:
        part = part_of(context.batch.rows, len(self.cross_trained))
        return _by_group(context, part, [partial(self._other, policy) for policy in self.cross_trained])

    def _other(self, policy: Policy, context: Context) -> Trajectories:
        return replace(self, cross_trained=(), keeps_trunk=False)(context.seen_by(policy))

    def _by_state(self, context: Context) -> Trajectories:
        if self.reference is None:
            raise ValueError("a mixture by state needs a reference")
        width = int(context.limits.max())
        every = torch.arange(len(context.limits), device=context.limits.device)
        by_reference = context.uniform("mix_in", width) < self.p_reference(context.draws.update)
        written = context.limits.new_full((len(every), width), context.policy.pad)
        learned = self.decoding.chooser(context)
        mixture = StateMixture(context, self.reference, learned, by_reference, written, every)
        trunk = self._trunk(context)
        tokens, lengths = context.policy.roll(context.memory, context.limits, mixture, trunk)
        return _trajectories(tokens, lengths, context.policy.eos, by_reference[:, : tokens.shape[1]], trunk)


def _trajectories(
    tokens: Tensor, lengths: Tensor, eos: int, by_reference: Tensor, trunk: Trunk | None
) -> Trajectories:
    last = tokens.gather(1, (lengths - 1)[:, None]).squeeze(1)
    return Trajectories(tokens, lengths, last == eos, by_reference, trunk)


def _by_group(
    context: Context, group: Tensor, write: Sequence[Callable[[Context], Trajectories]]
) -> Trajectories:
    """Each row of the batch as its group (B,), an index into ``write``, writes it."""
    groups = [(group == number).nonzero()[:, 0] for number in range(len(write))]
    parts = [one(context.select(rows)) for rows, one in zip(groups, write, strict=True) if len(rows)]
    width = max(part.tokens.shape[1] for part in parts)
    order = torch.cat(groups).argsort()
    return Trajectories(
        torch.cat([_widen(part.tokens, width, context.policy.pad) for part in parts])[order],
        torch.cat([part.lengths for part in parts])[order],
        torch.cat([part.finished for part in parts])[order],
        torch.cat([_widen(part.by_reference, width, False) for part in parts])[order],
    )


def _widen(values: Tensor, width: int, filler: int | bool) -> Tensor:
    return torch.nn.functional.pad(values, (0, width - values.shape[1]), value=filler)
