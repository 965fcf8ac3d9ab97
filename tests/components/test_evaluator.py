"""The Evaluator's numbers: those of TFMA's own pipeline and of plain numpy, for every kind of model."""

import inspect
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
import tf_keras
from tensorflow_model_analysis.metrics import metric_types

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.errors import BadInput, ComponentFailed
from ctd.specs.metric_names import INSTEAD, METRICS, UNMEASURABLE
from ctd.specs.metric_values import COMPARISONS, LESS_IS_BETTER, MORE_IS_BETTER, more_is_better, no_number
from tests.components import evaluation_models as small
from tests.components.conftest import Perform

pytestmark = pytest.mark.tf

BINARY = {"label_key": "label_xf", "metrics": {"BinaryAccuracy": {}, "AUC": {}, "BinaryCrossentropy": {}}}
Evaluate = Callable[..., tuple[Artifact, list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluator")


@pytest.fixture(scope="module")
def columns() -> small.Columns:
    return small.rides()


@pytest.fixture(scope="module")
def examples(folder: Path, columns: small.Columns) -> Artifact:
    return small.write_examples(folder / "examples", columns)


@pytest.fixture(scope="module")
def model(folder: Path) -> Artifact:
    """A model that is right more often than not, and can make its own label."""
    return small.write_model(folder / "model", small.probabilities(1.5), 1, transform_features=small.transform_features)


@pytest.fixture(scope="module")
def worse(folder: Path) -> Artifact:
    return small.write_model(
        folder / "worse", small.probabilities(-0.5), 2, transform_features=small.transform_features
    )


@pytest.fixture(scope="module")
def evaluate(work: Perform, examples: Artifact) -> Evaluate:
    def perform(spec: dict[str, Any], **inputs: Artifact) -> tuple[Artifact, list[dict[str, Any]]]:
        made = work("evaluator", spec=spec, inputs={"examples": examples, **inputs})
        (evaluation,) = made["evaluation"]
        return evaluation, json.loads(Path(evaluation.uri, "metrics.json").read_text())

    return perform


def row(rows: list[dict[str, Any]], *key: list[Any], model: str = "candidate") -> dict[str, Any]:
    (found,) = [r for r in rows if r["slice"] == list(key) and r["model"] == model]
    return found


def metrics(rows: list[dict[str, Any]], *key: list[Any], model: str = "candidate") -> dict[str, float]:
    return {str(name): value for name, value in row(rows, *key, model=model)["metrics"].items()}


def area(labels: np.ndarray, scores: np.ndarray) -> float:
    """The share of pairs in the right order; ties count half."""
    positive, negative = scores[labels == 1][:, None], scores[labels == 0][None, :]
    return float(np.mean((positive > negative) + 0.5 * (positive == negative)))


def test_a_binary_model_is_measured_as_numpy_does(evaluate: Evaluate, model: Artifact, columns: small.Columns) -> None:
    evaluation, rows = evaluate(BINARY, model=model)
    scores, labels = small.sigmoid(1.5 * columns["x"]), small.label(columns)
    found = metrics(rows)
    assert found["ExampleCount"] == row(rows)["examples"] == small.ROWS
    assert found["BinaryAccuracy"] == pytest.approx(np.mean((scores > 0.5) == labels), abs=1e-12)
    assert found["AUC"] == pytest.approx(area(labels, scores), abs=1e-4)  # TFMA's AUC is over 10,000 thresholds
    loss = -np.mean(np.where(labels == 1, np.log(scores), np.log(1 - scores)))
    assert found["BinaryCrossentropy"] == pytest.approx(loss, rel=1e-5)
    said = {"current_model": model.uri, "current_model_id": 1, "current_model_digest": model.digest}
    assert evaluation.properties == said


def test_slices_are_by_value_and_small_ones_are_counted(
    evaluate: Evaluate, model: Artifact, columns: small.Columns
) -> None:
    _, rows = evaluate({**BINARY, "slices": [[], ["hour"], ["kind", "hour"]]}, model=model)
    right = (small.sigmoid(1.5 * columns["x"]) > 0.5) == small.label(columns)
    for hour in range(5):
        inside = columns["hour"] == hour
        found = row(rows, ["hour", hour])
        assert (found["examples"], found["metrics"]["BinaryAccuracy"]) == (
            inside.sum(),
            pytest.approx(right[inside].mean()),
        )
        both = inside & (columns["kind"] == "card")
        assert row(rows, ["hour", hour], ["kind", "card"])["examples"] == both.sum()
    assert len(rows) == 1 + 5 + len({(h, k) for h, k in zip(columns["hour"], columns["kind"], strict=True)})


def by_pipeline(spec: dict[str, Any], models: dict[str, Artifact], examples: Artifact, output: Path) -> None:
    """Have tfma.run_model_analysis measure and judge the same without ctd."""

    def metric(name: str, said: dict[str, Any]) -> tfma.MetricConfig:
        class_name, own = said.get("metric", name), {"name": name} if "metric" in said else {}
        value, change = tfma.GenericValueThreshold(), tfma.GenericChangeThreshold()
        if "at_least" in said:
            value.lower_bound.value = said["at_least"]
        if "at_most" in said:
            value.upper_bound.value = said["at_most"]
        if "not_worse_than_baseline_by" in said:
            allowed, more = said["not_worse_than_baseline_by"], more_is_better(class_name)
            change.direction = getattr(tfma.MetricDirection, "HIGHER_IS_BETTER" if more else "LOWER_IS_BETTER")
            change.absolute.value = -allowed if more else allowed
        threshold = tfma.MetricThreshold()
        if not_found(said):
            return tfma.MetricConfig(class_name=class_name, config=json.dumps({**said["config"], **own}))
        if value.ByteSize() and class_name in COMPARISONS:
            # TFMA looks for a value's limit at a key that comparisons do not have.
            assert value.HasField("upper_bound")
            change.direction, change.absolute.value = tfma.MetricDirection.LOWER_IS_BETTER, value.upper_bound.value
        elif value.ByteSize():
            threshold.value_threshold.CopyFrom(value)
        if change.ByteSize():
            threshold.change_threshold.CopyFrom(change)
        return tfma.MetricConfig(
            class_name=class_name,
            config=json.dumps({**said.get("config", {}), **own}),
            threshold=threshold if threshold.ByteSize() else None,
        )

    config = tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(
                name=name,
                signature_name="serving_default",
                label_key=spec["label_key"],
                prediction_key=spec.get("prediction_key", ""),
                example_weight_key=spec.get("example_weight_key", ""),
                preprocessing_function_names=spec.get("preprocessing", []),
                is_baseline=name == "baseline",
            )
            for name in models
        ],
        metrics_specs=[
            tfma.MetricsSpec(
                metrics=[metric("ExampleCount", {}), *(metric(name, said) for name, said in spec["metrics"].items())]
            )
        ],
        slicing_specs=[tfma.SlicingSpec(feature_keys=keys) for keys in spec["slices"]],
        options=tfma.Options(include_default_metrics={"value": False}),
    )
    shared = [
        tfma.default_eval_shared_model(f"{model.uri}/Format-Serving", model_name=name, eval_config=config)
        for name, model in models.items()
    ]
    tfma.run_model_analysis(
        eval_shared_model=shared,
        eval_config=config,
        data_location=f"{examples.uri}/Split-eval/*",
        output_path=str(output),
    )


