"""How probable a model finds given translations, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from l2s_nmt.architecture import load_model
from l2s_nmt.build_cost import build_cost, texts
from l2s_nmt.data.batches import Rows, TokenBatches, collate
from l2s_nmt.data.tokenizer import encode_sources, encode_targets, load_tokenizer
from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.probability import log_probabilities, most_tokens
from l2s_nmt.evaluation.runs import TestSet
from l2s_nmt.evaluation.translate import check_lengths
from l2s_nmt.model import Policy
from l2s_nmt.processes import ALONE, Processes
from l2s_nmt.recipe import Recipe
from l2s_nmt.recipe_search import Cost as CostSettings
from l2s_nmt.run import Run, WeightsName
from l2s_nmt.search.costs.cost import Cost
from l2s_nmt.search.costs.table import COSTS, OWN


@dataclass(frozen=True)
class Given:
    """The tokens of a sentence, its translation and its references (none, one or several), each ending with EOS."""

    source: list[int]
    translation: list[int]
    references: list[list[int]]


@dataclass(frozen=True)
class Likelihood:
    """What a model says of one translation."""

    log_probability: float
    """Natural logarithm of the probability of the whole translation, its end included, given the source."""
    tokens: int
    """Tokens of the translation, EOS included."""
    costs: dict[str, float]
    """By their names; 0 for a perfect translation."""

    @property
    def per_token(self) -> float:
        """Mean log-probability of a token, by which beam search ranks with a length penalty of 1."""
        return self.log_probability / self.tokens


@torch.no_grad()
def measure_likelihood(
    policy: Policy,
    sentences: Sequence[Given],
    costs: Mapping[str, Cost],
    batch_tokens: int,
    processes: Processes = ALONE,
    done: Callable[[int], None] = lambda count: None,
) -> list[Likelihood]:
    """Score translations, all of whose tokens are read at once.

    Args:
        policy: in evaluation mode, on its device.
        sentences: none longer than the model's positions.
        costs: by their names.
        batch_tokens: padded tokens of the longer side read at a time.
        processes: share the sentences, and all get every result.
        done: told how many more sentences are done.

    Returns:
        One for each sentence, in their order.

    Raises:
        UserError: a cost needs a reference where there is none, or of one's own returned no numbers.
    """
    mine: dict[int, Likelihood] = {}
    batches, index, count = _batches(policy, sentences, batch_tokens), processes.index, processes.count
    for first in range(0, len(batches), count):  # the processes read that many batches at a time
        if first + index < len(batches):
            rows = batches[first + index]
            mine |= zip(rows.tolist(), _measure(policy, [sentences[row] for row in rows], costs), strict=True)
        done(sum(map(len, batches[first : first + count])))
    found = processes.union(mine)
    return [found[row] for row in range(len(sentences))]


def _batches(policy: Policy, sentences: Sequence[Given], batch_tokens: int) -> list[Rows]:
    """Rows of similar length together."""
    sources = np.array([len(sentence.source) for sentence in sentences], dtype=np.int64)
    targets = np.array([len(sentence.translation) for sentence in sentences], dtype=np.int64)
    budget = min(batch_tokens, most_tokens(policy))
    return TokenBatches(sources, targets, budget, seed=0).epoch(0)


def _measure(policy: Policy, sentences: Sequence[Given], costs: Mapping[str, Cost]) -> Iterator[Likelihood]:
    device = policy.model.device
    references = [sentence.references for sentence in sentences]
    # Without a reference the target of a batch is EOS alone.
    targets = [texts[0] if texts else [policy.eos] for texts in references]
    rows = np.arange(len(sentences))
    batch = collate([one.source for one in sentences], targets, rows, policy.pad, references).to(device)
    translations = [torch.tensor(sentence.translation) for sentence in sentences]
    lengths = torch.tensor([len(tokens) for tokens in translations], device=device)
    tokens = pad_sequence(translations, batch_first=True, padding_value=policy.pad).to(device)
    memory = policy.encode(batch.source, batch.source_mask)
    sums = log_probabilities(policy, memory, tokens, lengths).tolist()
    sentence = torch.arange(len(sentences), device=device)
    found = {name: cost(tokens, lengths - 1, sentence, batch).tolist() for name, cost in costs.items()}
    for row, (total, length) in enumerate(zip(sums, lengths.tolist(), strict=True)):
        yield Likelihood(total, length, {name: values[row] for name, values in found.items()})


def cost_settings(
    recipe: Recipe, names: Sequence[str] | None, *, has_references: bool
) -> dict[str, CostSettings]:
    """Costs by their names: as the recipe sets it where its own has the name, else with the settings by default.

    Args:
        recipe: of the run.
        names: of costs; None: the recipe's, if it can be had.
        has_references: every sentence has at least one.

    Raises:
        UserError: there is no such cost, or it needs references.
    """
    own = recipe.search.cost
    if names is None:
        names = [own.name] if has_references or not own.needs_reference else []
    known = {name: CostSettings(name=name) for name in COSTS if name != OWN} | {own.name: own}
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise UserError(f"--cost {name}: there is no such cost here; {hint}")
        if not has_references and known[name].needs_reference:
            raise UserError(f"--cost {name}: compares with references; give --references FILE")
    return {name: known[name] for name in names}


def likelihood_by_run(
    run: Run,
    translations: Sequence[str],
    test_set: TestSet,
    costs: Sequence[str] | None = None,
    *,
    origin: str = "translations",
    weights: WeightsName = "best",
    processes: Processes = ALONE,
    done: Callable[[int], None] = lambda count: None,
) -> list[Likelihood]:
    """What a run says of given translations, each as its tokenizer encodes it.

    A text can be cut into tokens in several ways. Where a model wrote it in another way than its tokenizer cuts it, the
    probability here is not the one that the model wrote it with.

    Args:
        run: a trained run.
        translations: one for each sentence of the test set.
        test_set: sources, and references for the costs that need them.
        costs: names of costs; None: the recipe's, if it can be had.
        origin: names the translations in errors.
        weights: which of the run's.
        processes: share the sentences.
        done: told how many more sentences are done.

    Returns:
        One for each translation, in their order.

    Raises:
        UserError: numbers differ, a sentence is too long for the model, there is no such cost or it needs references,
            or the run has no such weights.
    """
    with processes.main_first():  # which says alone what is wrong
        ready = _prepare(run, translations, test_set, costs, origin, weights)
    return measure_likelihood(*ready, processes=processes, done=done)


def _prepare(
    run: Run,
    translations: Sequence[str],
    test_set: TestSet,
    costs: Sequence[str] | None,
    origin: str,
    weights: WeightsName,
) -> tuple[Policy, list[Given], dict[str, Cost], int]:
    if len(translations) != len(test_set.sources):
        raise UserError(
            f"{origin} has {len(translations)} lines, but {test_set.origin} has {len(test_set.sources)}"
        )
    recipe = run.read_recipe()
    settings = cost_settings(recipe, costs, has_references=all(test_set.references))
    folder = run.weights(weights)
    tokenizer = load_tokenizer(folder, **recipe.data.codes)
    model = load_model(folder).to("cuda" if torch.cuda.is_available() else "cpu")
    sentences = _encoded(tokenizer, test_set, translations)
    check_lengths([sentence.source for sentence in sentences], model, test_set.origin)
    check_lengths([sentence.translation for sentence in sentences], model, origin)
    decoding = texts(tokenizer, recipe.bleu_tokenizer)
    chosen = {name: build_cost(cost, decoding) for name, cost in settings.items()}
    return Policy(model).eval(), sentences, chosen, recipe.evaluation.batch_tokens


def _encoded(
    tokenizer: PreTrainedTokenizerBase, test_set: TestSet, translations: Sequence[str]
) -> list[Given]:
    if not translations:
        return []
    flat = [text for texts in test_set.references for text in texts]
    references = iter(encode_targets(tokenizer, flat) if flat else [])
    sides = (
        encode_sources(tokenizer, test_set.sources),
        encode_targets(tokenizer, translations),
        test_set.references,
    )
    return [
        Given(source, translation, [next(references) for _ in theirs])
        for source, translation, theirs in zip(*sides, strict=True)
    ]
