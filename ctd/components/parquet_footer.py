"""What a Parquet footer says that Arrow does not tell, found in Thrift's compact protocol.

These are logical types that Arrow came to know late, and whether anything is encrypted. INT96 can be had as bytes,
since Arrow makes integers of it that end in 2262, or are wrong where nanoseconds are negative, as Arrow writes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

FLOAT16 = 15  # numbers of Parquet's union of logical types
GEOMETRIES = (17, 18)  # plain bytes: well-known binary
_LAST_KNOWN = 14

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12  # Thrift's types
_SCHEMA, _ROW_GROUPS, _ENCRYPTION = 2, 4, 8  # fields of the file's metadata
_CHILDREN, _LOGICAL_TYPE = 5, 10  # fields of an element of its schema
_COLUMNS, _METADATA = 1, 3  # fields of a row group, and of one of its columns
_PHYSICAL_TYPE, _SIZE = 1, 2  # fields of an element of the schema; the first of a column's metadata, too
_INT96, _FIXED_BYTES = b"\x06", b"\x0e"  # physical types 3 and 7, in zigzag
_SIZE_OF_INT96 = b"\x15\x18"  # field 2, which follows field 1: twelve bytes


@dataclass(frozen=True)
class LateType:
    """A logical type that Arrow may not know: its number, where in the footer it is said, and of which leaf."""

    number: int
    begin: int
    end: int
    leaf: int  # -1: of a group


def late_types(footer: bytes) -> Iterator[LateType]:
    """All there are, in their order. Raises IndexError or ValueError for what is no footer."""
    thrift = _Thrift(footer)
    for number, type_ in thrift.fields():
        if number == _SCHEMA and type_ == _LIST:
            yield from _in_schema(thrift)
            return
        thrift.skip(type_)


def with_int96_as_bytes(footer: bytes) -> bytes:
    """The footer of the same file with columns of twelve bytes: nanoseconds of a day, and its Julian number."""
    thrift = _Thrift(footer)
    edits: list[tuple[int, int, bytes]] = []
    for number, type_ in thrift.fields():
        if number == _SCHEMA:
            for _ in range(thrift.list_header()[0]):
                edits += _as_bytes(thrift, sized=True)
        elif number == _ROW_GROUPS:
            for _ in range(thrift.list_header()[0]):
                edits += _chunks_as_bytes(thrift)
        else:
            thrift.skip(type_)
    for begin, end, instead in reversed(edits):
        footer = footer[:begin] + instead + footer[end:]
    return footer


def _chunks_as_bytes(thrift: _Thrift) -> Iterator[tuple[int, int, bytes]]:
    """Edits in a row group."""
    for number, type_ in thrift.fields():
        if number != _COLUMNS:
            thrift.skip(type_)
            continue
        for _ in range(thrift.list_header()[0]):
            for field, inside in thrift.fields():
                if field == _METADATA:
                    yield from _as_bytes(thrift, sized=False)
                else:
                    thrift.skip(inside)


def _as_bytes(thrift: _Thrift, *, sized: bool) -> Iterator[tuple[int, int, bytes]]:
    """Edits in a struct with a physical type, which says its size in the schema."""
    int96 = False
    for number, type_ in thrift.fields():
        begin = thrift.at
        thrift.skip(type_)
        if number == _PHYSICAL_TYPE and thrift.data[begin : thrift.at] == _INT96:
            int96 = True
            head = thrift.data[thrift.at]
            if not sized or (head >> 4) + number == _SIZE:
                yield begin, thrift.at, _FIXED_BYTES
            else:  # the next field says how far its number is from that of the last one
                nearer = head - 0x10 if head >> 4 else head
                yield begin, thrift.at + 1, _FIXED_BYTES + _SIZE_OF_INT96 + bytes([nearer])
        elif int96 and sized and number == _SIZE:
            yield begin, thrift.at, _SIZE_OF_INT96[1:]


def is_encrypted(footer: bytes) -> bool:
    """Whether some columns are. Raises IndexError or ValueError for what is no footer."""
    thrift = _Thrift(footer)
    for number, type_ in thrift.fields():
        if number == _ENCRYPTION:
            return True
        thrift.skip(type_)
    return False


def without(footer: bytes, types: list[LateType]) -> bytes:
    """The footer with nothing said of these."""
    for one in reversed(types):
        footer = footer[: one.begin] + footer[one.end :]
    return footer


def _in_schema(thrift: _Thrift) -> Iterator[LateType]:
    size, _ = thrift.list_header()
    leaf = -1
    for _ in range(size):
        is_group, logical = False, None
        begin = thrift.at
        for number, type_ in thrift.fields():
            if number == _LOGICAL_TYPE and type_ == _STRUCT:
                of_union = next(_Thrift(thrift.data, thrift.at).fields(), (0, 0))[0]
                thrift.skip(type_)
                logical = LateType(of_union, begin, thrift.at, -1)
            elif number == _CHILDREN:
                is_group = thrift.zigzag() > 0
            else:
                thrift.skip(type_)
            begin = thrift.at
        leaf += not is_group
        if logical and logical.number > _LAST_KNOWN:
            yield LateType(logical.number, logical.begin, logical.end, -1 if is_group else leaf)


class _Thrift:
    """A place in values of Thrift's compact protocol."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def fields(self) -> Iterator[tuple[int, int]]:
        """Number and type of each field of a struct; the caller reads or skips its value."""
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self.zigzag()
            yield number, head & 0x0F

    def list_header(self) -> tuple[int, int]:
        head = self._byte()
        return (head >> 4 if head >> 4 < 0x0F else self._varint()), head & 0x0F

    def skip(self, type_: int) -> None:
        if type_ in (_TRUE, _FALSE):
            return
        if type_ == _BYTE:
            self.at += 1
        elif type_ == _DOUBLE:
            self.at += 8
        elif type_ == _BINARY:
            size = self._varint()
            self.at += size
        elif type_ in (_LIST, _SET):
            size, inside = self.list_header()
            for _ in range(size):
                self._skip_inside(inside)
        elif type_ == _MAP:
            self._skip_map()
        elif type_ == _STRUCT:
            for _, inside in self.fields():
                self.skip(inside)
        else:
            self._varint()

    def zigzag(self) -> int:
        number = self._varint()
        return number >> 1 ^ -(number & 1)

    def _skip_map(self) -> None:
        size = self._varint()
        types = self._byte() if size else 0
        for _ in range(size):
            self._skip_inside(types >> 4)
            self._skip_inside(types & 0x0F)

    def _skip_inside(self, type_: int) -> None:
        """Skip a member of a collection, where booleans take a byte."""
        self.skip(_BYTE if type_ in (_TRUE, _FALSE) else type_)

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._byte()
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    def _byte(self) -> int:
        byte = self.data[self.at]
        self.at += 1
        return byte
