"""Will a taxi ride earn a tip above 20 % of the fare? The user's half of the pipeline, by TFX's conventions.

`preprocessing_fn` turns a trip's columns into numbers, `run_fn` trains a wide and deep model on them and exports
it. Any column may be missing in any row: every feature has a value for "nobody knows".
"""

import logging
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tfx_bsl.public import tfxio

log = logging.getLogger(__name__)

LABEL = "tips_xf"
AMOUNTS = ("fare", "trip_miles", "trip_seconds")
PLACES = ("pickup_latitude", "pickup_longitude", "dropoff_latitude", "dropoff_longitude")
BUCKETS = 10
WORDS = ("payment_type", "company")
# Whole numbers below a limit; the limit itself stands for missing and impossible ones.
NUMBERS = {
    "trip_start_hour": 24,
    "trip_start_day": 8,
    "trip_start_month": 13,
    "pickup_community_area": 78,
    "dropoff_community_area": 78,
}
DEFAULTS = {"batch_size": 64, "learning_rate": 0.001, "embedding": 8, "units": 64}


def preprocessing_fn(inputs: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Return the features of the model, each of shape [N, 1] and named `..._xf`, and the label."""
    outputs = {}
    for name in AMOUNTS:
        # The mean and deviation are those of the cells that are there; a blank one becomes the mean, 0.
        logarithm = _each(lambda x: tf.math.log1p(tf.maximum(tf.cast(x, tf.float32), 0.0)), inputs[name])
        outputs[f"{name}_xf"] = _dense(tft.scale_to_z_score(logarithm), 0.0)
    for name in PLACES:
        outputs[f"{name}_xf"] = _dense(tft.bucketize(inputs[name], BUCKETS), BUCKETS)
    for name in WORDS:
        # 0 is a blank cell, then the known words, then one number for all others.
        index = tft.compute_and_apply_vocabulary(
            inputs[name], num_oov_buckets=1, frequency_threshold=10, vocab_filename=name
        )
        outputs[f"{name}_xf"] = _dense(index, -1) + 1
    for name, limit in NUMBERS.items():
        number = _dense(inputs[name], limit)
        outputs[f"{name}_xf"] = tf.where((number >= 0) & (number < limit), number, limit)
    # Nothing is greater than NaN: without a fare or a tip the answer is no.
    fare, tips = _dense(inputs["fare"], math.nan), _dense(inputs["tips"], math.nan)
    outputs[LABEL] = tf.cast(tips > 0.2 * fare, tf.int64)
    return outputs


def _each(function: Callable[[tf.Tensor], tf.Tensor], column: Any) -> Any:
    return tf.sparse.map_values(function, column) if isinstance(column, tf.SparseTensor) else function(column)


def _dense(column: Any, missing: float) -> tf.Tensor:
    """Return one value a row; a column that the schema declares with a shape has them already."""
    if not isinstance(column, tf.SparseTensor):
        return column
    shape = [column.dense_shape[0], 1]
    missing = tf.cast(missing, column.dtype)
    return tf.sparse.to_dense(tf.SparseTensor(column.indices, column.values, shape), missing)


def run_fn(fn_args: Any) -> None:
    """Train on `train_files`, from the base model's weights where they fit, and export with three signatures."""
    given = fn_args.hyperparameters or {}
    settings = DEFAULTS | (fn_args.custom_config or {}) | given.get("values", given)
    transform = tft.TFTransformOutput(fn_args.transform_graph_path)
    keras.utils.set_random_seed(7)
    model = build_model(transform, settings)
    if fn_args.base_model:
        warm_start(model, transform, fn_args.base_model)

    steps, schema = fn_args.train_steps, transform.transformed_metadata.schema
    options = tfxio.TensorFlowDatasetOptions(
        settings["batch_size"], num_epochs=None if steps else 1, shuffle_seed=7, label_key=LABEL
    )
    train = fn_args.data_accessor.tf_dataset_factory(fn_args.train_files, options, schema)
    options = tfxio.TensorFlowDatasetOptions(1024, num_epochs=1, shuffle=False, label_key=LABEL)
    evaluation = fn_args.data_accessor.tf_dataset_factory(fn_args.eval_files, options, schema)
    model.compile(
        optimizer=keras.optimizers.Adam(settings["learning_rate"]),
        loss="binary_crossentropy",
        metrics=[keras.metrics.BinaryAccuracy(name="accuracy")],
        # Compiling for the CPU costs more than it wins on a model of this size.
        jit_compile=False,
        steps_per_execution=math.gcd(steps, 50) if steps else 1,
    )
    # A first step that makes variables, as those of the optimizer, is traced twice.
    model.optimizer.build(model.trainable_variables)
    model.fit(
        train,
        steps_per_epoch=steps,
        validation_data=evaluation.take(fn_args.eval_steps or -1),
        callbacks=[keras.callbacks.TensorBoard(fn_args.model_run_dir, write_graph=False)],
        shuffle=False,
        verbose=2,
    )
    export(model, transform, fn_args.serving_model_dir)


def build_model(transform: tft.TFTransformOutput, settings: dict[str, Any]) -> keras.Model:
    """Return a wide and deep model whose categories share one table, each with rows of its own."""
    sizes = {f"{name}_xf": BUCKETS + 1 for name in PLACES}
    sizes |= {f"{name}_xf": transform.vocabulary_size_by_name(name) + 2 for name in WORDS}
    sizes |= {f"{name}_xf": limit + 1 for name, limit in NUMBERS.items()}
    amounts = [keras.Input((1,), name=f"{name}_xf", dtype="float32") for name in AMOUNTS]
    categories = [keras.Input((1,), name=name, dtype="int64") for name in sizes]

    *starts, rows = np.cumsum([0, *sizes.values()]).tolist()
    row = keras.layers.Concatenate()([index + start for index, start in zip(categories, starts, strict=True)])
    wide = keras.layers.Flatten()(keras.layers.Embedding(rows, 1, "zeros", name="wide")(row))
    deep = keras.layers.Flatten()(keras.layers.Embedding(rows, settings["embedding"], name="table")(row))
    deep = keras.layers.Concatenate()([*amounts, deep])
    deep = keras.layers.Dense(settings["units"], "relu", name="first")(deep)
    deep = keras.layers.Dense(settings["units"] // 2, "relu", name="second")(deep)
    both = keras.layers.Concatenate()([wide, deep])
    probability = keras.layers.Dense(1, "sigmoid", name="answer")(both)
    return keras.Model({tensor.name: tensor for tensor in (*amounts, *categories)}, probability)


def warm_start(model: keras.Model, transform: tft.TFTransformOutput, base_model: str) -> bool:
    """Take over all weights of an exported model, or none: rows of other words would mean something else."""
    weights = _weights(model)
    try:
        reader = tf.train.load_checkpoint(f"{base_model}/variables/variables")
        old = {name: reader.get_tensor(f"weights/{name}/.ATTRIBUTES/VARIABLE_VALUE") for name in weights}
        words = [_bytes(f"{base_model}/assets/{name}") for name in WORDS]
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        log.warning("cold start: no weights to take over in %s: %s", base_model, error)
        return False
    for name, weight in weights.items():
        if weight.shape != old[name].shape:
            log.warning("cold start: %s was %s and is now %s", name, old[name].shape, tuple(weight.shape))
            return False
    if words != [_bytes(transform.vocabulary_file_by_name(name)) for name in WORDS]:
        log.warning("cold start: the vocabularies are not those of %s", base_model)
        return False
    for name, weight in weights.items():
        weight.assign(old[name])
    log.info("warm start from %s", base_model)
    return True


def _weights(model: keras.Model) -> dict[str, tf.Variable]:
    return {weight.path.replace("/", "_"): weight.value for weight in model.weights}


def _bytes(path: str) -> bytes:
    with tf.io.gfile.GFile(path, "rb") as file:
        return bytes(file.read())


def export(model: keras.Model, transform: tft.TFTransformOutput, directory: str) -> None:
    """Write a SavedModel that needs neither this module nor TFT.

    `serving_default` takes serialized raw examples, `transform_features` turns them into features and label,
    `transformed` takes the features as plain tensors: the one that converts to TFLite and TensorFlow.js.
    """
    # Holding the raw variables, not the Keras model, keeps the result convertible; and each part is traced once.
    module = tf.Module()
    module.transform = tf.saved_model.load(transform.transform_savedmodel_dir)
    module.weights = _weights(model)
    raw_spec = transform.raw_feature_spec()
    examples = tf.TensorSpec([None], tf.string, name="examples")
    features = {tensor.name: tf.TensorSpec([None, 1], tensor.dtype, name=tensor.name) for tensor in model.inputs}

    @tf.function(input_signature=[examples])
    def transform_features(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return module.transform.transform_fn(tf.io.parse_example(examples, raw_spec))

    @tf.function(input_signature=[features])
    def transformed(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {"probabilities": model(features, training=False)}

    @tf.function(input_signature=[examples])
    def serving_default(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        values = transform_features(examples)
        return transformed({name: values[name] for name in features})

    signatures = {f.__name__: f for f in (serving_default, transform_features, transformed)}
    tf.saved_model.save(module, directory, signatures)
