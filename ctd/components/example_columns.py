"""Columns to tf.Examples at the speed of memory: every cell's serialized feature by Arrow, rows as their joint.

A cell's serialization is a prefix that depends on its length alone, and its values' own bytes. What comes out is
protobuf's deterministic serialization, to the byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from ctd.components.example_bytes import Kind, map_order

_TAGS = {Kind.STRING: b"\n", Kind.FLOAT: b"\x12", Kind.INT: b"\x1a"}  # of a Feature's bytes, float and int64 lists
_NOTHING = pa.scalar(b"", pa.binary())
_LONGEST = 10  # bytes of a varint
Cells = Any  # a pa.BinaryArray without nulls
Numbers = np.ndarray[Any, Any]


def examples(columns: Mapping[str, Cells]) -> list[bytes]:
    """Serialized tf.Examples of rows, given each column's cells as `features` gives them."""
    parts = [columns[name] for name in map_order(tuple(columns))]
    sizes: Numbers = np.sum([lengths(part) for part in parts], axis=0)
    heads = by_length(sizes, lambda size: b"\n" + varint(size))
    joined: list[bytes] = pc.binary_join_element_wise(heads, *parts, _NOTHING).to_pylist()
    return joined


def features(name: str, kind: Kind, cells: Cells) -> Cells:
    """Each cell as a serialized tf.train.Features with only this one feature in it.

    A cell is a text, packed floats or packed varints; one without bytes has no value, and keeps its kind.
    """
    key = _key(name)
    heads = by_length(lengths(cells), lambda size: _head(key, kind, size, b"\n" + varint(size) if size else b""))
    return pc.binary_join_element_wise(heads, cells, _NOTHING)


def features_of_lists(name: str, kind: Kind, cells: Cells) -> Cells:
    """The same for cells of any number of values, texts with tag and length; one without bytes has no kind either."""
    key = _key(name)
    packed = kind in (Kind.INT, Kind.FLOAT)

    def head(size: int) -> bytes:
        return _head(key, kind if size else Kind.BLANK, size, b"\n" + varint(size) if packed and size else b"")

    return pc.binary_join_element_wise(by_length(lengths(cells), head), cells, _NOTHING)


def packed_ints(values: Numbers, there: Numbers) -> Cells:
    """int64s as varints, one in each cell for which there is one."""
    left = values.astype(np.int64).view(np.uint64)
    groups = np.empty((len(left), _LONGEST), np.uint8)
    sizes = there.astype(np.int32)
    for place in range(_LONGEST):
        groups[:, place] = left & np.uint64(0x7F)
        left = left >> np.uint64(7)
        more = there & (left > 0)
        groups[more, place] |= np.uint8(0x80)
        sizes += more
    return cells_of(groups[np.arange(_LONGEST) < sizes[:, None]], sizes)


def packed_floats(values: Numbers, there: Numbers) -> Cells:
    """Floats as protobuf packs them, one in each cell for which there is one."""
    with np.errstate(over="ignore"):  # too large for 32 bits is infinite, as for protobuf
        narrow = values[there].astype("<f4")
    return cells_of(narrow.view(np.uint8), there * np.int32(4))


def cells_of(flat: Numbers, sizes: Numbers) -> Cells:
    """Bytes one after the other as cells of these sizes."""
    ends = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=ends[1:])
    return pa.BinaryArray.from_buffers(pa.binary(), len(sizes), [None, pa.py_buffer(ends), pa.py_buffer(flat)])


def lengths(cells: Cells) -> Numbers:
    """The number of bytes of each cell."""
    found: Numbers = pc.binary_length(cells).to_numpy(zero_copy_only=False)
    return found


def varint(number: int) -> bytes:
    """Protobuf's integer of variable length."""
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def by_length(sizes: Numbers, made: Callable[[int], bytes]) -> Cells:
    """For each of many lengths what is made of it, each different one once."""
    different, where = np.unique(sizes, return_inverse=True)
    return pa.array([made(int(size)) for size in different], pa.binary()).take(pa.array(where))


def _key(name: str) -> bytes:
    """The name as the key of a map's entry, in protobuf's own bytes."""
    entry = tf.train.Features(feature={name: tf.train.Feature()}).SerializeToString()
    begin = next(place for place in range(1, len(entry)) if entry[place] < 0x80) + 1
    return entry[begin : -len(b"\x12\x00")]


def _head(key: bytes, kind: Kind, size: int, value: bytes) -> bytes:
    """What stands before a cell's bytes: the lengths and tags of entry, feature and list, and the value's own."""
    feature = _TAGS[kind] + varint(len(value) + size) + value if kind is not Kind.BLANK else b""
    entry = key + b"\x12" + varint(len(feature) + size) + feature
    return b"\n" + varint(len(entry) + size) + entry
