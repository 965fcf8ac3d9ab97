"""On the same examples no model is asked twice: what it said is kept beside the evaluation."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma

from ctd.core.artifacts import Artifact
from tests.components import evaluation_models as small
from tests.components.conftest import Perform

pytestmark = pytest.mark.tf

SPEC = {
    "label_key": "label_xf",
    "slices": [[], ["hour"], ["kind_xf"]],
    "metrics": {"BinaryAccuracy": {"not_worse_than_baseline_by": 0.1}, "AUC": {}},
}
Evaluate = Callable[..., tuple[Artifact, list[dict[str, Any]]]]


@tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
def transform_features(examples: tf.Tensor) -> dict[str, tf.Tensor]:
    """With a text that only the model makes."""
    raw = tf.io.parse_example(examples, small.RAW)
    return {"label_xf": tf.cast(raw["tips"] > 0.5, tf.int64), "kind_xf": tf.strings.upper(raw["kind"])}


@pytest.fixture
def evaluate(work: Perform, tmp_path: Path) -> Evaluate:
    examples = small.write_examples(tmp_path / "examples", small.rides())

    def perform(spec: dict[str, Any], **inputs: Artifact) -> tuple[Artifact, list[dict[str, Any]]]:
        (evaluation,) = work("evaluator", spec=spec, inputs={"examples": examples, **inputs})["evaluation"]
        return evaluation, json.loads(Path(evaluation.uri, "metrics.json").read_text())

    return perform


@pytest.fixture
def old(tmp_path: Path) -> Artifact:
    return small.write_model(tmp_path / "old", small.probabilities(0.7), 1, transform_features=transform_features)


@pytest.fixture
def new(tmp_path: Path) -> Artifact:
    return small.write_model(tmp_path / "new", small.probabilities(1.5), 2, transform_features=transform_features)


def break_(model: Artifact) -> None:
    """Nobody can ask it any more."""
    shutil.rmtree(Path(model.uri, "Format-Serving/variables"))


def test_a_baseline_that_was_measured_on_these_examples_is_not_asked_again(
    evaluate: Evaluate, old: Artifact, new: Artifact
) -> None:
    _, asked = evaluate(SPEC, model=new, baseline_model=old)
    before, _ = evaluate(SPEC, model=old)
    break_(old)
    evaluation, rows = evaluate(SPEC, model=new, baseline_model=old, measured_before=before)
    assert rows == asked
    assert {"kind_xf"} <= {key for row in rows if row["model"] == "baseline" for key, _ in row["slice"]}
    read = tfma.load_eval_result(evaluation.uri, model_name="baseline")
    assert len(read.slicing_metrics) == len([row for row in rows if row["model"] == "baseline"])
    # And on and on: a third candidate is compared with it by what the second evaluation kept.
    _, again = evaluate(SPEC, model=new, baseline_model=old, measured_before=evaluation)
    assert again == asked


def test_another_metric_is_computed_from_the_same_answers(evaluate: Evaluate, old: Artifact) -> None:
    before, first = evaluate(SPEC, model=old)
    break_(old)
    _, rows = evaluate({**SPEC, "metrics": {"Precision": {}, "AUC": {}}}, model=old, measured_before=before)
    assert rows[0]["metrics"]["AUC"] == first[0]["metrics"]["AUC"]
    assert 0 < rows[0]["metrics"]["Precision"] < 1


@pytest.mark.parametrize("other", ["examples", "model", "output"])
def test_on_other_examples_or_of_another_model_nothing_is_taken_for_granted(
    work: Perform, evaluate: Evaluate, old: Artifact, new: Artifact, tmp_path: Path, other: str
) -> None:
    before, _ = evaluate(SPEC, model=old)
    break_(old)
    candidate, inputs = new, {"baseline_model": old, "measured_before": before}
    if other == "examples":
        inputs["examples"] = small.write_examples(tmp_path / "next", small.rides(seed=2))
    elif other == "model":
        shutil.copytree(old.uri, tmp_path / "third")
        inputs["baseline_model"] = small.model_artifact(tmp_path / "third", 3)
    spec = {**SPEC, "example_weight_key": "weight"} if other == "output" else SPEC
    evaluation, rows = evaluate(spec, model=candidate, **inputs)
    assert {row["model"] for row in rows} == {"candidate"}
    assert "not compared" in str(evaluation.properties["baseline_skipped"])


def test_answers_that_are_damaged_are_asked_for_again(evaluate: Evaluate, old: Artifact, new: Artifact) -> None:
    before, _ = evaluate(SPEC, model=old)
    (kept,) = Path(before.uri, "answers").iterdir()
    kept.write_bytes(kept.read_bytes()[:-200])
    _, rows = evaluate(SPEC, model=new, baseline_model=old, measured_before=before)
    assert {row["model"] for row in rows} == {"candidate", "baseline"}
