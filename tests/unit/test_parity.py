"""What counts as the same answer of a converted model, and as a metric that is not worse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ctd.components.parity import Report, compare, compare_metrics
from ctd.deploy.conversion import Feeds


def report(**limits: float) -> Report:
    return Report("mobile", 1, "numbers", 3, limits)


def answers(*values: float, name: str = "p") -> list[Feeds]:
    return [{name: np.array(values, dtype=np.float32)[:, None]}]


@pytest.mark.parametrize(
    ("served", "reason"),
    [
        (answers(0.1, 0.2, 0.3), ""),
        (answers(0.1, 0.2, 0.31), ""),
        (answers(0.1, 0.7, 0.3), r"output 'p': max_difference 0.5 > 0.1 (example 2)"),
        (answers(0.1, 0.2, math.nan), r"output 'p': max_difference inf > 0.1 (example 3)"),
        (answers(0.1, 0.2), r"output 'p' has shape (2, 1) instead of (3, 1)"),
        (answers(0.1, 0.2, 0.3, name="q"), r"there is no output 'p', only q"),
    ],
    ids=["equal", "within the limit", "beyond it", "no number", "fewer", "another name"],
)
def test_answers_are_held_to_the_limit_and_the_first_complaint_is_told(served: list[Feeds], reason: str) -> None:
    said = report(max_difference=0.1)
    compare(said, answers(0.1, 0.2, 0.3), served)
    assert said.reason == reason
    assert said.accepted is (not reason)


def test_what_is_no_number_for_both_is_no_difference() -> None:
    said = report(max_difference=0.0)
    compare(said, answers(1, math.nan), answers(1, math.nan))
    assert said.accepted


@pytest.mark.parametrize(
    ("own", "served", "reason"),
    [
        (math.inf, math.inf, ""),
        (-math.inf, -math.inf, ""),
        (math.inf, -math.inf, "output 'p': max_difference inf > 0 (example 2)"),
        (-math.inf, 1e38, "output 'p': max_difference inf > 0 (example 2)"),
    ],
)
def test_the_same_infinity_is_no_difference(own: float, served: float, reason: str) -> None:
    said = report(max_difference=0.0)
    compare(said, answers(1, own), answers(1, served))
    assert said.reason == reason


def batches(*values: Any) -> list[Feeds]:
    return [{"p": np.array(value)} for value in values]


@pytest.mark.parametrize(
    ("own", "served", "reason"),
    [
        (batches(1.0, 2.0), batches(1.0, 2.0), ""),
        (batches(1.0, 2.0), batches(1.0, 2.5), "output 'p': max_difference 0.5 > 0.1 (example 2)"),
        (batches([[1.0, 2.0]], [[1.0]]), batches([[1.0, 2.0]], [[1.0]]), ""),
        (batches([[1.0, 2.0]], [[1.0]]), batches([[1.0, 2.0]], [[2.0]]), "max_difference 1 > 0.1 (example 2)"),
        (batches(np.zeros((0, 4)), [[1.0]]), batches(np.zeros((0, 4)), [[1.0]]), ""),
        (batches(np.zeros((3, 0))), batches(np.zeros((3, 0))), "all answers are empty, so nothing was compared"),
    ],
    ids=["one number", "another number", "of two lengths", "of two lengths, another", "sometimes empty", "empty"],
)
def test_answers_of_any_shape_get_a_verdict(own: list[Feeds], served: list[Feeds], reason: str) -> None:
    said = report(max_difference=0.1)
    compare(said, own, served)
    assert said.reason.endswith(reason) if reason else said.accepted


def test_an_example_is_told_by_its_number() -> None:
    said = report(max_difference=0.1)
    compare(said, batches([1.0], [1.0, 1.0]), batches([1.0], [1.0, 2.0]), [[7], [9, 12]])
    assert said.reason.endswith("(example 12)")


@pytest.mark.parametrize(
    ("served", "limits", "own_limits", "reason"),
    [
        ([0, 1, 2, 4], {"max_differing": 0.25}, {}, ""),
        ([0, 1, 0, 9], {"max_differing": 0.25}, {}, "output 'p': max_differing 0.5 > 0.25 (example 4)"),
        ([0, 1, 2, 4], {}, {}, "output 'p': max_differing 0.25 > 0 (example 4)"),
        ([0, 1, 2, 4], {"max_differing": 0.0}, {"p": 1.0}, ""),
        ([0, 1, 2, 5], {"max_differing": 1.0}, {"p": 1.0}, "output 'p': max_difference 2 > 1 (example 4)"),
    ],
)
def test_classes_are_held_to_a_share_of_examples_unless_their_distance_has_a_limit(
    served: list[int], limits: dict[str, float], own_limits: dict[str, float], reason: str
) -> None:
    said = Report("mobile", 1, "numbers", 4, {"max_difference": 0.05, **limits}, own_limits)
    compare(said, batches([0, 1, 2, 3]), batches(served))
    assert said.reason == reason


def test_an_output_of_floats_may_have_a_limit_of_its_own() -> None:
    said = Report("mobile", 1, "numbers", 4, {"max_difference": 0.05}, {"p": 2.0})
    compare(said, answers(1.0), answers(2.0))
    assert said.accepted


def test_a_mean_has_a_limit_of_its_own() -> None:
    said = report(max_difference=1.0, mean_difference=0.1)
    compare(said, answers(0, 0, 0, 0), answers(0.5, 0.5, 0, 0))
    assert said.reason == "output 'p': mean_difference 0.25 > 0.1"


@pytest.mark.parametrize(
    ("metric", "own", "other", "reason"),
    [
        ("BinaryAccuracy", 0.80, 0.79, ""),
        ("BinaryAccuracy", 0.80, 0.95, ""),
        ("BinaryAccuracy", 0.80, 0.78, "BinaryAccuracy 0.78 after 0.8 of the model itself: worse by 0.02 > 0.01"),
        ("BinaryCrossEntropy", 0.3, 0.2, ""),
        ("BinaryCrossEntropy", 0.2, 0.3, "BinaryCrossEntropy 0.3 after 0.2 of the model itself: worse by 0.1 > 0.01"),
        ("MeanPrediction", 0.3, 0.2, "MeanPrediction 0.2 after 0.3 of the model itself: worse by 0.1 > 0.01"),
        ("MeanPrediction", 0.2, 0.3, "MeanPrediction 0.3 after 0.2 of the model itself: worse by 0.1 > 0.01"),
        ("AUC", None, None, "AUC of the model itself is not a number on these examples"),
        ("AUC", 0.5, None, "AUC of the converted model is not a number on these examples"),
    ],
)
def test_a_metric_may_be_worse_by_its_limit_and_better_by_anything(
    metric: str, own: float | None, other: float | None, reason: str
) -> None:
    said = report()
    compare_metrics(said, {metric: own}, {metric: other}, {metric: 0.01}, {metric: metric})
    assert said.reason == reason
    assert (said.metrics[metric].model, said.metrics[metric].converted) == (own, other)


def test_a_metric_by_a_name_of_the_users_own_gets_worse_as_its_class_does() -> None:
    said = report()
    compare_metrics(said, {"off": 0.3}, {"off": 0.2}, {"off": 0.01}, {"off": "MeanSquaredError"})
    assert said.reason == ""
    compare_metrics(said, {"off": 0.2}, {"off": 0.3}, {"off": 0.01}, {"off": "MeanSquaredError"})
    assert said.reason == "off 0.3 after 0.2 of the model itself: worse by 0.1 > 0.01"


def test_a_metric_at_several_places_is_held_to_its_limit_at_each() -> None:
    said = report()
    own, other = {"Precision topK:1": 0.9, "Precision topK:3": 0.8}, {"Precision topK:1": 0.9, "Precision topK:3": 0.5}
    compare_metrics(said, own, other, {"Precision": 0.1}, {"Precision": "Precision"})
    assert said.reason.startswith("Precision topK:3 0.5 after 0.8")


def test_a_complaint_about_answers_stays_when_metrics_are_well() -> None:
    said = report(max_difference=0.0)
    compare(said, answers(1.0), answers(2.0))
    compare_metrics(said, {"AUC": 1.0}, {"AUC": 1.0}, {"AUC": 0.0}, {"AUC": "AUC"})
    assert said.reason.startswith("output 'p'")
    assert said.metrics["AUC"].worse == 0
