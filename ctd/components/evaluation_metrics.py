"""TFMA's metrics without a pipeline: its own combiners and derivations, driven in this process.

What numpy can add up for all examples at once (`evaluation_sums`) is added up for each slice. Other combiners are given
an example once for each combination of slices it is in; the slices are then merged from those, as a Beam runner merges
bundles. What needs more than that (`needs_pipeline`) is left to TFMA's pipeline.
"""

from __future__ import annotations

import copy
import json
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.api import types
from tensorflow_model_analysis.metrics import metric_specs, metric_types, metric_util
from tensorflow_model_analysis.slicer import slicer_lib
from tensorflow_model_analysis.utils import util

from ctd.components.evaluation_batches import Extracts, rows_of
from ctd.components.evaluation_histograms import columns_for_histograms
from ctd.components.evaluation_nan import without_nan
from ctd.components.evaluation_sums import Columns, Total, total_of

SliceKey = tuple[tuple[str, Any], ...]
Metrics = dict[Any, Any]
_FEATURES = (constants.FEATURES_KEY, constants.TRANSFORMED_FEATURES_KEY)


@dataclass(frozen=True)
class Computations:
    """What there is to compute: from examples, and from what was computed."""

    combined: list[Any]
    derived: list[Any]
    needs_pipeline: bool

    @classmethod
    def of(cls, config: tfma.EvalConfig, schema: schema_pb2.Schema | None) -> Computations:
        # Equal computations, which different metrics build on, are made once; a derived one comes after its sources.
        every = list(
            dict.fromkeys(metric_specs.to_computations(config.metrics_specs, eval_config=config, schema=schema))
        )
        combined = [c for c in every if isinstance(c, metric_types.MetricComputation)]
        derived = [c for c in every if type(c) is metric_types.DerivedMetricComputation]
        plain = len(combined) + len(derived) == len(every) and all(_is_plain(c) for c in combined)
        return cls(combined, derived, needs_pipeline=not plain)

    @property
    def preprocessor(self) -> Any:
        """Chooses what the combiners see of an example."""
        own = [p for c in self.combined for p in c.preprocessors or ()]
        # Combiners without a preprocessor want labels, predictions and weights.
        return metric_types.StandardMetricInputsPreprocessorList(
            [*own, metric_types.StandardMetricInputsPreprocessor()]
        )


def _is_plain(computation: Any) -> bool:
    """Whether it needs of an example nothing but what is already there."""
    kinds = [type(p) for p in computation.preprocessors or ()]
    return kinds in ([], [metric_types.StandardMetricInputsPreprocessor])


def measure(
    batches: Iterable[Extracts], config: tfma.EvalConfig, computations: Computations
) -> dict[SliceKey, Metrics]:
    """The metrics and plots of every slice."""
    batches, odd = without_nan(list(batches), config)
    totals, combiners = _by_ways(batches, config, computations)
    for combiner in combiners:
        combiner.setup()
    rows: dict[frozenset[SliceKey], list[int]] = {}
    cells: dict[frozenset[SliceKey], list[Any]] = {}
    slicing, begin = Slicing(config, computations.preprocessor), 0
    for batch in batches:
        for keys, examples in slicing.by_slices(batch).items():
            rows.setdefault(keys, []).extend(begin + number for number, _ in examples)
            if not combiners:
                continue
            inputs = [slicing.inputs(example) for _, example in examples]
            if keys not in cells:
                cells[keys] = [combiner.create_accumulator() for combiner in combiners]
            cells[keys] = [
                combiner.add_inputs(total, inputs) for combiner, total in zip(combiners, cells[keys], strict=True)
            ]
        begin += rows_of(batch)
    with columns_for_histograms():
        metrics = {key: _total(key, cells, combiners) for key in set().union(*rows)}
        for key, found in metrics.items():
            inside = np.sort(np.concatenate([numbers for keys, numbers in rows.items() if key in keys]))
            for total in totals:
                found.update(total(inside))
            metrics[key] = odd.told(_public(_derive(found, computations, config)), inside)
        return metrics


def _by_ways(
    batches: Sequence[Extracts], config: tfma.EvalConfig, computations: Computations
) -> tuple[list[Total], list[Any]]:
    """What numpy can add up, and the combiners that must be given one example after the other."""
    columns: dict[str, Columns | None] = {}
    totals, combiners = [], []
    for computation in computations.combined:
        model = computation.keys[0].model_name or ""
        if model not in columns:
            columns[model] = Columns.of(batches, config, model)
        total = total_of(computation.combiner, columns[model])
        if total:
            totals.append(total)
        else:
            combiners.append(computation.combiner)
    return totals, combiners


def spec_name(metric: tfma.MetricConfig) -> str:
    """What the spec calls a metric: its class, or a name of the user's own, which it also has in TFMA."""
    return str((json.loads(metric.config) if metric.config else {}).get("name", metric.class_name))


