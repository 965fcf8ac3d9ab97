"""A model server as a Docker container: the image's own tensorflow_model_server, with the model copied into it.

Copied, not mounted: so it works where the daemon is on another host, or ctd itself in a container.
"""

from __future__ import annotations

import contextlib
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException, ImageNotFound, NotFound
from requests.exceptions import RequestException

from ctd.core.timing import SystemClock
from ctd.serving.errors import ServerNotStarted
from ctd.serving.sandbox import VERSION, Ended
from ctd.specs.infra import DockerServer

_PORT = "8500/tcp"
_MODELS = "/models"  # where TensorFlow's image looks
_LABEL, _UNTIL = "ctd.sandbox", "ctd.sandbox.until"
# A container that ctd was killed beside is removed by a later validation; none is tried for so long.
_LIFETIME = timedelta(hours=6)
_LOG_LINES = 200
_HERE = "127.0.0.1"


@dataclass(frozen=True)
class DockerRunner:
    """An image of tensorflow_model_server."""

    image: str
    where: DockerServer

    @property
    def name(self) -> str:
        return f"docker {self.image}"

    def start(self, model: Path, name: str, log: Path) -> Container:
        """Start a container; raises ServerNotStarted. The image is pulled if it is not there."""
        with _reachable(self.name):
            client = _connect(self.where)
            try:
                _sweep(client)
                return Container(self._started(client, model, name), client, self.where.address, log)
            except BaseException:
                client.close()
                raise

    def _started(self, client: Any, model: Path, name: str) -> Any:
        try:
            client.images.get(self.image)
        except ImageNotFound:
            client.images.pull(self.image)
        until = SystemClock().now() + _LIFETIME
        container = client.containers.create(
            self.image,
            ["--max_num_load_retries=0"],
            environment={"MODEL_NAME": name, "MODEL_BASE_PATH": _MODELS},
            ports={_PORT: (_HERE, None) if self.where.address == _HERE else None},
            labels={_LABEL: name, _UNTIL: until.isoformat()},
        )
        try:
            with _packed(model, f"{_MODELS}/{name}/{VERSION}") as archive:
                container.put_archive("/", archive)
            container.start()
        except BaseException:
            container.remove(force=True)
            raise
        return container


class Container:
    """A container that was started."""

    def __init__(self, container: Any, client: Any, host: str, log_path: Path) -> None:
        self._container = container
        self._client = client
        self._host = host
        self._log_path = log_path

    @property
    def address(self) -> str:
        published = self._container.ports.get(_PORT)
        return f"{self._host}:{published[0]['HostPort']}" if published else ""

    def ended(self) -> Ended | None:
        with _reachable("docker"):
            try:
                self._container.reload()
            except NotFound:
                return Ended(1, "was removed by someone")
        state = self._container.attrs["State"]
        if state["Status"] not in ("exited", "dead", "removing"):
            return None
        code = int(state["ExitCode"])
        said = "was killed for want of memory" if state.get("OOMKilled") else state.get("Error") or ""
        return Ended(128 - code if code > 128 else code, said)  # a shell's word for a signal

    def log(self) -> str:
        with _reachable("docker"):
            return bytes(self._container.logs(tail=_LOG_LINES)).decode(errors="replace")

    def stop(self) -> None:
        # The verdict is there already; a container that cannot be removed now is swept later.
        with contextlib.suppress(DockerException, RequestException):
            with self._log_path.open("ab") as log:
                log.write(self._container.logs())
            self._container.remove(force=True, v=True)
        self._client.close()


def has_images(where: DockerServer, images: tuple[str, ...]) -> bool:
    """Whether a daemon answers and could start these images without fetching anything."""
    try:
        client = _connect(where)
    except DockerException:
        return False
    try:
        for image in images:
            client.images.get(image)
    except (DockerException, RequestException):
        return False
    finally:
        client.close()
    return True


def _connect(where: DockerServer) -> Any:
    if where.host:
        return docker.DockerClient(base_url=where.host)
    return docker.from_env()


@contextlib.contextmanager
def _reachable(runner: str) -> Iterator[None]:
    """What Docker refuses says nothing about the model."""
    try:
        yield
    except (DockerException, RequestException) as error:
        raise ServerNotStarted(
            f"{runner} server: {error}",
            hint="check that the Docker daemon runs, that ctd's user may use it, and the name of the image",
        ) from error


@contextlib.contextmanager
def _packed(model: Path, into: str) -> Iterator[Any]:
    """The model as an archive that unpacks to this directory."""
    with tempfile.TemporaryFile() as archive:
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(model, into.lstrip("/"))
        archive.seek(0)
        yield archive


def _sweep(client: Any) -> None:
    """Remove containers of validations that were killed."""
    now = SystemClock().now()
    for container in client.containers.list(all=True, filters={"label": _LABEL}):
        until = container.labels.get(_UNTIL, "")
        if until and datetime.fromisoformat(until) < now:
            with contextlib.suppress(NotFound):
                container.remove(force=True, v=True)
