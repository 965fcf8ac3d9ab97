"""A Docker daemon and a Kubernetes API that know only what the sandbox asks of them, over HTTP as the real ones do.

Their containers are processes here: the embedded server for every image, or a shell script for an image that is one.
"""

from __future__ import annotations

import http.server
import io
import json
import os
import re
import socketserver
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Route = Callable[["Exchange", re.Match[str]], None]
IMAGE = "serving/good:1"


class Machine:
    """One container: a process with a log, and what the process said about its ports."""

    def __init__(self, root: Path, asked: Mapping[str, Any]) -> None:
        self.root = root
        self.asked = asked
        self.log = root / "log"
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        root.mkdir(parents=True)
        self.log.touch()

    def start(self, environment: Mapping[str, str], arguments: list[str], script: str, *more: str) -> None:
        flags = [f"--model_name={environment['MODEL_NAME']}", *arguments, *more]
        flags.append(f"--model_base_path={self.root}{environment['MODEL_BASE_PATH']}/{environment['MODEL_NAME']}")
        command = ["sh", "-c", script] if script else [sys.executable, "-m", "ctd.serving", *flags]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self) -> None:
        assert self.process
        assert self.process.stdout
        line = self.process.stdout.readline()
        if line.startswith(b"{"):
            self.port = json.loads(line)["grpc_port"]

    @property
    def code(self) -> int | None:
        """The exit code as a shell says it; nothing while it runs."""
        found = self.process.poll() if self.process else None
        return 128 - found if found is not None and found < 0 else found

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


class Platform:
    """What a fake knows: images that are there, scripts that images are, machines by name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images: set[str] = {IMAGE}
        self.pulled: list[str] = []
        self.scripts: dict[str, str] = {}
        self.machines: dict[str, Machine] = {}
        self.removed: list[str] = []
        self.routes: list[tuple[str, str, Route]] = []

    def remove(self, name: str) -> None:
        self.machines.pop(name).kill()
        self.removed.append(name)


class Exchange:
    """One request and its answer."""

    def __init__(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        self._handler = handler
        self.query = {name: values[0] for name, values in parse_qs(urlsplit(handler.path).query).items()}

    @property
    def body(self) -> bytes:
        if self._handler.headers.get("Transfer-Encoding") != "chunked":
            return self._handler.rfile.read(int(self._handler.headers.get("Content-Length") or 0))
        found = b""
        while size := int(self._handler.rfile.readline(), 16):
            found += self._handler.rfile.read(size)
            self._handler.rfile.readline()
        self._handler.rfile.readline()
        return found

    def json(self, answer: Any, status: int = 200) -> None:
        self.send(json.dumps(answer).encode(), "application/json", status)

    def send(self, body: bytes, kind: str = "text/plain", status: int = 200) -> None:
        self._handler.send_response(status)
        self._handler.send_header("Content-Type", kind)
        self._handler.send_header("Content-Length", str(len(body)))
        self._handler.end_headers()
        self._handler.wfile.write(body)


def _handler_of(platform: Platform) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def address_string(self) -> str:
            return "here"

        def log_message(self, *_: Any) -> None:
            pass

        def _answer(self) -> None:
            exchange, path = Exchange(self), re.sub(r"^/v1\.\d+", "", urlsplit(self.path).path)
            for method, pattern, route in platform.routes:
                found = re.fullmatch(pattern, path)
                if method == self.command and found:
                    return route(exchange, found)
            return exchange.json({"message": f"no such route: {self.command} {path}"}, 404)

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _answer  # noqa: N815

    return Handler


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextmanager
def _serving(server: socketserver.BaseServer, platform: Platform) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        for machine in platform.machines.values():
            machine.kill()


@contextmanager
def docker_daemon(root: Path) -> Iterator[tuple[str, Platform]]:
    """The address of a daemon and what it knows."""
    platform = Platform(root)
    platform.routes = _image_routes(platform) + _container_routes(platform)
    with _serving(_UnixServer(str(root / "docker.sock"), _handler_of(platform)), platform):
        yield f"unix://{root / 'docker.sock'}", platform


def _image_routes(platform: Platform) -> list[tuple[str, str, Route]]:
    def image(exchange: Exchange, found: re.Match[str]) -> None:
        known = found[1] in platform.images
        exchange.json({"Id": found[1]} if known else {"message": f"No such image: {found[1]}"}, 200 if known else 404)

    def pull(exchange: Exchange, _: re.Match[str]) -> None:
        name = f"{exchange.query['fromImage']}:{exchange.query['tag']}"
        platform.pulled.append(name)
        if not name.startswith("serving/"):
            return exchange.json({"message": f"pull access denied for {name}"}, 404)
        platform.images.add(name)
        return exchange.json({"status": "Pull complete"})

    return [
        ("GET", "/_ping", lambda exchange, _: exchange.send(b"OK")),
        ("GET", "/version", lambda exchange, _: exchange.json({"ApiVersion": "1.44", "Version": "25.0"})),
        ("GET", "/images/(.+)/json", image),
        ("POST", "/images/create", pull),
    ]


def _container_routes(platform: Platform) -> list[tuple[str, str, Route]]:
    def create(exchange: Exchange, _: re.Match[str]) -> None:
        name = f"c{len(platform.machines) + len(platform.removed)}"
        platform.machines[name] = Machine(platform.root / name, json.loads(exchange.body))
        exchange.json({"Id": name, "Warnings": []}, 201)

    def unpack(exchange: Exchange, found: re.Match[str]) -> None:
        with tarfile.open(fileobj=io.BytesIO(exchange.body)) as tar:
            tar.extractall(platform.machines[found[1]].root, filter="data")
        exchange.send(b"")

    def start(exchange: Exchange, found: re.Match[str]) -> None:
        machine = platform.machines[found[1]]
        environment = dict(pair.split("=", 1) for pair in machine.asked["Env"])
        script = platform.scripts.get(machine.asked["Image"], "")
        machine.start(environment, machine.asked["Cmd"], script, "--port=0")
        exchange.send(b"", status=204)

    def inspect(exchange: Exchange, found: re.Match[str]) -> None:
        if found[1] not in platform.machines:
            return exchange.json({"message": f"No such container: {found[1]}"}, 404)
        machine = platform.machines[found[1]]
        state = {"Status": "running" if machine.code is None else "exited", "ExitCode": machine.code or 0}
        ports = {"8500/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(machine.port)}]} if machine.port else {}
        labels = {"Labels": machine.asked["Labels"], "Tty": False}
        return exchange.json(
            {"Id": found[1], "State": state, "Config": labels, "NetworkSettings": {"Ports": ports}, "Name": found[1]}
        )

    def logs(exchange: Exchange, found: re.Match[str]) -> None:
        text = platform.machines[found[1]].log.read_bytes()
        exchange.send(b"\x02\0\0\0" + len(text).to_bytes(4, "big") + text if text else b"")

    def remove(exchange: Exchange, found: re.Match[str]) -> None:
        platform.remove(found[1])
        exchange.send(b"", status=204)

    return [
        ("GET", "/containers/json", lambda exchange, _: exchange.json([{"Id": name} for name in platform.machines])),
        ("POST", "/containers/create", create),
        ("PUT", r"/containers/(\w+)/archive", unpack),
        ("POST", r"/containers/(\w+)/start", start),
        ("GET", r"/containers/(\w+)/json", inspect),
        ("GET", r"/containers/(\w+)/logs", logs),
        ("DELETE", r"/containers/(\w+)", remove),
    ]


@contextmanager
def kubernetes_api(root: Path, volume: Path) -> Iterator[tuple[str, Platform]]:
    """The address of a cluster's API and what it knows; its only volume is a folder here."""
    platform = Platform(root)
    platform.routes = _kubernetes_routes(platform, volume)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(platform))
    with _serving(server, platform):
        yield f"http://127.0.0.1:{server.server_port}", platform


