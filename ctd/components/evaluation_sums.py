"""The sums under TFMA's metrics, made by numpy for all examples at once.

TFMA's combiners take one example at a time, and most of that is finding label, prediction and weight. Where these are
one number each, what the commonest combiners add up can be added up at once; Keras metrics take any rows of numbers,
all of a slice at once. What is made of the sums is TFMA's own. Whatever is not so simple has no `Columns`, or no
`Total`, and goes through the combiner itself. All of this reaches into private parts of TFMA, which has no other way
in; tests hold the results against those of its own pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_model_analysis as tfma
import tf_keras
from numpy.typing import NDArray
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.contrib.aggregates import binary_confusion_matrices as entries
from tensorflow_model_analysis.metrics import (
    binary_confusion_matrices,
    calibration,
    calibration_histogram,
    cross_entropy_metrics,
    example_count,
    mean_regression_error,
    metric_util,
    tf_metric_wrapper,
)
from tf_keras.src.utils import losses_utils

from ctd.components.evaluation_batches import Extracts
from ctd.components.evaluation_histograms import Bins

Array = NDArray[Any]
Metrics = dict[Any, Any]
# The metrics of the examples with these row numbers.
Total = Callable[[Array], Metrics]
# Keras adds up in float32, which many small steps into a large sum would wear off.
_ROWS = 1 << 15


@dataclass(frozen=True)
class Columns:
    """Labels [N, L], predictions [N, P] and weights [N] of all examples: numbers, in the types they came in."""

    labels: Array
    predictions: Array
    weights: Array | None

    @classmethod
    def of(cls, batches: Sequence[Extracts], config: tfma.EvalConfig, model: str) -> Columns | None:
        """Those of one model, by the name that metrics have it; nothing if examples differ in how many they have."""
        several = len(config.model_specs) > 1
        spec = next((s for s in config.model_specs if s.name == model or not several), None)

        def column(key: str, output: str = "") -> Array | None:
            values = [batch.get(key) for batch in batches]
            if several:
                values = [value.get(model) if isinstance(value, Mapping) else value for value in values]
            if output:
                values = [value.get(output) if isinstance(value, Mapping) else value for value in values]
            if not all(_is_column(value, batch) for value, batch in zip(values, batches, strict=True)):
                return None
            rows = [value.reshape(len(value), -1) for value in values if value is not None]
            return np.concatenate(rows) if len({part.shape[1] for part in rows}) == 1 else None

        labels = column(constants.LABELS_KEY)
        predictions = column(constants.PREDICTIONS_KEY, spec.prediction_key if spec else "")
        weights = column(constants.EXAMPLE_WEIGHTS_KEY)
        weightless = not any(constants.EXAMPLE_WEIGHTS_KEY in batch for batch in batches)
        if labels is None or predictions is None or (weights is None and not weightless):
            return None
        if weights is not None and (weights.shape[1] > 1 or not np.isfinite(weights).all()):
            return None
        return cls(labels, predictions, None if weights is None else weights[:, 0])

    @property
    def numbers(self) -> Numbers | None:
        """The same where label and prediction are one finite number each."""
        sides = self.labels, self.predictions
        if any(side.shape[1] > 1 or not np.isfinite(side).all() for side in sides):
            return None
        return Numbers(self.labels[:, 0], self.predictions[:, 0], self.weights)

    def weighted(self, yes: bool) -> Array:
        """The weights that a combiner sees, which may not ask for them; in float64, as it adds them up."""
        weights = self.weights if yes and self.weights is not None else np.ones(len(self.labels))
        return weights.astype(np.float64)


@dataclass(frozen=True)
class Numbers:
    """Label, prediction and weight of every example: three arrays of shape [N], finite, in the types they came in."""

    labels: Array
    predictions: Array
    weights: Array | None

    def weighted(self, yes: bool) -> Array:
        """The weights that a combiner sees, which may not ask for them; in float64, as it adds them up."""
        weights = self.weights if yes and self.weights is not None else np.ones(len(self.labels))
        return weights.astype(np.float64)


def _is_column(value: Any, batch: Extracts) -> bool:
    rows = len(batch[constants.INPUT_KEY])
    return (
        isinstance(value, np.ndarray)
        and value.dtype.kind in "fiu"
        and value.ndim in (1, 2)
        and len(value) == rows
        and value.size > 0
    )


def total_of(combiner: Any, columns: Columns | None) -> Total | None:
    """How to compute what the combiner would give for some examples; nothing if only it can."""
    if columns is None:
        return None
    if isinstance(combiner, tf_metric_wrapper._CompilableMetricsCombiner):
        return _keras(combiner, columns)
    make, numbers = _TOTALS.get(type(combiner)), columns.numbers
    if make is None and isinstance(combiner, mean_regression_error._MeanRegressionErrorCombiner):
        make = _mean_error
    if make is None or numbers is None:
        return None
    key = getattr(combiner, "_key", getattr(combiner, "_metric_key", None))
    simple = not (key and (key.sub_key or key.output_name)) and not getattr(combiner, "_output_name", "")
    asked = [getattr(combiner, name, None) for name in ("_aggregation_type", "_class_weights", "_example_id_key")]
    return make(combiner, numbers) if simple and not any(asked) else None


def _keras(combiner: Any, columns: Columns) -> Total | None:
    """The combiner's Keras metrics, given rows as they are: with its own accumulator, in larger batches."""
    asked = (combiner._sub_key, combiner._aggregation_type, combiner._class_weights, *combiner._output_names)
    if any(asked):
        return None
    combiner.setup()
    (metrics,) = combiner._metrics.values()
    weights = columns.weighted(combiner._example_weighted)
    means = [_averaged(metric, columns) for metric in metrics]

    def total(rows: Array) -> Metrics:
        sums = combiner.create_accumulator()
        for index, (metric, each) in enumerate(zip(metrics, means, strict=True)):
            if each is not None:
                pair = float((each[rows] * weights[rows]).sum()), float(weights[rows].sum())
                sums.add_weights(0, index, [np.float32(value) for value in pair])
                continue
            for begin in range(0, len(rows), _ROWS):
                part = rows[begin : begin + _ROWS]
                metric.reset_states()
                metric.update_state(columns.labels[part], columns.predictions[part], weights[part, None])
                sums.add_weights(0, index, metric.get_weights())
        return dict(combiner.extract_output(sums))

    return total


