"""From YAML to specs: what is accepted, and that every problem is found at its line with a way out."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ctd.core.artifacts import ArtifactType
from ctd.core.completeness import CompleteRule, Manifest, Marker, Quiet, Renamed
from ctd.specs.document import parse_document, read_document
from ctd.specs.load import Loaded, load_folder, load_pipeline, load_target
from ctd.specs.nodes import ExampleGenSpec
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.problems import Problem, SpecProblems
from ctd.specs.schema import pipeline_schema, target_schema
from ctd.specs.targets import TfServingTarget, Tls

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/taxi"

GOOD = """\
pipeline: taxi
module: ../examples/taxi/taxi.py          # preprocessing_fn, run_fn, tuner_fn

nodes:
  examples:
    kind: example_gen
    input: ../data/taxi/{YYYY}-{MM}-{DD}/v{VERSION}
    format: csv
    complete: {marker: _SUCCESS}
    splits: {train: 2, eval: 1}
  statistics: {kind: statistics_gen}
  schema: {kind: importer, artifact: Schema, path: schema.pbtxt}
  validator: {kind: example_validator, drift: {payment_type: 0.05}, on_anomaly: quarantine}
  transform: {kind: transform, window: 7}
  trainer:
    kind: trainer
    window: 7
    train_steps: 500
    warm_start: latest_blessed
  evaluator:
    kind: evaluator
    label_key: tips_xf
    slices: [[], [trip_start_hour]]
    metrics:
      BinaryAccuracy: {at_least: 0.75, not_worse_than_baseline_by: 0.01}
      AUC: {}
  infra: {kind: infra_validator, requests: 20}
  pusher: {kind: pusher, targets: [serving]}
"""
TARGET = "target: serving\nkind: tf_serving\npath: ../serving/{pipeline}\nkeep: 3\nserver: {grpc: 127.0.0.1:8500}\n"


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """`specs/taxi.yaml` and `targets/serving.yaml`, with the files that they name."""
    for name, text in {
        "specs/taxi.yaml": GOOD,
        "targets/serving.yaml": TARGET,
        "specs/schema.pbtxt": "",
        "examples/taxi/taxi.py": "",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def load(folders: Path) -> Loaded:
    return load_folder(folders / "specs", folders / "targets")


def problems(tmp_path: Path, text: str | bytes) -> list[str]:
    """What is said of a pipeline's file, without the folder."""
    file = tmp_path / "taxi.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SpecProblems) as refused:
        load_pipeline(file)
    return [str(p).replace(f"{tmp_path}/", "") for p in refused.value.problems]


def test_a_good_spec_says_what_it_says(folders: Path) -> None:
    loaded = load(folders)
    assert loaded.problems == {}
    taxi = loaded.pipelines[str(folders / "specs/taxi.yaml")]
    assert (taxi.name, list(taxi.nodes)[:3]) == ("taxi", ["examples", "statistics", "schema"])
    assert taxi.inputs["examples"].pattern.base == str(folders / "data/taxi")
    assert taxi.inputs["examples"].complete.rule == Marker("_SUCCESS")
    assert taxi.modules == (str(folders / "examples/taxi/taxi.py"),)
    assert taxi.files == (str(folders / "specs/schema.pbtxt"),)
    assert taxi.targets == ("serving",)
    sources = {(w.node, w.piece.name): {k: f"{s.node}.{s.output}" for k, s in w.sources.items()} for w in taxi.work}
    assert sources["trainer", ""] == {
        "examples": "transform.transformed_examples",
        "transform_graph": "transform.transform_graph",
        "schema": "schema.schema",
        "base_model": "trainer.model",
    }
    serving = loaded.targets[str(folders / "targets/serving.yaml")]
    assert serving.base_path("taxi") == str(folders / "serving/taxi")


