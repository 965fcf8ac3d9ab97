"""Judging measured metrics against limits: pure, so that tables can test it. What is not checked is never a yes."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ctd.core.errors import SpecError
from ctd.specs.evaluator import Threshold
from ctd.specs.metric_names import INFINITE_PREDICTIONS, NAN_PREDICTIONS
from ctd.specs.metric_values import COMPARISONS, more_is_better, no_direction

# What predictions are that are no numbers, by what an evaluation calls their count.
_ODD = {NAN_PREDICTIONS: "NaN", INFINITE_PREDICTIONS: "infinite"}
# Limits are decimal numbers that people write; 0.80 - 0.79 must count as 0.01.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Row:
    """The metrics of one model on one slice. A value of None was computed and is not a finite number."""

    slice: tuple[tuple[str, str], ...]
    metrics: Mapping[str, float | None]
    examples: int

    @property
    def label(self) -> str:
        return ",".join(f"{feature}={value}" for feature, value in self.slice) or "overall"


class Limit(str, enum.Enum):
    """What a value was held against; named as in the spec."""

    AT_LEAST = "at_least"
    AT_MOST = "at_most"
    BASELINE = "not_worse_than_baseline_by"


@dataclass(frozen=True)
class Check:
    """One value held against one limit. `value` None refuses: there was nothing to hold against it."""

    slice: str
    metric: str
    kind: Limit
    limit: float
    value: float | None
    baseline: float | None
    examples: int
    passed: bool

    def __str__(self) -> str:
        if self.metric in _ODD:
            return f"{self.slice}: {self.value:,.0f} of {self.examples:,} predictions are {_ODD[self.metric]}"
        if self.value is None:
            return f"{self.slice}: {self.metric} is missing or not a number"
        if self.kind is Limit.BASELINE and self.baseline is not None:
            value, baseline = _apart(self.value, self.baseline)
            return (
                f"{self.slice}: {self.metric} {value} after {baseline} of the baseline, "
                f"{self.kind.value} {self.limit:g}"
            )
        value, limit = _apart(self.value, self.limit)
        met, missed = (">=", "<") if self.kind is Limit.AT_LEAST else ("<=", ">")
        return f"{self.slice}: {self.metric} {value} {met if self.passed else missed} {limit} {self.kind.value}"


@dataclass(frozen=True)
class Verdict:
    """Yes or no, why, and everything that was looked at."""

    blessed: bool
    reason: str
    checks: Sequence[Check] = ()
    too_small: int = 0  # slices with fewer examples than a limit asks for
    not_compared: int = 0  # slices that only one of the two models has a number for
    slices: int = 0


def judge(
    limits: Mapping[str, Threshold], candidate: Sequence[Row], baseline: Sequence[Row] | None, why_alone: str = ""
) -> Verdict:
    """Bless if every limit that can be checked holds and at least one could be; `baseline` is None without one.

    Raises SpecError for a comparison with the baseline by a metric that has no better and worse, which specs refuse.
    """
    _check_directions(limits)
    before = None if baseline is None else {row.slice: row for row in baseline}
    checks: list[Check] = []
    small, alone = set(), set()
    for metric, limit in limits.items():
        if not limit.judged:
            continue
        rows = [row for row in candidate if limit.covers([feature for feature, _ in row.slice])]
        for row in rows:
            if row.examples < limit.min_examples:
                small.add(row.slice)
                continue
            found, lacks = _row_checks(metric, limit, row, (before or {}).get(row.slice))
            checks += found
            if lacks and before is not None:
                alone.add(row.slice)
    if before is not None:
        alone |= before.keys() - {row.slice for row in candidate}
    checks = [*_of_odd_predictions(candidate, checks), *checks]
    blessed, reason = _decide(checks, len(candidate), before is not None, why_alone)
    return Verdict(blessed, reason, checks, len(small), len(alone), len(candidate))


def _of_odd_predictions(candidate: Sequence[Row], checks: Sequence[Check]) -> Iterator[Check]:
    """A prediction that is NaN refuses. Infinite ones may do so, through metrics that are no number for them."""
    without_number = {check.slice for check in checks if check.value is None}
    for row in candidate:
        for name in _ODD:
            many = row.metrics.get(name)
            if many and (name == NAN_PREDICTIONS or row.label in without_number):
                yield Check(row.label, name, Limit.AT_MOST, 0.0, many, None, row.examples, passed=False)


def _check_directions(limits: Mapping[str, Threshold]) -> None:
    for metric, limit in limits.items():
        aimless = no_direction(limit.class_of(metric)) if limit.not_worse_than_baseline_by is not None else None
        if aimless:
            raise SpecError(f"metrics.{metric}.not_worse_than_baseline_by: {aimless[0]}", hint=aimless[1])


def _row_checks(metric: str, limit: Threshold, row: Row, other: Row | None) -> tuple[list[Check], bool]:
    """The checks of one limit on one slice, and whether the baseline's side of a comparison is missing there."""
    if limit.class_of(metric) in COMPARISONS:
        return ([], True) if other is None else ([*_value_checks(metric, limit, row)], False)
    checks = [*_value_checks(metric, limit, row)]
    if limit.not_worse_than_baseline_by is None:
        return checks, False
    compared = _comparison(metric, limit, row, other)
    return ([*checks, compared], False) if compared else (checks, True)


