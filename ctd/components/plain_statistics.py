"""Statistics that a curated schema had counted in its way, for those who do not have that schema."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from tensorflow_metadata.proto.v0.schema_pb2 import Schema
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList, FeatureNameStatistics, Histogram

from ctd.components.schema_paths import Path, by_path, composed

_NUMBERS = (FeatureNameStatistics.INT, FeatureNameStatistics.FLOAT)


def as_without_schema(statistics: DatasetFeatureStatisticsList) -> DatasetFeatureStatisticsList:
    """A copy in which numbers are numbers, and nothing but features of examples has statistics."""
    found = known_to(Schema(), statistics)
    for feature in by_path(found).values():
        if is_counted_number(feature):
            make_number(feature)
    return found


def known_to(schema: Schema, statistics: DatasetFeatureStatisticsList) -> DatasetFeatureStatisticsList:
    """A copy without the sparse and weighted features that a schema does not have: they end TFDV's process."""
    known = {path for _, path in composed(schema)}
    found = DatasetFeatureStatisticsList.FromString(statistics.SerializeToString())
    for dataset in found.datasets:
        kept = [f for f in dataset.features if f.WhichOneof("stats") or (tuple(f.path.step) or (f.name,)) in known]
        if len(kept) < len(dataset.features):
            copies = [FeatureNameStatistics.FromString(f.SerializeToString()) for f in kept]
            del dataset.features[:]
            dataset.features.extend(copies)
    return found


def as_numbers(statistics: DatasetFeatureStatisticsList, paths: Collection[Path]) -> DatasetFeatureStatisticsList:
    """A copy in which these features, which were counted as categories, are numbers."""
    found = DatasetFeatureStatisticsList.FromString(statistics.SerializeToString())
    for path, feature in by_path(found).items():
        if path in paths:
            make_number(feature)
    return found


def is_counted_number(feature: Any) -> bool:
    """Whether a feature has numbers that were counted as categories."""
    return feature.type in _NUMBERS and feature.WhichOneof("stats") == "string_stats"


def make_number(feature: Any) -> None:
    """Give a feature statistics of numbers: as far as categories tell, that is the range, and what is no number."""
    values = [float(bucket.label) for bucket in feature.string_stats.rank_histogram.buckets]
    numbers = [value for value in values if not math.isnan(value)] or [0.0]
    counted = feature.string_stats.common_stats
    common = type(counted).FromString(counted.SerializeToString())
    feature.num_stats.common_stats.CopyFrom(common)  # which takes the place of the others
    feature.num_stats.min, feature.num_stats.max = min(numbers), max(numbers)
    histogram = feature.num_stats.histograms.add(type=Histogram.STANDARD, num_nan=sum(map(math.isnan, values)))
    histogram.buckets.add(low_value=min(numbers), high_value=max(numbers), sample_count=common.tot_num_values)
