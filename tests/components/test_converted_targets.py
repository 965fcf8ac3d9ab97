"""Models in other forms: each converted, asked in its own runtime, compared, and only then a version of its target."""

import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.errors import BadInput, ComponentFailed
from ctd.deploy.conversion import Feeds, Form
from ctd.deploy.tfjs import Tfjs
from ctd.deploy.tflite import Tflite
from tests.components import evaluation_models as small
from tests.components.conftest import Perform

pytestmark = pytest.mark.tf

Push = Callable[..., Artifact]
HOURS = np.linspace(-1, 1, 24)
WEIGHTS = np.array([[1.0, 0.2, 0.1], [0.3, 1.1, 0.1], [0.0, 0.0, 0.0]], dtype=np.float32)
NUMBERS = {
    "x": tf.TensorSpec([None, 1], tf.float32, name="x"),
    "hour": tf.TensorSpec([None, 1], tf.int64, name="hour"),
}


class Model(tf.Module):
    """Says for numbers what `serving_default` says for examples; hours are looked up in a table of weights."""

    def __init__(self, hours: Sequence[float]) -> None:
        super().__init__()
        self.slope = tf.Variable([[2.0]])
        self.transform_features = small.transform_features
        self.hours = tf.Variable(np.array(hours, dtype=np.float32))

    @tf.function(input_signature=[NUMBERS])
    def numbers(self, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        deep = tf.nn.relu(features["x"] @ self.slope) - tf.nn.relu(-features["x"] @ self.slope)
        probability = tf.sigmoid(deep + tf.gather(self.hours, features["hour"]))
        return {"probability": probability, "sure": tf.abs(probability - 0.5)}

    @tf.function(input_signature=[NUMBERS])
    def unconvertible(self, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        (doubled,) = tf.numpy_function(lambda x: 2 * x, [features["x"]], [tf.float32])
        return {"doubled": tf.ensure_shape(doubled, [None, 1])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serving_default(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = tf.io.parse_example(examples, small.RAW)
        return self.numbers({"x": raw["x"], "hour": raw["hour"]})


def write(folder: Path, number: int = 1, *signatures: str, hours: Sequence[float] = HOURS) -> Artifact:
    model = Model(hours)
    chosen = {name: getattr(model, name) for name in signatures or ("serving_default", "numbers")}
    tf.saved_model.save(model, str(folder / "Format-Serving"), chosen)
    return Artifact(ArtifactType.MODEL, str(folder), f"model-{number}", id=number)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return write(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return small.write_examples(tmp_path_factory.mktemp("examples"), small.rides(200))


@pytest.fixture
def push(work: Perform, tmp_path: Path, examples: Artifact) -> Push:
    def perform(
        model: Artifact,
        kind: str,
        /,
        *,
        more: dict[str, Any] | None = None,
        given: dict[str, Artifact] | None = None,
        **said: Any,
    ) -> Artifact:
        target = {"target": kind, "kind": kind, "path": str(tmp_path / kind), **said}
        blessing = Artifact(ArtifactType.MODEL_BLESSING, "/nowhere", properties={"blessed": 1})
        inputs = {"model": model, "model_blessing": blessing, "infra_blessing": blessing}
        inputs |= {"examples": examples} if given is None else given
        made = work("pusher", spec={"targets": [kind]}, inputs=inputs, target=target, **(more or {}))
        (pushed,) = made["pushed_model"]
        return pushed

    return perform


def feeds(rows: int = 5) -> Feeds:
    return {"x": np.linspace(-2, 2, rows, dtype=np.float32)[:, None], "hour": np.arange(rows)[:, None]}


def expected(model: Artifact) -> dict[str, np.ndarray]:
    signature = tf.saved_model.load(f"{model.uri}/Format-Serving").signatures["numbers"]
    return {name: value.numpy() for name, value in signature(**{n: tf.constant(v) for n, v in feeds().items()}).items()}


FORMS: list[tuple[str, Form, str]] = [("tflite", Tflite("none"), "model.tflite"), ("tfjs", Tfjs("none"), "model.json")]


@pytest.mark.parametrize(("kind", "form", "file"), FORMS, ids=[kind for kind, *_ in FORMS])
def test_a_converted_version_answers_as_the_model_does(
    push: Push, model: Artifact, tmp_path: Path, kind: str, form: Form, file: str
) -> None:
    pushed = push(model, kind)
    assert (pushed.properties["pushed"], pushed.properties["pushed_version"]) == (1, 1)
    version = Path(str(pushed.properties["pushed_destination"]))
    assert version == tmp_path / kind / "1"
    assert (version / file).is_file()
    assert (tmp_path / kind / "current").read_text() == "1\n"
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    for path in version.iterdir():
        (fetched / path.name).write_bytes(path.read_bytes())
    (answer,) = form.answers(fetched, [feeds()])
    assert answer.keys() == {"probability", "sure"}
    for name, value in expected(model).items():
        np.testing.assert_allclose(answer[name], value, atol=1e-6)
    report = json.loads(Path(pushed.uri, "parity.json").read_text())
    assert (report["examples"], report["signature"], report["reason"]) == (200, "numbers", "")
    assert 0 <= report["outputs"]["probability"]["most"] < 1e-5


@pytest.mark.parametrize(
    "names",
    [("logits", "cls"), ("b", "a", "c"), ("score", "label", "rank", "probability", "z"), ("10", "9", "x", "01")],
    ids="-".join,
)
def test_each_output_has_its_own_name_in_the_browser(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Each is told from all others by its numbers and, but for the first, by its shape."""

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")])
    def several(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {name: x + float(n) if n % 2 else tf.reduce_sum(x, axis=1) - float(n) for n, name in enumerate(names)}

    made, x = tmp_path / "made", np.array([[0.25], [0.5]], dtype=np.float32)
    tf.saved_model.save(tf.Module(), str(tmp_path / "model"), {"several": several})
    Tfjs("none").convert(tmp_path / "model", "several", made, [{"x": x}])
    (answer,) = Tfjs("none").answers(made, [{"x": x}])
    assert answer.keys() == set(names)
    for name, value in several(tf.constant(x)).items():
        np.testing.assert_allclose(answer[name], value)


@pytest.mark.parametrize("kind", ["tflite", "tfjs"])
def test_the_same_model_is_not_converted_twice_and_a_damaged_version_is_made_again(
    push: Push, model: Artifact, tmp_path: Path, kind: str
) -> None:
    push(model, kind)
    again = push(model, kind)
    assert again.properties["pushed_version"] == 1
    assert not Path(again.uri, "parity.json").exists(), "nothing was compared because nothing was converted"
    next((tmp_path / kind / "1").iterdir()).write_bytes(b"x")
    assert push(model, kind).properties["pushed_version"] == 2
    assert (tmp_path / kind / "current").read_text() == "2\n"


@pytest.mark.parametrize(
    ("kind", "quantization"),
    [("tflite", "float16"), ("tflite", "int8"), ("tfjs", "uint8")],
)
def test_quantized_versions_differ_a_little_and_are_held_to_their_limit(
    push: Push, model: Artifact, tmp_path: Path, kind: str, quantization: str
) -> None:
    pushed = push(model, kind, quantization=quantization)
    report = json.loads(Path(pushed.uri, "parity.json").read_text())
    assert pushed.properties["pushed"] == 1
    worst = max(output["most"] for output in report["outputs"].values())
    assert 0 <= worst <= report["limits"]["max_difference"] <= 0.05


def test_a_conversion_that_changes_the_answers_does_not_ship_and_says_by_how_much(
    push: Push, model: Artifact, tmp_path: Path
) -> None:
    push(model, "tflite")
    refused = push(model, "tflite", quantization="dynamic", parity={"max_difference": 1e-9})
    assert refused.properties["pushed"] == 0
    reason = str(refused.properties["reason"])
    assert re.fullmatch(r"not pushed: output '\w+': max_difference [0-9.e-]+ > 1e-09 \(example \d+\)", reason)
    assert sorted(p.name for p in (tmp_path / "tflite").iterdir() if p.name[0] != ".") == ["1", "current"]
    assert (tmp_path / "tflite" / "current").read_text() == "1\n"


class Judged(NamedTuple):
    """A model whose hours lose all meaning when 8 bits have to hold them and an outlier, with its evaluation."""

    model: Artifact
    evaluation: Artifact
    accuracy: float
    weighted: float


@pytest.fixture(scope="module")
def judged(work: Perform, examples: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    hours = [-1.0, -1.1, -0.9, -1.0, -1.0, *[0.0] * 18, -5000.0]
    folder = tmp_path_factory.mktemp("judged")
    model = write(folder, 3, "serving_default", "numbers", "transform_features", hours=hours)
    measured = {"label_key": "label_xf", "prediction_key": "probability", "preprocessing": ["transform_features"]}
    metrics = {"BinaryAccuracy": {}, "AUC": {}, "sure": {"metric": "BinaryAccuracy", "config": {"threshold": 0.7}}}
    spec = {**measured, "example_weight_key": "weight", "metrics": metrics}
    (evaluation,) = work("evaluator", spec=spec, inputs={"model": model, "examples": examples})["evaluation"]
    rides = small.rides(200)
    right = (2 * rides["x"] + np.array(hours)[rides["hour"]] > 0) == small.label(rides)
    return Judged(model, evaluation, float(right.mean()), float(np.average(right, weights=rides["weight"])))


def test_the_evaluators_metrics_are_computed_again_by_the_answers_of_both(
    push: Push, judged: Judged, examples: Artifact
) -> None:
    given = {"examples": examples, "evaluation": judged.evaluation}
    pushed = push(judged.model, "tflite", given=given, parity={"metrics": {"BinaryAccuracy": 0.0, "sure": 0.0}})
    assert pushed.properties["pushed"] == 1, pushed.properties["reason"]
    report = json.loads(Path(pushed.uri, "parity.json").read_text())
    assert report["metrics"].keys() == {"BinaryAccuracy", "sure"}
    accuracy, sure = report["metrics"]["BinaryAccuracy"], report["metrics"]["sure"]
    assert sure["model"] == sure["converted"] != accuracy["model"]
    assert accuracy["model"] == pytest.approx(judged.weighted, abs=1e-6)
    assert accuracy["model"] != pytest.approx(judged.accuracy, abs=1e-6), "examples weigh what the evaluator says"
    assert (accuracy["converted"], accuracy["worse"], accuracy["limit"]) == (accuracy["model"], 0, 0)


def test_a_conversion_that_makes_a_metric_worse_does_not_ship_and_says_which_and_by_how_much(
    push: Push, judged: Judged, tmp_path: Path
) -> None:
    rides = small.rides(200)
    columns = {**{name: rides[name] for name in ("x", "hour", "weight")}, "label_xf": small.label(rides)}
    given = {"transformed_examples": small.write_examples(tmp_path / "xf", columns), "evaluation": judged.evaluation}
    parity = {"max_difference": 1.0, "metrics": {"BinaryAccuracy": 0.01}}
    refused = push(judged.model, "tfjs", given=given, quantization="uint8", parity=parity)
    assert refused.properties["pushed"] == 0
    accuracy = json.loads(Path(refused.uri, "parity.json").read_text())["metrics"]["BinaryAccuracy"]
    assert accuracy["model"] == pytest.approx(judged.weighted, abs=1e-6)
    assert accuracy["model"] - accuracy["converted"] == pytest.approx(accuracy["worse"])
    assert accuracy["worse"] > 0.01
    reason = str(refused.properties["reason"])
    pattern = r"not pushed: BinaryAccuracy 0\.\d+ after 0\.\d+ of the model itself: worse by 0\.\d+ > 0\.01"
    assert re.fullmatch(pattern, reason)
    assert not list((tmp_path / "tfjs").glob("[0-9]*"))


def test_metrics_that_cannot_be_computed_are_an_error_that_names_what_is_missing(
    push: Push, judged: Judged, examples: Artifact, tmp_path: Path
) -> None:
    def refusal(given: dict[str, Artifact], metric: str = "BinaryAccuracy") -> BadInput:
        with pytest.raises(BadInput) as caught:
            push(judged.model, "tflite", given=given, parity={"metrics": {metric: 0.01}})
        return caught.value

    assert "the pusher is given no evaluation" in refusal({"examples": examples}).message
    unknown = refusal({"examples": examples, "evaluation": judged.evaluation}, "Recall")
    assert "the evaluator does not measure Recall, only AUC, BinaryAccuracy, ExampleCount, sure" in unknown.message
    rides = small.rides(20)
    bare = small.write_examples(tmp_path / "xf", {"x": rides["x"], "hour": rides["hour"]})
    unlabelled = refusal({"transformed_examples": bare, "evaluation": judged.evaluation})
    assert re.search("target tflite: parity.metrics: label 'label_xf' is neither", unlabelled.message)
    assert "The examples have hour, x" in unlabelled.hint
    assert "preprocessing_fn" in unlabelled.hint


def ragged(folder: Path) -> Artifact:
    """Examples with one to three values of `x`."""
    values = [[float(n + k) for k in range(n % 3 + 1)] for n in range(70)]
    examples = [tf.train.Example(features=_x(of)).SerializeToString() for of in values]
    made = small.write_examples(folder, {"x": np.zeros(0)})
    (file,) = Path(folder, "Split-eval").iterdir()
    with tf.io.TFRecordWriter(str(file), tf.io.TFRecordOptions("GZIP")) as writer:
        for record in examples:
            writer.write(record)
    return made


def _x(values: list[float]) -> tf.train.Features:
    return tf.train.Features(feature={"x": tf.train.Feature(float_list=tf.train.FloatList(value=values))})


@pytest.mark.parametrize("kind", ["tflite", "tfjs"])
def test_inputs_and_outputs_of_any_shape_are_compared(push: Push, tmp_path: Path, kind: str) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="x")])
    def shapes(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"same": 2.0 * x, "each": tf.reduce_sum(x, axis=1), "all": tf.reduce_sum(x)}

    tf.saved_model.save(tf.Module(), str(tmp_path / "model/Format-Serving"), {"shapes": shapes})
    model = Artifact(ArtifactType.MODEL, str(tmp_path / "model"), "model-9", id=9)
    pushed = push(model, kind, given={"examples": ragged(tmp_path / "ragged")}, parity={"max_difference": 0.001})
    assert pushed.properties["pushed"] == 1, pushed.properties["reason"]
    report = json.loads(Path(pushed.uri, "parity.json").read_text())
    assert (report["examples"], report["outputs"].keys()) == (70, {"same", "each", "all"})


def test_a_signature_of_one_example_at_a_time_is_compared(push: Push, tmp_path: Path, examples: Artifact) -> None:
    takes = [tf.TensorSpec([], tf.float32, name="x"), tf.TensorSpec([1, 1], tf.int64, name="hour")]

    @tf.function(input_signature=takes)
    def one(x: tf.Tensor, hour: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + tf.cast(hour, tf.float32)}

    tf.saved_model.save(tf.Module(), str(tmp_path / "model/Format-Serving"), {"one": one})
    pushed = push(Artifact(ArtifactType.MODEL, str(tmp_path / "model"), "model-9", id=9), "tflite")
    assert pushed.properties["pushed"] == 1, pushed.properties["reason"]


def test_a_class_beside_quantized_scores_may_be_another_for_a_share_of_examples(push: Push, tmp_path: Path) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")])
    def classes(x: tf.Tensor) -> dict[str, tf.Tensor]:
        scores = tf.nn.softmax(tf.concat([x, -x, tf.zeros_like(x)], axis=1) @ tf.constant(WEIGHTS))
        return {"scores": scores, "cls": tf.argmax(scores, axis=1)}

    tf.saved_model.save(tf.Module(), str(tmp_path / "model/Format-Serving"), {"classes": classes})
    model = Artifact(ArtifactType.MODEL, str(tmp_path / "model"), "model-9", id=9)
    x = np.concatenate([np.linspace(-3, 3, 97), [-1e-6, -2e-6, -3e-6]])  # some are all but undecided
    given = {"examples": small.write_examples(tmp_path / "x", {"x": x})}
    said: dict[str, Any] = {"given": given, "quantization": "int8"}
    pushed = push(model, "tflite", **said)
    assert pushed.properties["pushed"] == 1, pushed.properties["reason"]
    found = json.loads(Path(pushed.uri, "parity.json").read_text())["outputs"]
    assert 0 < found["cls"]["differing"] <= 0.05
    assert found["scores"]["differing"] is None
    refused = push(model, "tflite", **said, parity={"max_differing": 0})
    assert "output 'cls': max_differing" in str(refused.properties["reason"])
    assert push(model, "tflite", **said, parity={"max_difference": {"cls": 2}}).properties["pushed"] == 1
    with pytest.raises(BadInput, match="the signature has no output class, only cls, scores"):
        push(model, "tflite", **said, parity={"max_difference": {"class": 1}})


@pytest.mark.parametrize("kind", ["tflite", "tfjs"])
def test_of_several_signatures_of_numbers_the_default_one_is_converted(push: Push, tmp_path: Path, kind: str) -> None:
    model = Model(HOURS)
    signatures = {"serve": model.numbers, "serving_default": model.numbers}  # as Keras 3 exports a model
    tf.saved_model.save(model, str(tmp_path / "model/Format-Serving"), signatures)
    pushed = push(Artifact(ArtifactType.MODEL, str(tmp_path / "model"), "model-9", id=9), kind)
    assert pushed.properties["pushed_version"] == 1
    assert json.loads(Path(pushed.uri, "parity.json").read_text())["signature"] == "serving_default"


@pytest.mark.parametrize("kind", ["tflite", "tfjs"])
def test_what_cannot_be_converted_is_an_error_of_that_target_that_names_a_way_out(
    push: Push, tmp_path: Path, kind: str
) -> None:
    every = write(tmp_path / "model", 7, "serving_default", "numbers", "unconvertible")
    with pytest.raises(BadInput, match="which signature to convert; signatures of plain numbers: numbers, unconv"):
        push(every, kind)
    with pytest.raises(BadInput, match="no signature 'nombers', only numbers, serving_default, unconvertible"):
        push(every, kind, signature="nombers")
    with pytest.raises(BadInput, match="'serving_default' takes or gives strings"):
        push(every, kind, signature="serving_default")
    with pytest.raises(ComponentFailed, match=r"onverter says|asking the|converting to"):
        push(every, kind, signature="unconvertible")
    assert push(every, kind, signature="numbers").properties["pushed_version"] == 1


def test_a_version_of_the_hub_is_a_saved_model_with_its_card_and_an_archive(
    push: Push, model: Artifact, tmp_path: Path
) -> None:
    story = {
        "model": 1,
        "pipeline": "taxi",
        "trained": "2026-01-01T00:00:00+00:00",
        "code": "c0de" * 16,
        "settings": {"train_steps": 500},
        "spans": [{"span": 7, "version": 2, "content": "aa"}],
        "verdicts": ["blessed: AUC 0.9 >= 0.5"],
        "made_by": [{"node": "trainer", "piece": "", "key": "spans 7", "execution": 12, "fingerprint": "ff" * 32}],
    }
    pushed = push(model, "hub", more={"story": story})
    version = Path(str(pushed.properties["pushed_destination"]))
    said = json.loads((version / "model.json").read_text())
    assert said["handle"] == "ctd/test"
    assert said["spans"] == story["spans"]
    assert said["signatures"]["numbers"]["inputs"]["x"] == {"dtype": "float32", "shape": [-1, 1]}
    card = (version / "MODEL_CARD.md").read_text()
    for part in ("7 v2", "blessed: AUC", "train_steps", "saved_model.pb", "`numbers`"):
        assert part in card
    with tarfile.open(version / "model.tar.gz") as archive:
        assert {"saved_model.pb", "variables"} <= set(archive.getnames())
    (tmp_path / "unpacked").mkdir()
    code = (
        "import sys, tensorflow_hub as hub, tensorflow as tf\n"
        "from tensorflow_hub import file_utils\n"
        "version, unpacked = sys.argv[1:]\n"
        "file_utils.extract_tarfile_to_destination(open(version + '/model.tar.gz', 'rb'), unpacked)\n"
        "for path in (version, unpacked):\n"
        "    f = hub.load(path).signatures['numbers']\n"
        "    print(float(f(x=tf.constant([[1.0]]), hour=tf.constant([[0]], tf.int64))['probability']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(version), str(tmp_path / "unpacked")],
        capture_output=True,
        text=True,
        check=True,
    )
    truth = 1 / (1 + np.exp(-(2.0 - 1.0)))
    assert [float(line) for line in done.stdout.split()] == pytest.approx([truth, truth], abs=1e-6)
    again = push(model, "hub", more={"story": story}, path=str(tmp_path / "other"))
    same = Path(str(again.properties["pushed_destination"]))
    assert (same / "model.tar.gz").read_bytes() == (version / "model.tar.gz").read_bytes()


@pytest.mark.parametrize(("of", "figures"), [(1, "| all | 0.8125 |"), (2, "Not evaluated.")])
def test_the_card_of_a_model_has_its_own_figures_only(
    push: Push, model: Artifact, tmp_path: Path, of: int, figures: str
) -> None:
    (tmp_path / "evaluation").mkdir()
    rows = [{"slice": [], "model": "candidate", "metrics": {"BinaryAccuracy": 0.8125}, "examples": 9}]
    (tmp_path / "evaluation/metrics.json").write_text(json.dumps(rows))
    said = {"current_model_id": of, "current_model_digest": f"of {of}"}
    evaluation = Artifact(ArtifactType.EVALUATION, str(tmp_path / "evaluation"), properties=said, id=4)
    story = {"model": 1, "pipeline": "taxi", "trained": "2026-01-01", "code": "", "settings": {}}
    story |= {"spans": [], "verdicts": [], "made_by": []}
    pushed = push(model, "hub", given={"evaluation": evaluation}, more={"story": story})
    version = Path(str(pushed.properties["pushed_destination"]))
    assert figures in (version / "MODEL_CARD.md").read_text()
    assert json.loads((version / "model.json").read_text())["metrics"] == (rows if of == 1 else [])


@pytest.mark.parametrize("form", [Tflite("none"), Tfjs("none")], ids=["tflite", "tfjs"])
@pytest.mark.parametrize(
    ("dtype", "function", "ops"),
    [
        pytest.param(
            tf.string,
            lambda x: {"y": tf.strings.length(tf.strings.lower(x))},
            ["StringLength", "StringLower"],
            id="strings",
        ),
        pytest.param(
            tf.float32,
            lambda x: {"y": tf.math.bessel_i0(x) + tf.math.digamma(x), "z": tf.math.betainc(x, x, x)},
            ["BesselI0", "Digamma", "Betainc"],
            id="functions",
        ),
        pytest.param(
            tf.string,
            lambda x: tf.io.parse_example(x, {"a": tf.io.FixedLenFeature([], tf.float32)}),
            ["ParseExampleV2"],
            id="examples",
        ),
    ],
)
def test_a_converter_that_refuses_names_every_op(
    tmp_path: Path, form: Form, dtype: tf.DType, function: Any, ops: list[str]
) -> None:
    model = tf.Module()
    model.f = tf.function(function, input_signature=[tf.TensorSpec([None], dtype, name="x")])
    tf.saved_model.save(model, str(tmp_path / "model"), {"serving_default": model.f})
    (tmp_path / "made").mkdir()
    with pytest.raises(ComponentFailed) as error:
        form.convert(tmp_path / "model", "serving_default", tmp_path / "made", [])
    assert [op for op in ops if op not in error.value.message] == []
    assert "\n" not in error.value.message