def test_a_node_survives_the_way_to_a_worker_and_back(folders: Path) -> None:
    taxi = load_pipeline(folders / "specs/taxi.yaml")
    hours = (
        "{kind: example_gen, input: '/d/{YYYY}/{MM}/{DD}/{HH}', timezone: Europe/Berlin, every: 6h, deny: [2026-11-29]}"
    )
    window = "{kind: schema_gen, inputs: {statistics: s}, window: {first: 2026-11-29, last: 2026-11-30T12}}"
    pinned = "{kind: schema_gen, inputs: {statistics: s}, window: {pinned: [2026-11-28, 42]}}"
    text = f"pipeline: p\nnodes: {{e: {hours}, s: {{kind: statistics_gen}}, a: {window}, b: {pinned}}}\n"
    (folders / "specs/hours.yaml").write_text(text)
    timed = load_pipeline(folders / "specs/hours.yaml")
    for node in (*taxi.nodes.values(), *timed.nodes.values()):
        assert type(node).model_validate(json.loads(json.dumps(node.model_dump(mode="json")))) == node


@pytest.mark.parametrize("root", [EXAMPLE, ROOT], ids=["the example", "the project"])
def test_shipped_specs_are_valid_and_the_schemas_accept_them(root: Path) -> None:
    loaded = load_folder(root / "specs", root / "deploy_targets")
    assert loaded.problems == {}
    for folder, schema in (("specs", pipeline_schema()), ("deploy_targets", target_schema())):
        jsonschema.Draft202012Validator.check_schema(schema)
        for file in (root / folder).glob("*.yaml"):
            jsonschema.validate(yaml.safe_load(file.read_text()), schema)
            header = file.read_text().splitlines()[0].partition("$schema=")[2]
            assert json.loads((file.parent / header).read_text()) == schema, "write it anew with `ctd schema`"


def test_the_schema_refuses_what_the_loader_refuses() -> None:
    bad = yaml.safe_load(GOOD)
    bad["nodes"]["trainer"]["windw"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad, pipeline_schema())


def test_defaults_in_the_schema_are_written_as_in_a_file() -> None:
    properties = pipeline_schema()["$defs"]["ExampleGenSpec"]["properties"]
    assert properties["timeout"]["default"] == "6h00m"
    assert properties["complete"]["default"] == {"marker": "_SUCCESS"}
    assert "where spans arrive" in properties["input"]["description"]


