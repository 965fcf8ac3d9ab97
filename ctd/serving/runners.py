"""Which model server tries a candidate: the one the spec names, or the first that is there."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from typing import Any

from ctd.serving.errors import ServerNotStarted
from ctd.serving.sandbox import Runner
from ctd.serving.sandbox_process import embedded, program
from ctd.specs.infra import InfraValidatorSpec

BINARY = "tensorflow_model_server"


def choose(spec: InfraValidatorSpec) -> tuple[Runner, ...]:
    """The runners in each of which the model must pass: one, or one per image. Raises ServerNotStarted."""
    match spec.runner:
        case "auto":
            return _first(spec)
        case "binary":
            return (_binary(spec),)
        case "docker":
            return _docker(spec)
        case "kubernetes":
            return _kubernetes(spec)
        case "embedded":
            return (embedded(spec.op_libraries),)


def _first(spec: InfraValidatorSpec) -> tuple[Runner, ...]:
    """What is there, the nearest to the server of later first. Nothing is fetched for it.

    Libraries of ops are named for ctd's own server, so it is the one of later.
    """
    if spec.op_libraries:
        return (embedded(spec.op_libraries),)
    if spec.binary or shutil.which(BINARY):
        return (_binary(spec),)
    if _installed("docker") and _module("docker").has_images(spec.docker, spec.images):
        return _docker(spec)
    if spec.kubernetes:
        return _kubernetes(spec)
    return (embedded(),)


def _binary(spec: InfraValidatorSpec) -> Runner:
    found = spec.binary or shutil.which(BINARY)
    if not found:
        raise ServerNotStarted(
            f"there is no {BINARY} on PATH",
            hint="install it, say where it is with `binary`, or let `runner: auto` take another",
        )
    return program(found)


def _docker(spec: InfraValidatorSpec) -> tuple[Runner, ...]:
    runners = _module("docker")
    return tuple(runners.DockerRunner(image, spec.docker) for image in spec.images)


def _kubernetes(spec: InfraValidatorSpec) -> tuple[Runner, ...]:
    runners = _module("kubernetes")
    api = runners.connect(spec.kubernetes)
    return tuple(runners.KubernetesRunner(image, spec.kubernetes, api) for image in spec.images)


def _installed(library: str) -> bool:
    return importlib.util.find_spec(library) is not None


def _module(library: str) -> Any:
    """The runner that is written against an optional library."""
    if not _installed(library):
        raise ServerNotStarted(
            f"the Python package {library} is not installed",
            hint=f"install it with `pip install {library}`, for the Python that runs ctd",
        )
    return importlib.import_module(f"ctd.serving.sandbox_{library}")
