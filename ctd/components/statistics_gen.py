"""StatisticsGen: TFDV's statistics of every split, by its own generators batch by batch; on Beam if a spec says so."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics.generators.stats_generator import CombinerStatsGenerator
from tensorflow_data_validation.statistics.generators.top_k_uniques_sketch_stats_generator import (
    TopKUniquesSketchStatsGenerator,
)
from tensorflow_data_validation.statistics.stats_impl import extract_statistics_output, get_generators
from tensorflow_data_validation.utils import schema_util
from tensorflow_metadata.proto.v0.schema_pb2 import FLOAT, Schema
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList
from tfx_bsl.arrow import array_util
from tfx_bsl.tfxio.tf_example_record import TFExampleRecord
from tfx_bsl.tfxio.tf_sequence_example_record import TFSequenceExampleRecord

from ctd.components.ahead import ahead
from ctd.components.api import Outputs, Work, split_files, split_names
from ctd.components.beam_runner import on_beam
from ctd.components.counted_schema import counted_part, without_vocabularies
from ctd.components.examples_io import PAYLOAD_FORMATS, disagreement, sequences_to_arrow, to_arrow
from ctd.components.metadata_files import STATISTICS_FILE, digest_of_statistics, schema_of, write_message
from ctd.components.text_counts import TextCountsGenerator
from ctd.components.tfrecords import read_batches
from ctd.core.artifacts import Artifact
from ctd.core.errors import BadInput
from ctd.specs.beam import BeamRunner
from ctd.specs.nodes import StatisticsGenSpec

# Of a batch. Its borders decide the last digits of means, and beyond what sketches hold exactly the quantiles: they
# depend on nothing but the records, so that the same examples always give the same statistics.
_ROWS = 32_768
_BYTES = 32 << 20


def run(work: Work) -> Outputs:
    """Make `statistics` of `examples`, split by split."""
    examples, schema = work.input("examples"), _schema(work)
    directory = work.output("statistics")
    splits = split_names(examples)
    beam = work.spec(StatisticsGenSpec).beam
    size = sum(Path(file).stat().st_size for split in splits for file in split_files(examples, split))
    made = _by_beam(work, beam, splits, schema) if beam and beam.takes(size) else _here(work, splits, schema)
    for split, statistics in made.items():
        write_message(directory, split, STATISTICS_FILE, statistics)
    names = json.dumps(list(made))
    return {"statistics": [work.made(directory, digest=digest_of_statistics(made), like=examples, split_names=names)]}


def _schema(work: Work) -> Schema | None:
    """What a curated schema says of how to count; nothing where there is no such schema, or it says nothing of it."""
    curated = work.optional("schema")
    said = without_vocabularies(counted_part(schema_of(curated))) if curated else Schema()
    return said if said.ByteSize() else None


def _here(work: Work, splits: Sequence[str], schema: Schema | None) -> Mapping[str, DatasetFeatureStatisticsList]:
    found = {split: Accumulated(f"{work.where}, split {split}", schema) for split in splits}
    for split, batch in ahead(_batches(work, work.input("examples"), splits)):
        found[split].add(batch)
    return {split: accumulated.statistics() for split, accumulated in found.items()}


def _by_beam(
    work: Work, beam: BeamRunner, splits: Sequence[str], schema: Schema | None
) -> Mapping[str, DatasetFeatureStatisticsList]:
    """TFDV's own pipeline, all splits in one. Its result lies below staging, which the runner's workers share."""
    work.progress(f"statistics on {beam.runner}")
    examples, options = work.input("examples"), _options_on_beam(schema)
    reader = TFSequenceExampleRecord if _sequences(examples) else TFExampleRecord
    with tempfile.TemporaryDirectory(prefix=".beam-", dir=work.request.staging) as folder:
        with on_beam(work.where, beam) as pipeline:
            for split in splits:
                source = reader(file_pattern=list(split_files(examples, split)), telemetry_descriptors=["ctd"])
                batches = pipeline | f"read {split}" >> source.BeamSource()
                made = batches | f"count {split}" >> tfdv.GenerateStatistics(options)
                _ = made | f"write {split}" >> tfdv.WriteStatisticsToBinaryFile(str(Path(folder, split)))
        return {split: tfdv.load_stats_binary(str(Path(folder, split))) for split in splits}


def _options_on_beam(schema: Schema | None) -> tfdv.StatsOptions:
    """TFDV's own ways of counting; ours where its pipeline cannot count fractions that are categories."""
    if schema is None or FLOAT not in schema_util.get_categorical_numeric_feature_types(schema).values():
        return tfdv.StatsOptions(schema=schema)
    return tfdv.StatsOptions(add_default_generators=False, generators=_generators(schema))


