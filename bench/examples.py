"""ExampleGen and StatisticsGen on a span of taxi trips, beside the same work as Beam pipelines of TFX's libraries.

`python -m bench.examples [--rows 15000 150000] [--rounds 3] [--beam-up-to 200000] [--csv FILE]`. Each measurement is a
process forked from one that has imported everything and run nothing, as a worker is; rounds alternate between the two.
Memory is what the process's peak has above what it was forked with. With `--csv` the rows are those of the file,
repeated with other values.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

import apache_beam as beam
import tensorflow as tf
import tensorflow_data_validation as tfdv
from apache_beam.io.tfrecordio import WriteToTFRecord
from tfx_bsl.coders import csv_decoder

from ctd.components import example_gen, statistics_gen
from ctd.components.api import Work
from ctd.components.splitting import bucket_of
from ctd.core.artifacts import Artifact
from ctd.core.artifacts import ArtifactType as T
from ctd.core.work import Request, SourceFile
from ctd.specs.nodes import ExampleGenSpec, StatisticsGenSpec
from examples.taxi.generate import write_day

DAY = date(2024, 3, 4)
SPLITS = ("train", "eval")


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table of medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[15_000, 150_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beam-up-to", type=int, default=200_000, help="rows beyond which only ctd is measured")
    parser.add_argument("--csv", type=Path, help="a CSV file with a header, instead of generated trips")
    options = parser.parse_args(arguments)
    print("| rows | MB of CSV | step | by | seconds | spread | CPU s | MB/s | MB of memory |")
    print("|---|---|---|---|---|---|---|---|---|")
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            _measure(Path(folder), rows, options)


def _measure(folder: Path, rows: int, options: argparse.Namespace) -> None:
    path = _span(folder, rows, options.csv)
    size = path.stat().st_size / 1e6
    made = folder / "examples-ctd-0"
    steps: dict[tuple[str, str], Callable[[Path], None]] = {
        ("examples", "ctd"): lambda out: _examples(path, out),
        ("examples", "Beam"): lambda out: _examples_by_beam(path, out),
        ("statistics", "ctd"): lambda out: _statistics(made / "examples", out),
        ("statistics", "Beam"): lambda out: _statistics_by_beam(made / "examples", out),
    }
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for number in range(options.rounds):
        for (step, by), run in steps.items():
            if by == "ctd" or rows <= options.beam_up_to:
                out = folder / f"{step}-{by}-{number}"
                out.mkdir()
                found.setdefault((step, by), []).append(in_a_fork(run, out))
    for (step, by), times in found.items():
        seconds = [one["seconds"] for one in times]
        middle = statistics.median(seconds)
        cpu, memory = (statistics.median(one[key] for one in times) for key in ("cpu", "memory"))
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        print(f"| {rows} | {size:.1f} | {step} | {by} | {middle:.2f} | {spread} | {cpu:.2f} | {size / middle:.1f} "
              f"| {memory:.0f} |", flush=True)  # fmt: skip


def in_a_fork(run: Callable[[Path], None], out: Path) -> dict[str, float]:
    """Seconds, CPU seconds and megabytes of a child that runs it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
            before, begin = _memory("VmRSS"), time.perf_counter()
            run(out)
            taken = {"seconds": time.perf_counter() - begin, "memory": _memory("VmHWM") - before}
            times = os.times()
            os.write(writing, json.dumps({**taken, "cpu": times.user + times.system}).encode())
        except Exception:  # noqa: BLE001  said here; the parent ends
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    said = os.read(reading, 4096)
    os.close(reading)
    os.waitpid(pid, 0)
    if not said:
        raise SystemExit("a measured process failed")
    return dict(json.loads(said))


