"""What a crash leaves behind is found first thing at start: processes, attempts, staged and unrecorded files."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ctd.core.errors import IllegalTransition, MachineUnavailable, StorageUnavailable
from ctd.core.executions import Execution, Outcome, State
from ctd.core.history import History
from ctd.core.requests import OperatorRequest
from ctd.core.timing import Clock
from ctd.engine.collect import unlink_deleted
from ctd.engine.processes import kill_orphan, kill_strays, wait_until_gone
from ctd.engine.publish import sweep, sweep_staging
from ctd.metadata.store import MetadataStore
from ctd.observability import Event
from ctd.storage.layout import StateDir

log = logging.getLogger("ctd.engine")


@dataclass(frozen=True)
class Recovered:
    """What was found and put right."""

    abandoned: tuple[Execution, ...]
    killed: int


class Remembered(Protocol):
    """What a store has to say about the past."""

    def executions(self) -> Iterator[Execution]: ...
    def requests(self) -> Iterator[OperatorRequest]: ...
    def deleted_artifacts(self) -> Iterator[int]: ...


def remember(store: Remembered) -> History:
    """All that was recorded. It stays for good, so the garbage collector need not look through it, now or later."""
    gc.disable()
    try:
        history = History(store.executions(), store.requests())
        for artifact in store.deleted_artifacts():
            history.forget_artifact(artifact)
        gc.freeze()
    finally:
        gc.enable()
    return history


def recover(store: MetadataStore, history: History, state: StateDir, clock: Clock) -> Recovered:
    """Kill orphans, abandon what was running, sweep what it left. Safe to repeat after a crash of its own."""
    abandoned, killed = [], 0
    for execution in history.running():
        killed += _end_processes(execution, state)
        _sweep(state, execution)
        ended = store.finish(execution.with_outcome(Outcome(State.ABANDONED), clock.now()))
        history.record(ended)
        abandoned.append(ended)
        log.warning(Event.RECOVERED.value, extra={**ended.log_fields(), "because": "the daemon died while it ran"})
    try:
        sweep_staging(state)
    except (StorageUnavailable, MachineUnavailable) as error:
        log.warning(Event.RECOVERED.value, extra={"because": error.message, "hint": error.hint})
    unlink_deleted(history, state)
    return Recovered(tuple(abandoned), killed)


def _end_processes(execution: Execution, state: StateDir) -> bool:
    """Whether its worker still ran. What the worker had started goes with it, in whatever group it is."""
    killed = kill_orphan(execution.process)
    kill_strays(state.staging(execution.id))
    if killed:
        wait_until_gone(execution.process)  # or it would write while its files are removed
    return killed


def _sweep(state: StateDir, execution: Execution) -> None:
    try:
        sweep(state, execution)
    except (
        StorageUnavailable,
        MachineUnavailable,
        IllegalTransition,
    ) as error:
        # Files in the way are no reason not to start.
        fields = {**execution.log_fields(), "because": error.message, "hint": error.hint}
        log.warning(Event.RECOVERED.value, extra=fields)


def next_epoch(store: MetadataStore, history: History) -> int:
    """Which start of the daemon this is, whether or not anything was executed since the others.

    Never one that a recorded execution knows, whatever the store remembers.
    """
    return store.count_start(at_least=1 + max((e.epoch for e in history), default=0))
