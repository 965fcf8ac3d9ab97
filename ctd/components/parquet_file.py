"""Opening Parquet files of any writer: what stands in the way is often a note in the footer, not the data.

Writers of Arrow leave their own schema in the footer, with types that this Arrow may not know (string views), or cannot
make of the data (lists of a fixed size with a null among them). Parquet's own schema is enough to read them. Half
floats are a logical type that Arrow came to know late; their bytes are plain. In these cases Arrow is given a copy of
the footer without such notes.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ctd.components.arrow_schemas import beyond_parquet
from ctd.components.parquet_footer import (
    FLOAT16,
    GEOMETRIES,
    LateType,
    is_encrypted,
    late_types,
    with_int96_as_bytes,
    without,
)
from ctd.core.errors import BadInput

_MAGIC = b"PAR1"
_ARROWS = b"ARROW:schema"
_UNREADABLE = (struct.error, ValueError, LookupError, TypeError, MemoryError, RecursionError)  # of notes that are none
# What Arrow decodes, by Parquet's physical types. Only looked at where reading has failed.
_DICTIONARIES = {"PLAIN", "PLAIN_DICTIONARY", "RLE_DICTIONARY", "RLE", "BIT_PACKED"}
_DECODED: Mapping[str, set[str]] = {
    "INT32": {"DELTA_BINARY_PACKED"},
    "INT64": {"DELTA_BINARY_PACKED"},
    "BYTE_ARRAY": {"DELTA_BYTE_ARRAY"},
}
_CODECS = {"UNCOMPRESSED", "SNAPPY", "GZIP", "BROTLI", "ZSTD", "LZ4", "LZ4_RAW"}


@dataclass(frozen=True)
class ParquetFile:
    """A file as it is read, and what of its columns has to be known beside the types that are read."""

    content: IO[bytes]
    file: pq.ParquetFile
    schema: pa.Schema
    written: pa.Schema  # as the writer has it, as far as Arrow can tell
    halves: frozenset[str] = frozenset()  # columns of two bytes each, which are half floats
    int96: frozenset[str] = frozenset()  # columns of twelve bytes each, which are timestamps
    refused: Mapping[str, str] = field(default_factory=dict)  # columns whose type Parquet has no word for

    @cached_property
    def leaves(self) -> Mapping[str, Any]:
        """Of each column that is no struct or map, how Parquet has it."""
        columns = _columns(self.schema)
        return {name: self.file.schema.column(leaf) for leaf, name in enumerate(columns)}


def open_parquet(content: IO[bytes]) -> ParquetFile:
    """Open a file. Raises what Arrow raises if there is no way to read it."""
    plain, problem = _as_it_is(content)
    if plain and not plain.int96 and not any(map(pa.types.is_fixed_size_list, plain.schema.types)):
        return plain
    try:
        return _with_another_footer(content, plain)
    except _UNREADABLE as error:  # ArrowInvalid is a ValueError
        raise problem or pa.ArrowInvalid(str(error)) from error


def _as_it_is(content: IO[bytes]) -> tuple[ParquetFile | None, Exception | None]:
    """The file as Arrow opens it, or why it cannot."""
    try:
        file = pq.ParquetFile(content)
        schema = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        return None, error
    plain = ParquetFile(content, file, schema, schema)
    return replace(plain, int96=_of_int96(plain)), None


def _of_int96(file: ParquetFile) -> frozenset[str]:
    return frozenset(name for name, leaf in file.leaves.items() if leaf.physical_type == "INT96")


def unreadable(file: ParquetFile, path: str, error: Exception) -> BadInput:
    """Why rows of an opened file cannot be read: a key is missing, Arrow cannot decode them, or damage."""
    if is_encrypted(_footer(file.content)):  # of such columns Arrow must not even be asked how they are encoded
        hint = "Write the file without encryption: ctd has no keys."
        return BadInput(f"{path}: columns of this Parquet file are encrypted", hint=hint)
    for leaf, name, what, hint in _undecoded(file.file.metadata):
        if _fails(file.file, leaf):
            return BadInput(f"{path}: column {name} {what}", hint=hint)
    return damaged(path, error)


def damaged(path: str, error: Exception) -> BadInput:
    said = str(error).strip().splitlines() or [type(error).__name__]
    hint = "Write the file again, and its marker last, when it is whole."
    return BadInput(f"{path}: damaged Parquet: {said[0]}", hint=hint)


def _with_another_footer(content: IO[bytes], plain: ParquetFile | None) -> ParquetFile:
    footer = _footer(content)
    late = list(late_types(footer))
    footer = without(footer, late).replace(_ARROWS, _ARROWS.lower())
    metadata = _metadata(footer)
    int96 = [leaf for leaf in range(metadata.num_columns) if metadata.schema.column(leaf).physical_type == "INT96"]
    if int96:
        metadata = _metadata(with_int96_as_bytes(footer))
    file = pq.ParquetFile(content, metadata=metadata)
    schema = file.schema_arrow
    columns = list(_columns(schema))
    halves = frozenset(columns[one.leaf] for one in late if one.number == FLOAT16)
    refused = {columns[one.leaf]: f"logical type {one.number}" for one in late if _is_unknown(one)}
    said = (metadata.metadata or {}).get(_ARROWS.lower())
    if plain is None and said is not None:
        refused.update(beyond_parquet(said))
    moments = frozenset(columns[leaf] for leaf in int96)
    return ParquetFile(content, file, schema, plain.schema if plain else schema, halves, moments, refused)


def _metadata(footer: bytes) -> Any:
    return pq.read_metadata(io.BytesIO(_MAGIC + footer + struct.pack("<I", len(footer)) + _MAGIC))


def _is_unknown(late: LateType) -> bool:
    return late.leaf >= 0 and late.number not in (FLOAT16, *GEOMETRIES)


def _footer(content: IO[bytes]) -> bytes:
    end = content.seek(0, io.SEEK_END)
    content.seek(end - 8)
    (size,) = struct.unpack("<I", content.read(4))
    content.seek(end - 8 - size)
    return content.read(size)


def _columns(schema: pa.Schema) -> Iterator[str]:
    """The column that each of Parquet's leaves is of."""
    for one in schema:
        yield from [one.name] * _leaves(one.type)


