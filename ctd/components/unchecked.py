"""What a schema says of the data and TFDV passes over in silence: a verdict has to name it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tensorflow_data_validation.utils.schema_util import get_all_leaf_features
from tensorflow_metadata.proto.v0.schema_pb2 import Schema
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

from ctd.components.schema_paths import Path, by_path, composed

_NEVER = ("url_domain", "mid_domain", "time_domain", "time_of_day_domain")
_NOT_COUNTED = "not counted; the statistics_gen has to take this schema"
_VERSIONS = "num_examples_version_comparator not measured: versions of a span are not compared"


def never_checked(schema: Schema) -> list[str]:
    """What is not compared with any statistics."""
    notes = [_VERSIONS] if schema.dataset_constraints.HasField("num_examples_version_comparator") else []
    for path, feature in get_all_leaf_features(schema):
        domain = feature.WhichOneof("domain_info")
        if domain in _NEVER:
            notes.append(_note(path.steps(), f"{domain} not checked: TFDV has no statistics for it"))
        if feature.natural_language_domain.HasField("sequence_length_constraints"):
            notes.append(_note(path.steps(), "sequence_length_constraints not checked: TFDV only counts lengths"))
    return notes


def unchecked(schema: Schema, statistics: DatasetFeatureStatisticsList) -> list[str]:
    """What would be compared with statistics, but these do not have it."""
    counted = by_path(statistics)
    notes = [
        _note(path, f"{kind} feature not checked: {_NOT_COUNTED}")
        for kind, path in composed(schema)
        if path not in counted or not counted[path].custom_stats
    ]
    for path, feature in get_all_leaf_features(schema):
        if path.steps() in counted:
            notes += [_note(path.steps(), note) for note in _of_feature(feature, counted[path.steps()])]
    return notes


def _of_feature(feature: Any, counted: Any) -> Iterator[str]:
    image = feature.image_domain
    if image.minimum_supported_image_fraction and not any(
        stats.name == "image_format_histogram" for stats in counted.custom_stats
    ):
        yield "minimum_supported_image_fraction not checked: formats of images are not counted"
    if image.max_image_byte_size and counted.WhichOneof("stats") != "bytes_stats":
        yield f"max_image_byte_size not checked: {_NOT_COUNTED}"
    buckets, different = len(counted.string_stats.rank_histogram.buckets), counted.string_stats.unique
    if 0 < buckets < different and _limits_values(feature):
        yield f"its domain was checked for the {buckets} most frequent of {different} values only"


def _limits_values(feature: Any) -> bool:
    domain = feature.WhichOneof("domain_info")
    if domain in ("int_domain", "float_domain"):
        said = {field.name for field, value in getattr(feature, domain).ListFields() if value is not False}
        return bool(said - {"name", "is_categorical"})
    return domain in ("domain", "string_domain", "bool_domain")


def _note(path: Path, said: str) -> str:
    return f"{'.'.join(path)}: {said}"
