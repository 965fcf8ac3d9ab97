"""Projects of people who come from TFX, as files. Copied beside a spec, not imported."""

# As TFX's templates are laid out and written: a package, Keras 2 by the name `tf.keras`, TFX's own names.
TEMPLATE = {
    "models/__init__.py": "",
    "models/features.py": """
NUMBERS = ['length', 'depth']
LABEL_KEY = 'species'


def transformed_name(key):
  return key + '_xf'
""",
    "models/preprocessing.py": """
import tensorflow as tf
import tensorflow_transform as tft

from models import features


def preprocessing_fn(inputs):
  outputs = {features.transformed_name(key): tft.scale_to_z_score(inputs[key]) for key in features.NUMBERS}
  label = tft.compute_and_apply_vocabulary(inputs[features.LABEL_KEY], vocab_filename='species')
  outputs[features.transformed_name(features.LABEL_KEY)] = label
  return outputs
""",
    "models/unrelated.py": "NOTHING = 1\n",
    "models/keras_model/__init__.py": "",
    "models/keras_model/layers.txt": "8 8\n",
    "models/keras_model/model.py": """
import os
from typing import List

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow import keras
from tfx import v1 as tfx
from tfx.components.trainer.fn_args_utils import DataAccessor
from tfx_bsl.public import tfxio

from models import features
from models.preprocessing import preprocessing_fn

_LABEL = features.transformed_name(features.LABEL_KEY)
_UNITS = [int(n) for n in open(os.path.join(os.path.dirname(__file__), 'layers.txt')).read().split()]


def _input_fn(file_pattern: List[str], data_accessor: DataAccessor, schema, batch_size: int) -> tf.data.Dataset:
  return data_accessor.tf_dataset_factory(
      file_pattern, tfxio.TensorFlowDatasetOptions(batch_size=batch_size, label_key=_LABEL), schema).repeat()


def _build_keras_model() -> tf.keras.Model:
  names = [features.transformed_name(key) for key in features.NUMBERS]
  inputs = {name: keras.layers.Input(shape=(1,), name=name) for name in names}
  deep = keras.layers.concatenate(list(inputs.values()))
  for units in _UNITS:
    deep = keras.layers.Dense(units, activation='relu')(deep)
  model = keras.Model(inputs=inputs, outputs=keras.layers.Dense(3, activation='softmax')(deep))
  model.compile(optimizer=keras.optimizers.Adam(0.01), loss='sparse_categorical_crossentropy')
  return model


def _serve(model, tf_transform_output):
  model.tft_layer = tf_transform_output.transform_features_layer()

  @tf.function(input_signature=[tf.TensorSpec(shape=[None], dtype=tf.string, name='examples')])
  def serve_tf_examples_fn(serialized_tf_examples):
    feature_spec = tf_transform_output.raw_feature_spec()
    feature_spec.pop(features.LABEL_KEY)
    return {'outputs': model(model.tft_layer(tf.io.parse_example(serialized_tf_examples, feature_spec)))}

  return serve_tf_examples_fn


def _transform(model, tf_transform_output):
  # A layer of its own: one that was called without the label makes none.
  model.tft_layer_eval = tf_transform_output.transform_features_layer()

  @tf.function(input_signature=[tf.TensorSpec(shape=[None], dtype=tf.string, name='examples')])
  def transform_features_fn(serialized_tf_examples):
    return model.tft_layer_eval(tf.io.parse_example(serialized_tf_examples, tf_transform_output.raw_feature_spec()))

  return transform_features_fn


def run_fn(fn_args: tfx.components.FnArgs):
  tf_transform_output = tft.TFTransformOutput(fn_args.transform_output)
  schema = tf_transform_output.transformed_metadata.schema
  train = _input_fn(fn_args.train_files, fn_args.data_accessor, schema, 20)
  validation = _input_fn(fn_args.eval_files, fn_args.data_accessor, schema, 10)
  model = _build_keras_model()
  board = tf.keras.callbacks.TensorBoard(log_dir=fn_args.model_run_dir)
  model.fit(train, steps_per_epoch=fn_args.train_steps, validation_data=validation,
            validation_steps=fn_args.eval_steps, callbacks=[board])
  model.save(fn_args.serving_model_dir, save_format='tf',
             signatures={'serving_default': _serve(model, tf_transform_output),
                         'transform_features': _transform(model, tf_transform_output)})
""",
    "specs/flowers.yaml": """
pipeline: flowers
module: ../models/keras_model/model.py
nodes:
  example_gen: {kind: example_gen, input: "../data/span-{SPAN}"}
  statistics_gen: {kind: statistics_gen}
  schema_gen: {kind: schema_gen}
  example_validator: {kind: example_validator}
  transform: {kind: transform}
  trainer: {kind: trainer, train_steps: 100, eval_steps: 5}
  evaluator:
    kind: evaluator
    label_key: species_xf
    slices: [[], [species]]
    metrics: {SparseCategoricalAccuracy: {at_least: 0.6, slices: overall}}
  infra_validator: {kind: infra_validator}
  pusher: {kind: pusher, targets: [serving]}
""",
    "deploy_targets/serving.yaml": "{target: serving, kind: tf_serving, path: '../serving/{pipeline}'}\n",
}

