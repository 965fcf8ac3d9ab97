"""Tables as files, and what the files of a span become, for tests of columns and their types."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from ctd.components.example_files import SpanFiles
from ctd.core.errors import BadInput
from ctd.core.work import SourceFile
from ctd.specs.nodes import ExampleGenSpec

Rows = list[dict[str, Any]]


def parquet(table: Mapping[str, Any] | pa.Table, **options: Any) -> bytes:
    """A Parquet file of these columns, written by the installed Arrow."""
    out = io.BytesIO()
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), out, **options)
    return out.getvalue()


def avro(rows: Iterable[Mapping[str, Any]], **types: Any) -> bytes:
    """An Avro file of records with fields of these types."""
    out = io.BytesIO()
    fields = [{"name": name, "type": type_} for name, type_ in types.items()]
    fastavro.writer(out, {"type": "record", "name": "Row", "fields": fields}, rows)
    return out.getvalue()


def span(folder: Path, format_: str, contents: Sequence[bytes], **spec: Any) -> SpanFiles:
    """A span of files 1, 2, ... with these contents; keywords are of the example_gen."""
    files = []
    for number, content in enumerate(contents, 1):
        path = folder / f"{number}.{format_}"
        path.write_bytes(content)
        files.append(SourceFile(str(path), path.stat().st_size, path.stat().st_mtime_ns))
    said = {"kind": "example_gen", "input": "/data/{SPAN}", "format": format_, **spec}
    return SpanFiles(ExampleGenSpec.model_validate(said), files)


def rows_of(files: SpanFiles) -> Rows:
    """Every example's values by feature; None for a feature without a kind."""
    return [values(record) for batch in files.batches() for record in batch.records]


def values(record: bytes) -> dict[str, Any]:
    found = {}
    for name, feature in tf.train.Example.FromString(record).features.feature.items():
        kind = feature.WhichOneof("kind")
        found[name] = list(getattr(feature, kind).value) if kind else None
    return found


def refusal(files: SpanFiles) -> str:
    """What is said of files that cannot be read: message and hint, without the folder they are in."""
    with pytest.raises(BadInput) as refused:
        rows_of(files)
    assert refused.value.hint
    folder = str(Path(files.files[0].path).parent)
    return f"{refused.value.message} | {refused.value.hint}".replace(f"{folder}/", "")
