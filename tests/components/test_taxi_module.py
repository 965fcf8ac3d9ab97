"""The example's module and schema on generated days, with TFT, Keras and TFDV but without ctd."""

import csv
import io
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apache_beam as beam
import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform.tf_metadata.dataset_metadata import DatasetMetadata
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder, RecordBatchToExamplesEncoder
from tfx_bsl.public.tfxio import TFExampleRecord

from examples.taxi import generate, taxi

pytestmark = [
    pytest.mark.tf,
    # TFX's datasets do not know how long they are, which Keras does not like in the last step of an evaluation.
    pytest.mark.filterwarnings("ignore:Your input ran out of data"),
]

FOLDER = Path(taxi.__file__).parent
SCHEMA = tfdv.load_schema_text(str(FOLDER / "schema.pbtxt"))
KINDS = {feature.name: feature.type for feature in SCHEMA.feature}

# Runs where nothing but TensorFlow is imported, as in a model server.
ALONE = """
import sys
import numpy as np
import tensorflow as tf
model, records, data = sys.argv[1:]
loaded, want = tf.saved_model.load(model), np.load(data)
examples = tf.constant(list(tf.data.TFRecordDataset(records).as_numpy_iterator()))
got = loaded.signatures["serving_default"](examples=examples)["probabilities"]
np.testing.assert_allclose(got, want["probabilities"], atol=1e-5)
lite = tf.lite.TFLiteConverter.from_saved_model(model, signature_keys=["transformed"]).convert()
features = {name: want[name] for name in want.files if name.endswith("_xf")}
small = tf.lite.Interpreter(model_content=lite).get_signature_runner("transformed")(**features)
np.testing.assert_allclose(small["probabilities"], want["probabilities"], atol=1e-5)
assert not {"tensorflow_transform", "examples"} & set(sys.modules)
"""


def to_examples(path: Path) -> list[bytes]:
    """Rows as TFX's CSV reader makes them: a blank cell is a feature without values."""
    examples = []
    for row in csv.DictReader(io.StringIO(path.read_text())):
        example = tf.train.Example()
        for name, cell in row.items():
            feature = example.features.feature[name]
            if not cell:
                continue
            if KINDS[name] == schema_pb2.INT:
                feature.int64_list.value.append(int(cell))
            elif KINDS[name] == schema_pb2.FLOAT:
                feature.float_list.value.append(float(cell))
            else:
                feature.bytes_list.value.append(cell.encode())
        examples.append(example.SerializeToString())
    return examples


def without(example: bytes, column: str) -> bytes:
    row = tf.train.Example.FromString(example)
    del row.features.feature[column]
    return row.SerializeToString()


def write(path: str, examples: Sequence[bytes]) -> None:
    with tf.io.TFRecordWriter(path) as writer:
        for example in examples:
            writer.write(example)


def transform(folder: Path, splits: Mapping[str, Sequence[bytes]]) -> Path:
    """Analyse `train`, transform every split, and leave `graph/` and `{split}/*.gz` below the folder."""
    sources = {}
    for split, examples in splits.items():
        path = f"{folder}/{split}.tfrecord"
        write(path, examples)
        sources[split] = TFExampleRecord(path, schema=SCHEMA, telemetry_descriptors=["test"])
    config = sources["train"].TensorAdapterConfig()
    # Named, because Beam's default runner first tries to download another one.
    with beam.Pipeline(runner=FnApiRunner()) as pipeline, tft_beam.Context(temp_dir=f"{folder}/scratch"):
        raw = {split: pipeline | split >> source.BeamSource() for split, source in sources.items()}
        graph = (raw["train"], config) | tft_beam.AnalyzeDataset(taxi.preprocessing_fn)
        for split, batches in raw.items():
            apply = tft_beam.TransformDataset(output_record_batches=True)
            transformed, _ = ((batches, config), graph) | f"Transform[{split}]" >> apply
            (
                transformed
                | f"Encode[{split}]" >> beam.FlatMapTuple(lambda batch, _: RecordBatchToExamplesEncoder().encode(batch))
                | f"Write[{split}]" >> beam.io.WriteToTFRecord(f"{folder}/{split}/data", file_name_suffix=".gz")
            )
        graph | tft_beam.WriteTransformFn(f"{folder}/graph")
        DatasetMetadata(SCHEMA) | tft_beam.WriteMetadata(f"{folder}/graph/metadata", pipeline)
    return folder


def dataset(files: list[str], options: Any, schema: schema_pb2.Schema) -> tf.data.Dataset:
    """What TFX's own data_accessor gives."""
    return TFExampleRecord(files, schema=schema, telemetry_descriptors=["test"]).TensorFlowDataset(options)


