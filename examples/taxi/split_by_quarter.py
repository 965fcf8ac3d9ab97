#!/usr/bin/env python3
"""Cut a CSV of real taxi trips into spans by quarter: `split_by_quarter.py data.csv realdata`.

Each quarter of `trip_start_timestamp` (seconds since 1970) becomes a folder named by year and quarter, such as
`realdata/spans/20134/trips.csv`, with the marker `_SUCCESS` last. A `schema.pbtxt` beside the CSV comes along, to
`realdata/schema.pbtxt`. Spans that are there already stay as they are if nothing changed: cutting again is no new work.
"""

import argparse
import csv
import shutil
import sys
from collections import defaultdict
from datetime import datetime, timezone
from pathlib import Path

CLOCK = "trip_start_timestamp"
SPANS, FILE, MARKER, SCHEMA = "spans", "trips.csv", "_SUCCESS", "schema.pbtxt"


def quarter(timestamp: str) -> int:
    """The span of a trip: 20134 is the fourth quarter of 2013."""
    at = datetime.fromtimestamp(int(timestamp), timezone.utc)
    return 10 * at.year + (at.month + 2) // 3


def write_span(folder: Path, header: list[str], rows: list[list[str]]) -> bool:
    """Write one span, the file whole and the marker last; False if that very content was there."""
    folder.mkdir(parents=True, exist_ok=True)
    draft, final, marker = folder / f".{FILE}.tmp", folder / FILE, folder / MARKER
    with draft.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    if marker.exists() and final.exists() and final.read_bytes() == draft.read_bytes():
        draft.unlink()
        return False
    marker.unlink(missing_ok=True)
    draft.replace(final)
    marker.touch()
    return True


def main(arguments: list[str] | None = None) -> int:
    """Cut the file that the command line names and tell what became of each quarter."""
    parser = argparse.ArgumentParser(description="Cut a CSV of taxi trips into spans by quarter.")
    parser.add_argument("csv", type=Path, help=f"trips with a column {CLOCK}")
    parser.add_argument("out", type=Path, help="folder for spans/ and the schema")
    options = parser.parse_args(arguments)
    spans: dict[int, list[list[str]]] = defaultdict(list)
    with options.csv.open(newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if CLOCK not in header:
            parser.error(f"{options.csv} has no column {CLOCK}")
        clock = header.index(CLOCK)
        for row in reader:
            spans[quarter(row[clock])].append(row)
    for span, rows in sorted(spans.items()):
        folder = options.out / SPANS / str(span)
        fresh = write_span(folder, header, rows)
        print(f"{folder / FILE}: {len(rows)} trips{'' if fresh else ', as before'}")
    schema = options.csv.with_name(SCHEMA)
    if schema.exists():
        print(shutil.copyfile(schema, options.out / SCHEMA))
    return 0


if __name__ == "__main__":
    sys.exit(main())
