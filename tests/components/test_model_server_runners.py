"""Where a candidate's model server runs: which is chosen, and that each is told apart from the model it tries.

Docker and Kubernetes are asked through their own client libraries; what answers here are stand-ins for them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import kubernetes
import numpy as np
import pytest
import tensorflow as tf

from ctd.core.timing import SystemClock
from ctd.serving.errors import ModelRefused, ServerNotStarted
from ctd.serving.runners import choose
from ctd.serving.sandbox import ModelServer, Runner
from ctd.serving.sandbox_docker import DockerRunner
from ctd.serving.sandbox_kubernetes import KubernetesRunner
from ctd.specs.infra import DockerServer, InfraValidatorSpec, KubernetesServer
from tests.components.fake_platforms import IMAGE, Machine, Platform, docker_daemon, kubernetes_api
from tests.components.serving_models import HalfPlus
from tests.components.serving_process import PATIENCE

pytestmark = pytest.mark.tf

ABSENT = "serving/absent:1"
CRASHES = "echo 'I Loading servable version {name: m version: 1}' >&2; kill -ABRT $$"


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What holds the model: ctd's state directory."""
    return tmp_path_factory.mktemp("volume")


@pytest.fixture(scope="module")
def model(volume: Path) -> Path:
    module = HalfPlus(2.0)
    tf.saved_model.save(module, str(volume / "artifacts" / "m"), signatures={"serving_default": module.serve})
    return volume / "artifacts" / "m"


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[tuple[str, Platform]]:
    (tmp_path / "d").mkdir()
    with docker_daemon(tmp_path / "d") as daemon:
        yield daemon


@pytest.fixture
def cluster(tmp_path: Path, volume: Path) -> Iterator[tuple[Any, Platform]]:
    with kubernetes_api(tmp_path / "k", volume) as (address, platform):
        settings = kubernetes.client.Configuration(host=address)
        settings.proxy = None
        yield kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(settings)), platform


def pods(api: Any, volume: Path, image: str = IMAGE) -> KubernetesRunner:
    return KubernetesRunner(image, KubernetesServer(namespace="ml", claim="state", mount=str(volume)), api)


def answer(runner: Runner, model: Path, log: Path) -> list[float]:
    with ModelServer.start(runner, model, "m", log) as server:
        server.wait_available(PATIENCE)
        outputs = server.predict("", {"x": np.array([1.0, 2.0], np.float32)}, PATIENCE)
    return list(outputs["y"].tolist())


def refusal(runner: Runner, model: Path, log: Path, end: type[Exception]) -> str:
    with pytest.raises(end) as caught, ModelServer.start(runner, model, "m", log) as server:
        server.wait_available(PATIENCE)
    return str(caught.value)


def test_a_container_has_the_model_and_is_gone_afterwards(
    docker: tuple[str, Platform], model: Path, tmp_path: Path
) -> None:
    host, platform = docker
    platform.images.clear()
    forgotten = SystemClock().now() - timedelta(hours=1)
    for name, labels in (
        ("old", {"ctd.sandbox": "m", "ctd.sandbox.until": forgotten.isoformat()}),
        ("theirs", {}),
    ):
        platform.machines[name] = Machine(tmp_path / name, {"Labels": labels})
    assert answer(DockerRunner(IMAGE, DockerServer(host=host)), model, tmp_path / "log") == [2.5, 3.0]
    assert platform.pulled == [IMAGE]
    assert platform.removed == ["old", "c2"]
    assert list(platform.machines) == ["theirs"]
    assert "m version 1 is AVAILABLE" in (tmp_path / "log").read_text()


def test_a_pod_has_the_model_and_is_gone_afterwards(
    cluster: tuple[Any, Platform], volume: Path, model: Path, tmp_path: Path
) -> None:
    api, platform = cluster
    assert answer(pods(api, volume), model, tmp_path / "log") == [2.5, 3.0]
    assert platform.machines == {}
    assert any(line.endswith("m version 1 is AVAILABLE") for line in (tmp_path / "log").read_text().splitlines())


