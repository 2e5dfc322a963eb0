"""The benchmark counts the right operations, takes turns, and compares decoders that do the same work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import MarianConfig, MarianMTModel

from l2s_nmt.model import Policy, Term
from scripts.bench import arithmetic
from scripts.bench.clock import Turn, price_ratio, take_turns
from scripts.bench.growth import with_vocabulary
from scripts.bench.rollouts import Arena, generate
from scripts.bench.sections import Sections
from scripts.bench.steps import everywhere
from tests.helpers import ROOT, environment
from tests.searches import search_of
from tests.tiny import finish, new_policy, random_batch, source_of

LENGTH = 5


@pytest.fixture(scope="module")
def wide() -> Policy:
    """A policy in which the products of matrices outweigh attention."""
    special = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "dropout": 0.0}
    config = MarianConfig(
        vocab_size=200, d_model=64, encoder_ffn_dim=96, decoder_ffn_dim=160, encoder_layers=2, decoder_layers=3,
        encoder_attention_heads=2, decoder_attention_heads=2, attn_implementation="eager", **special,
    )  # fmt: skip
    return Policy(MarianMTModel(config))


def summed_scores(policy: Policy) -> Tensor:
    tokens = torch.full((2, LENGTH), 7)
    every = Term(torch.arange(tokens.numel()), lambda part, scores: scores.sum())
    total: Tensor = policy(tokens, torch.ones_like(tokens), tokens, torch.arange(2), [every])
    return total


def test_operations_of_an_update(wide: Policy) -> None:
    lengths = torch.tensor([LENGTH, LENGTH])
    with FlopCounterMode(display=False) as counted:
        summed_scores(wide).backward()  # type: ignore[no-untyped-call]  # torch's own
    expected = arithmetic.teacher_forcing(arithmetic.Sizes.of(wide.model), lengths, lengths)
    assert counted.get_total_flops() == pytest.approx(expected, rel=0.02)  # attention is counted whole


def test_products_are_those_of_a_forward_pass(wide: Policy) -> None:
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        summed_scores(wide)
    products = arithmetic.Sizes.of(wide.model).products(2 * LENGTH)
    assert counted.get_total_flops() == pytest.approx(sum(2 * n * k * m for n, k, m in products), rel=0.05)


def test_operations_add_up_along_a_sentence(wide: Policy) -> None:
    sizes = arithmetic.Sizes.of(wide.model)
    source, zero, middle, end = (torch.tensor([length]) for length in (9, 0, 4, 11))
    parts = sizes.decoding(source, zero, middle, middle) + sizes.decoding(source, middle, end, end - middle)
    assert torch.equal(parts, sizes.decoding(source, zero, end, end))


def test_turns_alternate_and_the_first_round_does_not_count() -> None:
    called: list[tuple[str, int]] = []

    def contender(name: str, seconds: float, number: int) -> Turn:
        called.append((name, number))
        return Turn(seconds * (1 + number), 2.0)

    turns = take_turns({"a": lambda n: contender("a", 6.0, n), "b": lambda n: contender("b", 2.0, n)}, 3)
    assert called == [(name, number) for number in range(4) for name in "ab"]
    assert [turn.seconds for turn in turns["a"]] == [12.0, 18.0, 24.0]
    ratio = price_ratio(turns["a"], turns["b"])
    assert (ratio.low, ratio.median, ratio.high) == (3.0, 3.0, 3.0)


@pytest.fixture(scope="module")
def arena() -> Arena:
    search = search_of("lols", roll_out={"policy": "learned"}, decisions={"per_sentence": 2, "k": 3})
    policy = new_policy()
    return Arena.open(search, policy, random_batch(policy, count=5))


def test_slow_decoding_is_obvious_decoding(arena: Arena) -> None:
    context, branches = arena.context, arena.branches
    for row, (tokens, length) in enumerate(zip(arena.finished.tolist(), arena.lengths.tolist(), strict=True)):
        sentence, position = int(branches.sentence[row]), int(branches.position[row])
        prefix = [*branches.tokens[sentence, :position].tolist(), int(branches.action[row])]
        limit = int(context.limits[sentence])
        assert tokens[:length] == finish(context.policy, source_of(context.batch, sentence), prefix, limit)


def test_engine_and_generate_do_the_same_work(arena: Arena) -> None:
    assert arena.agreement == 1.0
    assert arena.generated_alike(len(arena.outcome.decisions)) == 1.0
    assert arena.engine(0).work == len(arena.branches.sentence)
    everyone = len(arena.context.batch)
    assert arena.generate(0, everyone).work == len(arena.branches.sentence)


def test_generate_takes_no_beams(arena: Arena) -> None:
    decoder, rows = arena.context.policy.model.get_decoder(), []
    chosen = arena.branches.select((arena.state == 0).nonzero()[:, 0])
    hook = decoder.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    generate(arena.context, chosen)
    hook.remove()
    assert set(rows) == {len(chosen.sentence)}


def test_only_deviations_need_decoding(arena: Arena) -> None:
    needed, branches = arena.needed(), arena.branches
    fed = needed.branch_length - needed.branch_position - 1
    idle = branches.is_own() | (branches.action == arena.context.policy.eos)
    assert bool((fed[idle] == 0).all())
    assert torch.equal(fed[~idle], (arena.lengths - branches.position - 1)[~idle])
    assert needed.states.tolist() == [
        int((arena.outcome.decisions.sentence == row).sum()) for row in range(len(arena.context.batch))
    ]
    assert bool((needed.deepest <= needed.roll_in).all())
    sizes = arithmetic.Sizes.of(arena.context.policy.model)
    without = arithmetic.search_step(sizes, everywhere(needed))
    baseline = arithmetic.teacher_forcing(sizes, needed.source, needed.target)
    assert arithmetic.search_step(sizes, needed) > baseline
    assert without > baseline


@pytest.mark.parametrize("size", [10, 30])
def test_another_vocabulary_leaves_the_common_scores(size: int) -> None:
    policy = new_policy()
    policy.model.config.pad_token_id = policy.pad = policy.start = 3  # one that both vocabularies have
    policy.model.config.decoder_start_token_id = 3
    changed = with_vocabulary(policy, size).double().eval()
    tokens = torch.tensor([[4, 5, 6, 0]])
    with torch.no_grad():
        old, new = (p.score(p.encode(tokens, torch.ones_like(tokens)), tokens)[0] for p in (policy, changed))
    common = min(size, old.shape[1])
    assert new.shape[1] == size
    torch.testing.assert_close(new[:, :common], old[:, :common], atol=1e-5, rtol=1e-5)
    assert bool((new.argmax(1) < common).all())


def test_sections_share_the_time_out_and_leave_no_trace() -> None:
    class Work:
        def outer(self) -> int:
            return self.inner() + 1

        def inner(self) -> int:
            return 1

    before = dict(vars(Work))
    sections = Sections()
    with sections.watching([(Work, "outer", "outer"), (Work, "inner", "inner")], torch.nn.Identity()):
        assert Work().outer() == 2
        assert Work().inner() == 1
    assert {name: section.calls for name, section in sections.found.items()} == {"outer": 1, "inner": 2}
    assert all(section.seconds > 0 for section in sections.found.values())
    assert dict(vars(Work)) == before


@pytest.mark.slow
@pytest.mark.parametrize("script", ["benchmark_step.py", "profile_step.py"])
def test_quickly_from_end_to_end(script: str, tmp_path: Path) -> None:
    written = tmp_path / "written.json"
    option = "--json" if script.startswith("benchmark") else "--trace"
    command = [sys.executable, f"scripts/{script}", "--quick", option, str(written)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(written.read_text())
    if script.startswith("profile"):
        assert "roll-out: decoding" in done.stdout
        return
    assert found["ratios"].keys() == {
        "teacher_forcing_vs_seq2seq_trainer",
        "teacher_forcing_vs_seq2seq_trainer_keeping_memory",
        "reference_step_vs_teacher_forcing",
        "learned_step_vs_teacher_forcing",
        "roll_out_engine_vs_generate",
        "roll_out_engine_vs_flop_limit",
    }
    assert all(name in done.stdout for name in found["ratios"])
    assert all(ratio["measured"]["median"] > 0 for ratio in found["ratios"].values())
    assert found["checks"]["engine_agrees_with_slow_decoding"] > 0.95
    assert 0.75 < found["checks"]["seq2seq_trainer_tokens_to_ours"] < 1.3
    assert {line["axis"] for line in found["growth"]} == {"length", "candidates", "states", "vocabulary"}


@pytest.mark.slow
def test_scaling_quickly_from_end_to_end(tmp_path: Path) -> None:
    written = tmp_path / "written.json"
    options = ["--quick", "--rounds", "2", "--steps", "teacher_forcing", "lols", "--json", str(written)]
    command = [sys.executable, "scripts/benchmark_scaling.py", *options]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    steps = json.loads(written.read_text())["steps"]
    assert steps.keys() == {"teacher_forcing", "lols"}
    assert all(0 < figures["efficiency"]["median"] < 1.5 for figures in steps.values())
    assert steps["teacher_forcing"]["balance"] is None
    assert 0.5 < steps["lols"]["balance"]["median"] <= 1


@pytest.mark.slow
def test_sharing_quickly_from_end_to_end(tmp_path: Path) -> None:
    written = tmp_path / "written.json"
    command = [sys.executable, "scripts/benchmark_sharing.py", "--quick", "--json", str(written)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(written.read_text())
    assert found["apart_to_shared"]["median"] > 0
    assert found["limit"] >= 1
    assert "apart / shared" in done.stdout
