"""Requests for a canary whose signature is not that of the live version: each is asked in its own."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from ctd.components.canary_messages import LIVE_REQUESTS_FILE, REQUESTS_FILE, read_messages
from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.timing import SystemClock
from ctd.deploy.model_config import Entry, ModelConfigFile
from tests.components import evaluation_models as small
from tests.components.conftest import Perform

pytestmark = pytest.mark.tf

FLOAT = tf.TensorSpec([None, 1], tf.float32, name="x")
HOUR = tf.TensorSpec([None, 1], tf.int64, name="hour")


def export(folder: Path, *takes: tf.TensorSpec) -> None:
    @tf.function(input_signature=[{spec.name: spec for spec in takes}])
    def serve(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {"y": tf.add_n([tf.cast(value, tf.float32) for value in features.values()])}

    tf.saved_model.save(tf.Module(), str(folder), {"serving_default": serve})


@pytest.mark.parametrize(
    ("live", "new"),
    [((FLOAT,), (FLOAT, HOUR)), ((FLOAT, HOUR), (FLOAT,)), ((FLOAT,), (FLOAT,))],
    ids=["an input more", "an input less", "the same"],
)
def test_both_versions_are_asked_about_the_same_examples_in_their_own_signatures(
    work: Perform, tmp_path: Path, live: tuple[tf.TensorSpec, ...], new: tuple[tf.TensorSpec, ...]
) -> None:
    base, config = tmp_path / "serving" / "test", tmp_path / "models.config"
    export(base / "1", *live)
    export(tmp_path / "model" / "Format-Serving", *new)
    labels = ModelConfigFile(config, "test", str(base), lock=timedelta(seconds=1), clock=SystemClock())
    labels.write(Entry(frozenset({1}), {"stable": 1, "canary": 1}))
    server = {"grpc": "127.0.0.1:1", "config": str(config), "timeout": "1s"}
    target = {"target": "serving", "kind": "tf_serving", "path": str(base), "server": server, "canary": {}}
    inputs = {
        "model": Artifact(ArtifactType.MODEL, str(tmp_path / "model"), "m2", id=2),
        "examples": small.write_examples(tmp_path / "examples", small.rides(5)),
    }
    spec = {"targets": ["serving"], "require": []}
    (pushed,) = work("pusher", spec=spec, inputs=inputs, target=target)["pushed_model"]
    asked = {name: sent(pushed, name) for name in (LIVE_REQUESTS_FILE, REQUESTS_FILE)}
    assert [set(request.inputs) for request in asked[REQUESTS_FILE]] == [{spec.name for spec in new}] * 5
    if live == new:
        assert asked[LIVE_REQUESTS_FILE] == []
        return
    assert [set(request.inputs) for request in asked[LIVE_REQUESTS_FILE]] == [{spec.name for spec in live}] * 5
    values = [[request.inputs["x"].SerializeToString() for request in requests] for requests in asked.values()]
    assert values[0] == values[1]


def sent(pushed: Artifact, name: str) -> list[predict_pb2.PredictRequest]:
    path = Path(pushed.uri, name)
    return [predict_pb2.PredictRequest.FromString(m) for m in read_messages(path)] if path.exists() else []