def train(folder: Path, name: str, **said: Any) -> str:
    """Call run_fn as the Trainer does and return the model's folder."""
    model = str(folder / name / "Format-Serving")
    fn_args = {
        "train_files": [f"{folder}/train/*"],
        "eval_files": [f"{folder}/eval/*"],
        "train_steps": 300,
        "eval_steps": None,
        "transform_graph_path": str(folder / "graph"),
        "serving_model_dir": model,
        "model_run_dir": str(folder / name / "run"),
        "base_model": None,
        "hyperparameters": None,
        "custom_config": None,
        "data_accessor": SimpleNamespace(tf_dataset_factory=dataset),
    }
    taxi.run_fn(SimpleNamespace(**fn_args | said))
    return model


def signature(model: str, name: str, **inputs: Any) -> dict[str, npt.NDArray[Any]]:
    loaded = tf.saved_model.load(model)
    return {key: value.numpy() for key, value in loaded.signatures[name](**inputs).items()}


def predict(model: str, examples: Sequence[bytes]) -> npt.NDArray[Any]:
    return signature(model, "serving_default", examples=tf.constant(examples))["probabilities"]


def features_of(model: str, examples: Sequence[bytes]) -> dict[str, npt.NDArray[Any]]:
    return signature(model, "transform_features", examples=tf.constant(examples))


def weights_of(model: str) -> dict[str, npt.NDArray[Any]]:
    return {name: weight.numpy() for name, weight in tf.saved_model.load(model).weights.items()}


def anomalies(examples: Sequence[bytes]) -> set[str]:
    batch = ExamplesToRecordBatchDecoder(SCHEMA.SerializeToString()).DecodeBatch(list(examples))
    options = tfdv.StatsOptions(schema=SCHEMA)
    statistics = tfdv.statistics.stats_impl.generate_statistics_in_memory(batch, options)
    return set(tfdv.validate_statistics(statistics, SCHEMA).anomaly_info)


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> list[list[bytes]]:
    out = tmp_path_factory.mktemp("days")
    return [to_examples(generate.write_day(out, date(2024, 3, 1) + timedelta(n))) for n in range(3)]


@pytest.fixture(scope="module")
def friday(tmp_path_factory: pytest.TempPathFactory, days: list[list[bytes]]) -> Path:
    """The first day, transformed."""
    return transform(tmp_path_factory.mktemp("friday"), {"train": days[0][:2000], "eval": days[0][2000:]})


@pytest.fixture(scope="module")
def model(friday: Path) -> str:
    return train(friday, "first")


def test_a_day_is_enough_to_judge_another_day(model: str, days: list[list[bytes]]) -> None:
    probabilities, labels = predict(model, days[2]), features_of(model, days[2])["tips_xf"]
    assert probabilities.shape == labels.shape == (3000, 1)
    assert keras.metrics.AUC()(labels, probabilities) > 0.9
    assert np.mean((probabilities > 0.5) == labels) > 0.8


def test_the_label_is_a_tip_above_a_fifth_of_the_fare(model: str, days: list[list[bytes]]) -> None:
    def cell(example: bytes, name: str) -> float:
        return float(tf.train.Example.FromString(example).features.feature[name].float_list.value[0])

    want = [cell(e, "tips") > np.float32(0.2) * np.float32(cell(e, "fare")) for e in days[1]]
    assert features_of(model, days[1])["tips_xf"].ravel().tolist() == want


def test_the_signatures_agree(model: str, days: list[list[bytes]]) -> None:
    features = features_of(model, days[1])
    del features["tips_xf"]
    transformed = signature(model, "transformed", **{name: tf.constant(x) for name, x in features.items()})
    np.testing.assert_allclose(transformed["probabilities"], predict(model, days[1]), atol=1e-6)


def test_the_exported_transform_is_that_of_the_training_data(model: str, friday: Path, days: list[list[bytes]]) -> None:
    spec = tft.TFTransformOutput(str(friday / "graph")).transformed_feature_spec()
    records = tf.data.TFRecordDataset(sorted(str(p) for p in friday.glob("eval/*")), "GZIP")
    written = tf.io.parse_example(list(records.as_numpy_iterator()), spec)
    exported = features_of(model, days[0][2000:])
    assert set(written) == set(exported)
    for name, values in written.items():
        np.testing.assert_allclose(np.sort(values, axis=0), np.sort(exported[name], axis=0), atol=1e-5, err_msg=name)


@pytest.mark.parametrize("column", generate.COLUMNS)
def test_any_column_may_be_missing(model: str, days: list[list[bytes]], column: str) -> None:
    probabilities = predict(model, [without(days[1][0], column), days[1][0]])
    assert ((probabilities > 0) & (probabilities < 1)).all()


def test_an_empty_request_is_answered_and_its_label_is_no(model: str) -> None:
    empty = [tf.train.Example().SerializeToString()]
    assert np.isfinite(predict(model, empty)).all()
    assert features_of(model, empty)["tips_xf"].tolist() == [[0]]


