"""Taxi rides as examples, their schema, and what TFT makes of them when it is left to Beam."""

import json
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import tensorflow_transform.beam as tft_beam
from tensorflow_metadata.proto.v0.schema_pb2 import Schema
from tensorflow_transform.beam.analyzer_cache import DatasetKey
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder, RecordBatchToExamplesEncoder
from tfx_bsl.tfxio.tf_example_record import TFExampleBeamRecord

from ctd.components.api import load_module, split_files
from ctd.components.csv_examples import parse_csv, to_examples
from ctd.components.examples_io import canonical, read_records, read_split, write_split
from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.fingerprints import digest_of

SCHEMA = """
feature { name: "fare" type: FLOAT presence { min_fraction: 1 } shape { dim { size: 1 } } }
feature { name: "payment" type: BYTES }
feature { name: "company" type: BYTES }
"""


def rides(number: int, seed: int = 1, payments: str = "Cash Card Coin") -> str:
    chance = np.random.default_rng(seed)
    rows = ["fare,payment,company,unknown"]
    for _ in range(number):
        company = chance.choice(["Blue", "Red", ""])
        rows.append(f"{chance.gamma(2, 5):.2f},{chance.choice(payments.split())},{company},1")
    return "\n".join(rows) + "\n"


def examples(folder: Path, span: int = 7, **csv: str) -> Artifact:
    folder.mkdir(parents=True)
    for split, text in csv.items():
        write_split(folder, split, to_examples([parse_csv(text.encode(), split)]))
    digest = digest_of(csv)
    return Artifact(ArtifactType.EXAMPLES, str(folder), digest, span, 1, {"split_names": json.dumps([*csv])}, id=span)


def schema(folder: Path, text: str = SCHEMA) -> Artifact:
    folder.mkdir()
    (folder / "schema.pbtxt").write_text(text)
    return Artifact(ArtifactType.SCHEMA, str(folder))


def with_beam(
    folder: Path, module: Path, said: Schema, trains: Sequence[Sequence[bytes]], records: Sequence[bytes]
) -> list[bytes]:
    """What TFT makes of records when it is left to Beam alone; `trains` are the spans that it analyses."""
    config = TFExampleBeamRecord("inmem", telemetry_descriptors=["test"], schema=said).TensorAdapterConfig()
    decoder = ExamplesToRecordBatchDecoder(said.SerializeToString())
    preprocess = load_module(str(module)).preprocessing_fn
    with tft_beam.Context(temp_dir=str(folder / "temp")), beam.Pipeline() as pipeline:
        data = {
            DatasetKey(f"span-{i}"): pipeline | f"Train {i}" >> beam.Create([decoder.DecodeBatch(train)])
            for i, train in enumerate(trains)
        }
        every = pipeline | "All" >> beam.Create([decoder.DecodeBatch(records)])
        if len(data) == 1:
            transform_fn = (*data.values(), config) | tft_beam.AnalyzeDataset(preprocess)
        else:
            transform_fn, _ = (data, {}, config) | tft_beam.AnalyzeDatasetWithCache(preprocess)
        applied = tft_beam.TransformDataset(output_record_batches=True)
        batches, metadata = ((every, config), transform_fn) | applied
        encoder = metadata.deferred_metadata | beam.Map(lambda m: RecordBatchToExamplesEncoder(m.schema))
        _ = (
            batches
            | beam.FlatMap(lambda both, encode: encode.encode(both[0]), beam.pvalue.AsSingleton(encoder))
            | beam.io.WriteToTFRecord(str(folder / "out"), file_name_suffix=".gz")
        )
    return sorted(canonical(record) for path in folder.glob("out*") for record in read_records(str(path)))


def written(artifact: Artifact, split: str) -> list[bytes]:
    return read_split(split_files(artifact, split))
