"""Who finishes the sentences: the reference, the learned policy, or a mixture of the two.

``reference`` is AggreVaTe's roll-out (Ross & Bagnell 2014), ``learned`` that of reinforcement, ``mixed`` that of
SEARN (drawn at each state; Daumé, Langford & Marcu 2009), of LOLS (drawn for each roll-out; Chang et al. 2015) and of
SEARNN (drawn for each sentence; Leblond et al. 2018). Competing candidates must be finished by the same policy, or
their costs cannot be compared: all draws but those of the unit ``roll_out`` are common to them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from l2s_nmt.decoder_state import DecoderState
from l2s_nmt.search.context import SCORING, Context
from l2s_nmt.search.costs.cost import Cost
from l2s_nmt.search.mixture import StateMixture
from l2s_nmt.search.randomness import PLACES, TOKENS
from l2s_nmt.search.reference.protocol import Reference
from l2s_nmt.search.roll_out.branches import Branches
from l2s_nmt.search.sampling import greedy
from l2s_nmt.search.schedules import HALF, Schedule

MixUnit = Literal["state", "roll_out", "decision", "sentence"]


@dataclass(frozen=True)
class RollOutPolicy:
    """Finishes branches and says what the sentences cost.

    Args:
        policy: who finishes.
        cost: of a finished sentence.
        reference: the reference policy; None only with ``learned`` and no horizon.
        p_reference: probability of the reference in a mixture, by update.
        mix_unit: what the policy is drawn for.
        horizon: tokens after the candidate that the policy writes before the reference finishes the rest, with 0 at
            once; None: no limit.
        own_is_greedy: the trajectories are the policy's own greedy decodings, so that the learned roll-out of
            a trajectory's own token is the trajectory.
    """

    policy: Literal["reference", "learned", "mixed"]
    cost: Cost
    reference: Reference | None
    p_reference: Schedule = HALF
    mix_unit: MixUnit = "sentence"
    horizon: int | None = None
    own_is_greedy: bool = False

    def __call__(self, context: Context, trunk: DecoderState, branches: Branches) -> Tensor:
        """(M,) the losses of the finished sentences."""
        # A mixture that always draws the same policy is that policy, which finishes a sentence as a whole.
        is_mixed = self.policy == "mixed" and 0 < self.p_reference(context.draws.update) < 1
        if is_mixed and self.mix_unit == "state" and len(branches.sentence):
            return self._mixed_by_state(context, trunk, branches)
        by_reference = self._by_reference(context, branches)
        losses = torch.empty(len(branches.sentence), device=branches.sentence.device)
        for chosen, finish in ((by_reference, self._reference_losses), (~by_reference, self._learned_losses)):
            rows = chosen.nonzero().squeeze(1)
            if len(rows):
                losses[rows] = finish(context, trunk, branches.select(rows))
        return losses

    def _by_reference(self, context: Context, branches: Branches) -> Tensor:
        """(M,) bool: the reference finishes the branch."""
        if self.policy != "mixed":
            return torch.full_like(branches.sentence, self.policy == "reference", dtype=torch.bool)
        rows = context.batch.rows[branches.sentence]
        if self.mix_unit != "sentence":
            rows = rows * PLACES + branches.position
        if self.mix_unit == "roll_out":
            rows = rows * TOKENS + branches.action
        draws = context.draws.uniform("roll_out", rows, 1).squeeze(1)
        return draws < self.p_reference(context.draws.update)

    def _reference_losses(self, context: Context, trunk: DecoderState, branches: Branches) -> Tensor:
        prefixes, lengths = branches.prefixes(context.policy.pad)
        return self._completed(context, prefixes, lengths, branches.sentence)

    def _completed(self, context: Context, prefixes: Tensor, lengths: Tensor, sentence: Tensor) -> Tensor:
        assert self.reference is not None
        return self.reference.complete(context, prefixes, lengths, sentence).losses

    def _learned_losses(self, context: Context, trunk: DecoderState, branches: Branches) -> Tensor:
        """Decode on; a branch that is the trajectory's own greedy token needs no decoding."""
        limits = self._limits(context, branches)
        own = torch.zeros_like(branches.sentence, dtype=torch.bool)
        if self.horizon is None and self.own_is_greedy:
            own = branches.is_own()
        fresh = (~own).nonzero().squeeze(1)
        deviating = branches.select(fresh)
        written, lengths = context.policy.continue_branches(
            trunk, deviating.sentence, deviating.position, deviating.action, limits[fresh]
        )
        width = max(branches.tokens.shape[1], int(limits.max()) + 1)
        sentences = branches.tokens.new_full((len(own), width), context.policy.pad)
        sentences[:, : branches.tokens.shape[1]] = branches.tokens[branches.sentence]
        sentences[fresh] = deviating.followed_by(written, lengths, width, context.policy.pad)
        return self._losses(context, sentences, branches)

    def _mixed_by_state(self, context: Context, trunk: DecoderState, branches: Branches) -> Tensor:
        limits = self._limits(context, branches)
        mixture = self._mixture(context, branches, int(limits.max()))
        written, lengths = context.policy.continue_branches(
            trunk, branches.sentence, branches.position, branches.action, limits, mixture
        )
        width = max(branches.tokens.shape[1], int(limits.max()) + 1)
        sentences = branches.followed_by(written, lengths, width, context.policy.pad)
        return self._losses(context, sentences, branches)

    def _mixture(self, context: Context, branches: Branches, longest: int) -> StateMixture:
        """With draws common to all branches of a sentence."""
        assert self.reference is not None
        width = max(longest, int(branches.position.max()) + 1)
        by_reference = context.uniform("roll_out", width) < self.p_reference(context.draws.update)
        ones = torch.ones_like(branches.action)
        written = branches.followed_by(branches.action[:, None], ones, width, context.policy.pad)
        return StateMixture(context, self.reference, greedy, by_reference, written, branches.sentence)

    def _limits(self, context: Context, branches: Branches) -> Tensor:
        """(M,) most tokens of each branch before the reference takes over or the sentence is cut."""
        limits = context.limits[branches.sentence]
        return limits if self.horizon is None else limits.minimum(branches.position + 1 + self.horizon)

    def _losses(self, context: Context, sentences: Tensor, branches: Branches) -> Tensor:
        """Losses of (M, width) sentences, padded behind their ends; the reference finishes what the horizon cut."""
        ends = (sentences == context.policy.eos) | (sentences == context.policy.pad)
        words = torch.where(ends.any(1), ends.int().argmax(1), sentences.shape[1])
        started = time.monotonic()
        losses = self.cost(sentences, words, branches.sentence, context.batch)
        context.notes[SCORING] += time.monotonic() - started
        if self.horizon is not None:
            last = sentences.gather(1, words.clamp(max=sentences.shape[1] - 1)[:, None])[:, 0]
            # Not those that were cut by their length before.
            spent = words == branches.position + 1 + self.horizon
            rows = (spent & (last != context.policy.eos)).nonzero().squeeze(1)
            if len(rows):
                losses[rows] = self._completed(context, sentences[rows], words[rows], branches.sentence[rows])
        return losses