def _generators(schema: Schema | None) -> list[CombinerStatsGenerator]:
    """All that counts: TFDV's generators, but ours for texts and categories."""
    options = tfdv.StatsOptions(schema=schema, use_sketch_based_topk_uniques=True)
    made = get_generators(options)
    return [
        *(one for one in made if not isinstance(one, TopKUniquesSketchStatsGenerator)),
        TextCountsGenerator(options),
    ]


class Accumulated:
    """What generators keep of the batches they were given: TFDV's, and ours for texts. It is limited, unlike rows.

    `schema` is the part of a curated schema that they depend on.
    """

    def __init__(self, where: str, schema: Schema | None = None) -> None:
        self._where, self._schema = where, schema
        self._generators = _generators(schema)
        for generator in self._generators:
            generator.setup()
        self._kept = [generator.create_accumulator() for generator in self._generators]
        self._types: dict[str, Any] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Count a batch in. Raises BadInput if a feature's type is another one than before."""
        for field in batch.schema:
            before = self._types.setdefault(field.name, field.type)
            if not _agree(before, field.type):
                raise disagreement(self._where, f"{field.name} is {field.type}, and was {before}")
            if pa.types.is_null(before):
                self._types[field.name] = field.type
        try:
            self._kept = [g.add_input(kept, batch) for g, kept in zip(self._generators, self._kept, strict=True)]
        except UnicodeDecodeError as error:
            raise BadInput(
                f"{self._where}: {_not_utf8(self._schema, batch)}: language to the schema, but not UTF-8",
                hint="Take `natural_language_domain` out of the schema for features of bytes, or write them as UTF-8.",
            ) from error

    def merge(self, other: Accumulated) -> None:
        """Count in all that the other has, as if its batches had come after those here."""
        pairs = zip(self._generators, self._kept, other._kept, strict=True)
        self._kept = [generator.merge_accumulators([mine, theirs]) for generator, mine, theirs in pairs]

    def statistics(self) -> DatasetFeatureStatisticsList:
        """The statistics of all batches."""
        return extract_statistics_output(self._kept, self._generators)


def _not_utf8(schema: Schema | None, batch: pa.RecordBatch) -> str:
    """The features of language that have values which are no texts."""
    found = []
    for feature in schema.feature if schema else ():
        if feature.HasField("natural_language_domain") and feature.name in batch.schema.names:
            try:
                array_util.flatten_nested(batch[feature.name])[0].cast(pa.large_string())
            except pa.ArrowInvalid:
                found.append(feature.name)
    return ", ".join(found) or "a nested feature"


def _batches(work: Work, examples: Artifact, splits: Sequence[str]) -> Iterator[tuple[str, pa.RecordBatch]]:
    to_batch = sequences_to_arrow if _sequences(examples) else to_arrow
    for split in splits:
        work.progress(f"statistics of split {split}")
        records = (record for file in split_files(examples, split) for batch in read_batches(file) for record in batch)
        for some in _cut(records):
            yield split, to_batch(some, f"{work.where}, split {split}")


def _sequences(examples: Artifact) -> bool:
    return examples.properties.get("payload_format") == PAYLOAD_FORMATS["sequence_example"]


def _cut(records: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The records in batches, at least one."""
    batch: list[bytes] = []
    size = total = 0
    for record in records:
        batch.append(record)
        size += len(record)
        if len(batch) == _ROWS or size >= _BYTES:
            yield batch
            total += 1
            batch, size = [], 0
    if batch or not total:
        yield batch


def _agree(one: Any, other: Any) -> bool:
    """Whether columns of these types can be one feature's: where there are no values, there is no type."""
    if pa.types.is_null(one) or pa.types.is_null(other):
        return True
    if pa.types.is_large_list(one) and pa.types.is_large_list(other):
        return _agree(one.value_type, other.value_type)
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        mine, theirs = ({field.name: field.type for field in type_} for type_ in (one, other))
        return all(_agree(mine[name], theirs[name]) for name in mine.keys() & theirs.keys())
    return bool(one == other)
