"""What the engine asks of an executor, and an executor that ends executions as it is told."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from ctd.core.artifacts import Artifact
from ctd.core.errors import CtdError
from ctd.core.executions import Failure, Outcome, State
from ctd.core.fingerprints import digest_of_bytes
from ctd.core.work import Request
from ctd.engine.outcomes import Reason, ended_for
from ctd.engine.processes import ProcessFacts
from ctd.storage.checksums import CHECKSUMS, checksums


@dataclass(frozen=True)
class Started:
    """A worker exists; its facts identify it after a crash of the daemon."""

    execution_id: int
    process: ProcessFacts


@dataclass(frozen=True)
class Ended:
    """A worker and all it started are gone. URIs of outputs are still relative to staging."""

    execution_id: int
    outcome: Outcome


class Executor(Protocol):
    """Runs executions. Each that was started gives exactly one `Ended`, after at most one `Started`.

    An outcome is what the worker wrote; or FAILED with what its end says (WorkerLost, ComponentFailed,
    ComponentTimeout, StorageUnavailable); or CANCELLED after `cancel`, with a failure of the kind SUPERSEDED if newer
    work takes its place; ABANDONED with a failure of the kind STOPPED after `stop`. What had succeeded before it could
    be stopped has succeeded.
    """

    def start(self, request: Request, timeout: timedelta, *, profile: str, log: Path) -> None:
        """Start an execution; returns at once. `request.staging` is made anew."""
        ...

    def warm_up(self) -> None:
        """Work is to be expected: have ready what it takes to start it quickly. Returns at once."""
        ...

    def poll(self) -> list[Started | Ended]:
        """What happened since the last call."""
        ...

    def running(self) -> Mapping[int, ProcessFacts]:
        """Executions that have not ended; the facts are empty until the process exists."""
        ...

    def progress(self, execution_id: int) -> str:
        """What the component last said about how far it is."""
        ...

    def cancel(self, execution_id: int, *, superseded: str = "") -> None:
        """Ask an execution to stop, because someone wants that or because it is superseded by what this text names.

        It is made to after a grace. Does nothing if it was asked before or has ended.
        """
        ...

    def stop(self, *, hurry: bool = False) -> None:
        """End everything and wait until it has; with `hurry` without the grace. `poll` has the last events."""
        ...


class ManualExecutor:
    """Starts nothing. A test or simulation says how each execution ends."""

    def __init__(self) -> None:
        self.requests: dict[int, Request] = {}  # everything ever started
        self.timeouts: dict[int, timedelta] = {}
        self.progress_said: dict[int, str] = {}
        self.warmed_up = 0  # how often work was said to be expected
        self._running: dict[int, Request] = {}
        self._events: list[Started | Ended] = []

    def start(self, request: Request, timeout: timedelta, *, profile: str, log: Path) -> None:
        staging = Path(request.staging)
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir(parents=True)
        self.requests[request.execution_id] = self._running[request.execution_id] = request
        self.timeouts[request.execution_id] = timeout
        self._events.append(Started(request.execution_id, _nobody(request.execution_id)))

    def warm_up(self) -> None:
        self.warmed_up += 1

    def poll(self) -> list[Started | Ended]:
        events, self._events = self._events, []
        return events

    def running(self) -> Mapping[int, ProcessFacts]:
        return {id_: _nobody(id_) for id_ in self._running}

    def progress(self, execution_id: int) -> str:
        return self.progress_said.get(execution_id, "")

    def cancel(self, execution_id: int, *, superseded: str = "") -> None:
        if execution_id in self._running:
            self.end(execution_id, ended_for(Reason.SUPERSEDE if superseded else Reason.CANCEL, superseded))

    def stop(self, *, hurry: bool = False) -> None:
        for execution_id in tuple(self._running):
            self.end(execution_id, ended_for(Reason.STOP, ""))

    def succeed(self, execution_id: int, content: str = "", **properties: str | int | float) -> None:
        """End with one artifact per output: a file with the given content, and a digest of it."""
        request = self._running[execution_id]
        outputs = {}
        for key, type_ in request.outputs.items():
            folder = Path(request.staging, key)
            folder.mkdir()
            data = f"{request.node} {request.key} {content or execution_id}".encode()
            (folder / "data").write_bytes(data)
            known = {**properties, "files": 1, "bytes": len(data), CHECKSUMS: checksums(folder)}
            outputs[key] = (Artifact(type_, key, digest_of_bytes(data), request.span, request.version, known),)
        self.end(execution_id, Outcome(State.SUCCEEDED, outputs))

    def fail(self, execution_id: int, error: CtdError) -> None:
        """End with a failure as the error's class has it."""
        failure = Failure(type(error).__name__, error.message, error.hint, retryable=error.retryable)
        self.end(execution_id, Outcome(State.FAILED, failure=failure))

    def end(self, execution_id: int, outcome: Outcome) -> None:
        """End with exactly this outcome."""
        del self._running[execution_id]
        self._events.append(Ended(execution_id, outcome))


def _nobody(execution_id: int) -> ProcessFacts:
    return {"pid": execution_id, "start": -1, "boot": "manual"}
