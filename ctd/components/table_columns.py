"""Columns of tables that say their types (Parquet, Avro): what a column means, and whether files agree about it.

A feature has one of three kinds; a column means more than that. Days and seconds are both integers, and nobody would
notice until a model is trained on them. So files of a span agree where their columns mean the same, whatever they are
stored as: timestamps of any unit do, a date and a timestamp do not. Decision 031.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ctd.components.example_bytes import Kind
from ctd.core.errors import BadInput

_ATOMS = "Keep columns of booleans, numbers, text, bytes, dates, timestamps and lists of them; flatten or drop others."


class Meaning(enum.Enum):
    """What the values of a column are."""

    NOTHING = "nothing"  # no value, and no type
    BOOLEAN = "boolean"
    INTEGER = "integer"  # of any width, and decimals without a scale
    NUMBER = "number"  # floating, or decimal
    TEXT = "text"
    BYTES = "bytes"  # some writers call their text so
    UUID = "uuid"  # as 16 bytes
    DATE = "date"
    TIMESTAMP = "timestamp"  # a moment, known in UTC
    LOCAL_TIMESTAMP = "local timestamp"  # what clocks show, without a word on where
    ANY_TIMESTAMP = "timestamp, in UTC or local"  # older files do not say which: INT96, converted types


_AGREE = (
    {Meaning.TEXT, Meaning.BYTES},
    {Meaning.BYTES, Meaning.UUID},
    {Meaning.ANY_TIMESTAMP, Meaning.TIMESTAMP},
    {Meaning.ANY_TIMESTAMP, Meaning.LOCAL_TIMESTAMP},
)
TIMESTAMPS = frozenset({Meaning.TIMESTAMP, Meaning.LOCAL_TIMESTAMP, Meaning.ANY_TIMESTAMP})


@dataclass(frozen=True)
class Column:
    """A column of one file: its type in the file's own words, the kind of its feature, and how values become that."""

    name: str
    said: str
    kind: Kind
    convert: Callable[[Any], Any]
    meaning: Meaning
    many: bool = False
    size: int = 0  # of lists that all have the same one
    per_unit: int = 1  # numbers of times are divided by this
    single: bool = False  # floating numbers of 32 bits or less
    exact: Callable[[Any], Any] | None = None  # the number that a value is, where a float may not hold it
    given: bool = False  # the spec says of which kind it is


Columns = Mapping[str, Column]


def unsupported(path: str, column: str, said: str) -> NoReturn:
    """Refuse a column that no feature can hold."""
    raise BadInput(f"{path}: column {column} is of type {said}, which no feature can hold", hint=_ATOMS)


@dataclass
class Notes:
    """What is to be said once of a span, however many files and rows it is true of."""

    said: dict[str, str] = field(default_factory=dict)

    def add(self, about: str, text: str) -> None:
        self.said.setdefault(about, text)

    def __contains__(self, about: str) -> bool:
        return about in self.said

    @property
    def text(self) -> str:
        return "; ".join(self.said.values())


@dataclass(frozen=True)
class Shape:
    """What other files must agree with: plain values, so that they can be sent as JSON."""

    said: str
    meaning: str
    many: bool
    size: int
    path: str

    def agrees(self, other: Shape) -> bool:
        one, another = Meaning(self.meaning), Meaning(other.meaning)
        if Meaning.NOTHING in (one, another):
            return True
        sizes = {self.size, other.size} - {0}
        return (one is another or {one, another} in _AGREE) and self.many == other.many and len(sizes) < 2


@dataclass
class Agreement:
    """What the columns of a span's files mean, gathered file by file as long as they agree."""

    first: str = ""
    shapes: dict[str, list[Shape]] = field(default_factory=dict)  # of each column those that differ

    def add(self, path: str, shapes: Mapping[str, Shape]) -> None:
        """Raise BadInput if the file has other columns than the first one, or some that mean other things."""
        if not self.first:
            self.first, self.shapes = path, {name: [shape] for name, shape in shapes.items()}
            return
        missing = [name for name in self.shapes if name not in shapes]
        new = [name for name in shapes if name not in self.shapes]
        said = [f"no column {', '.join(missing)}"] if missing else []
        said += [f"a new column {', '.join(new)}"] if new else []
        pairs = [(name, *pair) for name, shape in shapes.items() if (pair := self._disagreement(name, shape))]
        said += [f"column {name} is {mine.said}, not {other.said}" for name, mine, other in pairs]
        if said:
            others = list(dict.fromkeys(other.path for _, _, other in pairs))
            unlike = f"the first file ({self.first})" if missing or new or others == [self.first] else others[0]
            raise BadInput(f"{path}: {' and '.join(said)}, unlike {unlike}", hint=_way_out(bool(missing or new), pairs))
        for name, shape in shapes.items():
            if not any(_same(shape, known) for known in self.shapes[name]):
                self.shapes[name].append(shape)

    def _disagreement(self, name: str, shape: Shape) -> tuple[Shape, Shape] | None:
        return next(((shape, known) for known in self.shapes.get(name, ()) if not known.agrees(shape)), None)


def shapes_of(columns: Columns, path: str) -> Mapping[str, Shape]:
    """What files of a span are compared by."""
    return {c.name: Shape(c.said, c.meaning.value, c.many, c.size, path) for c in columns.values()}


def _same(one: Shape, other: Shape) -> bool:
    return (one.meaning, one.many, one.size) == (other.meaning, other.many, other.size)


def _way_out(other_columns: bool, pairs: Iterable[tuple[str, Shape, Shape]]) -> str:
    """A hint that names the type to give, if one for each of the columns makes them the same."""
    types = {name: _common(one, other) for name, one, other in pairs}
    if other_columns or not types or not all(types.values()):
        return "All files of a span must have the same columns of the same types."
    said = ", ".join(f"{name}: {type_}" for name, type_ in types.items())
    return f"Write `types: {{{said}}}` in the example_gen to read them as the same, or write the files with one type."


def _common(one: Shape, other: Shape) -> str:
    """The type that the spec may give to columns of either meaning."""
    if (one.many, one.size) != (other.many, other.size):
        return ""
    meanings = {Meaning(one.meaning), Meaning(other.meaning)}
    if meanings <= TIMESTAMPS or meanings == {Meaning.BOOLEAN, Meaning.INTEGER}:
        return "int"
    if meanings <= {Meaning.BOOLEAN, Meaning.INTEGER, Meaning.NUMBER}:
        return "float"
    if meanings & TIMESTAMPS or (Meaning.DATE in meanings and Meaning.TEXT not in meanings):
        return ""
    return "string"
