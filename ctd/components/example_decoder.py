"""tf.Examples to Arrow, a column at a time over all rows: for examples of one form, as ctd writes them.

The same as tfx_bsl's decoder makes of them, several times quicker. What is not of that form is left to tfx_bsl.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa

Numbers = np.ndarray[Any, Any]
_ROOM = bytes(16)  # behind the last record, so that looking ahead stays within
_LEN, _VALUE = 0x0A, 0x12  # tags: of field 1 everywhere, and of the value in a map's entry
_BYTES, _FLOATS, _INTS = 0x0A, 0x12, 0x1A  # tags of a Feature's lists
_LONGEST = 10  # bytes of an integer


def decode(records: Sequence[bytes]) -> pa.RecordBatch | None:
    """The columns of examples that all have the same features in the same order; None if they do not."""
    try:
        return _decoded(records) if records else None
    except (_OtherFormError, UnicodeDecodeError):
        return None


class _OtherFormError(Exception):
    """Other features, another order, several texts in one feature, or no examples at all."""


def _check(*facts: Any) -> None:
    if not all(np.all(fact) for fact in facts):
        raise _OtherFormError


def _decoded(records: Sequence[bytes]) -> pa.RecordBatch:
    data = _Data(b"".join([*records, _ROOM]))
    ends = np.fromiter(accumulate(map(len, records)), np.int64, len(records))
    begins = np.concatenate([[0], ends[:-1]])
    size, at = data.field(begins, _LEN, ends)
    _check(at + size == ends)
    columns: dict[bytes, Any] = {}
    while (at < ends).any():
        size, at = data.field(at, _LEN, ends)
        entry_ends = at + size
        name, at = data.same(*data.field(at, _LEN, entry_ends))
        size, at = data.field(at, _VALUE, entry_ends)
        _check(at + size == entry_ends, name not in columns)
        columns[name] = data.column(at, entry_ends)
        at = entry_ends
    names = sorted(columns)
    return pa.RecordBatch.from_arrays([columns[name] for name in names], [name.decode() for name in names])


class _Data:
    """All records one after the other; `at` are positions in them, one for each row."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._bytes = np.frombuffer(raw, np.uint8)
        self._words: Numbers = np.ndarray((len(raw) - 7,), "<u8", raw, strides=(1,))  # from every byte on

    def field(self, at: Numbers, tag: int, ends: Numbers) -> tuple[Numbers, Numbers]:
        """The size of the field that begins there with this tag and is over by then, and where its content begins."""
        _check(self._bytes[at] == tag)
        at = at + 1
        size = self._bytes[at].astype(np.int64)
        at += 1
        going_on, shift = np.flatnonzero(size > 0x7F), 7
        size[going_on] &= 0x7F
        while len(going_on):
            _check(shift < 35)
            byte = self._bytes[at[going_on]]
            size[going_on] |= (byte & 0x7F).astype(np.int64) << shift
            at[going_on] += 1
            going_on, shift = going_on[byte > 0x7F], shift + 7
        _check(at + size <= ends)
        return size, at

    def same(self, size: Numbers, at: Numbers) -> tuple[bytes, Numbers]:
        """The bytes that all rows have there, and what is behind them."""
        _check(size == size[0])
        text = self._raw[at[0] : at[0] + size[0]]
        for begin in range(0, len(text), 8):
            part = text[begin : begin + 8]
            mask = np.uint64((1 << 8 * len(part)) - 1)
            _check((self._words[at + begin] & mask) == np.uint64(int.from_bytes(part, "little")))
        return text, at + size

    def column(self, at: Numbers, ends: Numbers) -> Any:
        """The lists of the Features that begin and end there."""
        rows = np.flatnonzero(at < ends)
        if not len(rows):
            return pa.nulls(len(at))
        tag = int(self._bytes[at[rows[0]]])
        size, begins = self.field(at[rows], tag, ends[rows])
        _check(begins + size == ends[rows])
        filled = size > 0
        size, begins = self.field(begins[filled], _LEN, ends[rows][filled])
        _check(begins + size == ends[rows][filled])
        counts = np.zeros(len(at), np.int64)
        counts[rows[filled]], values = self._values(tag, begins, size)
        return _lists(counts, values, at < ends)

    def _values(self, tag: int, at: Numbers, size: Numbers) -> tuple[Numbers, Any]:
        """How many values each row has, and all of them."""
        cells = self._cells(at, size)
        if tag == _BYTES:
            return np.ones(len(size), np.int64), cells
        content = np.frombuffer(cells.buffers()[2] or b"", np.uint8)[: size.sum()]
        if tag == _FLOATS:
            _check(size % 4 == 0)
            return size // 4, pa.array(content.view("<f4"))
        _check(tag == _INTS)
        counts, values = _integers(content, np.cumsum(size))
        return counts, pa.array(values)

    def _cells(self, at: Numbers, size: Numbers) -> Any:
        """These parts as one array. Arrow takes every other cell: those between are what separates the parts."""
        borders = np.empty(2 * len(at), np.int64)
        borders[::2], borders[1::2] = at, at + size
        buffers = [None, pa.py_buffer(borders), pa.py_buffer(self._raw)]
        between = pa.LargeBinaryArray.from_buffers(pa.large_binary(), max(len(borders) - 1, 0), buffers)
        return between.take(pa.array(np.arange(0, len(borders), 2)))


def _integers(content: Numbers, ends: Numbers) -> tuple[Numbers, Numbers]:
    """How many varints are in each part of the bytes, and their values."""
    last = content < 0x80
    _check(last[ends - 1])
    values_end = np.flatnonzero(last)
    begins = np.concatenate([[0], values_end[:-1] + 1])[: len(values_end)]
    sizes = values_end - begins + 1
    _check(sizes <= _LONGEST)
    values = np.zeros(len(begins), np.uint64)
    for place in range(int(sizes.max(initial=0))):
        some = np.flatnonzero(sizes > place)
        values[some] |= (content[begins[some] + place] & 0x7F).astype(np.uint64) << np.uint64(7 * place)
    counts = np.searchsorted(values_end, ends)
    return np.diff(counts, prepend=0), values.view(np.int64)


def _lists(counts: Numbers, values: Any, there: Numbers) -> Any:
    borders = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    valid = None if there.all() else pa.py_buffer(np.packbits(there, bitorder="little"))
    buffers = [valid, pa.py_buffer(borders)]
    return pa.LargeListArray.from_buffers(pa.large_list(values.type), len(there), buffers, children=[values])
