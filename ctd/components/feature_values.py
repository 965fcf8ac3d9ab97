"""How many values each example has of a feature, in every form that TFMA has for one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorflow_model_analysis.api import types

Counts = NDArray[np.int64]


def value_counts(values: Any) -> Counts:
    """How many values of the feature each example of a batch has."""
    if isinstance(values, (types.VarLenTensorValue, types.SparseTensorValue)):
        return np.bincount(values.indices[:, 0].astype(np.int64), minlength=int(values.dense_shape[0]))
    if isinstance(values, types.RaggedTensorValue):
        splits = np.asarray(values.nested_row_splits[0], dtype=np.int64)
        for inner in values.nested_row_splits[1:]:
            splits = np.asarray(inner)[splits]
        return np.diff(splits)
    array = np.asarray(values)
    if array.dtype == object:
        return np.array([0 if value is None else np.size(value) for value in array], dtype=np.int64)
    return np.full(len(array), int(np.prod(array.shape[1:], dtype=np.int64)))


def as_array(values: Any) -> Any:
    """The values as an array of shape [N, K] where each example has the same number K of them; else as they are."""
    if isinstance(values, (types.VarLenTensorValue, types.RaggedTensorValue)):
        counts = value_counts(values)
        if len(counts) and counts[0] > 0 and (counts == counts[0]).all():
            return np.asarray(values.values).reshape(len(counts), -1)
    return values


def not_finite(values: Any) -> NDArray[np.bool_]:
    """Which examples of a batch have a value that is NaN or infinite."""
    if isinstance(values, (types.VarLenTensorValue, types.SparseTensorValue)):
        odd = np.zeros(int(values.dense_shape[0]), dtype=bool)
        if values.values.dtype.kind == "f":
            odd[values.indices[~np.isfinite(values.values), 0]] = True
        return odd
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        return ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    return np.zeros(len(value_counts(values)), dtype=bool)