def test_every_problem_of_a_file_is_found_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("train_steps: 500", "train_stps: 500").replace("kind: importer", "kind: import")
    text = text.replace("pipeline: taxi", "pipeline: Taxi").replace("requests: 20", "requests: many")
    assert [p.split(". ")[0] for p in problems(tmp_path, text)] == [
        (
            "taxi.yaml:1: pipeline cannot be the name 'Taxi': a name has lower-case letters, digits, - and _, "
            "begins with a letter or digit, and is no longer than 63"
        ),
        "taxi.yaml:12: nodes.schema has the unknown kind 'import'",
        "taxi.yaml:18: nodes.trainer.train_stps is no key that a trainer has",
        "taxi.yaml:27: nodes.infra.requests must be a whole number, not the text 'many'",
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param(
            "    window: 7\n",
            "    windw: 7\n",
            "taxi.yaml:17: nodes.trainer.windw is no key that a trainer has. Did you mean 'window'?",
            id="a typo in a key",
        ),
        pytest.param(
            "{kind: statistics_gen}",
            "{kind: statistic_gen}",
            "taxi.yaml:11: nodes.statistics has the unknown kind 'statistic_gen'. Did you mean 'statistics_gen'?",
            id="a typo in a kind",
        ),
        pytest.param(
            "{kind: statistics_gen}",
            "{}",
            "taxi.yaml:11: nodes.statistics lacks the key 'kind'. Kinds are example_gen, ",
            id="no kind",
        ),
        pytest.param(
            "{kind: statistics_gen}",
            "",
            "taxi.yaml:11: nodes.statistics must be a mapping, `key: value`, not empty. Indent its keys",
            id="no node",
        ),
        pytest.param(
            "    label_key: tips_xf\n",
            "",
            "taxi.yaml:20: nodes.evaluator lacks the key 'label_key'",
            id="a missing key",
        ),
        pytest.param(
            "format: csv",
            "format: cvs",
            "taxi.yaml:8: nodes.examples.format must be csv, tfrecord, parquet or avro, not the text 'cvs'. Did you",
            id="a word that is not one of them",
        ),
        pytest.param(
            "train_steps: 500",
            "train_steps: '500'",
            "taxi.yaml:18: nodes.trainer.train_steps must be a whole number, not the text '500'. Write it",
            id="a number in quotes",
        ),
        pytest.param(
            "train_steps: 500",
            "train_steps: 012",
            "taxi.yaml:18: nodes.trainer.train_steps must be a whole number, not the text '012'. "
            "Write it without quotes and without leading zeros.",
            id="zeros in front",
        ),
        pytest.param(
            "train_steps: 500",
            "train_steps: 1.5",
            "taxi.yaml:18: nodes.trainer.train_steps must be a whole number, not 1.5",
            id="a broken number",
        ),
        pytest.param(
            "train_steps: 500",
            "train_steps: true",
            "taxi.yaml:18: nodes.trainer.train_steps must be a whole number, not true",
            id="a truth value is no number",
        ),
        pytest.param(
            "{kind: transform, window: 7}",
            "{kind: transform, window: 0}",
            "taxi.yaml:14: nodes.transform.window must be greater than 0, not 0. The newest n",
            id="too small",
        ),
        pytest.param(
            "payment_type: 0.05",
            "payment_type: 1.5",
            "taxi.yaml:13: nodes.validator.drift.payment_type must be at most 1, not 1.5",
            id="too large",
        ),
        pytest.param(
            "label_key: tips_xf",
            "label_key: 3",
            'taxi.yaml:22: nodes.evaluator.label_key must be text, not 3. Put it in quotes: "3".',
            id="text without quotes",
        ),
        pytest.param(
            "[serving]",
            "serving",
            "taxi.yaml:28: nodes.pusher.targets must be a list, not the text 'serving'. Write [serving].",
            id="a list of one",
        ),
        pytest.param("[serving]", "[]", "taxi.yaml:28: nodes.pusher.targets is empty", id="an empty list"),
        pytest.param(
            "[serving]",
            "[serving, serving]",
            "taxi.yaml:28: nodes.pusher: the target 'serving' is there twice. Keep one of them.",
            id="twice the same target",
        ),
        pytest.param(
            "at_least: 0.75",
            "atleast: 0.75",
            "taxi.yaml:25: nodes.evaluator.metrics.BinaryAccuracy.atleast is no key that is known here. Did you",
            id="a typo deep inside",
        ),
        pytest.param(
            "BinaryAccuracy:",
            "binary_acuracy:",
            "taxi.yaml:25: there is no metric 'binary_acuracy'. Did you mean BinaryAccuracy?",
            id="no such metric",
        ),
        pytest.param(
            "BinaryAccuracy:",
            "RMSE:",
            "taxi.yaml:25: there is no metric 'RMSE'. Did you mean RootMeanSquaredError? Metrics are named by their",
            id="a metric by its short name",
        ),
        pytest.param(
            "at_least: 0.75",
            "at_least: 0.75, slices: [[company]]",
            "taxi.yaml:25: nodes.evaluator: metrics.BinaryAccuracy.slices has a slice that is not computed. "
            "The node's `slices:` are [[], ['trip_start_hour']]. Add it there, or take it out.",
            id="a limit on a slice that is not computed",
        ),
        pytest.param(
            "at_least: 0.75",
            "at_least: 0.75, slices: overal",
            "taxi.yaml:25: nodes.evaluator.metrics.BinaryAccuracy.slices: 'overal' is no slices. Write ",
            id="a limit on slices by a mistyped word",
        ),
        pytest.param(
            "{marker: _SUCCESS}",
            "{marker: _SUCCESS, quiet: 30s}",
            "taxi.yaml:9: nodes.examples.complete: `complete` needs exactly one rule. Write `{marker: _SUCCESS}`, ",
            id="two rules",
        ),
        pytest.param(
            "{marker: _SUCCESS}",
            "{marker: a/b}",
            "taxi.yaml:9: nodes.examples.complete: 'a/b' is no file name. Name one file, such as _SUCCESS.",
            id="a marker elsewhere",
        ),
        pytest.param(
            "{marker: _SUCCESS}",
            "{manifest: ../M.json}",
            "taxi.yaml:9: nodes.examples.complete: '../M.json' is no file name. Name one file, such as MANIFEST.json.",
            id="a manifest elsewhere",
        ),
        pytest.param(
            "{marker: _SUCCESS}",
            "{quiet: 30}",
            "taxi.yaml:9: nodes.examples.complete.quiet: 30 is not a duration. Write a number with its unit: 30s,",
            id="a duration without unit",
        ),
        pytest.param(
            "{marker: _SUCCESS}",
            "{quiet: 0s}",
            "taxi.yaml:9: nodes.examples.complete.quiet: a duration must be longer than nothing",
            id="no time at all",
        ),
        pytest.param(
            "{marker: _SUCCESS}",
            "{quiet: " + "9" * 400 + "d}",
            "taxi.yaml:9: nodes.examples.complete.quiet: '99999",
            id="an endless duration",
        ),
        pytest.param(
            "{marker: _SUCCESS}",
            "{quiet: 99999999d}",
            "taxi.yaml:9: nodes.examples.complete.quiet: a duration of 273,972 years is more than the 100 that",
            id="a duration beyond the calendar",
        ),
        pytest.param(
            "v{VERSION}",
            "v{VERSIN}",
            "taxi.yaml:7: nodes.examples.input: {VERSIN} is no token. Did you mean {VERSION}?",
            id="a typo in a token",
        ),
        pytest.param(
            "/{YYYY}-{MM}-{DD}/",
            "/",
            "taxi.yaml:7: nodes.examples.input: {VERSION} needs a span or a date. Write {SPAN} too",
            id="a version of nothing",
        ),
        pytest.param(
            "path: schema.pbtxt", "path: ''", "taxi.yaml:12: nodes.schema.path: the path is empty", id="an empty path"
        ),
        pytest.param(
            "path: schema.pbtxt",
            'path: "a\\0b"',
            "taxi.yaml:12: nodes.schema.path: the path contains control characters",
            id="a zero byte in a path",
        ),
        pytest.param(
            "path: schema.pbtxt",
            "path: ~nobody-of-that-name/x",
            "taxi.yaml:12: nodes.schema.path: ~nobody-of-that-name/x: there is no such user",
            id="the home of nobody",
        ),
        pytest.param(
            "pipeline: taxi\n", "", "taxi.yaml:1: the file lacks the key 'pipeline'", id="a pipeline without a name"
        ),
    ],
)
def test_a_problem_names_file_line_and_way_out(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    (found,) = problems(tmp_path, GOOD.replace(old, new, 1) if "window: 7" not in old else GOOD.replace(old, new))
    assert found.startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "taxi.yaml:1: the file is empty. A pipeline has `pipeline: taxi` and `nodes:`."),
        ("# nothing yet\n", "taxi.yaml:1: the file is empty."),
        ("- taxi\n", "taxi.yaml:1: the file must be a mapping, `key: value`, not a list."),
        ("taxi\n", "taxi.yaml:1: the file must be a mapping, `key: value`, not the text 'taxi'."),
        (TARGET, "taxi.yaml:1: this declares a target, but the folder is for pipelines. Move the file to"),
        ("pipeline: taxi\nnodes: {}\n", "taxi.yaml:2: nodes is empty"),
        ("a: 1\nb: 2\na: 3\n", "taxi.yaml:3: the key 'a' is there twice, first in line 1. Keep one of them."),
        ("1: x\n", "taxi.yaml:1: the key 1 is not text. Put it in quotes."),
        ("true: x\n", "taxi.yaml:1: the key true is not text. Put it in quotes."),
        ("? [a]\n: x\n", "taxi.yaml:1: the key of several values is not text."),
        ("a: &x 1\n", "taxi.yaml:1: anchors are not allowed: &x. Write the value out where it is needed."),
        ("a: *x\n", "taxi.yaml:1: aliases are not allowed: *x. Write the value out."),
        ("<<: {a: 1}\n", "taxi.yaml:1: the merge key << is not allowed. Write the keys out."),
        ("a: !!python/object:os.system x\n", "taxi.yaml:1: tags are not allowed: tag:yaml.org,2002:python/object"),
        ("a: !x y\n", "taxi.yaml:1: tags are not allowed: !x. Write the plain value."),
        ("a: 1\n---\nb: 2\n", "taxi.yaml:2: a second document begins here. Put it into a file of its own."),
        ("a: .inf\n", "taxi.yaml:1: .inf is not a finite number."),
        ("a: 1e999\n", "taxi.yaml:1: 1e999 is not a finite number."),
        ("a:\n\tb: 1\n", "taxi.yaml:2: is no YAML: a character that cannot begin a value. Indent with spaces"),
        ("a: b: c\n", "taxi.yaml:1: is no YAML: `: ` inside a value. Put the value in quotes"),
        ("a: 'b\n", "taxi.yaml:2: is no YAML: the file ends inside a quote or bracket."),
        ("a: [1, 2\nb: 3\n", "taxi.yaml:2: is no YAML: a bracket that is not closed."),
        ("a:\n  b: 1\n c: 2\n", "taxi.yaml:3: is no YAML: the indentation does not fit."),
        ("a: 1\nfoo\nb: 2\n", "taxi.yaml:3: is no YAML: a line that is no `key: value`."),
        ("a: @b\n", "taxi.yaml:1: is no YAML: a character that cannot begin a value."),
        ("a: 1\nb: \0\n", "taxi.yaml:2: the character U+0000 cannot be part of YAML. Delete it"),
        (b"a: 1\nb: \xff\n", "taxi.yaml:2: byte 0xFF is not UTF-8. Save the file as UTF-8."),
        ("pipeline: taxi\n".encode("utf-16"), "taxi.yaml:1: byte 0xFF is not UTF-8."),
        (b"x" * (10 << 20), "taxi.yaml:1: is too large: 10240 KB; the most is 256 KB."),
        ("[" * 100_000, "taxi.yaml:1: this is more than 50 levels deep."),
        ("{a: " * 60_000, "taxi.yaml:1: this is more than 50 levels deep."),
        ("- " * 100_000, "taxi.yaml:1: this is more than 50 levels deep."),
        ("[" + "1," * 100_000 + "]", "taxi.yaml:1: there are more than 10000 values."),
    ],
)
def test_what_is_no_spec_at_all_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert problems(tmp_path, text)[0].startswith(said)


