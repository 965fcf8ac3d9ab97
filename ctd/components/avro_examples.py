"""Avro files as typed columns. What the types become is said in `table_examples`."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from itertools import islice
from typing import IO, Any

import fastavro

from ctd.components.example_bytes import Kind
from ctd.components.table_examples import Column, Columns, Rows, unsupported
from ctd.core.errors import BadInput

_ROWS = 10_000  # at once: values are Python objects for so long
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SECOND = timedelta(seconds=1)
# What fastavro raises for bytes that are no Avro, as far as they come from it and what it decodes with.
_DAMAGE = (
    *(fastavro.schema.SchemaParseException, fastavro.schema.UnknownType, struct.error, zlib.error, EOFError, OSError),
    *(ValueError, LookupError, TypeError, ArithmeticError, MemoryError, RecursionError),
)


def read_avro(content: IO[bytes], path: str) -> tuple[Columns, Rows]:
    """The columns of a file, and its rows in batches. Raises BadInput that names the file, here or while reading."""
    try:
        reader = fastavro.reader(content)
        schema = reader.writer_schema
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise BadInput(
            f"{path}: the file holds values of type {_said(schema)}, not records",
            hint="Each example comes from a record: write the values as fields of one.",
        )
    named: dict[str, Any] = {}
    columns = {f["name"]: _column(f["name"], f["type"], named, path) for f in schema["fields"]}
    return columns, _batches(reader, list(columns), path)


def _batches(reader: Any, names: Sequence[str], path: str) -> Iterator[Mapping[str, Sequence[Any]]]:
    rows = iter(reader)
    while True:
        try:
            batch = list(islice(rows, _ROWS))
        except _DAMAGE as error:
            raise _damaged(path, error) from error
        if not batch:
            return
        yield {name: [row[name] for row in batch] for name in names}


def _column(name: str, type_: Any, named: dict[str, Any], path: str) -> Column:
    found = _kind(type_, named)
    if found is None:
        unsupported(path, name, _said(type_))
    return Column(name, _said(type_), *found)


_Found = tuple[Kind, Callable[[Any], Any], bool]  # of a column: kind, conversion, whether it is a list


def _kind(type_: Any, named: dict[str, Any]) -> _Found | None:
    """What a type becomes. `named` gathers the types that a schema names once and may refer to later."""
    if isinstance(type_, list):
        return _of_union([_kind(branch, named) for branch in type_])
    if isinstance(type_, str):
        return _PLAIN.get(type_) or (_kind(named[type_], named) if type_ in named else None)
    base = type_["type"]
    if "name" in type_:
        named[type_["name"]] = type_
    if "logicalType" in type_:
        return _LOGICAL.get((base, type_["logicalType"])) or _of_unknown_logical(type_)
    if base == "array":
        inside = _kind(type_["items"], named)
        return (inside[0], inside[1], True) if inside and not inside[2] else None
    if base in ("enum", "fixed"):
        return _PLAIN["string" if base == "enum" else "bytes"]
    return _kind(base, named) if base not in ("record", "error", "map") else None


def _of_union(branches: Sequence[_Found | None]) -> _Found | None:
    """Null and one type, or types that become the same."""
    if None in branches:
        return None
    found = {branch for branch in branches if branch and branch[0] is not Kind.BLANK}
    if len(found) > 1:
        return None
    return found.pop() if found else _PLAIN["null"]


def _of_unknown_logical(type_: Mapping[str, Any]) -> _Found | None:
    """fastavro, as Avro wants it, leaves types with a meaning that it does not know as they are."""
    known = ("time-millis", "time-micros", "duration", "uuid")
    return None if type_["logicalType"] in known else _PLAIN.get(type_["type"])


def _days(value: date) -> int:
    return value.toordinal() - _EPOCH.toordinal()


def _seconds(value: datetime) -> int:
    return ((value if value.tzinfo else value.replace(tzinfo=timezone.utc)) - _EPOCH) // _SECOND


_PLAIN: Mapping[str, _Found] = {
    "null": (Kind.BLANK, bytes, False),
    "boolean": (Kind.INT, int, False),
    "int": (Kind.INT, int, False),
    "long": (Kind.INT, int, False),
    "float": (Kind.FLOAT, float, False),
    "double": (Kind.FLOAT, float, False),
    "bytes": (Kind.STRING, bytes, False),
    "string": (Kind.STRING, str.encode, False),
}
_LOGICAL: Mapping[tuple[str, str], _Found] = {
    ("int", "date"): (Kind.INT, _days, False),
    **{
        ("long", f"{zone}timestamp-{unit}"): (Kind.INT, _seconds, False)
        for zone in ("", "local-")
        for unit in ("millis", "micros")
    },
    ("bytes", "decimal"): (Kind.FLOAT, float, False),
    ("fixed", "decimal"): (Kind.FLOAT, float, False),
    ("string", "uuid"): (Kind.STRING, lambda value: str(value).encode(), False),
}


def _said(type_: Any) -> str:
    """A type in Avro's words, shortened."""
    if isinstance(type_, list):
        return " or ".join(map(_said, type_))
    if isinstance(type_, str):
        return type_
    if "logicalType" in type_:
        return str(type_["logicalType"])
    return f"array of {_said(type_['items'])}" if type_["type"] == "array" else _said(type_["type"])


def _damaged(path: str, error: BaseException) -> BadInput:
    said = str(error).strip().splitlines()
    codec = "codec" in str(error)
    return BadInput(
        f"{path}: {'cannot be read' if codec else 'damaged Avro'}: {said[0] if said else type(error).__name__}",
        hint="Write it with one of the codecs null, deflate, snappy, bzip2 and xz."
        if codec
        else "Write the file again, and its marker last, when it is whole.",
    )
