"""Predictions that are NaN: no metric of a slice that has one is a number, whatever a class makes of it.

Some classes of TFMA fail on NaN, others pass over it or count it as wrong. A model that answers so must not be blessed,
and the evaluation says how often it does.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow_model_analysis as tfma
from numpy.typing import NDArray
from tensorflow_model_analysis import constants

from ctd.components.evaluation_batches import Extracts, rows_of
from ctd.specs.metric_names import INFINITE_PREDICTIONS, NAN_PREDICTIONS

Metrics = dict[Any, Any]
Rows = NDArray[np.bool_]
_COUNTS = ("example_count", "weighted_example_count")


@dataclass(frozen=True)
class OddPredictions:
    """Which examples have a prediction that is NaN, and which an infinite one, by model."""

    nan: Mapping[str, Rows]
    infinite: Mapping[str, Rows]

    def told(self, metrics: Metrics, rows: NDArray[Any]) -> Metrics:
        """The metrics of these rows, with how many predictions are NaN or infinite if any are.

        Metrics of models with NaN among them are NaN, and their plots are left out.
        """
        counts = {
            tfma.metrics.MetricKey(name, model_name=model): float(many)
            for name, by_model in ((NAN_PREDICTIONS, self.nan), (INFINITE_PREDICTIONS, self.infinite))
            for model, odd in by_model.items()
            if (many := int(odd[rows].sum()))
        }
        void = {key.model_name for key in counts if key.name == NAN_PREDICTIONS}
        if not void:
            return {**metrics, **counts}
        # A comparison is the candidate's, of what both models say.
        compared = len(self.nan) > 1
        known = {key: _void(key, value, void, compared) for key, value in metrics.items()}
        return {**{key: value for key, value in known.items() if value is not None}, **counts}


def _void(key: Any, value: Any, models: set[str], compared: bool) -> Any:
    """The value, NaN in its place, or nothing where it is no number but a plot."""
    if key.name in _COUNTS or not (key.model_name in models or (compared and key.is_diff)):
        return value
    number = isinstance(value, numbers.Number) or (isinstance(value, np.ndarray) and value.size == 1)
    return math.nan if number else None


def without_nan(batches: Sequence[Extracts], config: tfma.EvalConfig) -> tuple[list[Extracts], OddPredictions]:
    """The batches with 0 for predictions that are NaN, and where those were."""
    several = len(config.model_specs) > 1
    models = {spec.name if several else "": spec for spec in config.model_specs}
    found = OddPredictions(
        {name: _rows(batches, name, spec, np.isnan) for name, spec in models.items()},
        {name: _rows(batches, name, spec, np.isinf) for name, spec in models.items()},
    )
    if not any(rows.any() for rows in found.nan.values()):
        return list(batches), found
    key = constants.PREDICTIONS_KEY
    return [{**batch, key: _filled(batch[key])} for batch in batches], found


def _rows(batches: Sequence[Extracts], model: str, spec: tfma.ModelSpec, odd: Any) -> Rows:
    parts = [np.zeros(0, dtype=bool)]
    for batch in batches:
        value: Any = batch.get(constants.PREDICTIONS_KEY)
        for name in (model, spec.prediction_key):
            value = value.get(name) if name and isinstance(value, Mapping) else value
        numeric = isinstance(value, np.ndarray) and value.dtype.kind == "f"
        parts.append(
            odd(value.reshape(len(value), -1)).any(axis=1) if numeric else np.zeros(rows_of(batch), dtype=bool)
        )
    return np.concatenate(parts)


def _filled(predictions: Any) -> Any:
    if isinstance(predictions, Mapping):
        return {name: _filled(part) for name, part in predictions.items()}
    numeric = isinstance(predictions, np.ndarray) and predictions.dtype.kind == "f"
    return np.where(np.isnan(predictions), predictions.dtype.type(0), predictions) if numeric else predictions
