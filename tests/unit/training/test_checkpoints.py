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
    random_state,
    read_state,
    restore_random_state,
    save_checkpoint,
    seed_everything,
)
from tests.tiny import new_policy, random_batch

Parts = tuple[Policy, Averager, torch.optim.Optimizer]
FILES = [
    "average.safetensors",
    "model.safetensors",
    "optimizer.pt",
    "random-0.pt",
    "random-1.pt",
    "state.json",
]


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
    states = [
        {"torch": torch.tensor([rank], dtype=torch.uint8), "sums": {"loss": rank + 0.5}} for rank in (0, 1)
    ]
    return save_checkpoint(
        folder, progress, 100 + update, policy, averager, {"optimizer": optimizer.state_dict()}, states
    )


def weights(policy: Policy) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in policy.state_dict().items()}


def test_everything_comes_back(tmp_path: Path) -> None:
    before = trained()
    path = save(tmp_path, 7, before)
    assert sorted(file.name for file in path.iterdir()) == FILES
    policy, averager, optimizer = parts()
    loaded, random = load_checkpoint(path, policy, averager, rank=1)
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
    assert random == {"torch": torch.tensor([1], dtype=torch.uint8), "sums": {"loss": 1.5}}
    progress, size = read_state(path)
    assert size == 107
    assert progress == Progress(7, 2, 5, 70, 9, 3.25, 12.5, 4, 1, 2, finished=False)


def test_a_process_that_was_not_there_has_no_random_state(tmp_path: Path) -> None:
    path = save(tmp_path, 1, trained())
    policy, averager, _ = parts()
    assert load_checkpoint(path, policy, averager, rank=2)[1] is None


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
    load_checkpoint(path, policy, averager, rank=0)
    assert averager.updates == 2
    assert len(list_checkpoints(tmp_path)) == 1


@pytest.mark.parametrize("failing", ["save_model", "save_file", "write_json"])
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


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("state.json", "random-1.pt")])
@pytest.mark.parametrize("damage", [b"", b"scribble", None])
def test_a_damaged_checkpoint_is_refused(name: str, damage: bytes | None, tmp_path: Path) -> None:
    path = save(tmp_path, 4, trained())
    file = path / name
    if damage is None:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    else:
        file.write_bytes(damage)
    policy, averager, _ = parts()
    with pytest.raises(
        UserError, match=r"update-00000004: damaged .*; remove it to go on from the one before"
    ):
        load_checkpoint(path, policy, averager, rank=0)


@pytest.mark.parametrize("name", ["average.safetensors", "model.safetensors", "optimizer.pt"])
def test_a_checkpoint_without_one_of_its_files_is_refused(name: str, tmp_path: Path) -> None:
    path = save(tmp_path, 4, trained())
    (path / name).unlink()
    policy, averager, _ = parts()
    with pytest.raises(UserError, match="damaged"):
        load_checkpoint(path, policy, averager, rank=0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"progress": {}}',
        '{"progress": {"unheard": 1}, "metrics_bytes": 1}',
        '{"progress": 3, "metrics_bytes": 1}',
        '{"progress": {}, "metrics_bytes": null}',
        None,
    ],
)
def test_a_damaged_state_is_refused(text: str | None, tmp_path: Path) -> None:
    path = save(tmp_path, 4, trained())
    if text is None:
        (path / "state.json").unlink()
    else:
        (path / "state.json").write_text(text)
    with pytest.raises(UserError, match=r"update-00000004: damaged .*; remove it"):
        read_state(path)


def test_a_state_is_plain_json(tmp_path: Path) -> None:
    state = json.loads((save(tmp_path, 5, trained()) / "state.json").read_text())
    assert state["metrics_bytes"] == 105
    assert state["progress"]["update"] == 5
    assert state["progress"]["seconds"] == 3.25


def test_the_random_state_comes_back() -> None:
    torch.rand(3)
    state = random_state()
    drawn = torch.rand(5)
    restore_random_state(state)
    assert torch.equal(torch.rand(5), drawn)


def test_processes_draw_different_numbers_that_follow_from_the_seed() -> None:
    def drawn(seed: int, rank: int) -> list[float]:
        seed_everything(seed, rank)
        numbers: list[float] = torch.rand(4).tolist()
        return numbers

    assert drawn(1, 0) == drawn(1, 0)
    assert len({tuple(drawn(seed, rank)) for seed in (1, 2) for rank in (0, 1)}) == 4
