"""Whether a converted model still answers as the SavedModel does: both are asked about the same real examples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctd.deploy.conversion import Feeds
from ctd.specs.metric_values import more_is_better

# Limits are decimal numbers that people write; 0.80 - 0.79 must count as 0.01.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Difference:
    """How far one output is from the SavedModel's over all examples; `at` is where it is furthest (from 1)."""

    most: float
    mean: float
    at: int


@dataclass(frozen=True)
class Change:
    """A metric of the evaluator by the answers of the model itself and of the converted one; None is no number."""

    model: float | None
    converted: float | None
    worse: float | None
    limit: float


@dataclass
class Report:
    """What was compared and what came of it. The first complaint decides."""

    target: str
    model_id: int
    signature: str
    examples: int
    limits: dict[str, float]
    outputs: dict[str, Difference] = field(default_factory=dict)
    metrics: dict[str, Change] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    reason: str = ""

    @property
    def accepted(self) -> bool:
        return not self.reason


class Refused(Exception):
    """The converted model answers otherwise than the model itself. An outcome, not an error: the report says why."""

    def __init__(self, report: Report) -> None:
        super().__init__(report.reason)
        self.report = report


def compare(report: Report, expected: Sequence[Feeds], served: Sequence[Feeds]) -> None:
    """Fill in the differences of every output, and why the answers are not accepted, if they are not."""
    for name in sorted({name for batch in expected for name in batch}):
        theirs = [batch.get(name) for batch in served]
        own = np.concatenate([batch[name] for batch in expected])
        if any(batch is None for batch in theirs):
            report.reason = report.reason or f"there is no output {name!r}, only {', '.join(sorted(served[0]))}"
            continue
        other = np.concatenate([np.asarray(batch) for batch in theirs])
        if own.shape != other.shape:
            report.reason = report.reason or f"output {name!r} has shape {other.shape} instead of {own.shape}"
            continue
        report.outputs[name] = found = _difference(own, other)
        report.reason = report.reason or _complaint(name, found, report.limits)


def compare_metrics(
    report: Report,
    expected: Mapping[str, float | None],
    served: Mapping[str, float | None],
    limits: Mapping[str, float],
    classes: Mapping[str, str],
) -> None:
    """Fill in how metrics changed, and why that is not accepted, if it is not.

    `limits` and `classes` are by name; a metric that has a number at several places has a name and more at each.
    """
    for name, own in expected.items():
        metric = name.partition(" ")[0]
        other = served.get(name)
        worse = None if own is None or other is None else _worse(classes[metric], own, other)
        report.metrics[name] = change = Change(own, other, worse, limits[metric])
        report.reason = report.reason or _metric_complaint(name, change)


def _worse(metric: str, own: float, other: float) -> float:
    """How much worse the converted model is; where neither more nor less is better, any change is."""
    better = more_is_better(metric)
    return abs(own - other) if better is None else own - other if better else other - own


def _metric_complaint(name: str, change: Change) -> str:
    if change.worse is None:
        which = "the model itself" if change.model is None else "the converted model"
        return f"{name} of {which} is not a number on these examples"
    if change.worse <= change.limit + _ROUNDING:
        return ""
    return (
        f"{name} {change.converted:.4g} after {change.model:.4g} of the model itself: "
        f"worse by {change.worse:.3g} > {change.limit:g}"
    )


def _difference(own: NDArray[Any], other: NDArray[Any]) -> Difference:
    if own.dtype.kind not in "fciub" or other.dtype.kind not in "fciub":
        wrong = own.astype(str) != other.astype(str)
        rows = wrong.reshape(len(wrong), -1).any(axis=1)
        return Difference(float(rows.any()), float(rows.mean()), int(rows.argmax()) + 1)
    # What is no number on one side only is as far off as can be.
    apart = np.abs(own.astype(np.float64) - other.astype(np.float64))
    apart[np.isnan(own.astype(np.float64)) & np.isnan(other.astype(np.float64))] = 0
    apart[np.isnan(apart)] = math.inf
    rows = apart.reshape(len(apart), -1).max(axis=1)
    return Difference(float(rows.max()), float(rows.mean()), int(rows.argmax()) + 1)


def _complaint(name: str, found: Difference, limits: dict[str, float]) -> str:
    for what, value in (("max_difference", found.most), ("mean_difference", found.mean)):
        if what in limits and not value <= limits[what]:
            where = f" (example {found.at})" if what == "max_difference" else ""
            return f"output {name!r}: {what} {value:.3g} > {limits[what]:.3g}{where}"
    return ""
