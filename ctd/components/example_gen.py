"""ExampleGen: the files of a span become tf.Examples, in the splits that TFX would make or that the data has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from ctd.components.ahead import ahead
from ctd.components.api import Outputs, Work
from ctd.components.example_files import SpanFiles
from ctd.components.examples_io import PAYLOAD_FORMATS
from ctd.components.splitting import Batch
from ctd.components.tfrecords import SplitWriter, digest_of
from ctd.core.errors import BadInput
from ctd.core.work import Made, SourceFile
from ctd.specs.nodes import ExampleGenSpec


def run(work: Work) -> Outputs:
    """Make `examples` of the request's files. Raises BadInput, or InputChanged if they change meanwhile."""
    spec = work.spec(ExampleGenSpec)
    order = list(spec.patterns)
    files = sorted(work.request.files, key=lambda file: (order.index(file.split), file.path))
    _check_there(work, spec, files)
    directory = work.output("examples")
    span = SpanFiles(spec, files, work.progress)
    splits = list(spec.buckets or order)
    if spec.beam and spec.beam.takes(sum(file.size for file in files)):
        from ctd.components.examples_by_beam import examples_by_beam  # noqa: PLC0415  the first node waits for no Beam

        counts, digest = examples_by_beam(work.where, spec.beam, span, splits, directory)
    else:
        counts, digest = _write(span, splits, directory)
    _check_not_empty(work, files, counts)
    made = Made(
        str(directory.relative_to(work.request.staging)),
        digest,
        work.request.span,
        work.request.version,
        {
            "split_names": json.dumps(list(counts)),
            "payload_format": PAYLOAD_FORMATS[spec.payload],
            "file_format": "tfrecords_gzip",
            "input_fingerprint": "\n".join(
                input_fingerprint([file for file in files if file.split == split], split or "single_split")
                for split in spec.patterns
            ),
            "revision": work.request.revision,
            "num_examples": json.dumps(counts),
            **({"reason": span.notes.text} if span.notes.text else {}),
        },
    )
    return {"examples": [made]}


def _write(span: SpanFiles, splits: Sequence[str], directory: Path) -> tuple[Mapping[str, int], str]:
    """Write the splits; how many examples each has, and the digest."""
    with ExitStack() as stack:
        writers = {name: stack.enter_context(SplitWriter(directory, name)) for name in splits}
        for batch in _unchanged(span, ahead(span.batches())):
            for name, records in span.dealt(batch).items():
                writers[name].add(records)
    counts = {name: writer.count for name, writer in writers.items()}
    return counts, digest_of([writer.digest for writer in writers.values()])


def input_fingerprint(files: Sequence[SourceFile], split: str) -> str:
    """TFX's text about the files read of a split: checksums are over modification times in whole seconds."""
    xor = total = 0
    for file in files:
        seconds = file.mtime_ns // 10**9
        xor, total = xor ^ seconds, total + seconds
    size = sum(file.size for file in files)
    return f"split:{split},num_files:{len(files)},total_bytes:{size},xor_checksum:{xor},sum_checksum:{total}"


def _unchanged(files: SpanFiles, batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches. Raises InputChanged instead of whatever a file led to that changed while it was read."""
    try:
        yield from batches
    except Exception:
        files.check_unchanged()
        raise
    files.check_unchanged()


def _check_there(work: Work, spec: ExampleGenSpec, files: Sequence[SourceFile]) -> None:
    empty = [split for split in spec.patterns if all(file.split != split for file in files)]
    if empty:
        where = f" of split {', '.join(empty)}" if any(empty) else ""
        raise BadInput(
            f"{work.where}: no files{where}",
            hint="There is nothing but the marker: write the data first, or mend `input` if it is elsewhere.",
        )


def _check_not_empty(work: Work, files: Sequence[SourceFile], counts: Mapping[str, int]) -> None:
    """A split may be empty, as in TFX: a few examples may all fall to one. A span may not."""
    if not sum(counts.values()):
        raise BadInput(
            f"{work.where}: no examples in {', '.join(file.path for file in files)}",
            hint="A span needs at least one example; take the span away if there is no data for it.",
        )
