"""An execution is one attempt of a node on given inputs; an outcome is how it ended."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from ctd.core.artifacts import Artifact, Artifacts
from ctd.core.errors import IllegalTransition

STOPPED = "Stopped"
"""The failure kind of an execution that a graceful stop of the daemon ended: it costs no attempt."""


SUPERSEDED = "Superseded"
"""The failure kind of a cancelled execution whose place newer work took: it costs no attempt either."""


BEFORE = ("down", "notice", "settle", "held", "wait")
"""Phases before an execution starts: until a daemon was there, until its span was noticed, until that was complete,
until nothing held it up any more (a pause, reading its digest), until there was a slot."""

PHASES = (*BEFORE, "start", "verify", "import", "read", "run", "write", "digest", "publish")
"""All phases in their order: the process, its inputs looked at, imports, the component (what it does beside reading and
writing is `run`), digests of what it made, and from the end of the process to the record."""


class State(str, enum.Enum):
    """Where an execution is. It only ever moves down this list."""

    RUNNING = "running"  # a child process has it
    SUCCEEDED = "succeeded"  # outputs are committed and recorded
    FAILED = "failed"  # ended with an error
    CANCELLED = "cancelled"  # someone asked for it to stop, or newer work took its place
    ABANDONED = "abandoned"  # the daemon died while it ran

    @property
    def final(self) -> bool:
        return self is not State.RUNNING


@dataclass(frozen=True)
class Failure:
    """Why an execution failed: what, where, what to do, and whether trying again may help."""

    kind: str  # the class of the error, for instance BadInput
    message: str
    hint: str = ""
    where: str = ""  # file:line in the user's code or data, if known
    retryable: bool = False


@dataclass(frozen=True)
class LeftOut:
    """A span that a window would have liked to have, and why it went without."""

    span: int
    kind: str  # not complete, on its way, failed, denied, late, quarantined, refused
    why: str


@dataclass(frozen=True)
class Outcome:
    """How an execution ended. Succeeded outcomes carry the artifacts made, failed ones the failure.

    `damaged` is for whoever takes the outcome in, and is not recorded with the execution.
    """

    state: State
    outputs: Artifacts = field(default_factory=dict)
    failure: Failure | None = None
    timings: Mapping[str, float] = field(default_factory=dict)  # seconds by phase
    damaged: Mapping[int, str] = field(default_factory=dict)  # inputs, by artifact id: what was found wrong


@dataclass(frozen=True, slots=True)
class Execution:
    """One attempt of a node (and piece) on given inputs.

    `fingerprint` is the identity of the work; `ingredients` are what it was made of, kept so that a later plan
    can say what changed.
    """

    pipeline: str
    node: str
    kind: str
    key: str  # names the spans or inputs concerned, unique within node and piece
    fingerprint: str
    started: datetime
    piece: str = ""  # a node may be several pieces of work, as the evaluator's metrics and verdict
    attempt: int = 1
    because: str = ""
    ingredients: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # artifact ids by input key
    state: State = State.RUNNING
    ended: datetime | None = None
    outputs: Artifacts = field(default_factory=dict)
    failure: Failure | None = None
    timings: Mapping[str, float] = field(default_factory=dict)  # seconds by phase, of PHASES
    process: Mapping[str, str | int] = field(default_factory=dict)  # pid, start time, boot id of the worker
    left_out: tuple[LeftOut, ...] = ()  # of its windows
    told: str = ""  # identity of all that spec, target and code said to it, what is not part of the work included
    epoch: int = 0  # which start of the daemon it belongs to
    id: int = 0  # MLMD's; 0 until recorded

    @property
    def name(self) -> str:
        """The name in MLMD: unique per attempt, so that recording twice is recording once."""
        work = ".".join(part for part in (self.node, self.piece, self.key) if part)
        return f"{self.pipeline}/{work}/{self.fingerprint[:16]}/{self.epoch}.{self.attempt}"

    @property
    def superseded(self) -> bool:
        return self.failure is not None and self.failure.kind == SUPERSEDED

    @property
    def ready(self) -> datetime:
        """When it could have begun, had there been a slot."""
        return self.started - timedelta(seconds=self.timings.get("wait", 0.0))

    @property
    def took(self) -> timedelta | None:
        return self.ended - self.started if self.ended else None

    def with_outcome(self, outcome: Outcome, at: datetime) -> Execution:
        """This execution, ended. Raises IllegalTransition if it had ended before."""
        if self.state.final:
            raise IllegalTransition(f"{self.name} is already {self.state.value}")
        return replace(
            self,
            state=outcome.state,
            ended=at,
            outputs=outcome.outputs,
            failure=outcome.failure,
            timings={**self.timings, **outcome.timings},
        )

    def output(self, key: str) -> tuple[Artifact, ...]:
        return self.outputs.get(key, ())

    @property
    def result(self) -> str:
        """What people want to know of a result: a verdict's reason, a push's version."""
        for artifacts in self.outputs.values():
            for artifact in artifacts:
                if "pushed_version" in artifact.properties:
                    label = f", on trial as {artifact.properties['label']}" if artifact.properties.get("trial") else ""
                    return f"version {artifact.properties['pushed_version']}{label}"
                if artifact.properties.get("reason"):
                    return str(artifact.properties["reason"])
        return ""

    def log_fields(self) -> dict[str, str | int]:
        """The fields every log line about this execution carries."""
        return {
            "pipeline": self.pipeline,
            "node": self.node,
            "piece": self.piece,
            "key": self.key,
            "execution": self.id,
            "attempt": self.attempt,
        }
