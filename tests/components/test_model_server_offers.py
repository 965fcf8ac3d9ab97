"""What the embedded model server offers beside answering: metrics, batches, packing, other origins, TLS, a hub."""

from __future__ import annotations

import gzip
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from ctd.deploy import hub
from tests.components.serving_process import PATIENCE, Running, certificate, publish, running_server

pytestmark = pytest.mark.tf

METRICS = "/numbers"
BATCHING = """
max_batch_size { value: 8 } batch_timeout_micros { value: 5000 } num_batch_threads { value: 1 }
max_enqueued_batches { value: 100 } allowed_batch_sizes: 4 allowed_batch_sizes: 8
"""


@pytest.fixture(scope="module")
def saved_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one small SavedModel per name."""
    directory = tmp_path_factory.mktemp("saved_models")
    importlib.import_module("tests.components.serving_models").build(directory)
    return directory


@pytest.fixture(scope="module")
def server(saved_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server with everything that can be switched on and disturbs nobody else."""
    directory = tmp_path_factory.mktemp("served")
    names = ("plus_two", "scorer", "quantized")
    for name in names:
        publish(saved_models / name, directory / name, 1)
    entries = [f'config {{ name: "{name}" base_path: "{directory / name}" }}' for name in names]
    (directory / "models").write_text(f"model_config_list {{ {' '.join(entries)} }}")
    (directory / "batching").write_text(BATCHING)
    (directory / "monitoring").write_text(f'prometheus_config {{ enable: true path: "{METRICS}" }}')
    card = {"handle": "ctd/halves", "model": 1, "pipeline": "halves", "trained": "today", "spans": [], "verdicts": []}
    more: dict[str, Any] = {"metrics": [], "signatures": {}, "code": "", "settings": {}, "made_by": []}
    hub.write_version(saved_models / "plus_two", directory / "hub" / "halves" / "3", {**card, **more})
    flags = [f"--model_config_file={directory / 'models'}", f"--monitoring_config_file={directory / 'monitoring'}"]
    flags += ["--enable_batching", f"--batching_parameters_file={directory / 'batching'}", "--grpc_max_threads=16"]
    flags += ["--rest_api_enable_cors_support", f"--hub_path={directory / 'hub'}"]
    with running_server(directory, *flags) as running:
        yield running


def metric(server: Running, name: str, **labels: str) -> float:
    """A sample on the page of metrics, 0 if there is none."""
    answer = server.rest.get(METRICS)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    found = re.search(rf"^:tensorflow:serving:{name}{re.escape('{' + inside + '}')} (\S+)$", answer.text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_requests_of_both_apis_are_counted_and_timed(server: Running) -> None:
    before = metric(server, "request_count", model_name="plus_two", status="OK")
    server.predict("plus_two", instances=[1.0])
    with importlib.import_module("ctd.serving.client").Client(server.grpc) as client:
        client.predict("plus_two", "", {"x": np.array([1.0], np.float32)}, timeout=PATIENCE)
    server.ask("/v1/models/plus_two:predict", {"instances": ["x"]})
    server.ask("/v1/models/nobody:predict", {"instances": [1.0]})
    server.ask("/v1/models/scorer:regress", {"signature_name": "regress", "examples": [{"x": 1.0}, {"x": 2.0}]})
    assert metric(server, "request_count", model_name="plus_two", status="OK") == before + 2
    assert metric(server, "request_count", model_name="plus_two", status="INVALID_ARGUMENT") == 1
    assert metric(server, "request_count", model_name="", status="NOT_FOUND") == 1
    for entrypoint in ("GRPC", "REST"):
        assert metric(server, "request_latency_sum", API="Predict", entrypoint=entrypoint, model_name="plus_two") > 0
    assert metric(server, "runtime_latency_sum", API="Predict", model_name="plus_two", runtime="TF1") > 0
    assert metric(server, "request_example_count_total", model="scorer") == 2


def test_requests_that_arrive_together_are_batched_and_everyone_gets_his_own_answer(server: Running) -> None:
    ran = "runtime_latency_count"
    labels = {"API": "Predict", "model_name": "plus_two", "runtime": "TF1"}
    before = metric(server, ran, **labels)
    client = importlib.import_module("ctd.serving.client").Client

    def ask(number: int) -> list[float]:
        x = np.arange(number, number + 1 + number % 3, dtype=np.float32)
        with client(server.grpc) as connected:
            answers = [connected.predict("plus_two", "", {"x": x}, timeout=PATIENCE)["y"] for _ in range(5)]
        assert all(np.array_equal(answer, x / 2 + 2) for answer in answers)
        return list(answers[0])

    with ThreadPoolExecutor(16) as pool:
        assert len(list(pool.map(ask, range(16)))) == 16
    assert metric(server, ran, **labels) == before + 80
    assert server.ask("/v1/models/plus_two:predict", {"instances": [1.0] * 9}) == (
        400,
        {"error": "Task size 9 is larger than maximum input batch size 8"},
    )


def test_one_bad_record_in_a_batch_harms_nobody_else(server: Running) -> None:
    good = {"signature_name": "regress", "examples": [{"x": 1.0}]}

    def ask(number: int) -> int:
        bad = {"instances": [{"b64": "/w=="}]}
        return server.ask("/v1/models/scorer:predict", bad)[0] if number % 4 == 0 else server.ask(regress, good)[0]

    regress = "/v1/models/scorer:regress"
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(16))) == [400, 200, 200, 200] * 4


