"""tf.Examples that are in memory whole: their files, as TFX lays them out, their digest, and Arrow."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import tensorflow as tf
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder
from tfx_bsl.coders.sequence_example_coder import SequenceExamplesToRecordBatchDecoder

from ctd.components.example_decoder import decode
from ctd.components.phases import phase
from ctd.components.tfrecords import SplitWriter, read_batches
from ctd.core.errors import BadInput

PAYLOAD_FORMATS = {"example": "FORMAT_TF_EXAMPLE", "sequence_example": "FORMAT_TF_SEQUENCE_EXAMPLE"}
# Small batches stay in the processor's cache: the decoder takes nearly twice as long for one batch of 10,000.
_ROWS = 1000
_SEQUENCES = "##SEQUENCE##"


def write_split(directory: Path, split: str, records: Sequence[bytes]) -> None:
    """Write the one file of a split; equal records give equal bytes. Raises StorageUnavailable."""
    with SplitWriter(directory, split) as writer:
        for begin in range(0, len(records), _ROWS):
            writer.add(records[begin : begin + _ROWS])


def canonical(record: bytes) -> bytes:
    """The one serialization of an example, whatever order its features came in. Raises DecodeError."""
    same: bytes = tf.train.Example.FromString(record).SerializeToString(deterministic=True)
    return same


def digest_of_splits(splits: Mapping[str, Sequence[bytes]]) -> str:
    """The identity of Examples: which records are in which split, in their order, however compressed."""
    whole = hashlib.sha256()
    for name, records in sorted(splits.items()):
        lengths = ",".join([str(len(record)) for record in records])
        content = hashlib.sha256(b"".join(records))
        whole.update(f"{name}:{lengths}:{content.hexdigest()}\n".encode())
    return whole.hexdigest()


def read_split(files: Sequence[str]) -> list[bytes]:
    """All records of a split's files. Raises BadInput that names file and record."""
    return [record for file in files for record in read_records(file)]


@phase("read")
def first_records(files: Iterable[str], most: int) -> list[bytes]:
    """At most so many records of these files; what comes after them is not read. Raises BadInput."""
    return list(itertools.islice((record for file in files for batch in read_batches(file) for record in batch), most))


@phase("read")
def read_records(file: str) -> list[bytes]:
    """The records of one TFRecord file, gzip or not, whichever it is. Raises BadInput that names the record."""
    return [record for batch in read_batches(file) for record in batch]


def to_arrow(records: Sequence[bytes], where: str) -> pa.RecordBatch:
    """All records as one batch; types are those of the values. Raises BadInput for what cannot be one table."""
    decoded = decode(records)
    return to_arrow_by_tfx_bsl(records, where) if decoded is None else decoded


def to_arrow_by_tfx_bsl(records: Sequence[bytes], where: str) -> pa.RecordBatch:
    """The same by the library, whatever the form of the records."""
    decoder = ExamplesToRecordBatchDecoder()
    if not records:
        return pa.RecordBatch.from_pylist([])
    try:
        batches = [decoder.DecodeBatch(records[i : i + _ROWS]) for i in range(0, len(records), _ROWS)]
        # A column without values in one batch has no type there, and takes that of the others.
        table = pa.concat_tables([pa.Table.from_batches([batch]) for batch in batches], promote=True)
    except (RuntimeError, ValueError, pa.ArrowException) as error:
        raise disagreement(where, str(error)) from error
    (batch,) = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([])]
    return batch


def sequences_to_arrow(records: Sequence[bytes], where: str) -> pa.RecordBatch:
    """SequenceExamples as one batch: a column per context feature, and one of all feature lists, named as in TFX."""
    try:
        return SequenceExamplesToRecordBatchDecoder(_SEQUENCES).DecodeBatch(records)
    except (RuntimeError, ValueError) as error:
        raise disagreement(where, str(error), "SequenceExamples") from error


def disagreement(where: str, said: str, of: str = "examples") -> BadInput:
    """The error for a feature that is not of the same type everywhere."""
    return BadInput(
        f"{where}: {of} do not agree on the types of their features: {said}",
        hint="Each feature must be of one type (int64, float or bytes) in all examples of a span.",
    )