def test_a_bomb_is_refused_before_it_grows(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    found = problems(tmp_path, "\n".join(lines))
    assert found[0] == "taxi.yaml:1: anchors are not allowed: &a0. Write the value out where it is needed."


def test_a_message_never_carries_a_whole_file_or_control_characters(tmp_path: Path) -> None:
    for text in ("pipeline: " + "x" * 200_000, 'pipeline: "\\e[31mred"', "&" + "a" * 100_000 + " b"):
        assert all(len(p) < 1000 and p.isprintable() for p in problems(tmp_path, text))


def test_words_mean_what_yaml_1_2_says() -> None:
    text = "a: no\nb: 012\nc: 12:30:00\nd: 2020-01-01\ne: 1e3\nf: [1, -0.5, ~, '1', .5]\ng:\nh: on\ni: True\n"
    text += "j: 99999999999999999999\n"
    assert parse_document(text, "x").value == {
        "a": "no",
        "b": "012",
        "c": "12:30:00",
        "d": "2020-01-01",
        "e": 1000.0,
        "f": [1, -0.5, None, "1", 0.5],
        "g": None,
        "h": "on",
        "i": True,
        "j": "99999999999999999999",
    }


WORDS = st.text(max_size=40)  # YAML takes no key of more than 1024 characters, escapes counted
PLAIN = st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    PLAIN | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)


