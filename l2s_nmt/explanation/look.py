"""Look at one sentence with the real parts of a run: roll in, try candidates at every state, finish them twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from l2s_nmt.data.encode import tokenizer_fingerprint
from l2s_nmt.data.tokenizer import decode
from l2s_nmt.decoder_state import DecoderState
from l2s_nmt.errors import UserError
from l2s_nmt.explanation.subject import EVERY, Subject
from l2s_nmt.explanation.types import (
    Candidate,
    Explained,
    Explanation,
    Facts,
    Pair,
    RollOut,
    State,
    Token,
    View,
)
from l2s_nmt.explanation.words import changes, tokens_of
from l2s_nmt.search.context import Context
from l2s_nmt.search.decisions.candidates import CandidateChoice
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.roll_out.branches import Branches, branches_of
from l2s_nmt.search.roll_out.deviations import decide
from l2s_nmt.search.sampling import Decoding
from l2s_nmt.search.types import Decisions, Trajectories

GREEDY = RollIn("learned", Decoding("greedy"), keeps_trunk=True)

OTHER_TOKENS = (
    "The two runs have different tokens: where costs are measured on tokens, they differ for that, too."
)


def explain(
    subjects: Sequence[Subject], search: Facts, pairs: Sequence[Pair], candidates: int
) -> Explanation:
    """Explain sentences.

    Args:
        subjects: one run, or one before and one after.
        search: that they are looked at with.
        pairs: the sentences.
        candidates: most probable tokens tried at each state; the reference's action and the end come on top.

    Raises:
        UserError: a source is longer than a model's positions, or a cost is not finite.
    """
    beside: list[Subject | None] = [None] * len(subjects)
    if len(subjects) == 2 and len({tokenizer_fingerprint(subject.tokenizer) for subject in subjects}) == 1:
        beside = [subjects[1], subjects[0]]
    sentences = []
    for pair in pairs:
        views: list[View] = []
        for subject, other in zip(subjects, beside, strict=True):
            views.append(look(subject, pair, candidates, other, views[0].translation.text if views else None))
        sentences.append(Explained(pair, tuple(views)))
    if len(subjects) == 2 and beside[0] is None:
        search = replace(search, note=f"{search.note} {OTHER_TOKENS}".strip())
    return Explanation(tuple(subject.name for subject in subjects), search, tuple(sentences))


@torch.no_grad()
def look(
    subject: Subject, pair: Pair, count: int, beside: Subject | None = None, before: str | None = None
) -> View:
    """Look at one sentence with one run.

    Args:
        subject: the run.
        pair: the sentence.
        count: most probable tokens tried at each state.
        beside: another run with the same tokens, whose probabilities are shown as well.
        before: the translation that this one is compared with.
    """
    context = subject.read(pair)
    trajectories = GREEDY(context)
    tokens = trajectories.tokens
    own = _Finished(subject, context, tokens)
    base = own.texts()[0]
    choice = CandidateChoice("top_k", count, subject.reference)
    decisions, trunk = decide(context, trajectories, EVERY, choice)
    branches, state, _ = branches_of(trajectories, with_own(decisions, tokens))
    by_model = _Finished(subject, context, _by_model(context, trunk, branches)).roll_outs(base)
    by_reference = _by_reference(subject, context, branches).roll_outs(base)
    measures = _Measures(
        subject, context, trajectories, None if beside is None else beside.probabilities(pair, tokens)
    )
    named = tokens_of(subject.tokenizer, branches.action.tolist())
    tried: list[list[Candidate]] = [[] for _ in range(len(decisions))]
    for place, token, model, reference in zip(state.tolist(), named, by_model, by_reference, strict=True):
        tried[place].append(measures.candidate(place, token, model, reference))
    return View(
        translation=own.roll_outs(base if before is None else before)[0],
        tokens=tuple(tokens_of(subject.tokenizer, tokens[0].tolist())),
        states=tuple(_state(found, measures.whole_push(place)) for place, found in enumerate(tried)),
    )


def with_own(decisions: Decisions, tokens: Tensor) -> Decisions:
    """The same with the token that the trajectory (B, T) took, which rounding may have kept from the most probable."""
    own = tokens[decisions.sentence, decisions.position][:, None]
    missing = ~((decisions.actions == own) & decisions.mask).any(1, keepdim=True)
    actions = torch.cat([decisions.actions, own], 1)
    return replace(decisions, actions=actions, mask=torch.cat([decisions.mask, missing], 1))


def _state(candidates: list[Candidate], push: float) -> State:
    own = next(candidate for candidate in candidates if candidate.is_own)
    return State(
        candidates=tuple(sorted(candidates, key=lambda candidate: -candidate.probability)),
        rest_probability=max(0.0, 1 - sum(candidate.probability for candidate in candidates)),
        rest_push=push - sum(candidate.push for candidate in candidates),
        regret_by_model=own.by_model.cost - min(candidate.by_model.cost for candidate in candidates),
        regret_by_reference=own.by_reference.cost
        - min(candidate.by_reference.cost for candidate in candidates),
    )


def _by_model(context: Context, trunk: DecoderState, branches: Branches) -> Tensor:
    """(M, L) the branches, finished by the model; the greedy token's is the roll-in, whatever rounding does."""
    limits = context.limits[branches.sentence]
    written, lengths = context.policy.continue_branches(
        trunk, branches.sentence, branches.position, branches.action, limits
    )
    width = max(branches.tokens.shape[1], int(limits.max()) + 1)
    finished = branches.followed_by(written, lengths, width, context.policy.pad)
    roll_in = F.pad(branches.tokens, (0, width - branches.tokens.shape[1]), value=context.policy.pad)
    return torch.where(branches.is_own()[:, None], roll_in[branches.sentence], finished)


