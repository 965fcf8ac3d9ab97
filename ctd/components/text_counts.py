"""How often each text or category occurs: TFDV's counts as its Beam pipeline makes them, in limited memory.

TFDV's own generator for use without Beam is another one: it counts all texts of 1,024 bytes or more as one, and all
that are not UTF-8, so that a column of free text looks like one of categories.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from tensorflow_data_validation import StatsOptions
from tensorflow_data_validation.arrow import arrow_util
from tensorflow_data_validation.statistics.generators.stats_generator import CombinerStatsGenerator
from tensorflow_data_validation.utils import schema_util, stats_util
from tensorflow_data_validation.utils.top_k_uniques_stats_util import (
    FeatureValueCount,
    make_feature_stats_proto_topk_uniques,
    output_categorical_numeric,
)
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatistics, FeatureNameStatistics
from tfx_bsl.arrow import array_util
from tfx_bsl.sketches import KmvSketch, MisraGriesSketch

# Of a feature, what is counted exactly; and what TFDV's sketches, which take over then, hold: as many as in TFDV.
EXACT_TEXTS = 16_384
EXACT_BYTES = 16 << 20
_MOST_FREQUENT = 1024
_DISTINCT = 16_384
# Sketches keep no longer texts than these; a longer one goes by its beginning and its digest.
_LONG = 1024
_BEGINNING = 256


class TextCounts:
    """The texts of one feature and how often each was there. It depends only on them which way they are counted.

    `value` makes of a text what it was before it was one.
    """

    def __init__(self, value: Callable[[bytes], Any] = bytes) -> None:
        self.value = value
        self._exact: dict[bytes, int] = {}
        self._bytes = 0
        self._sketches: _Sketches | None = None

    def add(self, texts: pa.Array) -> None:
        found = texts.value_counts()
        different, counts = found.field("values"), found.field("counts")
        if self._sketches is None and (
            len(different) > EXACT_TEXTS or (pc.sum(pc.binary_length(different)).as_py() or 0) > EXACT_BYTES
        ):
            self._estimating()
        if self._sketches is not None:
            self._sketches.add(different, counts)
        else:
            self._count(zip(different.to_pylist(), counts.to_pylist(), strict=True))

    def merge(self, other: TextCounts) -> None:
        if other._sketches is None:
            if self._sketches is None:
                self._count(other._exact.items())
            else:
                self._sketches.add_counted(other._exact)
        else:
            self._estimating().merge(other._sketches)

    def found(self) -> tuple[int, list[tuple[Any, int]]]:
        """How many different values there are, and the counts of at least the most frequent."""
        different, counted = self._sketches.found() if self._sketches else (len(self._exact), self._exact.items())
        return different, [(self.value(text), count) for text, count in counted]

    def _count(self, counted: Iterable[tuple[bytes, int]]) -> None:
        for text, count in counted:
            if text in self._exact:
                self._exact[text] += count
            else:
                self._exact[text] = count
                self._bytes += len(text)
        if len(self._exact) > EXACT_TEXTS or self._bytes > EXACT_BYTES:
            self._estimating()

    def _estimating(self) -> _Sketches:
        if self._sketches is None:
            self._sketches = _Sketches()
            self._sketches.add_counted(self._exact)
            self._exact = {}
        return self._sketches


class _Sketches:
    """TFDV's sketches, told of each text once with the times it was there."""

    def __init__(self) -> None:
        self._frequent, self._distinct = MisraGriesSketch(num_buckets=_MOST_FREQUENT), KmvSketch(_DISTINCT)

    def add(self, different: pa.Array, counts: pa.Array) -> None:
        if (pc.max(pc.binary_length(different)).as_py() or 0) >= _LONG:
            different = pa.array([_short(text) for text in different.to_pylist()], different.type)
        self._distinct.AddValues(different)
        self._frequent.AddValues(different, counts.cast(pa.float32()))

    def add_counted(self, counted: dict[bytes, int]) -> None:
        if counted:
            self.add(pa.array(list(counted), pa.large_binary()), pa.array(list(counted.values()), pa.int64()))

    def merge(self, other: _Sketches) -> None:
        self._distinct.Merge(other._distinct)
        self._frequent.Merge(other._frequent)

    def found(self) -> tuple[int, list[tuple[bytes, int]]]:
        estimated = self._frequent.Estimate().to_pylist()
        return self._distinct.Estimate(), [(one["values"], round(one["counts"])) for one in estimated]


def _as_texts(numbers: pa.Array) -> pa.Array:
    """Numbers as TFDV's sketches write them."""
    if pa.types.is_integer(numbers.type):
        return numbers.cast(pa.large_string()).cast(pa.large_binary())
    return pa.array([f"{number:g}".encode() for number in numbers.to_pylist()], pa.large_binary())


def _short(text: bytes) -> bytes:
    if len(text) < _LONG:
        return text
    return (
        text[:_BEGINNING].decode(errors="ignore").encode() + b"... sha256:" + hashlib.sha256(text).hexdigest().encode()
    )


class TextCountsGenerator(CombinerStatsGenerator):
    """The same of all features of text, and of numbers that the schema calls categories, as one of TFDV's generators.

    TFDV sorts whole numbers that are equally frequent by size, and fractions by their text, of six digits.
    """

    def __init__(self, options: StatsOptions) -> None:
        super().__init__("TextCounts")
        self._options = options
        schema = options.schema
        self._images = frozenset(schema_util.get_bytes_features(schema)) if schema else frozenset()
        self._categories = schema_util.get_categorical_numeric_feature_types(schema) if schema else {}

    def create_accumulator(self) -> dict[Any, TextCounts]:
        return {}

    def add_input(self, accumulator: dict[Any, TextCounts], batch: pa.RecordBatch) -> dict[Any, TextCounts]:
        for path, values, _ in arrow_util.enumerate_arrays(batch, example_weight_map=None, enumerate_leaves_only=True):
            kind = stats_util.get_feature_type_from_arrow_type(path, values.type)
            if kind == FeatureNameStatistics.STRING and path not in self._images:
                accumulator.setdefault(path, TextCounts()).add(array_util.flatten_nested(values)[0])
            elif output_categorical_numeric(self._categories, path, kind):
                numbers, _ = array_util.flatten_nested(values)
                value = int if kind == FeatureNameStatistics.INT else bytes
                accumulator.setdefault(path, TextCounts(value)).add(_as_texts(numbers))
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[dict[Any, TextCounts]]) -> dict[Any, TextCounts]:
        first, *others = accumulators
        for other in others:
            for path, counts in other.items():
                first.setdefault(path, TextCounts(counts.value)).merge(counts)
        return first

    def extract_output(self, accumulator: dict[Any, TextCounts]) -> DatasetFeatureStatistics:
        made = DatasetFeatureStatistics()
        for path, counts in accumulator.items():
            different, counted = counts.found()
            if counted:
                feature = make_feature_stats_proto_topk_uniques(
                    feature_path=path,
                    num_top_values=self._options.num_top_values,
                    num_rank_histogram_buckets=self._options.num_rank_histogram_buckets,
                    num_unique=different,
                    value_count_list=[FeatureValueCount(value, count) for value, count in counted],
                    frequency_threshold=self._options.frequency_threshold,
                )
                made.features.add().CopyFrom(feature)
        return made
