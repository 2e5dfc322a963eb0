from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from l2s_nmt.cli import main
from tests.helpers import ROOT, command, done, files_below, process, tiny_recipe, write_corpus, write_recipe
from tests.processes import copied

COMMANDS = ["train", "translate", "score", "evaluate", "compare", "explain", "export"]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "recipe.yaml", tiny_recipe(tmp_path / "corpus"))


@pytest.fixture
def untrained(tmp_path: Path) -> Path:
    """A run directory whose training has not begun."""
    write_recipe(tmp_path / "run" / "recipe.yaml", tiny_recipe(tmp_path / "corpus"))
    return tmp_path / "run"


# ---- a process of its own ------------------------------------------------------------------------


def test_help_is_everywhere_and_waits_for_no_heavy_library() -> None:
    code = (
        "import sys; from l2s_nmt.cli import main; sys.argv[1:] = sys.argv[1].split()\n"
        "try: main()\n"
        "finally: assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    )
    for arguments in ("--help", *(f"{name} --help" for name in COMMANDS)):
        found = subprocess.run(
            [sys.executable, "-c", code, arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "NO_COLOR": "1", "FORCE_COLOR": ""},
        )
        assert found.returncode == 0, found.stderr
        for word in COMMANDS if arguments == "--help" else ["Usage:", arguments.split()[0]]:
            assert word in found.stdout
        if arguments.startswith("train"):
            for option in ("--output", "--dry-run", "RECIPE.yaml", "[KEY.SUB=VALUE]..."):
                assert option in found.stdout


def test_without_a_command_the_help_is_shown() -> None:
    outcome = command()
    assert outcome.status == 2  # click's status for a missing command
    assert "Usage:" in outcome.out + outcome.err


def test_the_version_is_told() -> None:
    assert done(command("--version")).out == f"l2s-nmt {metadata.version('l2s-nmt')}\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_standard_output_is_no_crash() -> None:
    with Path("/dev/full").open("wb") as full:
        found = subprocess.run(
            [sys.executable, "-m", "l2s_nmt", "recipes"],
            stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False,
        )  # fmt: skip
    assert found.returncode == 1
    assert found.stderr == "error: standard output cannot be written: No space left on device\n"


def test_a_terminal_that_lacks_a_character_shows_another(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))
    monkeypatch.setattr(sys, "argv", ["l2s-nmt", "--version"])
    with pytest.raises(SystemExit):
        main()
    print("é \N{EN DASH} ½", flush=True)
    assert written.getvalue().decode("latin-1").splitlines()[-1] == "é ? ½"