def test_a_signature_of_a_type_that_cannot_be_served_harms_no_other(server: Running) -> None:
    feeds = {"x": np.array([0.5], np.float32)}
    refused = importlib.import_module("ctd.serving.errors").RequestRefused
    with importlib.import_module("ctd.serving.client").Client(server.grpc) as client:
        assert client.predict("quantized", "", feeds, timeout=PATIENCE)["y"].tolist() == [1.5]
        with pytest.raises(refused, match="UNIMPLEMENTED: Tensors of DataType 12 cannot be served"):
            client.predict("quantized", "eight", feeds, timeout=PATIENCE)
    assert server.ask("/v1/models/quantized:predict", {"signature_name": "eight", "instances": [1]})[0] == 501
    metadata = server.ask("/v1/models/quantized/metadata")[1]["metadata"]["signature_def"]["signature_def"]
    assert metadata["eight"]["inputs"]["x"]["dtype"] == "DT_QUINT8"


def test_bodies_may_be_packed_both_ways(server: Running) -> None:
    url, body = "/v1/models/plus_two:predict", gzip.compress(json.dumps({"instances": [1.0]}).encode())
    packed = {"Content-Encoding": "gzip"}
    assert server.rest.post(url, content=body, headers=packed).json() == {"predictions": [2.5]}
    for wrong, words in ((body[:-9], "ends too early"), (b"plain", "is not gzip")):
        answer = server.rest.post(url, content=wrong, headers=packed)
        assert (answer.status_code, words in answer.json()["error"]) == (400, True)
    answer = server.rest.post(url, content=b"x", headers={"Content-Encoding": "br"})
    assert "Content-Encoding br is not supported" in answer.json()["error"]
    metadata = [server.rest.get("/v1/models/scorer/metadata", headers={"Accept-Encoding": e}) for e in ("gzip", "")]
    assert [answer.headers.get("content-encoding") for answer in metadata] == ["gzip", None]
    assert metadata[0].json() == metadata[1].json()


def test_pages_of_other_origins_may_ask(server: Running) -> None:
    url, origin = "/v1/models/plus_two:predict", {"Origin": "http://example.com"}
    asked = server.rest.options(url, headers=origin)
    assert (asked.status_code, asked.headers["access-control-allow-methods"]) == (200, "GET, POST, OPTIONS")
    for answer in (server.rest.post(url, json={"instances": [1.0]}, headers=origin), server.rest.get("/v1/models/no")):
        assert answer.headers["access-control-allow-origin"] == "*"
    without = server.rest.options(url)
    assert (without.status_code, "Malformed request: OPTIONS" in without.text) == (400, True)


def test_health_is_told_over_grpc(server: Running) -> None:
    grpc = importlib.import_module("grpc")
    with grpc.insecure_channel(server.grpc) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=PATIENCE) == b"\x08\x01"
        assert check(b"\x0a\x0cModelService", timeout=PATIENCE) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as unknown:
            check(b"\x0a\x01x", timeout=PATIENCE)
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=PATIENCE)
        assert next(watch) == b"\x08\x01"
        watch.cancel()