def distance(slope: float) -> Callable[[dict[str, Any]], dict[str, tf.Tensor]]:
    return lambda raw: {"distance": slope * raw["x"]}


def half_as_sure(raw: dict[str, Any]) -> dict[str, tf.Tensor]:
    return {"scores": tf.nn.softmax(0.5 * raw["onehot"] + tf.concat([raw["x"], -raw["x"], 0 * raw["x"]], axis=1))}


def several(slope: float) -> Callable[[dict[str, Any]], dict[str, tf.Tensor]]:
    """Outputs of different shapes, of which a prediction key names one."""

    def predict(raw: dict[str, Any]) -> dict[str, tf.Tensor]:
        scores = tf.sigmoid(slope * tf.concat([raw["x"], raw["tips"], 1 - raw["x"]], axis=1))
        return {"scores": scores, "first": scores[:, :1], "twice": 2 * raw["x"]}

    return predict


WEIGHED = {"label_key": "label_xf", "preprocessing": ["transform_features"], "example_weight_key": "weight"}
# Limits near the whole's numbers, so that some slices meet them and some do not.
KINDS: dict[str, dict[str, Any]] = {
    "binary": {
        **WEIGHED,
        "slices": [[], ["hour"], ["late_xf"]],
        "metrics": {
            "BinaryAccuracy": {"at_least": 0.7, "not_worse_than_baseline_by": -0.45},
            "AUC": {"at_least": 0.78},
            "pr": {"metric": "AUC", "config": {"curve": "PR"}, "at_least": 0.6},
            "BinaryCrossentropy": {"at_most": 0.55, "not_worse_than_baseline_by": -0.3},
            "SymmetricFlipRate": {"at_most": 0.99},
            "high_flips": {"metric": "SymmetricFlipRate", "config": {"threshold": 0.7}, "at_most": 0.3},
            "SymmetricPredictionDifference": {"at_most": 0.8},
            **{name: {} for name in ("Recall", "Precision", "MeanLabel", "Calibration", "MeanAbsoluteError")},
            **{name: {} for name in ("PosToNegFlipRate", "NegToNegFlipRate")},
        },
    },
    "classes": {
        "label_key": "number",
        "example_weight_key": "weight",
        "slices": [[], ["hour"], ["kind", "hour"]],
        "metrics": {
            "SparseCategoricalAccuracy": {"at_least": 0.5, "not_worse_than_baseline_by": -0.05},
            "SparseCategoricalCrossentropy": {"at_most": 0.98, "not_worse_than_baseline_by": -0.1},
            "precision_at_1": {"metric": "Precision", "config": {"top_k": 1}, "at_least": 0.5},
            "precision_at_2": {"metric": "Precision", "config": {"top_k": 2}, "at_least": 0.42},
            "recall_at_2": {"metric": "Recall", "config": {"top_k": 2}, "at_least": 0.8},
            "recall_of_2": {"metric": "Recall", "config": {"class_id": 2, "thresholds": 0.4}},
            "area_of_1": {"metric": "AUC", "config": {"class_id": 1}, "not_worse_than_baseline_by": -0.1},
        },
    },
    "regression": {
        "label_key": "tips",
        "example_weight_key": "weight",
        "slices": [[], ["kind"], ["hour"]],
        "metrics": {
            "MeanSquaredError": {"at_most": 1.2, "not_worse_than_baseline_by": -0.4},
            "MeanPrediction": {"at_least": 0.0},
            **{name: {} for name in ("MeanAbsoluteError", "MeanAbsolutePercentageError", "SquaredPearsonCorrelation")},
        },
    },
    "labels": {
        "label_key": "tags",
        "prediction_key": "scores",
        "example_weight_key": "weight",
        "slices": [[], ["hour"], ["kind"]],
        "metrics": {
            "BinaryCrossentropy": {"at_most": 0.66, "not_worse_than_baseline_by": -0.2},
            "BinaryAccuracy": {"config": {"class_id": 1}, "at_least": 0.75},
            "of_0": {"metric": "Precision", "config": {"class_id": 0}, "at_least": 0.55},
            "of_2": {"metric": "Precision", "config": {"class_id": 2}, "not_worse_than_baseline_by": 0.01},
            "best": {"metric": "Recall", "config": {"top_k": 1}},
        },
    },
    "outputs": {
        **WEIGHED,
        "prediction_key": "first",
        "slices": [[], ["hour"], ["kind"]],
        "metrics": {
            "BinaryAccuracy": {"at_least": 0.7, "not_worse_than_baseline_by": -0.45},
            **{name: {} for name in ("AUC", "MeanPrediction", "SymmetricFlipRate", "MeanSquaredError")},
        },
    },
}


