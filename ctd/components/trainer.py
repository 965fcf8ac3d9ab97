"""Runs the user's `run_fn(fn_args)` and takes the SavedModel it leaves. The fn_args are TFX's, field by field."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform.tf_metadata import schema_utils
from tfx_bsl.tfxio import dataset_options, tf_example_record

from ctd import training
from ctd.components.api import SERVING_DIR, Outputs, Work, split_dir, user_code, user_function
from ctd.components.autograph import spare_keras_2
from ctd.components.fn_args import DataAccessor, FnArgs
from ctd.components.model_run import without_others
from ctd.core.artifacts import Artifact, Value
from ctd.core.errors import BadInput, ComponentFailed
from ctd.specs.nodes import TrainerSpec

log = logging.getLogger(__name__)

# TFX's name for the export that only Estimators wrote.
_EVAL_DIR = "Format-TFMA"


def run(work: Work) -> Outputs:
    """Train one model."""
    # TFT sets this when it is imported. Set here, tf.keras is Keras 2 in every process, however it was started.
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # noqa: TID251  a switch of TensorFlow's, not a setting of ours
    spare_keras_2()
    model, model_run = work.output("model"), work.output("model_run")
    fn_args = _fn_args(work, model, model_run)
    module = work.request.module
    work.progress(f"importing {Path(module or '').name}")
    run_fn = user_function(work, "run_fn")
    steps = f", {fn_args.train_steps} steps" if fn_args.train_steps else ""
    work.progress(f"run_fn on {len(fn_args.train_files)} train and {len(fn_args.eval_files)} eval splits{steps}")
    with user_code(f"{work.where}: run_fn", module):
        run_fn(fn_args)
    _check_saved(work, Path(fn_args.serving_model_dir))
    skipped = without_others(model_run)
    if skipped:
        log.warning("%s", skipped)
    noted: dict[str, Value] = {"skipped": skipped} if skipped else {}
    return {"model": [work.made(model)], "model_run": [work.made(model_run, digest="", like=None, **noted)]}


def _fn_args(work: Work, model: Path, model_run: Path) -> FnArgs:
    spec = work.spec(TrainerSpec)
    examples = work.inputs("examples")
    _check_there(work, examples, spec.train_splits)
    base_model = work.optional("base_model")
    transform_graph = work.optional("transform_graph")
    schema, hyperparameters = work.optional("schema"), work.optional("hyperparameters")
    return FnArgs(
        train_files=_patterns(examples, spec.train_splits),
        eval_files=_patterns(examples, spec.eval_splits),
        train_steps=spec.train_steps,
        eval_steps=spec.eval_steps,
        schema_path=str(_only_file(schema)) if schema else None,
        transform_graph_path=transform_graph.uri if transform_graph else None,
        data_accessor=DataAccessor(_dataset, _record_batches),
        serving_model_dir=str(model / SERVING_DIR),
        eval_model_dir=str(model / _EVAL_DIR),
        model_run_dir=str(model_run),
        base_model=str(Path(base_model.uri, SERVING_DIR)) if base_model else None,
        hyperparameters=_hyperparameters(hyperparameters) if hyperparameters else None,
        custom_config=dict(spec.custom_config),
    )


def _patterns(examples: Iterable[Artifact], splits: Sequence[str]) -> list[str]:
    """One pattern for each split of each artifact, oldest span first."""
    examples = tuple(examples)
    return [str(split_dir(artifact, split) / "*") for split in splits for artifact in examples]


def _check_there(work: Work, examples: Sequence[Artifact], splits: Sequence[str]) -> None:
    """Raise BadInput where there is nothing to train on: splits may be empty, but not in all spans."""
    counts = [json.loads(str(artifact.properties.get("num_examples", "null"))) for artifact in examples]
    if counts and all(count is not None and not any(count.get(split) for split in splits) for count in counts):
        raise BadInput(
            f"{work.where}: there are no examples in {', '.join(splits)}",
            hint="Give the spans more examples, `window` more spans, or the split more buckets in `splits` of the "
            "example_gen.",
        )


def _only_file(artifact: Artifact) -> Path:
    files = [path for path in sorted(Path(artifact.uri).iterdir()) if path.is_file()]
    if len(files) != 1:
        raise BadInput(
            f"{artifact.type.value} {artifact.label} has {len(files)} files in {artifact.uri} instead of one",
            hint="Import a single file.",
        )
    return files[0]


def _hyperparameters(artifact: Artifact) -> dict[str, Any]:
    path = _only_file(artifact)
    try:
        said: Mapping[str, Any] = json.loads(path.read_text())
        return dict(said)
    except (ValueError, TypeError) as error:
        raise BadInput(
            f"hyperparameters {path} are not a JSON object: {error}",
            hint="KerasTuner's `HyperParameters.get_config()` as JSON, or a plain object of names and values.",
        ) from error


def _dataset(
    file_pattern: str | list[str],
    options: dataset_options.TensorFlowDatasetOptions,
    schema: schema_pb2.Schema | None = None,
) -> tf.data.Dataset:
    """As in TFX, and faster where the schema has a shape for every feature; Transform's has."""
    features = schema_utils.schema_as_feature_spec(schema).feature_spec if schema else {}
    if not features or not all(isinstance(feature, tf.io.FixedLenFeature) for feature in features.values()):
        return _tfxio(file_pattern, schema).TensorFlowDataset(options)
    return training.dataset(file_pattern, features, options)


def _record_batches(
    file_pattern: str | list[str],
    options: dataset_options.RecordBatchesOptions,
    schema: schema_pb2.Schema | None = None,
) -> Iterator[pa.RecordBatch]:
    return _tfxio(file_pattern, schema).RecordBatches(options)


def _tfxio(file_pattern: str | list[str], schema: schema_pb2.Schema | None) -> tf_example_record.TFExampleRecord:
    return tf_example_record.TFExampleRecord(
        file_pattern=file_pattern, schema=schema, telemetry_descriptors=["ctd", "Trainer"]
    )


def _check_saved(work: Work, serving: Path) -> None:
    if (serving / tf.saved_model.SAVED_MODEL_FILENAME_PB).is_file():
        return
    there = sorted(path.name for path in serving.iterdir()) if serving.is_dir() else []
    found = f" but {', '.join(there[:5])}" if there else ""
    raise ComponentFailed(
        f"{work.where}: run_fn returned without saving a model: there is no saved_model.pb in fn_args.serving_model_dir"
        f"{found}",
        hint="End run_fn with tf.saved_model.save(model, fn_args.serving_model_dir, signatures=...), or for Keras 3 "
        "with model.export(fn_args.serving_model_dir). `.keras` and `.h5` files cannot be served.",
    )
