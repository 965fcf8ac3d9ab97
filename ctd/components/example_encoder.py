"""Arrow to tf.Examples, a column at a time: the deterministic serializations of what tfx_bsl's encoder makes.

That one puts the features of each example in an order of its own, so that every example would have to be parsed and
serialized once more. What is rare (rows without values, other types) is left to it.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from ctd.components.arrow_cells import cells_in
from ctd.components.example_bytes import Kind
from ctd.components.example_columns import examples, features_of_lists


def encode(batch: pa.RecordBatch) -> list[bytes] | None:
    """The examples of a batch whose columns are lists; None if a row lacks values, or a type is another."""
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        kind = _kind(column.type)
        cells = None if kind is None or _lacking(column) else cells_in(column, kind)
        if kind is None or cells is None:
            return None
        columns[name] = features_of_lists(name, kind, cells)
    return examples(columns)


def _kind(column: pa.DataType) -> Kind | None:
    if not (pa.types.is_list(column) or pa.types.is_large_list(column)):
        return None
    value = column.value_type
    if pa.types.is_binary(value) or pa.types.is_large_binary(value):
        return Kind.STRING
    return Kind.FLOAT if pa.types.is_float32(value) else Kind.INT if pa.types.is_int64(value) else None


def _lacking(column: pa.Array) -> bool:
    """Whether a row has no value: tfx_bsl tells several sorts of that apart."""
    return bool(column.null_count or pc.min(pc.list_value_length(column)).as_py() == 0)