@pytest.fixture(scope="module")
def tagged(folder: Path, columns: small.Columns) -> Artifact:
    """Examples of which each may have several labels, or none."""
    tags = np.stack([columns["tips"] > 0.5, columns["tips"] > 0, columns["x"] < 0], axis=1).astype(np.float32)
    return small.write_examples(folder / "tagged", {**columns, "tags": tags})


@pytest.fixture(scope="module")
def subjects(folder: Path, model: Artifact, worse: Artifact) -> dict[str, tuple[Artifact, Artifact]]:
    """Candidate and baseline of each kind."""
    transform = {"transform_features": small.transform_features}

    def both(name: str, *predict: Callable[[dict[str, Any]], Any], **more: Any) -> tuple[Artifact, Artifact]:
        one, other = (small.write_model(folder / f"{name}{i}", p, i, **more) for i, p in enumerate(predict, 1))
        return one, other

    return {
        "binary": (model, worse),
        "classes": both("of_classes", small.classes, half_as_sure),
        "regression": both("of_numbers", distance(0.5), distance(-0.2)),
        "labels": both("of_labels", several(1.5), several(-0.5)),
        "outputs": both("of_outputs", several(1.5), several(-0.5), **transform),
    }


@pytest.fixture(scope="module")
def judged(evaluate: Evaluate, work: Perform, tagged: Artifact) -> Callable[..., tuple[Artifact, Artifact]]:
    """Evaluation and blessing."""

    def perform(spec: dict[str, Any], **models: Artifact) -> tuple[Artifact, Artifact]:
        evaluation, _ = evaluate(spec, examples=tagged, **models)
        inputs = {"model": models["model"], "evaluation": evaluation}
        return evaluation, work("verdict", spec={"kind": "evaluator", **spec}, inputs=inputs)["blessing"][0]

    return perform


@pytest.mark.filterwarnings("ignore:.*encountered in divide:RuntimeWarning")  # TFMA's, of AUC
@pytest.mark.parametrize("alone", [False, True], ids=["with a baseline", "alone"])
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_and_verdicts_are_those_of_tfmas_pipeline(
    judged: Callable[..., Any], subjects: dict[str, Any], tagged: Artifact, tmp_path: Path, kind: str, alone: bool
) -> None:
    spec, (candidate, baseline) = KINDS[kind], subjects[kind]
    evaluation, blessing = judged(spec, model=candidate, **({} if alone else {"baseline_model": baseline}))
    models = {"": candidate} if alone else {"candidate": candidate, "baseline": baseline}
    asked = {name: said for name, said in spec["metrics"].items() if not (alone and compares(name, said))}
    if alone:  # TFMA refuses such limits then
        lone = {"not_worse_than_baseline_by"}
        asked = {name: {key: said[key] for key in said.keys() - lone} for name, said in asked.items()}
    by_pipeline({**spec, "metrics": asked}, models, tagged, tmp_path / "tfma")
    for name in models:
        ours = tfma.load_eval_result(evaluation.uri, model_name=name or None)
        expected = tfma.load_eval_result(str(tmp_path / "tfma"), model_name=name or None)
        assert dict_of(ours).keys() == dict_of(expected).keys()
        for key, numbers in dict_of(expected).items():
            # Weighted and unweighted counts of examples are one number there and two here.
            assert dict_of(ours)[key] == pytest.approx(numbers, rel=1e-6, nan_ok=True), key
            assert len(numbers) >= sum(not compares(*metric) for metric in asked.items())
    checks = json.loads(Path(blessing.uri, "verdict.json").read_text())["checks"]
    missed = {(check["slice"], plain(check["metric"])) for check in checks if not check["passed"]}
    assert {check["metric"] for check in checks} >= {name for name, said in asked.items() if "at_least" in said}
    unknown = {plain(name) for name, said in asked.items() if not_found(said)}
    missed = {(slice_, metric) for slice_, metric in missed if metric not in unknown}
    said = tfma.load_validation_result(str(tmp_path / "tfma"))
    assert missed == set(failures(said))
    assert 0 < len(missed) < len(checks)
    assert not said.validation_ok
    assert not blessing.properties["blessed"]


def not_found(said: dict[str, Any]) -> bool:
    """Whether TFMA finds no value for a limit: it looks for metrics without the class or rank that `config` says."""
    return bool(said.get("config", {}).keys() & {"class_id", "top_k"})


