"""Judging measured metrics against limits: pure, so that tables can test it. What is not checked is never a yes."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ctd.core.errors import SpecError
from ctd.specs.evaluator import Threshold

# Limits are decimal numbers that people write; 0.80 - 0.79 must count as 0.01.
_ROUNDING = 1e-9

_MORE_IS_BETTER = {
    *("AUC", "Recall", "TruePositives", "TP", "TrueNegatives", "TN", "Specificity", "TPR", "TNR", "PPV", "NPV"),
    *("NegativePredictiveValue", "PrecisionAtRecall", "RecallAtPrecision", "RecallAtFalsePositiveRate"),
    *("SensitivityAtSpecificity", "SpecificityAtSensitivity", "AUCPrecisionRecall", "MatthewsCorrelationCoefficient"),
    *("FowlkesMallowsIndex", "Informedness", "Markedness", "DiagnosticOddsRatio", "PositiveLikelihoodRatio"),
    *("NDCG", "ExactMatch", "CosineSimilarity", "SquaredPearsonCorrelation", "MaxRecall", "SetMatchRecall"),
    *("CoefficientOfDiscrimination", "RelativeCoefficientOfDiscrimination", "COCOMeanAverageRecall"),
    *("COCOAverageRecall", "ObjectDetectionRecall", "ObjectDetectionMaxRecall", "ObjectDetectionPrecisionAtRecall"),
    "SemanticSegmentationTruePositive",
}
_LESS_IS_BETTER = {
    *("FalsePositives", "FP", "FalseNegatives", "FN", "FPR", "FNR", "FallOut", "MissRate", "FalseDiscoveryRate"),
    *("FalseOmissionRate", "NegativeLikelihoodRatio", "MinLabelPosition", "KLDivergence", "Poisson"),
    "SemanticSegmentationFalsePositive",
}
_MORE_ENDINGS = ("Accuracy", "Precision", "Score", "IoU")
_LESS_ENDINGS = ("Error", "Loss", "Crossentropy", "CrossEntropy", "Hinge")


def more_is_better(metric: str) -> bool | None:
    """Which way a metric improves, by its TFMA or Keras class; nothing if there is no better, as for a mean."""
    if metric in _MORE_IS_BETTER or metric.endswith(_MORE_ENDINGS):
        return True
    if metric in _LESS_IS_BETTER or metric.endswith(_LESS_ENDINGS):
        return False
    return None


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

    Raises SpecError for a comparison with the baseline by a metric that has no better and worse.
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
            checks.extend(_value_checks(metric, limit, row))
            if limit.not_worse_than_baseline_by is not None and before is not None:
                compared = _comparison(metric, limit.not_worse_than_baseline_by, row, before.get(row.slice))
                if compared:
                    checks.append(compared)
                else:
                    alone.add(row.slice)
    if before is not None:
        alone |= before.keys() - {row.slice for row in candidate}
    blessed, reason = _decide(checks, len(candidate), before is not None, why_alone)
    return Verdict(blessed, reason, checks, len(small), len(alone), len(candidate))


def _check_directions(limits: Mapping[str, Threshold]) -> None:
    for metric, limit in limits.items():
        if limit.not_worse_than_baseline_by is not None and more_is_better(metric) is None:
            raise SpecError(
                f"metrics.{metric}.not_worse_than_baseline_by: for {metric} neither more nor less is better",
                hint="Use at_least and at_most for this metric.",
            )


def _value_checks(metric: str, limit: Threshold, row: Row) -> Iterator[Check]:
    value = row.metrics.get(metric)
    if limit.at_least is not None:
        passed = value is not None and value >= limit.at_least - _ROUNDING
        yield Check(row.label, metric, Limit.AT_LEAST, limit.at_least, value, None, row.examples, passed)
    if limit.at_most is not None:
        passed = value is not None and value <= limit.at_most + _ROUNDING
        yield Check(row.label, metric, Limit.AT_MOST, limit.at_most, value, None, row.examples, passed)


def _comparison(metric: str, allowed: float, row: Row, before: Row | None) -> Check | None:
    """The change against the baseline; nothing where the baseline has no number to compare with."""
    old = before.metrics.get(metric) if before else None
    if old is None:
        return None
    value = row.metrics.get(metric)
    worse = math.inf if value is None else (old - value if more_is_better(metric) else value - old)
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
            f"not blessed: no limit could be checked{alone}. Write `at_least:` or `at_most:` for a metric of the "
            "evaluator, and see that `min_examples` leaves a slice"
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
