"""Aggregated data: what is kept comes back as it was, evenly drawn, bounded, and survives an interruption."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from l2s_nmt.data.batches import Batch
from l2s_nmt.errors import UserError
from l2s_nmt.model import Policy
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.search import Experience, Search
from l2s_nmt.training import aggregation
from l2s_nmt.training.aggregation import Aggregate
from l2s_nmt.training.objective import Counts, Losses, Watch
from tests.searches import search_of
from tests.tiny import random_batch, shared_policy
from tests.unit.training.sitting import BOTH, LIMITS, Sitting, Watched, same, weights

DAGGER = search_of("dagger")
AGGREVATED = search_of("aggrevated")
SHARED = replace(search_of("ocd"), samples=4)


@torch.no_grad()
def experience_of(search: Search = DAGGER, update: int = 0) -> Experience:
    return search(shared_policy(), random_batch(shared_policy(), 5, seed=3), Draws(1, update))


def equal(one: Experience, other: Experience) -> bool:
    return all(
        (a is None and b is None) or (a is not None and b is not None and torch.equal(a, b))
        for first, second in (
            (one.trajectories, other.trajectories),
            (one.decisions, other.decisions),
            (one.costs, other.costs),
        )
        for a, b in zip(vars(first).values(), vars(second).values(), strict=True)
    )


@pytest.mark.parametrize("search", [DAGGER, AGGREVATED, SHARED], ids=["dagger", "aggrevated", "shared"])
def test_what_comes_back_is_what_was_kept(search: Search, tmp_path: Path) -> None:
    aggregate = Aggregate(tmp_path / "aggregated", replay=1, capacity=10, seed=1, rank=0, processes=1)
    kept = experience_of(search)
    aggregate.add(0, 0, np.arange(5), kept)
    ((rows, back),) = aggregate.draw(1)
    assert rows.tolist() == [0, 1, 2, 3, 4]
    assert equal(back, kept)
    assert back.roll_outs == 0  # they are counted when they are made


def filled(folder: Path, updates: int, **settings: int) -> Aggregate:
    aggregate = Aggregate(
        folder, **{"replay": 1, "capacity": 1000, "seed": 1, "rank": 0, "processes": 1, **settings}
    )
    kept = experience_of()
    for update in range(updates):
        aggregate.add(update, 0, np.array([update] * 5), kept)
    return aggregate


def drawn(aggregate: Aggregate, update: int) -> list[int]:
    return [int(rows[0]) for rows, _ in aggregate.draw(update)]


def test_the_first_update_has_nothing_to_replay(tmp_path: Path) -> None:
    assert drawn(filled(tmp_path, 0), 0) == []


def test_all_that_is_kept_is_replayed_evenly(tmp_path: Path) -> None:
    # 4 updates are kept; each later "update" draws one of them.
    aggregate = filled(tmp_path, 40, capacity=4)
    counts: Counter[int] = Counter()
    for seed in range(400):
        counts.update(drawn(Aggregate(tmp_path, 1, 4, seed, 0, 1), 40))
    assert set(counts) == {36, 37, 38, 39}
    assert all(abs(count - 100) < 4 * 100**0.5 for count in counts.values())
    assert drawn(aggregate, 2) in ([0], [1])


def test_each_update_draws_anew_how_far_it_goes_back(tmp_path: Path) -> None:
    aggregate = filled(tmp_path, 60, capacity=4)
    assert {update - drawn(aggregate, update)[0] for update in range(4, 60)} == {1, 2, 3, 4}


def test_several_are_replayed_and_none_twice(tmp_path: Path) -> None:
    aggregate = filled(tmp_path, 30, replay=5)
    for update in range(5, 30):
        found = drawn(aggregate, update)
        assert len(found) == len(set(found)) == 5
        assert all(past < update for past in found)


def test_what_is_drawn_follows_from_seed_and_update(tmp_path: Path) -> None:
    first, again = filled(tmp_path, 20), Aggregate(tmp_path, 1, 1000, 1, 0, 1)
    assert [drawn(first, u) for u in range(1, 20)] == [drawn(again, u) for u in range(1, 20)]
    other = Aggregate(tmp_path, 1, 1000, 2, 0, 1)
    assert [drawn(first, u) for u in range(1, 20)] != [drawn(other, u) for u in range(1, 20)]


def test_going_on_forgets_what_will_be_made_again(tmp_path: Path) -> None:
    aggregate = filled(tmp_path, 10)
    for name in ("00000007-00000-00000.writing", "00000003-00000-00001.writing", ".tmp7liDuk"):
        (tmp_path / name).write_bytes(b"half")
    aggregate.resume(6)
    assert sorted(path.name[:8] for path in tmp_path.iterdir()) == [f"{u:08d}" for u in range(6)]


def test_an_interrupted_write_leaves_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(tensors: dict[str, torch.Tensor], path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    filled(tmp_path, 1)
    monkeypatch.setattr(aggregation, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        filled(tmp_path, 1)
    assert drawn(filled(tmp_path, 0), 1) == [0]


def test_old_ones_go_when_nothing_can_draw_them(tmp_path: Path) -> None:
    aggregate = filled(tmp_path, 10, capacity=3)
    before = [drawn(aggregate, update) for update in range(10, 20)][:1]
    aggregate.prune(10)
    assert sorted(int(path.name[:8]) for path in tmp_path.iterdir()) == [7, 8, 9]
    assert [drawn(aggregate, 10)] == before


def test_processes_share_the_files_of_an_update(tmp_path: Path) -> None:
    for rank in range(3):
        kept = experience_of(update=rank)
        Aggregate(tmp_path, 1, 10, 1, rank, 3).add(0, 0, np.array([rank] * 5), kept)
    assert [drawn(Aggregate(tmp_path, 1, 10, 1, rank, 3), 1) for rank in range(3)] == [[0], [1], [2]]
    # Nothing is lost or read twice when the run goes on with another number of processes.
    assert [drawn(Aggregate(tmp_path, 1, 10, 1, rank, 2), 1) for rank in range(2)] == [[0, 2], [1]]


def test_moving_to_a_device_keeps_everything() -> None:
    kept = experience_of(AGGREVATED)
    moved = kept.to(torch.device("cpu"))
    assert equal(moved, kept)
    assert moved.decisions.group is None
    grouped = replace(kept, decisions=replace(kept.decisions, group=kept.decisions.sentence))
    assert grouped.to(torch.device("cpu")).decisions.group is not None


@pytest.mark.parametrize("damage", [b"", b"scribble", None])
def test_a_damaged_file_is_named(damage: bytes | None, tmp_path: Path) -> None:
    aggregate = filled(tmp_path / "aggregated", 1)
    (path,) = (tmp_path / "aggregated").iterdir()
    path.write_bytes(path.read_bytes()[:-9] if damage is None else damage)
    with pytest.raises(UserError, match=f"{path.name}: damaged .*, or remove {tmp_path} to begin again"):
        aggregate.draw(1)


def test_what_is_watched_is_what_this_update_rolled_in(tmp_path: Path) -> None:
    """And not what policies did whose roll-ins are replayed; these are learned from all the same."""
    limits = replace(LIMITS, log_every=1)
    aggregate = Aggregate(tmp_path / "replays" / "aggregated", 3, 1000, 3, 0, 1)
    searched: list[Experience] = []

    def noted(policy: Policy, batch: Batch, draws: Draws, level: float) -> Experience:
        searched.append(AGGREVATED(policy, batch, draws, level))
        return searched[-1]

    sitting = Sitting(tmp_path / "replays", limits, Watched(noted), aggregate, BOTH)
    sitting.run()
    lines = sitting.lines_of("train")
    assert len(lines) == len(searched) > 4
    for line, experience in zip(lines, searched, strict=True):
        finished = float(experience.trajectories.finished.float().mean())
        assert line["finished"] == pytest.approx(finished, abs=1e-6)
    alone = Sitting(tmp_path / "alone", limits, AGGREVATED, None, BOTH)
    alone.run()
    assert not same(weights(sitting.policy), weights(alone.policy))


@dataclass
class Seen:
    """An objective that notes what it is asked."""

    calls: list[tuple[Batch, Experience | None, Counts]]

    def __call__(
        self,
        policy: Policy,
        batch: Batch,
        experience: Experience | None,
        counts: Counts,
        watch: Watch | None = None,
    ) -> tuple[torch.Tensor, Losses]:
        self.calls.append((batch, experience, counts))
        return BOTH(policy, batch, experience, counts, watch)


@pytest.mark.parametrize("samples", [1, 4])
def test_what_is_replayed_is_learned_from_with_its_own_sentences_and_counts(
    samples: int, tmp_path: Path
) -> None:
    seen, search = Seen([]), replace(AGGREVATED, samples=samples)
    aggregate = Aggregate(tmp_path / "run" / "aggregated", 1, 1000, 3, 0, 1)
    Sitting(tmp_path / "run", replace(LIMITS, max_updates=6), search, aggregate, seen).run()
    earlier, parts = [seen.calls[0]], seen.calls[1:]
    assert len(parts) == 2 * 5
    for new, old in zip(parts[::2], parts[1::2], strict=True):
        (kept,) = [call for call in earlier if torch.equal(call[0].rows, old[0].rows)]
        assert old[1] is not None
        assert kept[1] is not None
        assert new[1] is not None
        assert torch.equal(kept[1].trajectories.tokens, old[1].trajectories.tokens)
        assert new[2] == old[2]
        assert new[2].tokens == new[0].target_tokens + old[0].target_tokens
        assert new[2].states == new[1].decisions.total_visits() + old[1].decisions.total_visits()
        earlier.append(new)