def test_a_container_that_ends_says_whose_fault_it_was(
    docker: tuple[str, Platform], model: Path, tmp_path: Path
) -> None:
    host, platform = docker
    platform.scripts = {"serving/crash:1": CRASHES, "serving/odd:1": "echo no such library >&2; exit 127"}
    runners = {name: DockerRunner(f"serving/{name}:1", DockerServer(host=host)) for name in ("crash", "odd")}
    said = refusal(runners["crash"], model, tmp_path / "log", ModelRefused)
    assert said == "docker serving/crash:1 server was killed by SIGABRT while loading model m"
    said = refusal(runners["odd"], model, tmp_path / "log", ServerNotStarted)
    assert said.endswith("ended with exit code 127 before model m was available: no such library")
    assert platform.machines == {}


def test_a_pod_that_ends_says_whose_fault_it_was(
    cluster: tuple[Any, Platform], volume: Path, model: Path, tmp_path: Path
) -> None:
    api, platform = cluster
    platform.images |= {"serving/crash:1", "serving/odd:1"}
    platform.scripts = {"serving/crash:1": CRASHES, "serving/odd:1": "echo no such library >&2; exit 127"}
    said = refusal(pods(api, volume, "serving/crash:1"), model, tmp_path / "log", ModelRefused)
    assert said == "kubernetes serving/crash:1 server was killed by SIGABRT while loading model m"
    said = refusal(pods(api, volume, "serving/odd:1"), model, tmp_path / "log", ServerNotStarted)
    assert said.endswith("ended with exit code 127 before model m was available: no such library")
    said = refusal(pods(api, volume, ABSENT), model, tmp_path / "log", ServerNotStarted)
    assert "could not be started, ErrImagePull: no such image" in said
    assert platform.machines == {}


def test_a_platform_that_is_away_is_not_the_models_fault(volume: Path, model: Path, tmp_path: Path) -> None:
    gone = DockerServer(host=f"unix://{tmp_path}/nothing.sock")
    assert "docker" in refusal(DockerRunner(IMAGE, gone), model, tmp_path / "log", ServerNotStarted)
    settings = kubernetes.client.Configuration(host="http://127.0.0.1:9")
    settings.proxy, settings.retries = None, False
    api = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(settings))
    assert "kubernetes" in refusal(pods(api, volume), model, tmp_path / "log", ServerNotStarted)
    said = refusal(pods(api, volume / "other"), model, tmp_path / "log", ServerNotStarted)
    assert "is not below" in said


def test_an_image_that_cannot_be_fetched_is_not_the_models_fault(
    docker: tuple[str, Platform], model: Path, tmp_path: Path
) -> None:
    runner = DockerRunner("theirs/secret:1", DockerServer(host=docker[0]))
    assert "pull access denied" in refusal(runner, model, tmp_path / "log", ServerNotStarted)


def chosen(**said: Any) -> list[str]:
    return [runner.name for runner in choose(InfraValidatorSpec(kind="infra_validator", **said))]


def test_the_first_server_that_is_there_is_chosen(
    docker: tuple[str, Platform], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary, named = tmp_path / "bin" / "tensorflow_model_server", tmp_path / "mine"
    binary.parent.mkdir()
    monkeypatch.setenv("PATH", str(binary.parent))
    away, here = {"host": f"unix://{tmp_path}/nothing.sock"}, {"host": docker[0]}
    other = {"images": [ABSENT], "docker": here}
    assert chosen(docker=away) == ["embedded"]
    assert chosen(**other) == ["embedded"]  # nothing is fetched unless `runner: docker` asks for it
    assert chosen(images=[IMAGE], docker=here) == [f"docker {IMAGE}"]
    assert chosen(**other, runner="docker") == [f"docker {ABSENT}"]
    for place in (binary, named):
        place.write_text("#!/bin/sh\n")
        place.chmod(0o755)
    assert chosen(images=[IMAGE], docker=here) == [str(binary)]
    assert chosen(runner="binary") == [str(binary)]
    assert chosen(images=[IMAGE], docker=here, binary=str(named)) == [str(named)]
    assert chosen(runner="embedded") == ["embedded"]
    assert chosen(op_libraries=["my_ops"]) == ["embedded"]  # it is the one that can have them
    assert docker[1].pulled == []
    shutil.rmtree(binary.parent)
    with pytest.raises(ServerNotStarted, match="no tensorflow_model_server on PATH"):
        chosen(runner="binary")


def test_every_image_is_a_server_of_its_own(docker: tuple[str, Platform]) -> None:
    images = [IMAGE, "serving/other:2"]
    assert chosen(runner="docker", images=images, docker={"host": docker[0]}) == [f"docker {i}" for i in images]
