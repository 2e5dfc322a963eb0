"""The command that writes models for CTranslate2 and pushes them to the hub; the hub is a stand-in."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from transformers import T5Config, T5ForConditionalGeneration

from l2s_nmt.export import check as checking
from l2s_nmt.export import hub
from tests.helpers import (
    PATIENCE,
    ROOT,
    command,
    done,
    environment,
    files_below,
    process,
    tiny_recipe,
    write_recipe,
)

CONVERTED = {
    "README.md",
    "config.json",
    "model.bin",
    "source.spm",
    "target.spm",
    "tokenizer_config.json",
    "vocab.json",
}


def trained(corpus: Path, folder: Path, **sections: dict[str, Any]) -> Path:
    """A run with more than one thing to say, and sure of it: between two that are as good, rounding would decide."""
    settings: dict[str, dict[str, Any]] = {
        "training": {"max_updates": 1000},
        "evaluation": {"beam": 4, "max_length": 12, "length_penalty": 0.6},
    }
    recipe = tiny_recipe(corpus, **(settings | sections))
    recipe["training"] |= {"batch_tokens": 256, "learning_rate": 0.01, "warmup_updates": 5}
    done(command("train", write_recipe(folder / "recipe.yaml", recipe), "--output", folder / "run"))
    return folder / "run"


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(corpus, tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    pytest.importorskip("ctranslate2")
    outcome = done(process("export", run, "--output", run.parent / "exported"))
    assert re.search(
        r"exported, float32; test, 30 sentences, 30 translated as by the run\n"
        r"  run       BLEU (\S+)  \S+ sentences/s on cpu  nrefs:1.*\n"
        r"  exported  BLEU \1  \S+ sentences/s on cpu  nrefs:1",
        outcome.out,
    )
    assert outcome.err == ""
    return run.parent / "exported"


def snippet(readme: Path, texts: Sequence[str], folder: Path) -> list[str]:
    """What the code of the page writes, in an interpreter that knows nothing of this project."""
    (code,) = re.findall(r"```python\n(.*?)```", readme.read_text(), re.DOTALL)
    assert "l2s_nmt" not in code
    code = code.replace('"FOLDER"', repr(str(folder))).replace('["..."]', repr(list(texts)))
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment(folder.parent),
        timeout=PATIENCE,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()


def test_the_page_says_how_to_get_the_run_s_translations(run: Path, exported: Path, corpus: Path) -> None:
    assert files_below(exported) >= CONVERTED
    sources = (corpus / "test.xa").read_text().splitlines()[:12]
    expected = done(command("translate", run, stdin="\n".join(sources).encode())).out.splitlines()
    assert len(set(expected)) > 4, "else it would prove little"
    assert snippet(exported / "README.md", sources, exported) == expected
    page = (exported / "README.md").read_text()
    for part in (
        "cut after 12 tokens",
        "more\n  than 64 tokens",
        "`</s>`",
        "xa to xb",
        "30 of the translations",
    ):
        assert part in page


def test_two_vocabularies_and_greedy_search(corpus: Path, tmp_path: Path) -> None:
    separate = {"joint": False, "vocabulary": 50, "algorithm": "bpe", "byte_fallback": False}
    settings: dict[str, dict[str, Any]] = {
        "evaluation": {"beam": 1, "max_length": 15},
        "training": {"max_updates": 60},
    }
    run = trained(corpus, tmp_path, tokenizer=separate, **settings)
    pytest.importorskip("ctranslate2")
    outcome = done(command("export", run, "--output", tmp_path / "out", "--split", "valid"))
    assert "valid, 20 sentences, 20 translated as by the run" in outcome.out
    sources = (corpus / "test.xa").read_text().splitlines()[:5]
    expected = done(command("translate", run, stdin="\n".join(sources).encode())).out.splitlines()
    assert snippet(tmp_path / "out" / "README.md", sources, tmp_path / "out") == expected


def test_rounded_weights_are_smaller_and_leave_the_run_alone(
    run: Path, exported: Path, tmp_path: Path
) -> None:
    before = (run / "best" / "model.safetensors").read_bytes()
    outcome = done(command("export", run, "--output", tmp_path / "out", "--quantization", "int8"))
    sizes = [(folder / "model.bin").stat().st_size for folder in (tmp_path / "out", exported)]
    assert sizes[0] < 0.6 * sizes[1]
    assert (run / "best" / "model.safetensors").read_bytes() == before
    both = re.findall(r"BLEU (\S+) ", outcome.out)
    assert both[0] == re.findall(r"BLEU (\S+) ", done(command("evaluate", run)).out)[0]


def test_the_command_of_the_readme(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2")
    (line,) = re.findall(
        r"^l2s-nmt export .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    places = {"runs/quickstart/search": run, "my/model": tmp_path / "out"}
    done(command(*(places.get(argument, argument) for argument in shlex.split(line)[1:])))
    assert files_below(tmp_path / "out") >= CONVERTED


@pytest.fixture
def spoilt(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every exported model knows the references, and the run does not."""
    references = (corpus / "test.xb").read_text().splitlines()
    monkeypatch.setattr(checking.Exported, "__call__", lambda exported, sources: references)


