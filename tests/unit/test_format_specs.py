"""What a spec may say of formats and splits, and how it is told what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ctd.specs.load import load_pipeline
from ctd.specs.nodes import ExampleGenSpec
from ctd.specs.problems import SpecProblems
from ctd.specs.schema import pipeline_schema

HEAD = "pipeline: p\nnodes:\n  examples:\n    kind: example_gen\n"
ONE = "    input: ../{SPAN}\n"


def node(tmp_path: Path, text: str) -> ExampleGenSpec:
    file = tmp_path / "p.yaml"
    file.write_text(HEAD + text)
    jsonschema.validate(yaml.safe_load(file.read_text()), pipeline_schema())
    found = load_pipeline(file).nodes["examples"]
    assert isinstance(found, ExampleGenSpec)
    assert ExampleGenSpec.model_validate(found.model_dump(mode="json")) == found
    return found


def problems(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "p.yaml"
    file.write_text(HEAD + text)
    with pytest.raises(SpecProblems) as refused:
        load_pipeline(file)
    return [str(p).replace(f"{tmp_path}/", "") for p in refused.value.problems]


def made(**said: Any) -> ExampleGenSpec:
    return ExampleGenSpec.model_validate({"kind": "example_gen", "input": "/d/{SPAN}", **said})


def test_one_path_is_split_by_hash_two_to_one_unless_said_otherwise(tmp_path: Path) -> None:
    plain = node(tmp_path, ONE)
    assert list(plain.patterns) == [""]
    assert plain.patterns[""].base == str(tmp_path.parent)
    assert plain.buckets == {"train": 2, "eval": 1}
    assert node(tmp_path, ONE + "    splits: {a: 1, b: 3}\n").buckets == {"a": 1, "b": 3}


def test_a_path_for_each_split_means_that_the_data_is_split_already(tmp_path: Path) -> None:
    split = node(tmp_path, "    input:\n      train: ../t/{SPAN}/*.csv\n      test: ../e/{SPAN}\n")
    assert {name: pattern.base for name, pattern in split.patterns.items()} == {
        "train": str(tmp_path.parent / "t"),
        "test": str(tmp_path.parent / "e"),
    }
    assert split.buckets == {}
    assert split.pattern.tokens == ("SPAN",)


def test_where_data_lies_is_no_part_of_its_identity_but_how_it_is_split_and_read_is() -> None:
    assert made(input="/e/{SPAN}").settings() == made().settings()
    assert made(splits={"train": 2, "eval": 1}).settings() == made().settings()
    others = [
        made(splits={"eval": 1, "train": 2}),
        made(input={"train": "/t/{SPAN}", "eval": "/e/{SPAN}"}),
        made(input={"eval": "/e/{SPAN}", "train": "/t/{SPAN}"}),
        made(split_by="user"),
        made(format="parquet"),
        made(format="tfrecord"),
        made(format="tfrecord", payload="sequence_example"),
        made(columns=["a"]),
        made(delimiter=";"),
        made(quote=""),
        made(escape="\\"),
        made(encoding="latin-1"),
        made(nulls=["NA"]),
        made(types={"a": "int"}),
    ]
    assert len({str(other.settings()) for other in [made(), *others]}) == len(others) + 1
    moved = made(input={"train": "/u/{SPAN}", "eval": "/e/{SPAN}"})
    assert moved.settings() == others[1].settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            "    input:\n      train: ../t/{SPAN}\n      eval: ../e/{YYYY}{MM}{DD}\n",
            "p.yaml:7: eval has {YYYY} and {MM} and {DD}, but train has {SPAN}. Use the same tokens",
            id="other tokens",
        ),
        pytest.param(
            "    input:\n      train: ../t/{SPAN}/v{VERSION}\n      eval: ../e/{SPAN}\n",
            "p.yaml:7: eval has {SPAN}, but train has {SPAN} and {VERSION}",
            id="versions in one of them",
        ),
        pytest.param(
            "    input:\n      train: ../{SPAN}\n      eval: ../x/../{SPAN}\n",
            "p.yaml:7: eval and train read the same files. Name other files",
            id="the same files",
        ),
        pytest.param(
            "    input:\n      train: ../{SPN}\n      eval: ../e/{SPAN}\n",
            "p.yaml:6: nodes.examples.input.train: {SPN} is no token. Did you mean {SPAN}?",
            id="a typo",
        ),
        pytest.param(
            "    input: {Train: '../{SPAN}'}\n",
            "p.yaml:5: nodes.examples.input.Train cannot be the name 'Train'",
            id="a name",
        ),
        pytest.param("    input: {}\n", "p.yaml:5: nodes.examples.input is empty. Write at least one", id="no split"),
        pytest.param("    input: 7\n", "p.yaml:5: nodes.examples.input must be text, not 7", id="a number"),
        pytest.param(
            "    input: {train: '../t/{SPAN}', eval: '../e/{SPAN}'}\n    splits: {train: 2, eval: 1}\n",
            "p.yaml:6: `splits` beside an `input` by splits. Take it out",
            id="buckets of split data",
        ),
        pytest.param(
            "    input: {train: '../t/{SPAN}', eval: '../e/{SPAN}'}\n    split_by: user\n",
            "p.yaml:6: `split_by` beside an `input` by splits. Take it out",
            id="a feature for split data",
        ),
        pytest.param(ONE + "    split_by: ''\n", "p.yaml:6: `split_by` names no feature", id="no feature"),
        pytest.param(ONE + "    splits: {}\n", "p.yaml:6: nodes.examples.splits is empty", id="no buckets"),
        pytest.param(
            ONE + "    format: parqet\n",
            "p.yaml:6: nodes.examples.format must be csv, tfrecord, parquet or avro, not the text 'parqet'. Did you "
            "mean 'parquet'?",
            id="a format",
        ),
        pytest.param(
            ONE + "    format: parquet\n    payload: sequence_example\n",
            "p.yaml:7: `payload: sequence_example` with `format: parquet`. Take `payload` out",
            id="sequences in Parquet",
        ),
        pytest.param(
            ONE + "    format: avro\n    delimiter: ';'\n",
            "p.yaml:7: `delimiter` with `format: avro`. Take `delimiter` out: it is about the cells of CSV files",
            id="a delimiter in Avro",
        ),
        pytest.param(
            ONE + "    format: tfrecord\n    types: {a: int}\n",
            "p.yaml:7: `types` with `format: tfrecord`. Take `types` out: the features of tf.Examples",
            id="types of tf.Examples",
        ),
        pytest.param(
            ONE + "    delimiter: '\\t'\n",
            'p.yaml:6: `delimiter` must be one character, not \'\\\\t\'. Write it in quotes, such as ";" or "\\t" for',
            id="a tab in single quotes",
        ),
        pytest.param(ONE + "    delimiter: ''\n", "p.yaml:6: `delimiter` must be one character, not ''", id="none"),
        pytest.param(
            ONE + "    quote: ';'\n    delimiter: ';'\n",
            "p.yaml:6: `delimiter`, `quote` and `escape` are not three different characters",
            id="one for two",
        ),
        pytest.param(
            ONE + "    columns: [a, b, a]\n", "p.yaml:6: the column 'a' is there twice. Give every", id="a name twice"
        ),
        pytest.param(
            ONE + "    columns: [a]\n    types:\n      b: int\n",
            "p.yaml:8: `types` names 'b', which is none of the `columns`",
            id="the type of no column",
        ),
        pytest.param(
            ONE + "    encoding: utf8\n",
            "p.yaml:6: nodes.examples.encoding must be utf-8, latin-1, cp1252 or utf-16, not the text 'utf8'. Did",
            id="an encoding",
        ),
        pytest.param(ONE + "    nulls: [7]\n", "p.yaml:6: nodes.examples.nulls.0 must be text, not 7", id="a number"),
    ],
)
def test_what_cannot_be_is_refused_at_its_line_with_a_way_out(tmp_path: Path, text: str, said: str) -> None:
    (found,) = problems(tmp_path, text)
    assert found.startswith(said)
    assert found.endswith((".", "?", '"'))


def test_csv_may_be_told_all_at_once(tmp_path: Path) -> None:
    said = node(
        tmp_path,
        ONE + '    delimiter: "\\t"\n    quote: "\'"\n    escape: "\\\\"\n    columns: [a, b]\n'
        "    types: {a: int}\n    encoding: latin-1\n    nulls: [NA, '-']\n",
    )
    assert (said.delimiter, said.quote, said.escape) == ("\t", "'", "\\")
    assert (said.columns, said.nulls) == (("a", "b"), ("NA", "-"))


@pytest.mark.parametrize("format_", ["csv", "parquet", "avro"])
def test_types_may_be_given_for_columns_of_all_tables(tmp_path: Path, format_: str) -> None:
    said = node(tmp_path, ONE + f"    format: {format_}\n    types: {{a: int, b: float, c: string}}\n")
    assert said.types == {"a": "int", "b": "float", "c": "string"}
    assert said.settings() != made(format=format_).settings()


@given(st.text(max_size=2), st.text(max_size=2), st.text(max_size=2))
def test_no_characters_are_accepted_that_cannot_tell_cells_apart(delimiter: str, quote: str, escape: str) -> None:
    try:
        spec = made(delimiter=delimiter, quote=quote, escape=escape)
    except ValueError:
        return
    used = [mark for mark in (spec.delimiter, spec.quote, spec.escape) if mark]
    assert len(spec.delimiter) == 1
    assert len(set(used)) == len(used)
    assert not set(used) & set("\r\n\0")


def test_a_runner_of_beam_is_no_part_of_identity_and_takes_what_is_above_its_limit(tmp_path: Path) -> None:
    plain = node(tmp_path, ONE)
    text = "    beam: {runner: FlinkRunner, args: ['--flink_master=host:8081'], above_mb: 500}\n"
    on_beam = node(tmp_path, ONE + text)
    assert on_beam.settings() == plain.settings()
    assert on_beam.beam
    assert (on_beam.beam.takes(500_000_000), on_beam.beam.takes(500_000_001)) == (False, True)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "{runner: flink}",
            "p.yaml:6: nodes.examples.beam.runner cannot be the text 'flink'. Beam's name of it, such as FlinkRunner",
        ),
        ("{args: [flink_master]}", "p.yaml:6: nodes.examples.beam: 'flink_master' is no option. Write `--name=value`."),
        (
            "{args: ['--runner=FlinkRunner']}",
            "p.yaml:6: nodes.examples.beam: the runner is named twice. Name it in `runner`.",
        ),
        ("{above_mb: -1}", "p.yaml:6: nodes.examples.beam.above_mb must be at least 0, not -1."),
    ],
)
def test_a_runner_of_beam_that_cannot_be_is_refused_at_its_line(tmp_path: Path, said: str, expected: str) -> None:
    (found,) = problems(tmp_path, f"{ONE}    beam: {said}\n")
    assert expected in found