def test_impossible_values_are_answered(model: str, days: list[list[bytes]]) -> None:
    row = tf.train.Example.FromString(days[0][0])
    row.features.feature["trip_start_hour"].int64_list.value[:] = [99]
    row.features.feature["fare"].float_list.value[:] = [-5.0]
    row.features.feature["payment_type"].bytes_list.value[:] = [b"Barter"]
    assert np.isfinite(predict(model, [row.SerializeToString()])).all()


def test_the_model_works_and_converts_where_there_is_only_tensorflow(
    tmp_path: Path, model: str, days: list[list[bytes]]
) -> None:
    examples = days[1][:64]
    features = features_of(model, examples)
    del features["tips_xf"]
    records, want = str(tmp_path / "examples.tfrecord"), str(tmp_path / "want.npz")
    write(records, examples)
    np.savez(want, probabilities=predict(model, examples), **features)
    subprocess.run([sys.executable, "-c", ALONE, model, records, want], check=True, timeout=300)


def test_training_again_gives_the_same_model(friday: Path, model: str) -> None:
    again = weights_of(train(friday, "again"))
    for name, weight in weights_of(model).items():
        np.testing.assert_allclose(again[name], weight, atol=1e-3, err_msg=name)


def test_without_steps_it_sees_the_data_once(friday: Path, days: list[list[bytes]]) -> None:
    once = train(friday, "once", train_steps=None, eval_steps=1, hyperparameters={"values": {"units": 8}})
    assert weights_of(once)["first_kernel"].shape[1] == 8
    labels = features_of(once, days[1])["tips_xf"]
    assert keras.metrics.AUC()(labels, predict(once, days[1])) > 0.7


def test_a_warm_start_goes_on_from_the_base_model(
    friday: Path, model: str, days: list[list[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    slow = {"learning_rate": 1e-9}
    warm = train(friday, "warm", base_model=model, train_steps=1, custom_config=slow)
    assert f"warm start from {model}" in caplog.text
    np.testing.assert_allclose(predict(warm, days[1]), predict(model, days[1]), atol=1e-4)


def test_another_vocabulary_starts_cold(
    tmp_path: Path, friday: Path, model: str, days: list[list[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    few = transform(tmp_path, {"train": days[1][:100], "eval": days[1][2000:2100]})
    words = [tft.TFTransformOutput(str(f / "graph")).vocabulary_by_name("company") for f in (friday, few)]
    assert len(words[0]) > len(words[1])
    train(few, "few", base_model=model, train_steps=5)
    assert "cold start: " in caplog.text
    assert "_embeddings was " in caplog.text


def test_the_same_number_of_other_words_starts_cold(
    tmp_path: Path, friday: Path, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = tmp_path / "model"
    tf.io.gfile.makedirs(str(other))
    for path in Path(model).rglob("*"):
        if path.is_file():
            target = other / path.relative_to(model)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes().replace(b"Choice", b"Cheese"))
    train(friday, "other", base_model=str(other), train_steps=5)
    assert "cold start: the vocabularies are not those of" in caplog.text


@pytest.mark.parametrize("base", ["nowhere", "."])
def test_a_base_model_without_weights_starts_cold(
    tmp_path: Path, friday: Path, base: str, caplog: pytest.LogCaptureFixture
) -> None:
    train(friday, f"base-{len(base)}", base_model=str(tmp_path / base), train_steps=5)
    assert "cold start: no weights to take over" in caplog.text


def test_the_schema_accepts_good_days(tmp_path: Path) -> None:
    for month in range(1, 13):
        day = generate.write_day(tmp_path, date(2024, month, month), version=1 + month % 2, seed=month)
        assert anomalies(to_examples(day)) == set()


def test_the_schema_accepts_a_small_day(tmp_path: Path) -> None:
    assert anomalies(to_examples(generate.write_day(tmp_path, date(2024, 3, 1), trips=100))) == set()


def test_the_schema_refuses_outliers(tmp_path: Path) -> None:
    found = anomalies(to_examples(generate.write_day(tmp_path, date(2024, 3, 1), bad="outliers")))
    assert found == {"fare", "trip_miles", "trip_start_hour", "payment_type"}


def test_the_schema_refuses_a_day_with_too_many_blanks(tmp_path: Path) -> None:
    found = anomalies(to_examples(generate.write_day(tmp_path, date(2024, 3, 1), missing=0.3)))
    assert {"fare", "tips", "payment_type", "company", "dropoff_latitude", "trip_miles"} <= found


def test_the_schema_declares_every_column_of_the_generator() -> None:
    assert set(KINDS) == set(generate.COLUMNS)
    assert set(generate.COMPANIES) <= set(tfdv.get_domain(SCHEMA, "company").value)
    assert set(generate.RARE_PAYMENTS) <= set(tfdv.get_domain(SCHEMA, "payment_type").value)