def _averaged(metric: Any, columns: Columns) -> Array | None:
    """What the metric averages, a number for each example, as Keras computes it (`MeanMetricWrapper.update_state`).

    Nothing, if it is no such mean.
    """
    wrapper = tf_keras.metrics.MeanMetricWrapper
    if not isinstance(metric, wrapper) or type(metric).update_state is not wrapper.update_state:
        return None
    found = []
    for begin in range(0, len(columns.labels), _ROWS):
        sides = (side[begin : begin + _ROWS] for side in (columns.labels, columns.predictions))
        labels, predictions = (tf.cast(side, metric.dtype) for side in sides)
        predictions, labels = losses_utils.squeeze_or_expand_dimensions(predictions, labels)
        values = metric._fn(labels, predictions, **metric._fn_kwargs)
        rows = labels.shape[0]
        if values.shape not in ((rows,), (rows, 1)) or losses_utils.get_mask(values) is not None:
            return None
        found.append(np.ravel(values).astype(np.float64))
    return np.concatenate(found)


def _count(combiner: Any, numbers: Numbers) -> Total:
    weights = numbers.weighted(combiner._example_weighted)
    return lambda rows: combiner.extract_output(float(weights[rows].sum()))


def _means(combiner: Any, numbers: Numbers) -> Total:
    weights = numbers.weighted(combiner._example_weighted)
    labels, predictions = numbers.labels * weights, numbers.predictions * weights

    def total(rows: Array) -> Metrics:
        sums = combiner.create_accumulator()
        sums.total_weighted_labels = float(labels[rows].sum())
        sums.total_weighted_predictions = float(predictions[rows].sum())
        sums.total_weighted_examples = float(weights[rows].sum())
        return dict(combiner.extract_output(sums))

    return total


