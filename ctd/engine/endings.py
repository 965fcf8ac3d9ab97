"""Taking in how executions began and ended: outputs published, the end recorded, what is left over swept.

Whatever goes wrong in between, every end is recorded: nothing stays RUNNING without a process.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from ctd.core.errors import (
    ComponentFailed,
    CtdError,
    IllegalTransition,
    MachineUnavailable,
    PermanentError,
    StorageUnavailable,
    StoreUnavailable,
    WorkerLost,
)
from ctd.core.executions import STOPPED, Execution, Outcome, State
from ctd.core.failpoints import fp
from ctd.core.machine import unavailable
from ctd.core.timing import format_duration
from ctd.engine.bounds import bounded, cut
from ctd.engine.collect import prune_logs
from ctd.engine.executor import Ended, Started
from ctd.engine.moving import Moving
from ctd.engine.outcomes import failed
from ctd.engine.parts import Parts
from ctd.engine.publish import Elsewhere, publish, sweep, sweep_staged
from ctd.engine.readiness import Readiness
from ctd.engine.remains import Remains
from ctd.engine.slots import Slots
from ctd.observability import Event

log = logging.getLogger("ctd.engine")

_PAUSE = timedelta(seconds=5)  # before recording an end again that could not be recorded


class Endings:
    """Every event of the executor is taken in once; what cannot be recorded is kept and recorded later."""

    def __init__(self, parts: Parts, slots: Slots, remains: Remains, readiness: Readiness) -> None:
        self.failed: set[int] = set()  # executions whose failure was logged
        self._parts = parts
        self._slots = slots
        self._remains = remains
        self._readiness = readiness
        self._moving = Moving(parts.state)
        self._events: deque[Started | Ended] = deque()  # not yet recorded
        self._later: list[tuple[float, Ended]] = []  # could not be recorded, and when that is tried again
        self._unswept: dict[int, Execution] = {}

    def put_off(self, execution: Execution, error: Exception) -> None:
        """It was recorded as running and could not be handed to the executor: it has ended."""
        event = Ended(execution.id, failed(_fault_of(error, "it cannot be started")))
        self._complain(event, error)
        self._events.append(event)

    def take_in(self, *, last: bool = False) -> frozenset[str]:
        """Record which processes began, publish and record what ended; the pipelines to look at again.

        Raises StoreUnavailable while the store is away: nothing is lost, the next call goes on where this one ended.
        With `last` outputs that are on their way are waited for.
        """
        self._events += self._parts.executor.poll()
        self._events += self._moving.arrived(wait=last)
        self._events += self._due()
        changed: set[str] = set()
        while self._events:
            changed.update(self._take(self._events[0]))
            self._events.popleft()
        return frozenset(changed)

    def sweep_again(self) -> None:
        """Remove what could not be removed when its execution ended."""
        for execution in tuple(self._unswept.values()):
            self._sweep(execution)

    def _due(self) -> list[Ended]:
        now = self._parts.clock.monotonic()
        due = [event for at, event in self._later if at <= now]
        self._later = [(at, event) for at, event in self._later if at > now]
        return due

    def _take(self, event: Started | Ended) -> tuple[str, ...]:
        """Record one event; the pipelines whose plan it may change."""
        execution = self._parts.history.execution(event.execution_id)
        if execution is None:
            self._complain(event, IllegalTransition(f"execution {event.execution_id} ended, but was never begun"))
            return ()
        if isinstance(event, Started):
            self._began(execution, event)
            return ()
        self._end(execution, event)
        self._slots.give_back(execution.id)  # its process is gone, even where the record of that has to wait
        return (execution.pipeline,)

    def _began(self, execution: Execution, event: Started) -> None:
        known = replace(execution, process=event.process)
        try:
            self._parts.store.note_process(known)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  it runs all the same
            self._complain(event, error)
        self._parts.history.record(known)

    def _end(self, execution: Execution, event: Ended) -> None:
        """Publish what was made and record the end, or see to it that this is done later."""
        try:
            self._record(execution, self._published(execution, event.outcome))
        except StoreUnavailable:
            raise
        except Elsewhere:
            self._moving.begin(event, self._place(execution))  # taken in again when the outputs are there
            self._events += self._moving.arrived()
        except Exception as error:  # noqa: BLE001  a fault of ours about one execution, which has ended nevertheless
            self._complain(event, error)
            self._end_as(execution, event, error)

    def _end_as(self, execution: Execution, event: Ended, error: Exception) -> None:
        """Record that it failed, by a fault of ours or of the machine."""
        try:
            self._record(execution, failed(_fault_of(error, "its end cannot be taken in")))
        except StoreUnavailable:
            raise
        except Exception as another:  # noqa: BLE001  the store answers, but does not take it: later it may
            self._complain(event, another)
            self._later.append((self._parts.clock.monotonic() + _PAUSE.total_seconds(), event))

    def _complain(self, event: Started | Ended, error: Exception) -> None:
        because = cut(f"{type(error).__name__}: {error}")
        log.error(
            Event.LOOK_FAILED.value,
            exc_info=error,
            extra={"execution": event.execution_id, "because": because},
        )

    def _published(self, execution: Execution, outcome: Outcome) -> Outcome:
        """The outcome with its outputs in their places. Raises Elsewhere."""
        p = self._parts
        try:
            outcome = bounded(outcome)
            if outcome.state is State.SUCCEEDED:
                outcome = publish(p.state.staging(execution.id), outcome, self._place(execution))
                fp("store.before_commit")
        except CtdError as error:
            outcome = failed(error)
        except OSError as error:
            outcome = failed(unavailable("outputs cannot be put in place", error))
        if outcome.damaged:
            self._remains.found_by_worker(execution, outcome.damaged)
        return outcome

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
        p.history.record(recorded)
        self._readiness.ended(recorded)
        self._sweep(recorded)
        if recorded.id % 100 == 0:
            prune_logs(p.history, p.state, p.keep_logs)
        self._say(recorded)

    def _say(self, recorded: Execution) -> None:
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
            self.failed.add(recorded.id)
            log.error(Event.EXECUTION_ENDED.value, extra=fields)
        else:
            log.info(Event.EXECUTION_ENDED.value, extra=fields)

    def _sweep(self, ended: Execution) -> None:
        """Remove what it has left; what cannot be removed now is tried again, and at the next start."""
        try:
            if ended.state is State.SUCCEEDED:
                sweep_staged(self._parts.state, ended)
            else:
                sweep(self._parts.state, ended)
        except (StorageUnavailable, MachineUnavailable, IllegalTransition) as error:
            if ended.id not in self._unswept:
                fields = {**ended.log_fields(), "because": error.message, "hint": error.hint}
                log.warning(Event.RECOVERED.value, extra=fields)
            self._unswept[ended.id] = ended
        else:
            self._unswept.pop(ended.id, None)


def _fault_of(error: Exception, doing: str) -> CtdError:
    if isinstance(error, CtdError):
        return error
    if isinstance(error, OSError):
        return unavailable(doing, error)
    hint = "This is a fault of ctd's: please report it, with the traceback in the daemon's log. It is tried again."
    return WorkerLost(f"{doing}: {type(error).__name__}: {error}", hint=hint)