def parsed(text: str) -> tuple[object, tuple[Problem, ...]]:
    """The values of a text, or what is wrong with it."""
    try:
        return parse_document(text, "x").value, ()
    except SpecProblems as error:
        return None, error.problems


@given(VALUES)
def test_json_is_read_as_the_values_it_says(value: object) -> None:
    found, refused = parsed(json.dumps(value))
    assert refused or found == value
    # JSON writes some characters as two escapes, which YAML does not know.
    assert all("escape" in p.message or "<<" in p.message for p in refused)


@settings(max_examples=300)
@given(st.text(st.sampled_from("ab:-[]{}#&*!|>'\"%@` \n\t,?~0123.")))
def test_no_text_ever_raises_anything_but_problems(text: str) -> None:
    _, refused = parsed(text)
    assert all(p.line >= 1 and p.message for p in refused)


def test_unknown_targets_are_errors_with_the_nearest_name(folders: Path) -> None:
    spec = folders / "specs/taxi.yaml"
    spec.write_text(GOOD.replace("[serving]", "[serving, servng]"))
    loaded = load(folders)
    assert loaded.pipelines == {}
    (problem,) = loaded.problems[str(spec)]
    assert str(problem) == (
        f"{spec}:28: there is no target 'servng'. Did you mean 'serving'? "
        "Targets are serving; each has a file of its own."
    )


