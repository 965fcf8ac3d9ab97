"""Why labels and predictions do not suit metrics: looked for where TFMA fails, which says it in terms of its arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_model_analysis as tfma
from numpy.typing import NDArray
from tensorflow_model_analysis import constants

from ctd.components.evaluation_batches import Extracts
from ctd.components.evaluation_labels import listed
from ctd.components.feature_values import value_counts

_NUMBERS = "Metrics need numbers: make them of the texts in preprocessing_fn, and name what it makes with `{key}:`."
_AS_MANY = (
    "A metric of one class takes one of each, a categorical one as many of each, and a sparse categorical one the "
    "number of a class as label and a prediction for each class."
)
_CLASSES = (
    "Mend the labels, or measure a model with as many outputs as there are classes; labels that are amounts take "
    "metrics such as MeanSquaredError."
)


def mismatch(spec: tfma.ModelSpec, batches: Sequence[Extracts]) -> tuple[str, str] | None:
    """The first thing that is amiss with what a model was measured on, and a hint; nothing if that cannot be told."""
    labels = [batch[constants.LABELS_KEY] for batch in batches]
    predictions = [_measured(spec, batch[constants.PREDICTIONS_KEY]) for batch in batches]
    if any(isinstance(value, Mapping) for value in labels):
        return None
    return next(_complaints(spec, labels, predictions), None)


def _measured(spec: tfma.ModelSpec, predictions: Any) -> Any:
    several = isinstance(predictions, Mapping) and spec.prediction_key in predictions
    return predictions[spec.prediction_key] if several else predictions


def _complaints(spec: tfma.ModelSpec, labels: Sequence[Any], predictions: Sequence[Any]) -> Iterator[tuple[str, str]]:
    if isinstance(predictions[0], Mapping):
        outputs = listed(predictions[0])
        yield f"it cannot be told which of the outputs {outputs} is measured", "Name it with `prediction_key:`."
        return
    counts = np.concatenate([value_counts(value) for value in labels])
    name, many = f"label {spec.label_key!r}", len(counts)
    if any(_are_texts(value) for value in labels):
        yield f"{name} is text", _NUMBERS.format(key="label_key")
    if any(_are_texts(value) for value in predictions):
        yield "predictions are text", "Metrics need numbers: name another output with `prediction_key:`."
    usual = int(np.bincount(counts).argmax())
    if other := int((counts != usual).sum()):
        yield f"{other:,} of {many:,} examples do not have {usual} of {name}, as the others do", _AS_MANY
        return
    width = int(np.prod(predictions[0].shape[1:], dtype=np.int64))
    if usual == 1 and not any(_are_texts(value) for value in labels):
        yield from _out_of_range(name, np.concatenate([np.ravel(_numbers(value)) for value in labels]), width)
    if usual != width:
        yield f"each example has {usual:,} of {name} and {width:,} predictions", _AS_MANY


def _out_of_range(name: str, labels: NDArray[Any], width: int) -> Iterator[tuple[str, str]]:
    last = max(width - 1, 1)
    outside = (labels < 0) | (labels > last)
    if outside.any():
        what = f"for {width:,} classes" if width > 1 else "for one class"
        first, value = int(outside.argmax()) + 1, labels[outside][0]
        where = f"{int(outside.sum()):,} of {len(labels):,} examples (the first: example {first:,}, {value:g})"
        yield f"{name} is not within 0 to {last:,}, as labels {what} are, in {where}", _CLASSES


def _are_texts(value: Any) -> bool:
    return _numbers(value).dtype.kind in "OSU"


def _numbers(value: Any) -> NDArray[Any]:
    """The plain values, whatever holds them."""
    return value if isinstance(value, np.ndarray) else np.asarray(getattr(value, "values", value))