def _value_checks(metric: str, limit: Threshold, row: Row) -> Iterator[Check]:
    value = row.metrics.get(metric)
    if limit.at_least is not None:
        passed = value is not None and value >= limit.at_least - _ROUNDING
        yield Check(row.label, metric, Limit.AT_LEAST, limit.at_least, value, None, row.examples, passed)
    if limit.at_most is not None:
        passed = value is not None and value <= limit.at_most + _ROUNDING
        yield Check(row.label, metric, Limit.AT_MOST, limit.at_most, value, None, row.examples, passed)


def _comparison(metric: str, limit: Threshold, row: Row, before: Row | None) -> Check | None:
    """The change against the baseline; nothing where the baseline has no number to compare with."""
    old = before.metrics.get(metric) if before else None
    if old is None:
        return None
    value, allowed = row.metrics.get(metric), limit.not_worse_than_baseline_by or 0.0
    better = more_is_better(limit.class_of(metric))
    worse = math.inf if value is None else (old - value if better else value - old)
    passed = worse <= allowed + _ROUNDING
    return Check(row.label, metric, Limit.BASELINE, allowed, value, old, row.examples, passed)


def _decide(checks: Sequence[Check], slices: int, compared: bool, why_alone: str) -> tuple[bool, str]:
    failed = [check for check in checks if not check.passed]
    if failed:
        # The whole before its parts; among parts, the order they were measured in.
        first = next((check for check in failed if check.slice == "overall"), failed[0])
        return False, f"not blessed: {first}" + (f" ({len(failed) - 1} more)" if failed[1:] else "")
    if not checks:
        alone = "" if compared else f" ({why_alone or 'there is no baseline yet'})"
        return False, (
            f"not blessed: no limit could be checked{alone}. Write `at_least:` or `at_most:` for a metric that needs "
            "no baseline, and see that `min_examples` leaves a slice"
        )
    told: dict[tuple[str, Limit], Check] = {}
    for check in checks:
        if check.slice == "overall" or (check.metric, check.kind) not in told:
            told[check.metric, check.kind] = check
    said = ", ".join(str(check).removeprefix("overall: ") for check in told.values())
    against = "" if compared else f"; {why_alone or 'no baseline to compare with'}"
    return True, f"blessed: {slices} slice{'s' if slices != 1 else ''}, {said}{against}"


def _apart(one: float, other: float) -> tuple[str, str]:
    """Two numbers with as many digits as tell them apart."""
    for digits in (4, 6, 9):
        texts = f"{one:.{digits}f}", f"{other:.{digits}f}"
        if texts[0] != texts[1] or one == other:
            return texts
    return repr(one), repr(other)