@pytest.mark.usefixtures("spoilt")
def test_a_model_that_is_not_equal_is_not_exported(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2")
    outcome = command("export", run, "--output", tmp_path / "out")
    assert outcome.status == 1
    refused = re.search(
        r"error: \S+/out: not exported: on .* the run has (\S+) BLEU and the exported model .* apart, and \d+ of 30 "
        r"translations are the same\n$",
        outcome.err,
    )
    assert refused
    assert not list(tmp_path.iterdir())
    outcome = done(command("export", run, "--output", tmp_path / "out", "--quantization", "int16"))
    warned = re.search(
        r"warning: with weights of int16 BLEU is \+([0-9.]*[0-9]) from that of the run", outcome.err
    )
    assert warned
    assert float(warned[1]) == pytest.approx(100 - float(refused[1]), abs=0.011)


# ---- what is refused -----------------------------------------------------------------------------


def test_what_makes_no_sense_is_refused_in_a_line(run: Path, exported: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "mine").write_text("dear to me")
    refused: list[tuple[list[str | Path], str]] = [
        ([tmp_path, "--output", tmp_path / "out"], f"{tmp_path}: not a run directory"),
        ([run], "--output DIR for CTranslate2, --push-to-hub REPO, or both"),
        ([run, "--output", there], f"{there}: is there already; choose another --output"),
        ([run, "--output", there / "mine"], f"{there / 'mine'}: is there already; choose another --output"),
        ([run, "--output", there / "mine" / "out"], f"{there / 'mine' / 'out'}: cannot be written: "),
        ([run, "--output", tmp_path / "out", "--private"], "--private is of --push-to-hub"),
        ([run, "--push-to-hub", "me/it", "--split", "valid"], "give --output DIR"),
        ([run, "--push-to-hub", "me/it", "--quantization", "int8"], "give --output DIR"),
        ([run, "--output", tmp_path / "out", "--split", "none"], "none"),
        ([run, "--output", tmp_path / "out", "--weights", "average"], "no weights yet"),
    ]
    for arguments, message in refused:
        outcome = command("export", *arguments)
        assert message in outcome.error()
        assert outcome.out == ""
    assert files_below(tmp_path) == {"there/mine"}


def test_another_architecture_is_refused_with_what_may_work(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2")
    other = shutil.copytree(run, tmp_path / "run")
    config = T5Config(
        vocab_size=80, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, pad_token_id=0, eos_token_id=1,
        decoder_start_token_id=0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(other / "best")
    message = command("export", other, "--output", tmp_path / "out").error()
    assert "the model is a T5ForConditionalGeneration; only Marian's" in message
    assert not (tmp_path / "out").exists()


def test_without_ctranslate2_it_says_what_to_install(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    message = command("export", run, "--output", tmp_path / "out").error()
    assert "needs CTranslate2" in message
    assert "pip install 'l2s-nmt[export]'" in message
    assert not (tmp_path / "out").exists()


# ---- the hub -------------------------------------------------------------------------------------


@dataclass
class Hub:
    """A stand-in for the hub: one repository, and what was asked of it."""

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    public: bool = False
    """The repository was there before, and public."""
    refuses: Exception | None = None

    def create_repo(self, name: str, *, private: bool | None, exist_ok: bool) -> Any:
        self.asked.append(f"create {name} {private} {exist_ok}")
        if self.refuses:
            raise self.refuses
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{name if '/' in name else f'me/{name}'}")

    def model_info(self, name: str) -> Any:
        return SimpleNamespace(id=name, private=not self.public)

    def create_commit(self, name: str, operations: Sequence[Any], *, commit_message: str) -> None:
        self.asked.append(f"commit {name}")
        for operation in operations:
            with operation.as_file() as file:
                self.files[operation.path_in_repo] = file.read()


@pytest.fixture
def the_hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Of somebody who is logged in, and online."""
    there = Hub()
    monkeypatch.setattr(hub, "HfApi", lambda: there)
    monkeypatch.setattr(hub, "get_token", lambda: "secret")
    monkeypatch.setattr(hub, "is_offline_mode", lambda: False)
    return there


def test_weights_tokenizer_and_card_are_uploaded(run: Path, the_hub: Hub, tmp_path: Path) -> None:
    done(command("evaluate", run))
    outcome = done(command("export", run, "--push-to-hub", "it"))
    assert outcome.out == "uploaded: https://huggingface.co/me/it\n"
    assert the_hub.asked == ["create it None True", "commit me/it"]
    assert set(the_hub.files) == files_below(run / "best") | {"README.md"}
    assert the_hub.files["model.safetensors"] == (run / "best" / "model.safetensors").read_bytes()
    assert b"## Scores" in the_hub.files["README.md"]
    assert json.loads(the_hub.files["config.json"])["model_type"] == "marian"


def test_an_export_goes_with_them(run: Path, the_hub: Hub, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2")
    done(command("export", run, "--output", tmp_path / "out", "--push-to-hub", "us/it", "--private"))
    assert the_hub.asked == ["create us/it True True", "commit us/it"]
    places = {f"ctranslate2/{name}" for name in files_below(tmp_path / "out")}
    assert set(the_hub.files) == files_below(run / "best") | {"README.md"} | places
    assert the_hub.files["ctranslate2/model.bin"] == (tmp_path / "out" / "model.bin").read_bytes()


@pytest.mark.usefixtures("spoilt")
def test_nothing_is_uploaded_that_is_not_equal(run: Path, the_hub: Hub, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2")
    assert command("export", run, "--output", tmp_path / "out", "--push-to-hub", "us/it").status == 1
    assert the_hub.files == {}


def test_what_shall_be_private_does_not_become_public(run: Path, the_hub: Hub) -> None:
    the_hub.public = True
    message = command("export", run, "--push-to-hub", "us/it", "--private").error()
    assert "us/it: is there already, and public" in message
    assert the_hub.files == {}


def test_a_hub_that_refuses_is_told_in_a_line(run: Path, the_hub: Hub) -> None:
    the_hub.refuses = ConnectionError("no route\nto host")
    message = command("export", run, "--push-to-hub", "us/it").error()
    assert message == "error: --push-to-hub us/it: nothing was uploaded: no route to host\n"


@pytest.mark.parametrize(
    ("said", "told"),
    [  # as the hub's client words its answers
        (
            "(Request ID: Root=1)\n\n403 Forbidden: None.\nCannot access content at: https://hub/api.\nMake sure your "
            'token has the correct permissions.\nYou may not write under the namespace "us"',
            "403 Forbidden: None. Cannot access content at: https://hub/api. Make sure your token has the correct "
            'permissions. You may not write under the namespace "us"',
        ),
        ("Bad request:\nInvalid metadata", "Bad request: Invalid metadata"),
        (
            "Client error '401 Unauthorized' for url 'https://hub/api'\nFor more information check: https://web/401\n\n"
            "Invalid credentials in Authorization header",
            "Client error '401 Unauthorized' for url 'https://hub/api' Invalid credentials in Authorization header",
        ),
        ("", "OSError"),
    ],
)
def test_what_the_hub_says_is_told(said: str, told: str, run: Path, the_hub: Hub) -> None:
    the_hub.refuses = OSError(said)
    message = command("export", run, "--push-to-hub", "us/it").error()
    assert message == f"error: --push-to-hub us/it: nothing was uploaded: {told}\n"


def test_of_few_sentences_one_may_differ(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A beam that rounding led another way is half a point of BLEU, and no worse for that."""
    pytest.importorskip("ctranslate2")
    translate = checking.Exported.__call__

    def other_way(exported: Any, sources: Sequence[str]) -> list[str]:
        return ["another", *translate(exported, sources)[1:]]

    monkeypatch.setattr(checking.Exported, "__call__", other_way)
    assert command("export", run, "--output", tmp_path / "out").status == 1, "one of thirty is more than 2 %"
    monkeypatch.setattr(checking, "FEW", 1 / 30)
    assert (
        "30 sentences, 29 translated as by the run"
        in done(command("export", run, "--output", tmp_path / "out")).out
    )


def test_the_folder_that_one_is_in_is_refused_and_a_link_is_followed(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ctranslate2")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    message = command("export", run, "--output", ".").error()
    assert (
        message
        == f"error: {tmp_path / 'here'}: is the folder that you are in; name a new one with --output\n"
    )
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    done(command("export", run, "--output", tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert files_below(tmp_path / "there") >= CONVERTED
    assert {path.name for path in tmp_path.iterdir()} == {"here", "link", "there"}


def test_without_a_token_or_a_connection_nobody_is_asked(
    run: Path, the_hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "get_token", lambda: None)
    assert (
        "no token of the Hugging Face hub; log in by" in command("export", run, "--push-to-hub", "it").error()
    )
    monkeypatch.setattr(hub, "is_offline_mode", lambda: True)
    assert "HF_HUB_OFFLINE is set" in command("export", run, "--push-to-hub", "it").error()
    assert the_hub.asked == []
