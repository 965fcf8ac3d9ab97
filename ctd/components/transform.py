"""Transform: the user's preprocessing_fn, analysed over a window of spans and applied to every one of them.

TFT analyses in this process, as a Beam pipeline. Its result is applied without Beam, by the same steps as in TFT's own
TransformDataset: the data is at hand, and a second pipeline would cost more than the work.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import tensorflow_transform as tft
from tensorflow_transform import impl_helper
from tensorflow_transform.saved.saved_transform_io_v2 import SavedModelLoader
from tensorflow_transform.tf_metadata.dataset_metadata import DatasetMetadata
from tensorflow_transform.tf_metadata.metadata_io import write_metadata
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder, RecordBatchToExamplesEncoder
from tfx_bsl.tfxio.tensor_adapter import TensorAdapter, TensorAdapterConfig
from tfx_bsl.tfxio.tf_example_record import TFExampleBeamRecord

from ctd.components.analysis import Preprocess, SpanData, analyse
from ctd.components.analyzer_cache import AnalyzerCache
from ctd.components.api import Outputs, Work, check_payload, split_files, split_names, user_code, user_function
from ctd.components.example_decoder import decode
from ctd.components.example_encoder import encode
from ctd.components.examples_io import canonical, read_split
from ctd.components.graph_digest import digest_of_transform_graph
from ctd.components.metadata_files import schema_of
from ctd.components.tfrecords import SplitWriter, digest_of
from ctd.core.artifacts import Artifact
from ctd.core.errors import BadInput
from ctd.core.work import Made
from ctd.specs.transform import TransformSpec

# Big enough for few calls of the graph, small enough for memory.
_ROWS = 8192


def run(work: Work) -> Outputs:
    """Make `transform_graph` of all `examples`, and `transformed_examples` of each."""
    spec = work.spec(TransformSpec)
    artifacts = work.inputs("examples")
    reader = ExampleReader(work)
    preprocess = bound(user_function(work, "preprocessing_fn"), spec.custom_config)
    directory = work.output("transform_graph")

    cache = AnalyzerCache(work, spec, reader.config)
    spans = [SpanData(functools.partial(_to_analyse, work, spec, reader, a), cache.read(a)) for a in artifacts]
    with user_code(f"{work.where}: preprocessing_fn", work.request.module):
        accumulated = analyse(preprocess, spans, reader.config, directory)
    for artifact, kept in zip(artifacts, accumulated, strict=True):
        cache.write(artifact, kept)
    write_metadata(DatasetMetadata(reader.schema), str(directory / tft.TFTransformOutput.RAW_METADATA_DIR))
    graph = work.made(directory, digest=digest_of_transform_graph(directory))

    made = {"transform_graph": [graph], "updated_analyzer_cache": [work.made(cache.directory)]}
    if spec.materialize:
        apply = Application(reader.config, directory)
        made["transformed_examples"] = [_transformed(work, index, reader, apply) for index in range(len(artifacts))]
    return made


class ExampleReader:
    """Examples as Arrow batches of the schema's columns; a column that an example lacks is empty there."""

    def __init__(self, work: Work) -> None:
        self.schema = schema_of(work.input("schema"))
        self._where = work.where
        for artifact in work.inputs("examples"):
            check_payload(work, artifact)
        tfxio = TFExampleBeamRecord(physical_format="inmem", telemetry_descriptors=["ctd"], schema=self.schema)
        try:
            self.config = tfxio.TensorAdapterConfig()
        except ValueError as error:
            raise BadInput(
                f"{work.where}: the schema says nothing that tensors could be made of: {error}",
                hint="Every feature needs a type, and a shape that its value_count agrees with.",
            ) from error
        self._decoder = ExamplesToRecordBatchDecoder(self.schema.SerializeToString())
        self._adapter = TensorAdapter(self.config)

    def batches(self, artifact: Artifact, split: str) -> list[pa.RecordBatch]:
        """A split's examples. Raises BadInput where they are not as the schema says."""
        records = read_split(split_files(artifact, split))
        try:
            batches = [self._decoded(records[i : i + _ROWS]) for i in range(0, len(records), _ROWS)]
            for batch in batches:
                self._adapter.ToBatchTensors(batch, produce_eager_tensors=False)
        except (RuntimeError, ValueError) as error:
            hint = (
                "Correct the data or the schema; for CSV, a column that looks whole in one span and not in another is "
                "of one type if `types:` of the example_gen says which."
                if "wrong type" in str(error)
                else "A feature with a shape needs its value in every example. A schema_gen without `window` infers "
                "none where a span of this window has blank cells, with `infer_feature_shape: false` none at all; "
                "otherwise mend the data, name the span in `deny` of the example_gen, or take `shape` out of the "
                "schema. An example_validator before this node says which."
            )
            raise BadInput(
                f"{self._where}: {artifact.label}, split {split}, is not as the schema says: {error}", hint=hint
            ) from error
        return batches

    def _decoded(self, records: Sequence[bytes]) -> pa.RecordBatch:
        quickly = decode(records)
        as_said = None if quickly is None else _as_said(quickly, self.config.arrow_schema)
        return self._decoder.DecodeBatch(records) if as_said is None else as_said