def _leaves(type_: Any) -> int:
    if pa.types.is_struct(type_):
        return sum(_leaves(type_[index].type) for index in range(type_.num_fields))
    if pa.types.is_map(type_):
        return _leaves(type_.key_type) + _leaves(type_.item_type)
    nested = pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_)
    return _leaves(type_.value_type) if nested else 1


def _undecoded(metadata: Any) -> Iterator[tuple[int, str, str, str]]:
    """Leaf, name, what is the matter and what to do, of what this Arrow is not known to decode."""
    for group in range(metadata.num_row_groups):
        for leaf in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(leaf)
            known = _DICTIONARIES | _DECODED.get(chunk.physical_type, set())
            name = chunk.path_in_schema
            if unknown := sorted(set(chunk.encodings) - known):
                what = f"is encoded as {', '.join(unknown)}, which Arrow {pa.__version__} cannot decode"
                hint = "Write it as PLAIN or with a dictionary: data pages of version 1.0, in most writers."
                yield leaf, name, what, hint
            if chunk.compression not in _CODECS:
                what = f"is compressed with {chunk.compression}, which Arrow {pa.__version__} cannot read"
                yield leaf, name, what, "Write it with snappy, gzip, zstd, brotli or without compression."


def _fails(file: pq.ParquetFile, leaf: int) -> bool:
    try:
        for _ in file.iter_batches(columns=[file.schema.column(leaf).path]):
            pass
    except (pa.ArrowException, OSError):
        return True
    return False
