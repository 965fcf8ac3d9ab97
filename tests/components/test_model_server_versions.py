"""The embedded model server as a process: how versions come, go and fail while clients ask."""

from __future__ import annotations

import contextlib
import importlib
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import numpy as np
import pytest

from ctd.core.errors import CtdError
from tests.components.serving_process import (
    PATIENCE,
    Running,
    corrupt,
    cut_short,
    publish,
    running_server,
    without_data,
    without_variables,
)

pytestmark = pytest.mark.tf

Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a server that is gone when the test ends."""
    with contextlib.ExitStack() as stack:
        yield lambda *flags: stack.enter_context(running_server(tmp_path / "log", *flags))


def test_a_new_version_takes_over_under_load_without_a_lost_request(
    start: Start, saved_models: Path, tmp_path: Path
) -> None:
    publish(saved_models / "plus_two", tmp_path / "m", 1)
    server = start("--model_name=m", f"--model_base_path={tmp_path / 'm'}")
    make_client = importlib.import_module("ctd.serving.client").Client
    done = threading.Event()
    answers: list[set[float]] = [set(), set(), set()]
    counts, problems = [0, 0, 0], []

    def hammer(number: int) -> None:
        try:
            with make_client(server.grpc) as client:
                while not done.is_set():
                    if number:
                        feeds = {"x": np.array([2.0], np.float32)}
                        y = client.predict("m", "", feeds, timeout=PATIENCE)["y"][0]
                    else:
                        y = server.predict("m", instances=[2.0])["predictions"][0]
                    answers[number].add(float(y))
                    counts[number] += 1
        except (CtdError, httpx.HTTPError, AssertionError) as error:
            problems.append(repr(error))

    clients = [threading.Thread(target=hammer, args=(number,)) for number in range(3)]
    for client in clients:
        client.start()
    for version in range(2, 6):
        publish(saved_models / ("plus_three" if version % 2 == 0 else "plus_two"), tmp_path / "m", version)
        server.until_states({**dict.fromkeys(range(1, version), "END"), version: "AVAILABLE"})
        before, until = [*counts], monotonic() + PATIENCE
        while not problems and any(now < then + 5 for now, then in zip(counts, before, strict=True)):
            assert monotonic() < until, "every client goes on asking"
            sleep(0.01)
    done.set()
    for client in clients:
        client.join()
    assert problems == []
    assert answers == [{3.0, 4.0}] * 3, "every client has met both models and nothing else"


def test_a_corrupt_model_ends_and_the_old_version_keeps_answering(
    start: Start, saved_models: Path, tmp_path: Path
) -> None:
    base = tmp_path / "m"
    publish(saved_models / "plus_two", base, 1)
    server = start("--model_name=m", f"--model_base_path={base}")
    for version, damage in enumerate((corrupt, without_variables, without_data, cut_short), start=2):
        publish(damage(saved_models / "plus_three", tmp_path / f"bad-{version}"), base, version)
        server.until_states({1: "AVAILABLE", **dict.fromkeys(range(2, version + 1), "END")})
        status = server.ask(f"/v1/models/m/versions/{version}")[1]["model_version_status"][0]["status"]
        assert status["error_code"] != "OK"
        assert status["error_message"]
        assert server.predict("m", instances=[2.0]) == {"predictions": [3.0]}
    publish(saved_models / "plus_three", base, 9)
    deadline = monotonic() + PATIENCE
    while server.predict("m", instances=[2.0]) != {"predictions": [4.0]}:
        assert monotonic() < deadline


def test_warm_up_requests_run_before_a_version_answers_and_one_that_fails_ends_it(
    start: Start, saved_models: Path, tmp_path: Path
) -> None:
    client, warmup = (importlib.import_module(f"ctd.serving.{name}") for name in ("client", "warmup"))

    def with_records(name: str, *aliases: str) -> Path:
        copy = tmp_path / name
        shutil.copytree(saved_models / "plus_two", copy)
        feed = np.array([1.0], np.float32)
        warmup.write(copy, [client.predict_request("any name", "", {alias: feed}) for alias in aliases])
        return copy

    publish(with_records("good", "x", "x", "x"), tmp_path / "m", 1)
    server = start("--model_name=m", f"--model_base_path={tmp_path / 'm'}")
    assert server.states() == {1: "AVAILABLE"}
    assert "m version 1 replayed 3 warm-up records" in server.log.read_text()
    publish(with_records("bad", "x", "z"), tmp_path / "m", 2)
    server.until_states({1: "AVAILABLE", 2: "END"})
    message = server.ask("/v1/models/m/versions/2")[1]["model_version_status"][0]["status"]["error_message"]
    assert message.startswith("warm-up record 2 failed: input tensor alias not found in signature: z")


def test_an_empty_base_path_is_waited_for_and_term_ends_the_server_cleanly(
    start: Start, saved_models: Path, tmp_path: Path
) -> None:
    server = start("--model_name", "m", "--model_base_path", str(tmp_path / "not" / "yet"))
    assert server.ask("/v1/models/m")[0] == 404
    publish(saved_models / "plus_two", tmp_path / "not" / "yet", 1)
    server.until_states({1: "AVAILABLE"})
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE) == 0


def test_a_configuration_can_be_replaced_over_grpc(start: Start, saved_models: Path, tmp_path: Path) -> None:
    grpc, services, messages = (
        importlib.import_module(name)
        for name in (
            "grpc",
            "tensorflow_serving.apis.model_service_pb2_grpc",
            "tensorflow_serving.apis.model_management_pb2",
        )
    )
    publish(saved_models / "plus_two", tmp_path / "m", 1)
    publish(saved_models / "plus_three", tmp_path / "m", 2)
    server = start("--model_name=m", f"--model_base_path={tmp_path / 'm'}")
    with grpc.insecure_channel(server.grpc) as channel:
        stub = services.ModelServiceStub(channel)

        def send(request: Any) -> tuple[str, str]:
            try:
                status = stub.HandleReloadConfigRequest(request, timeout=PATIENCE).status
            except grpc.RpcError as error:
                return error.code().name, error.details()
            assert (status.error_code, status.error_message) == (0, "")
            return "OK", ""

        def reload(labels: Mapping[str, int], base_path: Path = tmp_path / "m") -> tuple[str, str]:
            request = messages.ReloadConfigRequest()
            model = request.config.model_config_list.config.add(name="m", base_path=str(base_path))
            model.model_version_policy.all.SetInParent()
            model.version_labels.update(labels)
            return send(request)

        code, message = reload({"stable": 1})
        assert (code, "not currently available for inference" in message) == ("FAILED_PRECONDITION", True)
        assert reload({}) == ("OK", "")
        server.until_states({1: "AVAILABLE", 2: "AVAILABLE"})
        assert reload({"stable": 1, "canary": 2}) == ("OK", "")
        code, message = reload({}, Path("here"))
        assert (code, "absolute path" in message) == ("INVALID_ARGUMENT", True)
        code, message = send(messages.ReloadConfigRequest())
        assert (code, message.startswith("ServerModelConfig type not supported")) == ("INVALID_ARGUMENT", True)
        request = messages.ReloadConfigRequest()
        publish(corrupt(saved_models / "plus_two", tmp_path / "bad"), tmp_path / "n", 1)
        for name in ("m", "n"):
            model = request.config.model_config_list.config.add(name=name, base_path=str(tmp_path / name))
            model.model_version_policy.all.SetInParent()
        request.config.model_config_list.config[0].version_labels.update({"stable": 1, "canary": 2})
        assert send(request) == ("UNKNOWN", "1 servable(s) did not become available: {n}")
    for label, y in (("stable", 3.0), ("canary", 4.0)):
        assert server.ask(f"/v1/models/m/labels/{label}:predict", {"instances": [2.0]}) == (200, {"predictions": [y]})


def test_a_changed_configuration_file_is_obeyed_and_a_bad_one_is_not(
    start: Start, saved_models: Path, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        publish(saved_models / "plus_two", tmp_path / name, 1)
    file = tmp_path / "models.config"

    def write(*names: str) -> None:
        entries = [f'config {{ name: "{name}" base_path: "{tmp_path / name}" }}' for name in names]
        file.write_text(f"model_config_list {{ {' '.join(entries)} }}")

    write("a")
    server = start(f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=0.05")
    write("a", "b")
    server.until_states({1: "AVAILABLE"}, "b")
    parsing = f"Invalid protobuf file: '{file}': Error parsing text-format tensorflow.serving.ModelServerConfig: 1:1: "
    for bad, words in (("this is no proto", parsing), ("", "Cannot transition to requested config")):
        file.write_text(bad)
        deadline = monotonic() + PATIENCE
        while f"the configuration stays as it is: {words}" not in server.log.read_text():
            assert monotonic() < deadline
        assert server.states("a") == server.states("b") == {1: "AVAILABLE"}
    write("b")
    server.until_states({}, "a")
    assert server.states("b") == {1: "AVAILABLE"}


def test_the_server_also_runs_on_all_of_tensorflow(start: Start, saved_models: Path, tmp_path: Path) -> None:
    publish(saved_models / "plus_two", tmp_path / "m", 1)
    server = start("--model_name=m", f"--model_base_path={tmp_path / 'm'}", "--whole_tensorflow")
    assert server.predict("m", instances=[2.0]) == {"predictions": [3.0]}


def test_a_request_that_takes_too_long_is_told_so(start: Start, saved_models: Path, tmp_path: Path) -> None:
    publish(saved_models / "plus_two", tmp_path / "m", 1)
    server = start("--model_name=m", f"--model_base_path={tmp_path / 'm'}", "--rest_api_timeout_in_ms=1")
    # The first call of a graph takes a tenth of a second: the time is over before it begins, or while it runs.
    status, answer = server.ask("/v1/models/m:predict", {"instances": [1.0]})
    assert status == 504
    assert re.search("took longer than 0.001 seconds|deadline passed before the model could run", answer["error"])
