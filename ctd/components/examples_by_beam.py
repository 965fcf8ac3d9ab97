"""ExampleGen on a runner of Beam: each file of a span a part of its own, the same records in the same splits.

Parts are written below the staging directory, which the runner's workers share, and become the shards of the splits.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam

from ctd.components.beam_runner import on_beam
from ctd.components.csv_examples import FileKinds
from ctd.components.example_bytes import Kind
from ctd.components.example_files import Seen, SpanFiles
from ctd.components.table_columns import Agreement, Notes, Shape
from ctd.components.tfrecords import SPLIT_FILE, SplitDigest, SplitWriter, digest_of, read_batches, shard_name
from ctd.core.errors import BadInput, ComponentFailed, CtdError, InputChanged, StorageUnavailable
from ctd.specs.beam import BeamRunner

_SAID = "said.json"
_ERRORS = {kind.__name__: kind for kind in (BadInput, InputChanged, StorageUnavailable)}
_Part = Callable[[int, Path], Mapping[str, Any]]


def examples_by_beam(
    where: str, runner: BeamRunner, span: SpanFiles, splits: Sequence[str], directory: Path
) -> tuple[Mapping[str, int], str]:
    """Write the splits; how many examples each has, and the digest. Raises what reading the files raises."""
    notes = span.notes
    span = SpanFiles(span.spec, span.files)  # without the way to say how far it is, which cannot be sent
    with tempfile.TemporaryDirectory(prefix=".beam-", dir=directory.parent) as folder:
        kinds: Mapping[str, Kind] = {}
        if span.spec.format == "csv":
            found = _on_every_file(where, runner, span, Path(folder, "kinds"), partial(_kinds_of, span))
            kinds = span.kinds_together([FileKinds(**one) for one in found])
        parts = Path(folder, "parts")
        made = _on_every_file(where, runner, span, parts, partial(_write_part, span, tuple(splits), dict(kinds)))
        span.check_unchanged()
        _check_agreement(span, made)
        for one in made:
            notes.said.update({**one["notes"], **notes.said})
        span.check_seen(Seen(records=sum(one["records"] for one in made), lists=any(one["lists"] for one in made)))
        counts = {split: sum(one["counts"][split] for one in made) for split in splits}
        for split in splits:
            full = [number for number, one in enumerate(made) if one["counts"][split]] or [0]  # none: one of nothing
            (directory / f"Split-{split}").mkdir()
            for shard, number in enumerate(full):
                part = parts / str(number) / f"Split-{split}" / SPLIT_FILE
                part.replace(directory / f"Split-{split}" / shard_name(shard, len(full)))
    return counts, _digest(directory, splits)


def _on_every_file(
    where: str, runner: BeamRunner, span: SpanFiles, folder: Path, do: _Part
) -> Sequence[Mapping[str, Any]]:
    """What comes of each file, somewhere on Beam. Raises the first file's error."""
    folder.mkdir()
    with on_beam(where, runner) as pipeline:
        numbers = pipeline | beam.Create(list(range(len(span.files)))) | beam.Reshuffle()
        _ = numbers | beam.Map(partial(_do_part, str(folder), do))
    found = []
    for number, file in enumerate(span.files):
        try:
            said = json.loads((folder / str(number) / _SAID).read_text())
        except FileNotFoundError as error:
            raise ComponentFailed(
                f"{where}: Beam's {runner.runner} left nothing of {file.path} in {folder}",
                hint="Its workers must reach the data and the state directory under the same paths as ctd.",
            ) from error
        if "error" in said:
            raise _ERRORS[said["error"]](said["message"], hint=said["hint"])
        found.append(said)
    return found


def _do_part(folder: str, do: _Part, number: int) -> None:
    """Do it in a directory of its own, which then takes its name: Beam may try again, or twice at the same time."""
    mine = Path(tempfile.mkdtemp(prefix=f".{number}-", dir=folder))
    try:
        said = do(number, mine)
    except CtdError as error:
        # As a value: what a function raises, Beam raises as something else.
        said = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
        if type(error).__name__ not in _ERRORS:
            raise
    (mine / _SAID).write_text(json.dumps(said))
    with contextlib.suppress(OSError):  # another attempt was quicker
        mine.rename(Path(folder, str(number)))


def _kinds_of(span: SpanFiles, number: int, _: Path) -> Mapping[str, Any]:
    return asdict(span.kinds_of_file(span.files[number]))


def _write_part(
    span: SpanFiles, splits: Sequence[str], kinds: Mapping[str, Kind], number: int, folder: Path
) -> Mapping[str, Any]:
    seen, span = Seen(), replace(span, notes=Notes())
    with ExitStack() as stack:
        writers = {split: stack.enter_context(SplitWriter(folder, split)) for split in splits}
        for batch in span.of_file(span.files[number], kinds, seen):
            for split, records in span.dealt(batch).items():
                writers[split].add(records)
    counts = {split: writer.count for split, writer in writers.items()}
    shapes = {name: asdict(shape) for name, (shape,) in seen.tables.shapes.items()}
    said = {"records": seen.records, "lists": seen.lists, "shapes": shapes, "notes": span.notes.said}
    return {"counts": counts, **said}


def _check_agreement(span: SpanFiles, made: Sequence[Mapping[str, Any]]) -> None:
    """Raise BadInput if files hold other columns, or columns that mean other things."""
    tables = Agreement()
    for file, one in zip(span.files, made, strict=True):
        if one["shapes"]:
            tables.add(file.path, {name: Shape(**shape) for name, shape in one["shapes"].items()})


def _digest(directory: Path, splits: Sequence[str]) -> str:
    digests = []
    for split in splits:
        digests.append(SplitDigest(split))
        for shard in sorted((directory / f"Split-{split}").iterdir()):
            for records in read_batches(str(shard)):
                digests[-1].add(records)
    return digest_of(digests)
