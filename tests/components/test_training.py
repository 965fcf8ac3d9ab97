"""The input pipeline of `data_accessor`: the batches that TFX gives, from memory or from the files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.public.tfxio import TensorFlowDatasetOptions, TFExampleRecord

from ctd import training
from tests.components import evaluation_models as small

pytestmark = pytest.mark.tf

ROWS = 70
SHAPED = "presence { min_fraction: 1 } shape { dim { size: 1 } }"
SCHEMA = text_format.Parse(
    f'feature {{ name: "x" type: FLOAT {SHAPED} }} feature {{ name: "hour" type: INT {SHAPED} }}'
    f'feature {{ name: "kind" type: BYTES {SHAPED} }}',
    schema_pb2.Schema(),
)
FEATURES = {name: small.RAW[name] for name in ("x", "hour", "kind")}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Patterns of two spans, as in fn_args."""
    folder = tmp_path_factory.mktemp("spans")
    for span in (1, 2):
        small.write_examples(folder / str(span), small.rides(ROWS // 2, seed=span))
    return [f"{folder}/{span}/Split-eval/*" for span in (1, 2)]


def options(**said: Any) -> TensorFlowDatasetOptions:
    return TensorFlowDatasetOptions(**{"batch_size": 16, "num_epochs": 1, "label_key": "hour"} | said)


def numbers(dataset: tf.data.Dataset) -> list[float]:
    """The values of one feature, which is another in every row."""
    return [float(x) for features, _ in dataset for x in np.ravel(features["x"])]


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(
    "said", [{}, {"drop_final_batch": True}, {"num_epochs": 2}, {"label_key": None}, {"batch_size": 100}]
)
def test_batches_are_those_of_tfx(files: list[str], said: dict[str, Any], in_memory: bool) -> None:
    wanted = options(shuffle=False, **said)
    theirs = TFExampleRecord(files, schema=SCHEMA, telemetry_descriptors=["test"]).TensorFlowDataset(wanted)
    ours = training.dataset(files, FEATURES, wanted, in_memory)
    assert ours.element_spec == theirs.element_spec
    expected, found = list(theirs.as_numpy_iterator()), list(ours.as_numpy_iterator())
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("in_memory", [True, False])
def test_every_epoch_has_each_row_once_in_an_order_of_its_own(files: list[str], in_memory: bool) -> None:
    plain = numbers(training.dataset(files, FEATURES, options(shuffle=False), in_memory))
    assert len(set(plain)) == ROWS
    shuffled = training.dataset(files, FEATURES, options(num_epochs=2, batch_size=ROWS, shuffle_seed=3), in_memory)
    first, second = numbers(shuffled.take(1)), numbers(shuffled.skip(1))
    again = training.dataset(files, FEATURES, options(num_epochs=2, batch_size=ROWS, shuffle_seed=3), in_memory)
    assert sorted(first) == sorted(second) == sorted(plain)
    assert len({tuple(order) for order in (plain, first, second)}) == 3
    assert numbers(again.take(1)) == first


def test_without_an_end_all_batches_are_whole(files: list[str]) -> None:
    endless = training.dataset(files, FEATURES, options(num_epochs=None))
    assert endless.cardinality() == tf.data.INFINITE_CARDINALITY
    assert {len(label) for _, label in endless.take(20)} == {16}


def test_keras_is_told_how_many_batches_there_are(files: list[str]) -> None:
    assert training.dataset(files, FEATURES, options()).cardinality() == 5


def test_features_without_a_shape_are_read_from_the_files(files: list[str]) -> None:
    features = {**FEATURES, "kind": tf.io.VarLenFeature(tf.string)}
    rows = training.dataset(files, features, options(num_epochs=1))
    assert isinstance(rows.element_spec[0]["kind"], tf.SparseTensorSpec)
    assert len(numbers(rows)) == ROWS


@pytest.mark.parametrize("kind", ["numbers", "text"])
def test_what_is_small_on_disk_and_large_as_tensors_is_read_in_every_epoch(tmp_path: Path, kind: str) -> None:
    width, rows = 1000, 500
    example = tf.train.Example()
    if kind == "numbers":
        example.features.feature["x"].float_list.value.extend([0.0] * width)
    else:
        example.features.feature["x"].bytes_list.value.append(b"0" * 4 * width)
    with tf.io.TFRecordWriter(str(tmp_path / "zeros.gz"), "GZIP") as writer:
        for _ in range(rows):
            writer.write(example.SerializeToString())
    size = 4 * width * rows
    assert (tmp_path / "zeros.gz").stat().st_size < size / 50
    feature = tf.io.FixedLenFeature([width], tf.float32) if kind == "numbers" else tf.io.FixedLenFeature([1], tf.string)
    wanted = options(label_key=None, shuffle=False, batch_size=100)
    kept, streamed = (
        training.dataset(str(tmp_path / "zeros.gz"), {"x": feature}, wanted, limit=limit)
        for limit in (size + 30 * rows, size - 1)
    )
    for one, other in zip(kept, streamed, strict=True):
        np.testing.assert_array_equal(one["x"], other["x"])
    (tmp_path / "zeros.gz").unlink()
    assert sum(len(batch["x"]) for batch in kept) == rows
    with pytest.raises(tf.errors.NotFoundError):
        list(streamed)


def test_files_may_be_without_compression(tmp_path: Path) -> None:
    with tf.io.TFRecordWriter(str(tmp_path / "plain")) as writer:
        for record in small.records(small.rides(5)):
            writer.write(record)
    assert len(numbers(training.dataset(str(tmp_path / "*"), FEATURES, options()))) == 5


@pytest.mark.parametrize(
    ("pattern", "said", "complaint"),
    [
        pytest.param("nowhere/*", {}, "no file matches .*nowhere", id="files"),
        pytest.param("1/Split-eval/*", {"label_key": "hours"}, "'hours' is not among the features hour", id="label"),
    ],
)
def test_what_is_missing_is_named(files: list[str], pattern: str, said: dict[str, Any], complaint: str) -> None:
    folder = Path(files[0]).parents[2]
    with pytest.raises(ValueError, match=complaint):
        training.dataset([f"{folder}/{pattern}"], FEATURES, options(**said))
