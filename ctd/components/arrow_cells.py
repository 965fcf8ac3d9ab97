"""Columns of Arrow as the cells of serialized features, without a Python object for each value.

Null, and a list without values, is a cell of no bytes. Texts are framed as the values of a bytes list.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctd.components.decimals import doubles_of
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
        return _framed(values, there) if _is_bytes(values.type) else None
    numbers = _numbers(values, kind)
    if numbers is None:
        return None
    if per_unit > 1:
        numbers = numbers.astype(np.int64) // per_unit
    if kind is Kind.FLOAT:
        # By way of 64 bits, as Python's floats: so that signalling NaNs come out as they do there.
        return packed_floats(numbers.astype(np.float64), there)
    return packed_ints(numbers.astype(np.int64), there)


def _numbers(values: Any, kind: Kind) -> Numbers | None:
    """The numbers of an array, of nulls any; None if they are none, or not of this kind without a closer look."""
    type_ = values.type
    if pa.types.is_decimal(type_):
        return doubles_of(values) if kind is Kind.FLOAT else _wholes(values)
    if pa.types.is_boolean(type_):
        values = values.cast(pa.uint8())
    elif not (pa.types.is_integer(type_) or pa.types.is_floating(type_)):
        return None
    if pa.types.is_uint64(type_) and kind is Kind.INT and (pc.max(values).as_py() or 0) > _GREATEST:
        return None
    numbers: Numbers = (
        values.fill_null(0).to_numpy(zero_copy_only=False)
        if values.null_count
        else values.to_numpy(zero_copy_only=False)
    )
    if kind is Kind.INT and pa.types.is_floating(type_):
        whole = (np.abs(numbers) < _GREATEST) & (np.floor(numbers) == numbers)
        return numbers if np.all(whole) else None
    return numbers


def _wholes(decimals: Any) -> Numbers | None:
    try:
        numbers: Numbers = decimals.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        return None  # a fraction, or beyond 64 bits
    return numbers


def _is_bytes(type_: Any) -> bool:
    is_ = pa.types
    text = is_.is_string(type_) or is_.is_large_string(type_)
    return bool(text or is_.is_binary(type_) or is_.is_large_binary(type_) or is_.is_fixed_size_binary(type_))


def _framed(values: Any, there: Numbers) -> Cells:
    texts = values.cast(pa.binary()).fill_null(b"")
    sizes = np.where(there, lengths(texts), -1)
    heads = by_length(sizes, lambda size: b"\n" + varint(size) if size >= 0 else b"")
    return pc.binary_join_element_wise(heads, texts, pa.scalar(b"", pa.binary()))


def _is_list(type_: Any) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_))