def test_a_broken_target_is_not_its_pipelines_fault(folders: Path) -> None:
    (folders / "targets/serving.yaml").write_text(TARGET.replace("keep: 3", "keep: 0"))
    loaded = load(folders)
    assert loaded.targets == {}
    assert loaded.broken_targets == {"serving"}
    assert [p.name for p in loaded.pipelines.values()] == ["taxi"]
    (warning,) = loaded.problems[str(folders / "specs/taxi.yaml")]
    assert (warning.warning, warning.line) == (True, 28)
    (error,) = loaded.errors
    assert str(error).endswith("serving.yaml:4: keep must be greater than 0, not 0. How many versions stay.")


def test_a_missing_module_or_file_is_a_warning_only(folders: Path) -> None:
    (folders / "examples/taxi/taxi.py").unlink()
    (folders / "specs/schema.pbtxt").unlink()
    loaded = load(folders)
    assert len(loaded.pipelines) == 1
    assert [(p.line, p.warning, p.message) for p in loaded.problems[str(folders / "specs/taxi.yaml")]] == [
        (2, True, f"the module {folders}/examples/taxi/taxi.py does not exist"),
        (12, True, f"{folders}/specs/schema.pbtxt does not exist"),
    ]
    assert loaded.errors == ()


def test_two_pipelines_with_one_name_are_both_refused(folders: Path) -> None:
    (folders / "specs/copy.yml").write_text(GOOD)
    loaded = load(folders)
    assert loaded.pipelines == {}
    assert [str(p).removeprefix(f"{folders}/specs/") for p in loaded.errors] == [
        "copy.yml:1: pipeline 'taxi' is also declared in taxi.yaml. Rename one of them.",
        "taxi.yaml:1: pipeline 'taxi' is also declared in copy.yml. Rename one of them.",
    ]


def test_two_targets_with_one_name_are_both_refused(folders: Path) -> None:
    (folders / "targets/copy.yaml").write_text(TARGET)
    loaded = load(folders)
    assert loaded.targets == {}
    assert len(loaded.pipelines) == 1


def test_one_bad_file_hides_no_other(folders: Path) -> None:
    (folders / "specs/bad.yaml").write_text("a: b: c")
    loaded = load(folders)
    assert [p.name for p in loaded.pipelines.values()] == ["taxi"]
    assert list(loaded.problems) == [str(folders / "specs/bad.yaml")]


def test_files_of_editors_and_other_files_are_not_specs(folders: Path) -> None:
    for name in (".#taxi.yaml", ".taxi.yaml.swp", "taxi.yaml~", "#taxi.yaml#", "#x.yaml", "README", "4913", ".x.yaml"):
        (folders / "specs" / name).write_text("a: b: c")
    assert load(folders).problems == {}


def test_a_folder_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    loaded = load_folder(tmp_path / "specs", tmp_path / "targets")
    assert sorted(loaded.problems) == [str(tmp_path / "specs"), str(tmp_path / "targets")]
    assert "cannot be read: No such file or directory" in loaded.errors[0].message


def test_what_is_not_a_readable_file_is_a_problem_without_waiting(folders: Path) -> None:
    os.mkfifo(folders / "specs/fifo.yaml")
    (folders / "specs/folder.yaml").mkdir()
    (folders / "specs/link.yaml").symlink_to(folders / "nowhere")
    loaded = load(folders)
    assert [p.message for p in loaded.errors] == [
        "is not a regular file",
        "is not a regular file",
        "cannot be read: No such file or directory",
    ]
    assert len(loaded.pipelines) == 1


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: 1\n")
    fstat, looks = os.fstat, []

    def changing(descriptor: int) -> os.stat_result:
        looks.append(descriptor)
        if len(looks) == 2:  # after the first read
            file.write_text("a: 1\nb: 2\n")
        return fstat(descriptor)

    monkeypatch.setattr(os, "fstat", changing)
    assert read_document(str(file)).value == {"a": 1, "b": 2}


