"""Which limits on drift and skew TFDV can measure, given how both sides were counted.

Of numbers TFDV knows a histogram, of categories how often each occurs. Where a distance needs counts that are not
there, TFDV takes them for zero: it then calls the distance 0 or 1, and says that it was measured.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tensorflow_data_validation.utils.schema_util import get_all_leaf_features
from tensorflow_metadata.proto.v0.anomalies_pb2 import AnomalyInfo, DriftSkewInfo
from tensorflow_metadata.proto.v0.schema_pb2 import LifecycleStage, Schema
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

from ctd.components.findings import measurements
from ctd.components.schema_paths import Path, by_path

_Measurement = DriftSkewInfo.Measurement
_IGNORED = tuple(map(LifecycleStage.Value, ("PLANNED", "ALPHA", "DEPRECATED", "DEBUG_ONLY", "DISABLED")))
_CATEGORIES, _NUMBERS, _BYTES = "categories", "numbers", "bytes"


@dataclass(frozen=True)
class _Distance:
    """A kind of limit: how people call it, TFDV's number for it, and what has to be counted."""

    name: str
    type: int
    needs: Collection[str]


_DISTANCES = {
    "infinity_norm": _Distance("L-infinity", _Measurement.L_INFTY, (_CATEGORIES,)),
    "normalized_abs_difference": _Distance(
        "normalized difference", _Measurement.NORMALIZED_ABSOLUTE_DIFFERENCE, (_CATEGORIES,)
    ),
    "jensen_shannon_divergence": _Distance(
        "Jensen-Shannon", _Measurement.JENSEN_SHANNON_DIVERGENCE, (_CATEGORIES, _NUMBERS)
    ),
}


@dataclass(frozen=True)
class Compared:
    """What a span is compared with, and how people call that."""

    statistics: DatasetFeatureStatisticsList
    whose: str


def limited(schema: Schema, word: str) -> Iterator[tuple[Path, Any]]:
    """The features with a limit on `drift` or `skew`, wherever they are nested."""
    for path, feature in get_all_leaf_features(schema):
        if feature.HasField(f"{word}_comparator"):
            yield path.steps(), feature


def measurable(
    schema: Schema, statistics: DatasetFeatureStatisticsList, others: Mapping[str, Compared]
) -> tuple[Schema, list[str]]:
    """A copy of the schema without the limits that cannot be measured, and a note on each of them.

    `others` has what drift and skew are measured against, by these words.
    """
    found, notes = Schema.FromString(schema.SerializeToString()), []
    mine = by_path(statistics)
    for word, other in others.items():
        theirs = by_path(other.statistics)
        for path, feature in limited(found, word):
            comparator = getattr(feature, f"{word}_comparator")
            for limit, distance in _limits(comparator):
                why_not = _ignored(feature) or _why_not(distance, mine.get(path), theirs.get(path), other.whose)
                if why_not:
                    comparator.ClearField(limit)
                    notes.append(_note(path, word, why_not))
    return found, notes


def unmeasured(anomalies: Any, schema: Schema, word: str) -> list[str]:
    """Notes on the limits that TFDV passed over in silence, such as those of a feature that a span lacks."""
    measured = set(measurements(anomalies))
    told = {
        tuple(info.path.step)
        for info in anomalies.anomaly_info.values()
        if any(reason.type == AnomalyInfo.COMPARATOR_CONTROL_DATA_MISSING for reason in info.reason)
    }
    return [
        _note(path, word, "no values to compare")
        for path, feature in limited(schema, word)
        for _, distance in _limits(getattr(feature, f"{word}_comparator"))
        if path not in told and (path, word, distance.type) not in measured
    ]


def _limits(comparator: Any) -> list[tuple[str, _Distance]]:
    return [(limit, distance) for limit, distance in _DISTANCES.items() if comparator.HasField(limit)]


def _ignored(feature: Any) -> str:
    stage = feature.lifecycle_stage
    return f"its lifecycle_stage is {LifecycleStage.Name(stage)}" if stage in _IGNORED else ""


def _why_not(distance: _Distance, mine: Any, theirs: Any, whose: str) -> str:
    if mine is None or theirs is None:
        return ""  # TFDV says so itself
    if not (_values(mine) and _values(theirs)):
        return "no values to compare"
    here, there = _counted_as(mine), _counted_as(theirs)
    if here != there:
        return f"counted as {here} here, and as {there} in {whose}"
    if here not in distance.needs:
        return f"{distance.name} is of categories, and this is counted as {here}"
    return ""


def _values(feature: Any) -> int:
    return int(getattr(feature, feature.WhichOneof("stats") or "string_stats").common_stats.tot_num_values)


def _counted_as(feature: Any) -> str:
    return {"num_stats": _NUMBERS, "string_stats": _CATEGORIES}.get(feature.WhichOneof("stats"), _BYTES)


def _note(path: Path, word: str, why: str) -> str:
    return f"{'.'.join(path)}: {word} not measured: {why}"
