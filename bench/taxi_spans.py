"""Spans of real taxi trips for measurements: rows of `taxi/data.csv` at `CTD_REAL_DATA`, drawn anew for each span."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

FILE = "trips.csv"
MARKER = "_SUCCESS"


@dataclass(frozen=True)
class Trips:
    """The header and the rows of a CSV file, as they are, and the schema beside it."""

    header: str
    rows: tuple[str, ...]
    schema: Path

    @classmethod
    def at_real_data(cls) -> Trips:
        """Those of CTD_REAL_DATA. Ends the program with what to do where it is not set."""
        said = os.environ.get("CTD_REAL_DATA")
        path = Path(said or ".", "taxi/data.csv")
        if not said or not path.is_file():
            raise SystemExit("Set CTD_REAL_DATA to the folder that holds taxi/data.csv and taxi/schema.pbtxt.")
        header, *rows = path.read_text().splitlines()
        return cls(header, tuple(rows), path.with_name("schema.pbtxt"))

    def drawn(self, span: int, times: float = 1) -> str:
        """The CSV of a span: rows drawn with replacement, so that no two spans are alike; a span is always the same."""
        count = round(times * len(self.rows))
        chosen = random.Random(span).choices(self.rows, k=count)  # noqa: S311 - a draw, no secret
        return "\n".join((self.header, *chosen, ""))


def drop(folder: Path, text: str) -> Path:
    """Write a span as its folder, the marker last; the path of the marker."""
    folder.mkdir(parents=True)
    (folder / FILE).write_text(text)
    marker = folder / MARKER
    marker.touch()
    return marker
