"""Replay the requests that came with a model before it answers real ones: the first call of a graph is the slow one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorflow.python.lib.io import tf_record
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from ctd.serving import codec, inference
from ctd.serving.codec import Array
from ctd.serving.errors import Code, ServingError
from ctd.serving.loader import Servable, model_code

RECORDS = Path("assets.extra") / "tf_serving_warmup_requests"
MOST_RECORDS = 1000


def write(model: Path, requests: Sequence[predict_pb2.PredictRequest]) -> Path:
    """Put predict requests into a SavedModel, for every server that loads it to replay; returns the file."""
    records = model / RECORDS
    records.parent.mkdir(parents=True, exist_ok=True)
    with tf_record.TFRecordWriter(str(records)) as writer:
        for request in requests[:MOST_RECORDS]:
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())
    return records


@dataclass(frozen=True)
class Recorded:
    """A predict request as it came with a model."""

    signature: str
    feeds: Mapping[str, Array]


def read(model: Path) -> Iterator[Recorded]:
    """The predict requests that came with a model."""
    records = model / RECORDS
    if not records.exists():
        return
    for record in tf_record.tf_record_iterator(str(records)):
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type") == "predict_log":
            request = log.predict_log.request
            feeds = {alias: codec.from_proto(proto) for alias, proto in request.inputs.items()}
            yield Recorded(request.model_spec.signature_name, feeds)


def replay(servable: Servable, version: int, model: Path) -> int:
    """Run every warm-up record of a model and return their number; a record that fails means the load failed."""
    records = model / RECORDS
    if not records.exists():
        return 0
    number = 0
    with model_code():
        for record in tf_record.tf_record_iterator(str(records)):
            number += 1
            if number > MOST_RECORDS:
                raise ServingError(
                    Code.INVALID_ARGUMENT, f"Number of warmup records exceeds the maximum of {MOST_RECORDS}"
                )
            _replay_one(servable, version, prediction_log_pb2.PredictionLog.FromString(record), number)
    return number


def _replay_one(servable: Servable, version: int, log: Any, number: int) -> None:
    try:
        _answer(servable, version, log)
    except ServingError as error:
        raise ServingError(error.code, f"warm-up record {number} failed: {error.message}") from error


def _answer(servable: Servable, version: int, log: Any) -> None:
    match log.WhichOneof("log_type"):
        case "predict_log":
            inference.predict(servable, version, log.predict_log.request)
        case "classify_log":
            inference.classify(servable, version, log.classify_log.request)
        case "regress_log":
            inference.regress(servable, version, log.regress_log.request)
        case "multi_inference_log":
            inference.multi_inference(servable, version, log.multi_inference_log.request)
        case other:
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {other}")
