"""What metrics are computed from: batches of examples with labels, predictions and features.

They are what TFMA's extractors make, one model at a time. TFMA's own code calls the models; only Beam is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_model_analysis as tfma
import tf_keras
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.utils import model_util, util
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder
from tfx_bsl.tfxio.tensor_representation_util import InferTensorRepresentationsFromMixedSchema

from ctd.components.api import SERVING_DIR
from ctd.components.serving_requests import Takes
from ctd.components.signature_inputs import feature_of
from ctd.core.artifacts import Artifact
from ctd.core.errors import BadInput, ComponentFailed
from ctd.specs.evaluator import EvaluatorSpec

Extracts = dict[str, Any]

# TFMA first calls signatures in a way that fails, and numpy spells out arrays of up to 1000 examples for that error.
BATCH = 4096
# What turns raw examples into features and labels, by the names people give it.
_TRANSFORM_SIGNATURE = "transform_features"
_TRANSFORM_LAYER = "tft_layer"
# TFMA calls these by itself where a model has them.
_TFMA_DEFAULTS = ("transformed_features", "transformed_labels")


@dataclass(frozen=True)
class Examples:
    """Serialized examples and how to read them."""

    records: Sequence[bytes]
    schema: schema_pb2.Schema | None
    features: frozenset[str]

    @classmethod
    def of(cls, records: Sequence[bytes], schema: schema_pb2.Schema | None) -> Examples:
        """Examples read by the schema if it is theirs: transformed examples have other features than the raw ones."""
        found = frozenset(ExamplesToRecordBatchDecoder().DecodeBatch(records[:BATCH]).schema.names)
        known = {feature.name for feature in schema.feature} if schema else set()
        return cls(records, schema if found and found <= known else None, found | (known if found <= known else set()))

    def batches(self) -> Iterator[Extracts]:
        """Features and the examples themselves."""
        serialized = self.schema.SerializeToString() if self.schema else None
        decoder = ExamplesToRecordBatchDecoder(serialized)
        representations = InferTensorRepresentationsFromMixedSchema(self.schema) if self.schema else {}
        for begin in range(0, len(self.records), BATCH):
            records = self.records[begin : begin + BATCH]
            batch = decoder.DecodeBatch(records)
            # A feature without a value in the whole batch has no type there; TFMA leaves it out too.
            known = [field.name for field in batch.schema if not pa.types.is_null(field.type)]
            batch = pa.RecordBatch.from_arrays([batch.column(name) for name in known], known)
            yield {
                constants.FEATURES_KEY: util.record_batch_to_tensor_values(batch, representations),
                constants.INPUT_KEY: np.array(records, dtype=object),
            }


@dataclass(frozen=True)
class Subject:
    """A model to measure."""

    name: str
    path: Path
    spec: tfma.ModelSpec
    inputs: Mapping[str, tf.TensorSpec]

    @classmethod
    def of(cls, name: str, model: Artifact, said: EvaluatorSpec, features: frozenset[str]) -> Subject:
        """The model of an artifact, with the signatures that the spec names or the model's own labels need.

        Raises BadInput if its files are gone, ComponentFailed if it lacks a signature.
        """
        path = Path(model.uri, SERVING_DIR)
        parts = _Parts.of(path)
        where = f"{name} model #{model.id}"
        signature = said.signature or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        if signature not in parts.signatures:
            raise ComponentFailed(
                f"{where} has no signature {signature!r}, only {_listed(parts.signatures)}",
                hint="Export the signature in run_fn, or name another with `signature:` of the evaluator.",
            )
        for function in said.preprocessing:
            if not parts.has(function):
                raise ComponentFailed(
                    f"{where} has neither signature nor attribute {function!r}",
                    hint="Export it in run_fn, or mend `preprocessing:` of the evaluator. "
                    f"The signatures are {_listed(parts.signatures)}.",
                )
        if said.prediction_key and said.prediction_key not in parts.outputs(signature):
            raise ComponentFailed(
                f"signature {signature!r} of {where} has no output {said.prediction_key!r}, only "
                f"{_listed(parts.outputs(signature))}",
                hint="Mend `prediction_key:` of the evaluator, or name the output so in run_fn.",
            )
        preprocessing = said.preprocessing
        if not preprocessing and not wanted(said) <= features:
            preprocessing = parts.default_preprocessing()
        # Only Keras can call a layer by its attribute; asking TFMA to find out would load every model twice.
        keras = any(function in parts.attributes - parts.signatures for function in preprocessing)
        spec = tfma.ModelSpec(
            name=name,
            model_type=constants.TF_KERAS if keras else constants.TF_GENERIC,
            signature_name=signature,
            label_key=said.label_key,
            prediction_key=said.prediction_key,
            example_weight_key=said.example_weight_key,
            preprocessing_function_names=preprocessing,
            is_baseline=name == tfma.BASELINE_KEY,
        )
        return cls(name, path, spec, parts.inputs(signature))

    def shared_model(self, config: tfma.EvalConfig, name: str) -> tfma.EvalSharedModel:
        """The model as TFMA takes it, by the name that the config gives it."""
        tags = [tf.saved_model.SERVING]
        # TFMA would take the Keras that tf.keras happens to be, which in a fresh process is Keras 3.
        loader = tfma.ModelLoader(lambda: tf_keras.models.load_model(str(self.path)), tags)
        keras = self.spec.model_type == constants.TF_KERAS
        return tfma.default_eval_shared_model(
            str(self.path),
            tags=tags,
            model_name=name,
            eval_config=config,
            custom_model_loader=loader if keras else None,
        )


@dataclass(frozen=True)
class _Parts:
    """What a SavedModel can be asked for by name, without loading it."""

    graph: Any
    attributes: frozenset[str]

    @property
    def signatures(self) -> frozenset[str]:
        return frozenset(self.graph.signature_def) - {"__saved_model_init_op"}

    def inputs(self, signature: str) -> Mapping[str, tf.TensorSpec]:
        said = self.graph.signature_def[signature].inputs.items()
        return {name: tf.TensorSpec(tf.TensorShape(i.tensor_shape), tf.as_dtype(i.dtype)) for name, i in said}

    def outputs(self, signature: str) -> frozenset[str]:
        return frozenset(self.graph.signature_def[signature].outputs)

    @classmethod
    def of(cls, path: Path) -> _Parts:
        try:
            saved = saved_model_pb2.SavedModel.FromString((path / tf.saved_model.SAVED_MODEL_FILENAME_PB).read_bytes())
        except (OSError, DecodeError) as error:
            raise BadInput(f"model {path} cannot be read: {error}", hint="Its files are gone or damaged.") from error
        for graph in saved.meta_graphs:
            if tf.saved_model.SERVING in graph.meta_info_def.tags:
                root = graph.object_graph_def.nodes[:1]
                attributes = frozenset(child.local_name for node in root for child in node.children)
                return cls(graph, attributes)
        raise ComponentFailed(
            f"model {path} has no graph tagged {tf.saved_model.SERVING!r}", hint="Save it with tf.saved_model.save."
        )

    def has(self, function: str) -> bool:
        """Whether there is such a preprocessing function; `name@feature` are TFMA's own."""
        return "@" in function or function in self.signatures | self.attributes

    def default_preprocessing(self) -> tuple[str, ...]:
        """What most likely makes the label, if TFMA does not know it anyway."""
        if self.signatures & set(_TFMA_DEFAULTS):
            return ()
        if _TRANSFORM_SIGNATURE in self.signatures:
            return (_TRANSFORM_SIGNATURE,)
        return (_TRANSFORM_LAYER,) if _TRANSFORM_LAYER in self.attributes else ()


