"""A Hugging Face encoder-decoder as a policy over next tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    EncoderDecoderCache,
    GenerationConfig,
    PreTrainedModel,
    StoppingCriteriaList,
)
from transformers.modeling_outputs import BaseModelOutput

from l2s_nmt.decoder_state import CACHE, DecoderState, Memory, Trunk, beam_cache
from l2s_nmt.decoding import Choose, Sheet, best_tokens, branches_at_once, in_parts, stop_at
from l2s_nmt.errors import UserError
from l2s_nmt.marian_step import MarianStep
from l2s_nmt.output_layer import Part, loss_in_parts
from l2s_nmt.packing import groups_by_length
from l2s_nmt.shared_prefixes import OwnPrefixes, Prefixes, SharedPrefixes

_PASS = {True: 64, False: 16_384}
"""Tokens that a pass through the decoder is worth, on a CPU and elsewhere: what it costs to begin one."""


@dataclass(frozen=True)
class Term:
    """Some states of target sentences, and a loss of the scores there."""

    states: Tensor
    """(N,) indices into the flattened (R, T) rows: r * T + t is the prefix ``rows[r, :t]``."""
    loss: Callable[[slice, Tensor], Tensor]
    """A scalar from the scores (n, V), not normalised, at a part of the states."""
    whole: bool = False
    """Whether it wants all states at once, since it is no sum over them."""
    together: int = 1
    """States in a row that are not to be parted."""
    as_written: bool = False
    """Whether the scores are those that sentences are written by, in which padding cannot be."""


class Policy(nn.Module):
    """An encoder-decoder that scores next tokens, for training and for decoding.

    Args:
        model: any Hugging Face encoder-decoder.
        max_branch_tokens: most tokens of roll-outs in memory at once, their number times the longest's; None: as many
            as fit.

    Raises:
        UserError: the configuration lacks a pad, EOS or decoder start token, padding is EOS, or the output layer is not
            one matrix.
    """

    def __init__(self, model: PreTrainedModel, max_branch_tokens: int | None = None) -> None:
        super().__init__()
        self.max_branch_tokens = max_branch_tokens
        self.model = model
        generation = model.generation_config
        self.pad = _token(model.config.pad_token_id, "pad_token_id")
        self.eos = _token(model.config.eos_token_id, "eos_token_id")
        if self.pad == self.eos:
            raise UserError(
                f"the model's configuration has one token ({self.eos}) for padding, which is never written, and for "
                "the end of a sentence; give padding one of its own"
            )
        start = model.config.decoder_start_token_id
        self.start = _token(generation.decoder_start_token_id if start is None else start, "start token")
        self.positions: int | None = getattr(model.config, "max_position_embeddings", None)
        """Most tokens the model has positions for; None where positions are relative."""
        head: Any = model.get_output_embeddings()
        if not isinstance(head, nn.Linear) or getattr(head, "bias", None) is not None:
            raise UserError(
                f"{type(model).__name__}: models whose output layer is not a plain matrix are not known here"
            )
        bias: Tensor | None = getattr(model, "final_logits_bias", None)
        # Nearly always zeros, and to add them anyway takes a tenth of the time of decoding.
        self._biased = bias is not None and bool(bias.any())
        self._marian = MarianStep.of(model)
        self._taking, self._taken = False, torch.empty(0)
        head.register_forward_pre_hook(self._take)
        self._check_head()

    @property
    def _head(self) -> nn.Linear:
        head: nn.Linear = self.model.get_output_embeddings()
        return head

    @property
    def _bias(self) -> Tensor | None:
        return self.model.final_logits_bias.flatten() if self._biased else None

    def forward(
        self, source: Tensor, source_mask: Tensor, rows: Tensor, sentence: Tensor, terms: Sequence[Term]
    ) -> Tensor:
        """A loss of the scores at some states of the given target sentences: one pass through the model for all.

        The scores are made, looked at and forgotten part by part, with their gradients: over a large vocabulary they
        would take more memory than the rest of a training step.

        Args:
            source: (B, S) source tokens, padded.
            source_mask: (B, S).
            rows: (R, T) target tokens without the start token.
            sentence: (R,) the source row of each target row.
            terms: the states, and what is made of their scores.

        Returns:
            The sum of the losses of all parts.
        """
        memory = self.encode(source, source_mask)
        parts = [(term, part) for term in terms for part in self._parts(term)]
        states = [term.states[part] for term, part in parts]
        hidden = self.hidden_at(memory, rows, sentence, torch.cat(states) if states else rows.new_empty(0))
        scored = [
            Part(len(some), partial(term.loss, part), self.pad if term.as_written else None)
            for some, (term, part) in zip(states, parts, strict=True)
        ]
        return loss_in_parts(hidden, self._head.weight, self._bias, scored)

    def hidden_at(self, memory: Memory, rows: Tensor, sentence: Tensor, states: Tensor) -> Tensor:
        """What the decoder hands to the output layer at some states of target sentences.

        Rows of like length go through the decoder together, each as far as its last state, so that it seldom reads
        padding.

        Args:
            memory: of B sentences.
            rows: (R, T) target tokens without the start token.
            sentence: (R,) the row of the memory of each target row.
            states: (N,) indices into the flattened rows: r * T + t is the prefix ``rows[r, :t]``.

        Returns:
            (N, D)
        """
        inputs = self._shifted(rows)
        row, position = states // inputs.shape[1], states % inputs.shape[1]
        depth = torch.zeros_like(sentence).scatter_reduce(0, row, position + 1, "amax")
        place = torch.zeros_like(inputs)
        hidden, written = [], 0
        for some, width in groups_by_length(depth, _PASS[inputs.device.type == "cpu"]):
            found = self._hidden(memory.select(sentence[some]), inputs[some, :width])
            hidden.append(found.flatten(0, 1))
            here = torch.arange(len(hidden[-1]), device=some.device) + written
            place[some, :width] = here.view(len(some), width)
            written += len(here)
        if not hidden:  # other processes wait for this one's gradient of all weights, so there is a pass
            return self._hidden(memory.select(sentence[:1]), inputs[:1, :1])[0, :0]
        return torch.cat(hidden)[place[row, position]]

    @property
    def first(self) -> int | None:
        """The token that all translations begin with, which nobody chooses: the code of a language. None: none."""
        code: int | None = self.model.generation_config.forced_bos_token_id
        return code

    @property
    def outputs(self) -> int:
        """Tokens that have a score."""
        return len(self._head.weight)

    def _parts(self, term: Term) -> Iterator[slice]:
        """States whose scores are made at once: what a CPU's caches hold, and what keeps a GPU busy."""
        vocabulary = len(self._head.weight)
        size = 256 if self._head.weight.device.type == "cpu" else max(256, 2**26 // vocabulary)
        size -= size % term.together
        if term.whole:
            size = max(len(term.states), 1)
        return (slice(start, start + size) for start in range(0, len(term.states), size))

    def _hidden(self, memory: Memory, inputs: Tensor, cache: EncoderDecoderCache | None = None) -> Tensor:
        """(R, T, D) what the decoder hands to the output layer, which is left with nothing to do."""
        self._taking = True
        try:
            self.model(
                encoder_outputs=BaseModelOutput(last_hidden_state=memory.hidden),
                attention_mask=memory.mask,
                decoder_input_ids=inputs,
                use_cache=cache is not None,
                **{CACHE: cache},
            )
            return self._taken
        finally:
            self._taking, self._taken = False, torch.empty(0)

    def _take(self, head: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
        if not self._taking:
            return None
        self._taken = inputs[0]
        return (inputs[0][:0, :0],)

    def _scores(self, hidden: Tensor) -> Tensor:
        """(…, V) scores of every next token from (…, D)."""
        return F.linear(hidden, self._head.weight, self._bias)

    @torch.no_grad()
    def _check_head(self) -> None:
        """Make sure that nothing but a bias comes after the output layer."""
        word = torch.tensor([[self.eos]], device=self.model.device)
        start = torch.full_like(word, self.start)
        training = self.model.training
        self.model.eval()
        memory = self.encode(word, torch.ones_like(word))
        own = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=memory.hidden),
            attention_mask=memory.mask,
            decoder_input_ids=start,
            use_cache=False,
        ).logits
        ours = self._scores(self._hidden(memory, start))
        self.model.train(training)
        if not torch.allclose(own, ours, rtol=1e-3, atol=1e-4):
            raise UserError(
                f"{type(self.model).__name__}: models that change the scores after their output layer so are not known "
                "here"
            )

    def encode(self, source: Tensor, source_mask: Tensor) -> Memory:
        """Run the encoder on (B, S) source tokens."""
        output = self.model.get_encoder()(input_ids=source, attention_mask=source_mask)
        return Memory(output.last_hidden_state, source_mask)

    def score(self, memory: Memory, prefixes: Tensor) -> Tensor:
        """(R, T, V) scores of every next token after ``prefixes[:, :t]``, for t = 0 … T−1."""
        return self._scores(self._hidden(memory, self._shifted(prefixes)))

    def _shifted(self, tokens: Tensor) -> Tensor:
        start = tokens.new_full((tokens.shape[0], 1), self.start)
        return torch.cat([start, tokens[:, :-1]], dim=1)

    @torch.no_grad()
    def roll(
        self,
        memory: Memory,
        limits: Tensor,
        choose: Choose,
        trunk: Trunk | None = None,
        source: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Write sentences from their first token on, each until EOS or its limit.

        Args:
            memory: of B sentences.
            limits: (B,) most tokens of each, EOS included.
            choose: the policy that picks each next token; the `first` one there is no choice about.
            trunk: keeps what branches need to start from the sentences.
            source: (B,) the same number for sentences of the same source, to be written once as far as they begin
                alike; None, or with a trunk: each for itself.

        Returns:
            tokens (B, T), padded, and lengths (B,), EOS included.
        """
        sheet = Sheet(torch.zeros_like(limits), limits, int(limits.max()), self.pad, self.eos)
        # To know which begin alike is to wait for the device, and to a GPU some rows more or less are nothing.
        alone = source is None or trunk is not None or limits.device.type != "cpu"
        prefixes: Prefixes = (
            OwnPrefixes(memory) if source is None or alone else SharedPrefixes(memory, source)
        )
        sheet.begin(torch.arange(len(limits), device=limits.device))
        last = prefixes.begin(self.start)
        for step in range(sheet.width):
            hidden = self._step(prefixes.state, last)
            if trunk is not None:
                trunk.note(step, sheet.rows, prefixes.state, hidden)
            scores = prefixes.spread(self.next_scores(hidden))
            if step == 0 and self.first is not None:
                scores = torch.full_like(scores, -torch.inf).index_fill(
                    1, sheet.rows.new_tensor([self.first]), 0.0
                )
            tokens = sheet.write(step, choose(scores, step, sheet.rows), prefixes)
            if not len(sheet.rows):
                break
            last = prefixes.follow(tokens)
        return sheet.written()

    @torch.no_grad()
    def prefill(self, memory: Memory, tokens: Tensor, states: Tensor) -> tuple[Tensor, DecoderState]:
        """Feed given tokens (B, T) at once.

        Returns:
            The scores (N, V) of the next token at states (N,), indices into the flattened rows (t after the first one's
            0 is the prefix ``tokens[0, :t]``); and the decoder state, from
            which to branch.
        """
        state = DecoderState(memory)
        hidden = self._hidden(memory, self._shifted(tokens), state.cache).flatten(0, 1)
        return self.mask_scores(self._scores(hidden[states])), state

    @torch.no_grad()
    def advance(self, state: DecoderState, tokens: Tensor) -> Tensor:
        """Feed one token a row, (R,), and return the scores (R, V) of the next; the state moves on."""
        return self.next_scores(self._step(state, tokens))

    def _step(self, state: DecoderState, tokens: Tensor) -> Tensor:
        if self._marian is not None and not self.training and len(state.cache):
            return self._marian(state, tokens)
        return self._hidden(Memory(state.hidden, state.mask), tokens[:, None], state.cache)[:, -1]

    @torch.no_grad()
    def next_scores(self, hidden: Tensor) -> Tensor:
        """(R, V) scores of the next token from what the output layer is given, (R, D)."""
        return self.mask_scores(self._scores(hidden))

    @torch.no_grad()
    def beam_search(self, memory: Memory, limits: Tensor, beam: int, best: int = 1) -> tuple[Tensor, Tensor]:
        """The hypotheses of the best mean log-probability a token that beam search finds for each sentence.

        A hypothesis that is cut by its sentence's limit competes with those that end before. Arguments and results
        are as of ``roll``, with so many rows for each sentence, the best one first; all of them differ.
        """
        longest = int(limits.max())
        with self._generating(beam, longest, best) as configuration:
            written = self.model.generate(
                encoder_outputs=BaseModelOutput(last_hidden_state=memory.hidden),
                attention_mask=memory.mask.long(),
                generation_config=configuration,
                stopping_criteria=StoppingCriteriaList([stop_at(limits)]),
                # Weights that are dealt out are whole here, and other processes may not be searching.
                synced_gpus=False,
                **{CACHE: beam_cache()},
            )[:, 1:]
        tokens = F.pad(written, (0, longest - written.shape[1]), value=self.pad)
        limits = limits.repeat_interleave(best)
        places = torch.arange(longest, device=tokens.device)
        ends = torch.where(tokens == self.eos, places, longest - 1).amin(1) + 1
        lengths = torch.minimum(ends, limits)
        longest = int(lengths.max())
        return tokens[:, :longest].masked_fill(places[:longest] >= lengths[:, None], self.pad), lengths

    @contextmanager
    def _generating(self, beam: int, longest: int, best: int) -> Iterator[GenerationConfig]:
        """Within this context `generate` searches as this configuration says, and the model's own says nothing.

        It would fill in what is not set here; that of a pretrained model may ask for least lengths or force tokens.
        """
        configuration = GenerationConfig(
            num_beams=beam,
            num_return_sequences=best,
            do_sample=False,
            max_new_tokens=longest,
            bad_words_ids=[[self.pad]],
            renormalize_logits=True,
            pad_token_id=self.pad,
            eos_token_id=self.eos,
            decoder_start_token_id=self.start,
            forced_bos_token_id=self.first,
        )
        own, self.model.generation_config = self.model.generation_config, configuration
        try:
            yield configuration
        finally:
            self.model.generation_config = own

    @torch.no_grad()
    def continue_branches(
        self,
        trunk: DecoderState,
        sentence: Tensor,
        position: Tensor,
        action: Tensor,
        limits: Tensor,
        choose: Choose | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Finish branches: take ``action`` after ``position`` tokens of the trunk, then decode.

        All branches that have begun are at the same position at the same time, so that any model with a plain
        cache serves: a branch joins the batch when its position comes, with the trunk's cache up to there. What does
        not fit into memory at once is done part by part, with the same result.

        Args:
            trunk: state after a prefill of the trajectories.
            sentence: (M,) row of the trunk.
            position: (M,) number of tokens before the action.
            action: (M,) the token tried.
            limits: (M,) most tokens of each branch, those before the action and EOS included.
            choose: picks the next token from the scores, the position it will have, and the branches (R,); None: the
                most probable one.

        Returns:
            tokens (M, L) written from the action on, padded, and their lengths (M,), EOS included.
        """
        # A reference may be longer than the limit; an action that comes after it still stands, as the last token.
        width = max([int(limits.max()), int(position.max()) + 1] if len(sentence) else [0])
        most = (self.max_branch_tokens or 0) // max(width, 1)
        if self.max_branch_tokens is None:
            most = branches_at_once(
                trunk, width, 2 * len(self._head.weight) * self._head.weight.element_size()
            )

        def finish(part: Tensor) -> tuple[Tensor, Tensor]:
            chooses = None if choose is None else lambda scores, step, rows: choose(scores, step, part[rows])
            return self._finish(trunk, sentence[part], position[part], action[part], limits[part], chooses)

        written, lengths = action.new_full((len(action), width), self.pad), torch.zeros_like(action)
        for part, (tokens, counts) in in_parts(position.argsort(stable=True), most, finish):
            written[part, : tokens.shape[1]], lengths[part] = tokens, counts
        return written[:, : int(lengths.max())] if len(lengths) else written, lengths

    def _finish(
        self,
        trunk: DecoderState,
        sentence: Tensor,
        position: Tensor,
        action: Tensor,
        limits: Tensor,
        choose: Choose | None,
    ) -> tuple[Tensor, Tensor]:
        """Finish the branches of one part, in the order of their positions."""
        begun = torch.bincount(position).tolist()
        sheet = Sheet(position, limits, max(int(limits.max()), len(begun)), self.pad, self.eos)
        state, last, count = trunk.empty(len(sentence)), action[:0], 0
        for step in range(sheet.width):
            if step < len(begun) and begun[step]:
                new = torch.arange(count, count + begun[step], device=action.device)
                count += begun[step]
                state.append(trunk, sentence[new], step + 1)
                sheet.begin(new)
                last = torch.cat([last, action[new]])
            if len(sheet.rows):
                last = sheet.write(step, last, state)
            if len(sheet.rows):
                scores = self.advance(state, last)
                last = best_tokens(scores) if choose is None else choose(scores, step + 1, sheet.rows)
        return sheet.written()

    def mask_scores(self, logits: Tensor) -> Tensor:
        """The scores without the pad token, which is Marian's start token and never a translation; in place."""
        logits[..., self.pad] = -torch.inf
        return logits


def _token(value: Any, name: str) -> int:
    if isinstance(value, list):
        value = value[0]
    if value is None:
        raise UserError(f"the model's configuration (config.json) has no {name}; set it there")
    return int(value)
