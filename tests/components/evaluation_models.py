"""Examples of rides and small SavedModels that say something about them, as artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from ctd.core.artifacts import Artifact, ArtifactType

ROWS = 700
KINDS = ("cash", "card", "prcard")
RAW = {
    "x": tf.io.FixedLenFeature([1], tf.float32),
    "tips": tf.io.FixedLenFeature([1], tf.float32),
    "hour": tf.io.FixedLenFeature([1], tf.int64),
    "kind": tf.io.FixedLenFeature([1], tf.string),
    "onehot": tf.io.FixedLenFeature([3], tf.float32),
    "weight": tf.io.FixedLenFeature([1], tf.float32),
}
Columns = Mapping[str, np.ndarray]


def rides(rows: int = ROWS, seed: int = 1) -> Columns:
    """Columns of numbers; the last hour has only a few rides."""
    random = np.random.default_rng(seed)
    x = random.normal(size=rows).astype(np.float32)
    number = random.integers(0, 3, rows)
    return {
        "x": x,
        "tips": (x + random.normal(size=rows)).astype(np.float32),
        "hour": np.where(np.arange(rows) < 10, 4, random.integers(0, 4, rows)),
        "number": number,
        "kind": np.array(KINDS, dtype=object)[number],
        "onehot": np.eye(3, dtype=np.float32)[number],
        "weight": random.integers(1, 4, rows).astype(np.float32),
    }


def label(columns: Columns) -> np.ndarray:
    return (columns["tips"] > 0.5).astype(np.int64)


def records(columns: Columns) -> Iterator[bytes]:
    """The rows as serialized tf.Examples."""
    for row in range(len(columns["x"])):
        example = tf.train.Example()
        for name, values in columns.items():
            feature, value = example.features.feature[name], np.atleast_1d(values[row])
            if value.dtype.kind in "OU":
                feature.bytes_list.value.extend([str(v).encode() for v in value])
            elif value.dtype.kind == "i":
                feature.int64_list.value.extend(value.tolist())
            else:
                feature.float_list.value.extend(value.tolist())
        yield example.SerializeToString()


def serialized(*examples: bytes) -> np.ndarray:
    """Examples as an input of a signature."""
    return np.array(examples, dtype=object)


def write_examples(folder: Path, columns: Columns, *, span: int = 1) -> Artifact:
    """An Examples artifact with everything in the split `eval`."""
    split = folder / "Split-eval"
    split.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(split / "data_tfrecord-00000-of-00001.gz"), tf.io.TFRecordOptions("GZIP")) as writer:
        for record in records(columns):
            writer.write(record)
    return Artifact(ArtifactType.EXAMPLES, str(folder), f"d{span}", span, 0, {"split_names": '["eval"]'}, id=span)


def write_model(folder: Path, predict: Callable[[dict[str, Any]], Any], number: int, **more: Any) -> Artifact:
    """A Model artifact whose serving_default answers for serialized examples; `more` are further signatures."""
    module = tf.Module()
    module.one = tf.Variable(1.0)  # so that there is something in variables/

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = tf.io.parse_example(examples, RAW)
        return predict({**raw, "x": module.one * raw["x"]})

    module.serve = serve
    for name, function in more.items():
        setattr(module, name, function)
    tf.saved_model.save(module, str(folder / "Format-Serving"), {"serving_default": serve, **more})
    return model_artifact(folder, number)


def model_artifact(folder: Path, number: int) -> Artifact:
    return Artifact(ArtifactType.MODEL, str(folder), f"m{number}", id=number)


@tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
def transform_features(examples: tf.Tensor) -> dict[str, tf.Tensor]:
    """What the signature of this name does in a user's model: raw examples to features and label."""
    raw = tf.io.parse_example(examples, RAW)
    return {"x_xf": raw["x"] * 2.0, "label_xf": tf.cast(raw["tips"] > 0.5, tf.int64), "late_xf": raw["hour"] // 3}


def probabilities(slope: float, *, flat: bool = False) -> Callable[[dict[str, Any]], dict[str, tf.Tensor]]:
    def predict(raw: dict[str, Any]) -> dict[str, tf.Tensor]:
        found = tf.sigmoid(slope * raw["x"])
        return {"probabilities": found[:, 0] if flat else found}

    return predict


def sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(tf.sigmoid(tf.constant(values)))


def classes(raw: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Three classes, right about half of the time."""
    noise = tf.concat([raw["x"], -raw["x"], tf.zeros_like(raw["x"])], axis=1)
    return {"scores": tf.nn.softmax(raw["onehot"] + noise)}


def numpy_classes(columns: Columns) -> np.ndarray:
    x = columns["x"][:, None]
    return np.asarray(tf.nn.softmax(columns["onehot"] + np.concatenate([x, -x, 0 * x], axis=1)))


def write_keras_2_model(folder: Path, number: int) -> Artifact:
    """A tf_keras model with the attribute `tft_layer`, as TFX's older examples save it."""
    raw = {name: tf_keras.Input((1,), name=name, dtype=RAW[name].dtype) for name in ("x", "tips")}
    tft_layer = tf_keras.Model(
        raw, {"label_xf": tf_keras.layers.Lambda(lambda t: tf.cast(t > 0.5, tf.int64))(raw["tips"])}
    )
    inputs = tf_keras.Input((1,), name="x_xf")
    model = tf_keras.Model(inputs, tf_keras.layers.Activation("sigmoid")(inputs))
    model.tft_layer = tft_layer

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": model(tf.io.parse_example(examples, RAW)["x"])}

    model.save(str(folder / "Format-Serving"), save_format="tf", signatures={"serving_default": serve})
    return model_artifact(folder, number)