def wanted(said: EvaluatorSpec) -> set[str]:
    """The features that the spec names: label, weight and what examples are sliced by."""
    return {said.label_key, *filter(None, [said.example_weight_key]), *(key for keys in said.slices for key in keys)}


class Inference:
    """One loaded model, called on batches."""

    def __init__(self, subject: Subject) -> None:
        self._inputs = subject.inputs
        self._takes = Takes(subject.inputs, str(subject.path), subject.spec.signature_name)
        self._spec = tfma.ModelSpec()
        self._spec.CopyFrom(subject.spec)
        self._spec.name = ""
        shared = subject.shared_model(tfma.EvalConfig(model_specs=[self._spec]), "")
        self._transform = self._calls(
            shared, constants.TRANSFORMED_FEATURES_KEY, list(self._spec.preprocessing_function_names)
        )
        self._predict = self._calls(shared, constants.PREDICTIONS_KEY, [self._spec.signature_name])
        for calls in (self._transform, self._predict):
            calls.setup()

    def _calls(self, shared: Any, output: str, signatures: list[str]) -> Any:
        return model_util.ModelSignaturesDoFn(
            model_specs=[self._spec],
            eval_shared_models={"": shared},
            output_keypath=[output],
            signature_names={"": signatures},
            default_signature_names=list(_TFMA_DEFAULTS),
            prefer_dict_outputs=output == constants.TRANSFORMED_FEATURES_KEY,
        )

    def labelled(self, batch: Extracts) -> Extracts:
        """The batch with transformed features, labels and weights. Raises BadInput without a label."""
        (batch,) = self._transform.process(batch)
        return labelled(self._spec, batch)

    def __call__(self, batch: Extracts) -> Extracts:
        """The batch with all that, and predictions."""
        batch = self.labelled(batch)
        _check_inputs(self._spec.signature_name, self._inputs, batch)
        fed = {**batch, **_as_inputs(self._inputs, batch)}
        (found,) = self._predict.process(fed | _asked_with(self._takes, fed[constants.FEATURES_KEY]))
        return {**batch, constants.PREDICTIONS_KEY: found[constants.PREDICTIONS_KEY]}


