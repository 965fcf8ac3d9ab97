"""Columns of CSV cells: of which kind they are, and their values, with Python deciding wherever Arrow could differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctd.components.example_bytes import Kind
from ctd.components.example_columns import Cells, Numbers, examples, features, lengths, packed_floats, packed_ints

# What Python and Arrow read as the same number. All else is asked of Python, each different cell once.
_INT = r"^-?[0-9]{1,18}$"
_FLOAT = r"^-?[0-9]{1,15}\.[0-9]{0,15}$"
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class Block:
    """Some rows of a file as columns: of each the different cells, in order of appearance, and which row has which."""

    columns: Mapping[str, Any]  # pa.DictionaryArrays of bytes
    rows: int

    @property
    def nbytes(self) -> int:
        return sum(column.nbytes for column in self.columns.values())

    def without(self, nulls: frozenset[str]) -> Block:
        """The same with these cells blank."""
        if not nulls:
            return self
        blank = pa.array([null.encode() for null in nulls], pa.binary())
        columns = {}
        for name, column in self.columns.items():
            is_null = pc.is_in(column.dictionary, blank)
            cells = pc.if_else(is_null, pa.scalar(b"", pa.binary()), column.dictionary)
            columns[name] = pa.DictionaryArray.from_arrays(column.indices, cells)
        return Block(columns, self.rows)


def block_of(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Block:
    """The block of rows of text."""
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    cells = [pa.array(column, pa.string()).cast(pa.binary()).dictionary_encode() for column in columns]
    return Block(dict(zip(header, cells, strict=True)), len(rows))


def infer_kind(cell: bytes) -> Kind:
    """What one cell can be. Python's own idea of numbers decides, as in TFX: 1_000 is one, 0x10 is not."""
    if not cell:
        return Kind.BLANK
    try:
        return Kind.INT if int(cell) in _INT64 else Kind.STRING
    except ValueError:
        pass
    try:
        float(cell)
    except ValueError:
        return Kind.STRING
    return Kind.FLOAT


def kind_of(cells: Cells) -> Kind:
    """The greatest kind among different cells."""
    found = Kind.BLANK
    plain = _plain(cells, _INT)
    if pc.any(plain).as_py():
        found = Kind.INT
        cells = cells.filter(pc.invert(plain))
    plain = _plain(cells, _FLOAT)
    if pc.any(plain).as_py():
        found = Kind.FLOAT
        cells = cells.filter(pc.invert(plain))
    for cell in cells:
        found = max(found, infer_kind(cell.as_py()))
        if found is Kind.STRING:
            break
    return found


def first_beyond(cells: Cells, kind: Kind) -> bytes | None:
    """The first cell that is of a greater kind than this one."""
    if kind_of(cells) <= kind:
        return None
    return next(cell for cell in cells.to_pylist() if infer_kind(cell) > kind)


def examples_of(block: Block, kinds: Mapping[str, Kind]) -> list[bytes]:
    """Canonically serialized tf.Examples, one per row."""
    columns = {}
    for name, column in block.columns.items():
        values = _CELLS[kinds[name]](column.dictionary)
        columns[name] = features(name, kinds[name], values).take(column.indices)
    return examples(columns)


def _ints(cells: Cells) -> Cells:
    plain = _plain(cells, _INT)
    return packed_ints(_numbers(cells, plain, np.int64, int), _there(cells))


def _floats(cells: Cells) -> Cells:
    plain = pc.or_(_plain(cells, _INT), _plain(cells, _FLOAT))
    return packed_floats(_numbers(cells, plain, np.float64, float), _there(cells))


def _numbers(cells: Cells, plain: Any, type_: type, convert: Callable[[bytes], float]) -> Numbers:
    """The number of each cell, and 0 for blank ones."""
    is_plain = plain.to_numpy(zero_copy_only=False)
    values: Numbers = np.zeros(len(cells), type_)
    values[is_plain] = cells.view(pa.string()).filter(plain).cast(pa.from_numpy_dtype(type_)).to_numpy()
    for row in np.flatnonzero(_there(cells) & ~is_plain):
        values[row] = convert(cells[row].as_py())
    return values


def _there(cells: Cells) -> Numbers:
    there: Numbers = lengths(cells) > 0
    return there


_CELLS: Mapping[Kind, Callable[[Cells], Cells]] = {
    Kind.BLANK: lambda cells: cells,
    Kind.INT: _ints,
    Kind.FLOAT: _floats,
    Kind.STRING: lambda cells: cells,
}


def _plain(cells: Cells, pattern: str) -> Any:
    # The cells are UTF-8, as files are checked for it, and the pattern matches nothing but ASCII.
    return pc.match_substring_regex(cells.view(pa.string()), pattern)
