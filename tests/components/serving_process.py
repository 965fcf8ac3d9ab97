"""A model server as a process, and models for it: good ones and damaged ones."""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx

PATIENCE = 60.0
BINARY = "tensorflow_model_server"
FLAGS = ("--port=0", "--rest_api_port=0", "--file_system_poll_wait_seconds=0.1", "--max_num_load_retries=0")


@dataclass
class Running:
    """A server process and its two ports."""

    process: subprocess.Popen[bytes]
    log: Path
    grpc: str
    rest: httpx.Client

    def ask(self, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of a REST answer: a POST if there is a body, else a GET."""
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        answer = self.rest.request("GET" if body is None else "POST", path, content=content)
        return answer.status_code, answer.json()

    def predict(self, model: str, **body: Any) -> Any:
        """The JSON of a prediction that must succeed."""
        status, answer = self.ask(f"/v1/models/{model}:predict", body)
        assert status == 200, answer
        return answer

    def states(self, model: str = "m") -> dict[int, str]:
        """The state of every version."""
        status, answer = self.ask(f"/v1/models/{model}")
        found = answer["model_version_status"] if status == 200 else []
        return {int(version["version"]): version["state"] for version in found}

    def until_states(self, expected: Mapping[int, str], model: str = "m") -> None:
        """Wait until the versions are in these states."""
        deadline = monotonic() + PATIENCE
        while self.states(model) != expected:
            assert monotonic() < deadline, (self.states(model), self.log.read_text()[-2000:])
            sleep(0.02)


@contextlib.contextmanager
def running_server(directory: Path, *flags: str) -> Iterator[Running]:
    """A server with these flags; its log is in the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "server.log"
    with log.open("wb") as stderr:
        command = [sys.executable, "-m", "ctd.serving", *FLAGS, *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr)
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line, log.read_text()[-2000:]
        ports = json.loads(line)
        url = f"http://127.0.0.1:{ports['rest_api_port']}"
        with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as rest:
            yield Running(process, log, f"127.0.0.1:{ports['grpc_port']}", rest)
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def running_binary(directory: Path, *flags: str) -> Iterator[Running]:
    """TensorFlow's own server, which takes no free port by itself and says nothing when it is ready."""
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "server.log"
    grpc_port, rest_port = _free_ports(2)
    with log.open("wb") as output:
        command = [BINARY, f"--port={grpc_port}", f"--rest_api_port={rest_port}", "--max_num_load_retries=0", *flags]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{rest_port}", timeout=PATIENCE, trust_env=False) as rest:
            deadline = monotonic() + PATIENCE
            while not _answers(rest):
                assert process.poll() is None, log.read_text()[-2000:]
                assert monotonic() < deadline, log.read_text()[-2000:]
                sleep(0.1)
            yield Running(process, log, f"127.0.0.1:{grpc_port}", rest)
    finally:
        process.kill()
        process.communicate()


def _answers(rest: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return rest.get("/v1/models/nobody").status_code == 404
    return False


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def example(x: float) -> bytes:
    """A serialized tf.Example with one feature."""
    train = importlib.import_module("tensorflow").train
    feature = train.Feature(float_list=train.FloatList(value=[x]))
    return bytes(train.Example(features=train.Features(feature={"x": feature})).SerializeToString())


def certificate(directory: Path, name: str, signer: str = "") -> tuple[bytes, bytes]:
    """A key and a certificate for localhost, signed by another one or by itself."""
    key, cert = directory / f"{name}.key", directory / f"{name}.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    make += ["-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    if signer:
        make += ["-CA", str(directory / f"{signer}.pem"), "-CAkey", str(directory / f"{signer}.key")]
    subprocess.run([*make, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return key.read_bytes(), cert.read_bytes()


def publish(saved_model: Path, base: Path, version: int) -> None:
    """Copy beside, then rename: the way a version must arrive."""
    base.mkdir(parents=True, exist_ok=True)
    shutil.copytree(saved_model, base / f".tmp-{version}")
    (base / f".tmp-{version}").rename(base / str(version))


def corrupt(saved_model: Path, copy: Path) -> Path:
    """A copy whose graph is no graph."""
    shutil.copytree(saved_model, copy)
    (copy / "saved_model.pb").write_bytes(b"\xff\xff this is no model")
    return copy


def cut_short(saved_model: Path, copy: Path) -> Path:
    """A copy whose graph ends too early."""
    shutil.copytree(saved_model, copy)
    (copy / "saved_model.pb").write_bytes((copy / "saved_model.pb").read_bytes()[:200])
    return copy


def without_variables(saved_model: Path, copy: Path) -> Path:
    """A copy that lost its variables."""
    shutil.copytree(saved_model, copy)
    shutil.rmtree(copy / "variables")
    return copy


def without_data(saved_model: Path, copy: Path) -> Path:
    """A copy that lost the values of its variables."""
    shutil.copytree(saved_model, copy)
    next((copy / "variables").glob("*.data-*")).unlink()
    return copy