def spec_names(config: tfma.EvalConfig) -> dict[str, str]:
    """Metrics' names in the spec, by the names that TFMA gives their results."""
    found: dict[str, str] = {}
    for spec in config.metrics_specs:
        for metric in spec.metrics:
            alone = tfma.MetricsSpec()
            alone.CopyFrom(spec)
            del alone.metrics[:]
            alone.metrics.append(metric)
            computations = metric_specs.to_computations([alone], eval_config=config)
            names = {key.name for computation in computations for key in computation.keys if not _is_private(key)}
            # What has several results was given a name for each.
            found |= dict.fromkeys(names, spec_name(metric)) if len(names) == 1 else {name: name for name in names}
    return found


def needed_features(config: tfma.EvalConfig, computations: Computations) -> frozenset[str] | None:
    """The features that slices are cut by; None if metrics want to see features too."""
    if computations.needs_pipeline:
        return frozenset()
    slicing = Slicing(config, computations.preprocessor)
    return None if slicing.all_features else frozenset(slicing.columns)


class Slicing:
    """Takes batches apart into examples, by the slices they are in."""

    def __init__(self, config: tfma.EvalConfig, preprocessor: Any) -> None:
        self._specs = [slicer_lib.SingleSliceSpec(spec=spec) for spec in config.slicing_specs]
        self._specs = self._specs or [slicer_lib.SingleSliceSpec()]
        self._models = [spec.name for spec in config.model_specs]
        self._preprocessor = preprocessor
        wanted = preprocessor.include_filter
        self.all_features = any(key in wanted for key in _FEATURES)
        self.columns = {column for spec in config.slicing_specs for column in spec.feature_keys}
        self.columns |= {column for spec in config.slicing_specs for column in spec.feature_values}

    def by_slices(self, batch: Extracts) -> dict[frozenset[SliceKey], list[tuple[int, Extracts]]]:
        """Examples with their numbers in the batch, by the set of slices that they are in."""
        cells: dict[frozenset[SliceKey], list[tuple[int, Extracts]]] = {}
        for number, example in enumerate(util.split_extracts(self._pruned(batch))):
            keys = frozenset(
                slicer_lib.get_slices_for_features_dicts(
                    self._transformed(example), util.get_features_from_extracts(example), self._specs
                )
            )
            cells.setdefault(keys, []).append((number, example))
        return cells

    def inputs(self, example: Extracts) -> Any:
        """An example as combiners take it. What is left out is taken from the example itself."""
        (inputs,) = self._preprocessor.process(example)
        return metric_util.to_standard_metric_inputs(inputs)

    def _pruned(self, batch: Extracts) -> Extracts:
        """The batch without features that nobody asks for: most of the work is in taking features apart."""
        batch = {key: value for key, value in batch.items() if key != constants.INPUT_KEY}
        if self.all_features:
            return batch
        return {**batch, **{key: self._sliced(batch[key]) for key in _FEATURES if batch.get(key)}}

    def _sliced(self, features: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: self._sliced(value) if isinstance(value, Mapping) else value
            for name, value in features.items()
            if name in self.columns or isinstance(value, Mapping)
        }

    def _transformed(self, example: Extracts) -> list[Any]:
        features = example.get(constants.TRANSFORMED_FEATURES_KEY)
        if not features:
            return []
        if len(self._models) == 1:
            return [features]
        return [features[name] for name in self._models if features.get(name)]


def _total(key: SliceKey, cells: Mapping[frozenset[SliceKey], list[Any]], combiners: list[Any]) -> Metrics:
    """The outcome of all combiners for one slice."""
    parts = [totals for keys, totals in cells.items() if key in keys]
    metrics: Metrics = {}
    for number, combiner in enumerate(combiners):
        # Merging may change what it is given, which other slices still need. And it must be an iterator: given a list,
        # TFMA's regression errors count the first part twice.
        merged = combiner.merge_accumulators(iter([copy.deepcopy(totals[number]) for totals in parts]))
        metrics.update(combiner.extract_output(combiner.compact(merged)))
    return metrics


def _derive(metrics: Metrics, computations: Computations, config: tfma.EvalConfig) -> Metrics:
    """With the metrics made of other metrics, and the differences from the baseline."""
    for computation in computations.derived:
        metrics.update(computation.result(metrics))
    baseline = next((spec.name for spec in config.model_specs if spec.is_baseline), None)
    if baseline is None:
        return metrics
    differences = {}
    for key, value in metrics.items():
        other = None if key.model_name == baseline or key.is_diff else metrics.get(key.make_baseline_key(baseline))
        if other is not None and not _is_private(key) and _is_difference(value):
            differences[key.make_diff_key()] = value - other
    return {**metrics, **differences}


def _is_difference(value: Any) -> bool:
    """Whether there is a difference of two such values."""
    if isinstance(value, np.ndarray):
        return bool(np.issubdtype(value.dtype, np.number))
    return isinstance(value, (numbers.Number, types.StructuredMetricValue))


def _public(metrics: Metrics) -> Metrics:
    return {key: value for key, value in metrics.items() if not _is_private(key)}


def _is_private(key: Any) -> bool:
    """One underscore marks what only other metrics use."""
    return bool(key.name.startswith("_") and not key.name.startswith("__"))
