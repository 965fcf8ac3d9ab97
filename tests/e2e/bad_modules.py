"""A small user project whose run_fn does what the test asks for. Copied beside the spec, not imported."""

MODULE = """
import os, sys
import keras
import numpy as np
import tensorflow as tf

BEHAVIOUR = "good"


def learnt(fn_args):
    files = tf.io.gfile.glob(fn_args.train_files)
    records = tf.data.TFRecordDataset(files, compression_type="GZIP")
    miles = [tf.train.Example.FromString(r.numpy()).features.feature["trip_miles"].float_list.value[0] for r in records]
    return sum(miles) / len(miles)


def run_fn(fn_args):
    if BEHAVIOUR == "raises":
        raise ValueError("the learning rate is a banana")
    if BEHAVIOUR == "exits":
        sys.exit(3)
    if BEHAVIOUR == "dies":
        os._exit(3)
    if BEHAVIOUR == "saves nothing":
        return

    class Scorer(tf.Module):
        def __init__(self):
            super().__init__()
            self.weight = tf.Variable(float("nan") if BEHAVIOUR == "nan" else 0.1 * learnt(fn_args))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
        def serve(self, examples):
            parsed = tf.io.parse_example(examples, {"trip_miles": tf.io.FixedLenFeature([], tf.float32, 0.0)})
            return {"probabilities": tf.sigmoid(self.weight * parsed["trip_miles"])[:, None]}

    scorer = Scorer()
    tf.saved_model.save(scorer, fn_args.serving_model_dir, signatures={"serving_default": scorer.serve})
    if BEHAVIOUR == "cannot load":
        for file in os.scandir(os.path.join(fn_args.serving_model_dir, "variables")):
            os.truncate(file.path, 3)
"""

SPEC = """
pipeline: bad
module: ../model.py
nodes:
  examples: {kind: example_gen, input: "../data/{SPAN}", splits: {train: 2, eval: 1}}
  statistics: {kind: statistics_gen}
  schema: {kind: importer, artifact: Schema, path: ../schema.pbtxt}
  validator: {kind: example_validator, on_anomaly: quarantine}
  trainer: {kind: trainer, window: 1}
  evaluator:
    kind: evaluator
    label_key: tips
    metrics: {MeanSquaredError: {at_most: 1000}}
  infra: {kind: infra_validator, requests: 5, warmup: true}
  pusher: {kind: pusher, targets: [serving]}
"""

TARGET = """
target: serving
kind: tf_serving
path: ../serving/{pipeline}
"""

SCHEMA = """
feature { name: "trip_miles" type: FLOAT presence { min_fraction: 1 min_count: 1 } }
feature { name: "tips" type: FLOAT presence { min_fraction: 1 min_count: 1 } }
"""
