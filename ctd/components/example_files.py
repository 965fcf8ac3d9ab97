"""The files of a span as batches of canonical examples, whatever their format, all of them or one by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import IO, TypeVar

import tensorflow as tf
from google.protobuf.message import DecodeError, Message

from ctd.components.ahead import TwoPasses
from ctd.components.avro_examples import read_avro
from ctd.components.compression import open_plain
from ctd.components.csv_blocks import is_blank, read_blocks
from ctd.components.csv_columns import Block, examples_of
from ctd.components.csv_examples import Dialect, FileKinds, kinds_of, kinds_together
from ctd.components.example_bytes import Kind
from ctd.components.file_kinds import check_kind
from ctd.components.given_types import Given
from ctd.components.parquet_examples import read_parquet
from ctd.components.partition_columns import Partitions
from ctd.components.splitting import Batch, keys_by, split_by_hash
from ctd.components.table_columns import Agreement, Columns, Notes, shapes_of
from ctd.components.table_examples import Rows, examples_of_rows
from ctd.components.tfrecords import read_batches
from ctd.core.errors import BadInput, InputChanged, StorageUnavailable
from ctd.core.work import SourceFile
from ctd.specs.nodes import ExampleGenSpec

T = TypeVar("T")
_ReadTable = Callable[[IO[bytes], str, Given, Notes], tuple[Columns, Rows]]
_TABLES: Mapping[str, _ReadTable] = {"parquet": read_parquet, "avro": read_avro}
_KEPT = 64 << 20  # bytes of CSV blocks kept between the two passes over them


def _nobody(_: str) -> None:
    """Hears of no progress."""


@dataclass(frozen=True)
class SpanFiles:
    """The files of a span and how they are to be read. Raises BadInput, InputChanged and StorageUnavailable."""

    spec: ExampleGenSpec
    files: Sequence[SourceFile]
    say: Callable[[str], None] = _nobody
    notes: Notes = field(default_factory=Notes)  # what was found while reading that people should know

    def batches(self) -> Iterator[Batch]:
        """The examples of all files, in their order."""
        if self.spec.format == "csv":
            yield from self._csv_batches()
            return
        seen = Seen()
        for file in self.files:
            self.say(f"reading file {self.files.index(file) + 1} of {len(self.files)}")
            yield from self.of_file(file, {}, seen)
        self.check_seen(seen)

    def of_file(self, file: SourceFile, kinds: Mapping[str, Kind], seen: Seen) -> Iterator[Batch]:
        """The examples of one of the files; `kinds` are those of a CSV file's columns."""
        match self.spec.format:
            case "csv":
                yield from self._csv_file(file, kinds)
            case "tfrecord":
                yield from _watched(file, self.spec, lambda: self._tfrecord_file(file, seen))
            case _:
                yield from _watched(file, self.spec, lambda: self._table_file(file, seen))

    def dealt(self, batch: Batch) -> Mapping[str, Sequence[bytes]]:
        """The examples of each split among these."""
        if not self.spec.buckets:
            return {batch.file.split: batch.records}
        keys = keys_by(batch, self.spec.split_by) if self.spec.split_by else None
        return split_by_hash(batch.records, self.spec.buckets, keys)

    def kinds_of_file(self, file: SourceFile) -> FileKinds:
        """What the columns of one CSV file hold."""
        found = FileKinds(file.path, ())
        for block in self._blocks(file):
            found.header = tuple(block.columns)
            found.count(block, self._types)
        return found

    def kinds_together(self, files: Sequence[FileKinds]) -> Mapping[str, Kind]:
        """What the columns of all CSV files hold."""
        return kinds_together(files, self._types)

    def check_seen(self, seen: Seen) -> None:
        """Raise BadInput for what can only be told at the end."""
        if self.spec.payload == "sequence_example" and seen.records and not seen.lists:
            # A tf.Example is a SequenceExample with nothing but a context.
            raise BadInput(
                f"{self.files[0].path}: none of {seen.records} records has a feature list",
                hint="If they are tf.Examples, take `payload: sequence_example` out of the example_gen.",
            )

    def check_unchanged(self) -> None:
        """Raise InputChanged if a file is not any more what the listing saw."""
        for file in self.files:
            check_unchanged(file)

    @cached_property
    def _types(self) -> Mapping[str, Kind]:
        return {name: Kind[type_.upper()] for name, type_ in self.spec.types.items()}

    @cached_property
    def _partitions(self) -> Partitions:
        return Partitions.of(self.files, self._types, self.spec.nulls)

    @cached_property
    def _dialect(self) -> Dialect:
        s = self.spec
        return Dialect(s.delimiter, s.quote, s.escape, s.encoding, s.columns, nulls=frozenset(s.nulls))

    def _blocks(self, file: SourceFile) -> Iterator[Block]:
        """The rows of a file; none if it is blank, as Spark leaves parts without rows, unless it is all there is."""

        def read() -> Iterator[Block]:
            if len(self.files) > 1 and is_blank(file.path, self._dialect):
                return
            for block in read_blocks(file.path, self._dialect):
                yield self._partitions.beside_cells(file, block)

        return _watched(file, self.spec, read)

    def _all_blocks(self) -> Iterator[tuple[SourceFile, Block]]:
        for number, file in enumerate(self.files, 1):
            self.say(f"reading file {number} of {len(self.files)}")
            for block in self._blocks(file):
                yield file, block

    def _csv_batches(self) -> Iterator[Batch]:
        # The first pass finds the types, which need all cells of the span.
        blocks = TwoPasses(self._all_blocks, lambda found: found[1].nbytes, _KEPT)
        kinds = kinds_of(((file.path, block) for file, block in blocks.first()), self._types)
        done: Counter[str] = Counter()
        for file, block in blocks.second():
            yield from _examples(file, block, kinds, done)

    def _csv_file(self, file: SourceFile, kinds: Mapping[str, Kind]) -> Iterator[Batch]:
        done: Counter[str] = Counter()
        for block in self._blocks(file):
            yield from _examples(file, block, kinds, done)

    def _table_file(self, file: SourceFile, seen: Seen) -> Iterator[Batch]:
        of_files = {name: kind for name, kind in self._types.items() if name not in self._partitions.kinds}
        given = Given(of_files, self.spec.split_by)
        with Path(file.path).open("rb") as content:
            columns, rows = _TABLES[self.spec.format](content, file.path, given, self.notes)
            seen.tables.add(file.path, shapes_of(self._own(columns), file.path))
            self._partitions.check(file, {name: column.kind for name, column in columns.items()})
            done = 0
            for records in examples_of_rows(columns, rows, file.path, self.notes, self._beside(file, columns)):
                yield Batch(file, records, done)
                done += len(records)

    def _own(self, columns: Columns) -> Columns:
        """The columns that come from no folder."""
        return {name: column for name, column in columns.items() if name not in self._partitions.kinds}

    def _beside(self, file: SourceFile, columns: Columns) -> Mapping[str, tf.train.Feature]:
        """What the rows of a table have from its folders, and without a value what others have from theirs."""
        nothing = {name: tf.train.Feature() for name in self._partitions.kinds.keys() - columns.keys()}
        return {**nothing, **self._partitions.features(file)}

    def _tfrecord_file(self, file: SourceFile, seen: Seen) -> Iterator[Batch]:
        sequences = self.spec.payload == "sequence_example"
        kind = tf.train.SequenceExample if sequences else tf.train.Example
        beside, done = self._partitions.features(file), 0
        for records in read_batches(file.path):
            messages = [_parsed(kind, record, file.path, number) for number, record in enumerate(records, done + 1)]
            for message, (name, feature) in product(messages, beside.items()):
                (message.context if sequences else message.features).feature[name].CopyFrom(feature)
            seen.lists = seen.lists or (sequences and any(m.feature_lists.feature_list for m in messages))
            yield Batch(file, [m.SerializeToString(deterministic=True) for m in messages], done, sequences)
            done += len(records)
        seen.records += done