def compares(name: str, said: dict[str, Any]) -> bool:
    return said.get("metric", name) in COMPARISONS


def plain(name: str) -> str:
    return name.lower().replace("_", "")


def failures(said: Any) -> Iterator[tuple[str, str]]:
    """Slices and metrics that TFMA refuses, in the words of ctd."""
    for found in said.metric_validations_per_slice:
        parts = {part.column: getattr(part, part.WhichOneof("kind")) for part in found.slice_key.single_slice_keys}
        texts = [f"{name}={value.decode() if isinstance(value, bytes) else value}" for name, value in parts.items()]
        for failure in found.failures:
            yield ",".join(texts) or "overall", plain(failure.metric_key.name)


def dict_of(result: Any) -> dict[Any, dict[tuple[str, str], float]]:
    """Slices with their numbers, by places such as classes, without the count that ctd adds in its own way."""
    return {
        key: {
            (place, name): value["doubleValue"]
            for place, metrics in found[""].items()
            for name, value in metrics.items()
            if "doubleValue" in value and name != "example_count"
        }
        for key, found in result.slicing_metrics
    }


def test_a_baseline_is_measured_beside_the_candidate(
    evaluate: Evaluate, model: Artifact, worse: Artifact, columns: small.Columns
) -> None:
    evaluation, rows = evaluate({**BINARY, "slices": [[], ["hour"]]}, model=model, baseline_model=worse)
    labels = small.label(columns)
    for name, slope in (("candidate", 1.5), ("baseline", -0.5)):
        expected = np.mean((small.sigmoid(slope * columns["x"]) > 0.5) == labels)
        assert metrics(rows, model=name)["BinaryAccuracy"] == pytest.approx(expected, abs=1e-12)
    assert {r["model"] for r in rows if r["slice"]} == {"candidate", "baseline"}
    assert (evaluation.properties["baseline_model"], evaluation.properties["baseline_model_id"]) == (worse.uri, 2)


COMPARED = ("SymmetricPredictionDifference", "ModelCosineSimilarity", "SymmetricFlipRate", "NegToNegFlipRate")
COMPARED += ("NegToPosFlipRate", "PosToNegFlipRate", "PosToPosFlipRate")


def test_metrics_that_compare_two_models_are_the_candidates(
    evaluate: Evaluate, model: Artifact, worse: Artifact, columns: small.Columns
) -> None:
    said = {**{name: {} for name in COMPARED}, "BooleanFlipRates": {}, "own": {"metric": "BooleanFlipRates"}}
    said |= {"BinaryAccuracy": {}, "high": {"metric": "SymmetricFlipRate", "config": {"threshold": 0.7}}}
    spec = {**BINARY, "slices": [[], ["hour"]], "metrics": said}
    _, rows = evaluate(spec, model=model, baseline_model=worse)
    _, weighed = evaluate({**spec, "example_weight_key": "weight"}, model=model, baseline_model=worse)
    assert metrics(weighed)["ModelCosineSimilarity"] == metrics(rows)["ModelCosineSimilarity"]
    assert metrics(weighed)["high"] != metrics(rows)["high"]
    new, old = small.sigmoid(1.5 * columns["x"]), small.sigmoid(-0.5 * columns["x"])
    for key, inside in [((), columns["hour"] >= 0), ((["hour", 2],), columns["hour"] == 2)]:
        found, was, now = metrics(rows, *key), old[inside] > 0.5, new[inside] > 0.5
        rates = {"SymmetricFlipRate": was != now, "NegToNegFlipRate": ~was & ~now, "NegToPosFlipRate": ~was & now}
        rates |= {"PosToNegFlipRate": was & ~now, "PosToPosFlipRate": was & now}
        for name, flips in rates.items():
            assert found[name] == pytest.approx(flips.mean(), abs=1e-12)
        for name in ("BooleanFlipRates", "own"):
            assert found[f"{name} flip_rate"] == found["SymmetricFlipRate"]
            assert found[f"{name} pos_to_neg_flip_rate"] == found["PosToNegFlipRate"]
        assert found["high"] == pytest.approx(((old > 0.7) != (new > 0.7))[inside].mean(), abs=1e-12)
        apart = (2 * np.abs(new - old) / (new + old))[inside].mean()
        assert found["SymmetricPredictionDifference"] == pytest.approx(apart, rel=1e-5)
        assert found["ModelCosineSimilarity"] == pytest.approx(1)
    assert metrics(rows, model="baseline").keys() == {"BinaryAccuracy", "ExampleCount"}
    _, alone = evaluate(spec, model=model)
    assert metrics(alone).keys() == {"BinaryAccuracy", "ExampleCount"}


@pytest.mark.filterwarnings("ignore:.*encountered in divide:RuntimeWarning")  # TFMA's, of AUC
def test_a_metric_may_be_asked_for_several_times_by_names_of_the_users_own(
    evaluate: Evaluate, model: Artifact, columns: small.Columns
) -> None:
    said = {
        f"precision_at_{t}": {"metric": "Precision", "config": {"thresholds": t / 10}, "at_least": 0.1} for t in (3, 7)
    }
    said |= {f"iou_{t}": {"metric": "BinaryIoU", "config": {"threshold": t / 10}} for t in (3, 7)}
    said |= {"Precision": {}, "area": {"metric": "AUC", "config": {"curve": "PR"}}, "AUC": {}}
    _, rows = evaluate({**BINARY, "metrics": said}, model=model)
    found, scores, labels = metrics(rows), small.sigmoid(1.5 * columns["x"]), small.label(columns)
    assert found.keys() == {*said, "ExampleCount"}
    for name, threshold in (("precision_at_3", 0.3), ("Precision", 0.5), ("precision_at_7", 0.7)):
        assert found[name] == pytest.approx(labels[scores > threshold].mean(), abs=1e-12)
    assert found["AUC"] == pytest.approx(area(labels, scores), abs=1e-4)
    assert found["area"] != pytest.approx(found["AUC"], abs=1e-3)
    assert found["iou_3"] != pytest.approx(found["iou_7"], abs=1e-3)


