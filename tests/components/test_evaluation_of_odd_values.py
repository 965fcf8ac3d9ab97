"""Labels, weights, inputs and predictions that are missing, no numbers, or of another form: what is said of them."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.errors import BadInput, ComponentFailed, CtdError
from tests.components import evaluation_models as small
from tests.components.conftest import Perform

pytestmark = pytest.mark.tf

ROWS = 300
NAN, INFINITE = float("nan"), float("inf")
BINARY: dict[str, Any] = {"label_key": "y", "metrics": {"BinaryAccuracy": {"at_least": 0.5}, "AUC": {"at_least": 0.5}}}
SPARSE: dict[str, Any] = {"label_key": "y", "metrics": {"SparseCategoricalCrossentropy": {"at_most": 9}}}
Values = Sequence[Any]
Predict = Callable[..., dict[str, Any]]


def columns(**more: Values) -> dict[str, Values]:
    """Numbers and a label that they foretell, with columns added or in their place."""
    x = np.random.default_rng(1).normal(size=ROWS).astype(np.float32)
    return {"x": x, "y": (x > 0.3).astype(np.int64), **more}


def but(values: Values, rows: Sequence[int], value: Any = None) -> list[Any]:
    """The values with another one in these rows; None is none."""
    return [value if row in rows else own for row, own in enumerate(values)]


def write(folder: Path, values: Mapping[str, Values]) -> Artifact:
    split = folder / "examples" / "Split-eval"
    split.mkdir(parents=True)
    path = str(split / "data_tfrecord-00000-of-00001.gz")
    with tf.io.TFRecordWriter(path, tf.io.TFRecordOptions("GZIP")) as writer:
        for row in zip(*values.values(), strict=True):
            there = {name: [v] for name, v in zip(values, row, strict=True) if v is not None}
            # Without x, which counts rows there, nothing would be written.
            (record,) = small.records({**there, "x": there.get("x", [np.zeros(0, np.float32)])})
            writer.write(record)
    return Artifact(ArtifactType.EXAMPLES, str(folder / "examples"), "d", 1, 0, {"split_names": '["eval"]'}, id=1)


def sigmoid(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"p": tf.sigmoid(x)}


def three(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"p": tf.nn.softmax(tf.concat([x, -x, 0 * x], axis=1))}


def save(
    folder: Path, predict: Predict = sigmoid, shape: Sequence[int | None] = (None, 1), **types: tf.DType
) -> Artifact:
    """A model of features: `x` if nothing else is said."""
    module = tf.Module()
    inputs = types or {"x": tf.float32}
    module.serve = tf.function(predict, [tf.TensorSpec(shape, dtype, name) for name, dtype in inputs.items()])
    tf.saved_model.save(module, str(folder / "Format-Serving"), {"serving_default": module.serve})
    return small.model_artifact(folder, 2)


@pytest.fixture
def evaluate(work: Perform, tmp_path: Path) -> Callable[..., tuple[list[dict[str, Any]], Artifact]]:
    numbers = itertools.count()

    def perform(values: Mapping[str, Values], model: Artifact | None = None, **more: Any) -> Any:
        spec = {**BINARY, **more.pop("spec", {})}
        folder = tmp_path / f"evaluation-{next(numbers)}"
        inputs = {"examples": write(folder, values), "model": model or save(folder / "model"), **more}
        (evaluation,) = work("evaluator", spec=spec, inputs=inputs)["evaluation"]
        judged = {"model": inputs["model"], "evaluation": evaluation}
        (blessing,) = work("verdict", spec={"kind": "evaluator", **spec}, inputs=judged)["blessing"]
        return json.loads(Path(evaluation.uri, "metrics.json").read_text()), blessing

    return perform


Y = columns()["y"]
ONES = np.ones(ROWS, np.float32)


@pytest.mark.parametrize(
    ("values", "spec", "said"),
    [
        pytest.param(
            {"y": but(Y, [16, 99])}, {}, "2 of 300 examples have no label 'y' (the first: example 17)", id="label",
        ),
        pytest.param(
            {"w": but(ONES, [3])}, {"example_weight_key": "w"},
            "1 of 300 examples have no example weight 'w'", id="weight",
        ),
        pytest.param(
            {"y": but(Y.astype(np.float32), [5], np.float32(NAN))}, {},
            "label 'y' is NaN or infinite in 1 of 300 examples (the first: example 6)", id="label that is NaN",
        ),
        pytest.param(
            {"y": but(but(Y.astype(np.float32), [5], np.float32(NAN)), [1, 2])}, {},
            "2 of 300 examples have no label 'y' and label 'y' is NaN or infinite in 1 of 300 examples", id="both",
        ),
        pytest.param(
            {"w": but(ONES, [0, 1, 2], np.float32(INFINITE))}, {"example_weight_key": "w"},
            "example weight 'w' is NaN or infinite in 3 of 300 examples", id="infinite weight",
        ),
        pytest.param({"x": but(columns()["x"], [9])}, {}, "1 of 300 examples have no feature 'x'", id="input"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_with_feature_and_count(
    evaluate: Callable[..., Any], values: dict[str, Values], spec: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput) as caught:
        evaluate(columns(**values), spec=spec)
    assert said in caught.value.message
    assert "Mend the data" in caught.value.hint


def test_a_label_that_is_missing_in_a_later_batch_is_counted_over_all(evaluate: Callable[..., Any]) -> None:
    with pytest.raises(BadInput, match=r"3 of 300 examples have no label 'y' \(the first: example 2\)"):
        evaluate(columns(y=but(Y, [1, 150, 299])))


@pytest.mark.filterwarnings("ignore:.*encountered in divide:RuntimeWarning")  # TFMA's, of AUC
@pytest.mark.parametrize("metric", ["BinaryAccuracy", "AUC", "MeanSquaredError", "MeanPrediction", "Precision"])
def test_predictions_that_are_nan_refuse_with_their_count(
    evaluate: Callable[..., Any], tmp_path: Path, metric: str
) -> None:
    model = save(tmp_path, lambda x: {"p": tf.where(x > 1.5, NAN, tf.sigmoid(x))})
    values = columns(side=["far" if x > 1.5 else "near" for x in columns()["x"]])
    many = int((values["x"] > 1.5).sum())
    spec = {"metrics": {metric: {"at_most": 9}}, "slices": [[], ["side"]]}
    rows, blessing = evaluate(values, model, spec=spec)
    by_slice = {str(row["slice"]): row["metrics"] for row in rows}
    assert by_slice["[]"] == {metric: None, "ExampleCount": ROWS, "NanPredictions": many}
    assert by_slice["[['side', 'far']]"]["NanPredictions"] == many > 3
    assert by_slice["[['side', 'near']]"].keys() == {metric, "ExampleCount"}
    assert by_slice["[['side', 'near']]"][metric] is not None
    assert not blessing.properties["blessed"]
    assert blessing.properties["reason"].startswith(f"not blessed: overall: {many} of 300 predictions are NaN (")


def test_nan_in_one_of_several_classes_is_nan_and_in_another_output_is_none(
    evaluate: Callable[..., Any], tmp_path: Path
) -> None:
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"p": tf.sigmoid(x), "classes": tf.concat([x, tf.where(x > 1.5, NAN, x)], axis=1), "q": NAN * x}

    model = save(tmp_path, predict)
    _, blessing = evaluate(columns(), model, spec={"prediction_key": "p"})
    assert blessing.properties["blessed"]
    spec = {"prediction_key": "classes", "metrics": {"SparseCategoricalAccuracy": {"at_least": 0.0}}}
    _, blessing = evaluate(columns(), model, spec=spec)
    assert "predictions are NaN" in blessing.properties["reason"]


def test_a_baseline_that_answers_nan_keeps_no_candidate_out(evaluate: Callable[..., Any], tmp_path: Path) -> None:
    baseline = save(tmp_path, lambda x: {"p": NAN * x})
    limits = {"AUC": {"at_least": 0.5, "not_worse_than_baseline_by": 0.1}, "SymmetricFlipRate": {"at_most": 0.1}}
    rows, blessing = evaluate(columns(), spec={"metrics": limits}, baseline_model=baseline)
    assert {row["model"]: row["metrics"]["AUC"] is None for row in rows} == {"candidate": False, "baseline": True}
    assert next(row for row in rows if row["model"] == "baseline")["metrics"]["NanPredictions"] == ROWS
    assert not blessing.properties["blessed"]
    assert "SymmetricFlipRate is missing or not a number" in blessing.properties["reason"]
    rows, blessing = evaluate(columns(), spec={"metrics": {"AUC": limits["AUC"]}}, baseline_model=baseline)
    assert blessing.properties["blessed"]


def test_infinite_predictions_are_judged_as_tfma_judges_and_told_where_that_is_no_number(
    evaluate: Callable[..., Any], tmp_path: Path
) -> None:
    model = save(tmp_path, lambda x: {"p": tf.where(x > 1.5, INFINITE, tf.sigmoid(x))})
    rows, blessing = evaluate(columns(), model)
    assert blessing.properties["blessed"]
    many = rows[0]["metrics"]["InfinitePredictions"]
    _, blessing = evaluate(columns(), model, spec={"metrics": {"MeanSquaredError": {"at_most": 9}}})
    assert f"not blessed: overall: {many:.0f} of 300 predictions are infinite" in blessing.properties["reason"]


@pytest.mark.parametrize(
    ("output", "shape"),
    [(lambda: tf.constant(3), "()"), (lambda: tf.constant([3, 4, 5]), "(3,)"), (lambda: tf.constant([7]), "(1,)")],
    ids=["scalar", "vector", "one"],
)
def test_an_output_without_a_row_for_each_example_is_named(
    evaluate: Callable[..., Any], tmp_path: Path, output: Callable[[], tf.Tensor], shape: str
) -> None:
    model = save(tmp_path, lambda x: {"p": tf.sigmoid(x), "version": output()})
    with pytest.raises(ComponentFailed) as caught:
        evaluate(columns(), model, spec={"prediction_key": "p"})
    assert f"output 'version' of signature 'serving_default' has the shape {shape} for" in caught.value.message
    assert "tf.repeat" in caught.value.hint


def test_a_model_that_drops_the_dimension_of_a_batch_of_one_is_measured(
    evaluate: Callable[..., Any], tmp_path: Path
) -> None:
    model = save(tmp_path, lambda x: {"p": tf.squeeze(tf.sigmoid(x))})
    own, _ = evaluate(columns(), model)
    assert own == evaluate(columns())[0]


@pytest.mark.parametrize(
    ("values", "spec", "predict", "said"),
    [
        pytest.param({"y": but(Y, [16, 17], 7)}, SPARSE, three, "not within 0 to 2, as labels for 3 classes", id="7"),
        pytest.param({"y": but(Y, [16], -1)}, SPARSE, three, "1 of 300 examples (the first: example 17, -1)", id="1"),
        pytest.param({"y": but(Y, [16], 7)}, {}, sigmoid, "'y' is not within 0 to 1, as labels for one", id="AUC"),
        pytest.param({"y": but(Y, [16], [1, 0])}, {}, sigmoid, "1 of 300 examples do not have 1 of label", id="two"),
        pytest.param({"y": ["yes"] * ROWS}, {}, sigmoid, "label 'y' is text", id="text"),
        pytest.param({"y": [[0, 1, 0]] * ROWS}, {}, sigmoid, "3 of label 'y' and 1 predictions", id="three labels"),
        pytest.param(
            {"y": [[0, 1]] * ROWS}, {"metrics": {"CategoricalCrossentropy": {}}}, three,
            "2 of label 'y' and 3 predictions", id="two labels of three",
        ),
        pytest.param({}, {}, lambda x: {"p": tf.strings.as_string(x)}, "predictions are text", id="predictions"),
        pytest.param({}, {}, lambda x: {"p": x, "q": x}, "which of the outputs p, q is measured", id="outputs"),
    ],
)  # fmt: skip
def test_labels_and_predictions_that_do_not_suit_metrics_are_told_in_terms_of_the_spec(
    evaluate: Callable[..., Any],
    tmp_path: Path,
    values: dict[str, Values],
    spec: dict[str, Any],
    predict: Predict,
    said: str,
) -> None:
    with pytest.raises(ComponentFailed) as caught:
        evaluate(columns(**values), save(tmp_path, predict), spec=spec)
    assert said in caught.value.message


def test_a_feature_that_lacks_values_which_the_schema_promises_is_named(
    evaluate: Callable[..., Any], tmp_path: Path
) -> None:
    lines = [
        f'feature {{ name: "{name}" type: {kind} presence {{ min_fraction: 1 }} shape {{ dim {{ size: 1 }} }} }}'
        for name, kind in (("x", "FLOAT"), ("y", "INT"), ("z", "INT"))
    ]
    (tmp_path / "schema.pbtxt").write_text("\n".join(lines))
    schema = Artifact(ArtifactType.SCHEMA, str(tmp_path), id=8)
    with pytest.raises(BadInput, match="4 of 300 examples do not have the 1 values of feature 'z'"):
        evaluate(columns(z=but(Y, [1, 2, 3, 4])), schema=schema)


def test_a_feature_of_two_types_is_named(evaluate: Callable[..., Any]) -> None:
    with pytest.raises(BadInput, match=r'do not agree on the types of their features: .*"z"'):
        evaluate(columns(z=[*[1] * 200, *[1.5] * 100]))


@pytest.mark.parametrize("dtype", [tf.int32, tf.bool, tf.float64, tf.int16, tf.uint8, tf.float32, tf.float16])
def test_inputs_take_whole_numbers_in_their_own_type(
    evaluate: Callable[..., Any], tmp_path: Path, dtype: tf.DType
) -> None:
    model = save(tmp_path, lambda x: {"p": tf.sigmoid(tf.cast(x, tf.float32) - 0.5)}, x=dtype)
    rows, _ = evaluate(columns(x=Y), model)
    assert rows[0]["metrics"]["BinaryAccuracy"] == 1


@pytest.mark.parametrize(
    ("dtype", "values", "said"),
    [
        pytest.param(
            tf.int32, but(Y, [3], 3_000_000_000), "as int32, and the feature has values from 0 to 3000000000", id="far"
        ),
        pytest.param(tf.bool, but(Y, [1], 2), "as bool, and the feature has values from", id="bool"),
        pytest.param(tf.int64, Y.astype(np.float32), "as int64, and the feature is float32", id="fraction"),
        pytest.param(tf.float32, ["a"] * ROWS, "as float32, and the feature is object", id="text"),
        pytest.param(tf.string, Y, "as string, and the feature is int64", id="no text"),
    ],
)
def test_inputs_that_would_become_other_numbers_are_refused(
    evaluate: Callable[..., Any], tmp_path: Path, dtype: tf.DType, values: Values, said: str
) -> None:
    model = save(tmp_path, lambda x, y: {"p": tf.cast(y, tf.float32)}, x=dtype, y=tf.int64)
    with pytest.raises(CtdError) as caught:
        evaluate(columns(x=values, y=Y), model)
    assert said in caught.value.message


def test_inputs_have_the_shape_that_the_signature_says(evaluate: Callable[..., Any], tmp_path: Path) -> None:
    x = columns()["x"]
    flat = save(tmp_path / "flat", sigmoid, (None,))
    square = save(tmp_path / "square", lambda x: {"p": tf.sigmoid(x[:, 1, 1])}, (None, 2, 2))
    plain, _ = evaluate(columns())
    assert evaluate(columns(), flat)[0] == plain
    assert evaluate(columns(x=[np.array([0, 0, 0, v], np.float32) for v in x]), square)[0] == plain
    with pytest.raises(ComponentFailed, match=r"takes 'x' as float32 \(None, 2, 2\), and examples have 3 values of it"):
        evaluate(columns(x=[np.array([0, 0, v], np.float32) for v in x]), square)
