"""TransformCache: what TFT's analyzers accumulated of each span, so that the span need not be read for them again.

A help, and no part of any identity: without it the same comes of the examples themselves. A file is named by all that
its content depends on, so that a file which is there may be used, and what has changed is not found.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf
import tensorflow_transform as tft
from tfx_bsl.tfxio.tensor_adapter import TensorAdapterConfig

from ctd.components.api import Work
from ctd.components.examples_io import read_records
from ctd.core.artifacts import Artifact
from ctd.core.errors import BadInput, StorageUnavailable
from ctd.core.fingerprints import digest_of
from ctd.core.timing import SystemClock
from ctd.specs.transform import TransformSpec
from ctd.storage.code import CodeReader
from ctd.storage.code_deps import code_dep_fact
from ctd.storage.digests import FileDigests
from ctd.storage.packages import installed_version

Accumulated = Mapping[str, Sequence[bytes]]
"""What is kept of a span: TFT's key of an analyzer, in hex, and its accumulators, encoded by TFT."""

log = logging.getLogger(__name__)

_OPTIONS = tf.io.TFRecordOptions("GZIP", compression_level=1)


class AnalyzerCache:
    """Reads what an execution before this one kept, and writes what is to be kept for the next."""

    def __init__(self, work: Work, spec: TransformSpec, config: TensorAdapterConfig) -> None:
        self._known = work.optional("analyzer_cache")
        self.directory = work.output("updated_analyzer_cache")
        code = CodeReader()
        self._common = {
            "splits": spec.analyze_splits,
            "columns": _meaning(config),
            # TFT's keys cover the graph up to an analyzer, but neither Python called from it nor files read by it.
            "code": code.read(work.request.module or "").digest,
            "files": {name: _digest(path, code) for name, path in work.request.paths.items()},
            "packages": {name: installed_version(name) for name in spec.packages},
            "custom_config": spec.custom_config,
            "versions": [tf.__version__, tft.__version__],
        }

    def read(self, examples: Artifact) -> Accumulated:
        """What is known of a span; nothing, if that is nothing or cannot be read."""
        name = self._name(examples)
        if self._known is None or not name or not Path(self._known.uri, name).is_file():
            return {}
        try:
            return unpacked(read_records(str(Path(self._known.uri, name))))
        except (BadInput, OSError, ValueError) as error:
            log.warning("%s is analysed anew: the cache of it is damaged: %s", examples.label, error)
            return {}

    def write(self, examples: Artifact, accumulated: Accumulated) -> None:
        name = self._name(examples)
        if name:
            _write(self.directory / name, packed(accumulated))

    def _name(self, examples: Artifact) -> str:
        return f"{digest_of({**self._common, 'examples': examples.digest})}.gz" if examples.digest else ""


def _digest(path: str, code: CodeReader) -> str:
    fact = code_dep_fact(path, FileDigests(SystemClock()), code)
    if fact.problem:
        raise StorageUnavailable(fact.problem, hint="Put the file there, or mend `code_deps` in the spec.")
    return fact.digest


def _meaning(config: TensorAdapterConfig) -> list[str]:
    tensors = sorted(config.tensor_representations.items())
    said = [f"{name}: {tensor.SerializeToString(deterministic=True).hex()}" for name, tensor in tensors]
    return [*said, *map(str, config.arrow_schema)]


def _write(file: Path, records: Sequence[bytes]) -> None:
    try:
        with tf.io.TFRecordWriter(str(file), _OPTIONS) as writer:
            for record in records:
                writer.write(record)
    except tf.errors.OpError as error:
        raise StorageUnavailable(
            f"cannot write {file}: {error.message}", hint="Is the disk of the state directory full?"
        ) from error


def packed(accumulated: Accumulated) -> list[bytes]:
    """The records to write: first how many there are of each analyzer."""
    counts = [[key, len(values)] for key, values in accumulated.items()]
    return [json.dumps(counts).encode(), *(value for values in accumulated.values() for value in values)]


def unpacked(records: Sequence[bytes]) -> Accumulated:
    """What was written as these records. Raises ValueError where something is missing."""
    try:
        counts = {str(key): int(count) for key, count in json.loads(records[0])}
    except (IndexError, TypeError) as error:
        raise ValueError("it does not begin with what is in it") from error
    due = 1 + sum(counts.values())
    if due != len(records):
        raise ValueError(f"{len(records)} records where {due} are due")
    rest = iter(records[1:])
    return {key: [*itertools.islice(rest, count)] for key, count in counts.items()}