def _by_reference(subject: Subject, context: Context, branches: Branches) -> _Finished:
    prefixes, lengths = branches.prefixes(context.policy.pad)
    whole = subject.reference.complete(context, prefixes, lengths, branches.sentence)
    return _Finished(subject, context, whole.tokens, whole.losses)


class _Finished:
    """Finished translations (M, L) of one sentence, with what they cost (M,)."""

    def __init__(
        self, subject: Subject, context: Context, tokens: Tensor, losses: Tensor | None = None
    ) -> None:
        self.subject, self.tokens = subject, tokens
        ends = (tokens == context.policy.eos) | (tokens == context.policy.pad)
        self.words = torch.where(ends.any(1), ends.int().argmax(1), tokens.shape[1])
        sentence = torch.zeros_like(self.words)
        self.losses = subject.cost(tokens, self.words, sentence, context.batch) if losses is None else losses
        if not self.losses.isfinite().all():
            place = int((~self.losses.isfinite()).nonzero()[0])
            raise UserError(
                f"explain: the cost of {self.texts()[place]!r} is {float(self.losses[place])}; make search.cost "
                "finite, or look at another sentence"
            )

    def texts(self) -> list[str]:
        """What they say."""
        rows = zip(self.tokens.tolist(), self.words.tolist(), strict=True)
        return decode(self.subject.tokenizer, [row[:words] for row, words in rows])

    def roll_outs(self, before: str) -> list[RollOut]:
        """Beside another translation."""
        ended = (self.tokens == self.subject.policy.eos).any(1).tolist()
        return [
            RollOut(text, cost, finished, changes(before, text))
            for text, cost, finished in zip(self.texts(), self.losses.tolist(), ended, strict=True)
        ]


class _Measures:
    """What is known of any next token at the states of one trajectory."""

    def __init__(
        self, subject: Subject, context: Context, trajectories: Trajectories, beside: Tensor | None
    ) -> None:
        tokens = trajectories.tokens
        places = torch.arange(tokens.shape[1], device=tokens.device)
        first = torch.zeros_like(places)
        whole = subject.reference.complete(context, tokens[first], places, first)
        scores = subject.policy.score(context.memory, tokens)[0]
        self._own, self._actions = tokens[0], whole.next_tokens(places)
        self._outcome = subject.roll_out(context, trajectories)
        self._pushes = subject.loss.pushes(scores, self._outcome)
        self._probabilities = subject.policy.mask_scores(scores).float().softmax(-1)
        self._beside = beside

    def candidate(self, place: int, token: Token, by_model: RollOut, by_reference: RollOut) -> Candidate:
        """A token at a state, with its roll-outs."""
        return Candidate(
            token=token,
            probability=float(self._probabilities[place, token.id]),
            beside=None if self._beside is None else float(self._beside[place, token.id]),
            is_own=token.id == int(self._own[place]),
            is_reference=token.id == int(self._actions[place]),
            by_model=by_model,
            by_reference=by_reference,
            charged=self._charged(place, token.id),
            push=float(self._pushes[place, token.id]),
        )

    def whole_push(self, place: int) -> float:
        """On all tokens of the vocabulary together."""
        return float(self._pushes[place].sum())

    def _charged(self, place: int, token: int) -> float | None:
        """What the loss is told that a token costs."""
        decisions, costs = self._outcome.decisions, self._outcome.costs
        listed = (decisions.mask[place] & (decisions.actions[place] == token)).nonzero()
        if len(listed):
            return float(costs.costs[place, listed[0, 0]])
        return None if costs.other is None else float(costs.other[place])