# Keras 3 on raw examples of TFRecords, with a signature of plain tensors; hyperparameters and two sources of data.
REGRESSION = {
    "houses.py": """
import keras
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tfx_bsl.public import tfxio


def run_fn(fn_args):
    schema = tfdv.load_schema_text(fn_args.schema_path)
    options = tfxio.TensorFlowDatasetOptions(batch_size=32, num_epochs=1, label_key="price in k€")
    data = fn_args.data_accessor.tf_dataset_factory(fn_args.train_files, options, schema)
    data = data.map(lambda x, price: ({"area": x["area"], "rooms": tf.cast(x["rooms"], tf.float32)}, price))
    inputs = {name: keras.Input((1,), name=name) for name in ("area", "rooms")}
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Concatenate()(list(inputs.values()))))
    model.compile(keras.optimizers.Adam(fn_args.hyperparameters["learning_rate"]), "mse", jit_compile=False)
    model.fit(data, epochs=20, verbose=0)

    def raw(area, rooms):
        return {"price": model({"area": area, "rooms": rooms})}

    def examples(serialized):
        spec = {"area": tf.io.FixedLenFeature([1], tf.float32), "rooms": tf.io.FixedLenFeature([1], tf.int64)}
        found = tf.io.parse_example(serialized, spec)
        return raw(found["area"], tf.cast(found["rooms"], tf.float32))

    archive = keras.export.ExportArchive()
    archive.track(model)
    number = [tf.TensorSpec([None, 1], tf.float32, name) for name in ("area", "rooms")]
    archive.add_endpoint("serving_default", examples, [tf.TensorSpec([None], tf.string, "examples")])
    archive.add_endpoint("raw", raw, number)
    archive.write_out(fn_args.serving_model_dir)
""",
    "best.json": '{"learning_rate": 0.1}\n',
    "specs/houses.yaml": """
pipeline: houses
module: ../houses.py
nodes:
  sold:
    kind: example_gen
    input: ../data/day={YYYY}{MM}{DD}/part-*.tfrecord*
    format: tfrecord
    complete: {quiet: 1s}
    splits: {train: 6, eval: 1, test: 3}
  offered: {kind: example_gen, input: "../offers/{SPAN:2}/*.csv", types: {rooms: int}}
  statistics: {kind: statistics_gen, inputs: {examples: sold}}
  schema: {kind: schema_gen}
  best: {kind: importer, artifact: HyperParameters, path: ../best.json}
  trainer: {kind: trainer, inputs: {examples: sold.examples}}
  evaluator:
    kind: evaluator
    inputs: {examples: sold}
    label_key: price in k€
    splits: [test]
    slices: [[], [rooms], [rooms, city/part]]
    metrics:
      MeanAbsoluteError: {at_most: 2, not_worse_than_baseline_by: 1, slices: overall}
  infra: {kind: infra_validator, inputs: {examples: offered}, signatures: [raw], requests: 5}
  pusher: {kind: pusher, targets: [serving]}
""",
    "deploy_targets/serving.yaml": "{target: serving, kind: tf_serving, path: '../serving/{pipeline}'}\n",
}
