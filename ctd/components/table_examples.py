"""Rows of tables whose columns have types (Parquet, Avro) to tf.Examples, as TFX's dict_to_example.

Unlike there 0, 0.0, "" and False are values: only null is none, and gives a feature without a kind. Booleans and
integers become int64, floating and decimal numbers float, text and bytes bytes; lists of these become features of
several values. Dates become days since 1970-01-01, as spans count them, and timestamps whole seconds since then in
UTC: TFX refuses them, but they are in every table, and other units would make the numbers depend on the writer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import pyarrow as pa
import tensorflow as tf

from ctd.components.example_bytes import Kind, values_of
from ctd.components.example_columns import Cells, examples, features_of_lists
from ctd.core.errors import BadInput

_ATOMS = "Keep columns of booleans, numbers, text, bytes, dates, timestamps and lists of them; flatten or drop others."


@dataclass(frozen=True)
class Column:
    """A column of one file: its type in the file's own words, the kind of its feature, and how values become that."""

    name: str
    said: str
    kind: Kind
    convert: Callable[[Any], Any]
    many: bool = False
    per_unit: int = 1  # numbers of times are divided by this


Columns = Mapping[str, Column]
Values = Sequence[Any] | Cells
Rows = Iterable[Mapping[str, Values]]
"""Batches of rows: for each column its values, or already the cells that they become."""


def unsupported(path: str, column: str, said: str) -> NoReturn:
    """Refuse a column that no feature can hold."""
    raise BadInput(f"{path}: column {column} is of type {said}, which no feature can hold", hint=_ATOMS)


def check_same(columns: Columns, path: str, first: Columns, first_path: str) -> None:
    """Raise BadInput if two files of a span have other columns, or columns of other kinds."""
    missing = [name for name in first if name not in columns]
    new = [name for name in columns if name not in first]
    said = [f"no column {', '.join(missing)}"] if missing else []
    said += [f"a new column {', '.join(new)}"] if new else []
    for name in first:
        kinds = {table[name].kind for table in (first, columns) if name in table} - {Kind.BLANK}
        if len(kinds) > 1:
            said.append(f"column {name} is {columns[name].said}, not {first[name].said}")
    if said:
        raise BadInput(
            f"{path}: {' and '.join(said)}, unlike the first file ({first_path})",
            hint="All files of a span must have the same columns of the same types.",
        )


def examples_of_rows(
    columns: Columns, rows: Rows, path: str, beside: Mapping[str, tf.train.Feature] | None = None
) -> Iterator[list[bytes]]:
    """One canonically serialized tf.Example per row, batch by batch. Raises BadInput for what no feature can hold.

    Every row has the features `beside`, whatever its file says of them.
    """
    done = 0
    same = {name: _serialized(name, feature) for name, feature in (beside or {}).items()}
    own = {name: column for name, column in columns.items() if name not in same}
    for batch in rows:
        count = len(next(iter(batch.values()), ()))
        cells = {name: _cells(column, batch[name], path, done) for name, column in own.items()}
        yield examples(cells | {name: pa.repeat(feature, count) for name, feature in same.items()})
        done += count


def _serialized(name: str, feature: tf.train.Feature) -> Any:
    return pa.scalar(tf.train.Features(feature={name: feature}).SerializeToString(), pa.binary())


def _cells(column: Column, values: Values, path: str, done: int) -> Cells:
    if isinstance(values, pa.Array):
        return features_of_lists(column.name, column.kind, values)
    return pa.array(_features(column, values, path, done), pa.binary())


def _features(column: Column, values: Sequence[Any], path: str, done: int) -> Iterator[bytes]:
    """Each value as a serialized tf.train.Features with only this one feature in it."""
    message = tf.train.Features()
    feature = message.feature[column.name]
    missing = message.SerializeToString()
    if column.kind is Kind.BLANK:
        yield from [missing] * len(values)
        return
    held = values_of(feature, column.kind)
    # Floats are not remembered: 0.0 and -0.0 would be the same.
    known: dict[Any, bytes] | None = None if column.many or column.kind is Kind.FLOAT else {}
    for row, value in enumerate(values, done + 1):
        if value is None or (column.many and not value):
            yield missing
            continue
        if known is not None and value in known:
            yield known[value]
            continue
        try:
            del held[:]
            held.extend(map(column.convert, value) if column.many else (column.convert(value),))
        except (TypeError, ValueError, OverflowError) as error:
            raise BadInput(
                f"{path}, row {row}: column {column.name} ({column.said}) has {str(value)[:80]}: {error}",
                hint="Features hold 64 bit integers, 32 bit floats and bytes, and no missing values within a list.",
            ) from error
        made = message.SerializeToString()
        if known is not None:
            known[value] = made
        yield made
