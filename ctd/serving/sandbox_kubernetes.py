"""A model server as a Kubernetes pod, which reads the model from the volume that holds ctd's state.

ctd asks the pod at its own address, so it runs in the cluster or where pods can be reached.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from ctd.serving.errors import ServerNotStarted
from ctd.serving.sandbox import VERSION, Ended
from ctd.specs.infra import KubernetesServer

_PORT = 8500
_MODELS = "/models"  # where TensorFlow's image looks
_LABEL = "ctd-sandbox"
_LIFETIME_SECONDS = 6 * 3600  # a pod that ctd was killed beside ends by itself; none is tried for so long
_TIMEOUT = 30.0
_LOOK_SECONDS = 0.5
_LOG_LINES = 200
_NO_START = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError",
             "CreateContainerError", "RunContainerError")  # fmt: skip


@dataclass(frozen=True)
class KubernetesRunner:
    """An image of tensorflow_model_server, and the cluster that runs it."""

    image: str
    where: KubernetesServer
    api: Any  # CoreV1Api

    @property
    def name(self) -> str:
        return f"kubernetes {self.image}"

    def start(self, model: Path, name: str, log: Path) -> Pod:
        """Make a pod; raises ServerNotStarted."""
        wanted = self._pod(model, name)
        with _reachable(self.name):
            self._sweep()
            made = self.api.create_namespaced_pod(self.where.namespace, wanted, _request_timeout=_TIMEOUT)
        return Pod(self.api, made, log)

    def _pod(self, model: Path, name: str) -> dict[str, Any]:
        container = {
            "name": "server",
            "image": self.image,
            "args": ["--max_num_load_retries=0"],
            "env": [{"name": "MODEL_NAME", "value": name}, {"name": "MODEL_BASE_PATH", "value": _MODELS}],
            "ports": [{"containerPort": _PORT}],
            "volumeMounts": [
                {
                    "name": "state",
                    "mountPath": f"{_MODELS}/{name}/{VERSION}",
                    "subPath": self._below_mount(model),
                    "readOnly": True,
                }
            ],
        }
        spec = {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": _LIFETIME_SECONDS,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [container],
            "volumes": [{"name": "state", "persistentVolumeClaim": {"claimName": self.where.claim}}],
        }
        if self.where.service_account:
            spec["serviceAccountName"] = self.where.service_account
        return {"metadata": {"generateName": f"{_LABEL}-", "labels": {_LABEL: name}}, "spec": spec}

    def _below_mount(self, model: Path) -> str:
        try:
            return model.resolve().relative_to(Path(self.where.mount).resolve()).as_posix()
        except ValueError as error:
            raise ServerNotStarted(
                f"{self.name} server: model {model} is not below {self.where.mount}",
                hint="`kubernetes: mount` is the path at which ctd sees the volume that holds its state directory",
            ) from error

    def _sweep(self) -> None:
        """Remove pods of validations that were killed: they have ended, but are still there."""
        found = self.api.list_namespaced_pod(self.where.namespace, label_selector=_LABEL, _request_timeout=_TIMEOUT)
        for pod in found.items:
            if pod.status.reason == "DeadlineExceeded":
                _delete(self.api, pod)


class Pod:
    """A pod that was made."""

    def __init__(self, api: Any, made: Any, log_path: Path) -> None:
        self._api = api
        self._pod = made
        self._log_path = log_path
        self._looked = monotonic()

    @property
    def address(self) -> str:
        status = self._pod.status
        if status.phase != "Running" or not status.pod_ip:
            return ""
        return f"[{status.pod_ip}]:{_PORT}" if ":" in status.pod_ip else f"{status.pod_ip}:{_PORT}"

    def ended(self) -> Ended | None:
        if monotonic() - self._looked >= _LOOK_SECONDS:
            meta = self._pod.metadata
            with _reachable("kubernetes"):
                try:
                    self._pod = self._api.read_namespaced_pod(meta.name, meta.namespace, _request_timeout=_TIMEOUT)
                except ApiException as error:
                    if error.status == 404:
                        return Ended(1, "was deleted by someone")
                    raise
            self._looked = monotonic()
        return _end_of(self._pod.status)

    def log(self) -> str:
        meta = self._pod.metadata
        try:
            return str(
                self._api.read_namespaced_pod_log(
                    meta.name, meta.namespace, tail_lines=_LOG_LINES, _request_timeout=_TIMEOUT
                )
            )
        except (ApiException, HTTPError):
            # There is none before the container runs; then the conditions say what the pod waits for.
            said = [c.message for c in self._pod.status.conditions or () if c.message]
            return "\n".join(said)

    def stop(self) -> None:
        with self._log_path.open("a") as log:
            log.write(self.log())
        # The verdict is there already; a pod that cannot be deleted now ends by itself and is swept later.
        with contextlib.suppress(ApiException, HTTPError):
            _delete(self._api, self._pod)


def connect(where: KubernetesServer) -> Any:
    """The cluster's API, as a pod of it or through the kubeconfig. Raises ServerNotStarted."""
    try:
        if where.context is None:
            with contextlib.suppress(ConfigException):
                settings = client.Configuration()
                config.load_incluster_config(settings)
                return client.CoreV1Api(client.ApiClient(settings))
        return client.CoreV1Api(config.new_client_from_config(context=where.context))
    except ConfigException as error:
        raise ServerNotStarted(
            f"kubernetes: {error}", hint="run ctd in the cluster, or give its user a kubeconfig"
        ) from error


def _end_of(status: Any) -> Ended | None:
    states = [container.state for container in status.container_statuses or ()]
    for state in states:
        if state.terminated:
            code = state.terminated.exit_code
            said = "was killed for want of memory" if state.terminated.reason == "OOMKilled" else ""
            return Ended(128 - code if code > 128 else code, said)  # a shell's word for a signal
        if state.waiting and state.waiting.reason in _NO_START:
            return Ended(
                1, f"could not be started, {state.waiting.reason}: {state.waiting.message or 'no more is said'}"
            )
    if status.phase in ("Failed", "Succeeded"):
        return Ended(
            1, f"was ended by the cluster, {status.reason or status.phase}: {status.message or 'no more is said'}"
        )
    return None


def _delete(api: Any, pod: Any) -> None:
    with contextlib.suppress(ApiException):
        api.delete_namespaced_pod(
            pod.metadata.name, pod.metadata.namespace, grace_period_seconds=0, _request_timeout=_TIMEOUT
        )


@contextlib.contextmanager
def _reachable(runner: str) -> Iterator[None]:
    """What the cluster refuses says nothing about the model."""
    try:
        yield
    except (ApiException, HTTPError) as error:
        said = f"{error.status} {error.reason}" if isinstance(error, ApiException) else str(error)
        raise ServerNotStarted(
            f"{runner} server: {said}",
            hint="check that the cluster's API answers and that ctd's account may create, get and delete pods and read "
            "their logs",
        ) from error
