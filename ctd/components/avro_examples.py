"""Avro files as typed columns. What the types become is said in `avro_types` and `table_examples`."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import IO, Any

import fastavro

from ctd.components.avro_types import Named, column_of, said_of, with_raw_values
from ctd.components.given_types import AS_THEY_ARE, Given
from ctd.components.table_columns import Columns, Notes
from ctd.components.table_examples import Rows
from ctd.core.errors import BadInput

_ROWS = 10_000  # at once: values are Python objects for so long
_SCHEMA = "avro.schema"
_HEADER = {
    "type": "record",
    "name": "Header",
    "fields": [
        {"name": "magic", "type": {"type": "fixed", "name": "Magic", "size": 4}},
        {"name": "meta", "type": {"type": "map", "values": "bytes"}},
        {"name": "sync", "type": {"type": "fixed", "name": "Sync", "size": 16}},
    ],
}
# What fastavro raises for bytes that are no Avro, as far as they come from it and what it decodes with.
_DAMAGE = (
    *(fastavro.schema.SchemaParseException, fastavro.schema.UnknownType, struct.error, zlib.error, EOFError, OSError),
    *(ValueError, LookupError, TypeError, ArithmeticError, MemoryError, RecursionError),
)


def read_avro(
    content: IO[bytes], path: str, given: Given = AS_THEY_ARE, _notes: Notes | None = None
) -> tuple[Columns, Rows]:
    """The columns of a file, and its rows in batches. Raises BadInput that names the file, here or while reading."""
    try:
        reader = fastavro.reader(_with_raw_values(content))
        schema: Any = reader.writer_schema
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise BadInput(
            f"{path}: the file holds values of type {said_of(schema)}, not records",
            hint="Each example comes from a record: write the values as fields of one.",
        )
    named: Named = {}
    columns = {f["name"]: column_of(f, named, given, path) for f in schema["fields"]}
    return given.apply(columns, path), _batches(reader, list(columns), path)


def _with_raw_values(content: IO[bytes]) -> Any:
    """The same file with another schema in its header, by which fastavro leaves values as they are stored."""
    header: Any = fastavro.schemaless_reader(content, _HEADER, None)
    schema = with_raw_values(json.loads(header["meta"][_SCHEMA]))
    out = io.BytesIO()
    fastavro.schemaless_writer(out, _HEADER, {**header, "meta": {**header["meta"], _SCHEMA: _json(schema)}})
    return _Joined(io.BytesIO(out.getvalue()), content)


class _Joined:
    """Two files, one after the other."""

    def __init__(self, first: IO[bytes], second: IO[bytes]) -> None:
        self._first, self._second = first, second

    def read(self, size: int) -> bytes:
        found = self._first.read(size)
        return found if len(found) == size else found + self._second.read(size - len(found))


def _json(schema: Any) -> bytes:
    return json.dumps(schema).encode()


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


def _damaged(path: str, error: BaseException) -> BadInput:
    said = str(error).strip().splitlines()
    codec = "codec" in str(error)
    return BadInput(
        f"{path}: {'cannot be read' if codec else 'damaged Avro'}: {said[0] if said else type(error).__name__}",
        hint="Write it with one of the codecs null, deflate, snappy, bzip2 and xz."
        if codec
        else "Write the file again, and its marker last, when it is whole.",
    )
