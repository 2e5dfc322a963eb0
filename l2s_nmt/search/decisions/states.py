"""At which states of a trajectory the search looks.

AggreVaTe (Ross & Bagnell 2014) draws one state a sentence uniformly; LOLS (Chang et al. 2015) looks at all; focused
costing (Vlachos & Craven 2011; Goodman et al. 2016) looks where it matters; hierarchical guidance (Le et al. 2018)
only where a cheap verification failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from l2s_nmt.search.context import Context
from l2s_nmt.search.decisions.segments import failed_segments
from l2s_nmt.search.types import Trajectories

StatesName = Literal["all", "uniform", "ends", "low_margin", "high_entropy", "failed_segments"]


@dataclass(frozen=True)
class StateChoice:
    """Chooses states.

    Args:
        name: ``all``; ``uniform``: some drawn without replacement; ``ends``: that of the last word and that of the
            end; ``low_margin`` and ``high_entropy``: those where the policy is least sure; ``failed_segments``:
            those of the first segment that went wrong.
        per_sentence: how many of ``uniform``, ``low_margin``, ``high_entropy``.
        segment: tokens in a segment.
    """

    name: StatesName
    per_sentence: int = 1
    segment: int = 4

    def __call__(self, context: Context, trajectories: Trajectories) -> tuple[Tensor, Tensor]:
        """Sentence (N,) and position (N,) of the states, ordered by sentence and position."""
        inside = trajectories.inside()
        if self.name != "all" and context.policy.first is not None:
            inside[:, 0] = False  # nothing is chosen there; where a few are looked at, one would be wasted
        if self.name == "uniform":
            inside = _lowest(context.uniform("states", inside.shape[1]), inside, self.per_sentence)
        elif self.name == "ends":
            positions = torch.arange(inside.shape[1], device=inside.device)
            inside = inside & (positions >= trajectories.lengths[:, None] - 2)
        elif self.name in ("low_margin", "high_entropy"):
            inside = _lowest(self._certainty(context, trajectories, inside), inside, self.per_sentence)
        elif self.name == "failed_segments":
            inside = inside & failed_segments(context.batch, trajectories, self.segment)
        sentence, position = inside.nonzero(as_tuple=True)
        return sentence, position

    def _certainty(self, context: Context, trajectories: Trajectories, inside: Tensor) -> Tensor:
        """(B, T) how sure the policy is at each state."""
        sentence, position = inside.nonzero(as_tuple=True)
        scores, _ = context.score_roll_in(trajectories, sentence, position)
        log_probs = scores.float().log_softmax(-1)
        if self.name == "low_margin":
            best = log_probs.topk(2, dim=-1).values.exp()
            sure = best[:, 0] - best[:, 1]
        else:
            sure = (log_probs.exp() * log_probs).nan_to_num().sum(-1)
        table = torch.full(inside.shape, torch.inf, device=sure.device)
        table[sentence, position] = sure.float()
        return table


def _lowest(keys: Tensor, inside: Tensor, count: int) -> Tensor:
    """(B, T) bool: the ``count`` positions inside each trajectory with the lowest keys (all, where it is shorter)."""
    chosen = keys.masked_fill(~inside, torch.inf).argsort(dim=1, stable=True)[:, :count]
    return torch.zeros_like(inside).scatter_(1, chosen, True) & inside
