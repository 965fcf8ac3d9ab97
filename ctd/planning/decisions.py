"""What a plan consists of: one decision per piece of work and key, each with its reason."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

from ctd.core.artifacts import Artifacts
from ctd.core.executions import Execution, LeftOut
from ctd.core.requests import OperatorRequest
from ctd.core.work import SourceFile

Turn = tuple[int, int]
"""Who comes first where not all can begin at once: a backfill by the id of its request, and the place of a span in it.

What nobody asked for in particular, new data above all, goes before any backfill.
"""

AT_ONCE: Turn = (0, 0)


@dataclass(frozen=True)
class Subject:
    """What a decision is about: a piece of a node, for the spans or inputs that `key` names."""

    node: str
    piece: str
    key: str


@dataclass(frozen=True)
class Run:
    """Do it: this work has no usable result."""

    subject: Subject
    because: str
    fingerprint: str
    ingredients: Mapping[str, Any]
    inputs: Artifacts
    attempt: int
    span: int | None = None
    version: int | None = None
    files: tuple[SourceFile, ...] = ()
    revision: int = 1  # of a span's content, counted by ctd
    left_out: tuple[LeftOut, ...] = ()  # of its windows
    turn: Turn = AT_ONCE
    supersedes: int = 0  # the execution that gives or gave way to it, and whose slot it takes over
    renewal: bool = False  # of a span: its result is there, but is to be made anew, as of another schema
    urgent: bool = False  # of a push: its target has lost what was live, so it waits for no slot
    untried: bool = False  # of a push: it takes over without having been a canary
    told: str = ""  # as in `Execution`

    action = "run"

    def execution(self, pipeline: str, kind: str, started: datetime, *, epoch: int = 0) -> Execution:
        """The attempt that does it, not yet recorded."""
        return Execution(
            pipeline=pipeline,
            node=self.subject.node,
            piece=self.subject.piece,
            kind=kind,
            key=self.subject.key,
            fingerprint=self.fingerprint,
            started=started,
            attempt=self.attempt,
            because=self.because,
            ingredients=self.ingredients,
            inputs={key: tuple(a.id for a in taken) for key, taken in self.inputs.items()},
            left_out=self.left_out,
            told=self.told,
            epoch=epoch,
        )


@dataclass(frozen=True)
class Reuse:
    """It was done before and the result is whole."""

    subject: Subject
    because: str
    execution: int
    outputs: Artifacts

    action = "reuse"


@dataclass(frozen=True)
class Wait:
    """Not now. `until` is when it could change by itself; `stuck` says that someone must mend something first.

    `outputs` are what an earlier execution made and what stays in use meanwhile, if there is such.
    """

    subject: Subject
    because: str
    until: datetime | None = None
    stuck: bool = False
    absent: bool = False  # a span that has not arrived yet: no reason for others to wait
    follows: bool = False  # it only waits for another decision, which has the reason
    later: bool = False  # the spec says so: it is neither a fault nor anybody's turn
    busy: bool = False  # something of ours is at work on it and will say when it is done
    queued: bool = False  # it is to run, and only lacks a slot
    supersedes: int = 0  # the execution that is to be stopped for it
    execution: int = 0  # the one that runs, or whose outputs stay
    outputs: Artifacts = field(default_factory=dict)
    note: str = ""  # with `outputs`: what was left out of their inputs, and why
    short: str = ""  # for those that wait for this: the reason without a list that is told here

    action = "wait"

    @property
    def running(self) -> bool:
        return self.busy or (self.execution != 0 and not self.outputs)


@dataclass(frozen=True)
class Blocked:
    """Trying again cannot help: `hint` says what to mend. `failed` tells an error from a refusal.

    `outputs` are what stays in use meanwhile, if there is such; nothing new is made of them.
    """

    subject: Subject
    because: str
    hint: str = ""
    failed: bool = True
    execution: int = 0
    fingerprint: str = ""  # of work that someone may approve
    outputs: Artifacts = field(default_factory=dict)

    action = "blocked"


Decision = Run | Reuse | Wait | Blocked


class AlertKind(str, enum.Enum):
    """What an alert is about."""

    SILENT = "silent"  # an input brought nothing new for longer than `stale_after`
    MISNUMBERED = "misnumbered"  # a span's number is likely wrong: far ahead of all others, or of today
    TARGET = "target"  # a target has not what was pushed there, or what was on trial was taken back
    OVERDUE = "overdue"  # nothing was pushed for longer than `push_within` although data came


@dataclass(frozen=True)
class Alert:
    """Something that is not as it should be although nothing failed."""

    node: str
    because: str
    hint: str = ""
    target: str = ""  # the one it is about, if it is about one
    kind: AlertKind = AlertKind.TARGET
    since: datetime | None = None
    causes: tuple[str, ...] = ()  # what holds a push up
    passes: bool = False  # ctd sees to it by itself: nobody has to act
    spans: tuple[int, ...] = ()  # those it is about


@dataclass(frozen=True)
class Standing:
    """What there is to say of a target: what is wrong with what was pushed, and what keeps newer models away."""

    trouble: str = ""
    hold: str = ""


@dataclass(frozen=True)
class Unread:
    """Complete spans of an input that lie before its `start`, and that nobody asked for: there is nothing to decide."""

    node: str
    spans: tuple[int, ...]
    because: str


@dataclass(frozen=True)
class Backfill:
    """How far a backfill is: the spans of its range that are there, and how many are done, or failed."""

    request: OperatorRequest
    spans: tuple[int, ...]
    done: int
    failed: int

    @property
    def open(self) -> bool:
        return self.done < len(self.spans)


@dataclass(frozen=True)
class Plan:
    """The decisions about one pipeline, sources first. `wake_at` is when the plan could change by itself."""

    pipeline: str
    decisions: tuple[Decision, ...]
    alerts: tuple[Alert, ...] = ()
    alert_at: datetime | None = None  # when the next alert is due if nothing comes
    left_out: Mapping[Subject, tuple[LeftOut, ...]] = field(default_factory=dict)  # spans that windows go without
    unread: tuple[Unread, ...] = ()
    notes: tuple[str, ...] = ()  # what is worth knowing besides
    backfills: tuple[Backfill, ...] = ()  # all that nobody took back, oldest first
    targets: Mapping[str, Standing] = field(default_factory=dict)
    unseen: frozenset[str] = frozenset()  # inputs of which not every span can be seen now: more may soon be there
    late: Mapping[str, Mapping[int, str]] = field(default_factory=dict)  # by input: spans shut out of windows, and why

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple(d for d in self.decisions if isinstance(d, Run))

    @property
    def queue(self) -> tuple[Run, ...]:
        """The runs in the order in which they are to begin.

        Deeper nodes first, so that what is nearest to a served model does not queue behind a backlog of spans. Of a
        backlog the oldest, so that each span finds those before it. A pusher's targets as its spec names them, so that
        what is served first comes first. What is only made anew comes after all that is new, the newest span first, for
        windows want it. Backfills after all that, each in its own order.
        """
        by_node = [tuple(runs) for _, runs in groupby(self.runs, lambda run: run.subject.node)]
        pieces = (groupby(runs, lambda run: run.subject.piece) for runs in reversed(by_node))
        by_piece = (tuple(runs) for node in pieces for _, runs in node)
        ordered = (run for runs in by_piece for run in _new_first(runs))
        return tuple(sorted(ordered, key=lambda run: (run.turn, run.renewal)))

    @property
    def wake_at(self) -> datetime | None:
        times = [d.until for d in self.decisions if isinstance(d, Wait) and d.until]
        return min([*times, self.alert_at] if self.alert_at else times, default=None)

    @property
    def failed(self) -> bool:
        """Whether something ended with an error that a person should mend."""
        return any(
            (isinstance(d, Blocked) and d.failed) or (isinstance(d, Wait) and d.stuck and d.until)
            for d in self.decisions
        )

    @property
    def settled(self) -> bool:
        """Whether nothing runs, is to run, or waits for a time with good hope."""
        return not any(
            isinstance(d, Run)
            or (isinstance(d, Wait) and (d.running or d.queued or (d.until and not d.stuck and not d.later)))
            for d in self.decisions
        )

    @property
    def stuck(self) -> bool:
        """Whether something waits for a person: a refusal, or a span or file that only someone can complete."""
        return any(isinstance(d, Blocked) or (isinstance(d, Wait) and not d.later) for d in self.decisions)

    def to_json(self) -> dict[str, Any]:
        return {"pipeline": self.pipeline, "decisions": [decision_to_json(d) for d in self.decisions]}


def _new_first(runs: Sequence[Run]) -> list[Run]:
    """The runs of a piece: what is new from the oldest span to the newest, what is made anew the other way round."""
    return sorted(runs, key=lambda run: (run.renewal, -(run.span or 0) if run.renewal else run.span or 0))


def decision_to_json(decision: Decision) -> dict[str, Any]:
    """One decision as `ctd plan --json` shows it."""
    said: dict[str, Any] = {
        "node": decision.subject.node,
        "piece": decision.subject.piece,
        "key": decision.subject.key,
        "action": decision.action,
        "because": decision.because,
    }
    match decision:
        case Run():
            said |= {"attempt": decision.attempt, "fingerprint": decision.fingerprint}
        case Reuse():
            said |= {"execution": decision.execution}
        case Wait():
            said |= {"until": decision.until.isoformat() if decision.until else None}
            said |= {"execution": decision.execution or None}
        case Blocked():
            said |= {"hint": decision.hint, "failed": decision.failed, "execution": decision.execution or None}
    return said
