"""Blessed or not, and why: limits on values, limits on change, and everything that must not count as a yes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctd.components import verdict
from ctd.components.api import Work
from ctd.components.judgement import Row, judge
from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.errors import BadInput, SpecError
from ctd.core.work import Made, Request
from ctd.specs.evaluator import EvaluatorSpec, Threshold
from ctd.specs.metric_values import more_is_better

HOUR_3 = (("trip_start_hour", "3"),)
HOUR_4 = (("trip_start_hour", "4"),)


def row(value: float | None, *, at: tuple[tuple[str, str], ...] = (), examples: int = 1000, **more: float) -> Row:
    return Row(at, {"BinaryAccuracy": value, **more}, examples)


def limit(**said: Any) -> dict[str, Threshold]:
    return {"BinaryAccuracy": Threshold(**said)}


BASELINE_001 = limit(not_worse_than_baseline_by=0.01)


@pytest.mark.parametrize(
    ("limits", "candidate", "baseline", "blessed", "reason"),
    [
        pytest.param(
            limit(at_least=0.75),
            [row(0.81)],
            None,
            True,
            "blessed: 1 slice, BinaryAccuracy 0.8100 >= 0.7500 at_least; no baseline to compare with",
            id="the first model is judged by its values",
        ),
        pytest.param(
            limit(at_least=0.75),
            [row(0.81), row(0.7123, at=HOUR_3), row(0.70, at=HOUR_4)],
            None,
            False,
            "not blessed: trip_start_hour=3: BinaryAccuracy 0.7123 < 0.7500 at_least (1 more)",
            id="a slice below the limit refuses and is named",
        ),
        pytest.param(
            limit(at_least=0.75),
            [row(0.1, at=HOUR_3), row(0.2)],
            None,
            False,
            "not blessed: overall: BinaryAccuracy 0.2000 < 0.7500 at_least (1 more)",
            id="the whole is named before its parts",
        ),
        pytest.param(
            limit(at_least=0.75, slices="overall"), [row(0.81), row(0.1, at=HOUR_3)], None, True, "blessed: 2",
            id="limits on the whole only leave slices alone",
        ),
        pytest.param(
            limit(at_least=0.75, slices=[["trip_start_hour"]]),
            [row(0.1), row(0.1, at=(*HOUR_3, ("company", "Flash"))), row(0.7, at=HOUR_3), row(0.8, at=HOUR_4)],
            None, False, "not blessed: trip_start_hour=3: BinaryAccuracy 0.7000 < 0.7500 at_least",
            id="limits on named slices leave others alone",
        ),
        pytest.param(
            limit(at_least=0.75, min_examples=50), [row(0.81), row(0.1, at=HOUR_3, examples=49)], None, True, "blessed",
            id="small slices are not judged",
        ),
        pytest.param(
            limit(at_least=0.75, min_examples=50), [row(0.81, examples=49)], None, False, "no limit could be checked",
            id="nothing but small slices is no yes",
        ),
        pytest.param(limit(at_least=0.75), [row(0.75)], None, True, "blessed", id="the limit itself is enough"),
        pytest.param(limit(at_most=0.3), [row(0.31)], None, False, "0.3100 > 0.3000 at_most", id="at most"),
        pytest.param(
            limit(at_least=0.75), [row(0.7499999)], None, False, "0.749999900 < 0.750000000",
            id="numbers that nearly agree are shown apart",
        ),
        pytest.param(
            limit(at_least=0.75), [row(None)], None, False, "overall: BinaryAccuracy is missing or not a number",
            id="a number that is none refuses",
        ),
        pytest.param(
            {"AUC": Threshold(at_least=0.5)}, [row(0.9)], None, False, "overall: AUC is missing or not a number",
            id="a metric that was not measured refuses",
        ),
        pytest.param({"AUC": Threshold()}, [row(0.9)], None, False, "no limit could be checked", id="no limits at all"),
        pytest.param(limit(at_least=0.5), [], None, False, "no limit could be checked", id="no slices at all"),
        pytest.param(
            BASELINE_001, [row(0.9)], None, False, "there is no baseline yet). Write `at_least:`",
            id="only a comparison and nothing to compare with",
        ),
        pytest.param(BASELINE_001, [row(0.79)], [row(0.80)], True, "blessed", id="as much worse as is allowed"),
        pytest.param(
            BASELINE_001, [row(0.78)], [row(0.80)], False,
            "overall: BinaryAccuracy 0.7800 after 0.8000 of the baseline, not_worse_than_baseline_by 0.01",
            id="more worse than is allowed",
        ),
        pytest.param(BASELINE_001, [row(0.95)], [row(0.80)], True, "blessed", id="better than the baseline"),
        pytest.param(
            {"MeanSquaredError": Threshold(not_worse_than_baseline_by=0.5)},
            [Row((), {"MeanSquaredError": 4.0}, 9)],
            [Row((), {"MeanSquaredError": 3.0}, 9)],
            False,
            "4.0000 after 3.0000",
            id="for an error more is worse",
        ),
        pytest.param(
            BASELINE_001, [row(0.8), row(0.1, at=HOUR_3)], [row(0.8), row(0.9, at=HOUR_4)], True, "blessed",
            id="slices of one model only are not compared",
        ),
        pytest.param(
            BASELINE_001, [row(0.8, at=HOUR_3)], [row(0.8, at=HOUR_4)], False, "no limit could be checked",
            id="no slice in common is no yes",
        ),
        pytest.param(BASELINE_001, [row(None)], [row(0.8)], False, "missing or not a number", id="lost its number"),
        pytest.param(
            limit(at_least=0.7, not_worse_than_baseline_by=0.01), [row(0.75)], [row(0.8)], False, "after 0.8000",
            id="values and change both decide",
        ),
        pytest.param(
            limit(at_least=0.7, not_worse_than_baseline_by=0.01), [row(0.75)], None, True, "blessed",
            id="without a baseline the value decides",
        ),
        pytest.param(
            limit(at_least=0.7), [row(0.75, NanPredictions=13.0)], None, False,
            "not blessed: overall: 13 of 1,000 predictions are NaN", id="predictions that are NaN refuse",
        ),
        pytest.param(
            limit(at_least=0.7), [row(0.75), row(0.8, at=HOUR_3, NanPredictions=1.0)], None, False,
            "not blessed: trip_start_hour=3: 1 of 1,000 predictions are NaN", id="those of a slice too",
        ),
        pytest.param(
            limit(at_least=0.7), [row(None, InfinitePredictions=2.0)], None, False,
            "not blessed: overall: 2 of 1,000 predictions are infinite (1 more)", id="why there is no number",
        ),
        pytest.param(
            limit(at_least=0.7), [row(0.75, InfinitePredictions=2.0)], None, True, "blessed: 1 slice",
            id="infinite predictions are not refused for themselves",
        ),
        pytest.param(
            limit(at_least=0.7), [row(0.75)], [row(0.7, NanPredictions=9.0)], True, "blessed: 1 slice",
            id="a baseline may predict what it likes",
        ),
    ],
)  # fmt: skip
def test_the_verdict_and_its_reason(
    limits: dict[str, Threshold], candidate: list[Row], baseline: list[Row] | None, blessed: bool, reason: str
) -> None:
    found = judge(limits, candidate, baseline)
    assert (found.blessed, reason in found.reason) == (blessed, True), found.reason


def test_why_there_was_no_comparison_is_told() -> None:
    found = judge(limit(at_least=0.5), [row(0.9)], None, "baseline not evaluated: its files are gone")
    assert found.reason.endswith("; baseline not evaluated: its files are gone")


def test_slices_left_out_are_counted() -> None:
    limits = limit(not_worse_than_baseline_by=0.01, min_examples=10)
    candidate = [row(0.8), row(0.8, at=HOUR_3, examples=9)]
    found = judge(limits, candidate, [row(0.8), row(0.8, at=HOUR_4)])
    assert (found.too_small, found.not_compared, found.slices) == (1, 1, 2)


FLIPS = {"SymmetricFlipRate": Threshold(at_most=0.1)}
FEW, MANY = ([Row(at, {"SymmetricFlipRate": rate}, 9) for at in ((), HOUR_3)] for rate in (0.05, 0.2))
BEFORE = [Row((), {}, 9), Row(HOUR_3, {}, 9)]


@pytest.mark.parametrize(
    ("more", "candidate", "baseline", "blessed", "reason"),
    [
        pytest.param({}, FEW, BEFORE, True, "blessed: 2 slices, SymmetricFlipRate 0.0500 <= 0.1000", id="few flips"),
        pytest.param({}, MANY, BEFORE, False, "overall: SymmetricFlipRate 0.2000 > 0.1000 at_most", id="many flips"),
        pytest.param({}, [row(0.9)], BEFORE, False, "SymmetricFlipRate is missing", id="no number beside a baseline"),
        pytest.param(
            {}, [row(0.9)], None, False, "no limit could be checked (there is no baseline yet)",
            id="nothing but a comparison and no baseline is no yes",
        ),
        pytest.param(
            limit(at_least=0.8), [row(0.9)], None, True, "BinaryAccuracy 0.9000 >= 0.8000 at_least; no baseline to",
            id="the first model is judged by the rest",
        ),
        pytest.param({}, MANY[1:], BEFORE[:1], False, "no limit could be checked", id="no slice in common is no yes"),
    ],
)  # fmt: skip
def test_a_metric_that_compares_models_is_held_to_its_limit_where_there_is_a_baseline(
    more: dict[str, Threshold], candidate: list[Row], baseline: list[Row] | None, blessed: bool, reason: str
) -> None:
    found = judge({**FLIPS, **more}, candidate, baseline)
    assert (found.blessed, reason in found.reason) == (blessed, True), found.reason


def test_a_metric_by_a_name_of_the_users_own_improves_as_its_class_does() -> None:
    limits = {"off": Threshold(metric="MeanSquaredError", not_worse_than_baseline_by=0.5)}
    better, worse = Row((), {"off": 3.0}, 9), Row((), {"off": 4.0}, 9)
    assert judge(limits, [better], [worse]).blessed
    assert judge(limits, [worse], [better]).reason.startswith("not blessed: overall: off 4.0000 after 3.0000")


@pytest.mark.parametrize(("name", "metric"), [("MeanPrediction", ""), ("mean", "MeanPrediction")])
def test_a_comparison_without_better_and_worse_is_a_mistake_in_the_spec(name: str, metric: str) -> None:
    limits = {name: Threshold(metric=metric, not_worse_than_baseline_by=0.1)}
    with pytest.raises(SpecError, match=f"metrics.{name}.*MeanPrediction"):
        judge(limits, [], None)


@pytest.mark.parametrize(
    ("metric", "better"),
    [
        *[(name, True) for name in ("AUC", "BinaryAccuracy", "SparseCategoricalAccuracy", "Precision", "F1Score")],
        *[(name, False) for name in ("BinaryCrossentropy", "MeanAbsoluteError", "FalsePositives", "SquaredHinge")],
        *[(name, None) for name in ("ExampleCount", "MeanLabel", "Calibration", "SymmetricFlipRate", "Nonsense")],
    ],
)
def test_which_way_is_better(metric: str, better: bool | None) -> None:
    assert more_is_better(metric) is better


values = st.none() | st.floats(0, 1)
rows = st.lists(
    st.builds(row, values, at=st.sampled_from([(), HOUR_3, HOUR_4]), examples=st.integers(0, 100)),
    max_size=3,
    unique_by=lambda r: r.slice,
)
limits = st.builds(
    limit,
    at_least=st.none() | st.floats(0, 1),
    at_most=st.none() | st.floats(0, 1),
    not_worse_than_baseline_by=st.none() | st.floats(0, 1),
    slices=st.sampled_from(["all", "overall", ((), ("trip_start_hour",)), (("company",),)]),
    min_examples=st.integers(1, 100),
)


@given(limits=limits, candidate=rows, baseline=st.none() | rows)
def test_a_blessing_always_rests_on_a_check_that_held(
    limits: dict[str, Threshold], candidate: list[Row], baseline: list[Row] | None
) -> None:
    found = judge(limits, candidate, baseline)
    assert found.blessed == (bool(found.checks) and all(check.passed for check in found.checks))
    assert all(check.value is not None for check in found.checks if check.passed)


@given(candidate=rows, baseline=st.none() | rows, low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_lower_limit_never_refuses_what_a_higher_one_blessed(
    candidate: list[Row], baseline: list[Row] | None, low: float, high: float
) -> None:
    low, high = sorted((low, high))
    if judge(limit(at_least=high), candidate, baseline).blessed:
        assert judge(limit(at_least=low), candidate, baseline).blessed


def bless(
    folder: Path, metrics: Any, limits: dict[str, Any], *, of: int = 3, of_digest: str = "m3", **properties: str | int
) -> tuple[Path, Made]:
    """Run the component on an evaluation that measured these rows; of model 3 unless said."""
    properties |= {"current_model_id": of, "current_model_digest": of_digest}
    evaluation = folder / "evaluation"
    evaluation.mkdir(parents=True)
    (evaluation / "metrics.json").write_text(metrics if isinstance(metrics, str) else json.dumps(metrics))
    spec = EvaluatorSpec.model_validate({"kind": "evaluator", "label_key": "tips", "metrics": limits})
    request = Request(
        7, "taxi", "evaluator", "evaluator", "model #3", "ctd.components.verdict", str(folder / "staging"),
        spec.model_dump(mode="json"), {"blessing": ArtifactType.MODEL_BLESSING},
        inputs={
            "model": (Artifact(ArtifactType.MODEL, "/models/3", "m3", id=3),),
            "evaluation": (Artifact(ArtifactType.EVALUATION, str(evaluation), properties=properties, id=4),),
        },
    )  # fmt: skip
    (made,) = verdict.run(Work(request))["blessing"]
    return folder / "staging" / made.path, made


CANDIDATE = {"slice": [], "model": "candidate", "metrics": {"BinaryAccuracy": 0.8}, "examples": 100}
BASELINE = {"slice": [], "model": "baseline", "metrics": {"BinaryAccuracy": 0.9}, "examples": 100}


def test_a_blessing_is_written_as_tfx_writes_it(tmp_path: Path) -> None:
    path, made = bless(tmp_path, [CANDIDATE], {"BinaryAccuracy": {"at_least": 0.75}})
    assert sorted(p.name for p in path.iterdir()) == ["BLESSED", "verdict.json"]
    assert made.properties["blessed"] == 1
    assert (made.properties["current_model"], made.properties["current_model_id"]) == ("/models/3", 3)
    assert made.properties["component_id"] == "evaluator"
    assert "baseline_model_id" not in made.properties


def test_a_refusal_names_the_baseline_it_was_compared_with(tmp_path: Path) -> None:
    limits = {"BinaryAccuracy": {"not_worse_than_baseline_by": 0.05}}
    path, made = bless(tmp_path, [CANDIDATE, BASELINE], limits, baseline_model="/models/2", baseline_model_id=2)
    assert sorted(p.name for p in path.iterdir()) == ["NOT_BLESSED", "verdict.json"]
    assert (made.properties["blessed"], made.properties["baseline_model_id"]) == (0, 2)
    (check,) = json.loads((path / "verdict.json").read_text())["checks"]
    assert (check["value"], check["baseline"], check["passed"]) == (0.8, 0.9, False)


def test_other_limits_with_the_same_answer_give_the_same_digest(tmp_path: Path) -> None:
    one, two, no = (
        bless(tmp_path / str(at_least), [CANDIDATE], {"BinaryAccuracy": {"at_least": at_least}})[1].digest
        for at_least in (0.5, 0.6, 0.9)
    )
    assert one == two != no


def test_a_damaged_evaluation_is_not_judged(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"metrics\.json"):
        bless(tmp_path, '[{"slice": []', {"BinaryAccuracy": {"at_least": 0.5}})


def test_a_model_is_not_judged_by_what_another_one_came_to(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="evaluation #4 is of model #2, not of model #3") as refused:
        bless(tmp_path, [CANDIDATE], {"BinaryAccuracy": {"at_least": 0.75}}, of=2, of_digest="m2")
    assert "ctd run-now taxi evaluator --again" in refused.value.hint


def test_the_same_model_made_again_is_judged_by_what_it_came_to_before(tmp_path: Path) -> None:
    _, made = bless(tmp_path, [CANDIDATE], {"BinaryAccuracy": {"at_least": 0.75}}, of=2)
    assert (made.properties["blessed"], made.properties["current_model_id"]) == (1, 3)


def test_judging_needs_no_tensorflow() -> None:
    code = "import sys, ctd.components.verdict; print('tensorflow' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
