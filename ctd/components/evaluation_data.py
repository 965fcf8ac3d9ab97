"""Models to measure, and what they make of batches of examples: labels, weights and predictions.

It is what TFMA's extractors make, one model at a time. TFMA's own code calls the models; only Beam is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_model_analysis as tfma
import tf_keras
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.utils import model_util, util

from ctd.components.api import SERVING_DIR
from ctd.components.evaluation_batches import Extracts, rows_of
from ctd.components.evaluation_inputs import as_inputs
from ctd.components.evaluation_labels import labelled, listed
from ctd.components.serving_requests import Takes
from ctd.components.signature_inputs import feature_of
from ctd.core.artifacts import Artifact
from ctd.core.errors import BadInput, ComponentFailed
from ctd.specs.evaluator import EvaluatorSpec

# What turns raw examples into features and labels, by the names people give it.
_TRANSFORM_SIGNATURE = "transform_features"
_TRANSFORM_LAYER = "tft_layer"
# TFMA calls these by itself where a model has them.
_TFMA_DEFAULTS = ("transformed_features", "transformed_labels")


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
                f"{where} has no signature {signature!r}, only {listed(parts.signatures)}",
                hint="Export the signature in run_fn, or name another with `signature:` of the evaluator.",
            )
        for function in said.preprocessing:
            if not parts.has(function):
                raise ComponentFailed(
                    f"{where} has neither signature nor attribute {function!r}",
                    hint="Export it in run_fn, or mend `preprocessing:` of the evaluator. "
                    f"The signatures are {listed(parts.signatures)}.",
                )
        if said.prediction_key and said.prediction_key not in parts.outputs(signature):
            raise ComponentFailed(
                f"signature {signature!r} of {where} has no output {said.prediction_key!r}, only "
                f"{listed(parts.outputs(signature))}",
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

    def taken_of(self, features: frozenset[str]) -> frozenset[str]:
        """Those of the features that are inputs of the model."""
        found = {model_util.find_input_name_in_features(set(features), name) for name in self.inputs}
        return frozenset(name for name in found if name)

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
        plain = {
            n: i for n, i in self.graph.signature_def[signature].inputs.items() if i.WhichOneof("encoding") == "name"
        }
        return {name: tf.TensorSpec(tf.TensorShape(i.tensor_shape), tf.as_dtype(i.dtype)) for name, i in plain.items()}

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

    def __init__(self, subject: Subject, known: Iterable[str] = ()) -> None:
        """`known` are the features that other batches may have."""
        self._inputs, self._known = subject.inputs, known
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
        return labelled(self._spec, batch, self._known)

    def predicted(self, batch: Extracts) -> Extracts:
        """A labelled batch with predictions. Raises ComponentFailed for inputs and outputs that cannot be evaluated."""
        fed = {**batch, **_asked_with(self._takes, batch[constants.FEATURES_KEY])}
        fed |= as_inputs(self._spec.signature_name, self._inputs, fed)
        try:
            (found,) = self._predict.process(fed)
        except (ValueError, IndexError, RuntimeError) as error:
            complaint = self._without_rows(fed)
            if complaint is None:
                raise
            raise complaint from error
        return {**batch, constants.PREDICTIONS_KEY: found[constants.PREDICTIONS_KEY]}

    def _without_rows(self, batch: Extracts) -> ComponentFailed | None:
        """The complaint about an output that has not one row for each example, if that is what fails."""
        (model,) = self._predict._loaded_models.values()  # noqa: SLF001  TFMA has no other way to the model
        name, rows = self._spec.signature_name, rows_of(batch)
        specs = model_util.get_input_specs(model, name) or {}
        inputs = model_util.get_inputs(util.get_features_from_extracts(batch), specs)
        (single, *_) = specs or [""]
        inputs = inputs or {single: tf.constant(batch[constants.INPUT_KEY], dtype=tf.string)}
        try:
            outputs = model.signatures[name](**inputs)
        except (ValueError, TypeError, tf.errors.OpError):
            return None  # the model itself fails, and what it says is more to the point
        for output, value in outputs.items():
            if value.shape.rank == 0 or value.shape[0] != rows:
                return ComponentFailed(
                    f"output {output!r} of signature {name!r} has the shape {value.shape} for {rows} examples, and not "
                    "one row for each",
                    hint="Take it out of the signature in run_fn, or repeat it for each example (`tf.repeat`).",
                )
        return None


def _asked_with(takes: Takes, features: Mapping[str, Any]) -> Extracts:
    """The features without the one that TFMA would ask with, where the graph parses the examples themselves."""
    if not features or not takes.examples_with(features):
        return {}
    (name,) = takes.inputs
    return {constants.FEATURES_KEY: {n: value for n, value in features.items() if n != feature_of(name, features)}}


def together(batches: dict[str, Extracts]) -> Extracts:
    """One batch of what several models made of the same examples; nested by model, as TFMA nests them."""
    first = next(iter(batches.values()))
    if len(batches) == 1:
        return first
    shared = {key: first[key] for key in (constants.FEATURES_KEY, constants.INPUT_KEY)}
    own = {key for batch in batches.values() for key in batch} - shared.keys()
    return {**shared, **{key: {name: batch.get(key) for name, batch in batches.items()} for key in own}}
