"""Parquet files as typed columns. What the types become is said in `table_examples`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ctd.components.arrow_cells import cells_in
from ctd.components.example_bytes import Kind
from ctd.components.table_examples import Column, Columns, Rows, Values, unsupported
from ctd.core.errors import BadInput

_ROWS = 10_000  # at once, unless they are
_BYTES = 32 << 20  # more than this
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_MS_PER_DAY = 86_400_000


def read_parquet(content: IO[bytes], path: str) -> tuple[Columns, Rows]:
    """The columns of a file, and its rows in batches. Raises BadInput that names the file, here or while reading."""
    try:
        file = pq.ParquetFile(content)
        schema = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise BadInput(f"{path}: column {twice[0]!r} is there twice", hint="Give every column a name of its own.")
    columns = {field.name: _column(field.name, field.type, path) for field in schema}
    return columns, _batches(file, columns, path)


def _batches(file: pq.ParquetFile, columns: Columns, path: str) -> Iterator[Mapping[str, Values]]:
    try:
        for batch in file.iter_batches(_ROWS):
            arrays = [_decoded(array) for array in batch.columns]
            rows = max(1, _BYTES * batch.num_rows // max(1, sum(array.nbytes for array in arrays)))
            for begin in range(0, batch.num_rows, rows):
                some = [array.slice(begin, rows) for array in arrays]
                yield {name: _values(array, columns[name]) for name, array in zip(columns, some, strict=True)}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error


def _decoded(array: Any) -> Any:
    """Numbers for times, which have no limits, and no zones to be known; values for places in a dictionary."""
    if _is_list(array.type):
        values = array.flatten()
        decoded = _decoded(values)
        return array if decoded is values else _lists(array, decoded)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    numbers = _as_numbers(array.type)
    return array.cast(numbers) if numbers else array


def _lists(like: Any, values: Any) -> Any:
    """Lists of these values, as long as those they were taken from: Arrow casts not every kind of list."""
    ends = np.cumsum(pc.list_value_length(like).fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)
    missing = np.append(like.is_null().to_numpy(zero_copy_only=False), False)
    return pa.LargeListArray.from_arrays(pa.array(np.append([0], ends), mask=missing), values)


def _values(array: Any, column: Column) -> Values:
    cells = cells_in(array, column.kind, column.per_unit)
    return list(array.to_pylist()) if cells is None else cells


def _as_numbers(type_: Any) -> Any:
    if pa.types.is_date32(type_):
        return pa.int32()
    return pa.int64() if pa.types.is_timestamp(type_) or pa.types.is_date64(type_) else None


def _column(name: str, type_: Any, path: str) -> Column:
    many = _is_list(type_)
    inside = type_.value_type if many else type_
    if pa.types.is_dictionary(inside):
        inside = inside.value_type
    found = _kind(inside)
    if found is None:
        unsupported(path, name, str(type_))
    kind, convert = found
    return Column(name, str(type_), kind, convert, many, _per_unit(inside))


def _per_unit(type_: Any) -> int:
    if pa.types.is_timestamp(type_):
        return _PER_SECOND[type_.unit]
    return _MS_PER_DAY if pa.types.is_date64(type_) else 1


def _is_list(type_: Any) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_))


def _kind(type_: Any) -> tuple[Kind, Callable[[Any], Any]] | None:
    is_ = pa.types
    if is_.is_null(type_):
        return Kind.BLANK, bytes
    if is_.is_boolean(type_) or is_.is_integer(type_) or is_.is_date32(type_):
        return Kind.INT, int
    if is_.is_timestamp(type_) or is_.is_date64(type_):
        return Kind.INT, _divided(_per_unit(type_))
    if is_.is_floating(type_) or is_.is_decimal(type_):
        return Kind.FLOAT, float
    if is_.is_string(type_) or is_.is_large_string(type_):
        return Kind.STRING, str.encode
    if is_.is_binary(type_) or is_.is_large_binary(type_) or is_.is_fixed_size_binary(type_):
        return Kind.STRING, bytes
    return None


def _divided(by: int) -> Callable[[int], int]:
    return lambda value: value // by


def _damaged(path: str, error: Exception) -> BadInput:
    said = str(error).strip().splitlines() or [type(error).__name__]
    hint = "Write the file again, and its marker last, when it is whole."
    return BadInput(f"{path}: damaged Parquet: {said[0]}", hint=hint)
