"""The numbers of an evaluation, as the Evaluator leaves them for everyone but TFMA's viewers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

METRICS_FILE = "metrics.json"
CANDIDATE, BASELINE = "candidate", "baseline"


@dataclass(frozen=True)
class Measured:
    """The metrics of one model on one slice; a value that is not finite is None. No slice: all examples."""

    model: str  # candidate or baseline
    slice: tuple[tuple[str, str], ...]
    metrics: Mapping[str, float | None]
    examples: int

    @property
    def label(self) -> str:
        return ",".join(f"{feature}={value}" for feature, value in self.slice) or "overall"


def read_metrics(evaluation: str) -> tuple[Measured, ...]:
    """All rows of an evaluation, the whole before its parts; none where its files are gone or damaged."""
    try:
        said = json.loads(Path(evaluation, METRICS_FILE).read_text())
        return tuple(
            Measured(
                str(row["model"]),
                tuple((str(feature), str(value)) for feature, value in row["slice"]),
                {str(name): value for name, value in row["metrics"].items()},
                int(row["examples"]),
            )
            for row in said
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()
