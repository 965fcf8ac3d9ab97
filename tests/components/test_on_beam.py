"""On a runner of Beam a span gives the same examples and statistics as on ctd's own path, and the same errors."""

import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma

from ctd.components.api import split_files
from ctd.components.examples_io import read_split
from ctd.components.metadata_files import digest_of_messages, statistics_of
from ctd.core.artifacts import Artifact
from ctd.core.errors import BadInput, ComponentFailed
from tests.components import evaluation_models as small

pytestmark = pytest.mark.tf

DIRECT = {"runner": "DirectRunner"}
HEADER = "number,fraction,word,nothing\n"


def csv_files(folder: Path, numbers: int = 3) -> list[Path]:
    """Of one file alone, each column's type would be another one."""
    paths = []
    for file in range(numbers):
        rows = (f"{i}{'.5' if file == 1 else ''},{i if file == 2 else i / 4},word {i % 7},\n" for i in range(40))
        paths.append(folder / f"{file}.csv")
        paths[-1].write_text(HEADER + "".join(rows))
    return paths


def made(work, files: list[Path], beam: dict[str, object] | None, **spec: object) -> Artifact:
    return work("example_gen", spec={"input": "/data/{SPAN}", "beam": beam, **spec}, files=files)["examples"][0]


def test_examples_of_csv_on_beam_are_those_of_ctd(work, tmp_path) -> None:
    files = csv_files(tmp_path)
    own, on_beam = (made(work, files, beam) for beam in (None, DIRECT))
    assert on_beam.digest == own.digest
    assert on_beam.properties == own.properties
    for split in ("train", "eval"):
        shards = split_files(on_beam, split)
        assert [Path(shard).name for shard in shards] == [f"data_tfrecord-0000{i}-of-00003.gz" for i in range(3)]
        assert read_split(shards) == read_split(split_files(own, split))
        read = list(tf.data.TFRecordDataset(list(shards), "GZIP").as_numpy_iterator())
        assert read == read_split(shards)
    assert sorted(path.name for path in Path(on_beam.uri).iterdir()) == ["Split-eval", "Split-train"]
    assert not list(Path(on_beam.uri).parent.glob(".beam*"))


def test_a_split_without_examples_is_on_beam_as_on_ctd(work, tmp_path) -> None:
    files = [tmp_path / name for name in ("a.csv", "b.csv")]
    files[0].write_text("x,y\n1,a\n")
    files[1].write_text("x,y\n2,a\n")
    own, on_beam = (made(work, files, beam, split_by="y") for beam in (None, DIRECT))
    assert (on_beam.digest, on_beam.properties) == (own.digest, own.properties)
    counts = json.loads(str(own.properties["num_examples"]))
    assert sorted(counts.values()) == [0, 2]
    (empty,) = (split for split, count in counts.items() if not count)
    (shard,) = split_files(on_beam, empty)
    assert Path(shard).name == "data_tfrecord-00000-of-00001.gz"
    assert Path(shard).read_bytes() == Path(*split_files(own, empty)).read_bytes()
    statistics = (
        work("statistics_gen", spec={"beam": beam}, inputs={"examples": own})["statistics"][0]
        for beam in (None, DIRECT)
    )
    mine, theirs = (digest_of_messages({"": statistics_of(one, empty)}) for one in statistics)
    assert mine == theirs


