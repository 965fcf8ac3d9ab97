"""Clients of a model server as users have them, and the SavedModel itself to compare with."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Sequence
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from ctd.components.examples_io import read_records
from tests.e2e.site import PATIENCE, Server, Site


def records_of(site: Site, split: str, count: int) -> list[bytes]:
    """Real examples as a client would send them, from the first spans that were ingested."""
    files = (site.state / f"artifacts/{site.pipeline}/examples/examples").glob(f"*/{split}/data_tfrecord-*.gz")
    return [record for file in sorted(files) for record in read_records(str(file))][:count]


def answers_over_rest(server: Server, model: str, records: Sequence[bytes]) -> list[float]:
    body = json.dumps({"instances": [{"b64": base64.b64encode(r).decode()} for r in records]}).encode()
    with urllib.request.urlopen(f"{server.rest}/v1/models/{model}:predict", body) as response:  # noqa: S310 - loopback
        return [_flat(p) for p in json.load(response)["predictions"]]


def answers_over_grpc(server: Server, model: str, records: Sequence[bytes]) -> list[float]:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.inputs["examples"].CopyFrom(tf.make_tensor_proto(records, dtype=tf.string))
    with grpc.insecure_channel(server.grpc) as channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=PATIENCE)
    return [float(v) for v in tf.make_ndarray(response.outputs["probabilities"]).ravel()]


def answers_in_process(site: Site, records: Sequence[bytes]) -> list[float]:
    model = tf.saved_model.load(str(site.serving / str(max(site.versions()))))
    found = model.signatures["serving_default"](examples=tf.constant(records))
    return [float(v) for v in found["probabilities"].numpy().ravel()]


def version_of(server: Server, model: str) -> int:
    """The newest version that the server says is AVAILABLE."""
    with urllib.request.urlopen(f"{server.rest}/v1/models/{model}") as response:  # noqa: S310 - loopback
        states = json.load(response)["model_version_status"]
    return max((int(s["version"]) for s in states if s["state"] == "AVAILABLE"), default=0)


def _flat(prediction: Any) -> float:
    while isinstance(prediction, list | dict):
        prediction = next(iter(prediction.values() if isinstance(prediction, dict) else prediction))
    return float(prediction)