def test_a_file_that_never_stands_still_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: 1\n")
    fstat = os.fstat

    def changing(descriptor: int) -> os.stat_result:
        with file.open("a") as growing:
            growing.write("#\n")
        return fstat(descriptor)

    monkeypatch.setattr(os, "fstat", changing)
    with pytest.raises(SpecProblems, match="changes while it is read"):
        read_document(str(file))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "tf_serving",
            "tfserving",
            "serving.yaml:2: the file has the unknown kind 'tfserving'. Did you mean 'tf_serving'?",
        ),
        ("{pipeline}", "{pipline}", "serving.yaml:3: path: {pipline} is no word of a target's path."),
        ("keep: 3", "kepe: 3", "serving.yaml:4: kepe is no key that a tf_serving has. Did you mean 'keep'?"),
        ("127.0.0.1:8500", "nowhere", "serving.yaml:5: server.grpc cannot be the text 'nowhere'. Host:port of"),
        (
            "127.0.0.1:8500",
            "localhost:99999",
            "serving.yaml:5: server.grpc: there is no port 99999. Ports are 1 to 65535.",
        ),
        ("127.0.0.1:8500", "localhost:0", "serving.yaml:5: server.grpc: there is no port 0."),
        ("127.0.0.1:8500", "'::1:8500'", "serving.yaml:5: server.grpc cannot be the text '::1:8500'. Host:port of"),
        ("127.0.0.1:8500", "'[::x]:8500'", "serving.yaml:5: server.grpc: [::x] is no IPv6 address"),
        ("127.0.0.1:8500", "'unix://run/x'", "serving.yaml:5: server.grpc cannot be the text 'unix://run/x'."),
        ("8500}", "8500, tls: {key: me.key}}", "serving.yaml:5: server.tls: `cert` and `key` go together. Write both"),
        (
            "127.0.0.1:8500}",
            "'unix:/x', tls: {ca: ca.pem}}",
            "serving.yaml:5: server: there is no TLS through a UNIX socket.",
        ),
    ],
)
def test_a_problem_of_a_target_names_file_line_and_way_out(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = tmp_path / "serving.yaml"
    file.write_text(TARGET.replace(old, new))
    with pytest.raises(SpecProblems) as refused:
        load_target(file)
    assert str(refused.value).replace(f"{tmp_path}/", "").startswith(said)


def test_a_target_is_read_alone(tmp_path: Path) -> None:
    file = tmp_path / "serving.yaml"
    file.write_text(TARGET)
    target = load_target(file)
    assert isinstance(target, TfServingTarget)
    assert target.path == str(tmp_path.parent / "serving/{pipeline}")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("models.example.com:8500", "models.example.com:8500"),
        ("[::1]:8500", "[::1]:8500"),
        ("unix:/run/ctd/serve.sock", "unix:/run/ctd/serve.sock"),
        ("unix:///run/ctd/serve.sock", "unix:/run/ctd/serve.sock"),
        ("unix:../run/serve.sock", "unix:{base}/run/serve.sock"),
    ],
)
def test_a_server_may_be_asked_by_name_or_number_or_through_a_socket(tmp_path: Path, said: str, meant: str) -> None:
    file = tmp_path / "serving.yaml"
    file.write_text(TARGET.replace("127.0.0.1:8500", f"'{said}'"))
    target = load_target(file)
    assert isinstance(target, TfServingTarget)
    assert target.server
    assert target.server.grpc == meant.format(base=tmp_path.parent)
    sent = target.model_dump(mode="json")
    assert TfServingTarget.model_validate(sent) == target, "a worker reads the same"
    jsonschema.validate({**sent, "path": "x"}, target_schema())


def test_certificates_are_named_relative_to_the_targets_file(tmp_path: Path) -> None:
    file = tmp_path / "serving.yaml"
    file.write_text(TARGET.replace("8500}", "8500, tls: {ca: ca.pem, cert: ../me.pem, key: /keys/me.key}}"))
    target = load_target(file)
    assert isinstance(target, TfServingTarget)
    assert target.server
    paths = {"ca": f"{tmp_path}/ca.pem", "cert": f"{tmp_path.parent}/me.pem", "key": "/keys/me.key"}
    assert target.server.tls == Tls(**paths)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1h30m", 5400), ("1h30m15s", 5415), ("250ms", 0.25), ("2d", 172800), ("0.1s", 0.1)],
)
def test_durations_survive_the_way_to_text_and_back(text: str, seconds: float) -> None:
    node = ExampleGenSpec.model_validate({"kind": "example_gen", "input": "/d/{SPAN}", "complete": {"quiet": text}})
    assert node.complete.rule == Quiet(timedelta(seconds=seconds))
    assert ExampleGenSpec.model_validate(node.model_dump(mode="json")) == node


