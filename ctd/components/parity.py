"""Whether a converted model still answers as the SavedModel does: both are asked about the same real examples."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctd.components.distance import apart
from ctd.deploy.conversion import Feeds
from ctd.specs.metric_values import more_is_better

# Limits are decimal numbers that people write; 0.80 - 0.79 must count as 0.01.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Difference:
    """How far one output is from the SavedModel's over all examples; `at` is the example where it is furthest.

    `differing` is the share of answers that are not the same, of what is no float.
    """

    most: float
    mean: float
    at: int
    differing: float | None = None


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
    own_limits: dict[str, float] = field(default_factory=dict)  # `max_difference` of single outputs
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


def compare(
    report: Report, expected: Sequence[Feeds], served: Sequence[Feeds], numbers: Sequence[Sequence[int]] = ()
) -> None:
    """Fill in the differences of every output, and why the answers are not accepted, if they are not.

    Batches are compared one by one, since their shapes may differ. `numbers` are those of each batch's examples; by
    default they are counted.
    """
    numbers = numbers or _counted(expected)
    empty = True
    for name in sorted({name for batch in expected for name in batch}):
        found = _Differences()
        for own, other, of in zip((b[name] for b in expected), (b.get(name) for b in served), numbers, strict=True):
            wrong = _of_another_form(name, own, other, served[0])
            if other is None or wrong:
                report.reason = report.reason or wrong
                break
            found.add(own, np.asarray(other), of)
        else:
            report.outputs[name] = found.all
            report.reason = report.reason or _complaint(name, found.all, report)
            empty = empty and not found.gaps
    if empty and not report.reason:
        report.reason = "all answers are empty, so nothing was compared"


def _counted(batches: Sequence[Feeds]) -> Sequence[Sequence[int]]:
    sizes = [max((len(value) for value in batch.values() if value.ndim), default=1) for batch in batches]
    ends = [0, *itertools.accumulate(sizes)]
    return [range(begin + 1, end + 1) for begin, end in itertools.pairwise(ends)]


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


def _of_another_form(name: str, own: NDArray[Any], other: NDArray[Any] | None, answer: Feeds) -> str:
    if other is None:
        return f"there is no output {name!r}, only {', '.join(sorted(answer))}"
    if own.shape != np.shape(other):
        return f"output {name!r} has shape {np.shape(other)} instead of {own.shape}"
    return ""


@dataclass
class _Differences:
    """One output over all batches. Rows are answers to single examples, or one to a whole batch."""

    gaps: list[NDArray[np.float64]] = field(default_factory=list)  # the furthest value of each row
    unequal: list[NDArray[np.bool_]] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    floats: bool = True

    def add(self, own: NDArray[Any], other: NDArray[Any], numbers: Sequence[int]) -> None:
        """Take in one batch of answers of the same shape, to the examples of these numbers."""
        self.floats = self.floats and own.dtype.kind in "fc"
        if not own.size:
            return
        a, b = (side.reshape(len(side) if side.ndim else 1, -1) for side in (own, other))
        numeric = a.dtype.kind in "fciub" and b.dtype.kind in "fciub"
        wrong = apart(a, b) != 0 if numeric else a.astype(str) != b.astype(str)
        gaps = apart(a, b) if numeric else wrong.astype(np.float64)
        self.gaps.append(gaps.max(axis=1))
        self.unequal.append(wrong.any(axis=1))
        self.at += numbers if len(a) == len(numbers) else [numbers[0]] * len(a)

    @property
    def all(self) -> Difference:
        if not self.gaps:
            return Difference(0.0, 0.0, 0, None if self.floats else 0.0)
        gaps = np.concatenate(self.gaps)
        differing = None if self.floats else float(np.concatenate(self.unequal).mean())
        return Difference(float(gaps.max()), float(gaps.mean()), self.at[int(gaps.argmax())], differing)


def _complaint(name: str, found: Difference, report: Report) -> str:
    """What is beyond its limit. Steps between whole numbers or classes are no distances, unless somebody says so."""
    limits, where = report.limits, f" (example {found.at})"
    stepped = found.differing is not None and name not in report.own_limits
    held: list[tuple[str, float | None, float | None]]
    if stepped:
        held = [("max_differing", found.differing, limits.get("max_differing", 0.0))]
    else:
        most = report.own_limits.get(name, limits.get("max_difference"))
        held = [("max_difference", found.most, most), ("mean_difference", found.mean, limits.get("mean_difference"))]
    for what, value, limit in held:
        if limit is not None and value is not None and not value <= limit + _ROUNDING * (what == "max_differing"):
            return f"output {name!r}: {what} {value:.3g} > {limit:.3g}{where if what != 'mean_difference' else ''}"
    return ""
