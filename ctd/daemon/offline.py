"""What a state directory knows while no daemon works on it, and what one would do. Reads only: writes nothing."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

from ctd.api.models import BackfillView, ExpectedView, ForecastView
from ctd.api.requests import RequestForm
from ctd.core.errors import NotFound, PermanentError, StoreUnavailable
from ctd.core.executions import Outcome, State
from ctd.core.history import History
from ctd.core.requests import Order
from ctd.core.spans import Span
from ctd.core.timing import Clock, SystemClock
from ctd.core.troubles import Fault, Trouble, TroubleKind
from ctd.daemon.explanation import decision_view
from ctd.daemon.lock import began_at, held, owner_of
from ctd.daemon.ranges import Ranges
from ctd.daemon.views import Views, with_node
from ctd.daemon.wanted import Wanted
from ctd.engine.look import look, look_closely
from ctd.engine.observe import Observer
from ctd.engine.recovery import remember
from ctd.metadata.identity import IDENTITY
from ctd.metadata.mlmd import MlmdStore
from ctd.planning.decisions import Blocked, Plan, Wait
from ctd.planning.forecast import Expected, forecast
from ctd.planning.rehearsal import rehearsal
from ctd.planning.supposed import NothingSupposed, with_spans
from ctd.planning.world import World
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.settings import Settings
from ctd.storage import disk
from ctd.storage.digest_file import DigestFile
from ctd.storage.digests import FileDigests
from ctd.storage.layout import StateDir

_BEGINNING = timedelta(seconds=10)  # by then a daemon that has the lock listens


@contextlib.contextmanager
def reading(settings: Settings) -> Iterator[Views]:
    """Answers without a daemon. A state directory that does not exist is an empty world."""
    clock = SystemClock()
    state = StateDir(settings.state)
    wanted = Wanted(settings.specs, settings.targets, settings.state)
    wanted.reload()
    history = _history(state, clock)
    read = threading.Event()
    observer = _observer(settings, read)
    try:
        yield Views(
            wanted,
            history,
            state,
            plans=_Plans(wanted, history, observer, read).known,
            progress=lambda _: "",
            strays=observer.strays,
            daemon=lambda: None,
            troubles=lambda: troubles(state, clock),
        )
    finally:
        observer.close()


def troubles(state: StateDir, clock: Clock) -> Iterator[Trouble]:
    """What is wrong with a state directory, as far as it can be told without writing to it."""
    if not disk.there(state.root):
        fault = disk.at_a_glance(disk.nearest(state.root))
        if fault is not None:
            yield Trouble(fault)
        return
    mine = state.root.stat().st_uid == os.geteuid()  # others may be meant to read only
    fault = disk.first([state.root], disk.at_a_glance, *((disk.by_rights,) if mine else ()))
    if fault is None and disk.there(state.artifacts):
        fault = disk.by_reading(state.artifacts)
    if fault is not None:
        yield Trouble(fault)
    began = began_at(state.lock)
    if began is not None and clock.now() - began > _BEGINNING and held(state.lock):
        because = f"the daemon (pid {owner_of(state.lock) or 'unknown'}) does not listen there"
        hint = "It makes its socket anew by itself; its log says what keeps it from that."
        yield Trouble(Fault(TroubleKind.SOCKET, str(state.socket), because, hint), began)


def supposing(
    settings: Settings, pipeline: str | None, *, file: Path | None = None, spans: Sequence[Span] = (), node: str = ""
) -> ForecastView:
    """What would be done with the spec of `file` in force, and with spans (of the input `node`) that have not arrived.

    Raises SpecProblems for a file that would be refused, NotFound for a pipeline or input that there is not,
    NothingSupposed for what cannot be, or would change nothing.
    """
    wanted = Wanted(settings.specs, settings.targets, settings.state)
    wanted.reload()
    spec = wanted.drafted(file) if file else one_of(wanted.pipelines, pipeline)
    if pipeline is not None and spec.name != pipeline:
        raise NothingSupposed(f"{file} declares the pipeline {spec.name!r}, not {pipeline!r}")
    history = _history(StateDir(settings.state), SystemClock())
    suppose = partial(with_spans, spec, said=spans, node=node)
    world, made = _seen(spec, wanted, history, settings, suppose)
    found = forecast(spec, world)
    return ForecastView(
        pipeline=spec.name,
        decisions=[decision_view(d) for d in made.decisions],
        forecast=[_expected(e) for e in found.expected],
        seconds=found.cost.total_seconds(),
        held=[decision_view(d) for d in found.end.decisions if isinstance(d, Wait | Blocked)],
    )


def rehearse(settings: Settings, form: RequestForm) -> BackfillView:
    """What a backfill would do, in the order in which it would begin, beside what is to be done anyway.

    Raises NotFound or NotPossible as the daemon would. Old spans are not read for this: they count as new.
    """
    wanted = Wanted(settings.specs, settings.targets, settings.state)
    wanted.reload()
    spec = with_node(one_of(wanted.pipelines, form.pipeline), form.node)
    history = _history(StateDir(settings.state), SystemClock())
    world, made = _seen(spec, wanted, history, settings)
    request = Ranges(spec, made, history, world.now).request(form, "you")
    found = rehearsal(spec, world, request)
    return BackfillView(
        pipeline=spec.name,
        decisions=[decision_view(d) for d in found.plan.decisions],
        forecast=[_expected(e) for e in found.expected],
        seconds=found.cost.total_seconds(),
        range=request.key,
        order=(request.order or Order.NEWEST).value,
        spans=len(found.plan.backfills[-1].spans),
    )


def _seen(
    spec: PipelineSpec,
    wanted: Wanted,
    history: History,
    settings: Settings,
    suppose: Callable[[World], World] = lambda world: world,
) -> tuple[World, Plan]:
    """The world when all content that the plan depends on has been read, and the plan."""
    read = threading.Event()
    observer = _observer(settings, read)
    try:
        while True:
            read.clear()
            seen = suppose(observer.observe(spec, wanted.targets, history))
            world, made = look_closely(spec, seen, observer.intact)
            if not any(isinstance(d, Wait) and d.busy for d in made.decisions):
                return world, made
            read.wait(timeout=1)
    finally:
        observer.close()


def _expected(e: Expected) -> ExpectedView:
    took = e.took.total_seconds() if e.took else None
    same = list(e.unless_same)
    return ExpectedView(**vars(e.run.subject), because=e.run.because, seconds=took, cut_off_if_same=same)


def one_of(pipelines: Mapping[str, PipelineSpec], name: str | None) -> PipelineSpec:
    """The named pipeline, or the only one. Raises NotFound."""
    if name is None and len(pipelines) == 1:
        return next(iter(pipelines.values()))
    if name is None or name not in pipelines:
        there = ", ".join(sorted(pipelines)) or "none"
        what = f"there is no pipeline {name!r}" if name else "which pipeline?"
        raise NotFound(what, hint=f"Pipelines: {there}.")
    return pipelines[name]


@dataclass
class _Plans:
    """Plans, made when first asked for."""

    wanted: Wanted
    history: History
    observer: Observer
    read: threading.Event
    made: dict[str, Plan] = field(default_factory=dict)

    def known(self) -> Mapping[str, Plan]:
        for name in self.wanted.pipelines.keys() - self.made.keys():
            self.made[name] = self._plan(name)
        return self.made

    def _plan(self, name: str) -> Plan:
        """The plan when all content it depends on has been read."""
        spec = self.wanted.pipelines[name]
        while True:
            self.read.clear()
            made = look(self.observer, spec, self.wanted.targets, self.history)
            if not any(isinstance(d, Wait) and d.busy for d in made.decisions):
                return made
            self.read.wait(timeout=1)


def _observer(settings: Settings, read: threading.Event) -> Observer:
    """One that knows what the daemon has read already."""
    clock = SystemClock()
    digests = FileDigests(clock, DigestFile(StateDir(settings.state).digests, clock, writable=False))
    return Observer(clock, lambda _: read.set(), digests=digests)


def _history(state: StateDir, clock: Clock) -> History:
    """What was recorded. What was running when the last daemon died counts as abandoned, as its successor will say."""
    if not disk.there(state.metadata) and not disk.there(state.metadata.with_name(IDENTITY)):
        return History()
    try:
        store = MlmdStore.open_read_only(state.metadata)
        try:
            history = remember(store)
        finally:
            store.close()
    except OSError as error:
        fault = disk.fault_of(error, state.metadata)
        message = f"the metadata store {state.metadata} cannot be read: {fault.because}"
        raise StoreUnavailable(message, hint=fault.hint, fault=fault) from error
    except PermanentError as error:
        kind = TroubleKind.STORE_REPLACED if disk.there(state.metadata) else TroubleKind.STORE_GONE
        fault = Fault(kind, str(state.metadata), error.message, error.hint)
        raise StoreUnavailable(error.message, hint=error.hint, fault=fault) from error
    running = history.running()
    if running and not held(state.lock):
        for execution in running:
            history.record(execution.with_outcome(Outcome(State.ABANDONED), clock.now()))
    return history
