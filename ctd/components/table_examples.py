"""Rows of tables whose columns have types (Parquet, Avro) to tf.Examples, as TFX's dict_to_example.

Unlike there 0, 0.0, "" and False are values: only null is none, and gives a feature without a kind. Booleans,
integers and decimals without a scale become int64, floating and other decimal numbers float, text and bytes bytes;
lists of these become features of several values. Dates become days since 1970-01-01, as spans count them, and
timestamps whole seconds since then in UTC: TFX refuses them, but they are in every table, and other units would make
the numbers depend on the writer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import tensorflow as tf

from ctd.components.decimals import note_lost
from ctd.components.example_bytes import Kind, values_of
from ctd.components.example_columns import Cells, examples, features_of_lists
from ctd.components.table_columns import Column, Columns, Notes
from ctd.core.errors import BadInput

_HELD = (
    "Features hold 64 bit integers, 32 bit floats and bytes, and no missing values within a list. Larger integers may "
    "become text: `types: {{{}: string}}` in the example_gen."
)
_MEND = "Correct the value, or mend `types:` of the example_gen."

Values = Sequence[Any] | Cells
Rows = Iterable[Mapping[str, Values]]
"""Batches of rows: for each column its values, or already the cells that they become."""


def examples_of_rows(
    columns: Columns,
    rows: Rows,
    path: str,
    notes: Notes | None = None,
    beside: Mapping[str, tf.train.Feature] | None = None,
) -> Iterator[list[bytes]]:
    """One canonically serialized tf.Example per row, batch by batch. Raises BadInput for what no feature can hold.

    Every row has the features `beside`, whatever its file says of them. What features hold only roughly is noted.
    """
    done = 0
    notes = notes or Notes()
    same = {name: _serialized(name, feature) for name, feature in (beside or {}).items()}
    own = {name: column for name, column in columns.items() if name not in same}
    for batch in rows:
        count = len(next(iter(batch.values()), ()))
        cells = {name: _cells(column, batch[name], path, done, notes) for name, column in own.items()}
        yield examples(cells | {name: pa.repeat(feature, count) for name, feature in same.items()})
        done += count


def _serialized(name: str, feature: tf.train.Feature) -> Any:
    return pa.scalar(tf.train.Features(feature={name: feature}).SerializeToString(), pa.binary())


def _cells(column: Column, values: Values, path: str, done: int, notes: Notes) -> Cells:
    if isinstance(values, pa.Array):
        return features_of_lists(column.name, column.kind, values)
    cells = pa.array(_features(column, values, path, done), pa.binary())
    note_lost(column, values, notes)
    return cells


def _features(column: Column, values: Sequence[Any], path: str, done: int) -> Iterator[bytes]:
    """Each value as a serialized tf.train.Features with only this one feature in it."""
    message = tf.train.Features()
    feature = message.feature[column.name]
    missing = message.SerializeToString()
    if column.kind is Kind.BLANK:
        yield from [missing] * len(values)
        return
    held = values_of(feature, column.kind)
    # Floats are not remembered: 0.0 and -0.0 would be the same. Nor are values of several types: 1 and true.
    known: dict[Any, bytes] | None = None if column.many or column.given or column.kind is Kind.FLOAT else {}
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
        except (TypeError, ValueError, ArithmeticError) as error:
            raise BadInput(
                f"{path}, row {row}: column {column.name} ({column.said}) has {str(value)[:80]}: {error}",
                hint=_MEND if column.given else _HELD.format(column.name),
            ) from error
        made = message.SerializeToString()
        if known is not None:
            known[value] = made
        yield made