def test_deepspeed_which_every_run_imports_where_it_is_installed_says_nothing_on_standard_output() -> None:
    its_logger = (  # as deepspeed/utils/logging.py makes it
        "import logging, sys; logger = logging.getLogger('DeepSpeed'); logger.setLevel('WARNING')\n"
        "logger.addHandler(logging.StreamHandler(sys.stdout)); logger.warning('Setting accelerator to CPU')"
    )
    code = "import sys; from l2s_nmt.cli import app, main; sys.argv[1:] = ['say']\ndef say(): exec(sys.stdin.read())\n"
    found = subprocess.run(
        [sys.executable, "-c", f"{code}app.command()(say); main()"],
        input=its_logger,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert (found.stdout, found.stderr) == ("", "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_crash(closed: str, recipe: Path) -> None:
    script = f'"$0" -m l2s_nmt "$@" {closed}'
    for arguments, status in ((["recipes"], 0), (["train", str(recipe), "a=b", "--output", "x"], 2)):
        found = subprocess.run(
            ["sh", "-c", script, sys.executable, *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT, check=False,
        )  # fmt: skip
        assert found.returncode == status, found.stderr
        assert "Traceback" not in found.stderr


def test_a_refused_recipe_ends_the_process_with_2_and_one_message(recipe: Path) -> None:
    outcome = process("train", recipe, "training.max_update=3", "--output", recipe.parent / "run")
    assert outcome.error().startswith(
        "error: override 'training.max_update=3': unknown key training.max_update; did you mean max_updates?"
    )
    assert outcome.out == ""
    assert not (recipe.parent / "run").exists()


def test_a_refused_run_ends_the_process_with_2_and_one_message(tmp_path: Path) -> None:
    outcome = copied("evaluate", tmp_path)
    assert outcome.error() == f"error: {tmp_path}: not a run directory (it has no recipe.yaml)\n"
    assert outcome.out == ""


def test_something_unforeseen_ends_the_process_with_1_and_a_traceback() -> None:
    code = (
        "import sys, l2s_nmt.recipe_file as r; from l2s_nmt.cli import main\n"
        "def fail(*_): raise RuntimeError('unforeseen')\n"
        "r.read_recipe = fail; sys.argv[1:] = ['train', 'x.yaml', '--dry-run']; main()"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 1
    assert "RuntimeError: unforeseen" in found.stderr


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["train"],
        ["train", "x.yaml", "--nonsense"],
        ["evaluate", "x", "--beam", "0"],
        ["compare"],
        ["explain"],
        ["explain", "run", "--index", "0"],
        ["explain", "run", "--candidates", "0"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    outcome = command(*arguments)
    assert outcome.status == 2
    assert "Usage:" in outcome.err
    assert "Traceback" not in outcome.err


def test_train_refuses_what_is_no_recipe(tmp_path: Path) -> None:
    for arguments, message in (
        (["none.yaml"], "error: none.yaml: no such recipe\n"),
        ([str(tmp_path)], f"error: {tmp_path}: is a folder; give a recipe file (.yaml)\n"),
    ):
        assert command("train", *arguments, "--output", tmp_path / "run").error() == message
        assert not (tmp_path / "run").exists()


def test_train_needs_to_know_where_the_run_goes(recipe: Path) -> None:
    assert "--output RUN" in command("train", recipe).error()


def test_train_refuses_a_missing_corpus_with_its_path(recipe: Path) -> None:
    message = command("train", recipe, "--output", recipe.parent / "run").error()
    assert message.startswith(f"error: {recipe.parent / 'corpus'}: there is no such folder")


def test_train_refuses_to_start_from_what_is_no_run(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    start = tiny_recipe(tmp_path / "corpus", model={"from_run": str(tmp_path / "none")})
    path = write_recipe(tmp_path / "recipe.yaml", start)
    message = command("train", path, "--output", tmp_path / "run").error()
    assert message == (
        f"error: {tmp_path / 'none'}: not a run directory (it has no recipe.yaml); there is nothing of that name: "
        "train it first, or name another\n"
    )


def test_train_refuses_a_place_that_is_no_folder(recipe: Path) -> None:
    assert f"{recipe}: cannot be written" in command("train", recipe, "--output", recipe).error()


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("evaluate", ()),
        ("translate", ()),
        ("watch", ()),
        ("explain", ()),
        ("score", ("x",)),
        ("export", ("-o", "x")),
    ],
)
def test_a_sentence_in_the_place_of_the_run_is_refused(name: str, rest: tuple[str, ...]) -> None:
    message = command(name, "a sentence " * 30, *rest).error()
    assert "not a run directory (it has no recipe.yaml); there is nothing of that name" in message


def test_a_name_that_is_too_long_is_refused() -> None:
    name = "n" * 300
    assert f"{name}: cannot be written" in command("recipes", "quickstart/aggrevated", "-o", name).error()


def test_the_home_folder_is_found_behind_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert command("recipes", "quickstart/aggrevated", "--output=~/mine.yaml").status == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_a_recipe_that_comes_with_the_project_is_named_with_its_suffix_or_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("quickstart/aggrevated", "quickstart/aggrevated.yaml"):
        assert (
            "l2s-nmt recipes quickstart/aggrevated -o my.yaml"
            in command("train", name, "--output", "r").error()
        )


@pytest.mark.parametrize("name", ["evaluate", "translate"])
def test_a_run_without_weights_is_refused(name: str, untrained: Path) -> None:
    assert f"error: {untrained}: no weights yet" in command(name, untrained).error()


def test_translate_refuses_text_that_cannot_be_read(untrained: Path, tmp_path: Path) -> None:
    message = command("translate", untrained, stdin=b"bad \xff\ngood\n").error()
    assert message == "error: standard input, line 1: not UTF-8 text; convert it first\n"
    (tmp_path / "text").write_bytes(b"\xfe")
    message = command("translate", untrained, "--input", tmp_path / "text").error()
    assert message == f"error: {tmp_path / 'text'}, line 1: not UTF-8 text; convert it first\n"
    message = command("translate", untrained, "--input", tmp_path / "none").error()
    assert message == f"error: {tmp_path / 'none'}: cannot be read: No such file or directory\n"
    assert "cannot be read" in command("translate", untrained, "--input", tmp_path).error()


@pytest.mark.parametrize("name", ["evaluate", "translate", "compare"])
@pytest.mark.parametrize("penalty", ["nan", "inf", "-inf"])
def test_a_length_penalty_is_a_number(name: str, penalty: str, untrained: Path) -> None:
    outcome = command(name, untrained, "--length-penalty", penalty)
    assert outcome.status == 2
    assert "--length-penalty" in outcome.err


# ---- comparing files -----------------------------------------------------------------------------


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder of sources, references and two systems' translations."""
    lines = {
        "source": ["ba ke mo lu"] * 4,
        "reference": ["fi gor te xa pil", "fi gor te xa du", "fi gor wes xa pil", "te gor te xa pil"],
        "good": ["fi gor te xa pil", "fi gor te xa du", "fi gor wes xa pil", "te gor te"],
        "bad": ["fi gor", "xa du", "", "te"],
        "short": ["fi gor te xa pil"],
    }
    for name, content in lines.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in content))
    return tmp_path


def test_files_of_translations_are_compared(texts: Path) -> None:
    given: list[str | Path] = [
        "--sources",
        texts / "source",
        "--references",
        texts / "reference",
        "--output",
        texts / "report",
    ]
    outcome = done(command("compare", texts / "bad", texts / "good", *given))
    found = json.loads((texts / "report" / "comparison.json").read_text())
    assert [system["name"] for system in found["systems"]] == ["bad", "good"]
    assert found["systems"][0]["p_value"] is None
    assert found["systems"][1]["bleu"] > found["systems"][0]["bleu"]
    assert files_below(texts / "report") == {
        f"comparison.{ending}" for ending in ("json", "md", "tex", "html")
    }
    assert f"{found['systems'][1]['bleu']:.2f}" in outcome.out
    assert found["signatures"]["bleu"] in outcome.out


def test_compare_refuses_what_does_not_belong_together(texts: Path) -> None:
    given: list[str | Path] = ["--sources", texts / "source", "--references", texts / "reference"]
    report: list[str | Path] = ["--output", texts / "report"]
    good = texts / "good"
    for arguments, message in (
        ([good], "without a run to take them from, give --sources FILE and --references FILE"),
        ([good, texts / "none", *given], f"{texts / 'none'}: no such run or file of translations"),
        ([good, good, *given], "the same system is given twice"),
        ([good, texts / "short", *given], "short: 1 translations of 4 sentences"),
        ([good, "--sources", texts / "short", "--references", texts / "reference"], "has 4 lines, but"),
        (
            [good, "--sources", texts / "none", "--references", texts / "reference"],
            f"{texts / 'none'}: no such",
        ),
        ([texts, *given], f"{texts}: not a run directory"),
    ):
        assert message in command("compare", *arguments, *report).error()
    (texts / "latin").write_bytes("fü\n".encode("latin-1") * 4)
    assert f"{texts / 'latin'}, line 1: not UTF-8 text" in command("compare", texts / "latin", *given).error()
    assert not (texts / "report").exists()


def test_systems_of_one_name_are_told_apart_by_their_folders(texts: Path) -> None:
    for folder, name in (("a", "good"), ("b", "bad")):
        (texts / folder).mkdir()
        (texts / name).rename(texts / folder / "out.txt")
    given: list[str | Path] = [
        "--sources",
        texts / "source",
        "--references",
        texts / "reference",
        "--output",
        texts / "report",
    ]
    done(command("compare", texts / "a" / "out.txt", texts / "b" / "out.txt", *given))
    found = json.loads((texts / "report" / "comparison.json").read_text())
    assert [system["name"] for system in found["systems"]] == ["a/out.txt", "b/out.txt"]


def test_a_report_that_cannot_be_written_is_refused(texts: Path) -> None:
    given: list[str | Path] = ["--sources", texts / "source", "--references", texts / "reference"]
    message = command("compare", texts / "good", *given, "--output", texts / "bad").error()
    assert message.startswith(f"error: {texts / 'bad'}: cannot be written: ")
