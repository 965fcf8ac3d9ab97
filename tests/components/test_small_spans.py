"""A span so small that all its examples fall to one split goes through the whole chain, its other split empty."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_metadata.proto.v0.anomalies_pb2 import Anomalies

from ctd.components.api import Work, split_files
from ctd.components.examples_io import read_split
from ctd.components.metadata_files import schema_of, statistics_of, write_schema
from ctd.components.serving_requests import first_split_records, last_split_records
from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.errors import BadInput
from ctd.core.work import Request
from tests.components.conftest import Perform

pytestmark = pytest.mark.tf

MODULE = """
import json
import tensorflow as tf
import tensorflow_transform as tft

def preprocessing_fn(inputs):
    return {
        "fare_xf": tft.scale_to_z_score(inputs["fare"]),
        "way_xf": tft.compute_and_apply_vocabulary(inputs["way"], vocab_filename="way"),
        "part_xf": tft.bucketize(inputs["fare"], 2),
    }

def run_fn(fn_args):
    graph = tft.TFTransformOutput(fn_args.transform_graph_path)
    schema = graph.transformed_metadata.schema
    from tfx_bsl.public import tfxio
    rows = {}
    for name, files in (("train", fn_args.train_files), ("eval", fn_args.eval_files)):
        options = tfxio.TensorFlowDatasetOptions(batch_size=2, num_epochs=1)
        batches = fn_args.data_accessor.tf_dataset_factory(files, options, schema)
        rows[name] = sum(int(batch["fare_xf"].shape[0]) for batch in batches)
    model = tf.Module()
    model.rows = tf.Variable([rows["train"], rows["eval"]])
    model.f = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(model, fn_args.serving_model_dir, {"serving_default": model.f})
"""
HEAD = "fare,way\n"


@pytest.fixture
def module(tmp_path: Path) -> str:
    (tmp_path / "my_module.py").write_text(MODULE)
    return str(tmp_path / "my_module.py")


@pytest.fixture
def span(work: Perform, tmp_path: Path) -> Any:
    """`span(1, rows)` gives examples and statistics of a span."""

    def make(number: int, rows: str) -> tuple[Artifact, Artifact]:
        file = tmp_path / f"{number}.csv"
        file.write_text(HEAD + rows)
        (examples,) = work("example_gen", spec={"input": "/d/{SPAN}"}, files=[file], span=number)["examples"]
        (statistics,) = work("statistics_gen", inputs={"examples": examples})["statistics"]
        return examples, statistics

    return make


def counts(examples: Artifact) -> dict[str, int]:
    return dict(json.loads(str(examples.properties["num_examples"])))


def anomalies(made: Artifact, split: str) -> Any:
    return Anomalies.FromString(Path(made.uri, f"Split-{split}/SchemaDiff.pb").read_bytes())


def one_row(span: Any, split: str) -> tuple[Artifact, Artifact]:
    """A span of one row, which falls to this split."""
    found = (span(number, f"{number}.5,car\n") for number in range(1, 50))
    return next(made for made in found if counts(made[0])[split] == 1)


def test_one_row_becomes_two_splits_one_of_them_an_empty_tfrecord(span: Any) -> None:
    examples, statistics = one_row(span, "train")
    assert counts(examples) == {"train": 1, "eval": 0}
    (shard,) = split_files(examples, "eval")
    assert Path(shard).name == "data_tfrecord-00000-of-00001.gz"
    assert list(tf.data.TFRecordDataset([shard], "GZIP")) == read_split([shard]) == []
    assert [statistics_of(statistics, s).datasets[0].num_examples for s in ("train", "eval")] == [1, 0]


def test_a_small_span_goes_through_the_chain(work: Perform, span: Any, module: str) -> None:
    examples, statistics = one_row(span, "train")
    (schema,) = work("schema_gen", inputs={"statistics": statistics})["schema"]
    features = {f.name: f for f in schema_of(schema).feature}
    assert features.keys() == {"fare", "way"}
    assert all(f.presence.min_fraction == 1 for f in features.values()), "what is empty makes nothing optional"

    (verdict,) = work("example_validator", inputs={"statistics": statistics, "schema": schema})["anomalies"]
    assert verdict.blessed
    assert verdict.properties["reason"] == "no anomalies; split eval: no examples"
    assert anomalies(verdict, "eval").data_missing

    made = work("transform", inputs={"examples": examples, "schema": schema}, module=module)
    (transformed,) = made["transformed_examples"]
    assert counts(transformed) == {"train": 1, "eval": 0}
    assert tft.TFTransformOutput(made["transform_graph"][0].uri).vocabulary_by_name("way") == [b"car"]


def test_windows_take_small_spans_beside_others(work: Perform, span: Any, module: str) -> None:
    rows = "".join(f"{i}.25,{'car' if i % 3 else 'bus'}\n" for i in range(40))
    pairs = [one_row(span, "eval"), one_row(span, "train"), span(60, rows)]
    examples, statistics = ([pair[i] for pair in pairs] for i in (0, 1))
    (schema,) = work("schema_gen", inputs={"statistics": statistics})["schema"]
    assert all(f.presence.min_fraction == 1 for f in schema_of(schema).feature)
    made = work("transform", inputs={"examples": examples, "schema": schema}, module=module)
    inputs = {"examples": made["transformed_examples"], "transform_graph": made["transform_graph"]}
    (model,) = work("trainer", inputs=inputs, module=module)["model"]
    loaded = tf.saved_model.load(f"{model.uri}/Format-Serving")
    expected = [sum(counts(e)[split] for e in examples) for split in ("train", "eval")]
    assert loaded.rows.numpy().tolist() == expected


def test_nobody_trains_on_nothing(work: Perform, span: Any, module: str) -> None:
    examples, statistics = one_row(span, "eval")
    (schema,) = work("schema_gen", inputs={"statistics": statistics})["schema"]
    made = work("transform", inputs={"examples": examples, "schema": schema}, module=module)
    inputs = {"examples": made["transformed_examples"], "transform_graph": made["transform_graph"]}
    with pytest.raises(BadInput, match="there are no examples in train"):
        work("trainer", inputs=inputs, module=module)


def test_a_schema_that_asks_for_examples_refuses_an_empty_split(work: Perform, span: Any, tmp_path: Path) -> None:
    _, statistics = one_row(span, "train")
    (schema,) = work("schema_gen", inputs={"statistics": statistics})["schema"]
    curated = schema_of(schema)
    curated.dataset_constraints.min_examples_count = 1
    (tmp_path / "schema").mkdir()
    write_schema(tmp_path / "schema", curated)
    strict = Artifact(ArtifactType.SCHEMA, str(tmp_path / "schema"))
    (verdict,) = work("example_validator", inputs={"statistics": statistics, "schema": strict})["anomalies"]
    assert not verdict.blessed
    assert verdict.properties["reason"] == "split eval: no examples"


@pytest.mark.parametrize("split", ["train", "eval"])
def test_servers_are_asked_about_the_split_that_has_examples(span: Any, tmp_path: Path, split: str) -> None:
    examples, _ = one_row(span, split)
    asked = Work(
        Request(1, "p", "n", "pusher", "all", "", str(tmp_path), {}, outputs={}, inputs={"examples": (examples,)})
    )
    (record,) = read_split(split_files(examples, split))
    assert last_split_records(asked, "examples", 9) == first_split_records(examples, 9) == [record]
