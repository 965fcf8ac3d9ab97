"""Parquet files as typed columns. What the types become is said in `table_examples`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctd.components.arrow_cells import cells_in
from ctd.components.decimals import note_lost
from ctd.components.example_bytes import Kind
from ctd.components.given_types import AS_THEY_ARE, Given
from ctd.components.parquet_columns import column_of, is_list
from ctd.components.parquet_file import ParquetFile, damaged, open_parquet, unreadable
from ctd.components.table_columns import Column, Columns, Notes
from ctd.components.table_examples import Rows, Values
from ctd.core.errors import BadInput

_ROWS = 10_000  # at once, unless they are
_BYTES = 32 << 20  # more than this
_INT96 = np.dtype([("nanoseconds", "<i8"), ("day", "<i4")])
_JULIAN_1970 = 2_440_588
_SECONDS_PER_DAY, _PER_SECOND = 86_400, 10**9
_UNNAMED_INDEX = re.compile(r"__index_level_\d+__")  # of pandas


def read_parquet(
    content: IO[bytes], path: str, given: Given = AS_THEY_ARE, notes: Notes | None = None
) -> tuple[Columns, Rows]:
    """The columns of a file, and its rows in batches. Raises BadInput that names the file, here or while reading."""
    notes = notes or Notes()
    try:
        file = open_parquet(content)
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, error) from error
    names = file.schema.names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"{path}: column {twice[0]!r} is there twice", hint="Give every column a name of its own.")
    columns = {name: column_of(name, file, path) for name in _features(file, path, given, notes)}
    columns = dict(given.apply(columns, path))
    return columns, _batches(file, columns, path, notes)


def _features(file: ParquetFile, path: str, given: Given, notes: Notes) -> list[str]:
    """The columns that are features: an index of pandas is none, unless the spec names it."""
    index = _index(file)
    left = [name for name in index if name not in given]
    for name in left:
        notes.add(
            f"index {name}",
            f"column {name} is the index of a pandas DataFrame and no feature; name it in `types` to keep it",
        )
    names = [name for name in file.schema.names if name not in left]
    if left and not names:
        raise BadInput(
            f"{path}: the only columns are the index of a pandas DataFrame: {', '.join(left)}",
            hint="Write columns (`reset_index()` makes some of the index), or name it in `types` of the example_gen.",
        )
    return names


def _index(file: ParquetFile) -> list[str]:
    """The columns that are an index of pandas, by what it notes in the footer, or by their names."""
    try:
        said = json.loads((file.written.metadata or {})[b"pandas"])["index_columns"]
    except (LookupError, ValueError, TypeError):
        said = []
    # A range is described and no column.
    noted = {name for name in said if isinstance(name, str)} if isinstance(said, list) else set()
    return [name for name in file.schema.names if name in noted or _UNNAMED_INDEX.fullmatch(name)]


def _batches(file: ParquetFile, columns: Columns, path: str, notes: Notes) -> Iterator[Mapping[str, Values]]:
    try:
        for batch in file.file.iter_batches(_ROWS, columns=_read(file, columns)):
            arrays = [_decoded(_array(batch, name), _reading(file, name)) for name in columns]
            rows = max(1, _BYTES * batch.num_rows // max(1, sum(array.nbytes for array in arrays)))
            for begin in range(0, batch.num_rows, rows):
                some = [array.slice(begin, rows) for array in arrays]
                yield {c.name: _values(array, c, notes) for c, array in zip(columns.values(), some, strict=True)}
    except (pa.ArrowException, OSError) as error:
        raise unreadable(file, path, error) from error


def _read(file: ParquetFile, columns: Columns) -> list[str] | None:
    """Paths of the columns to read, where some are not; Parquet's, in which lists have a path of their own."""
    leaves = file.leaves
    return None if len(leaves) == len(columns) else [leaves[name].path for name in columns]


def _array(batch: Any, name: str) -> Any:
    return batch.column(batch.schema.get_field_index(name))


def _reading(file: ParquetFile, name: str) -> Callable[[Any], Any] | None:
    """How a column of plain bytes is read that are something else to who wrote them."""
    if name in file.halves:
        return _from_halves
    return _from_int96 if name in file.int96 else None


def _decoded(array: Any, read: Callable[[Any], Any] | None) -> Any:
    """Numbers for times, which have no limits, and no zones to be known; values for places in a dictionary."""
    if is_list(array.type):
        values = array.flatten()
        decoded = _decoded(values, read)
        return array if decoded is values else _lists(array, decoded)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if read:
        return read(array)
    numbers = _as_numbers(array.type)
    return array.cast(numbers) if numbers else array


def _from_halves(array: Any) -> Any:
    return pa.array(_records(array, "<f2").astype(np.float32), mask=_missing(array))


def _from_int96(array: Any) -> Any:
    """Seconds since 1970. Arrow writes negative nanoseconds for times before."""
    parts = _records(array, _INT96)
    days = parts["day"].astype(np.int64) - _JULIAN_1970
    return pa.array(days * _SECONDS_PER_DAY + parts["nanoseconds"] // _PER_SECOND, mask=_missing(array))


def _records(array: Any, type_: Any) -> Any:
    """An array of bytes of one size as numpy sees them; of nulls anything."""
    size = array.type.byte_width
    data = array.buffers()[1]
    if data is None:  # nothing, or nothing but nulls
        return np.zeros(len(array), type_)
    return np.frombuffer(data, type_, len(array), size * array.offset)


def _missing(array: Any) -> Any:
    return array.is_null().to_numpy(zero_copy_only=False)


def _lists(like: Any, values: Any) -> Any:
    """Lists of these values, as long as those they were taken from: Arrow casts not every kind of list."""
    ends = np.cumsum(pc.list_value_length(like).fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)
    missing = np.append(like.is_null().to_numpy(zero_copy_only=False), False)
    return pa.LargeListArray.from_arrays(pa.array(np.append([0], ends), mask=missing), values)


def _values(array: Any, column: Column, notes: Notes) -> Values:
    cells = cells_in(array, column.kind, column.per_unit) if _plain(column) else None
    if cells is None:
        return list(array.to_pylist())
    note_lost(column, array, notes)
    return cells


def _plain(column: Column) -> bool:
    """Whether values become features as they are, or as numbers that they are equal to."""
    return column.kind is not Kind.STRING or column.convert in (str.encode, bytes)


def _as_numbers(type_: Any) -> Any:
    if pa.types.is_date32(type_):
        return pa.int32()
    return pa.int64() if pa.types.is_timestamp(type_) or pa.types.is_date64(type_) else None
