"""SchemaGen: a schema that all the data seen so far conforms to."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0.path_pb2 import Path as FeaturePath
from tensorflow_metadata.proto.v0.schema_pb2 import DEPRECATED, Feature, FeatureType, Schema
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

from ctd.components.api import Outputs, Work, split_names
from ctd.components.metadata_files import blanks_as_missing, digest_of_messages, statistics_of, write_schema
from ctd.components.plain_statistics import as_without_schema
from ctd.core.errors import BadInput
from ctd.specs.nodes import SchemaGenSpec


def run(work: Work) -> Outputs:
    """Make `schema`: inferred from the first split of the oldest span, then widened by all others, as TFX does."""
    spec = work.spec(SchemaGenSpec)
    schema = None
    for where, statistics in _all(work):
        work.progress(f"schema of {where}")
        if schema is None:
            schema = tfdv.infer_schema(statistics, infer_feature_shape=spec.infer_feature_shape)
        else:
            schema = widened(schema, statistics, f"{work.where}: {where}")
    if schema is None:
        raise BadInput(f"{work.where}: no statistics of any example", hint="Does the example_gen make splits?")
    directory = work.output("schema")
    write_schema(directory, schema)
    return {"schema": [work.made(directory, digest=digest_of_messages({"schema": schema}))]}


def _all(work: Work) -> Iterator[tuple[str, DatasetFeatureStatisticsList]]:
    """Every split's statistics as the validator will read them, or it would refuse what the schema is inferred from.

    What has no examples says nothing: it must not make features optional that all examples have.
    """
    for artifact in work.inputs("statistics"):
        for split in split_names(artifact):
            statistics = blanks_as_missing(as_without_schema(statistics_of(artifact, split)))
            if any(dataset.num_examples for dataset in statistics.datasets):
                yield f"{artifact.label}, split {split}", statistics


def widened(schema: Schema, statistics: DatasetFeatureStatisticsList, where: str) -> Schema:
    """The schema, with what these statistics have besides. Raises BadInput for a feature of another type.

    TFDV would mark features deprecated that are of another type here, or have no value, and then neither check them
    nor give them to Transform: a single blank column would take a feature out of the model.
    """
    filled = set(_with_values(statistics))
    known = Schema.FromString(schema.SerializeToString())
    del known.feature[:]
    for feature in schema.feature:
        if feature.name in filled and _is_blank(feature):
            continue  # its type was only a guess
        known.feature.add().CopyFrom(feature)
        if feature.name not in filled:
            _make_optional(known.feature[-1])
    old = {feature.name: feature for feature in known.feature}
    found: Schema = tfdv.update_schema(known, statistics)
    for feature in found.feature:
        if feature.name not in old:
            _make_optional(feature)
        elif feature.lifecycle_stage == DEPRECATED:
            raise _other_type(old[feature.name], statistics, where)
    return found


def _with_values(statistics: DatasetFeatureStatisticsList) -> Iterator[str]:
    for dataset in statistics.datasets:
        for feature in dataset.features:
            if getattr(feature, feature.WhichOneof("stats") or "string_stats").common_stats.tot_num_values:
                yield _name(feature.path) or feature.name


def _name(path: FeaturePath) -> str:
    return ".".join(path.step)


def _is_blank(feature: Feature) -> bool:
    """Whether nothing is known of it but its name: TFDV infers so for a feature without a value."""
    return feature.presence.min_count == 0 and not feature.HasField("value_count") and not feature.HasField("shape")


def _make_optional(feature: Feature) -> None:
    feature.presence.Clear()
    feature.presence.min_count = 0
    if feature.HasField("shape"):
        size = 1
        for dim in feature.shape.dim:
            size *= dim.size
        feature.value_count.min = feature.value_count.max = size  # which takes the shape's place


def _other_type(before: Feature, statistics: DatasetFeatureStatisticsList, where: str) -> BadInput:
    types = {_name(f.path) or f.name: f.Type.Name(f.type) for d in statistics.datasets for f in d.features}
    old, new = FeatureType.Name(before.type), types[before.name].replace("STRING", "BYTES")
    declare = "int" if {old, new} == {"INT"} else "float" if {old, new} <= {"INT", "FLOAT"} else "string"
    return BadInput(
        f"{where}: feature {before.name!r} is {new}, and {old} in what came before",
        hint=f"Correct the data; or, for CSV, declare the column with `types: {{{before.name}: {declare}}}` of the "
        "example_gen; or name the span in `deny` of the example_gen; or import a curated schema instead of inferring "
        "one.",
    )
