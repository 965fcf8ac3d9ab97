"""Bringing a pipeline a step closer to its spec: observe, plan, apply; and taking in how executions ended."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from ctd.core.artifacts import ArtifactType, named
from ctd.core.errors import (
    IllegalTransition,
)
from ctd.core.executions import Execution
from ctd.core.failpoints import fp
from ctd.core.requests import OperatorRequest, Verb
from ctd.core.troubles import Fault, TroubleKind
from ctd.core.work import Request
from ctd.engine.collect import Collector
from ctd.engine.endings import Endings
from ctd.engine.look import look_closely
from ctd.engine.moments import Moments
from ctd.engine.parts import Parts
from ctd.engine.probing import probe
from ctd.engine.readiness import Readiness
from ctd.engine.remains import MEND, Remains
from ctd.engine.slots import Slots
from ctd.engine.turns import Claim, Turns
from ctd.observability import Event
from ctd.planning.decisions import AlertKind, Blocked, Plan, Run, Subject, Wait
from ctd.planning.lineage import story
from ctd.planning.retention import Collect
from ctd.planning.world import World
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.targets import AnyTarget, TfServingTarget
from ctd.specs.wired import WiredPiece
from ctd.storage.digests import watched_part

log = logging.getLogger("ctd.engine")

_CHANGING = re.compile(r"; again in [0-9a-z.]+|\(execution [0-9]+, attempt [0-9]+\)")
_NUMBER = re.compile(r"[0-9.]+(ms|[smhd])?")


class Reconciler:
    """Plans and applies. Every method may be called at any time and any number of times."""

    def __init__(self, parts: Parts, targets: Callable[[], Mapping[str, AnyTarget]]) -> None:
        self._parts = parts
        self._targets = targets
        self._slots = Slots(parts.limits)
        self._readiness = Readiness(partial(probe, parts.state), parts.clock)
        self.turns = Turns(self._slots, self._readiness)
        self._moments = Moments(parts.clock)
        self._collector = Collector(parts.store, parts.history, parts.state)
        self._remains = Remains(parts.store, parts.history, parts.state, parts.observer.intact)
        self._endings = Endings(parts, self._slots, self._remains, self._readiness)
        self._was_refused = False
        self._said: dict[tuple[str, Subject], str] = {}
        self._alerts: dict[str, set[tuple[AlertKind, str]]] = {}  # what was logged of alerts, by pipeline

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

    def unreadable(self, pipeline: str) -> Fault | None:
        """What the last look could not read of the results of a pipeline."""
        because = self._remains.unreadable.get(pipeline)
        return Fault(TroubleKind.ARTIFACTS, pipeline, because, MEND) if because else None

    def rescan(self) -> None:
        """Look more closely the next time, at what changes without a sign; and sweep what could not be swept."""
        self._parts.observer.intact.rescan()
        self._endings.sweep_again()

    def collect(self, spec: PipelineSpec) -> tuple[Collect, ...]:
        """Remove now what need not stay."""
        return self._collector.collect(spec, self.plan(spec), self._targets())

    def remove(self, pipeline: str, found: tuple[Collect, ...]) -> tuple[Collect, ...]:
        """Remove results that somebody wants gone."""
        return self._collector.remove(pipeline, found)

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
        self._remains.unreadable.pop(pipeline, None)

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

    def take_in(self, *, last: bool = False) -> frozenset[str]:
        """Record which processes began, publish and record what ended; the pipelines to look at again.

        Raises StoreUnavailable while the store is away: nothing is lost, the next call goes on where this one ended.
        With `last` it waits for outputs that are on their way to another file system.
        """
        return self._endings.take_in(last=last)

    def refusal(self) -> Fault | None:
        """What keeps anything from being started now."""
        because = self._readiness.refusal
        return Fault(TroubleKind.MACHINE, "workers", because, self._readiness.hint) if because else None

    def held_back(self) -> bool:
        """Whether the machine keeps anything from being started now, or did when this was asked last."""
        before, self._was_refused = self._was_refused, bool(self._readiness.refusal)
        return before or self._was_refused

    def _start(self, spec: PipelineSpec, wired: WiredPiece, run: Run) -> Execution:
        p = self._parts
        kind = spec.node(run.subject.node).kind
        begun = run.execution(spec.name, kind, p.clock.now(), epoch=p.epoch)
        execution = p.store.begin(replace(begun, timings=self._moments.before(spec.name, run, p.history, p.epoch)))
        fp("store.after_intent")
        p.history.record(execution)
        log.info(Event.EXECUTION_STARTED.value, extra={**execution.log_fields(), "because": run.because})
        try:
            p.executor.start(
                self._request(spec, wired, run, execution),
                spec.node(execution.node).timeout + self._bake(wired),
                profile=wired.piece.profile,
                log=p.state.log(execution.id),
            )
        except Exception as error:  # noqa: BLE001  it is recorded as running, and nothing runs: so it has ended
            self._endings.put_off(execution, error)
        return execution

    def _bake(self, wired: WiredPiece) -> timedelta:
        """How long the watch over a canary takes if all is well."""
        target = self._targets().get(wired.piece.watches)
        canary = target.canary if isinstance(target, TfServingTarget) else None
        return canary.bake if canary else timedelta(0)

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
            spec=spec.node(execution.node).to_json(),
            outputs=wired.piece.makes,
            inputs={key: named(some, wired.calendar_of(key)) for key, some in run.inputs.items()},
            module=wired.module,
            span=run.span,
            version=run.version,
            files=run.files,
            revision=run.revision,
            paths=wired.piece.files,
            target=target.to_json() if target else {},
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
            if isinstance(d, Blocked) and d.execution in self._endings.failed:  # just said, with its hint
                fields["because"] = f"execution {d.execution} failed, and nothing it depends on has changed"
            else:
                fields |= {"because": d.because, "hint": d.hint if isinstance(d, Blocked) else ""}
            log.warning(Event.DECISION.value, extra=fields)


_ALERTS = {
    AlertKind.SILENT: Event.STALE,
    AlertKind.MISNUMBERED: Event.MISNUMBERED,
    AlertKind.TARGET: Event.TARGET,
    AlertKind.OVERDUE: Event.OVERDUE,
}


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