# The first wants to be told what labels mean; the second is another's by name.
_NOT_BINARY = ("FBetaScore", "BinaryCrossEntropy")


def takes_nothing(name: str) -> bool:
    """Whether the class can be made without arguments and measures numbers, of one class."""
    others = (
        "Sparse",
        "TopK",
        "Categorical",
        "SetMatch",
        "ObjectDetection",
        "COCO",
        "Semantic",
        "MultiLabel",
        "MultiClass",
    )
    cls = metric_types.registered_metrics().get(name) or getattr(tf_keras.metrics, name)
    needed = [p for p in list(inspect.signature(cls.__init__).parameters.values())[1:] if p.default is p.empty]
    needed = [p for p in needed if p.kind is not p.VAR_KEYWORD]
    return not needed and not name.startswith(others) and name not in ("Bleu", "Rouge")


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # TFMA's, of thresholds without examples
def test_what_is_one_number_is_known_of_each_metric(evaluate: Evaluate, model: Artifact, worse: Artifact) -> None:
    registered = metric_types.registered_metrics()
    names = sorted(name for name in METRICS if takes_nothing(name) and name not in _NOT_BINARY)
    several = {
        f"several-{name.lower()}": {"metric": name, "config": {"thresholds": [0.3, 0.5]}}
        for name in names
        if name in registered and "thresholds" in inspect.signature(registered[name].__init__).parameters
    }
    said = {**{name: {} for name in names}, **several}
    assert len(names) > 60
    assert len(several) > 30
    _, rows = evaluate({**BINARY, "metrics": said}, model=model, baseline_model=worse)
    one = {name for name, s in said.items() if not no_number(s.get("metric", name), s.get("config", {}))}
    measured = metrics(rows).keys()
    assert {name for name in measured if " " not in name} == {*one, "ExampleCount"}


def test_a_comparison_that_cannot_be_made_is_an_error_and_no_missing_baseline(
    evaluate: Evaluate, model: Artifact, worse: Artifact
) -> None:
    said = {"BinaryAccuracy": {"at_least": 0.1}, "SymmetricFlipRate": {"config": {"treshold": 0.3}, "at_most": 0.1}}
    with pytest.raises(ComponentFailed, match="unexpected keyword argument 'treshold'"):
        evaluate({**BINARY, "metrics": said}, model=model, baseline_model=worse)


@pytest.mark.parametrize("ailment", ["gone", "damaged", "other signature", "no variables", "other features"])
def test_a_baseline_that_cannot_be_evaluated_does_not_fail_the_candidate(
    evaluate: Evaluate, model: Artifact, tmp_path: Path, ailment: str
) -> None:
    def fails(_: dict[str, Any]) -> dict[str, tf.Tensor]:
        return {
            "probabilities": tf.io.parse_example([b"no example"], {"a": tf.io.FixedLenFeature([1], tf.float32)})["a"]
        }

    baseline = small.model_artifact(tmp_path / "baseline", 9)
    if ailment == "other features":
        small.write_model(tmp_path / "baseline", fails, 9, transform_features=small.transform_features)
    elif ailment != "gone":
        shutil.copytree(model.uri, tmp_path / "baseline")
        serving = tmp_path / "baseline" / "Format-Serving"
        if ailment == "damaged":
            (serving / "saved_model.pb").write_bytes(b"not a model")
        elif ailment == "no variables":
            shutil.rmtree(serving / "variables")
        else:
            small.write_model(tmp_path / "other", small.probabilities(1.0), 9)
            shutil.rmtree(serving)
            shutil.copytree(tmp_path / "other" / "Format-Serving", serving)
    evaluation, rows = evaluate(BINARY, model=model, baseline_model=baseline)
    assert {r["model"] for r in rows} == {"candidate"}
    assert "baseline #9 not compared: " in str(evaluation.properties["baseline_skipped"])
    assert "baseline_model" not in evaluation.properties


def test_a_baseline_with_other_classes_does_not_fail_the_candidate(
    evaluate: Evaluate, folder: Path, columns: small.Columns
) -> None:
    model = small.write_model(folder / "three", small.classes, 12)
    two = small.write_model(folder / "two", lambda raw: {"scores": small.classes(raw)["scores"][:, :2]}, 13)
    spec = {"label_key": "onehot", "metrics": {"CategoricalCrossentropy": {}}}
    evaluation, rows = evaluate(spec, model=model, baseline_model=two)
    alone, _ = evaluate(spec, model=model)
    assert evaluation.digest == alone.digest
    assert len(rows) == 1
    assert "baseline #13 not compared: " in str(evaluation.properties["baseline_skipped"])


