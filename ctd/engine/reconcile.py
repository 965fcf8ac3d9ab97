"""Bringing a pipeline a step closer to its spec: observe, plan, apply; and taking in how executions ended."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from ctd.core.artifacts import ArtifactType
from ctd.core.errors import (
    ComponentFailed,
    CtdError,
    IllegalTransition,
    PermanentError,
    StorageUnavailable,
    StoreUnavailable,
)
from ctd.core.executions import STOPPED, Execution, Outcome, State
from ctd.core.failpoints import fp
from ctd.core.history import History
from ctd.core.requests import OperatorRequest, Verb
from ctd.core.timing import Clock, format_duration
from ctd.core.work import Request
from ctd.engine.collect import Collector, prune_logs
from ctd.engine.executor import Ended, Executor, Started
from ctd.engine.look import look_closely
from ctd.engine.moments import Moments
from ctd.engine.observe import Observer
from ctd.engine.outcomes import failed
from ctd.engine.publish import publish, sweep
from ctd.engine.remains import Remains
from ctd.engine.slots import Limits, Slots
from ctd.engine.turns import Claim, Turns
from ctd.metadata.store import MetadataStore
from ctd.observability import Event
from ctd.planning.decisions import AlertKind, Blocked, Plan, Run, Subject, Wait
from ctd.planning.lineage import story
from ctd.planning.retention import Collect
from ctd.planning.world import World
from ctd.specs.pipeline import PipelineSpec, WiredPiece
from ctd.specs.targets import AnyTarget, TfServingTarget
from ctd.storage.digests import watched_part
from ctd.storage.layout import StateDir

log = logging.getLogger("ctd.engine")

_CHANGING = re.compile(r"; again in [0-9a-z.]+|\(execution [0-9]+, attempt [0-9]+\)")
_NUMBER = re.compile(r"[0-9.]+(ms|[smhd])?")


@dataclass(frozen=True)
class Parts:
    """What a reconciler works with. Concrete classes meet in `daemon/app.py`."""

    store: MetadataStore
    history: History
    executor: Executor
    observer: Observer
    state: StateDir
    clock: Clock
    epoch: int  # which start of the daemon this is
    limits: Limits
    keep_logs: int = 1000


class Reconciler:
    """Plans and applies. Every method may be called at any time and any number of times."""

    def __init__(self, parts: Parts, targets: Callable[[], Mapping[str, AnyTarget]]) -> None:
        self._parts = parts
        self._targets = targets
        self._slots = Slots(parts.limits)
        self.turns = Turns(self._slots)
        self._moments = Moments(parts.clock)
        self._collector = Collector(parts.store, parts.history, parts.state)
        self._remains = Remains(parts.store, parts.history, parts.state, parts.observer.intact)
        self._said: dict[tuple[str, Subject], str] = {}
        self._events: deque[Started | Ended] = deque()  # not yet recorded
        self._alerts: dict[str, set[tuple[AlertKind, str]]] = {}  # what was logged of alerts, by pipeline
        self._failed: set[int] = set()  # executions whose failure was logged

    def plan(self, spec: PipelineSpec) -> Plan:
        """What there is to do about a pipeline now. Changes nothing."""
        return self._look(spec)[1]

    def _look(self, spec: PipelineSpec) -> tuple[World, Plan]:
        p = self._parts
        return look_closely(spec, p.observer.observe(spec, self._targets(), p.history), p.observer.intact)

    def look(self, spec: PipelineSpec) -> Plan:
        """Plan anew: what is to run waits for its turn from now on, and nothing else does."""
        self.turns.drop(spec.name)
        world, made = self._look(spec)
        self._remains.found_by_look(spec.name, world)
        self._say(made)
        for d in made.decisions:
            if isinstance(d, Wait) and d.supersedes:
                newer = f"superseded by {' '.join(p for p in (d.subject.node, d.subject.piece, d.subject.key) if p)}"
                self._parts.executor.cancel(d.supersedes, superseded=newer)
        self._collector.at_rest(spec, made, self._targets())
        self._moments.saw(made)
        self.turns.put(spec, made)
        return made

    def start(self, claim: Claim) -> None:
        """Start what has its turn."""
        self.turns.taken(claim, self._start(claim.spec, claim.wired, claim.run))

    def rescan(self) -> None:
        """Look more closely the next time, at what changes without a sign."""
        self._parts.observer.intact.rescan()

    def collect(self, spec: PipelineSpec) -> tuple[Collect, ...]:
        """Remove now what need not stay."""
        return self._collector.collect(spec, self.plan(spec), self._targets())

    def obey(self, request: OperatorRequest) -> OperatorRequest:
        """Record what someone asked for, so that plans heed it. A running execution is told at once to stop."""
        p = self._parts
        recorded = p.store.record_request(request)
        p.history.record_request(recorded)
        log.info(Event.REQUEST.value, extra=recorded.log_fields())
        if recorded.verb is Verb.CANCEL:
            p.executor.cancel(recorded.execution)
        return recorded

    def forget(self, pipeline: str) -> None:
        """The pipeline is no longer wanted: what was seen of it need not be remembered."""
        self._parts.observer.forget(pipeline)
        self.turns.forget(pipeline)
        self._moments.forget(pipeline)
        self._said = {place: said for place, said in self._said.items() if place[0] != pipeline}
        self._alerts.pop(pipeline, None)

    def interests(self, spec: PipelineSpec) -> frozenset[str]:
        """Which paths matter to a pipeline."""
        targets = (self._targets().get(target) for target in spec.targets)
        return frozenset(
            {
                *(pattern.base for node in spec.inputs.values() for pattern in node.patterns.values()),
                *self._parts.observer.code_files(spec),
                *map(watched_part, spec.files),
                *(target.base_path(spec.name) for target in targets if target),
            }
        )

    def say_progress(self, execution_id: int, said: str) -> None:
        """Log how far an execution is."""
        log.info(Event.EXECUTION_PROGRESS.value, extra={**self._known(execution_id).log_fields(), "progress": said})

    def take_in(self) -> frozenset[str]:
        """Record which processes began, publish and record what ended; the pipelines to look at again.

        Raises StoreUnavailable while the store is away: nothing is lost, the next call goes on where this one ended.
        """
        self._events += self._parts.executor.poll()
        changed: set[str] = set()
        while self._events:
            event = self._events[0]
            try:
                changed.update(self._take(event))
            except StoreUnavailable:
                raise
            except Exception as error:  # a fault of ours about one execution, which the next start abandons
                because = f"{type(error).__name__}: {error}"
                log.exception(Event.LOOK_FAILED.value, extra={"execution": event.execution_id, "because": because})
            self._events.popleft()
            if isinstance(event, Ended):
                self._slots.give_back(event.execution_id)
        return frozenset(changed)

    def _take(self, event: Started | Ended) -> tuple[str, ...]:
        """Record one event; the pipelines whose plan it may change."""
        execution = self._known(event.execution_id)
        match event:
            case Started():
                self._began(execution, event.process)
                return ()
            case Ended():
                self._end(execution, event.outcome)
                return (execution.pipeline,)

    def _start(self, spec: PipelineSpec, wired: WiredPiece, run: Run) -> Execution:
        p = self._parts
        kind = spec.node(run.subject.node).kind
        begun = run.execution(spec.name, kind, p.clock.now(), epoch=p.epoch)
        execution = p.store.begin(replace(begun, timings=self._moments.before(spec.name, run, p.history, p.epoch)))
        fp("store.after_intent")
        p.history.record(execution)
        log.info(Event.EXECUTION_STARTED.value, extra={**execution.log_fields(), "because": run.because})
        p.executor.start(
            self._request(spec, wired, run, execution),
            spec.node(execution.node).timeout + self._bake(wired),
            profile=wired.piece.profile,
            log=p.state.log(execution.id),
        )
        return execution

    def _bake(self, wired: WiredPiece) -> timedelta:
        """How long the watch over a canary takes if all is well."""
        target = self._targets().get(wired.piece.watches)
        canary = target.canary if isinstance(target, TfServingTarget) else None
        return canary.bake if canary else timedelta(0)

    def _began(self, execution: Execution, process: Mapping[str, str | int]) -> None:
        known = replace(execution, process=process)
        self._parts.store.note_process(known)
        self._parts.history.record(known)

    def _request(self, spec: PipelineSpec, wired: WiredPiece, run: Run, execution: Execution) -> Request:
        target = self._targets().get(wired.piece.target)
        return Request(
            execution_id=execution.id,
            pipeline=spec.name,
            node=execution.node,
            piece=execution.piece,
            kind=execution.kind,
            key=execution.key,
            entrypoint=wired.piece.entrypoint,
            staging=str(self._parts.state.staging(execution.id)),
            spec=spec.node(execution.node).model_dump(mode="json"),
            outputs=wired.piece.makes,
            inputs=run.inputs,
            module=wired.module,
            span=run.span,
            version=run.version,
            files=run.files,
            revision=run.revision,
            paths=wired.piece.files,
            target=target.model_dump(mode="json") if target else {},
            story=self._story(run) if target else {},
            untried=run.untried,
        )

    def _story(self, run: Run) -> dict[str, Any]:
        models = (a for taken in run.inputs.values() for a in taken if a.type is ArtifactType.MODEL)
        model = next(models, None)
        return story(self._parts.history, model) if model else {}

    def _known(self, execution_id: int) -> Execution:
        execution = self._parts.history.execution(execution_id)
        if execution is None:
            raise IllegalTransition(f"execution {execution_id} ended, but was never begun")
        return execution

    def _end(self, execution: Execution, outcome: Outcome) -> None:
        p = self._parts
        if outcome.state is State.SUCCEEDED:
            try:
                outcome = publish(p.state.staging(execution.id), outcome, self._place(execution))
                fp("store.before_commit")
            except CtdError as error:
                outcome = failed(error)
        if outcome.damaged:
            self._remains.found_by_worker(execution, outcome.damaged)
        self._record(execution, outcome)

    def _place(self, execution: Execution) -> Callable[[str], Path]:
        return lambda output: self._parts.state.artifact(execution.pipeline, execution.node, output, execution.id)

    def _record(self, execution: Execution, outcome: Outcome) -> None:
        p = self._parts
        now = p.clock.now()
        if outcome.timings:
            publishing = (now - execution.started).total_seconds() - sum(outcome.timings.values())
            outcome = replace(outcome, timings={**outcome.timings, "publish": round(max(0.0, publishing), 3)})
        try:
            recorded = p.store.finish(execution.with_outcome(outcome, now))
        except (PermanentError, TypeError, ValueError) as error:  # what its process said is no outcome
            hint = "Components make artifacts with texts and numbers as properties. This is a fault in the component."
            outcome = failed(ComponentFailed(f"what it made cannot be recorded: {error}", hint=hint))
            recorded = p.store.finish(execution.with_outcome(outcome, p.clock.now()))
        fp("store.after_commit")
        self._parts.history.record(recorded)
        if recorded.state is not State.SUCCEEDED:
            self._sweep(recorded)
        if recorded.id % 100 == 0:
            prune_logs(p.history, p.state, p.keep_logs)
        took = recorded.took
        fields = {
            **recorded.log_fields(),
            "state": recorded.state.value,
            "took": format_duration(took) if took else "",
            **{key: value for key, value in (("result", recorded.result),) if value},
        }
        if recorded.superseded and recorded.failure:
            log.info(Event.EXECUTION_ENDED.value, extra={**fields, "because": recorded.failure.message})
        elif recorded.failure and recorded.failure.kind != STOPPED:
            fields |= {"error": recorded.failure.message, "hint": recorded.failure.hint}
            self._failed.add(recorded.id)
            log.error(Event.EXECUTION_ENDED.value, extra=fields)
        else:
            log.info(Event.EXECUTION_ENDED.value, extra=fields)

    def _sweep(self, ended: Execution) -> None:
        try:
            sweep(self._parts.state, ended)
        except StorageUnavailable as error:  # what is staged is swept at the next start
            fields = {**ended.log_fields(), "because": error.message, "hint": error.hint}
            log.warning(Event.RECOVERED.value, extra=fields)

    def _say(self, made: Plan) -> None:
        """Log alerts, and decisions that wait or are blocked, once per reason."""
        known = self._alerts.get(made.pipeline, set())
        for alert in (alert for alert in made.alerts if (alert.kind, alert.because) not in known):
            fields = {"node": alert.node, "target": alert.target, "because": alert.because, "hint": alert.hint}
            log.warning(_ALERTS[alert.kind].value, extra={"pipeline": made.pipeline, **fields})
        self._alerts[made.pipeline] = {(alert.kind, alert.because) for alert in made.alerts}
        telling = {d.subject: d for d in _telling(made)}
        mine = {place for place in self._said if place[0] == made.pipeline}
        for place in mine - {(made.pipeline, subject) for subject in telling}:
            del self._said[place]
        for d in telling.values():
            place, reason = (made.pipeline, d.subject), _lasting(d)
            if self._said.get(place) == reason:
                continue
            self._said[place] = reason
            fields = {"pipeline": made.pipeline, **vars(d.subject), "action": d.action}
            if isinstance(d, Blocked) and d.execution in self._failed:  # just said, with its hint
                fields["because"] = f"execution {d.execution} failed, and nothing it depends on has changed"
            else:
                fields |= {"because": d.because, "hint": d.hint if isinstance(d, Blocked) else ""}
            log.warning(Event.DECISION.value, extra=fields)


_ALERTS = {AlertKind.SILENT: Event.STALE, AlertKind.TARGET: Event.TARGET, AlertKind.OVERDUE: Event.OVERDUE}


def _telling(made: Plan) -> Iterator[Wait | Blocked]:
    """The decisions that say what no other one says, and that will not pass by themselves at once."""
    notes: set[str] = set()
    for d in made.decisions:
        if isinstance(d, Blocked):
            yield d
        elif isinstance(d, Wait) and d.note not in notes and (d.absent or (d.stuck and not d.follows)):
            if d.note:
                notes.add(d.note)
            yield d


def _lasting(decision: Wait | Blocked) -> str:
    """The reason without what changes by itself: a countdown, the size and age of a copy on its way."""
    reason = _CHANGING.sub("", decision.because)
    if isinstance(decision, Wait) and decision.absent:
        return _NUMBER.sub("", reason.partition("; ")[0])
    return reason
