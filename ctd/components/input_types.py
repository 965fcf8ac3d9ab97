"""Features in the types and shapes that a model's inputs have: one rule for everyone who asks a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


def as_input(values: NDArray[Any], dtype: tf.DType) -> NDArray[Any] | None:
    """The values in the type of an input, as clients send them; nothing if they do not fit.

    A tf.Example has int64 and float32 only, and inputs may be int32, bool or float64. Whole numbers may become
    fractions, since in JSON a number is a number. Fractions never become whole numbers, and no whole number another.
    """
    if dtype == tf.string or values.dtype.kind in "OSU":
        return values if dtype == tf.string and values.dtype.kind in "OSU" else None
    wanted = np.dtype(dtype.as_numpy_dtype)
    if values.dtype == wanted:
        return values
    if wanted.kind in "iub" and values.dtype.kind not in "iub":
        return None
    converted = values.astype(wanted)
    return None if wanted.kind in "iub" and not np.array_equal(converted, values) else converted


def as_rows(values: NDArray[Any], shape: tf.TensorShape) -> NDArray[Any] | None:
    """Values [N, K] of N examples in the shape of an input of batches; nothing if they do not fit.

    A tf.Example has lists only, and inputs may have any shape.
    """
    if shape.rank in (None, values.ndim) and shape.is_compatible_with(values.shape):
        return values
    if not shape.rank or shape[0] not in (None, len(values)):
        return None
    sizes = [-1 if size is None else int(size) for size in shape[1:]]
    many = int(np.prod(values.shape[1:], dtype=np.int64))
    known = int(np.prod([size for size in sizes if size >= 0], dtype=np.int64))
    fits = known == many if -1 not in sizes else sizes.count(-1) == 1 and known > 0 and many % known == 0
    return values.reshape(len(values), *sizes) if fits else None
