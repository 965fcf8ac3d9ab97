"""The schema that writers of Arrow leave in a Parquet footer, as far as it says more than Parquet's own.

Arrow cannot read it if there is one type in it that is newer than Arrow. It is a flatbuffer: base64 around a message.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping

from flatbuffers import encode, number_types
from flatbuffers.table import Table

_INT, _INTERVAL, _DURATION = 2, 11, 18  # of Arrow's union of types
_WIDEST = 64  # bits of a feature's integer
_HEADER, _FIELDS = 2, 1  # slots of a message, and of a schema
_NAME, _TYPE_OF_TYPE, _TYPE, _CHILDREN = 0, 2, 3, 5  # slots of a field
_FRAME = 8  # bytes before the message: a mark and its size


def beyond_parquet(said: bytes) -> Mapping[str, str]:
    """The columns whose type is a plain number or bytes to Parquet, and something else to who wrote it, in words.

    Raises struct.error, ValueError, TypeError or IndexError for what is no such schema.
    """
    message = base64.b64decode(said)[_FRAME:]
    root = Table(message, encode.Get(number_types.UOffsetTFlags.packer_type, message, 0))
    schema = _inside(root, _HEADER)
    return {_name(field): word for field in _members(schema, _FIELDS) if (word := _word(field))}


def _word(field: Table) -> str:
    type_ = _number(field, _TYPE_OF_TYPE, number_types.Uint8Flags)
    if type_ == _INT:
        bits = _number(_inside(field, _TYPE), 0, number_types.Int32Flags)
        return f"int{bits}" if bits > _WIDEST else ""
    if type_ in (_INTERVAL, _DURATION):
        return "duration" if type_ == _DURATION else "interval"
    return next((word for child in _members(field, _CHILDREN) if (word := _word(child))), "")


def _name(field: Table) -> str:
    offset = _offset(field, _NAME)
    return field.String(field.Pos + offset).decode() if offset else ""


def _number(of: Table, slot: int, type_: type) -> int:
    offset = _offset(of, slot)
    return int(of.Get(type_, of.Pos + offset)) if offset else 0


def _inside(of: Table, slot: int) -> Table:
    return Table(of.Bytes, of.Indirect(of.Pos + _offset(of, slot)))


def _members(of: Table, slot: int) -> Iterator[Table]:
    offset = _offset(of, slot)
    if offset:
        begin = of.Vector(offset)
        yield from (Table(of.Bytes, of.Indirect(begin + 4 * index)) for index in range(of.VectorLen(offset)))


def _offset(of: Table, slot: int) -> int:
    return int(of.Offset(4 + 2 * slot))