@pytest.mark.parametrize("flat", [False, True])
def test_a_raw_label_needs_no_preprocessing(
    evaluate: Evaluate, folder: Path, columns: small.Columns, flat: bool
) -> None:
    model = small.write_model(folder / f"raw-{flat}", small.probabilities(1.0, flat=flat), 3)
    _, rows = evaluate({"label_key": "tips", "metrics": {"MeanSquaredError": {}, "MeanAbsoluteError": {}}}, model=model)
    away = small.sigmoid(columns["x"]) - columns["tips"]
    assert metrics(rows)["MeanSquaredError"] == pytest.approx(np.mean(away**2), rel=1e-6)
    assert metrics(rows)["MeanAbsoluteError"] == pytest.approx(np.mean(np.abs(away)), rel=1e-6)


def test_many_classes_are_measured_with_numbers_and_with_vectors_as_labels(
    evaluate: Evaluate, folder: Path, columns: small.Columns
) -> None:
    model = small.write_model(folder / "classes", small.classes, 4)
    right = np.mean(small.numpy_classes(columns).argmax(axis=1) == columns["number"])
    sparse = {"SparseCategoricalAccuracy": {}, "SparseCategoricalCrossentropy": {}}
    _, rows = evaluate({"label_key": "number", "metrics": sparse}, model=model)
    assert metrics(rows)["SparseCategoricalAccuracy"] == pytest.approx(right, abs=1e-6)
    _, rows = evaluate(
        {"label_key": "onehot", "metrics": {"CategoricalAccuracy": {}}, "slices": [["kind"]]}, model=model
    )
    inside = columns["kind"] == "cash"
    right = np.mean(small.numpy_classes(columns)[inside].argmax(axis=1) == columns["number"][inside])
    assert metrics(rows, ["kind", "cash"])["CategoricalAccuracy"] == pytest.approx(right, abs=1e-6)


def test_one_of_several_outputs_is_named_by_the_prediction_key(
    evaluate: Evaluate, folder: Path, columns: small.Columns
) -> None:
    def predict(raw: dict[str, Any]) -> dict[str, tf.Tensor]:
        return {"twice": 2 * raw["x"], "thrice": 3 * raw["x"]}

    model = small.write_model(folder / "several", predict, 5)
    spec = {"label_key": "tips", "prediction_key": "thrice", "metrics": {"MeanSquaredError": {}}}
    _, rows = evaluate(spec, model=model)
    assert metrics(rows)["MeanSquaredError"] == pytest.approx(
        np.mean((3 * columns["x"] - columns["tips"]) ** 2), rel=1e-6
    )


def test_a_signature_of_features_is_fed_from_the_examples(
    evaluate: Evaluate, folder: Path, columns: small.Columns
) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")])
    def score(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"score": 4 * x}

    model = small.write_model(folder / "features", small.probabilities(1.0), 6, score=score)
    _, rows = evaluate({"label_key": "tips", "signature": "score", "metrics": {"MeanSquaredError": {}}}, model=model)
    assert metrics(rows)["MeanSquaredError"] == pytest.approx(
        np.mean((4 * columns["x"] - columns["tips"]) ** 2), rel=1e-6
    )


def test_a_keras_2_model_makes_its_label_with_its_tft_layer(
    evaluate: Evaluate, folder: Path, columns: small.Columns
) -> None:
    model = small.write_keras_2_model(folder / "keras2", 7)
    _, rows = evaluate({"label_key": "label_xf", "metrics": {"BinaryAccuracy": {}}}, model=model)
    right = np.mean((small.sigmoid(columns["x"]) > 0.5) == small.label(columns))
    assert metrics(rows)["BinaryAccuracy"] == pytest.approx(right, abs=1e-12)


def test_a_schema_says_how_to_read_the_examples(
    work: Perform, model: Artifact, examples: Artifact, tmp_path: Path
) -> None:
    lines = [
        f'feature {{ name: "{name}" type: {type_} presence {{ min_fraction: 1 }} shape {{ dim {{ size: {size} }} }} }}'
        for name, type_, size in [
            *[(n, "FLOAT", 1) for n in ("x", "tips", "weight")], ("onehot", "FLOAT", 3),
            *[(n, "INT", 1) for n in ("hour", "number")], ("kind", "BYTES", 1),
        ]
    ]  # fmt: skip
    (tmp_path / "schema.pbtxt").write_text("\n".join(lines))
    schema = Artifact(ArtifactType.SCHEMA, str(tmp_path), id=8)
    spec = {**BINARY, "slices": [[], ["hour"]]}
    with_schema, without = (
        work("evaluator", spec=spec, inputs={"examples": examples, "model": model, **more})["evaluation"][0]
        for more in ({"schema": schema}, {})
    )
    assert with_schema.digest == without.digest


def test_a_number_that_is_none_is_null(evaluate: Evaluate, folder: Path) -> None:
    model = small.write_model(folder / "nan", lambda raw: {"p": raw["x"] / tf.zeros_like(raw["x"])}, 10)
    _, rows = evaluate({"label_key": "tips", "metrics": {"MeanSquaredError": {}}}, model=model)
    assert metrics(rows)["MeanSquaredError"] is None


