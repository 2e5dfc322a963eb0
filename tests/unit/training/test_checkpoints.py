"""Checkpoints: everything comes back, two are kept, and none is ever half written or half believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import backward

from l2s_nmt.errors import UserError
from l2s_nmt.model import Policy
from l2s_nmt.training import checkpoints
from l2s_nmt.training.averaging import Averager
from l2s_nmt.training.checkpoints import (
    Progress,
    list_checkpoints,
    load_checkpoint,
    newest_whole,
    read_state,
    save_checkpoint,
    seed_update,
)
from l2s_nmt.training.metrics import Mark
from l2s_nmt.training.sharding import weights_of
from tests.tiny import new_policy, random_batch

Parts = tuple[Policy, Averager, torch.optim.Optimizer]
FILES = [
    "average.safetensors",
    "checksums.json",
    "model.safetensors",
    "optimizer.pt",
    "state.json",
    "sums.pt",
]
SUMS: list[checkpoints.Sums] = [{"loss": torch.tensor(0.5)}, {"loss": 1.5, "tokens": 3.0}]


def parts() -> Parts:
    policy = new_policy()
    averager = Averager(policy, "ema", 0.9, 3)
    return policy, averager, torch.optim.AdamW(policy.parameters(), lr=0.01)


def trained() -> Parts:
    policy, averager, optimizer = parts()
    batch = random_batch(policy, 3)
    for _ in range(2):
        backward(policy.score(policy.encode(batch.source, batch.source_mask), batch.target).sum())
        optimizer.step()
        averager.after_update()
    return policy, averager, optimizer


def save(folder: Path, update: int, given: Parts) -> Path:
    policy, averager, optimizer = given
    progress = Progress(update=update, epoch=2, batch=5, sentences=70, roll_outs=9, seconds=3.25, best_bleu=12.5,
                        best_update=4, failures=1, skipped=2)  # fmt: skip
    state = {"optimizer": optimizer.state_dict()}
    return save_checkpoint(
        folder, progress, Mark(100 + update), weights_of(policy), averager.state(), state, SUMS
    )


def weights(policy: Policy) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in policy.state_dict().items()}


def test_everything_comes_back(tmp_path: Path) -> None:
    before = trained()
    path = save(tmp_path, 7, before)
    assert sorted(file.name for file in path.iterdir()) == FILES
    policy, averager, optimizer = parts()
    loaded, sums = load_checkpoint(path, policy, averager)
    optimizer.load_state_dict(loaded["optimizer"])

    expected = weights(before[0])
    found = weights(policy)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    with before[1].applied(), averager.applied():
        assert all(
            torch.equal(a, b) for a, b in zip(before[0].parameters(), policy.parameters(), strict=True)
        )
    assert averager.updates == 2
    ours, theirs = optimizer.state_dict()["state"], before[2].state_dict()["state"]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k][name], theirs[k][name]) for k in theirs for name in theirs[k])
    assert sums == SUMS
    progress, mark = read_state(path)
    assert mark == Mark(107)
    assert progress == Progress(7, 2, 0, 5, 70, 9, 3.25, 12.5, 4, 1, 2, finished=False)


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    given = trained()
    assert list_checkpoints(tmp_path / "none") == []
    for update in (2, 900, 1_000, 99_999_999):
        save(tmp_path, update, given)
    names = [path.name for path in list_checkpoints(tmp_path)]
    assert names == ["update-00001000", "update-99999999"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_saving_the_same_update_again_replaces_it(tmp_path: Path) -> None:
    save(tmp_path, 3, parts())
    path = save(tmp_path, 3, trained())
    policy, averager, _ = parts()
    load_checkpoint(path, policy, averager)
    assert averager.updates == 2
    assert len(list_checkpoints(tmp_path)) == 1


@pytest.mark.parametrize("failing", ["save_file", "write_json"])
def test_an_interrupted_write_leaves_the_checkpoints_as_they_were(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = trained()
    for update in (1, 2):
        save(tmp_path, update, given)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    for update in (2, 3):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, failing, interrupted)
            with pytest.raises(KeyboardInterrupt):
                save(tmp_path, update, given)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["update-00000001", "update-00000002"]


def test_what_a_crash_left_half_written_is_no_checkpoint(tmp_path: Path) -> None:
    path = save(tmp_path, 1, trained())
    half = tmp_path / ".update-00000002.new"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    assert list_checkpoints(tmp_path) == [path]
    newer = save(tmp_path, 2, trained())
    assert list_checkpoints(tmp_path) == [path, newer]
    assert not half.exists()


def damaged(path: Path, damage: str) -> None:
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "one bit"])
def test_the_one_before_a_damaged_checkpoint_is_used(name: str, damage: str, tmp_path: Path) -> None:
    given = trained()
    older, newer = save(tmp_path, 3, given), save(tmp_path, 4, given)
    said: list[str] = []
    assert newest_whole(tmp_path, said.append) == newer
    assert not said
    damaged(newer / name, damage)
    assert newest_whole(tmp_path, said.append) == older
    assert len(said) == 1
    assert f"{newer}: damaged ({'' if name == 'checksums.json' or damage == 'missing' else name}" in said[0]
    assert list_checkpoints(tmp_path) == [older]
    assert (tmp_path / "damaged-update-00000004").is_dir()
    assert newest_whole(tmp_path, said.append) == older
    assert len(said) == 1
    damaged(older / name, damage)
    for _ in range(2):  # and not silently from the beginning
        with pytest.raises(UserError, match=r"every checkpoint is damaged; .*metrics\.jsonl to begin again"):
            newest_whole(tmp_path, said.append)


def test_where_no_checkpoint_ever_was_there_is_none(tmp_path: Path) -> None:
    assert newest_whole(tmp_path, pytest.fail) is None
    assert newest_whole(tmp_path / "none", pytest.fail) is None


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"progress": {"unheard": 1}, "metrics": {"size": 1}}',
        '{"progress": {}, "metrics": null}',
    ],
)
def test_a_state_of_another_version_is_refused(text: str, tmp_path: Path) -> None:
    path = save(tmp_path, 4, trained())
    (path / "state.json").write_text(text)
    with pytest.raises(UserError, match=r"update-00000004: cannot be taken up .* by another version"):
        read_state(path)


@pytest.mark.parametrize("name", ["average.safetensors", "model.safetensors", "optimizer.pt", "sums.pt"])
def test_a_checkpoint_of_another_version_is_refused(name: str, tmp_path: Path) -> None:
    path = save(tmp_path, 4, trained())
    (path / name).write_bytes(b"something else")
    policy, averager, _ = parts()
    with pytest.raises(UserError, match=r"update-00000004: cannot be taken up .* by another version"):
        load_checkpoint(path, policy, averager)


def test_a_state_is_plain_json(tmp_path: Path) -> None:
    state = json.loads((save(tmp_path, 5, trained()) / "state.json").read_text())
    assert state["metrics"] == {"size": 105, "end": ""}
    assert state["progress"]["update"] == 5
    assert state["progress"]["seconds"] == 3.25


def test_every_update_and_process_draws_other_numbers_which_follow_from_the_seed() -> None:
    def drawn(seed: int, update: int, rank: int) -> tuple[float, ...]:
        seed_update(seed, update, rank)
        return tuple(torch.rand(4).tolist())

    every = [(seed, update, rank) for seed in (0, 1) for update in (0, 1, 2) for rank in (0, 1, 2)]
    first = [drawn(*which) for which in every]
    assert [drawn(*which) for which in every] == first
    assert len(set(first)) == len(every)
