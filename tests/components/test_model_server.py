"""A model server as a process, the embedded one and TensorFlow's own: what it answers and what it refuses."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.components.serving_process import BINARY, PATIENCE, Running, example, running_binary, running_server

pytestmark = pytest.mark.tf


# What both must answer alike. The real one takes part where there is one: it is in no package registry.
SERVERS = ["embedded", *([BINARY] if shutil.which(BINARY) else [])]


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, saved_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """One server with all models; tests only read from it."""
    directory = tmp_path_factory.mktemp("served")
    entries = []
    for name in ("plus_two", "many", "scorer", "lookup", "not_finite"):
        (directory / name).mkdir()
        (directory / name / "00000123").symlink_to(saved_models / name)
        entries.append(f'config {{ name: "{name}" base_path: "{directory / name}" model_platform: "tensorflow" }}')
    config = directory / "models.config"
    config.write_text(f"model_config_list {{ {' '.join(entries)} }}")
    start = running_server if request.param == "embedded" else running_binary
    with start(directory, f"--model_config_file={config}") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Any]:
    with importlib.import_module("ctd.serving.client").Client(server.grpc) as connected:
        yield connected


@pytest.fixture(scope="module")
def apis() -> Any:
    """The request messages of TensorFlow Serving, in one namespace."""
    names = ("classification", "get_model_metadata", "inference", "predict", "prediction_log", "regression")
    modules = [importlib.import_module(f"tensorflow_serving.apis.{name}_pb2") for name in names]
    return type("Apis", (), {key: value for module in modules for key, value in vars(module).items() if key[0] != "_"})


FEEDS: dict[tuple[str, str], Callable[[], dict[str, Any]]] = {
    ("plus_two", "serving_default"): lambda: {"x": np.array([1.0, 2.0, 0.1], np.float32)},
    ("many", "serving_default"): lambda: {
        "pair": np.array([[1.5, 2.0], [0.1, -7.25]], np.float32),
        "count": np.array([3, -(2**53) - 1], np.int64),
        "word": np.array([b"one", "zw\u00f6lf".encode()], np.object_),
        "flag": np.array([True, False]),
    },
    ("many", "whole"): lambda: {"x": np.array([1.0, 2.0], np.float32)},
    ("scorer", "serving_default"): lambda: {"examples": np.array([example(0.25), example(-1.0)], np.object_)},
    ("lookup", "serving_default"): lambda: {"word": np.array([b"credit", b"cash", b"gold"], np.object_)},
    ("not_finite", "serving_default"): lambda: {"x": np.array([0.0, 1.0, -1.0], np.float32)},
}


@pytest.mark.parametrize(("model", "signature"), FEEDS)
def test_grpc_predictions_are_the_saved_models_own(client: Any, saved_models: Path, model: str, signature: str) -> None:
    tf = importlib.import_module("tensorflow")
    feeds = FEEDS[model, signature]()
    loaded = tf.saved_model.load(str(saved_models / model))
    own = loaded.signatures[signature](**{name: tf.constant(array) for name, array in feeds.items()})
    served = client.predict(model, signature, feeds, timeout=PATIENCE)
    assert served.keys() == own.keys()
    for name, tensor in own.items():
        np.testing.assert_array_equal(served[name], tensor.numpy())
        assert served[name].dtype == tensor.numpy().dtype


def test_rest_predictions_are_those_of_grpc(server: Running, client: Any) -> None:
    served = client.predict("plus_two", "", FEEDS["plus_two", "serving_default"](), timeout=PATIENCE)
    assert server.predict("plus_two", instances=[1.0, 2, 0.1]) == {"predictions": [2.5, 3.0, 2.05]}
    np.testing.assert_array_equal(served["y"], np.array([2.5, 3.0, 2.05], np.float32))


def test_row_format_names_inputs_and_outputs(server: Running) -> None:
    rows = [
        {"pair": [1.0, 2], "count": 3, "word": "a", "flag": True},
        {"pair": [0.5, 0.25], "count": -1, "word": {"b64": "YWI="}, "flag": False},
    ]
    assert server.predict("many", signature_name="serving_default", instances=rows)["predictions"] == [
        {"count": 3, "flag": True, "pair": [1.0, 2.0], "total": 6.0, "word": "a", "word_bytes": {"b64": "YQ=="}},
        {"count": -1, "flag": False, "pair": [0.5, 0.25], "total": -0.25, "word": "ab", "word_bytes": {"b64": "YWI="}},
    ]


def test_column_format_answers_in_columns(server: Running) -> None:
    columns = {"pair": [[1.0, 2.0]], "count": [3], "word": ["a"], "flag": [True]}
    assert server.predict("many", inputs=columns)["outputs"] == {
        "count": [3],
        "flag": [True],
        "pair": [[1.0, 2.0]],
        "total": [6.0],
        "word": ["a"],
        "word_bytes": [{"b64": "YQ=="}],
    }
    assert server.predict("many", signature_name="whole", inputs=[1.0, 2.0]) == {"outputs": 3.0}


def test_numbers_that_are_none_travel_both_ways(server: Running) -> None:
    body = b'{"instances": [0.0, 1.0, -1.0, NaN, -Infinity]}'
    answer = server.rest.post("/v1/models/not_finite:predict", content=body)
    assert answer.content == b'{"predictions": [NaN, Infinity, -Infinity, NaN, -Infinity]}'


def test_serialized_examples_come_as_base64(server: Running) -> None:
    base64 = importlib.import_module("base64")
    instances = [{"b64": base64.b64encode(example(0.25)).decode()}]
    assert server.predict("scorer", instances=instances) == {"predictions": [[0.5]]}


def test_classify_and_regress_take_examples_as_json(server: Running) -> None:
    body = {"signature_name": "classify", "examples": [{"x": 0.25}, {"x": [1.0]}]}
    results = [[["no", 0.5], ["yes", 0.5]], [["no", -1.0], ["yes", 2.0]]]
    assert server.ask("/v1/models/scorer:classify", body) == (200, {"results": results})
    body = {"signature_name": "regress", "context": {"x": 0.1}, "examples": [{}, {"x": 3.0}]}
    assert server.ask("/v1/models/scorer:regress", body) == (200, {"results": [0.2, 6.0]})


def test_classify_regress_and_both_at_once_over_grpc(server: Running, apis: Any) -> None:
    grpc, services = (
        importlib.import_module(n) for n in ("grpc", "tensorflow_serving.apis.prediction_service_pb2_grpc")
    )
    with grpc.insecure_channel(server.grpc) as channel:
        stub = services.PredictionServiceStub(channel)
        request = apis.MultiInferenceRequest()
        request.input.example_list.examples.add().ParseFromString(example(0.25))
        for name in ("classify", "regress"):
            task = request.tasks.add(method_name=f"tensorflow/serving/{name}")
            task.model_spec.name, task.model_spec.signature_name = "scorer", name
        both = stub.MultiInference(request, timeout=PATIENCE)
        classify = apis.ClassificationRequest(model_spec=request.tasks[0].model_spec, input=request.input)
        classified = stub.Classify(classify, timeout=PATIENCE)
        regress = apis.RegressionRequest(model_spec=request.tasks[1].model_spec, input=request.input)
        regressed = stub.Regress(regress, timeout=PATIENCE)
    assert [(c.label, c.score) for c in classified.result.classifications[0].classes] == [("no", 0.5), ("yes", 0.5)]
    assert [r.value for r in regressed.result.regressions] == [0.5]
    assert both.results[0].classification_result == classified.result
    assert both.results[1].regression_result == regressed.result
    assert classified.model_spec.version.value == 123


def test_status_is_told_as_tensorflow_serving_tells_it(server: Running) -> None:
    available = {"version": "123", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("/v1/models/plus_two", "/v1/models/plus_two/versions/123", "/V1/Models/plus_two"):
        assert server.ask(path) == (200, {"model_version_status": [available]})


def test_metadata_holds_the_signatures(server: Running) -> None:
    status, answer = server.ask("/v1/models/plus_two/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "plus_two", "signature_name": "", "version": "123"}
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert signature["inputs"]["x"]["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}


GOOD = {"instances": [1.0]}
MANY_DIGITS = b'{"instances": [1' + b"0" * 5000 + b"]}"


@pytest.mark.parametrize(
    ("path", "body", "status", "stem"),
    [
        ("/v1/models/nobody:predict", GOOD, 404, "Servable not found for request: Latest(nobody)"),
        ("/v1/models/plus_two/versions/7:predict", GOOD, 404, "Servable not found for request: Specific(plus_two, 7)"),
        ("/v1/models/plus_two/labels/x:predict", GOOD, 400, "Unrecognized servable version label: x"),
        ("/v1/models/plus_two:predict", {**GOOD, "signature_name": "s"}, 400, 'Serving signature name: "s" not found'),
        ("/v1/models/plus_two:predict", b"{", 400, "JSON Parse error"),
        ("/v1/models/plus_two:predict", {"instances": ["x"]}, 400, "is not of expected type: float"),
        pytest.param("/v1/models/plus_two:predict", MANY_DIGITS, 400, "JSON Parse error", id="many digits"),
        ("/v1/models/plus_two:predict", b'{"instances": [1e999]}', 400, "JSON Parse error"),
        ("/v1/models/scorer:predict", {"instances": [{"b64": "/w=="}]}, 400, "Could not parse example input"),
        ("/v1/models/plus_two:classify", {"examples": [{"x": 1.0}]}, 400, "No classification inputs found"),
        ("/v1/models/scorer:classify", {"examples": []}, 400, "'examples' value is an empty array"),
        ("/v1/models/scorer:regress", {"examples": [{"x": {}}]}, 400, "unexpected JSON type: Object"),
        ("/v1/models/:predict", GOOD, 400, "Malformed request: POST /v1/models/:predict"),
        ("/v1/models/plus_two:explain", GOOD, 400, "Malformed request: POST"),
        ("/v1/models/plus_two:predict", None, 400, "Malformed request: GET /v1/models/plus_two:predict"),
        ("/v1/models/nobody", None, 404, "Could not find any versions of model nobody"),
        ("/v1/models/plus_two/versions/7", None, 404, "Could not find version 7 of model plus_two"),
        ("/v1/models/plus_two/versions/99999999999999999999", None, 400, "Failed to convert version"),
        pytest.param(
            f"/v1/models/plus_two/versions/{'9' * 5000}", None, 400, "Failed to convert version", id="version of digits"
        ),
        ("/v1/models", None, 400, "Missing model name in request."),
        ("/elsewhere", None, 404, "Not Found"),
    ],
)
def test_rest_errors_have_tensorflow_servings_codes_and_words(
    server: Running, path: str, body: Any, status: int, stem: str
) -> None:
    got, answer = server.ask(path, body)
    assert (got, stem in answer["error"]) == (status, True), answer


@pytest.mark.parametrize(
    ("model", "signature", "feeds", "code", "stem"),
    [
        ("", "", {}, "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        ("nobody", "", {}, "NOT_FOUND", "Servable not found for request: Latest(nobody)"),
        ("plus_two", "s", {}, "FAILED_PRECONDITION", 'Serving signature key "s" not found.'),
        ("plus_two", "", {}, "INVALID_ARGUMENT", "input size does not match signature: 0!=1"),
        ("plus_two", "", {"z": np.float32(1)}, "INVALID_ARGUMENT", "input tensor alias not found in signature: z"),
        ("plus_two", "", {"x": np.array([1.0])}, "INVALID_ARGUMENT", "to be float but double is provided"),
        ("scorer", "", {"examples": np.array([b"\xff"], np.object_)}, "INVALID_ARGUMENT", "Could not parse example"),
        ("scorer", "", {"examples": np.array([b"\xff" * 20_000], np.object_)}, "INVALID_ARGUMENT", "...TRUNCATED"),
    ],
)
def test_grpc_errors_have_tensorflow_servings_codes_and_words(
    client: Any, model: str, signature: str, feeds: Any, code: str, stem: str
) -> None:
    refused = importlib.import_module("ctd.serving.errors").RequestRefused
    with pytest.raises(refused) as caught:
        client.predict(model, signature, feeds, timeout=PATIENCE)
    assert caught.value.code.name == code
    assert stem in caught.value.message


def test_outputs_can_be_chosen(server: Running, apis: Any) -> None:
    grpc, services = (
        importlib.import_module(n) for n in ("grpc", "tensorflow_serving.apis.prediction_service_pb2_grpc")
    )
    codec = importlib.import_module("ctd.serving.codec")
    request = apis.PredictRequest(output_filter=["total", "word"])
    request.model_spec.name = "many"
    for name, array in FEEDS["many", "serving_default"]().items():
        codec.fill_proto(request.inputs[name], array)
    with grpc.insecure_channel(server.grpc) as channel:
        stub = services.PredictionServiceStub(channel)
        assert set(stub.Predict(request, timeout=PATIENCE).outputs) == {"total", "word"}
        for wrong, stem in (("nope", "output tensor alias not found"), ("word", "duplicate output tensor alias: word")):
            request.output_filter[:] = ["word", wrong]
            with pytest.raises(grpc.RpcError, match=stem):
                stub.Predict(request, timeout=PATIENCE)


def test_tensor_protos_are_read_and_written_as_tensorflow_does() -> None:
    tf, codec = importlib.import_module("tensorflow"), importlib.import_module("ctd.serving.codec")
    dtypes = (
        "float32 float64 int32 uint8 int16 int8 complex64 int64 bool bfloat16 uint16 complex128 float16 uint32 uint64"
    )
    arrays = [np.array([[0, 1], [2, 1]]).astype(getattr(tf, name).as_numpy_dtype) for name in dtypes.split()]
    for array in [*arrays, np.array([b"a\x00", b""], np.object_), np.float32(1.5), np.zeros((0, 2), np.int64)]:
        proto = tf.make_tensor_proto(array)
        np.testing.assert_array_equal(codec.from_proto(proto), tf.make_ndarray(proto))
        ours = type(proto)()
        codec.fill_proto(ours, np.asarray(array))
        assert (ours.dtype, ours.tensor_shape) == (proto.dtype, proto.tensor_shape)
        np.testing.assert_array_equal(tf.make_ndarray(ours), tf.make_ndarray(proto))


def test_tensor_protos_may_say_less_or_too_much() -> None:
    tf, codec = importlib.import_module("tensorflow"), importlib.import_module("ctd.serving.codec")
    errors = importlib.import_module("ctd.serving.errors")
    proto = type(tf.make_tensor_proto(1.0))
    shape = tf.TensorShape([3]).as_proto()
    assert codec.from_proto(proto(dtype=1, tensor_shape=shape, float_val=[1, 2])).tolist() == [1, 2, 2]
    assert codec.from_proto(proto(dtype=7, tensor_shape=shape)).tolist() == [b"", b"", b""]
    for bad in (
        proto(dtype=1, tensor_shape=shape, float_val=[1, 2, 3, 4]),
        proto(dtype=1, tensor_shape=shape, tensor_content=b"123"),
        proto(dtype=1, tensor_shape=tf.TensorShape(None).as_proto()),
        proto(dtype=1, tensor_shape=tf.TensorShape([2**40]).as_proto(), float_val=[1]),
        proto(dtype=8, tensor_shape=shape, scomplex_val=[1, 2, 3]),
        proto(dtype=99),
    ):
        with pytest.raises(errors.ServingError):
            codec.from_proto(bad)


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("--model_base_path=/x", "--enable_profile"), 2, "unrecognized arguments: --enable_profile"),
        ((), 2, "one of --model_base_path and --model_config_file is needed"),
        (("--model_base_path=/x", "--rest_api_port=8500"), 2, "cannot be the same as --port"),
        (("--model_base_path=/x", "--enable_model_warmup=maybe"), 2, "neither true nor false"),
        (("--model_base_path=relative",), 1, "absolute path"),
        (("--model_config_file=/does/not/exist",), 1, "Invalid protobuf file"),
        (("--model_base_path=/x", "--ssl_config_file=/does/not/exist"), 1, "Invalid protobuf file"),
        (
            ("--model_base_path=/x", "--tensorflow_session_config_file=/none"),
            1,
            "Failed to start server. Error: INVALID",
        ),
        (("--model_base_path=/x", "--platform_config_file=/does/not/exist"), 1, "Invalid protobuf file"),
        (("--model_base_path=/x", "--grpc_channel_arguments=x"), 1, "is not of the form key=value"),
        (("--model_base_path=/x", "--bind=192.0.2.1"), 1, "cannot listen on 192.0.2.1:8500"),
    ],
)
def test_a_wrong_command_line_ends_the_process_with_words(flags: tuple[str, ...], code: int, words: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "ctd.serving", *flags], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (ended.returncode, words in ended.stderr) == (code, True), ended.stderr[-500:]


def test_a_status_is_not_asked_of_nobody(server: Running) -> None:
    grpc, status, services = (
        importlib.import_module(name)
        for name in (
            "grpc",
            "tensorflow_serving.apis.get_model_status_pb2",
            "tensorflow_serving.apis.model_service_pb2_grpc",
        )
    )
    with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError) as refused:
        services.ModelServiceStub(channel).GetModelStatus(status.GetModelStatusRequest(), timeout=PATIENCE)
    assert (refused.value.code().name, refused.value.details()) == ("INVALID_ARGUMENT", "Missing ModelSpec")


def test_where_a_version_is_can_be_asked_in_one_call(server: Running) -> None:
    client, spec = importlib.import_module("ctd.serving.client"), importlib.import_module("ctd.specs.targets").Server
    assert client.model_status(spec(grpc=server.grpc), "plus_two", 123, PATIENCE).available
    unknown = client.model_status(spec(grpc=server.grpc), "plus_two", 7, PATIENCE)
    assert (unknown.state, unknown.error_code) == (None, importlib.import_module("ctd.serving.errors").Code.NOT_FOUND)
    unavailable = importlib.import_module("ctd.core.errors").TargetUnavailable
    with pytest.raises(unavailable, match=r"127\.0\.0\.1:1"):
        client.model_status(spec(grpc="127.0.0.1:1"), "m", 1, 2.0)