def test_what_needs_more_than_predictions_goes_through_tfmas_pipeline(
    evaluate: Evaluate, folder: Path, columns: small.Columns
) -> None:
    def predict(raw: dict[str, Any]) -> dict[str, tf.Tensor]:
        scores = small.classes(raw)["scores"]
        return {"scores": scores, "classes": tf.tile([list(small.KINDS)], [tf.shape(scores)[0], 1])}

    model = small.write_model(folder / "sets", predict, 11)
    spec = {
        "label_key": "kind",
        "metrics": {"SetMatchPrecision": {"config": {"thresholds": 0.5}}},
        "slices": [[], ["hour"]],
    }
    evaluation, rows = evaluate(spec, model=model)
    sure, true = small.numpy_classes(columns) > 0.5, np.eye(3)[columns["number"]] == 1
    for key, inside in [((), columns["hour"] >= 0), ((["hour", 2],), columns["hour"] == 2)]:
        expected = (sure & true)[inside].sum() / sure[inside].sum()
        assert metrics(rows, *key)["SetMatchPrecision"] == pytest.approx(expected, rel=1e-9)
        assert row(rows, *key)["examples"] == inside.sum()
    assert tfma.load_eval_result(evaluation.uri).slicing_metrics


def test_a_label_that_nobody_makes_is_named_with_what_there_is(evaluate: Evaluate, model: Artifact) -> None:
    with pytest.raises(BadInput, match="'tip'") as failed:
        evaluate({**BINARY, "label_key": "tip"}, model=model)
    assert "tips" in failed.value.hint
    assert "label_xf" in failed.value.hint


def test_a_signature_that_is_not_there_is_named_with_those_that_are(evaluate: Evaluate, model: Artifact) -> None:
    with pytest.raises(ComponentFailed, match="no signature 'predict', only serving_default, transform_features"):
        evaluate({**BINARY, "signature": "predict"}, model=model)


def test_no_examples_is_not_an_evaluation(work: Perform, model: Artifact, tmp_path: Path) -> None:
    none = small.write_examples(tmp_path / "none", small.rides(0))
    with pytest.raises(BadInput, match="no examples"):
        work("evaluator", spec=BINARY, inputs={"examples": none, "model": model})


def test_equal_numbers_for_equal_models_are_one_evaluation(evaluate: Evaluate, model: Artifact) -> None:
    first, second = (evaluate(BINARY, model=model)[0] for _ in range(2))
    assert first.digest == second.digest != evaluate({**BINARY, "slices": [["hour"]]}, model=model)[0].digest


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        pytest.param({"example_weight_key": "wieght"}, "example weight 'wieght' is neither a feature", id="weight"),
        pytest.param({"slices": [[], ["huor"]]}, "'huor', which examples are sliced by, is neither", id="slice"),
        pytest.param({"prediction_key": "probs"}, "has no output 'probs', only probabilities", id="prediction"),
    ],
)
def test_a_mistyped_name_is_refused_and_not_passed_over(
    evaluate: Evaluate, model: Artifact, said: dict[str, Any], complaint: str
) -> None:
    with pytest.raises((BadInput, ComponentFailed), match=complaint):
        evaluate({**BINARY, **said}, model=model)


def test_a_feature_that_only_the_model_makes_can_be_sliced_by(evaluate: Evaluate, folder: Path) -> None:
    model = small.write_model(
        folder / "by_itself", small.probabilities(1.5), 8, transform_features=small.transform_features
    )
    _, rows = evaluate({"label_key": "number", "slices": [["late_xf"]], "metrics": {"MeanLabel": {}}}, model=model)
    assert [r["slice"] for r in rows] == [[["late_xf", 0]], [["late_xf", 1]]]


@pytest.mark.parametrize(
    ("name", "dtype", "said"),
    [
        pytest.param(
            "keras_tensor", tf.float32, r"input 'keras_tensor' \(float32 \(None, 1\)\), and no feature", id="name"
        ),
        pytest.param("tips", tf.int64, "takes 'tips' as int64, and the feature is float32", id="type"),
    ],
)
def test_inputs_that_no_feature_fits_are_said_before_the_model_is_called(
    evaluate: Evaluate, tmp_path: Path, name: str, dtype: tf.DType, said: str
) -> None:
    module = tf.Module()
    module.signature = tf.function(lambda x: {"y": x})
    serve = module.signature.get_concrete_function(tf.TensorSpec([None, 1], dtype, name))
    tf.saved_model.save(module, str(tmp_path / "Format-Serving"), {"serving_default": serve})
    with pytest.raises(ComponentFailed, match=said) as caught:
        evaluate({"label_key": "tips", "metrics": {"MeanLabel": {}}}, model=small.model_artifact(tmp_path, 9))
    assert "signature of serialized examples" in caught.value.hint


@pytest.mark.parametrize("whole", [tf.int64, tf.float32])
def test_inputs_named_as_features_take_them(
    evaluate: Evaluate, tmp_path: Path, columns: small.Columns, whole: tf.DType
) -> None:
    module = tf.Module()
    module.signature = tf.function(
        lambda x, hour: {"y": x + tf.cast(hour, tf.float32)},
        [tf.TensorSpec([None, 1], tf.float32, "x"), tf.TensorSpec([None, 1], whole, "hour")],
    )
    tf.saved_model.save(module, str(tmp_path / "Format-Serving"), {"serving_default": module.signature})
    _, rows = evaluate(
        {"label_key": "tips", "slices": [[], ["hour"]], "metrics": {"MeanAbsoluteError": {}}},
        model=small.model_artifact(tmp_path, 9),
    )
    assert row(rows, ["hour", 4])["examples"] == 10
    expected = np.abs(columns["x"] + columns["hour"] - columns["tips"]).mean()
    assert metrics(rows)["MeanAbsoluteError"] == pytest.approx(expected, rel=1e-5)


