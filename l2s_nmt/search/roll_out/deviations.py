"""One-step deviations from the trajectory: take a candidate, let the roll-out policy finish, look at the loss.

The cost vectors of LOLS (Chang et al. 2015), SEARN, SEARNN and AggreVaTe, which differ in who rolls in, who rolls out
and where.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from l2s_nmt.decoder_state import DecoderState
from l2s_nmt.search.context import Context
from l2s_nmt.search.decisions.candidates import CandidateChoice
from l2s_nmt.search.decisions.states import StateChoice
from l2s_nmt.search.roll_out.branches import branches_of
from l2s_nmt.search.roll_out.finish import RollOutPolicy
from l2s_nmt.search.roll_out.outcome import Outcome, advantages
from l2s_nmt.search.types import CostVectors, Decisions, Trajectories


@dataclass(frozen=True)
class Deviations:
    """Try every candidate at some states.

    Args:
        states: where.
        candidates: which tokens.
        roll_out: who finishes the sentences.
    """

    states: StateChoice
    candidates: CandidateChoice
    roll_out: RollOutPolicy

    def __call__(self, context: Context, trajectories: Trajectories) -> Outcome:
        """Decide where to deviate, finish every branch, and subtract the smallest loss of each state."""
        decisions, trunk = decide(context, trajectories, self.states, self.candidates)
        branches, state, slot = branches_of(trajectories, decisions)
        losses = torch.zeros(decisions.actions.shape, device=state.device)
        losses[state, slot] = self.roll_out(context, trunk, branches)
        return Outcome(decisions, CostVectors(advantages(losses, decisions)), len(state))


def decide(
    context: Context, trajectories: Trajectories, states: StateChoice, candidates: CandidateChoice
) -> tuple[Decisions, DecoderState]:
    """The decisions, and the decoder state of the trajectories from which to branch."""
    sentence, position = states(context, trajectories)
    scores, trunk = context.score_roll_in(trajectories, sentence, position)
    return candidates(context, trajectories, sentence, position, scores), trunk