def _memory(what: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1000


def _span(folder: Path, rows: int, source: Path | None) -> Path:
    """A CSV file of so many rows."""
    if source is None:
        write_day(folder / "data", DAY, trips=rows)
        return next((folder / "data").rglob("*.csv"))
    chance = random.Random(7)  # noqa: S311  data, not secrets
    path = folder / "data.csv"
    with source.open(newline="") as given, path.open("w", newline="") as out:
        header, *known = csv.reader(given)
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(_other(known[i % len(known)], i >= len(known), chance) for i in range(rows))
    return path


def _other(row: Sequence[str], changed: bool, chance: random.Random) -> Iterator[str]:
    for cell in row:
        number = cell.replace(".", "", 1)
        if changed and number.isdigit() and len(number) > 2:
            yield str(int(cell) + chance.randrange(1000)) if number == cell else f"{float(cell) + chance.random():.2f}"
        else:
            yield cell


def _work(spec: Any, entrypoint: str, out: Path, **request: Any) -> Work:
    (piece,) = spec.pieces()
    asked = Request(
        execution_id=1, pipeline="bench", node=spec.kind, kind=spec.kind, key="span 1", entrypoint=entrypoint,
        staging=str(out), spec=spec.model_dump(mode="json"), outputs=piece.makes, **request,
    )  # fmt: skip
    return Work(asked)


def _examples(path: Path, out: Path) -> None:
    spec = ExampleGenSpec.model_validate({"kind": "example_gen", "input": "/data/{SPAN}"})
    stat = path.stat()
    files = (SourceFile(str(path), stat.st_size, stat.st_mtime_ns),)
    example_gen.run(_work(spec, "ctd.components.example_gen", out, files=files, span=1, version=1))


def _statistics(made: Path, out: Path) -> None:
    spec = StatisticsGenSpec.model_validate({"kind": "statistics_gen"})
    examples = Artifact(T.EXAMPLES, str(made), "", 1, 1, {"split_names": json.dumps(SPLITS)})
    statistics_gen.run(_work(spec, "ctd.components.statistics_gen", out, inputs={"examples": (examples,)}))


def _examples_by_beam(path: Path, out: Path) -> None:
    """What TFX's CsvExampleGen runs: tfx_bsl's decoder, a message per row, a hash per message, TFRecords."""
    header = path.open().readline().strip().split(",")
    with beam.Pipeline(options=_options()) as pipeline:
        cells = (
            pipeline
            | beam.io.ReadFromText(str(path), skip_header_lines=1)
            | beam.ParDo(csv_decoder.ParseCSVLine(delimiter=","))
            | beam.Keys()
        )
        columns = beam.pvalue.AsSingleton(cells | beam.CombineGlobally(csv_decoder.ColumnTypeInferrer(header, True)))
        records = cells | beam.Map(_example, columns)
        for split, part in zip(SPLITS, records | beam.Partition(_bucket, 2), strict=True):
            (out / f"Split-{split}").mkdir()
            _ = part | split >> WriteToTFRecord(str(out / f"Split-{split}" / "data_tfrecord"), file_name_suffix=".gz")


def _example(cells: Sequence[bytes], columns: Sequence[csv_decoder.ColumnInfo]) -> bytes:
    example = tf.train.Example()
    for column, cell in zip(columns, cells, strict=True):
        feature, value = example.features.feature[column.name], [cell] if cell else []
        match column.type:
            case csv_decoder.ColumnType.INT:
                feature.int64_list.value.extend(map(int, value))
            case csv_decoder.ColumnType.FLOAT:
                feature.float_list.value.extend(map(float, value))
            case csv_decoder.ColumnType.STRING:
                feature.bytes_list.value.extend(value)
    return example.SerializeToString(deterministic=True)


def _bucket(record: bytes, _: int) -> int:
    return int(bucket_of(record, 3) > 1)


def _statistics_by_beam(made: Path, out: Path) -> None:
    for split in SPLITS:
        tfdv.generate_statistics_from_tfrecord(
            str(made / f"Split-{split}" / "*"), str(out / f"{split}.pb"), pipeline_options=_options()
        )


def _options() -> beam.options.pipeline_options.PipelineOptions:
    return beam.options.pipeline_options.PipelineOptions([], direct_running_mode="in_memory")


if __name__ == "__main__":
    main()
