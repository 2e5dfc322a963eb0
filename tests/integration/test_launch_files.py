"""The configurations in recipes/accelerate, as accelerate itself reads them, and the batch script of the README."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from l2s_nmt.training import zero
from l2s_nmt.training.sharding import wanted
from tests.helpers import PATIENCE, ROOT, read_lines, tiny_recipe, without_times, write_recipe
from tests.same_training import assert_same_training

FOLDER = ROOT / "recipes" / "accelerate"
FILES = {path.name: path for path in FOLDER.glob("*.yaml")}
README = (ROOT / "README.md").read_text(encoding="utf-8")
BATCH_SCRIPT = next(
    block for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) if "#SBATCH" in block
)


def test_every_file_is_described_and_no_other() -> None:
    listed = re.findall(r"\| `(\w+\.yaml)` \|", (FOLDER / "README.md").read_text())
    assert sorted(listed) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
def test_accelerate_takes_the_file_as_it_is(name: str) -> None:
    config: Any = load_config_from_file(str(FILES[name]))  # refuses keys that it does not know
    kinds = {"one_gpu.yaml": "NO", "fsdp.yaml": "FSDP", "deepspeed.yaml": "DEEPSPEED"}
    assert config.distributed_type == kinds.get(name, "MULTI_GPU")
    assert not config.use_cpu
    args, _, _ = _validate_launch_command(arguments(name))
    assert args.num_processes == config.num_processes
    assert (args.multi_gpu, args.use_fsdp) == (kinds.get(name) is None, name == "fsdp.yaml")
    assert args.use_deepspeed == (name == "deepspeed.yaml")
    assert args.num_machines == (2 if name == "several_nodes.yaml" else 1)


def arguments(name: str, *options: str) -> Any:
    return launch_command_parser().parse_args(
        ["--config_file", str(FILES[name]), *options, "-m", "l2s_nmt", "train"]
    )


def test_the_command_line_comes_first() -> None:
    args, _, _ = _validate_launch_command(arguments("several_gpus.yaml", "--num_processes", "3"))
    assert args.num_processes == 3


def test_what_the_file_says_of_sharding_is_what_works_here(monkeypatch: pytest.MonkeyPatch) -> None:
    args, _, _ = _validate_launch_command(arguments("fsdp.yaml"))
    for variable, value in prepare_multi_gpu_env(args).items():
        monkeypatch.setenv(variable, value)
    assert wanted() is not None


def test_what_the_file_says_of_zero_is_what_works_here(monkeypatch: pytest.MonkeyPatch) -> None:
    args, _, _ = _validate_launch_command(arguments("deepspeed.yaml", "--main_process_port", "0"))
    args.deepspeed_fields_from_accelerate_config = (
        ""  # set on the way, and used by accelerate's own part alone
    )
    for variable, value in prepare_deepspeed_cmd_env(args)[1].items():
        monkeypatch.setenv(variable, value)
    assert zero.wanted() == 2


def test_a_script_under_the_launcher_trains_again_and_again(corpus: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny_recipe(corpus, training={"max_updates": 2}))
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, l2s_nmt\n"
        "recipe = l2s_nmt.read_recipe(sys.argv[1])\n"
        "for name in 'abc':\n"
        "    l2s_nmt.train(recipe, f'{sys.argv[2]}/{name}')\n"
    )
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(FILES["several_cpus.yaml"]),
    ]
    ended = subprocess.run(
        [*launch, "--num_processes", "2", "--main_process_port", "0", script, recipe, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 0, ended.stderr
    first, *others = (without_times(read_lines(tmp_path / name / "metrics.jsonl")) for name in "abc")
    assert others == [first, first]


@pytest.mark.slow
def test_the_batch_script_starts_the_launcher_on_each_machine(whole: Any, tmp_path: Path) -> None:
    """Two machines that are both this one, with one GPU each that is none."""
    path, run = whole("aggrevated", 256)
    script = BATCH_SCRIPT.replace("recipes/multi30k_de_en/aggrevated.yaml", str(path))
    script = script.replace("runs/multi30k_de_en/aggrevated", str(tmp_path / "run"))
    assert script.count(str(tmp_path / "run")) == 1
    commands = {
        "scontrol": 'test "$*" = "show hostnames two-machines" && echo 127.0.0.1 && echo 127.0.0.2',
        "srun": 'for node in 0 1; do SLURM_NODEID=$node "$@" & nodes="$nodes $!"; done\n'
        "for node in $nodes; do wait $node || exit 1; done",
    }
    for name, body in commands.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    given = {
        "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "two-machines",
        "SLURM_JOB_ID": str(random.randrange(10**6)),
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "1",
        "PYTHONPATH": str(ROOT),
    }
    ended = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=ROOT,
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 0, ended.stderr
    assert_same_training(run, tmp_path / "run")
