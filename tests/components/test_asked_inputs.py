"""What a signature is asked with, by all who ask: values of the features its inputs are called after, or examples."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from ctd.components.canary_messages import LIVE_REQUESTS_FILE, REQUESTS_FILE, read_messages
from ctd.components.first_request import Question, answered
from ctd.components.serving_requests import Takes, load_signatures, requests
from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.timing import SystemClock
from ctd.deploy.model_config import Entry, ModelConfigFile
from tests.components.conftest import Perform

pytestmark = pytest.mark.tf

PNG = b"\x89PNG\r\n\x1a\n\x00\x01"
TEXTS = [b"good", b"quite bad", b"", b"fair"]
COLUMNS = [
    {"text": text, "image_raw": PNG + bytes([n]), "examples": b"ten", "x": float(n), "tags": [b"a", b"b"][: n % 3]}
    for n, text in enumerate(TEXTS)
]
PARSED = {"x": tf.io.FixedLenFeature([1], tf.float32)}


def example(columns: dict[str, Any]) -> bytes:
    made = tf.train.Example()
    for name, value in columns.items():
        values = value if isinstance(value, list) else [value]
        feature = made.features.feature[name]
        for of in values:
            (feature.bytes_list if isinstance(of, bytes) else feature.float_list).value.append(of)
        if not values:
            feature.SetInParent()
    return bytes(made.SerializeToString())


RECORDS = [example(columns) for columns in COLUMNS]
Answer = Callable[..., dict[str, tf.Tensor]]


def lengths(**given: tf.Tensor) -> dict[str, tf.Tensor]:
    return {f"{name}_length": tf.strings.length(value) for name, value in given.items()}


def parsing(**given: tf.Tensor) -> dict[str, tf.Tensor]:
    (examples,) = given.values()
    flat = tf.reshape(examples, [-1])
    return {"y": tf.io.parse_example(flat, PARSED)["x"][:, 0]}


def nested(**given: tf.Tensor) -> dict[str, tf.Tensor]:
    """Parses tf.Examples that a feature holds: they have other features than those of the data."""
    (inner,) = given.values()
    return {"y": tf.io.parse_example(inner, {"inside": tf.io.FixedLenFeature([1], tf.float32, [0.0])})["inside"]}


def export(folder: Path, answer: Answer, **inputs: list[int | None]) -> Path:
    specs = {name: tf.TensorSpec(shape, tf.string, name=name) for name, shape in inputs.items()}

    @tf.function(input_signature=[specs])
    def serve(given: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return answer(**given)

    tf.saved_model.save(tf.Module(), str(folder), {"serving_default": serve})
    return folder


CASES: dict[str, tuple[Answer, dict[str, list[int | None]], list[dict[str, Any]] | None]] = {
    "text": (lengths, {"text": [None]}, [{"text": [text]} for text in TEXTS]),
    "an image": (lengths, {"image_raw": [None]}, [{"image_raw": [of["image_raw"]]} for of in COLUMNS]),
    "rank 2": (lengths, {"text": [None, 1]}, [{"text": [[text]]} for text in TEXTS]),
    "a scalar": (lengths, {"text": []}, [{"text": text} for text in TEXTS]),
    "several": (
        lengths,
        {"text": [None], "image_raw": [None, 1]},
        [{"text": [of["text"]], "image_raw": [[of["image_raw"]]]} for of in COLUMNS],
    ),
    "as Keras 2 says it": (lengths, {"text_input": [None]}, [{"text_input": [text]} for text in TEXTS]),
    "any number of values": (lengths, {"tags": [None, None]}, [{"tags": [[b"a"]]}, {"tags": [[b"a", b"b"]]}]),
    "examples": (parsing, {"serialized": [None]}, None),
    "examples, and a feature of that name": (parsing, {"examples": [None]}, None),
    "one example": (parsing, {"serialized": []}, None),
    "a column of examples": (parsing, {"serialized": [None, 1]}, None),
    "a feature that holds examples": (nested, {"text": [None]}, [{"text": [text]} for text in TEXTS]),
    "nobody knows": (lengths, {"whatever": [None]}, None),
}


@pytest.mark.parametrize(("answer", "inputs", "wanted"), CASES.values(), ids=CASES)
def test_a_feature_of_the_inputs_name_comes_first_and_serialized_examples_after(
    tmp_path: Path, answer: Answer, inputs: dict[str, list[int | None]], wanted: list[dict[str, Any]] | None
) -> None:
    model = export(tmp_path / "model", answer, **inputs)
    signature = load_signatures(str(model))["serving_default"]
    asked = [{n: v.tolist() for n, v in of.feeds.items()} for of in requests(signature.takes, RECORDS, 9)]
    if wanted is None:
        ((name, shape),) = inputs.items()
        wanted = [{name: np.array([record], dtype=object).reshape([1] * len(shape)).tolist()} for record in RECORDS]
    assert asked == wanted


def test_a_blank_feature_is_not_replaced_by_the_whole_example(tmp_path: Path) -> None:
    model = export(tmp_path / "model", lengths, text=[None])
    takes = Takes({"text": tf.TensorSpec([None], tf.string)}, str(model), "serving_default")
    blank = [example({**COLUMNS[0], "text": []}), RECORDS[1]]
    assert [(of.number, of.feeds["text"].tolist()) for of in requests(takes, blank, 9)] == [(2, [TEXTS[1]])]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("examples")
    (folder / "Split-eval").mkdir()
    path = str(folder / "Split-eval/data_tfrecord-00000-of-00001.gz")
    with tf.io.TFRecordWriter(path, tf.io.TFRecordOptions("GZIP")) as writer:
        for record in RECORDS:
            writer.write(record)
    return Artifact(ArtifactType.EXAMPLES, str(folder), "d1", 1, 0, {"split_names": '["eval"]'}, id=1)


def picture(**given: tf.Tensor) -> dict[str, tf.Tensor]:
    """Fails for all but the bytes of an image."""
    (image,) = given.values()
    whole = tf.strings.regex_full_match(tf.strings.substr(image, 1, 3), "PNG")
    with tf.control_dependencies([tf.debugging.assert_equal(whole, tf.ones_like(whole))]):
        return {"size": tf.strings.length(image)}


def test_a_model_of_images_is_blessed_and_warmed_up_with_images(
    work: Perform, examples: Artifact, tmp_path: Path
) -> None:
    export(tmp_path / "model/Format-Serving", picture, image_raw=[None])
    model = Artifact(ArtifactType.MODEL, str(tmp_path / "model"), "m1", id=1)
    spec = {"requests": 3, "warmup": True}
    (blessing,) = work("infra_validator", spec=spec, inputs={"model": model, "examples": examples})["blessing"]
    assert blessing.properties["blessed"] == 1, blessing.properties["reason"]
    records = Path(blessing.uri, "stamped_model/assets.extra/tf_serving_warmup_requests")
    logs = [prediction_log_pb2.PredictionLog.FromString(of.numpy()) for of in tf.data.TFRecordDataset(str(records))]
    warm = [list(log.predict_log.request.inputs["image_raw"].string_val) for log in logs]
    assert warm == [[of["image_raw"]] for of in COLUMNS[:3]]


@pytest.mark.parametrize(("answer", "name"), [(lengths, "text"), (parsing, "examples"), (parsing, "serialized")])
def test_a_printed_request_asks_as_the_validator_does(
    tmp_path: Path, examples: Artifact, answer: Answer, name: str
) -> None:
    model = export(tmp_path / "model", answer, **{name: [None]})
    said = answered(Question([str(model)], [examples.uri]))
    assert said["kind"] == ("tensors" if name == "text" else "examples")
    assert said["row"] == ({"text": "good"} if name == "text" else {"x": 0.0})
    scalar = answered(Question([str(export(tmp_path / "scalar", parsing, serialized=[]))], [examples.uri]))
    assert scalar["tensors"].keys() == {"serialized"}
    assert scalar["tensors"]["serialized"].keys() == {"b64"}


def test_the_evaluator_asks_as_the_validator_does(work: Perform, examples: Artifact, tmp_path: Path) -> None:
    """TFMA would have a parser parse the feature that its input is called after."""
    export(tmp_path / "model/Format-Serving", parsing, examples=[None])
    model = Artifact(ArtifactType.MODEL, str(tmp_path / "model"), "m1", id=1)
    spec = {"label_key": "x", "metrics": {"MeanSquaredError": {}}}
    (evaluation,) = work("evaluator", spec=spec, inputs={"model": model, "examples": examples})["evaluation"]
    (row,) = json.loads(Path(evaluation.uri, "metrics.json").read_text())
    assert row["metrics"]["MeanSquaredError"] == 0


@pytest.mark.parametrize(("answer", "name"), [(lengths, "text"), (parsing, "examples")])
def test_a_canary_is_asked_with_the_same(
    work: Perform, examples: Artifact, tmp_path: Path, answer: Answer, name: str
) -> None:
    base, config = tmp_path / "serving" / "test", tmp_path / "models.config"
    export(base / "1", answer, **{name: [None]})
    export(tmp_path / "model/Format-Serving", answer, **{name: [None]})
    labels = ModelConfigFile(config, "test", str(base), lock=timedelta(seconds=1), clock=SystemClock())
    labels.write(Entry(frozenset({1}), {"stable": 1, "canary": 1}))
    server = {"grpc": "127.0.0.1:1", "config": str(config), "timeout": "1s"}
    target = {"target": "serving", "kind": "tf_serving", "path": str(base), "server": server, "canary": {}}
    inputs = {"model": Artifact(ArtifactType.MODEL, str(tmp_path / "model"), "m2", id=2), "examples": examples}
    (pushed,) = work("pusher", spec={"targets": ["serving"], "require": []}, inputs=inputs, target=target)[
        "pushed_model"
    ]
    sent = [predict_pb2.PredictRequest.FromString(m) for m in read_messages(Path(pushed.uri, REQUESTS_FILE))]
    values = [value for request in sent for value in request.inputs[name].string_val]
    assert values == (TEXTS if name == "text" else RECORDS)
    assert not Path(pushed.uri, LIVE_REQUESTS_FILE).exists(), "both take the same"
