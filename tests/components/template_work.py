"""What a forked worker must be able to do although its libraries were imported before the fork."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import apache_beam as beam
import keras
import numpy as np
import tensorflow as tf
import tensorflow_data_validation as tfdv
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
import tf_keras
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from ctd.components.api import Outputs, Work


def run(work: Work) -> Outputs:
    assert float(tf.reduce_sum(tf.ones([3, 3]) @ tf.ones([3, 3]))) == 27
    drawn = float(np.random.random())  # the global generator, which forks share
    folder = work.output("model")
    said = DEEDS[str(work.request.spec["do"])](folder)
    (folder / "said").write_text(said)
    return {"model": [work.made(folder, drawn=drawn, said=said)]}


def _op(_folder: Path) -> str:
    return ""


def _hold(_folder: Path) -> str:
    time.sleep(600)
    return ""


def _fit(folder: Path) -> str:
    features, labels = np.random.default_rng(1).random((64, 4)), np.ones((64, 1))
    three = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(1)])
    two = tf_keras.Sequential([tf_keras.layers.Dense(8), tf_keras.layers.Dense(1)])
    for model in (three, two):
        model.compile("adam", "mse")
        model.fit(features, labels, epochs=2, verbose=0)
    three.export(str(folder / "saved"), verbose=False)
    return f"keras {keras.__version__[0]}, tf.keras is tf_keras: {tf.keras.Model is tf_keras.Model}"


def _beam(_folder: Path) -> str:
    csv = Path(tempfile.gettempdir(), "fares.csv")
    csv.write_text("fare,tips\n" + "".join(f"{n},{n % 3}\n" for n in range(50)))
    statistics = tfdv.generate_statistics_from_csv(str(csv))
    spec = {"fare": tf.io.FixedLenFeature([], tf.float32)}
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    with beam.Pipeline() as pipeline, tft_beam.Context(temp_dir=tempfile.mkdtemp()):
        rows = pipeline | beam.Create([{"fare": float(n)} for n in range(50)])
        scaled, _ = (rows, metadata) | tft_beam.AnalyzeAndTransformDataset(
            lambda inputs: {"fare": tft.scale_to_0_1(inputs["fare"])}
        )
        _ = scaled[0] | beam.Filter(lambda row: not 0 <= row["fare"] <= 1) | beam.Map(_never)
    return str(statistics.datasets[0].num_examples)


def _never(row: object) -> None:
    raise AssertionError(row)


DEEDS = {"op": _op, "hold": _hold, "fit": _fit, "beam": _beam}