@dataclass
class Seen:
    """What is known of the files read so far."""

    tables: Agreement = field(default_factory=Agreement)
    records: int = 0
    lists: bool = False  # whether any SequenceExample has a feature list


def _examples(file: SourceFile, block: Block, kinds: Mapping[str, Kind], done: Counter[str]) -> Iterator[Batch]:
    if block.rows:
        yield Batch(file, examples_of(block, kinds), done[file.path])
        done[file.path] += block.rows


def _watched(file: SourceFile, spec: ExampleGenSpec, read: Callable[[], Iterable[T]]) -> Iterator[T]:
    """What is read of a file, which must be as it was listed, and of the spec's format."""
    check_unchanged(file)
    try:
        with open_plain(file.path) if spec.format == "csv" else Path(file.path).open("rb") as content:
            check_kind(content.read(1024), file.path, spec.format)
        yield from read()
    except OSError as error:
        raise StorageUnavailable(
            f"cannot read {file.path}: {error.strerror}", hint="Can ctd's user read it?"
        ) from error


def check_unchanged(file: SourceFile) -> None:
    try:
        found = Path(file.path).stat()
    except FileNotFoundError as error:
        raise InputChanged(f"{file.path} is gone", hint="ctd looks again when the span is complete.") from error
    except OSError as error:
        raise StorageUnavailable(f"cannot look at {file.path}: {error.strerror}", hint="Is its disk there?") from error
    if (found.st_size, found.st_mtime_ns) != (file.size, file.mtime_ns):
        raise InputChanged(
            f"{file.path} changed while it was read: {file.size} bytes, now {found.st_size}",
            hint="ctd looks again when the span is complete. Write the marker last, after all data.",
        )


def _parsed(kind: type[Message], record: bytes, path: str, number: int) -> Message:
    """The record as a message. Raises BadInput for a record that is something else."""
    try:
        message = kind.FromString(record)
    except DecodeError as error:
        raise _not_of_kind(kind, path, number) from error
    size = message.ByteSize()
    message.DiscardUnknownFields()
    if message.ByteSize() != size:
        raise _not_of_kind(kind, path, number)
    return message


def _not_of_kind(kind: type[Message], path: str, number: int) -> BadInput:
    return BadInput(
        f"{path}: record {number} is not a tf.{kind.DESCRIPTOR.name}",
        hint="`format: tfrecord` means TFRecords of serialized tf.train.Example, or of tf.train.SequenceExample with "
        "`payload: sequence_example`.",
    )