def _mean_error(combiner: Any, numbers: Numbers) -> Total:
    """The combiner's own error of each example, once for all slices."""
    weights = numbers.weighted(combiner._example_weighted)
    pairs = zip(numbers.labels[:, None], numbers.predictions[:, None], strict=True)
    errors = np.array([float(combiner._regression_error(*pair)) for pair in pairs])
    known = ~np.isnan(errors)

    def total(rows: Array) -> Metrics:
        rows = rows[known[rows]]
        sums = combiner.create_accumulator()
        sums.total_regression_error = float((errors[rows] * weights[rows]).sum())
        sums.total_example_weights = float(weights[rows].sum())
        return dict(combiner.extract_output(sums))

    return total


def _cross_entropy(combiner: Any, numbers: Numbers) -> Total:
    weights = numbers.weighted(combiner._example_weighted)
    pairs = zip(numbers.labels[:, None], numbers.predictions[:, None], strict=True)
    entropies = np.array([float(combiner._cross_entropy(*pair)) for pair in pairs])

    def total(rows: Array) -> Metrics:
        sums = combiner.create_accumulator()
        sums.total_cross_entropy = float((entropies[rows] * weights[rows]).sum())
        sums.total_example_weights = float(weights[rows].sum())
        return dict(combiner.extract_output(sums))

    return total


def _confusion(combiner: Any, numbers: Numbers) -> Total | None:
    extract = combiner._extract_label_prediction_and_weight
    if extract is not metric_util.to_label_prediction_example_weight:
        return None
    weights = numbers.weighted(combiner._example_weighted)
    fractional = combiner._enable_fractional_labels
    if fractional and not _within_one(numbers.labels):
        return None
    labels, predictions = numbers.labels.astype(np.float64), numbers.predictions.astype(np.float64)
    thresholds = combiner._binary_confusion_matrices._thresholds

    def total(rows: Array) -> Metrics:
        found = {}
        for threshold in thresholds:
            above, share = predictions[rows] > threshold, labels[rows]
            yes = weights[rows] * (share if fractional else share > threshold)
            no = weights[rows] - yes
            cells = (yes[above], no[~above], no[above], yes[~above])
            matrix = entries.Matrix(*(float(cell.sum()) for cell in cells))
            found[threshold] = entries._ThresholdEntry(matrix, [], [], [], [])
        return dict(combiner.extract_output(found))

    return total


def _histogram(combiner: Any, numbers: Numbers) -> Total | None:
    weights = numbers.weighted(combiner._example_weighted)
    fractional = combiner._fractional_labels
    if not combiner._prediction_based_bucketing or (fractional and not _within_one(numbers.labels)):
        return None
    labels, predictions = (values.astype(np.float64) for values in (numbers.labels, numbers.predictions))
    last = combiner._num_buckets + 1
    place = (predictions - combiner._left) / combiner._range * combiner._num_buckets + 1
    buckets = np.clip(place, 0, last).astype(np.int64)
    sums = (labels * weights, predictions * weights, weights)

    def total(rows: Array) -> Metrics:
        # Examples without weight make no bucket where labels are split, and an empty one elsewhere.
        rows = rows[weights[rows] != 0] if fractional else rows
        ids, places = np.unique(buckets[rows], return_inverse=True)
        return {combiner._key: Bins(ids, *(np.bincount(places, s[rows], len(ids)) for s in sums))}

    return total


def _within_one(labels: Array) -> bool:
    return bool(((labels >= 0) & (labels <= 1)).all())


_TOTALS: Mapping[type, Callable[[Any, Numbers], Total | None]] = {
    example_count._ExampleCountCombiner: _count,
    calibration._WeightedLabelsPredictionsExamplesCombiner: _means,
    cross_entropy_metrics._BinaryCrossEntropyCombiner: _cross_entropy,
    binary_confusion_matrices._BinaryConfusionMatrixCombiner: _confusion,
    calibration_histogram._CalibrationHistogramCombiner: _histogram,
}
