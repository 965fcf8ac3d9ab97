"""TensorFlow Metadata's messages as files: schemas, statistics and anomalies, where TFX puts them.

Their digests say what a message means: neither the order of features nor a text's layout and comments matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0.schema_pb2 import Schema
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

from ctd.components.api import SCHEMA_FILE, split_dir
from ctd.core.artifacts import Artifact
from ctd.core.errors import BadInput
from ctd.core.fingerprints import canonical, digest_of

STATISTICS_FILE = "FeatureStats.pb"
ANOMALIES_FILE = "SchemaDiff.pb"
# Of means and deviations; of 16 that a double has, sums of millions in another order have changed the last three.
_KNOWN_DIGITS = 10


def read_schema(path: Path) -> Schema:
    """The schema of a text proto. Raises BadInput with file and line."""
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), Schema())
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}", hint="A schema is one readable file.") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        line = getattr(error, "GetLine", lambda: None)()
        raise BadInput(
            f"{path}:{line or 1}: not a schema: {error}",
            hint="A schema is the text form of tensorflow_metadata's Schema message, as TFDV writes it.",
        ) from error


def schema_of(artifact: Artifact) -> Schema:
    """The schema in a Schema artifact."""
    return read_schema(Path(artifact.uri, SCHEMA_FILE))


def write_schema(directory: Path, schema: Schema) -> None:
    (directory / SCHEMA_FILE).write_text(text_format.MessageToString(schema, as_utf8=True), encoding="utf-8")


def statistics_of(artifact: Artifact, split: str) -> DatasetFeatureStatisticsList:
    """One split of an ExampleStatistics artifact. Raises BadInput if it is not there or no statistics."""
    path = split_dir(artifact, split) / STATISTICS_FILE
    try:
        return DatasetFeatureStatisticsList.FromString(path.read_bytes())
    except (FileNotFoundError, DecodeError) as error:
        raise BadInput(f"{path}: no statistics: {error}", hint="Retry the node that makes the statistics.") from error


def blanks_as_missing(statistics: DatasetFeatureStatisticsList) -> DatasetFeatureStatisticsList:
    """The statistics as the schema means them: of a column with at most one value, a row without any is missing.

    TFX writes a blank CSV cell as a feature with an empty list, which TFDV counts as present with no value: a
    schema could not say how many blanks are too many. The statistics artifact keeps TFDV's own numbers.
    """
    found = DatasetFeatureStatisticsList.FromString(statistics.SerializeToString())
    for feature in (f for dataset in found.datasets for f in dataset.features):
        common = getattr(feature, feature.WhichOneof("stats") or "string_stats").common_stats
        blanks = common.num_non_missing - common.tot_num_values
        if common.max_num_values <= 1 and common.min_num_values == 0 and blanks > 0:
            common.num_non_missing -= blanks
            common.num_missing += blanks
            common.min_num_values = common.max_num_values  # 0 in a split where every cell is blank
            common.avg_num_values = common.max_num_values
    return found


def write_message(directory: Path, split: str, name: str, message: Any) -> None:
    """Write a message below `Split-{split}`; equal messages give equal bytes."""
    folder = directory / f"Split-{split}"
    folder.mkdir()
    (folder / name).write_bytes(message.SerializeToString(deterministic=True))


def digest_of_messages(messages: Mapping[str, Any]) -> str:
    """The identity of named messages' content."""
    return digest_of({name: _unordered(MessageToDict(message)) for name, message in messages.items()})


def digest_of_statistics(made: Mapping[str, DatasetFeatureStatisticsList]) -> str:
    """The same for splits' statistics, but for the last digits of means and deviations: the order of adding decides.

    What a sum loses is measured by its terms: both are taken as exactly as the larger of the two is known. Values on
    either side of a half differ all the same, which happens once in ten thousand times or less.
    """
    rounded = {}
    for split, statistics in made.items():
        rounded[split] = DatasetFeatureStatisticsList.FromString(statistics.SerializeToString())
        for feature in (f for dataset in rounded[split].datasets for f in dataset.features):
            if feature.WhichOneof("stats") == "num_stats":
                stats = feature.num_stats
                stats.mean, stats.std_dev = _rounded(stats.mean, stats.std_dev)
    return digest_of_messages(rounded)


def _rounded(*values: float) -> list[float]:
    largest = max(map(abs, values))
    if not largest or not all(map(math.isfinite, values)):
        return list(values)
    digits = _KNOWN_DIGITS - 1 - math.floor(math.log10(largest))
    return [round(value, digits) + 0.0 for value in values]  # there is one zero


def _unordered(value: Any) -> Any:
    """The same, with lists of messages in an order of their own: for these libraries they are sets."""
    if isinstance(value, dict):
        return {key: _unordered(item) for key, item in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return sorted(map(_unordered, value), key=canonical)
    return value
