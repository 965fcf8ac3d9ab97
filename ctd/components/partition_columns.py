"""The columns whose values stand in the names of Hive's folders, put beside the columns of files.

A folder's value is typed as a CSV cell is, over all folders of the span: integers, else numbers, else text; pyarrow,
Spark and DuckDB agree on the integers and the text, not on fractions and dates. It stands instead of a column of that
name in the file, as for all three. What lies in no such folder has no value, or that of its own column.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import tensorflow as tf

from ctd.components.csv_columns import Block, infer_kind
from ctd.components.example_bytes import Kind, values_of
from ctd.core.errors import BadInput
from ctd.core.partitions import parse_partition
from ctd.core.work import SourceFile

_CONVERT = {Kind.INT: int, Kind.FLOAT: float, Kind.STRING: bytes}


@dataclass(frozen=True)
class Partitions:
    """The values that the folders of a span say, by partition (`SourceFile`) and column; no bytes: no value."""

    values: Mapping[tuple[str, ...], Mapping[str, bytes]]
    kinds: Mapping[str, Kind]

    @classmethod
    def of(cls, files: Sequence[SourceFile], types: Mapping[str, Kind], nulls: Collection[str] = ()) -> Partitions:
        """What the folders of these files say, as given types or inferred ones; `nulls` are no values.

        Raises BadInput that names a file.
        """
        values: dict[tuple[str, ...], Mapping[str, bytes]] = {}
        kinds: dict[str, Kind] = {}
        for file in files:
            if file.partition in values:
                continue
            said = values[file.partition] = _values(file, nulls)
            for name, value in said.items():
                kind = infer_kind(value)
                if kind > types.get(name, Kind.STRING):
                    raise _beyond(file, name, value, types[name])
                kinds[name] = types.get(name) or max(kind, kinds.get(name, Kind.BLANK))
        return cls(values, kinds)

    def beside_cells(self, file: SourceFile, block: Block) -> Block:
        """Rows of a CSV file with its folders' columns, which come last."""
        if not self.kinds:
            return block
        columns = {name: column for name, column in block.columns.items() if name not in self.kinds}
        said = self.values[file.partition]
        for name in self.kinds:
            own = block.columns.get(name) if name not in said else None
            columns[name] = _repeated(said.get(name, b""), block.rows) if own is None else own
        return Block(columns, block.rows)

    def features(self, file: SourceFile) -> Mapping[str, tf.train.Feature]:
        """The features that the folders of a file say; without a kind where there is no value."""
        said = self.values[file.partition]
        return {name: _feature(self.kinds[name], value) for name, value in said.items()}

    def check(self, file: SourceFile, kinds: Mapping[str, Kind]) -> None:
        """Raise BadInput if a file has a column itself that others have from their folders, of another kind."""
        for name in self.kinds.keys() & kinds.keys() - self.values[file.partition].keys():
            if len({kinds[name], self.kinds[name]} - {Kind.BLANK}) > 1:
                theirs, own = self.kinds[name].name.lower(), kinds[name].name.lower()
                raise BadInput(
                    f"{file.path}: column {name} is {own}, and {theirs} in the folders {name}=... of other files",
                    hint="Put the file into a folder of that name, or write the column with the folders' type.",
                )


def _values(file: SourceFile, nulls: Collection[str]) -> Mapping[str, bytes]:
    found: dict[str, bytes] = {}
    for folder in file.partition:
        try:
            name, value = parse_partition(folder)
        except UnicodeError as error:
            said = f"{file.path}: the name of its folder {folder!r} is not UTF-8: {error}"
            raise BadInput(said, hint="Write names of folders in UTF-8, escaped as in URLs.") from error
        if name in found:
            said = f"{file.path}: two of its folders say what {name} is"
            raise BadInput(said, hint="Give each column one level of folders.")
        found[name] = b"" if value is None or value in nulls else value.encode()
    return found


def _repeated(value: bytes, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), rows), pa.array([value], pa.binary()))


def _feature(kind: Kind, value: bytes) -> tf.train.Feature:
    feature = tf.train.Feature()
    if value:
        values_of(feature, kind).append(_CONVERT[kind](value))
    return feature


def _beyond(file: SourceFile, name: str, value: bytes, kind: Kind) -> BadInput:
    return BadInput(
        f"{file.path}: column {name} is to be {kind.name.lower()}, which {value.decode()!r} of its folder is not",
        hint="Rename the folder, or mend `types:` of the example_gen.",
    )
