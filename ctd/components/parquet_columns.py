"""What the columns of a Parquet file mean, and the kinds of features that they become."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from ctd.components.example_bytes import Kind
from ctd.components.parquet_file import ParquetFile
from ctd.components.table_columns import Column, Meaning, unsupported

PER_SECOND: Mapping[str, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_MS_PER_DAY = 86_400_000
_SINGLE_BITS = 32


def column_of(name: str, file: ParquetFile, path: str) -> Column:
    """A column of a file. Raises BadInput if no feature can hold it."""
    type_ = file.schema.field(name).type
    many = is_list(type_)
    inside = _inside(type_)
    said = _said(name, file)
    leaf = file.leaves[name] if not pa.types.is_nested(inside) else None
    if name in file.refused or leaf is None or leaf.converted_type == "INTERVAL":
        unsupported(path, name, file.refused.get(name) or ("interval" if leaf else said))
    if name in file.halves:
        return Column(name, said, Kind.FLOAT, float, Meaning.NUMBER, many, _size(name, file), single=True)
    if name in file.int96:
        return Column(name, said, Kind.INT, int, Meaning.ANY_TIMESTAMP, many, _size(name, file))
    found = _found(inside, leaf)
    if found is None:
        unsupported(path, name, said)
    meaning, kind, convert = found
    return Column(
        name,
        said,
        kind,
        convert,
        meaning,
        many,
        _size(name, file),
        _per_unit(inside),
        single=pa.types.is_floating(inside) and inside.bit_width <= _SINGLE_BITS,
        exact=_itself if pa.types.is_decimal(inside) and kind is Kind.FLOAT else None,
    )


def is_list(type_: Any) -> bool:
    """Whether a type of Arrow is one of its kinds of list."""
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_))


_Found = tuple[Meaning, Kind, Callable[[Any], Any]]


def _found(type_: Any, leaf: Any) -> _Found | None:
    is_ = pa.types
    if is_.is_timestamp(type_):
        return _moment(type_, leaf), Kind.INT, _divided(_per_unit(type_))
    if is_.is_decimal(type_):
        whole = type_.scale <= 0
        return (Meaning.INTEGER, Kind.INT, int) if whole else (Meaning.NUMBER, Kind.FLOAT, float)
    if is_.is_fixed_size_binary(type_) and leaf.logical_type.type == "UUID":
        return Meaning.UUID, Kind.STRING, bytes
    return next((found for is_type, found in _PLAIN if is_type(type_)), None)


def _moment(type_: Any, leaf: Any) -> Meaning:
    """Whether timestamps are in UTC: what writers of old called timestamps does not say."""
    if type_.tz:
        return Meaning.TIMESTAMP
    logical = leaf.logical_type
    says = logical.type == "TIMESTAMP" and "is_from_converted_type=true" not in str(logical)
    return Meaning.LOCAL_TIMESTAMP if says else Meaning.ANY_TIMESTAMP


def _per_unit(type_: Any) -> int:
    if pa.types.is_timestamp(type_):
        return PER_SECOND[type_.unit]
    return _MS_PER_DAY if pa.types.is_date64(type_) else 1


def _divided(by: int) -> Callable[[int], int]:
    return lambda value: value // by


def _itself(value: Any) -> Any:
    return value


def _inside(type_: Any) -> Any:
    """The type of a column's values, those of lists too."""
    inside = type_.value_type if is_list(type_) else type_
    return inside.value_type if pa.types.is_dictionary(inside) else inside


def _said(name: str, file: ParquetFile) -> str:
    """The column's type as its writer has it, as far as that is known."""
    said = str(file.written.field(name).type)
    leaf = file.leaves.get(name)
    if name in file.halves:
        return said.replace("fixed_size_binary[2]", "halffloat")
    if name in file.int96:
        return said.replace("fixed_size_binary[12]", "timestamp[ns]") + " (INT96)"
    if leaf is not None and leaf.logical_type.type == "UUID":
        return said.replace("fixed_size_binary[16]", "uuid")
    return said


def _size(name: str, file: ParquetFile) -> int:
    type_ = file.written.field(name).type
    return int(type_.list_size) if pa.types.is_fixed_size_list(type_) else 0


_PLAIN: tuple[tuple[Callable[[Any], Any], _Found], ...] = (
    (pa.types.is_null, (Meaning.NOTHING, Kind.BLANK, bytes)),
    (pa.types.is_boolean, (Meaning.BOOLEAN, Kind.INT, int)),
    (pa.types.is_integer, (Meaning.INTEGER, Kind.INT, int)),
    (pa.types.is_date32, (Meaning.DATE, Kind.INT, int)),
    (pa.types.is_date64, (Meaning.DATE, Kind.INT, _divided(_MS_PER_DAY))),
    (pa.types.is_floating, (Meaning.NUMBER, Kind.FLOAT, float)),
    (pa.types.is_string, (Meaning.TEXT, Kind.STRING, str.encode)),
    (pa.types.is_large_string, (Meaning.TEXT, Kind.STRING, str.encode)),
    (pa.types.is_binary, (Meaning.BYTES, Kind.STRING, bytes)),
    (pa.types.is_large_binary, (Meaning.BYTES, Kind.STRING, bytes)),
    (pa.types.is_fixed_size_binary, (Meaning.BYTES, Kind.STRING, bytes)),
)