def test_arguments_that_a_metric_does_not_know_are_said(evaluate: Evaluate, model: Artifact) -> None:
    with pytest.raises(ComponentFailed, match=r"unexpected keyword argument 'nthresholds'$") as caught:
        evaluate({**BINARY, "metrics": {"AUC": {"config": {"nthresholds": 5}}}}, model=model)
    assert "`config:`" in caught.value.hint


def test_the_spec_knows_the_metrics_of_tfma_and_keras() -> None:
    of_keras = {name for name, value in vars(tf_keras.metrics).items() if isinstance(value, type)}
    no_measures = {"Metric", "Mean", "Sum", "MeanTensor", "MeanMetricWrapper"}
    known = METRICS | UNMEASURABLE.keys()
    assert (of_keras | set(metric_types.registered_metrics())) - no_measures - INSTEAD.keys() == known
    assert not METRICS & UNMEASURABLE.keys()


def test_what_has_a_better_and_worse_is_a_metric() -> None:
    assert MORE_IS_BETTER | LESS_IS_BETTER | COMPARISONS <= METRICS


OF_CLASSES: dict[str, dict[str, Any]] = {
    "recall_of_1": {"metric": "Recall", "binarize": {"class_id": 1}, "at_least": 0.1},
    "accuracy_of_2": {"metric": "BinaryAccuracy", "binarize": {"class_id": 2}},
    "precision_top_2": {"metric": "Precision", "binarize": {"top_k": 2}},
    "recall_micro": {"metric": "Recall", "aggregate": {"average": "micro"}},
    "recall_macro": {
        "metric": "Recall",
        "aggregate": {"average": "macro", "classes": [0, 1, 2]},
        "at_least": 0.99,
    },
    "precision_of_some": {
        "metric": "Precision",
        "aggregate": {"average": "macro", "classes": [0, 2], "weights": [1, 3]},
    },
    "auc_weighted": {"metric": "AUC", "aggregate": {"average": "weighted", "classes": [0, 1, 2]}},
}


def classes_by_tfma(model: Artifact, examples: Artifact, weight: str, output: Path) -> dict[Any, dict[str, float]]:
    """The metrics OF_CLASSES by TFMA's own pipeline, one specification each, by slice and name."""

    def said(name: str, asked: dict[str, Any]) -> Any:
        averages = {"micro": "micro_average", "macro": "macro_average", "weighted": "weighted_macro_average"}
        spec = tfma.MetricsSpec(
            metrics=[tfma.MetricConfig(class_name=asked["metric"], config=json.dumps({"name": name}))]
        )
        for key, value in asked.get("binarize", {}).items():
            getattr(spec.binarize, {"class_id": "class_ids", "top_k": "top_k_list"}[key]).values.append(value)
        if aggregate := asked.get("aggregate"):
            setattr(spec.aggregate, averages[aggregate["average"]], True)
            classes = aggregate.get("classes", [])
            weights = aggregate.get("weights", [1] * len(classes))
            spec.aggregate.class_weights.update(dict(zip(classes, weights, strict=True)))
        return spec

    model_spec = tfma.ModelSpec(
        signature_name="serving_default", label_key="number", prediction_key="scores", example_weight_key=weight
    )
    config = tfma.EvalConfig(
        model_specs=[model_spec],
        metrics_specs=[said(name, asked) for name, asked in OF_CLASSES.items()],
        slicing_specs=[tfma.SlicingSpec(), tfma.SlicingSpec(feature_keys=["hour"])],
        options=tfma.Options(include_default_metrics={"value": False}),
    )
    tfma.run_model_analysis(
        eval_shared_model=tfma.default_eval_shared_model(f"{model.uri}/Format-Serving", eval_config=config),
        eval_config=config,
        data_location=f"{examples.uri}/Split-eval/*",
        output_path=str(output),
    )
    found: dict[Any, dict[str, float]] = {}
    for key, outputs in tfma.load_eval_result(str(output)).slicing_metrics:
        values = found.setdefault(tuple((feature, value) for feature, value in key), {})
        for by_class in outputs.values():
            for metrics_ in by_class.values():
                # TFMA writes averages as `macro_average: true`, a line break and `_name`.
                numbers = {name.rpartition("\n_")[2]: v.get("doubleValue") for name, v in metrics_.items()}
                values |= {name: value for name, value in numbers.items() if value is not None}
    return found


@pytest.mark.filterwarnings("ignore:.*encountered in divide:RuntimeWarning")  # TFMA's, of AUC
@pytest.mark.parametrize("weight", ["", "weight"], ids=["unweighted", "weighted"])
def test_metrics_of_classes_are_those_of_tfma(
    evaluate: Evaluate, subjects: dict[str, Any], tagged: Artifact, work: Perform, tmp_path: Path, weight: str
) -> None:
    model, baseline = subjects["classes"]
    spec = {
        "label_key": "number",
        "prediction_key": "scores",
        "example_weight_key": weight,
        "slices": [[], ["hour"]],
        "metrics": OF_CLASSES,
    }
    evaluation, rows = evaluate(spec, examples=tagged, model=model, baseline_model=baseline)
    expected = classes_by_tfma(model, tagged, weight, tmp_path / "tfma")
    for key, numbers in expected.items():
        found = metrics(rows, *map(list, key))
        assert {name: found[name] for name in OF_CLASSES} == pytest.approx(
            {name: numbers[name] for name in OF_CLASSES}, rel=1e-6, nan_ok=True
        )
    blessing = work("verdict", spec={"kind": "evaluator", **spec}, inputs={"model": model, "evaluation": evaluation})
    assert "recall_macro" in str(blessing["blessing"][0].properties["reason"])