class Application:
    """The finished graph, to be applied to batches."""

    def __init__(self, config: TensorAdapterConfig, directory: Path) -> None:
        output = tft.TFTransformOutput(str(directory))
        schema = output.transformed_metadata.schema
        self._adapter = TensorAdapter(config)
        self._graph = SavedModelLoader(output.transform_savedmodel_dir)
        self._converter = impl_helper.make_tensor_to_arrow_converter(schema)
        self._encoder = RecordBatchToExamplesEncoder(schema)

    def __call__(self, batch: pa.RecordBatch) -> list[bytes]:
        """The transformed examples of a batch, serialized canonically."""
        features = self._graph.apply_transform_model(self._adapter.ToBatchTensors(batch, produce_eager_tensors=True))
        rows = self._converter.convert(features)
        quickly = encode(rows)
        return [*map(canonical, self._encoder.encode(rows))] if quickly is None else quickly


def _as_said(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch | None:
    """The columns that the schema says; None if one is of another type, about which tfx_bsl has words."""
    columns = []
    for field in schema:
        at = batch.schema.get_field_index(field.name)
        column = pa.nulls(batch.num_rows) if at < 0 else batch.column(at)
        if pa.types.is_null(column.type):
            column = pa.nulls(batch.num_rows, field.type)
        if column.type != field.type:
            return None
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def bound(preprocess: Callable[..., Any], custom_config: Mapping[str, Any]) -> Preprocess:
    """The function of inputs alone: `custom_config` is given to those that ask for it, as in TFX."""
    if "custom_config" not in inspect.signature(preprocess).parameters:
        return preprocess
    return functools.partial(preprocess, custom_config=dict(custom_config))


def _to_analyse(work: Work, spec: TransformSpec, reader: ExampleReader, artifact: Artifact) -> list[pa.RecordBatch]:
    work.progress(f"analysing {artifact.label}")
    return [batch for split in spec.analyze_splits for batch in reader.batches(artifact, split)]


def _transformed(work: Work, index: int, reader: ExampleReader, apply: Application) -> Made:
    artifact = work.inputs("examples")[index]
    directory = work.output("transformed_examples", index)
    writers = []
    for split in split_names(artifact):
        work.progress(f"transforming {artifact.label}, split {split}")
        batches = reader.batches(artifact, split)
        with SplitWriter(directory, split) as writer:
            for batch in batches:
                applied = f"{work.where}: the graph of preprocessing_fn on {artifact.label}, split {split},"
                with user_code(applied, work.request.module):
                    records = apply(batch)
                writer.add(records)
        writers.append(writer)
    return work.made(
        directory,
        digest=digest_of([writer.digest for writer in writers]),
        like=artifact,
        split_names=json.dumps([writer.digest.split for writer in writers]),
        payload_format="FORMAT_TF_EXAMPLE",
        file_format="tfrecords_gzip",
        num_examples=json.dumps({writer.digest.split: writer.count for writer in writers}),
    )
