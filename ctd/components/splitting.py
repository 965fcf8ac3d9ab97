"""Which split an example falls to, exactly as in TFX: a bucket by SHA-256 of a key, buckets to splits in order.

The key is the example's deterministic serialization, or that of one of its features. TFX's Parquet and Avro readers
pickle the row instead, which gives other keys in other versions of Python: those formats are split like all others.
"""

from __future__ import annotations

import hashlib
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import tensorflow as tf

from ctd.core.errors import BadInput
from ctd.core.work import SourceFile


@dataclass(frozen=True)
class Batch:
    """Canonical examples of one file, in its order."""

    file: SourceFile
    records: Sequence[bytes]
    before: int = 0  # how many the file had before these
    sequences: bool = False  # tf.SequenceExamples

    def place(self, index: int) -> str:
        """How messages name an example: `/data/1/a.csv, row 3`."""
        return f"{self.file.path}, row {self.before + index + 1}"


def bucket_of(key: bytes, buckets: int) -> int:
    """TFX's bucket of a key."""
    return int.from_bytes(hashlib.sha256(key).digest(), "big") % buckets


def split_by_hash(
    records: Sequence[bytes], buckets: Mapping[str, int], keys: Iterator[bytes] | None = None
) -> dict[str, list[bytes]]:
    """Deal examples to splits, by themselves or by a key for each."""
    ends = list(accumulate(buckets.values()))
    splits: list[list[bytes]] = [[] for _ in ends]
    for record, key in zip(records, keys or iter(records), strict=True):
        splits[bisect(ends, bucket_of(key, ends[-1]))].append(record)
    return dict(zip(buckets, splits, strict=True))


def keys_by(examples: Batch, name: str) -> Iterator[bytes]:
    """The serialized feature of each example (TFX `partition_feature_name`), of a SequenceExample from its context.

    Raises BadInput where it has no value, or a value by which TFX does not split.
    """
    kind = tf.train.SequenceExample if examples.sequences else tf.train.Example
    for index, record in enumerate(examples.records):
        example = kind.FromString(record)
        features = (example.context if examples.sequences else example.features).feature
        feature = features[name] if name in features else tf.train.Feature()
        held = feature.WhichOneof("kind")
        if held == "float_list":
            raise BadInput(
                f"{examples.place(index)}: the feature {name}, by which to split, is a float",
                hint="As in TFX, only integers and text can decide about splits: name another one in `split_by`.",
            )
        if held is None or not getattr(feature, held).value:
            there = "has no value" if name in features else f"is not there, only {', '.join(sorted(features))}"
            raise BadInput(
                f"{examples.place(index)}: the feature {name}, by which to split, {there}",
                hint="Every row needs a value of the feature that `split_by` names. Of SequenceExamples it is one of "
                "the context."
                if examples.sequences
                else "Every row needs a value of the feature that `split_by` names.",
            )
        yield feature.SerializeToString(deterministic=True)
