"""The examples of an evaluation as TFMA has them: features by name, decoded some megabytes at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.utils import util
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder
from tfx_bsl.tfxio.tensor_representation_util import InferTensorRepresentationsFromMixedSchema

from ctd.components.evaluation_batches import MOST, Extracts
from ctd.components.evaluation_records import Records
from ctd.components.examples_io import disagreement
from ctd.core.errors import BadInput

_AT_ONCE = 32 << 20  # bytes of records that are decoded at once


@dataclass(frozen=True)
class Examples:
    """Serialized examples and how to read them."""

    records: Records
    schema: schema_pb2.Schema | None
    features: frozenset[str]

    @classmethod
    def of(cls, records: Records, schema: schema_pb2.Schema | None) -> Examples:
        """Examples read by the schema if it is theirs: transformed examples have other features than the raw ones.

        Raises BadInput if they do not agree on the types of features.
        """
        decoder, found, seen = ExamplesToRecordBatchDecoder(), frozenset[str](), 0
        for some in records.batches(MOST, _AT_ONCE):
            found |= frozenset(_decoded(decoder, some).schema.names)
            seen += len(some)
            if seen >= MOST:
                break
        known = {feature.name for feature in schema.feature} if schema else set()
        return cls(records, schema if found and found <= known else None, found | (known if found <= known else set()))

    def decoded(self) -> Iterator[Extracts]:
        """Features and the examples themselves, some megabytes at once.

        Raises BadInput if examples are not as the schema says.
        """
        decoder = ExamplesToRecordBatchDecoder(self.schema.SerializeToString() if self.schema else None)
        representations = InferTensorRepresentationsFromMixedSchema(self.schema) if self.schema else {}
        for records in self.records.batches(MOST, _AT_ONCE):
            batch = _decoded(decoder, records)
            # A feature without a value in the whole batch has no type there; TFMA leaves it out too.
            known = [field.name for field in batch.schema if not pa.types.is_null(field.type)]
            batch = pa.RecordBatch.from_arrays([batch.column(name) for name in known], known)
            yield {
                constants.FEATURES_KEY: _tensors(batch, representations),
                constants.INPUT_KEY: np.array(records, dtype=object),
            }


def _decoded(decoder: ExamplesToRecordBatchDecoder, records: Sequence[bytes]) -> pa.RecordBatch:
    try:
        return decoder.DecodeBatch(records)
    except (RuntimeError, ValueError) as error:
        raise disagreement("the examples to evaluate on", str(error)) from error


def _tensors(batch: pa.RecordBatch, representations: Mapping[str, schema_pb2.TensorRepresentation]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = util.record_batch_to_tensor_values(batch, representations)
    except ValueError as error:
        complaint = _unlike_schema(batch, representations)
        if complaint is None:
            raise
        raise complaint from error
    return found


def _unlike_schema(
    batch: pa.RecordBatch, representations: Mapping[str, schema_pb2.TensorRepresentation]
) -> BadInput | None:
    """The first feature that has not as many values everywhere as its shape in the schema says."""
    for name, said in representations.items():
        if said.WhichOneof("kind") != "dense_tensor":
            continue
        wanted = int(np.prod([dim.size for dim in said.dense_tensor.shape.dim], dtype=np.int64))
        column = batch.column(batch.schema.get_field_index(name)) if name in batch.schema.names else None
        lengths = np.zeros(batch.num_rows) if column is None else column.value_lengths().fill_null(0).to_numpy()
        if wrong := int((lengths != wanted).sum()):
            return BadInput(
                f"{wrong:,} of {batch.num_rows:,} examples do not have the {wanted} values of feature {name!r} that "
                "the schema says",
                hint="Mend the data, or take `shape` or `min_fraction` out of the feature in the schema.",
            )
    return None
