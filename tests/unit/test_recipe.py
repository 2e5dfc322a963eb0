from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from l2s_nmt.errors import UserError
from l2s_nmt.recipe_file import (
    as_settings,
    dump_recipe,
    make_recipe,
    parse_overrides,
    put_over,
    read_recipe,
    with_absolute_paths,
)
from l2s_nmt.search.algorithms import ALGORITHMS
from tests.helpers import ROOT
from tests.searches import recipe_of

SHIPPED = sorted(
    p for p in (ROOT / "recipes").rglob("*.yaml") if p.parent.name not in {"accelerate", "experiments"}
)
DATA = {"files": "corpus", "source_language": "de", "target_language": "en"}
TEXT = """\
# a comment
data:
  files: corpus
  source_language: de
  target_language: en
model:
  architecture: {d_model: 64, heads: 4}
search:
  algorithm: lols
training:
  max_updates: 100
  learning_rate: 1e-4
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(TEXT)
    return path


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        read_recipe(path, overrides)
    return str(caught.value)


def refused_text(path: Path, text: str | bytes) -> str:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return refused(path)


# ---- what is read --------------------------------------------------------------------------------


def test_some_recipes_are_shipped() -> None:
    assert {path.parent.name for path in SHIPPED} >= {"multi30k_de_en", "quickstart", "eutrans_es_en"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_recipe_reads_and_its_resolved_form_is_the_same(path: Path, tmp_path: Path) -> None:
    recipe = read_recipe(path)
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(dump_recipe(recipe))
    assert read_recipe(resolved) == recipe
    assert make_recipe(as_settings(recipe)) == recipe


@pytest.mark.parametrize(
    "name",
    [
        "1e-4",
        "null",
        "yes",
        "12",
        "2020-01-01",
        "a: b",
        "ü\u2028",
        "'",
        "010",
        "1:30",
        "0o7",
        ".5e3",
        "-.inf",
        "1_0e1",
    ],
)
def test_the_resolved_form_keeps_text_that_looks_like_something_else(name: str, tmp_path: Path) -> None:
    recipe = make_recipe({"data": {**DATA, "files": name}})
    (tmp_path / "resolved.yaml").write_text(dump_recipe(recipe))
    assert read_recipe(tmp_path / "resolved.yaml") == recipe


def test_the_resolved_form_says_everything_that_is_used(file: Path) -> None:
    written = yaml.safe_load(dump_recipe(read_recipe(file)))
    assert written["training"]["label_smoothing"] == 0.1
    assert written["model"]["architecture"]["encoder_layers"] == 3
    assert written["tokenizer"]["vocabulary"] == 8_000
    written = yaml.safe_load(dump_recipe(make_recipe({"data": DATA, "model": {"from_run": "there"}})))
    assert "tokenizer" not in written  # it comes with the model, and naming it is refused
    assert "architecture" not in written["model"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_row_of_the_algorithm_fills_in_the_parts(algorithm: str) -> None:
    search = as_settings(recipe_of(algorithm))["search"]
    for part, row in ALGORITHMS[algorithm].settings.items():
        for key, value in row.items():
            found = search[part][key]
            assert found == (found | value if isinstance(value, dict) else value), (part, key)


def test_without_an_algorithm_it_is_teacher_forcing() -> None:
    assert make_recipe({"data": DATA}) == make_recipe(
        {"data": DATA, "search": {"algorithm": "teacher_forcing"}}
    )
    assert make_recipe({"data": DATA}).search.loss.weight == 0


def test_explicit_keys_go_over_the_row_and_leave_the_rest_of_it() -> None:
    recipe = make_recipe(
        {"data": DATA, "search": {"algorithm": "lols", "loss": {"weight": 2.5}, "decisions": {"k": 7}}}
    )
    row = ALGORITHMS["lols"].settings
    assert (recipe.search.loss.weight, recipe.search.decisions.k) == (2.5, 7)
    assert recipe.search.loss.cross_entropy == row["loss"]["cross_entropy"]
    assert recipe.search.decisions.per_sentence == row["decisions"]["per_sentence"]


def test_a_recipe_cannot_be_changed() -> None:
    recipe = make_recipe({"data": DATA})
    with pytest.raises(AttributeError):
        recipe.seed = 2  # type: ignore[misc]


# ---- overrides -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("5E+3", 5e3),
        ("3", 3),
        ("0.5", 0.5),
        ("null", None),
        ("", None),
        ("true", True),
        ("text", "text"),
        ("'1e-4'", "1e-4"),
        ("[a, 1]", ["a", 1]),
        ("{x: 1, y: {z: 2e-3}}", {"x": 1, "y": {"z": 2e-3}}),
        ("a=b", "a=b"),
    ],
)
def test_values_of_overrides_are_yaml(text: str, value: object) -> None:
    assert parse_overrides([f"a.b={text}"]) == {"a": {"b": value}}
    assert type(parse_overrides([f"a={text}"])["a"]) is type(value)


def test_overrides_go_over_the_file_and_over_each_other(file: Path) -> None:
    recipe = read_recipe(
        file,
        [
            "seed=9",
            "training.learning_rate=2e-5",
            "training.max_updates=null",
            "training={max_minutes: 1.5, log_every: 3}",
            "training.log_every=4",
            "model.architecture={d_model: 32}",
            "search.algorithm=aggrevated",
            "training.trackers=[tensorboard]",
        ],
    )
    assert recipe.seed == 9
    training = recipe.training
    assert (training.learning_rate, training.max_updates, training.max_minutes) == (2e-5, None, 1.5)
    assert training.log_every == 4
    assert training.trackers == ("tensorboard",)
    assert (recipe.model.architecture.d_model, recipe.model.architecture.heads) == (32, 4)
    assert recipe.search.reference.name == "edit_distance"


@pytest.mark.parametrize("item", ["seed", "", "=3", ".a=3", "a..b=3", "a.=3", "seed: 3"])
def test_an_override_without_key_or_value_is_refused(item: str, file: Path) -> None:
    message = refused(file, item)
    assert repr(item) in message
    assert "key.sub=value" in message


@pytest.mark.parametrize("value", ["[1, 2", "{a: 1", "2021-13-45", "? [a]\n: b", "&x [*x]", "[" * 5000, "\0"])
def test_an_override_that_is_not_yaml_is_refused(value: str, file: Path) -> None:
    message = refused(file, f"seed={value}")
    assert message.startswith(f"override {'seed=' + value!r}"[:100])
    assert ": the value is not YAML: " in message


@pytest.mark.parametrize("value", ["1:30", "010", "0o7", "0b11", "0x1f", "1:30.5", "+010", "_1", "1e", "."])
def test_a_number_is_written_in_one_way(value: str, file: Path) -> None:
    """YAML 1.1 has hours and minutes, and numbers to other bases, which nobody means in a recipe."""
    assert f"found {json.dumps(value)}" in refused(file, f"training.max_updates={value}")
    assert f"found {json.dumps(value)}" in refused(file, f"training.max_minutes={value}")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("1e-4", 1e-4),
        ("1.5E+2", 150.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("1_000", 1000.0),
        ("+2", 2.0),
        ("1_0.2_5", 10.25),
    ],
)
def test_numbers_as_people_write_them(value: str, number: float, file: Path) -> None:
    assert read_recipe(file, [f"training.max_minutes={value}"]).training.max_minutes == number


@pytest.mark.parametrize(
    "key", ["data.files", "data.hub", "model.from_run", "tokenizer.pretrained", "search.cost.function"]
)
def test_a_name_is_not_empty(key: str, file: Path) -> None:
    assert f'override \'{key}=""\': {key}: found ""' in refused(file, f'{key}=""')


def test_an_override_is_named_where_it_is_at_fault(file: Path) -> None:
    assert refused(file, "training.max_updates=0").startswith("override 'training.max_updates=0': training")
    nested = "model.architecture={d_model: 0}"
    assert refused(file, nested).startswith(f"override {nested!r}: model.architecture.d_model: found 0")
    assert refused(file, "seed=x", "seed=y").startswith("override 'seed=y': seed: found \"y\"")
    # ... and the file where the file is.
    file.write_text(TEXT.replace("heads: 4", "heads: none"))
    assert f"{file}, line 7: model.architecture.heads" in refused(file, "model={dropout: 0.2}")


def test_a_section_that_is_null_has_its_defaults(file: Path) -> None:
    usual = make_recipe({"data": {"files": "there", "source_language": "de", "target_language": "en"}})
    assert read_recipe(file).training != usual.training
    reset = read_recipe(file, ["training=null", "model=null"])
    assert (reset.training, reset.model) == (usual.training, usual.model)


# ---- what is refused -----------------------------------------------------------------------------


def test_an_unknown_key_names_file_line_path_and_the_nearest(file: Path) -> None:
    message = refused_text(file, TEXT.replace("max_updates", "max_update"))
    assert message.startswith(f"{file}, line 11: unknown key training.max_update; did you mean max_updates? ")
    assert "allowed here: batch_tokens, accumulation, " in message
    message = refused_text(file, TEXT.replace("model:", "modell:"))
    assert message.startswith(
        f"{file}, line 6: unknown key modell; did you mean model? allowed here: data, seed"
    )
    message = refused_text(file, TEXT.replace("d_model", "qqq"))
    assert message.startswith(
        f"{file}, line 7: unknown key model.architecture.qqq; allowed here: d_model, feed"
    )
    file.write_text(TEXT)
    message = refused(file, "search.loss.wieght=1")
    assert message.startswith(
        "override 'search.loss.wieght=1': unknown key search.loss.wieght; did you mean weight?"
    )


def test_a_key_that_belongs_into_a_section_is_found_there(file: Path) -> None:
    message = refused(file, "learning_rate=1")
    assert "unknown key learning_rate; did you mean training.learning_rate? " in message
    message = refused(file, "search.p_reference=0.5")
    assert "did you mean search.roll_in.p_reference or search.roll_out.p_reference? " in message


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=one", 'seed: found "one", it should be a valid integer'),
        ("seed='1'", 'seed: found "1", it should be a valid integer'),
        ("seed=1.5", "seed: found 1.5, it should be a valid integer"),
        ("seed=true", "seed: found true, it should be a valid integer"),
        ("seed=[1]", "seed: found [1], it should be a valid integer"),
        ("seed=-1", "seed: found -1, it should be greater than or equal to 0"),
        ("seed=9223372036854775808", "seed: found 9223372036854775808, it should be less than"),
        ("seed=null", "seed: found null, it should be a valid integer"),
        ("training.learning_rate=0", "training.learning_rate: found 0, it should be greater than 0"),
        ("training.learning_rate=.nan", "training.learning_rate: found NaN, it should be a finite number"),
        (
            "training.learning_rate=.inf",
            "training.learning_rate: found Infinity, it should be a finite number",
        ),
        ("training.label_smoothing=1", "training.label_smoothing: found 1, it should be less than 1"),
        ("tokenizer.joint=1", "tokenizer.joint: found 1, it should be a valid boolean"),
        ("model.architecture=3", "model.architecture: found 3, expected keys: d_model, feed_forward, heads"),
        (
            "tokenizer.joint=yes",
            'tokenizer.joint: found "yes", it should be a valid boolean; write true or false',
        ),
        (
            "training.trackers=tensorboard",
            'training.trackers: found "tensorboard", it should be a valid array; put it in brackets: [tensorboard]',
        ),
        (
            "data.source_language=12",
            "data.source_language: found 12, it should be a valid string; put it in quotes",
        ),
        (
            "evaluation.length_penalty=400",
            "evaluation.length_penalty: found 400, it should be less than or equal to 50",
        ),
        ("data.source_language=../de", 'data.source_language: found "../de"'),
        (
            "search.loss.name=klo",
            'search.loss.name: found "klo", allowed: target_learning, cost_augmented, kl',
        ),
        (
            "search.algorithm=lol",
            'search.algorithm: found "lol", allowed: teacher_forcing, scheduled_sampling',
        ),
    ],
)
def test_a_wrong_type_or_value_says_what_was_found_and_what_is_allowed(
    override: str, expected: str, file: Path
) -> None:
    assert refused(file, override).startswith(f"override {override!r}: {expected}")


def test_a_misspelt_choice_gets_the_nearest(file: Path) -> None:
    assert refused(file, "search.algorithm=agrevated").endswith("did you mean aggrevated?")
    assert refused(file, "training.schedule=linaer").endswith("did you mean linear?")
    assert "did you mean" not in refused(file, "training.schedule=zzz")


def test_a_section_that_an_override_has_added_to_is_of_file_and_override(file: Path) -> None:
    override = "training.max_updates=null"
    line = 1 + TEXT.splitlines().index("training:")
    assert refused(file, override).startswith(
        f"{file}, line {line}, with override {override!r}: training: give"
    )
    # What it replaces is its own.
    assert refused(file, "training=3").startswith("override 'training=3': training: found 3")


def test_an_unknown_key_in_a_list_gets_the_nearest(file: Path) -> None:
    override = "search={algorithm: lols, cost: {name: sum, terms: [{name: bleu, wieght: 2}]}}"
    message = refused(file, override)
    assert (
        "unknown key search.cost.terms.0.wieght; did you mean weight? allowed here: name, weight, unit"
        in message
    )


def test_all_errors_are_told_at_once(file: Path) -> None:
    message = refused(file, "seed=-1", "training.max_updates=0", "nothing=1")
    assert len(message.splitlines()) == 3


@pytest.mark.parametrize(
    ("overrides", "key", "reason"),
    [
        (["data.files=null"], "data", "give one of files, hub or embedded"),
        (["data.target_language=de"], "data", "the same"),
        (["model.architecture.heads=3"], "model.architecture", "must be a multiple of heads (3)"),
        (["model={from_run: a, pretrained: b}"], "model", "not both"),
        (["training.max_updates=null"], "training", "give a limit"),
        (
            ["training={patience: 3, averaging: {starts: 2}}"],
            "training",
            "share out a limit",
        ),
        (
            ["training={max_updates: 2, averaging: {starts: 3}}"],
            "training",
            "max_updates 2 are too few for averaging.starts 3",
        ),
        (
            ["training={max_epochs: 3, averaging: {starts: 2}}", "data.streaming=true"],
            "recipe",
            "set training.max_updates or max_minutes in its place",
        ),
        (
            ["training={max_updates: null, max_epochs: 1, schedule: cosine}"],
            "training",
            "schedule cosine needs max_updates or max_minutes",
        ),
        (
            ["search.algorithm=teacher_forcing", "search.loss.cross_entropy=0"],
            "search.loss",
            "nothing to learn",
        ),
        (["search.loss.weight=0"], "search", "set roll_out.policy none"),
        (
            ["data={files: null, embedded: {train: 10}, streaming: true}"],
            "data",
            "streaming is of files and hub",
        ),
        (
            ["data={streaming: true, filters: {duplicates: drop}}"],
            "data",
            "set filters.duplicates keep, or streaming false",
        ),
        (["data.block=0"], "data.block", "1"),
        (["tokenizer.character_coverage=0.95"], "tokenizer.character_coverage", "equal to 0.98"),
        (
            ["data={streaming: true, fold: {of: 2}}"],
            "data",
            "set fold null, or streaming false",
        ),
        (["data.fold={of: 3, left_out: 3}"], "data.fold", "the parts are 0 to 2"),
        (
            [
                "data.streaming=true",
                "search={algorithm: aggrevated, roll_in: {cross_trained: [one, two]}}",
            ],
            "recipe",
            "set data.streaming false, or search.roll_in.cross_trained []",
        ),
        (
            ["data.streaming=true", "search={algorithm: dagger}"],
            "recipe",
            "set data.streaming false, or search.aggregation null",
        ),
        (
            ["search={algorithm: lols, loss: {cross_entropy: 0}}", "training.consistency=3"],
            "recipe",
            "set search.loss.cross_entropy above 0, or training.consistency 0",
        ),
        (
            ["model.dropout=0", "training.consistency=3"],
            "recipe",
            "set model.dropout above 0, or training.consistency 0",
        ),
    ],
)
def test_parts_that_do_not_fit_together_are_refused_with_the_reason(
    overrides: list[str], key: str, reason: str, file: Path
) -> None:
    message = refused(file, *overrides)
    assert f": {key}: " in message
    assert reason in message


@pytest.mark.parametrize("start", ["from_run", "pretrained"])
def test_keys_that_a_model_from_elsewhere_leaves_unused_are_refused(start: str, file: Path) -> None:
    message = refused(file, f"model.{start}=there")
    reason = "is not used, because the model comes from there; remove it"
    assert (
        message == f"{file}: model.architecture {reason} (on the command line: model=null before the others)"
    )
    assert read_recipe(file, ["model=null", f"model.{start}=there"]).model.dropout is None
    file.write_text(TEXT.replace("  architecture: {d_model: 64, heads: 4}\n", f"  {start}: there\n"))
    assert read_recipe(file).model.dropout is None
    assert "tokenizer is not used, because the model comes from there" in refused(file, "tokenizer={}")


def test_a_tokenizer_from_elsewhere_stands_alone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = refused(file, "tokenizer={pretrained: there, vocabulary: 300}")
    assert f"{file}: tokenizer." in message
    assert "is not used, because the tokenizer comes from there; remove it" in message
    settings = yaml.safe_load(file.read_text())
    settings["tokenizer"] = {"pretrained": "there"}
    file.write_text(yaml.safe_dump(settings))
    recipe = read_recipe(file)
    assert as_settings(recipe)["tokenizer"] == {"pretrained": "there"}
    assert with_absolute_paths(recipe).tokenizer == recipe.tokenizer  # may be an id of the hub
    monkeypatch.chdir(file.parent)
    # What was to be trained gives way to it, in an override and where settings are put over others.
    settings["tokenizer"] = {"vocabulary": 300}
    file.write_text(yaml.safe_dump(settings))
    trained = read_recipe(file)
    assert read_recipe(file, ["tokenizer.pretrained=there"]) == recipe
    assert make_recipe(put_over(as_settings(trained), {"tokenizer": {"pretrained": "there"}})) == recipe
    assert read_recipe(file, ["tokenizer.joint=false"]).tokenizer.vocabulary == 300
    Path("there").mkdir()
    assert with_absolute_paths(recipe).tokenizer.pretrained == str(file.parent / "there")


def test_the_home_folder_is_found_by_its_sign(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    recipe = read_recipe(file, ["data.files=~/corpus", "tokenizer={pretrained: ~/pieces.model}"])
    assert (recipe.data.files, recipe.tokenizer.pretrained) == ("/home/me/corpus", "/home/me/pieces.model")
    assert read_recipe(file, ["data.files=a~b"]).data.files == "a~b"
    started = make_recipe({"data": DATA, "model": {"from_run": "~/run"}, "training": {"max_updates": 1}})
    assert started.model.from_run == "/home/me/run"


@pytest.mark.parametrize("text", ["no", "yes", "on", "off", "y", "n"])
def test_words_that_were_truth_values_once_are_words(text: str, file: Path) -> None:
    """Norwegian is a language, and no mixed precision is asked for by name."""
    read = read_recipe(file, [f"data.source_language={text}", "training.mixed_precision=no"])
    assert (read.data.source_language, read.training.mixed_precision) == (text, "no")
    file.write_text(dump_recipe(read))
    assert read_recipe(file) == read
    assert not read_recipe(file, ["tokenizer.joint=False"]).tokenizer.joint


# ---- files that are no recipe --------------------------------------------------------------------


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.yaml") == f"{tmp_path / 'none.yaml'}: no such recipe"
    assert refused(tmp_path) == f"{tmp_path}: is a folder; give a recipe file (.yaml)"
    assert "cannot be read" in refused(tmp_path / "a\0b")
    (tmp_path / "file").touch()
    assert "cannot be read: " in refused(tmp_path / "file" / "recipe.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", ": the recipe is empty; it needs at least data and training"),
        (b"# only a comment\n", ": the recipe is empty"),
        (b"seed: \xff1\n", ": not UTF-8 text (byte 6); save it as UTF-8"),
        (b"- data\n", ': a recipe is a mapping of keys to values, found ["data"]'),
        (b"just text\n", ': a recipe is a mapping of keys to values, found "just text"'),
        (b"seed: 1\n", ": data is missing; add it"),
        (b"data:\n  files: x\n  source_language: a\n", ", line 1: data.target_language is missing; add it"),
        (
            b"data:\n",
            ", line 1: data: found null, expected keys: source_language, target_language, source_code",
        ),
        (b"seed: 1\ndata: [1\n", ", line 3: not valid YAML: "),
        (b"seed: 1\n\tdata: 2\n", ", line 2: not valid YAML: "),
        (b"seed: 1\ndata: !!python/name:os.system x\n", ", line 2: not valid YAML: "),
        (b"seed: 1\n---\nseed: 2\n", ", line 2: not valid YAML: but found another document"),
        (b"seed: 1\ndata: {}\nseed: 2\n", ", line 3: not valid YAML: the key 'seed' is given twice"),
        (b"data:\n  files: 1\n  files: 1\n", ", line 3: not valid YAML: the key 'files' is given twice"),
        (b"? [a, b]\n: c\n", ", line 1: not valid YAML: a key must be text"),
        (b"data: &x {a: *x}\n", ", line 1: not valid YAML: a value refers to itself"),
        (
            b"seed: 2021-13-45\n",
            ", line 1: not valid YAML: 2021-13-45 cannot be read (month must be in 1..12",
        ),
        (b"seed: \x00\n", ": not valid YAML: "),
        (b"[" * 5000, ": not valid YAML: "),
        (b"{a: " * 300, ", line 1: not valid YAML: "),
    ],
)
def test_text_that_is_no_recipe_is_refused_with_its_line(text: bytes, expected: str, file: Path) -> None:
    assert refused_text(file, text).startswith(f"{file}{expected}")


def test_the_name_of_a_shipped_recipe_is_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(Path("quickstart/aggrevated")).endswith("l2s-nmt recipes quickstart/aggrevated -o my.yaml")


def test_a_byte_order_mark_is_no_text(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert read_recipe(file).training.max_updates == 100
