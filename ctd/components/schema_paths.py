"""Features by their paths, wherever they are nested: in statistics, and of a schema those made of other features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tensorflow_metadata.proto.v0.schema_pb2 import STRUCT, Schema, StructDomain
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

Path = tuple[str, ...]  # the steps to a feature


def by_path(statistics: DatasetFeatureStatisticsList) -> dict[Path, Any]:
    """The statistics of each feature."""
    return {tuple(f.path.step) or (f.name,): f for dataset in statistics.datasets for f in dataset.features}


def composed(schema: Schema) -> Iterator[tuple[str, Path]]:
    """The features that are made of others: `sparse` or `weighted`, and the path."""
    for weighted in schema.weighted_feature:
        yield "weighted", (weighted.name,)
    for path in _sparse(schema, ()):
        yield "sparse", path


def _sparse(container: Schema | StructDomain, parent: Path) -> Iterator[Path]:
    for sparse in container.sparse_feature:
        yield (*parent, sparse.name)
    for feature in container.feature:
        if feature.type == STRUCT:
            yield from _sparse(feature.struct_domain, (*parent, feature.name))