def labelled(spec: tfma.ModelSpec, batch: Extracts) -> Extracts:
    """The batch with the labels and weights that are among its features. Raises BadInput without a label."""
    found = {constants.LABELS_KEY: _values(spec, "label", batch)}
    if spec.example_weight_key:
        found[constants.EXAMPLE_WEIGHTS_KEY] = _values(spec, "example_weight", batch)
    return {**batch, **found}


def _values(spec: tfma.ModelSpec, what: str, batch: Extracts) -> Any:
    values = model_util.get_feature_values_for_model_spec_field([spec], f"{what}_key", f"{what}_keys", batch)
    if values is None:
        raise no_feature(f"{what.replace('_', ' ')} {getattr(spec, f'{what}_key')!r}", f"{what}_key", batch)
    return values


def _check_inputs(signature: str, inputs: Mapping[str, tf.TensorSpec], batch: Extracts) -> None:
    """Raises ComponentFailed for an input that no feature fits, before TFMA does so in its own words."""
    if len(inputs) == 1 and next(iter(inputs.values())).dtype == tf.string:
        return  # serialized examples
    features = {**batch[constants.FEATURES_KEY], **(batch.get(constants.TRANSFORMED_FEATURES_KEY) or {})}
    for name, spec in inputs.items():
        # Keras 2 names the input of a single layer after the layer.
        value = features.get(name, features.get(name.removesuffix("_input")))
        if value is None:
            wrong = f"has the input {name!r} ({spec.dtype.name} {spec.shape}), and no feature is called so"
        elif isinstance(value, np.ndarray) and not _fits(value, spec):
            wrong = f"takes {name!r} as {spec.dtype.name}, and the feature is {value.dtype}"
        else:
            continue
        raise ComponentFailed(
            f"signature {signature!r} {wrong}",
            hint="Export a signature of serialized examples in run_fn, one input of tf.string and shape [None], and "
            "parse them there, as TFX's modules do; or name inputs as the features, with their types. "
            f"The features are {_listed(features)}.",
        )


def _fits(value: NDArray[Any], spec: tf.TensorSpec) -> bool:
    """Whether the value is of the input's type, or whole numbers where it takes fractions: those are converted."""
    kinds = value.dtype.kind, np.dtype(spec.dtype.as_numpy_dtype).kind
    return value.dtype == spec.dtype.as_numpy_dtype or kinds == ("i", "f") or value.dtype.kind not in "if"


def _as_inputs(inputs: Mapping[str, tf.TensorSpec], batch: Extracts) -> Extracts:
    """The features in the types of the inputs, as clients send them: in JSON a number is a number."""

    def converted(features: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: value.astype(spec.dtype.as_numpy_dtype)
            if (spec := inputs.get(name)) and isinstance(value, np.ndarray) and value.dtype.kind == "i"
            else value
            for name, value in features.items()
        }

    keys = (constants.FEATURES_KEY, constants.TRANSFORMED_FEATURES_KEY)
    return {key: converted(batch[key]) for key in keys if batch.get(key)}


def _asked_with(takes: Takes, features: Mapping[str, Any]) -> Extracts:
    """The features without the one that TFMA would ask with, where the graph parses the examples themselves."""
    if not features or not takes.examples_with(features):
        return {}
    (name,) = takes.inputs
    return {constants.FEATURES_KEY: {n: value for n, value in features.items() if n != feature_of(name, features)}}


def no_feature(what: str, key: str, batch: Extracts) -> BadInput:
    """The complaint that the spec's `key` names a feature that a batch does not have."""
    transformed = batch.get(constants.TRANSFORMED_FEATURES_KEY) or {}
    return BadInput(
        f"{what} is neither a feature of the examples nor made by the model",
        hint=f"The examples have {_listed(batch[constants.FEATURES_KEY])}; the model's preprocessing makes "
        f"{_listed(transformed)}. Mend `{key}:`; or export a signature that makes it, and name it in "
        "`preprocessing:` unless it is called transform_features.",
    )


def _listed(names: Any) -> str:
    return ", ".join(sorted(map(str, names))[:30]) or "nothing"


def together(batches: dict[str, Extracts]) -> Extracts:
    """One batch of what several models made of the same examples; nested by model, as TFMA nests them."""
    first = next(iter(batches.values()))
    if len(batches) == 1:
        return first
    shared = {key: first[key] for key in (constants.FEATURES_KEY, constants.INPUT_KEY)}
    own = {key for batch in batches.values() for key in batch} - shared.keys()
    return {**shared, **{key: {name: batch.get(key) for name, batch in batches.items()} for key in own}}
