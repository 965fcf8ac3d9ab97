"""Try a model in a model server of its own before anyone relies on it.

What runs the server is a Runner's affair: a process here, a container, a pod. Three ends are told apart by their
class: the server could not be started (ServerNotStarted: try again), it refused the model (ModelRefused: do not), it
took too long (ServerDeadline).
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Protocol

from ctd.core.errors import TargetUnavailable
from ctd.serving.client import Client, VersionStatus
from ctd.serving.codec import Array
from ctd.serving.errors import ModelRefused, ServerDeadline, ServerNotStarted

VERSION = 1

_POLL_SECONDS = 0.05
_STATUS_TIMEOUT = 2.0
_END_SECONDS = 2.0

# TensorFlow's server logs this and exits when its only model does not load.
_REFUSAL = re.compile(r"Loading servable: \{name: .+? version: \d+\} failed: (?P<reason>.+)")


@dataclass(frozen=True)
class Ended:
    """How a server ended: its exit code, or minus the number of the signal that killed it."""

    code: int
    reason: str = ""  # what the platform says of it, such as OOMKilled, or why it never started

    @property
    def crashed(self) -> bool:
        """Killed by something it ran into itself; SIGKILL and SIGTERM come from outside, as when memory is short."""
        return self.code < 0 and -self.code not in (signal.SIGKILL, signal.SIGTERM)


class Running(Protocol):
    """A server that was started with one model."""

    @property
    def address(self) -> str:
        """Where it answers gRPC; nothing while that is not known yet."""
        ...

    def ended(self) -> Ended | None:
        """How it ended, if it has."""
        ...

    def log(self) -> str:
        """The end of what it has logged."""
        ...

    def stop(self) -> None:
        """Kill it with everything it started, and leave nothing behind but its log."""
        ...


class Runner(Protocol):
    """A way to run a model server."""

    @property
    def name(self) -> str:
        """Which server this is, for reports."""
        ...

    def start(self, model: Path, name: str, log: Path) -> Running:
        """Serve the SavedModel in this directory as VERSION under this name. Raises ServerNotStarted."""
        ...


class ModelServer:
    """A server with one model, for as long as the with statement lasts."""

    def __init__(self, runner: Runner, running: Running, name: str, log_path: Path) -> None:
        self.runner = runner.name
        self.running = running
        self.name = name
        self.log_path = log_path
        self._client: Client | None = None

    @classmethod
    def start(cls, runner: Runner, model: Path, name: str, log_path: Path) -> ModelServer:
        """Start a server for the SavedModel in this directory; `wait_available` tells what became of it."""
        log_path.parent.mkdir(parents=True, exist_ok=True)
        return cls(runner, runner.start(model, name, log_path), name, log_path)

    def __enter__(self) -> ModelServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_available(self, deadline_seconds: float) -> None:
        """Wait until the model answers; raises if it is refused, the server ends, or the time is over."""
        deadline = monotonic() + deadline_seconds
        while True:
            self._check_alive("loading")
            status = self._status()
            if status and status.available:
                return
            if status and status.failed:
                raise ModelRefused(
                    f"{self.runner} server refused model {self.name}: {status.error_code.name}: {status.error_message}",
                    hint=f"the server's log is {self.log_path}",
                )
            if monotonic() >= deadline:
                raise ServerDeadline(
                    f"{self.runner} server did not load model {self.name} within {deadline_seconds:g} s",
                    hint=f"raise `load_timeout` and `ctd retry`, or see {self.log_path} for what it was doing",
                )
            sleep(_POLL_SECONDS)

    def predict(self, signature: str, feeds: Mapping[str, Array], timeout: float) -> dict[str, Array]:
        """Ask the model; raises RequestRefused for an error, ModelRefused if the question kills the server."""
        try:
            return self._connected().predict(self.name, signature, feeds, timeout=timeout, version=VERSION)
        except TargetUnavailable as error:
            # The connection is down some moments before it can be known how the server ended.
            deadline = monotonic() + _END_SECONDS
            while self.running.ended() is None and monotonic() < deadline:
                sleep(_POLL_SECONDS)
            self._check_alive("answering")
            raise ServerNotStarted(error.message, hint=f"the server's log is {self.log_path}") from error

    def stop(self) -> None:
        """Kill the server with everything it started, and leave nothing behind but its log."""
        if self._client:
            self._client.close()
            self._client = None
        self.running.stop()

    def _status(self) -> VersionStatus | None:
        """Where the model is; None while the server does not answer."""
        if not self.running.address:
            return None
        try:
            return self._connected().status(self.name, VERSION, _STATUS_TIMEOUT)
        except (TargetUnavailable, ServerDeadline):
            return None

    def _connected(self) -> Client:
        if self._client is None:
            self._client = Client(self.running.address)
        return self._client

    def _check_alive(self, doing: str) -> None:
        """Raise if the server has ended: as the model's fault if it says so or was killed by what it ran."""
        end = self.running.ended()
        if end is None:
            return
        log = self.running.log()
        refusal = _REFUSAL.search(log)
        where, hint = f"{self.runner} server", f"the server's log is {self.log_path}"
        if refusal:
            raise ModelRefused(f"{where} refused model {self.name}: {refusal['reason'].strip()}", hint=hint)
        if end.crashed and (doing == "answering" or _was_loading(log, self.name)):
            raise ModelRefused(
                f"{where} was killed by {signal.Signals(-end.code).name} while {doing} model {self.name}",
                hint=f"a model that crashes the server cannot be served; {hint}",
            )
        said = end.reason or f"ended with exit code {end.code}"
        raise ServerNotStarted(f"{where} {said} before model {self.name} was available: {_last_line(log)}", hint=hint)


def _was_loading(log: str, name: str) -> bool:
    """Whether the server had begun with the model, in the words of either server."""
    return f"{name} version {VERSION} is LOADING" in log or f"Loading servable version {{name: {name}" in log


def _last_line(log: str) -> str:
    lines = log.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
