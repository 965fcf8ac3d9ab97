"""Columns of Arrow as the cells of serialized features, without a Python object for each value.

Null, and a list without values, is a cell of no bytes. Texts are framed as the values of a bytes list.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctd.components.example_bytes import Kind
from ctd.components.example_columns import (
    Cells,
    Numbers,
    by_length,
    cells_of,
    lengths,
    packed_floats,
    packed_ints,
    varint,
)

_GREATEST = 2**63 - 1


def cells_in(array: Any, kind: Kind, per_unit: int = 1) -> Cells | None:
    """The cells of a column that becomes features of this kind; None if its values must be looked at one by one.

    `per_unit` divides numbers of times that are finer than their feature.
    """
    if kind is Kind.BLANK:
        return cells_of(np.empty(0, np.uint8), np.zeros(len(array), np.int32))
    if not _is_list(array.type):
        return _cells(array, kind, per_unit)
    values = array.flatten()
    cells = None if values.null_count else _cells(values, kind, per_unit)
    if cells is None:
        return None
    counts = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    ends = np.concatenate([[0], np.cumsum(lengths(cells))])[np.concatenate([[0], np.cumsum(counts)])]
    return cells_of(np.frombuffer(cells.buffers()[2] or b"", np.uint8), np.diff(ends))


def _cells(values: Any, kind: Kind, per_unit: int) -> Cells | None:
    there = values.is_valid().to_numpy(zero_copy_only=False)
    if kind is Kind.STRING:
        return _framed(values, there)
    if pa.types.is_decimal(values.type):
        return None
    if pa.types.is_uint64(values.type) and (pc.max(values).as_py() or 0) > _GREATEST:
        return None
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())
    numbers = (
        values.fill_null(0).to_numpy(zero_copy_only=False)
        if values.null_count
        else values.to_numpy(zero_copy_only=False)
    )
    if kind is Kind.FLOAT:
        # By way of 64 bits, as Python's floats: so that signalling NaNs come out as they do there.
        return packed_floats(numbers.astype(np.float64), there)
    return packed_ints(numbers.astype(np.int64) // per_unit, there)


def _framed(values: Any, there: Numbers) -> Cells:
    texts = values.cast(pa.binary()).fill_null(b"")
    sizes = np.where(there, lengths(texts), -1)
    heads = by_length(sizes, lambda size: b"\n" + varint(size) if size >= 0 else b"")
    return pc.binary_join_element_wise(heads, texts, pa.scalar(b"", pa.binary()))


def _is_list(type_: Any) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_))
