"""The roll-out engine against one `generate` call per sentence and state, and against slow, obvious decoding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.modeling_outputs import BaseModelOutput

from l2s_nmt.data.batches import Batch
from l2s_nmt.model import Policy
from l2s_nmt.search.context import Context, see
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.roll_out.branches import Branches, branches_of
from l2s_nmt.search.roll_out.outcome import Outcome, advantages
from l2s_nmt.search.search import Search
from l2s_nmt.search.types import Trajectories
from scripts.bench import arithmetic
from scripts.bench.clock import Turn, stopwatch


@dataclass(frozen=True)
class Arena:
    """One batch on which branches are finished again and again."""

    search: Search
    context: Context
    trajectories: Trajectories
    outcome: Outcome
    """What the engine says."""
    branches: Branches
    state: Tensor
    """(M,) the state of each branch."""
    finished: Tensor
    """(M, L) what slow decoding makes of each branch: the whole sentence."""
    lengths: Tensor
    """(M,)"""
    agreement: float
    """Share of the costs on which the engine and slow decoding agree; rounding may decide between two tokens."""

    @staticmethod
    @torch.no_grad()
    def open(search: Search, policy: Policy, batch: Batch) -> Arena:
        """Roll in, and find out what every branch becomes."""
        policy.model.generation_config = _greedily(policy)
        context = see(policy.eval(), batch, Draws(1, 0), search.limit)
        trajectories = search.roll_in(context)
        outcome = search.roll_out(context, trajectories)
        branches, state, slot = branches_of(trajectories, outcome.decisions)
        finished, lengths = finish_slowly(context, branches)
        ends = finished.gather(1, lengths[:, None] - 1)[:, 0] == policy.eos
        losses = torch.zeros_like(outcome.costs.costs)
        assert search.cost is not None  # its corpus has targets
        losses[state, slot] = search.cost(finished, lengths - ends.long(), branches.sentence, batch)
        difference = (advantages(losses, outcome.decisions) - outcome.costs.costs).abs()
        agreement = float((difference[state, slot] < 1e-5).float().mean())
        return Arena(search, context, trajectories, outcome, branches, state, finished, lengths, agreement)

    def needed(self) -> arithmetic.Search:
        """What the arithmetic depends on; a branch that is the roll-in's own token or EOS needs no decoding."""
        batch, decisions = self.context.batch, self.outcome.decisions
        source = batch.source_mask.sum(1)
        states = torch.bincount(decisions.sentence, minlength=len(batch))
        deepest = torch.zeros_like(source).scatter_reduce(
            0, decisions.sentence, decisions.position + 1, "amax"
        )
        done = self.branches.position + 1
        lengths = torch.where(self.branches.is_own(), done, self.lengths)
        return arithmetic.Search(
            source,
            batch.target_lengths,
            self.trajectories.lengths,
            states,
            deepest,
            source[self.branches.sentence],
            self.branches.position,
            lengths,
        )

    @torch.no_grad()
    def engine(self, number: int) -> Turn:
        """All branches of the batch by the engine: choosing them, prefilling and their costs included."""
        with stopwatch() as watch:
            outcome = self.search.roll_out(self.context, self.trajectories)
        return Turn(watch.seconds, outcome.roll_outs)

    @torch.no_grad()
    def generate(self, number: int, sentences: int) -> Turn:
        """The branches of some sentences, a call for each state; candidates that are EOS are finished already."""
        rows = [(number * sentences + i) % len(self.context.batch) for i in range(sentences)]
        wanted = torch.isin(self.branches.sentence, torch.tensor(rows, device=self.state.device))
        seconds = 0.0
        for state in sorted(set(self.state[wanted].tolist())):
            alive = (self.state == state) & (self.branches.action != self.context.policy.eos)
            chosen = self.branches.select(alive.nonzero()[:, 0])
            with stopwatch() as watch:
                generate(self.context, chosen)
            seconds += watch.seconds
        return Turn(seconds, int(wanted.sum()))

    def generated_alike(self, states: int) -> float:
        """Share of the branches of the first states that `generate` finishes as slow decoding does."""
        alike = []
        for state in range(min(states, len(self.outcome.decisions))):
            rows = ((self.state == state) & (self.branches.action != self.context.policy.eos)).nonzero()[:, 0]
            found = generate(self.context, self.branches.select(rows))
            for row, tokens in zip(rows.tolist(), found, strict=True):
                wanted = self.finished[row, : int(self.lengths[row])]
                alike.append(torch.equal(tokens[: len(wanted)], wanted))
        return sum(alike) / max(len(alike), 1)


@torch.no_grad()
def finish_slowly(context: Context, branches: Branches) -> tuple[Tensor, Tensor]:
    """Finish every branch on its own, its prefix fed again from the first token.

    Returns:
        (M, L) the whole sentences, padded, and their lengths (M,).
    """
    prefixes, lengths = branches.prefixes(context.policy.pad)

    def choose(scores: Tensor, step: int, rows: Tensor) -> Tensor:
        chosen = scores.argmax(-1)
        if step >= prefixes.shape[1]:
            return chosen
        return torch.where(lengths[rows] > step, prefixes[rows, step], chosen)

    limits = torch.maximum(context.limits[branches.sentence], lengths)
    return context.policy.roll(context.memory.select(branches.sentence), limits, choose)


@torch.no_grad()
def generate(context: Context, branches: Branches) -> Tensor:
    """(M, L) the branches of one state, finished by one call of `generate` from the encoder's states."""
    if not len(branches.sentence):
        return branches.tokens.new_empty((0, 0))
    policy, row = context.policy, int(branches.sentence[0])
    prefixes, lengths = branches.prefixes(policy.pad)
    room = int(context.limits[row]) - int(lengths[0])
    if room <= 0:
        return prefixes
    start = prefixes.new_full((len(prefixes), 1), policy.start)
    words = int(context.batch.source_mask[row].sum())
    hidden = context.memory.hidden[row : row + 1, :words].expand(len(prefixes), -1, -1)
    written: Tensor = policy.model.generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
        attention_mask=torch.ones(hidden.shape[:2], dtype=torch.long, device=hidden.device),
        decoder_input_ids=torch.cat([start, prefixes], 1),
        max_new_tokens=room,
    )
    return written[:, 1:]


def _greedily(policy: Policy) -> GenerationConfig:
    """Whatever else the model's own configuration asks for, such as beams, is left out."""
    return GenerationConfig(
        num_beams=1,
        do_sample=False,
        suppress_tokens=[policy.pad],
        pad_token_id=policy.pad,
        eos_token_id=policy.eos,
        decoder_start_token_id=policy.start,
    )
