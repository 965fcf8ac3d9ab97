"""A candidate in a model server of its own: a verdict on the model, and never one on the machine."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from ctd.components.serving_requests import Takes, complaint, requests
from ctd.core.artifacts import Artifact
from ctd.core.errors import BadInput, TemporaryError
from tests.components import evaluation_models as small
from tests.components.conftest import Perform

pytestmark = pytest.mark.tf

Validate = Callable[..., tuple[Artifact, dict[str, Any]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("infra")


@pytest.fixture(scope="module")
def examples(folder: Path) -> Artifact:
    return small.write_examples(folder / "examples", small.rides(30))


@tf.function(
    input_signature=[
        tf.TensorSpec([None, 1], tf.float32, name="x"),
        tf.TensorSpec([None], tf.int64, name="hour"),
        tf.TensorSpec([None, 3], tf.float64, name="onehot"),
        tf.TensorSpec([None, 1], tf.string, name="kind"),
    ]
)
def raw(x: tf.Tensor, hour: tf.Tensor, onehot: tf.Tensor, kind: tf.Tensor) -> dict[str, tf.Tensor]:
    total = x[:, 0] + tf.cast(hour, tf.float32) + tf.cast(tf.reduce_sum(onehot, axis=1), tf.float32)
    return {"total": total, "kind": kind, "hour": hour}


@tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="unheard_of")])
def unheard(unheard_of: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"same": unheard_of}


@pytest.fixture(scope="module")
def model(folder: Path) -> Artifact:
    return small.write_model(folder / "model", small.probabilities(1.5), 1, raw=raw, unheard=unheard)


@pytest.fixture(scope="module")
def validate(work: Perform, examples: Artifact) -> Validate:
    def perform(model: Artifact, spec: dict[str, Any] | None = None, **inputs: Any) -> tuple[Artifact, dict[str, Any]]:
        spec = {"requests": 3, **(spec or {})}
        made = work("infra_validator", spec=spec, inputs={"model": model, **({"examples": examples} | inputs)})
        (blessing,) = made["blessing"]
        report = json.loads(Path(blessing.uri, "report.json").read_text())
        return blessing, report

    return perform


def files(blessing: Artifact) -> list[str]:
    return sorted(path.name for path in Path(blessing.uri).iterdir())


def test_a_good_model_is_blessed_after_it_answered(validate: Validate, model: Artifact) -> None:
    blessing, report = validate(model, {"signatures": ["serving_default", "raw"]})
    assert files(blessing) == ["INFRA_BLESSED", "report.json", "server.log"]
    assert (blessing.properties["blessed"], blessing.properties["current_model_id"]) == (1, 1)
    assert blessing.properties["runner"] == "embedded"
    (server,) = report["servers"]
    assert {name: said["requests"] for name, said in server["signatures"].items()} == {"serving_default": 3, "raw": 3}
    assert blessing.properties["has_model"] == 0
    assert "serving_default answered 3 requests" in str(blessing.properties["reason"])


def test_equal_verdicts_on_one_model_are_one_artifact(validate: Validate, model: Artifact) -> None:
    assert validate(model)[0].digest == validate(model, {"requests": 1})[0].digest


def not_blessed(blessing: Artifact) -> str:
    assert blessing.properties["blessed"] == 0
    assert "INFRA_NOT_BLESSED" in files(blessing)
    assert "INFRA_BLESSED" not in files(blessing)
    return str(blessing.properties["reason"])


def test_a_model_that_answers_nan_is_refused_with_the_place(validate: Validate, folder: Path) -> None:
    def divide(raw: dict[str, Any]) -> dict[str, tf.Tensor]:
        return {"p": raw["x"] / tf.zeros_like(raw["x"])}

    reason = not_blessed(validate(small.write_model(folder / "nan", divide, 2))[0])
    assert reason.startswith("not blessed: signature 'serving_default', request 1: output 'p' is ")
    assert reason.endswith(("inf", "nan"))


@pytest.mark.parametrize("damage", ["graph", "variables", "everything"])
def test_a_damaged_model_is_refused_by_the_server(validate: Validate, folder: Path, damage: str) -> None:
    serving = folder / damage / "Format-Serving"
    if damage == "everything":
        serving.mkdir(parents=True)
    else:
        small.write_model(folder / damage, small.probabilities(1.0), 3)
        path = serving / "saved_model.pb" if damage == "graph" else serving / "variables" / "variables.index"
        path.write_bytes(b"rotten")
    assert "refused" in not_blessed(validate(small.model_artifact(folder / damage, 3))[0])


def test_a_signature_that_is_not_there_is_refused_with_those_that_are(validate: Validate, model: Artifact) -> None:
    reason = not_blessed(validate(model, {"signatures": ["serving_default", "predict"]})[0])
    assert "no signature 'predict', only raw, serving_default" in reason


def test_inputs_that_no_example_has_are_no_pass(validate: Validate, model: Artifact) -> None:
    assert "no example has unheard_of" in not_blessed(validate(model, {"signatures": ["unheard"]})[0])


def test_a_model_that_fails_on_a_request_is_refused(validate: Validate, folder: Path) -> None:
    def fail(raw: dict[str, Any]) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.assert_less(raw["x"], -1000.0, message="far too large")]):
            return {"p": tf.identity(raw["x"])}

    reason = not_blessed(validate(small.write_model(folder / "fails", fail, 5))[0])
    assert "request 1" in reason
    assert "far too large" in reason


def test_a_model_that_rolls_dice_is_not_compared(validate: Validate, folder: Path) -> None:
    def roll(raw: dict[str, Any]) -> dict[str, tf.Tensor]:
        return {"p": raw["x"] + tf.random.uniform(tf.shape(raw["x"]))}

    blessing, report = validate(small.write_model(folder / "dice", roll, 6))
    assert blessing.properties["blessed"] == 1
    assert any("not compared" in note for note in report["notes"])


def test_examples_beyond_those_that_may_be_asked_about_are_not_read(
    validate: Validate, model: Artifact, tmp_path: Path
) -> None:
    padded = tf.train.Example(
        features=tf.train.Features(
            feature={"pad": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x" * 4000]))}
        )
    ).SerializeToString()  # protobuf merges what follows one another
    many = small.write_examples(tmp_path / "many", small.rides(3))
    (file,) = Path(many.uri, "Split-eval").iterdir()
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in small.records(small.rides(2000)):
            writer.write(record + padded)
    with file.open("ab") as end:
        end.write(b"no record")
    assert validate(model, examples=many)[0].properties["blessed"] == 1


@pytest.mark.parametrize(("spec", "inputs"), [({"requests": 0}, {}), ({}, {"examples": ()})])
def test_a_model_that_was_only_loaded_is_said_so(
    validate: Validate, model: Artifact, spec: dict[str, Any], inputs: dict[str, Any]
) -> None:
    blessing, report = validate(model, spec, **inputs)
    assert blessing.properties["blessed"] == 1
    assert report["servers"][0]["signatures"] == {}
    assert "only loaded" in str(blessing.properties["reason"])


@pytest.mark.parametrize(("least", "blessed"), [(1, 1), (1000, 0)], ids=["rightly nothing", "always nothing"])
def test_a_model_may_answer_with_nothing_but_not_always(
    validate: Validate, folder: Path, least: int, blessed: int
) -> None:
    """A detector that finds as many boxes as x says."""

    def boxes(raw: dict[str, Any]) -> dict[str, tf.Tensor]:
        found = tf.maximum(0, tf.cast(tf.floor(raw["x"][0, 0]), tf.int32) - least + 1)
        return {"boxes": tf.zeros((found, 4))}

    examples = small.write_examples(folder / f"boxes-{least}-data", small.rides(30) | {"x": np.arange(30.0) % 3})
    model = small.write_model(folder / f"boxes-{least}", boxes, 9)
    blessing, _ = validate(model, {"requests": 10}, examples=examples)
    assert blessing.properties["blessed"] == blessed, blessing.properties["reason"]
    assert blessed or "answered with nothing" in str(blessing.properties["reason"])


def test_a_model_that_is_loaded_and_never_answers_is_refused_after_as_many_tries(
    validate: Validate, folder: Path
) -> None:
    def hang(raw: dict[str, Any]) -> dict[str, tf.Tensor]:
        (x,) = tf.while_loop(lambda x: tf.reduce_all(x > -1e9), lambda x: (tf.abs(x) + 1.0,), [raw["x"]])
        return {"p": x}

    model = small.write_model(folder / "hangs", hang, 10)
    reason = not_blessed(validate(model, {"request_timeout": "1s", "attempts": 2})[0])
    assert "signature 'serving_default', request 1: no answer within 1 s, in each of 2 tries" in reason
    assert "`request_timeout`" in reason


def test_requests_that_are_wanted_and_cannot_be_made_are_no_pass(
    validate: Validate, model: Artifact, tmp_path: Path
) -> None:
    empty = small.write_examples(tmp_path / "empty", {"x": np.zeros(0)})
    reason = not_blessed(validate(model, {"requests": 20}, examples=empty)[0])
    assert "every split of span 1 is empty" in reason
    assert "`requests: 0`" in reason
    assert validate(model, {"requests": 0}, examples=empty)[0].properties["blessed"] == 1


def test_a_split_that_does_not_exist_is_an_error(validate: Validate, model: Artifact) -> None:
    with pytest.raises(BadInput, match="no split 'test'"):
        validate(model, {"split": "test"})


@pytest.mark.parametrize("binary", ["/nowhere/tensorflow_model_server", "/bin/false"])
def test_a_server_that_cannot_start_says_nothing_about_the_model(
    validate: Validate, model: Artifact, binary: str
) -> None:
    with pytest.raises(TemporaryError):
        validate(model, {"binary": binary})


def test_a_server_that_never_answers_says_nothing_about_the_model(
    validate: Validate, model: Artifact, tmp_path: Path
) -> None:
    (tmp_path / "sleeper").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "sleeper").chmod(0o755)
    with pytest.raises(TemporaryError):
        validate(model, {"binary": str(tmp_path / "sleeper"), "load_timeout": "1s"})


def logs(model: Path) -> list[Any]:
    """The warm-up requests in a SavedModel."""
    records = tf.data.TFRecordDataset(str(model / "assets.extra" / "tf_serving_warmup_requests"))
    return [prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request for record in records]


def contents(model: Path) -> dict[str, bytes]:
    files = (path for path in model.rglob("*") if path.is_file() and path.parent.name != "assets.extra")
    return {str(path.relative_to(model)): path.read_bytes() for path in files}


def test_what_is_stamped_with_warm_up_requests_is_what_was_validated(validate: Validate, model: Artifact) -> None:
    blessing, report = validate(model, {"signatures": ["serving_default", "raw"], "warmup": True})
    stamped = Path(blessing.uri, "stamped_model")
    assert (blessing.properties["blessed"], blessing.properties["has_model"]) == (1, 1)
    assert contents(stamped) == contents(Path(model.uri, "Format-Serving"))
    assert [request.model_spec.signature_name for request in logs(stamped)] == ["serving_default"] * 3 + ["raw"] * 3
    first = logs(stamped)[0].inputs["examples"].string_val
    assert list(first) == [next(small.records(small.rides(30)))]
    assert report["warmup_requests"] == 6
    assert "replayed 6 warm-up records" in Path(blessing.uri, "server.log").read_text()
    assert blessing.digest != validate(model, {"requests": 0})[0].digest


def test_a_model_that_fails_at_its_warm_up_is_refused_and_not_stamped(validate: Validate, folder: Path) -> None:
    def fail(raw: dict[str, Any]) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.assert_less(raw["x"], -1000.0, message="far too large")]):
            return {"p": tf.identity(raw["x"])}

    blessing, _ = validate(small.write_model(folder / "cold", fail, 7), {"warmup": True})
    assert "warm-up record 1 failed" in not_blessed(blessing)
    assert blessing.properties["has_model"] == 0
    assert "stamped_model" not in files(blessing)


def test_without_examples_there_is_nothing_to_stamp(validate: Validate, model: Artifact) -> None:
    blessing, _ = validate(model, {"warmup": True}, examples=())
    assert (blessing.properties["blessed"], blessing.properties["has_model"]) == (1, 0)
    assert "so it has no warm-up requests" in str(blessing.properties["reason"])


def test_a_model_that_is_slower_than_the_limit_is_refused_with_value_and_limit(
    validate: Validate, model: Artifact
) -> None:
    assert validate(model, {"max_latency": "1h"})[0].properties["blessed"] == 1
    reason = not_blessed(validate(model, {"max_latency": "0.01ms"})[0])
    assert re.search(r"95 % of 3 requests took up to [\d.]+ ms in the best of 3 rounds", reason)
    assert reason.endswith("`max_latency` is 0.00001s")


def test_a_limit_that_cannot_be_measured_is_no_pass(validate: Validate, model: Artifact) -> None:
    reason = not_blessed(validate(model, {"max_latency": "1h"}, examples=())[0])
    assert "cannot be measured" in reason


@pytest.mark.parametrize(
    ("served", "expected", "said"),
    [
        ({"p": [1.0]}, {"p": [1.0]}, ""),
        ({"p": [1e6]}, {"p": [1e6 + 1]}, ""),
        ({"p": [1.0]}, {"p": [1.001]}, "output 'p' is 1.0 where the SavedModel itself says 1.001"),
        ({"p": [np.nan]}, {"p": [np.nan]}, "output 'p' is nan"),
        ({"p": [1.0]}, {"q": [1.0]}, "the outputs are p instead of q"),
        ({"p": [1.0]}, {"p": [1.0, 2.0]}, "output 'p' has shape (1,) instead of (2,)"),
        ({"p": [np.inf, 1.0]}, {"p": [np.inf, 1.0]}, "output 'p' is inf"),
        ({"p": [-np.inf, 1.0]}, {"p": [-np.inf, 1.0]}, ""),
        ({"p": [-np.inf, 1.0]}, {"p": [0.5, 1.0]}, "output 'p' is -inf"),
        ({"p": [-np.inf, 1.0]}, {"p": [-np.inf, 2.0]}, "output 'p' is 1.0 where the SavedModel itself says 2.0"),
        ({"p": [-np.inf, -np.inf]}, {"p": [-np.inf, -np.inf]}, "output 'p' is -inf"),
        ({"p": np.zeros((0, 4))}, {"p": np.zeros((0, 4))}, ""),
        ({"p": np.zeros((0, 4))}, {"p": np.zeros((2, 4))}, "output 'p' has shape (0, 4) instead of (2, 4)"),
        ({"p": [b"a", b"b"]}, {"p": [b"a", b"c"]}, "output 'p' is b'b' where the SavedModel itself says b'c'"),
        ({"p": [3]}, {"p": [4]}, "output 'p' is 3 where the SavedModel itself says 4"),
    ],
)
def test_what_is_wrong_with_an_answer(served: dict[str, Any], expected: dict[str, Any], said: str) -> None:
    one, other = ({name: as_array(value) for name, value in answer.items()} for answer in (served, expected))
    assert complaint(one, other) == said


def as_array(values: Any) -> np.ndarray:
    return np.array(values, dtype=object if len(values) and isinstance(values[0], bytes) else None)


def test_examples_without_a_value_are_passed_over() -> None:
    whole, empty = tf.train.Example(), tf.train.Example()
    whole.features.feature["x"].float_list.value.append(2.5)
    takes = Takes({"x_input": tf.TensorSpec([None, 1], tf.float32)}, "/nowhere", "serving_default")
    sent = list(requests(takes, [e.SerializeToString() for e in (empty, whole, whole, whole)], 2))
    assert [request.number for request in sent] == [2, 3]
    np.testing.assert_array_equal(sent[0].feeds["x_input"], [[2.5]])