def test_the_longest_duration_leads_to_a_time() -> None:
    node = ExampleGenSpec.model_validate({"kind": "example_gen", "input": "/d/{SPAN}", "stale_after": "36500d"})
    assert node.stale_after is not None
    assert datetime(2026, 1, 1, tzinfo=timezone.utc) + 10 * node.stale_after
    with pytest.raises(ValueError, match="a duration of 100 years is more than the 100"):
        ExampleGenSpec.model_validate({"kind": "example_gen", "input": "/d/{SPAN}", "stale_after": "36501d"})


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ({"marker": "_DONE"}, Marker("_DONE")),
        ({"manifest": "MANIFEST.json"}, Manifest("MANIFEST.json")),
        ({"rename": True}, Renamed()),
    ],
)
def test_a_span_is_complete_by_one_rule(said: dict[str, object], rule: CompleteRule) -> None:
    node = ExampleGenSpec.model_validate({"kind": "example_gen", "input": "/d/{SPAN}", "complete": said})
    assert node.complete.rule == rule
    assert ExampleGenSpec.model_validate(node.model_dump(mode="json")) == node


def test_every_type_that_a_node_needs_has_a_kind_to_hint_at() -> None:
    taxi = load_pipeline(EXAMPLE / "specs/taxi.yaml")
    needed = {t.type for w in taxi.work for t in w.piece.takes.values() if not t.optional}
    made = {t for w in taxi.work for t in w.piece.makes.values()}
    assert needed <= made
    assert isinstance(taxi, PipelineSpec)
    assert ArtifactType.MODEL in needed


UNQUOTED = 'is no YAML: the path {path} has braces, so it must be in quotes here. Write "{path}".'


@pytest.mark.parametrize(
    ("text", "line", "paths"),
    [
        ("a: {input: ../data/{SPAN}}", 1, ["../data/{SPAN}"]),
        ("a: {input: ../data/{YYYY}-{MM}-{DD}/v{VERSION}, start: 3}", 1, ["../data/{YYYY}-{MM}-{DD}/v{VERSION}"]),
        ("a: {input: ../data/{SPAN:4}/*.csv}", 1, ["../data/{SPAN:4}/*.csv"]),
        ("path: {pipeline}/models", 1, ["{pipeline}/models"]),
        ("a:\n  b: 1\n  input: {SPAN}/trips.csv", 3, ["{SPAN}/trips.csv"]),
        ("a: {\n  input: ../data/{SPAN},\n  start: 3}", 2, ["../data/{SPAN}"]),
        ("input: {train: ../a/{SPAN}/train, eval: ../a/{SPAN}/eval}", 1, ["../a/{SPAN}/train", "../a/{SPAN}/eval"]),
        ("paths: [../data/{SPAN}]", 1, ["../data/{SPAN}"]),
    ],
)
def test_a_path_with_braces_that_lacks_its_quotes_is_named(
    tmp_path: Path, text: str, line: int, paths: list[str]
) -> None:
    expected = [f"taxi.yaml:{line}: {UNQUOTED.replace('{path}', path)}" for path in paths]
    assert problems(tmp_path, text) == expected


@pytest.mark.parametrize("text", ["a: {x: [1, 2}", "a: {x: 1", "b: ../data/{SPAN}\n   c: 1\n", "a: {x}\n b: 1"])
def test_other_slips_are_not_blamed_on_paths(tmp_path: Path, text: str) -> None:
    (only,) = problems(tmp_path, text)
    assert "must be in quotes" not in only


def test_a_path_without_quotes_hides_nothing_else(tmp_path: Path) -> None:
    text = "pipeline: taxi\nnodes:\n  examples: {kind: example_gen, input: ../data/{SPAN}}\n  trainer: {kind: trainr}\n"
    unquoted, kind, *rest = problems(tmp_path, text)
    assert "the path ../data/{SPAN} has braces" in unquoted
    assert "unknown kind 'trainr'" in kind
    assert all("needs" in problem for problem in rest)
