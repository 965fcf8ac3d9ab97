"""Seconds of Transform when one new span arrives in a window of n: with the analyzer cache and without, in turns.

`python -m bench.transform_windows [--windows 1 7 30] [--rounds 3] [--trips 15000]`. Every run is a process of its own,
forked from one with the libraries imported, as the daemon's are. All but the newest span were analysed the time before.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from ctd.components import transform
from ctd.components.api import Work
from ctd.components.csv_examples import parse_csv, to_examples
from ctd.components.examples_io import digest_of_splits, write_split
from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.work import Request
from ctd.specs.nodes import TransformSpec
from examples.taxi.generate import write_day

TAXI = Path(__file__).parents[1] / "examples/taxi"
DAY = date(2024, 3, 4)


@dataclass(frozen=True)
class Took:
    """Seconds of one run: by the clock, and of the processor."""

    wall: float
    cpu: float


def in_a_child(work: Callable[[], None]) -> Took:
    """Do the work in a forked process."""
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except Exception:  # noqa: BLE001  said here; the parent ends
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit("the run failed")
    return Took(time.monotonic() - begin, used.ru_utime + used.ru_stime)


def write_span(folder: Path, number: int, trips: int) -> None:
    """A day of trips as Examples, two thirds of them to train on, and their digest beside them."""
    write_day(folder / "csv", DAY + timedelta(days=number), trips=trips)
    (file,) = (folder / "csv").rglob("*.csv")
    records = to_examples([parse_csv(file.read_bytes(), str(file))])
    border = len(records) * 2 // 3
    splits = {"train": records[:border], "eval": records[border:]}
    for split, some in splits.items():
        write_split(folder, split, some)
    (folder / "digest").write_text(digest_of_splits(splits))


def examples(folder: Path, number: int) -> Artifact:
    digest = (folder / "digest").read_text()
    return Artifact(ArtifactType.EXAMPLES, str(folder), digest, number, None, {"split_names": '["train", "eval"]'})


@dataclass(frozen=True)
class Bench:
    """Spans below `root`, and the windows that are transformed of them."""

    root: Path

    def window(self, first: int, size: int) -> tuple[Artifact, ...]:
        return tuple(examples(self.root / f"span-{n}", n) for n in range(first, first + size))

    def run(self, window: tuple[Artifact, ...], cache: Path | None, *, materialize: bool) -> tuple[Took, Path]:
        """Transform a window; what it took, and the cache for the next time."""
        staging = Path(tempfile.mkdtemp(dir=self.root))
        spec = TransformSpec(kind="transform", materialize=materialize)
        (piece,) = spec.pieces()
        inputs = {"examples": window, "schema": (Artifact(ArtifactType.SCHEMA, str(self.root / "schema")),)}
        if cache is not None:
            inputs["analyzer_cache"] = (Artifact(ArtifactType.TRANSFORM_CACHE, str(cache)),)
        request = Request(
            1,
            "bench",
            "transform",
            "transform",
            "all",
            piece.entrypoint,
            str(staging),
            spec.model_dump(mode="json"),
            piece.makes,
            inputs=inputs,
            module=str(TAXI / "taxi.py"),
        )
        took = in_a_child(lambda: transform.run(Work(request)) and None)
        return took, staging / "updated_analyzer_cache"


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 7, 30])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trips", type=int, default=15000, help="rows of a span")
    options = parser.parse_args(arguments)
    importlib.import_module("keras")  # as in the daemon's template; the module imports it
    cases = {f"materialize {m}, {c}": (m, c) for m in (False, True) for c in ("cache", "no cache")}
    found: dict[tuple[int, str], list[Took]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        (bench.root / "schema").mkdir()
        (bench.root / "schema/schema.pbtxt").write_bytes((TAXI / "schema.pbtxt").read_bytes())
        for number in range(max(options.windows) + 1):
            in_a_child(lambda n=number: write_span(bench.root / f"span-{n}", n, options.trips))
        before = {size: bench.run(bench.window(0, size), None, materialize=False)[1] for size in options.windows}
        for number in range(options.rounds):
            for size in options.windows:
                for name, (materialize, cached) in cases.items():
                    known = before[size] if cached == "cache" else None
                    took, _ = bench.run(bench.window(1, size), known, materialize=materialize)
                    found.setdefault((size, name), []).append(took)
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    _show(options.windows, list(cases), found)
    print(json.dumps({f"{size} {name}": [t.wall for t in some] for (size, name), some in found.items()}))


def _show(windows: list[int], cases: list[str], found: dict[tuple[int, str], list[Took]]) -> None:
    print(
        "\nTransform when one span is new: seconds by the clock (of the processor), times those of the first window\n"
    )
    print("| window | " + " | ".join(cases) + " |")
    print("|---|" + "---|" * len(cases))
    for size in windows:
        cells = []
        for case in cases:
            wall, cpu = (statistics.median(getattr(t, what) for t in found[size, case]) for what in ("wall", "cpu"))
            first = statistics.median(t.cpu for t in found[windows[0], case])
            cells.append(f"{wall:.2f} ({cpu:.2f}), x {cpu / first:.2f}")
        print(f"| {size} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