@pytest.mark.parametrize("format_", ["parquet", "tfrecord"])
def test_examples_of_other_formats_on_beam_are_those_of_ctd(work, tmp_path, format_) -> None:
    files = []
    for number in range(2):
        files.append(tmp_path / f"{number}.{format_}")
        if format_ == "parquet":
            pq.write_table(pa.table({"a": list(range(number * 40, number * 40 + 40)), "b": ["x"] * 40}), files[-1])
            continue
        with tf.io.TFRecordWriter(str(files[-1])) as writer:
            for i in range(40):
                value = tf.train.Feature(int64_list=tf.train.Int64List(value=[i + 40 * number]))
                writer.write(tf.train.Example(features=tf.train.Features(feature={"a": value})).SerializeToString())
    own, on_beam = (made(work, files, beam, format=format_) for beam in (None, DIRECT))
    assert (on_beam.digest, on_beam.properties) == (own.digest, own.properties)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(HEADER + "1,2,x,\n1,2\n", "1.csv:3: 2 cells in 4 columns", id="a line cut off"),
        pytest.param("number,word\n1,x\n", "1.csv:1: no column fraction, nothing, unlike", id="another header"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_the_same_words(work, tmp_path, content, said) -> None:
    files = csv_files(tmp_path, 2)
    files[1].write_text(content)
    messages = set()
    for beam in (None, DIRECT):
        with pytest.raises(BadInput) as error:
            made(work, files, beam)
        messages.add((error.value.message, error.value.hint))
    ((message, hint),) = messages
    assert said in message
    assert hint


def test_files_whose_columns_mean_other_things_are_refused_in_the_same_words(work, tmp_path) -> None:
    files = [tmp_path / f"{number}.parquet" for number in range(3)]
    for path, type_ in zip(files, (pa.null(), pa.date32(), pa.timestamp("us")), strict=True):
        pq.write_table(pa.table({"t": pa.array([None], type_)}), path)
    messages = set()
    for beam in (None, DIRECT):
        with pytest.raises(BadInput) as error:
            made(work, files, beam, format="parquet")
        messages.add((error.value.message, error.value.hint))
    ((message, _),) = messages
    assert message == f"{files[2]}: column t is timestamp[us], not date32[day], unlike {files[1]}"


def test_what_features_lose_is_told_on_beam_as_on_ctd(work, tmp_path) -> None:
    files = [tmp_path / f"{number}.parquet" for number in range(2)]
    for number, path in enumerate(files):
        prices = pa.array([Decimal(12345678900 + number).scaleb(-2)], pa.decimal128(12, 2))
        pq.write_table(pa.table({"price": prices}), path)
    own, on_beam = (made(work, files, beam, format="parquet") for beam in (None, DIRECT))
    assert (on_beam.digest, on_beam.properties) == (own.digest, own.properties)
    assert "column price (decimal128(12, 2)) loses digits: 123456789.00" in str(own.properties["reason"])


def test_statistics_on_beam_are_those_of_ctd(work, tmp_path) -> None:
    files = csv_files(tmp_path)
    chance = np.random.default_rng(1)
    rows = (f"{chance.integers(100)},{chance.gamma(2, 5)},word,{chance.normal()}\n" for _ in range(4000))
    files[0].write_text(HEADER + "".join(rows))
    examples = made(work, files, None)
    own, on_beam = (
        work("statistics_gen", spec={"beam": beam}, inputs={"examples": examples})["statistics"][0]
        for beam in (None, DIRECT)
    )
    assert (on_beam.digest, on_beam.properties) == (own.digest, own.properties)


def test_an_evaluation_on_beam_has_the_numbers_of_ctd(work, tmp_path) -> None:
    examples = small.write_examples(tmp_path / "examples", small.rides(5000))
    new, old = (
        small.write_model(tmp_path / str(n), small.probabilities(n), n, transform_features=small.transform_features)
        for n in (2, 1)
    )
    spec = {
        "label_key": "label_xf",
        "example_weight_key": "weight",
        "slices": [[], ["hour"], ["kind", "hour"]],
        "metrics": {"BinaryAccuracy": {}, "AUC": {}, "MeanPrediction": {}},
    }
    inputs = {"examples": examples, "model": new, "baseline_model": old}
    own, on_beam = (
        work("evaluator", spec={**spec, "beam": beam}, inputs=inputs)["evaluation"][0] for beam in (None, DIRECT)
    )
    assert on_beam.properties == own.properties
    there, here = (json.loads(Path(one.uri, "metrics.json").read_text()) for one in (on_beam, own))
    assert [(row["slice"], row["model"], row["examples"]) for row in there] == [
        (row["slice"], row["model"], row["examples"]) for row in here
    ]
    for one, other in zip(there, here, strict=True):
        assert one["metrics"] == pytest.approx(other["metrics"], rel=1e-6), one["slice"]
    assert tfma.load_eval_result(on_beam.uri, model_name="baseline").slicing_metrics


def test_what_an_evaluation_on_beam_cannot_do_is_said_before_it_begins(work, tmp_path) -> None:
    examples = small.write_examples(tmp_path / "examples", small.rides(20))
    model = small.write_model(tmp_path / "m", small.probabilities(1.0), 1, transform_features=small.transform_features)
    spec = {"label_key": "label_xf", "slices": [["huor"]], "metrics": {"AUC": {}}, "beam": {"runner": "NoSuchRunner"}}
    with pytest.raises(BadInput, match="'huor', which examples are sliced by, is neither"):
        work("evaluator", spec=spec, inputs={"examples": examples, "model": model})
    with pytest.raises(ComponentFailed, match="Beam's NoSuchRunner ended with"):
        work("evaluator", spec={**spec, "slices": [["hour"]]}, inputs={"examples": examples, "model": model})


def test_what_is_not_above_the_limit_is_read_by_ctd_itself(work, tmp_path) -> None:
    nowhere = {"runner": "NoSuchRunner", "above_mb": 1}
    files = csv_files(tmp_path)
    own = made(work, files, nowhere)
    assert own.digest == made(work, files, None).digest
    assert work("statistics_gen", spec={"beam": nowhere}, inputs={"examples": own})["statistics"]


@pytest.mark.parametrize(
    ("beam", "said"),
    [
        pytest.param({"runner": "NoSuchRunner"}, "Beam's NoSuchRunner ended with", id="a runner that Beam has not"),
        pytest.param({"args": ["--direct_num_workers=x"]}, "Beam's DirectRunner ended with", id="an unfit option"),
    ],
)
def test_a_runner_that_does_not_run_is_named(work, tmp_path, beam, said) -> None:
    with pytest.raises(ComponentFailed) as error:
        made(work, csv_files(tmp_path), beam)
    assert said in error.value.message
    assert "node example_gen" in error.value.message
    assert "Without `beam`" in error.value.hint
