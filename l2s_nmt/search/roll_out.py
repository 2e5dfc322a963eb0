"""Roll-out: the policy that finishes the sentence after each candidate, and so says what the candidate costs.

``reference`` finishes with the best the target allows (AggreVaTe; Ross & Bagnell 2014), ``learned`` with the model
(reinforcement), ``mixed`` with either (LOLS; Chang et al. 2015): a mixture is what is consistent and locally optimal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.model import DecoderState, Memory, Policy
from l2s_nmt.search.costs import Cost
from l2s_nmt.search.decisions import all_states, top_k_candidates, uniform_states
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.edit_distance import edit_distance_costs
from l2s_nmt.search.reference.suffix import best_suffix_costs, full_vocabulary_costs
from l2s_nmt.search.roll_in import LengthLimit
from l2s_nmt.search.types import CostVectors, Decisions, Trajectories


@dataclass(frozen=True)
class EditDistanceOracle:
    """Exact costs at every position for the whole vocabulary, with no decoding: see ``reference.edit_distance``."""

    def __call__(
        self, policy: Policy, memory: Memory, batch: Batch, trajectories: Trajectories, draws: Draws
    ) -> tuple[Decisions, CostVectors, int]:
        """One dynamic programme for each sentence; nothing is rolled out."""
        decisions, costs = edit_distance_costs(
            trajectories.tokens, trajectories.lengths, batch.target, batch.target_lengths
        )
        return decisions, costs, 0


@dataclass(frozen=True)
class Deviations:
    """One-step deviations from the trajectory: take a candidate, let the roll-out policy finish, look at the loss.

    Args:
        states: ``all`` positions of a trajectory, or ``uniform``: a few drawn ones.
        per_sentence: how many are drawn.
        candidates: ``top_k`` of the policy with the reference's token and EOS, or the ``full`` vocabulary.
        k: of top_k.
        policy: who finishes the sentence.
        p_reference: probability of the reference in a mixture; drawn once a sentence, so that competing candidates
            are finished by the same policy and their costs can be compared.
        greedy_roll_in: the trajectories are the policy's own greedy decodings, so that the learned roll-out of
            a trajectory's own token is the trajectory.
        cost: of a finished sentence.
        limit: where a learned roll-out is cut.
    """

    states: Literal["all", "uniform"]
    per_sentence: int
    candidates: Literal["full", "top_k"]
    k: int
    policy: Literal["reference", "learned", "mixed"]
    p_reference: float
    greedy_roll_in: bool
    cost: Cost
    limit: LengthLimit

    def __call__(
        self, policy: Policy, memory: Memory, batch: Batch, trajectories: Trajectories, draws: Draws
    ) -> tuple[Decisions, CostVectors, int]:
        """Decide where to deviate, finish every branch, and subtract the smallest loss of each state."""
        if self.states == "all":
            sentence, position = all_states(trajectories)
        else:
            sentence, position = uniform_states(trajectories, batch.rows, self.per_sentence, draws)
        if self.candidates == "full":
            return self._over_vocabulary(batch, trajectories, sentence, position)
        states = sentence * trajectories.tokens.shape[1] + position
        scores, trunk = policy.prefill(memory, trajectories.tokens, states)
        decisions = top_k_candidates(scores, sentence, position, self.k, batch, policy.eos)
        losses, branches = self._finish(policy, trunk, batch, trajectories, decisions, draws)
        smallest = losses.masked_fill(~decisions.mask, torch.inf).amin(-1, keepdim=True)
        costs = (losses - smallest).masked_fill(~decisions.mask, 0.0)
        return decisions, CostVectors(costs), branches

    def _over_vocabulary(
        self, batch: Batch, trajectories: Trajectories, sentence: Tensor, position: Tensor
    ) -> tuple[Decisions, CostVectors, int]:
        decisions, costs = full_vocabulary_costs(
            trajectories.tokens, sentence, position, batch.target, batch.target_lengths, self.cost
        )
        return decisions, costs, int(decisions.mask.sum())

    def _finish(
        self,
        policy: Policy,
        trunk: DecoderState,
        batch: Batch,
        trajectories: Trajectories,
        decisions: Decisions,
        draws: Draws,
    ) -> tuple[Tensor, int]:
        """Losses (N, K) of the branches' finished sentences, and how many branches there were."""
        state, slot = decisions.mask.nonzero(as_tuple=True)
        branches = Branches(
            trajectories.tokens,
            decisions.sentence[state],
            decisions.position[state],
            decisions.actions[state, slot],
        )
        by_reference = self._by_reference(batch, draws)[branches.sentence]
        losses = torch.empty(len(state), device=state.device)
        for chosen, finish in ((by_reference, self._by_suffix), (~by_reference, self._by_policy)):
            rows = chosen.nonzero().squeeze(1)
            if len(rows):
                losses[rows] = finish(policy, trunk, batch, branches.select(rows))
        table = torch.zeros(decisions.actions.shape, device=state.device)
        table[state, slot] = losses
        return table, len(state)

    def _by_reference(self, batch: Batch, draws: Draws) -> Tensor:
        if self.policy == "mixed":
            return draws.uniform("roll_out", batch.rows, 1).squeeze(1) < self.p_reference
        return torch.full_like(batch.rows, self.policy == "reference", dtype=torch.bool)

    def _by_suffix(self, policy: Policy, trunk: DecoderState, batch: Batch, branches: Branches) -> Tensor:
        """Losses (M,) when the reference appends the best suffix of the target; after EOS nothing is appended."""
        prefixes, lengths = branches.prefixes(policy.pad)
        target, target_lengths = batch.target[branches.sentence], batch.target_lengths[branches.sentence]
        losses, _ = best_suffix_costs(prefixes, lengths, target, target_lengths, self.cost)
        return losses

    def _by_policy(self, policy: Policy, trunk: DecoderState, batch: Batch, branches: Branches) -> Tensor:
        """Losses (M,) when the model decodes on greedily."""
        hypotheses, words = self._decode(policy, trunk, batch, branches)
        target, target_lengths = batch.target[branches.sentence], batch.target_lengths[branches.sentence]
        return self.cost(hypotheses, words, target, target_lengths - 1)

    def _decode(
        self, policy: Policy, trunk: DecoderState, batch: Batch, branches: Branches
    ) -> tuple[Tensor, Tensor]:
        limits = self.limit(batch.source_mask)
        own = branches.tokens[branches.sentence, branches.position] == branches.action
        fresh = (
            (~own).nonzero().squeeze(1) if self.greedy_roll_in else torch.arange(len(own), device=own.device)
        )
        deviating = branches.select(fresh)
        written, lengths = policy.continue_branches(
            trunk, deviating.sentence, deviating.position, deviating.action, limits
        )
        width = max(branches.tokens.shape[1], int(limits.max()) + 1)
        sentences = branches.tokens.new_full((len(own), width), policy.pad)
        sentences[:, : branches.tokens.shape[1]] = branches.tokens[branches.sentence]
        sentences[fresh] = deviating.followed_by(written, lengths, width, policy.pad)
        ends = (sentences == policy.eos) | (sentences == policy.pad)
        words = torch.where(ends.any(1), ends.int().argmax(1), width)
        return sentences, words