def _kubernetes_routes(platform: Platform, volume: Path) -> list[tuple[str, str, Route]]:
    pods, one = "/api/v1/namespaces/ml/pods", r"/api/v1/namespaces/ml/pods/([\w-]+)"
    # Every address of 127.0.0.0/8 is this machine: the pod has its own, and with it port 8500.
    address = f"127.{os.getpid() % 250 + 1}.{os.getpid() // 250 % 250}.7"

    def create(exchange: Exchange, _: re.Match[str]) -> None:
        asked = json.loads(exchange.body)
        name = f"{asked['metadata']['generateName']}{len(platform.machines) + len(platform.removed)}"
        machine = platform.machines[name] = Machine(platform.root / name, asked)
        (container,) = asked["spec"]["containers"]
        (mount,) = container["volumeMounts"]
        place = Path(f"{machine.root}{mount['mountPath']}")
        place.parent.mkdir(parents=True)
        place.symlink_to(volume / mount["subPath"])
        if container["image"] not in platform.images:
            return exchange.json(described(name), 201)
        environment = {pair["name"]: pair["value"] for pair in container["env"]}
        script = platform.scripts.get(container["image"], "")
        machine.start(environment, container["args"], script, f"--bind={address}", "--port=8500")
        return exchange.json(described(name), 201)

    def described(name: str) -> dict[str, Any]:
        machine = platform.machines[name]
        metadata = {"name": name, "namespace": "ml", "labels": machine.asked["metadata"]["labels"]}
        state: dict[str, Any] = {"running": {}}
        phase = "Running"
        if machine.process is None:
            phase, state = "Pending", {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
        elif machine.code is not None:
            phase, state = "Failed", {"terminated": {"exitCode": machine.code, "reason": "Error"}}
        server = {"name": "server", "image": "i", "imageID": "i", "ready": True, "restartCount": 0, "state": state}
        return {"metadata": metadata, "status": {"phase": phase, "podIP": address, "containerStatuses": [server]}}

    def read(exchange: Exchange, found: re.Match[str]) -> None:
        if found[1] in platform.machines:
            return exchange.json(described(found[1]))
        return exchange.json({"message": "not found"}, 404)

    def remove(exchange: Exchange, found: re.Match[str]) -> None:
        platform.remove(found[1])
        exchange.json({})

    return [
        ("GET", pods, lambda exchange, _: exchange.json({"items": [described(name) for name in platform.machines]})),
        ("POST", pods, create),
        ("GET", one, read),
        ("GET", f"{one}/log", lambda exchange, found: exchange.send(platform.machines[found[1]].log.read_bytes())),
        ("DELETE", one, remove),
    ]