def test_tensorflow_hub_loads_a_version_over_http(server: Running, tmp_path: Path) -> None:
    url = f"{server.rest.base_url}/ctd/halves/3"
    code = (
        "import sys, tensorflow_hub as hub, tensorflow as tf\n"
        "f = hub.load(sys.argv[1]).signatures['serving_default']\n"
        "print(float(f(x=tf.constant([2.0]))['y'][0]))\n"
    )
    environment = {"TFHUB_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "no_proxy": "*"}
    command = [sys.executable, "-c", code, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=PATIENCE * 2)
    assert done.stdout == "3.0\n", done.stderr[-2000:]


def test_a_hub_has_cards_for_people_and_an_index(server: Running) -> None:
    assert server.rest.get("/").json() == {"models": [{"handle": "ctd/halves", "versions": [3]}]}
    card = server.rest.get("/ctd/halves/3")
    assert card.text.startswith("# ctd/halves\n")
    archive = server.rest.get("/ctd/halves/3?tf-hub-format=compressed", headers={"Accept-Encoding": ""})
    assert archive.content[:2] == b"\x1f\x8b"
    assert "immutable" in archive.headers["cache-control"]
    again = server.rest.get(
        "/ctd/halves/3?tf-hub-format=compressed", headers={"If-None-Match": archive.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
    for path in ("/ctd/halves/4", "/%2e%2e/models", "/..%2fmodels", "/ctd/halves/..%2F..%2F..%2Fmodels"):
        assert server.rest.get(path).status_code == 404
    assert server.rest.head("/ctd/halves/3").status_code == 200
    assert server.rest.delete("/ctd/halves/3").status_code == 404


def test_grpc_speaks_tls_and_knows_its_clients_if_told_to(saved_models: Path, tmp_path: Path) -> None:
    grpc, apis, services = (
        importlib.import_module(name)
        for name in (
            "grpc",
            "tensorflow_serving.apis.get_model_status_pb2",
            "tensorflow_serving.apis.model_service_pb2_grpc",
        )
    )
    _, ca = certificate(tmp_path, "ca")
    (key, cert), (client_key, client_cert) = certificate(tmp_path, "server", "ca"), certificate(tmp_path, "me", "ca")
    pem = {"server_key": key, "server_cert": cert, "custom_ca": ca}
    lines = [f"{name}: {json.dumps(text.decode())}" for name, text in pem.items()]
    (tmp_path / "ssl").write_text("\n".join([*lines, "client_verify: true"]))
    publish(saved_models / "plus_two", tmp_path / "m", 1)
    flags = ("--model_name=m", f"--model_base_path={tmp_path / 'm'}", f"--ssl_config_file={tmp_path / 'ssl'}")
    request = apis.GetModelStatusRequest()
    request.model_spec.name = "m"
    with running_server(tmp_path / "log", *flags) as server:

        def ask(channel: Any) -> int:
            with channel:
                status = services.ModelServiceStub(channel).GetModelStatus(request, timeout=PATIENCE)
            return int(status.model_version_status[0].state)

        known = grpc.ssl_channel_credentials(ca, client_key, client_cert)
        assert ask(grpc.secure_channel(server.grpc, known)) == 30
        for stranger in (
            grpc.secure_channel(server.grpc, grpc.ssl_channel_credentials(ca)),
            grpc.insecure_channel(server.grpc),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                ask(stranger)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_memory_stays_flat_over_many_swaps(saved_models: Path, tmp_path: Path) -> None:
    base = tmp_path / "m"
    publish(saved_models / "many", base, 1)
    flags = ("--model_name=m", f"--model_base_path={base}", "--file_system_poll_wait_seconds=0.01")
    with running_server(tmp_path, *flags) as server:

        def swap(versions: range) -> int:
            for version in versions:
                (base / str(version - 1)).rename(base / str(version))  # a new number is a new version
                server.until_states({version: "AVAILABLE", **dict.fromkeys(ended(version), "END")})
                server.predict("m", signature_name="whole", inputs=[1.0])
            return int(psutil.Process(server.process.pid).memory_info().rss)

        def ended(version: int) -> range:
            return range(max(version - 32, 1), version)

        first, last = swap(range(2, 22)), swap(range(22, 302))
    grown = (last - first) / 2**20
    assert grown < 3, f"280 swaps took {grown:.1f} MB"
