"""What the features of a batch are as inputs of a signature, and complaints about those that do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.utils import model_util

from ctd.components.evaluation_batches import Extracts
from ctd.components.evaluation_labels import listed
from ctd.components.feature_values import as_array, value_counts
from ctd.components.input_types import as_input, as_rows
from ctd.core.errors import ComponentFailed

_FEATURES = (constants.FEATURES_KEY, constants.TRANSFORMED_FEATURES_KEY)


def as_inputs(signature: str, inputs: Mapping[str, tf.TensorSpec], batch: Extracts) -> Extracts:
    """The features of a batch in types and shapes of the inputs; nothing new for a signature of serialized examples.

    Raises ComponentFailed for an input that no feature fits, before TFMA does so in its own words.
    """
    features = {**batch[constants.FEATURES_KEY], **(batch.get(constants.TRANSFORMED_FEATURES_KEY) or {})}
    names = {name: model_util.find_input_name_in_features(set(features), name) for name in inputs}
    if _are_serialized_examples(inputs, names):
        return {}
    fed = {}
    for name, spec in inputs.items():
        feature = names[name]
        value = None if feature is None else _fitting(features[feature], spec)
        if value is None or feature is None:
            raise _unfit(signature, name, spec, features, feature)
        fed[feature] = value
    return {key: {**batch[key], **_those_of(fed, batch[key])} for key in _FEATURES if batch.get(key)}


def _are_serialized_examples(inputs: Mapping[str, tf.TensorSpec], names: Mapping[str, str | None]) -> bool:
    """Whether TFMA gives the one input whole examples: no feature is called as it is."""
    return len(inputs) == 1 and next(iter(inputs.values())).dtype == tf.string and not any(names.values())


def _those_of(fed: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fed.items() if name in features}


def _fitting(value: Any, spec: tf.TensorSpec) -> Any:
    value = as_array(value)
    if not isinstance(value, np.ndarray) or (value_counts(value) == 0).any():
        return None
    typed = as_input(value, spec.dtype)
    return None if typed is None else as_rows(typed, spec.shape)


def _unfit(
    signature: str, name: str, spec: tf.TensorSpec, features: Mapping[str, Any], feature: str | None
) -> ComponentFailed:
    if feature is None:
        wrong = f"has the input {name!r} ({spec.dtype.name} {spec.shape}), and no feature is called so"
    else:
        wrong = f"takes {name!r} as {_misfit(features[feature], spec)}"
    return ComponentFailed(
        f"signature {signature!r} {wrong}",
        hint="Export a signature of serialized examples in run_fn, one input of tf.string and shape [None], and "
        "parse them there, as TFX's modules do; or name inputs as the features, with their types. "
        f"The features are {listed(features)}.",
    )


def _misfit(value: Any, spec: tf.TensorSpec) -> str:
    """What the input takes, and what the feature is instead."""
    counts = value_counts(value)
    if (counts == 0).any():
        return f"{spec.dtype.name}, and {int((counts == 0).sum()):,} of {len(counts):,} examples have no such feature"
    value = as_array(value)
    if not isinstance(value, np.ndarray):
        return f"{spec.dtype.name} {spec.shape}, and examples have {counts.min():,} to {counts.max():,} values of it"
    if as_input(value, spec.dtype) is not None:
        return f"{spec.dtype.name} {spec.shape}, and examples have {counts[0]:,} values of it"
    if value.dtype.kind in "iu" and np.dtype(spec.dtype.as_numpy_dtype).kind in "iub":
        return f"{spec.dtype.name}, and the feature has values from {value.min()} to {value.max()}"
    return f"{spec.dtype.name}, and the feature is {value.dtype}"
