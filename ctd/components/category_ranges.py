"""Ranges of numbers that were counted as categories.

TFDV compares what it counted as categories with some domains only: neither a bool_domain, nor the maximum of fractions
or whether some are infinite or no numbers. Here they are numbers once more, and TFDV is asked again.
"""

from __future__ import annotations

from typing import Any

from tensorflow_data_validation import validate_statistics
from tensorflow_data_validation.utils.schema_util import get_all_leaf_features, get_categorical_numeric_feature_types
from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

from ctd.components.plain_statistics import as_numbers, is_counted_number
from ctd.components.schema_paths import Path, by_path

_OF_COUNTS = ("drift_comparator", "skew_comparator", "unique_constraints", "distribution_constraints")


def add_ranges(
    anomalies: Any, statistics: DatasetFeatureStatisticsList, schema: Schema, environment: str | None
) -> None:
    """Add to TFDV's anomalies those of categories whose numbers are out of the domain that the schema has for them."""
    asked = _numbers(statistics, schema)
    if not asked:
        return
    ranges = Schema.FromString(schema.SerializeToString())
    for path, feature in get_all_leaf_features(ranges):
        if path.steps() in asked:
            _keep_range(feature)
    found = validate_statistics(as_numbers(statistics, asked), ranges, environment)
    for name, info in found.anomaly_info.items():
        if tuple(info.path.step) in asked:
            _add(anomalies, name, info)


def _numbers(statistics: DatasetFeatureStatisticsList, schema: Schema) -> set[Path]:
    """The features that are numbers to the schema, and were counted as categories."""
    declared = {path.steps() for path in get_categorical_numeric_feature_types(schema)}
    return {
        p for p, f in by_path(statistics).items() if p in declared and is_counted_number(f) and f.string_stats.unique
    }


def _keep_range(feature: Feature) -> None:
    for field in _OF_COUNTS:
        feature.ClearField(field)


def _add(anomalies: Any, name: str, info: Any) -> None:
    known = {reason.type for reason in anomalies.anomaly_info[name].reason} if name in anomalies.anomaly_info else set()
    new = [reason for reason in info.reason if reason.type not in known]
    if new and not known:
        anomalies.anomaly_info[name].CopyFrom(info)
    elif new:
        anomalies.anomaly_info[name].reason.extend(new)
