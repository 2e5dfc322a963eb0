"""A run directory with a damaged file in it is refused by every command, with the name of the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.helpers import command, done, tiny_recipe, write_recipe

Spoil = Callable[[Path], None]


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    recipe = write_recipe(folder / "recipe.yaml", tiny_recipe(corpus, training={"max_updates": 2}))
    done(command("train", recipe, "--output", folder / "run"))
    done(command("evaluate", folder / "run", "--beam", "1"))
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] + b"\n\t[")


def garbage(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\0garbage" * 20)


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def a_list(path: Path) -> None:
    path.write_text("[1, 2]\n")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def missing(path: Path) -> None:
    path.unlink()


def deep(path: Path) -> None:
    path.write_text("[" * 100_000)


DAMAGES = (torn, garbage, nothing, a_list, a_folder, missing, deep)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", ["recipe.yaml", "best/config.json", "best/model.safetensors"])
def test_what_a_model_needs(name: str, damage: Spoil, run: Path) -> None:
    damage(run / name)
    for name_of_command in ("translate", "evaluate", "compare"):
        message = command(name_of_command, run, stdin=b"ba\n").error()
        assert str(run) in message
        assert len(message) < 2_000


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", ["source.spm", "vocab.json", "tokenizer_config.json"])
def test_the_tokenizer(name: str, damage: Spoil, run: Path) -> None:
    damage(run / "best" / name)
    outcome = command("translate", run, stdin=b"ba ke\n\nmo\n")
    if outcome.status == 0:  # a tokenizer needs little of its configuration
        assert name == "tokenizer_config.json"
        assert outcome.out.count("\n") == 3
    else:
        assert str(run / "best") in outcome.error()


@pytest.mark.parametrize("damage", [*DAMAGES], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", ["metrics.jsonl", "scores/test.beam1.json", "translations/test.beam1.txt"])
def test_what_a_comparison_reads(name: str, damage: Spoil, run: Path) -> None:
    """A file that can be made again is made again; metrics cannot."""
    damage(run / name)
    outcome = command("compare", run, "--beam", "1", "--output", run.parent / "report")
    if outcome.status:
        assert str(run / name) in outcome.error()
    else:
        assert (run.parent / "report" / "comparison.html").is_file()
        if name != "metrics.jsonl":
            assert json.loads((run / "scores" / "test.beam1.json").read_text())["sentences"] == 30
            assert (run / "translations" / "test.beam1.txt").read_text().count("\n") == 30


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "null",
        '{"kind": "validation", "update": "x", "bleu": 1, "minutes": 1}',
        '{"kind": "validation", "update": 1e999, "bleu": 1, "minutes": 1}',
        '{"kind": "validation", "update": 1, "bleu": [], "minutes": 1}',
        '{"kind": "end", "update": 3, "minutes": "<script>"}',
        '{"kind": "end", "update": 3, "minutes": NaN}',
        '{"kind": "train", "update": 1' + "0" * 5_000 + "}",
    ],
)
def test_a_line_of_metrics_that_training_does_not_write(line: str, run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write(line + "\n" + '{"kind": "train", "update": 9, "loss": 1.0, "minutes": 1.0}\n')
    outcome = command("compare", run, "--beam", "1", "--output", run.parent / "report")
    if outcome.status:
        assert str(run / "metrics.jsonl") in outcome.error()
    else:
        page = (run.parent / "report" / "comparison.html").read_text()
        assert "<script>" not in page
        assert "NaN" not in (run.parent / "report" / "comparison.json").read_text()


def shrunk(run: Path) -> None:
    """Weights of other shapes than the configuration says."""
    tensors = load_file(run / "best" / "model.safetensors")
    save_file(
        {name: tensor[:1].clone() for name, tensor in tensors.items()}, run / "best" / "model.safetensors"
    )


def other_names(run: Path) -> None:
    tensors = load_file(run / "best" / "model.safetensors")
    save_file({f"x{name}": tensor for name, tensor in tensors.items()}, run / "best" / "model.safetensors")


def configure(**values: object) -> Spoil:
    def spoil(run: Path) -> None:
        path = run / "best" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        shrunk,
        other_names,
        configure(model_type="bert"),
        configure(model_type="no such"),
        configure(model_type=None),
        configure(model_type=["marian"]),
        configure(d_model="x"),
        configure(d_model=33),
        configure(d_model=0),
        configure(d_model=-4),
        configure(encoder_layers=10**9),
        configure(encoder_attention_heads=0),
        configure(activation_function="os.system"),
        configure(pad_token_id=10**6),
        configure(max_position_embeddings=None),
        configure(dtype="no such"),
    ],
)
def test_weights_and_configuration_that_do_not_fit(spoil: Spoil, run: Path) -> None:
    spoil(run)
    assert str(run / "best") in command("translate", run, stdin=b"ba ke\n").error()


def test_the_tokenizer_of_a_run_that_goes_on(run: Path) -> None:
    garbage(run / "tokenizer" / "source.spm")
    shutil.rmtree(run / "checkpoints")
    message = command("train", run / "recipe.yaml", "--output", run).error()
    assert str(run / "tokenizer") in message
