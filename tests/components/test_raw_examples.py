"""`materialize: false`: Transform writes no examples; the trainer applies the graph to raw ones, and it is judged."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from ctd.core.artifacts import Artifact
from tests.components.conftest import Perform
from tests.components.transform_data import SCHEMA, examples, rides, schema

pytestmark = pytest.mark.tf

# As TFX's own examples read raw data: parsed by the raw spec, then through the graph.
MODULE = """
import tensorflow as tf
import tensorflow_transform as tft

def preprocessing_fn(inputs):
    return {
        "fare_xf": tft.scale_to_z_score(inputs["fare"]),
        "card_xf": tf.cast(tf.reshape(tf.sparse.to_dense(inputs["payment"]), [-1, 1]) == "Card", tf.int64),
    }

def run_fn(fn_args):
    graph = tft.TFTransformOutput(fn_args.transform_output)
    spec, transform = graph.raw_feature_spec(), graph.transform_features_layer()
    files = tf.io.gfile.glob(fn_args.train_files)
    records = tf.data.TFRecordDataset(files, "GZIP").batch(64)
    batches = records.map(lambda some: transform(tf.io.parse_example(some, spec)))
    fares = tf.concat([batch["fare_xf"] for batch in batches], 0)

    served = tf.Module()
    served.transform = transform
    served.weight = tf.Variable([tf.reduce_mean(fares), float(fares.shape[0])])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def transform_features(examples):
        return served.transform(tf.io.parse_example(examples, spec))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serving_default(examples):
        return {"probabilities": tf.sigmoid(transform_features(examples)["fare_xf"] - served.weight[0])}

    signatures = {"serving_default": serving_default, "transform_features": transform_features}
    tf.saved_model.save(served, fn_args.serving_model_dir, signatures)
"""


def test_a_model_trained_on_raw_examples_is_evaluated_on_them(work: Perform, tmp_path: Path) -> None:
    module = tmp_path / "my_module.py"
    module.write_text(MODULE)
    spans: list[Artifact] = [
        examples(tmp_path / f"{i}", span=i, train=rides(100, seed=i), eval=rides(50, seed=9 + i)) for i in (1, 2)
    ]
    given = {"examples": spans, "schema": schema(tmp_path / "schema", SCHEMA)}
    made = work("transform", spec={"materialize": False}, inputs=given, module=str(module))
    assert set(made) == {"transform_graph", "updated_analyzer_cache"}
    (graph,) = made["transform_graph"]

    trained = work("trainer", inputs={**given, "transform_graph": graph}, module=str(module))
    (model,) = trained["model"]
    serving = Path(model.uri, "Format-Serving")
    mean, rows = tf.train.load_checkpoint(str(serving / "variables/variables")).get_tensor(
        "weight/.ATTRIBUTES/VARIABLE_VALUE"
    )
    assert rows == 200
    assert mean == pytest.approx(0, abs=1e-5), "z-scores of all that was analysed"
    assert set(tft.TFTransformOutput(graph.uri).transformed_feature_spec()) == {"fare_xf", "card_xf"}

    (evaluation,) = work(
        "evaluator",
        spec={
            "label_key": "card_xf",
            "preprocessing": ["transform_features"],
            "metrics": {"BinaryAccuracy": {}, "ExampleCount": {}},
        },
        inputs={"examples": spans, "model": model, "schema": given["schema"]},
    )["evaluation"]
    (found,) = json.loads(Path(evaluation.uri, "metrics.json").read_text())
    assert np.isfinite(found["metrics"]["BinaryAccuracy"])
    assert found["metrics"]["ExampleCount"] == 100
