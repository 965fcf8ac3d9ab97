"""Ask the model server over gRPC: `ask.py HOST:PORT MODEL schema.pbtxt trips.csv COUNT`; the answer is JSON.

In it are the features too, as the model's own signature `transform_features` makes them: what its converted forms
take. A process of its own, because the protos import parts of TensorFlow. A client of yours needs no ctd: only
`tensorflow_serving.apis`, or any other gRPC client of TensorFlow Serving.
"""

from __future__ import annotations

import base64
import csv
import importlib
import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ctd.core import partial_import

LABEL = "tips"  # what is to be predicted is not told
CARD = "Credit Card"  # of other rides no tip is known, and the model knows that
NEEDED = (
    "tensorflow.python.framework.tensor_util",
    "tensorflow_serving.apis.predict_pb2",
    "tensorflow_serving.apis.prediction_service_pb2_grpc",
)

Readers = Mapping[str, tuple[str, Callable[[str], Any]]]


def main(address: str, model: str, schema: str, path: str, count: str) -> None:
    """Print the first trips paid by card, as serialized examples too, which version answered, and its predictions."""
    partial_import.install(NEEDED)  # the parts of TensorFlow that the protos need, in a second instead of ten
    with Path(path).open(newline="") as file:
        paid_by_card = (trip for trip in csv.DictReader(file) if trip["payment_type"] == CARD)
        trips = list(itertools.islice(paid_by_card, int(count)))
    readers = readers_of(schema)
    records = [serialized(trip, readers) for trip in trips]

    answer = asked(address, model, "serving_default", records)
    made = asked(address, model, "transform_features", records)
    said = {
        "trips": trips,
        "examples": [base64.b64encode(record).decode() for record in records],
        "features": {name: made[name].tolist() for name in made if name not in ("version", f"{LABEL}_xf")},
        "version": answer["version"],
        "probabilities": answer["probabilities"].ravel().tolist(),
    }
    print(json.dumps(said))


def asked(address: str, model: str, signature: str, records: Sequence[bytes]) -> dict[str, Any]:
    """What a signature of the newest version says about examples: its outputs as arrays, and the `version`."""
    grpc = importlib.import_module("grpc")
    predict = importlib.import_module("tensorflow_serving.apis.predict_pb2")
    service = importlib.import_module("tensorflow_serving.apis.prediction_service_pb2_grpc")
    util = importlib.import_module("tensorflow.python.framework.tensor_util")
    request = predict.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    request.inputs["examples"].CopyFrom(util.make_tensor_proto(records))
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        response = service.PredictionServiceStub(channel).Predict(request, timeout=30)
    outputs = {name: util.MakeNdarray(value) for name, value in response.outputs.items()}
    return {**outputs, "version": response.model_spec.version.value}


def readers_of(schema: str) -> Readers:
    """For each column of the schema: the field of a tf.Example that holds it, and how its cells are read."""
    proto = importlib.import_module("tensorflow_metadata.proto.v0.schema_pb2")
    text = importlib.import_module("google.protobuf.text_format")
    kinds: Mapping[int, tuple[str, Callable[[str], Any]]] = {
        proto.INT: ("int64_list", int),
        proto.FLOAT: ("float_list", float),
        proto.BYTES: ("bytes_list", str.encode),
    }
    columns = text.Parse(Path(schema).read_text(), proto.Schema()).feature
    return {column.name: kinds[column.type] for column in columns}


def serialized(trip: Mapping[str, str], readers: Readers) -> bytes:
    """A trip as the tf.Example that the model takes; blank cells and the label are left out."""
    example = importlib.import_module("tensorflow.core.example.example_pb2").Example()
    for name, cell in trip.items():
        if cell and name != LABEL:
            kind, read = readers[name]
            getattr(example.features.feature[name], kind).value.append(read(cell))
    record: bytes = example.SerializeToString()
    return record


if __name__ == "__main__":
    main(*sys.argv[1:])
