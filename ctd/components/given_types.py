"""Columns of tables as the kinds that `types:` of a spec gives, whatever the writer of each file made of them.

A column may be of integers on one day and floating on another, because a value was missing or a writer changed.
Numbers become integers if they are whole. As text a number is written as short as it can be, so that 7 and 7.0 are the
same; a date is written as YYYY-MM-DD, a UUID as usual.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np

from ctd.components.example_bytes import Kind
from ctd.components.table_columns import TIMESTAMPS, Column, Columns, Meaning
from ctd.core.errors import BadInput

_EPOCH = date(1970, 1, 1).toordinal()


@dataclass(frozen=True)
class Given:
    """What a spec says of columns: the kinds of some, and by which one examples are split."""

    types: Mapping[str, Kind] = field(default_factory=dict)
    split_by: str | None = None

    def __contains__(self, name: str) -> bool:
        """Whether the spec names the column, which is then a feature in any case."""
        return name in self.types or name == self.split_by

    def apply(self, columns: Columns, path: str) -> Columns:
        """The columns of a file as they are wanted. Raises BadInput for one that is not there, or cannot be that."""
        for name in self.types:
            if name not in columns:
                raise BadInput(
                    f"{path}: no column {name}, of which `types` gives the type",
                    hint=f"The columns are {', '.join(columns)}: mend `types:` of the example_gen, or the file.",
                )
        return {n: _as(c, self.types[n], path) if n in self.types else c for n, c in columns.items()}


AS_THEY_ARE = Given()


def as_text(value: Any) -> bytes:
    """A value as text: a number as short as it can be."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, float | np.floating) and (number := float(value)).is_integer() and abs(number) < 2**63:
        value = Decimal(number)
    if isinstance(value, Decimal):
        text = f"{value:f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return b"0" if text == "-0" else text.encode()
    return str(value).encode()


def as_int(value: Any) -> int:
    """A whole number. Raises ValueError for another one, or what is no number."""
    if isinstance(value, str | bytes):
        return int(value)
    if math.isnan(value) or math.isinf(value) or value != int(value):
        raise ValueError("it is not a whole number, and `types` says int")
    return int(value)


def as_value(kind: Kind) -> Callable[[Any], Any]:
    """The conversion of Python's values of whatever type."""
    conversions: Mapping[Kind, Callable[[Any], Any]] = {Kind.INT: as_int, Kind.FLOAT: float, Kind.STRING: as_text}
    return conversions[kind]


def _as(column: Column, kind: Kind, path: str) -> Column:
    if column.kind is Kind.BLANK or column.given:
        return column
    convert = _texts(column) if kind is Kind.STRING else _numbers(column, kind)
    if convert is None:
        raise BadInput(
            f"{path}: column {column.name} is of type {column.said}, which cannot become {kind.name.lower()}",
            hint="Mend `types:` of the example_gen: numbers and text may become int, float or string, a date string or "
            "int, a timestamp int, bytes string.",
        )
    exact = column.exact if kind is Kind.FLOAT else None
    if kind is Kind.FLOAT and column.meaning is Meaning.INTEGER:
        exact = column.exact or int
    return replace(column, kind=kind, convert=convert, meaning=_meaning(column, kind), exact=exact, given=True)


def _meaning(column: Column, kind: Kind) -> Meaning:
    if kind is Kind.STRING:
        return Meaning.TEXT
    if column.meaning in TIMESTAMPS:
        return Meaning.ANY_TIMESTAMP  # the spec answers for it
    if column.meaning is Meaning.DATE:
        return Meaning.DATE
    return Meaning.INTEGER if kind is Kind.INT else Meaning.NUMBER


def _numbers(column: Column, kind: Kind) -> Callable[[Any], Any] | None:
    before = column.convert
    match column.meaning:
        case Meaning.BYTES | Meaning.UUID:
            return None
        case Meaning.TEXT:
            return _of_text(kind)
        case Meaning.NUMBER if kind is Kind.INT:
            exact = column.exact or float
            return lambda value: as_int(exact(value))
        case _:
            return before if kind is Kind.INT else lambda value: float(before(value))


def _of_text(kind: Kind) -> Callable[[Any], Any]:
    return as_int if kind is Kind.INT else float


def _texts(column: Column) -> Callable[[Any], Any] | None:
    before, exact = column.convert, column.exact
    match column.meaning:
        case Meaning.TEXT | Meaning.BYTES:
            return before
        case Meaning.UUID:
            return lambda value: str(uuid.UUID(bytes=value)).encode()
        case Meaning.DATE:
            return lambda value: _day(before(value))
        case Meaning.BOOLEAN:
            return lambda value: as_text(bool(value))
        case Meaning.INTEGER:
            return lambda value: as_text(before(value))
        case Meaning.NUMBER if exact:
            return lambda value: as_text(exact(value))
        case Meaning.NUMBER if column.single:
            return lambda value: as_text(np.float32(value))
        case Meaning.NUMBER:
            return as_text
        case _:
            return None


def _day(days: int) -> bytes:
    return date.fromordinal(days + _EPOCH).isoformat().encode()