@dataclass(frozen=True)
class Branches:
    """M candidate tokens after prefixes of trajectories."""

    tokens: Tensor
    """(B, T) the trajectories."""
    sentence: Tensor
    """(M,)"""
    position: Tensor
    """(M,) tokens before the candidate."""
    action: Tensor
    """(M,) the candidate."""

    def select(self, rows: Tensor) -> Branches:
        """Some of the branches."""
        return Branches(self.tokens, self.sentence[rows], self.position[rows], self.action[rows])

    def prefixes(self, pad: int) -> tuple[Tensor, Tensor]:
        """The prefixes with the candidate at their end, (M, P), padded, and their lengths (M,)."""
        width = int(self.position.max()) + 1
        whole = self.followed_by(self.action[:, None], torch.ones_like(self.action), width, pad)
        return whole, self.position + 1

    def followed_by(self, written: Tensor, lengths: Tensor, width: int, pad: int) -> Tensor:
        """(M, width) the prefix without the candidate, then ``written`` (M, L), which begins with it; padded."""
        index = torch.arange(width, device=written.device).expand(len(self.sentence), -1)
        before = self.tokens[self.sentence[:, None], index.clamp(max=self.tokens.shape[1] - 1)]
        offset = index - self.position[:, None]
        if not written.shape[1]:
            return torch.where(offset < 0, before, pad)
        after = written.gather(1, offset.clamp(0, written.shape[1] - 1))
        inside = offset < lengths[:, None]
        return torch.where(offset < 0, before, torch.where(inside, after, pad))
