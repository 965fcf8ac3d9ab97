"""Metrics of an evaluator: names, classes, and limits that cannot hold, refused before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from ctd.specs.evaluator import EvaluatorSpec
from ctd.specs.load import load_folder
from ctd.specs.schema import pipeline_schema

PIPELINE = """\
pipeline: taxi
module: taxi.py
nodes:
  examples: {kind: example_gen, input: "../data/{SPAN}", format: csv}
  trainer: {kind: trainer}
  evaluator:
    kind: evaluator
    label_key: tips
    metrics:
      BinaryAccuracy: {at_least: 0.75}
      %s
"""


def problems(folder: Path, metric: str) -> list[str]:
    """What is wrong with a pipeline that measures this at line 11."""
    (folder / "specs").mkdir()
    (folder / "targets").mkdir()
    (folder / "specs/taxi.yaml").write_text(PIPELINE % metric)
    found = load_folder(folder / "specs", folder / "targets").problems
    texts = (f"{p.line}: {p.message}. {p.hint}" for said in found.values() for p in said if not p.warning)
    return list(texts)


def evaluator(**metrics: dict[str, Any]) -> EvaluatorSpec:
    return EvaluatorSpec.model_validate({"kind": "evaluator", "label_key": "tips", "metrics": metrics})


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        pytest.param(
            "MeanPrediction: {not_worse_than_baseline_by: 0.1}",
            "metrics.MeanPrediction.not_worse_than_baseline_by: for MeanPrediction neither more nor less is better. "
            "Use at_least and at_most for this metric.",
            id="worse than the baseline by what has no worse",
        ),
        pytest.param(
            "mean: {metric: MeanPrediction, not_worse_than_baseline_by: 0.1}",
            "metrics.mean.not_worse_than_baseline_by: for MeanPrediction neither more nor less is better. ",
            id="the same by a name of its own",
        ),
        pytest.param(
            "SymmetricFlipRate: {not_worse_than_baseline_by: 0.1}",
            "metrics.SymmetricFlipRate.not_worse_than_baseline_by: SymmetricFlipRate compares with the baseline by "
            "itself. Use at_most or at_least for this metric.",
            id="a comparison of a comparison",
        ),
        pytest.param(
            "CalibrationPlot: {at_least: 0.1}",
            "metrics.CalibrationPlot can have no limit: CalibrationPlot is a plot. Take the limits out: it is computed",
            id="a limit on a plot",
        ),
        pytest.param(
            "Rouge: {config: {rouge_type: rouge1}, at_least: 0.1}",
            "metrics.Rouge can have no limit: Rouge is three numbers. Take the limits out",
            id="a limit on three numbers",
        ),
        pytest.param(
            "BooleanFlipRates: {at_most: 0.1}",
            "metrics.BooleanFlipRates can have no limit: BooleanFlipRates is five numbers. Limit SymmetricFlipRate, ",
            id="a limit on five numbers",
        ),
        pytest.param(
            "Precision: {config: {thresholds: [0.3, 0.5]}, at_least: 0.1}",
            "metrics.Precision can have no limit: Precision with several thresholds is a number for each. Ask for each "
            "by a name of your own, as `precision_a: {metric: Precision, config: {thresholds: 0.3}}`.",
            id="a limit on several thresholds",
        ),
        pytest.param(
            "FBetaScore: {at_least: 0.1}",
            "metrics.FBetaScore can have no limit: FBetaScore without `average` is a number for each class. Write ",
            id="a limit on several classes",
        ),
        pytest.param(
            "NDCG: {}",
            "NDCG cannot be measured: it is of groups of examples, and an evaluator has no key of groups. Take it out.",
            id="a metric of groups",
        ),
        pytest.param(
            "mine: {metric: TotalAttributions}",
            "TotalAttributions cannot be measured: it is of attributions, which no signature gives. Take it out.",
            id="a metric of attributions",
        ),
        pytest.param(
            "best_five: {at_least: 0.1}",
            "there is no metric 'best_five'. Metrics are named by their class in TFMA or Keras, such as "
            "BinaryAccuracy. A name of your own needs `metric:` with the class.",
            id="a name without a class",
        ),
        pytest.param(
            "best_five: {metric: Precison}",
            "there is no metric 'Precison'. Did you mean Precision?",
            id="a name of no class",
        ),
        pytest.param(
            "Top5: {metric: Precision}",
            "'Top5' cannot be a metric's own name: it has lower-case letters, digits, - and _. Such as 'top5'.",
            id="a name with capital letters",
        ),
        pytest.param(
            "AUC: {metric: Precision}",
            "'AUC' cannot be a metric's own name: it has lower-case letters, digits, - and _. Write 'auc', or only",
            id="a class as the name of another",
        ),
        pytest.param(
            "AUC: {config: {name: Area, curve: PR}}",
            "metrics.AUC.config.name: a metric is named by its key. Write `area: {metric: AUC, ..}`.",
            id="a name in TFMA's arguments",
        ),
        pytest.param(
            "binary_accuracy: {metric: AUC}",
            "the metrics BinaryAccuracy and binary_accuracy would have the same name. Give one of them another.",
            id="names that are one in TFMA",
        ),
        pytest.param(
            "example_count: {metric: AUC}",
            "the metrics ExampleCount and example_count would have the same name. Give one of them another.",
            id="the name of what is always measured",
        ),
    ],
)
def test_what_cannot_be_measured_or_held_is_refused_at_its_line(tmp_path: Path, metric: str, said: str) -> None:
    (found,) = problems(tmp_path, metric)
    assert found.startswith(f"11: {said}")


@pytest.mark.parametrize(
    "metric",
    [
        "CalibrationPlot: {}",
        "Precision: {config: {thresholds: [0.3, 0.5]}}",
        "Precision: {config: {thresholds: [0.3]}, at_least: 0.1}",
        "AUC: {config: {thresholds: [0.1, 0.3, 0.5]}, at_least: 0.1}",
        "FBetaScore: {config: {average: macro}, at_least: 0.1}",
        "SymmetricFlipRate: {at_most: 0.1}",
        "MeanPrediction: {at_least: 0.1, at_most: 0.2}",
        "precision_at_5: {metric: Precision, config: {top_k: 5}, at_least: 0.1, not_worse_than_baseline_by: 0.1}",
    ],
)
def test_what_can_be_measured_and_held_is_accepted(tmp_path: Path, metric: str) -> None:
    assert problems(tmp_path, metric) == []


def test_metrics_without_a_name_of_their_own_are_settled_as_they_were() -> None:
    metrics, verdict = evaluator(AUC={"at_least": 0.5, "config": {"curve": "PR"}}, Recall={}).pieces()
    assert metrics.settings == {"label_key": "tips", "metrics": {"AUC": {"curve": "PR"}, "Recall": {}}}
    assert verdict.settings == {"limits": {"AUC": {"at_least": 0.5}, "Recall": {}}}
    assert (metrics.version, verdict.version) == (1, 1)


def test_the_class_of_a_name_is_part_of_what_is_measured() -> None:
    five, other = (evaluator(best={"metric": m, "config": {"top_k": 5}}).pieces() for m in ("Precision", "Recall"))
    assert five[0].settings != other[0].settings
    assert evaluator(best={"metric": "Precision", "at_least": 0.1}).pieces()[0].settings == (
        evaluator(best={"metric": "Precision", "at_least": 0.2}).pieces()[0].settings
    )


def test_evaluations_that_lacked_a_comparison_are_made_anew() -> None:
    assert {piece.version for piece in evaluator(flips={"metric": "SymmetricFlipRate"}).pieces()} == {2}


@pytest.mark.parametrize(("name", "valid"), [("AUC", True), ("precision_at_5", True), ("Auc", False), ("NDCG", False)])
def test_editors_know_classes_and_allow_names_of_the_users_own(name: str, valid: bool) -> None:
    metrics = pipeline_schema()["$defs"]["EvaluatorSpec"]["properties"]["metrics"]["propertyNames"]
    assert jsonschema.Draft202012Validator(metrics).is_valid(name) is valid


def test_how_classes_are_counted_belongs_to_the_figures_and_not_to_the_limits() -> None:
    def pieces(**said: object) -> list[dict[str, object]]:
        return [dict(piece.settings) for piece in evaluator(recall={"metric": "Recall", **said}).pieces()]

    weights = {"average": "macro", "classes": [0, 1]}
    (plain, limits), (averaged, same_limits) = pieces(at_least=0.5), pieces(at_least=0.5, aggregate=weights)
    assert "of_classes" not in plain  # the fingerprint of what is there stays
    assert averaged["of_classes"] == {"recall": {"aggregate": {"average": "macro", "classes": [0, 1]}}}
    assert limits == same_limits


@pytest.mark.parametrize(
    ("said", "message"),
    [
        pytest.param({"binarize": {}}, "one of class_id and top_k", id="neither"),
        pytest.param({"binarize": {"class_id": 1, "top_k": 2}}, "one of class_id and top_k", id="both"),
        pytest.param({"binarize": {"class_id": -1}}, "greater than or equal to 0", id="no class"),
        pytest.param({"aggregate": {"average": "macro"}}, "macro needs classes", id="macro of what"),
        pytest.param(
            {"aggregate": {"average": "macro", "classes": [0, 1], "weights": [1]}}, "1 weights", id="a weight too few"
        ),
        pytest.param(
            {"aggregate": {"average": "macro", "classes": [1, 1]}}, "1 different classes of 2", id="a class twice"
        ),
        pytest.param({"aggregate": {"average": "mean"}}, "'micro', 'macro' or 'weighted'", id="another average"),
        pytest.param(
            {"binarize": {"class_id": 1}, "aggregate": {"average": "micro"}}, "binarize or aggregate", id="two ways"
        ),
    ],
)
def test_ways_of_counting_classes_that_cannot_be_are_refused(said: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        evaluator(recall={"metric": "Recall", **said})


def test_a_conversion_is_not_held_to_a_metric_of_classes() -> None:
    one = {"metric": "Recall", "binarize": {"class_id": 1}}
    assert evaluator(recall_of_1=one, AUC={}).numbers_of_one_model == ["AUC"]


def test_classes_are_named_by_number(tmp_path: Path) -> None:
    averaged = (
        "recall: {metric: Recall, aggregate: {average: macro, classes: [0, 1], weights: [1, 2.5]}, at_least: 0.5}"
    )
    assert problems(tmp_path, averaged) == []


def test_a_macro_without_classes_is_refused_at_its_line(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "recall: {metric: Recall, aggregate: {average: macro}}")
    assert problem.startswith("11: ")
    assert "macro needs classes" in problem
