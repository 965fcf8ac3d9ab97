"""Decimals as the floats of features, and which of them lose digits there: a feature's float has 32 bits."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from ctd.components.example_columns import Numbers
from ctd.components.table_columns import Column, Notes

_LONG = 18  # digits that 64 bits hold
_EXACT = 2**53  # up to here a double holds every integer


def doubles_of(decimals: Any) -> Numbers | None:
    """A column's decimals as doubles, each the nearest one, 0 for nulls; None if they must be looked at one by one."""
    unscaled = _unscaled(decimals)
    return None if unscaled is None else unscaled / 10.0**decimals.type.scale


def note_lost(column: Column, values: Any, notes: Notes) -> None:
    """Say of a column, once, that its floats do not hold all digits. `values` are an array of Arrow, or Python's."""
    if column.exact is None or column.name in notes:
        return
    lost = _lost_of_array(values, column) if isinstance(values, pa.Array) else _first_lost(values, column)
    if lost is not None:
        with np.errstate(over="ignore"):
            kept = np.float32(float(lost))
        notes.add(
            column.name,
            f"column {column.name} ({column.said}) loses digits: {lost} is {kept:.9g} in the 32 bits of a feature's "
            f"float; `types: {{{column.name}: string}}` keeps it as text",
        )


def _lost_of_array(values: Any, column: Column) -> Any:
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        values = values.flatten()
    unscaled = _unscaled(values) if pa.types.is_decimal(values.type) else None
    if unscaled is None:
        return _first_lost(values.to_pylist(), column)
    scale = 10.0**values.type.scale
    # Of what 32 bits hold exactly the product is exact too, and of the others it is far enough away.
    back = np.rint((unscaled / scale).astype(np.float32).astype(np.float64) * scale)
    lost = np.flatnonzero(back != unscaled)
    return values[int(lost[0])].as_py() if len(lost) else None


def _first_lost(values: Any, column: Column) -> Any:
    for value in values:
        for one in value if isinstance(value, list) else (value,):
            if one is not None and column.exact is not None and _is_lost(exact := column.exact(one)):
                return exact
    return None


def _is_lost(exact: Any) -> bool:
    with np.errstate(over="ignore"):
        return Decimal(str(np.float32(float(exact)))) != exact


def _unscaled(decimals: Any) -> Numbers | None:
    """The integers behind decimals, 0 for nulls; None if some are too large for the arithmetic of doubles."""
    if not pa.types.is_decimal128(decimals.type) or decimals.type.precision > _LONG or decimals.type.scale > _LONG:
        return None
    data = decimals.buffers()[1]
    words = np.frombuffer(data, "<i8", 2 * len(decimals), 16 * decimals.offset) if data else np.zeros(0, np.int64)
    low: Numbers = words[::2] if len(words) else np.zeros(len(decimals), np.int64)
    low = np.where(decimals.is_valid().to_numpy(zero_copy_only=False), low, 0)
    return low if np.all((low > -_EXACT) & (low < _EXACT)) else None
