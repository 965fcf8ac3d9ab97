"""The only place where concrete parts meet: settings in, a running daemon out."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from ctd.api.app import SocketServer, application
from ctd.api.lineage import LineageQuery
from ctd.api.models import DaemonView, StatusView, View
from ctd.api.requests import RequestForm
from ctd.core.failpoints import arm
from ctd.core.timing import SystemClock
from ctd.daemon.ancestry import retention_view
from ctd.daemon.controller import SPECS, Controller, Rhythm
from ctd.daemon.inbox import Inbox
from ctd.daemon.lifecycle import Notifier, Stop, locked, signals
from ctd.daemon.views import Views, memory_mb
from ctd.daemon.wanted import Wanted
from ctd.engine.collect import prune_logs
from ctd.engine.observe import Observer
from ctd.engine.process_executor import ExecutorSettings, ProcessExecutor
from ctd.engine.queue import DelayQueue
from ctd.engine.reconcile import Parts, Reconciler
from ctd.engine.recovery import next_epoch, recover, remember
from ctd.engine.slots import Limits
from ctd.metadata.mlmd import MlmdStore
from ctd.observability import Event
from ctd.specs.settings import Settings, child_environment
from ctd.storage.digest_file import DigestFile
from ctd.storage.digests import FileDigests
from ctd.storage.layout import StateDir
from ctd.watching.watcher import Watcher

log = logging.getLogger("ctd.daemon")

PROFILES = dict.fromkeys(("read", "data", "train", "evaluate", "light"), "all")  # one template has all libraries
IMPATIENT = frozenset({"light"})  # a process of its own is quicker than imports that it does not need

_GC_PATIENCE = 600  # seconds: many files may have to go


class Answers:
    """Answers of the running daemon. They wait for the loop, which alone may read history."""

    def __init__(self, views: Views, inbox: Inbox, controller: Controller) -> None:
        self._views = views
        self._inbox = inbox
        self._controller = controller

    def status(self, pipeline: str | None) -> View:
        return self._controller.ask(lambda: self._views.status(pipeline)).result(timeout=30)

    def plan(self, pipeline: str) -> View:
        return self._controller.ask(lambda: self._views.plan(pipeline)).result(timeout=30)

    def explain(self, pipeline: str, node: str | None, execution: int | None = None) -> View:
        return self._controller.ask(lambda: self._views.explain(pipeline, node, execution)).result(timeout=30)

    def times(self, pipeline: str, execution: int | None = None) -> View:
        return self._controller.ask(lambda: self._views.times(pipeline, execution)).result(timeout=30)

    def execution(self, number: int) -> View:
        return self._controller.ask(lambda: self._views.execution(number)).result(timeout=30)

    def lineage(self, pipeline: str, asked: LineageQuery) -> View:
        return self._controller.ask(lambda: self._views.lineage(pipeline, asked)).result(timeout=30)

    def removable(self, pipeline: str, *, gone: bool = False) -> View:
        return self._controller.ask(lambda: self._views.removable(pipeline, gone=gone)).result(timeout=30)

    def collect(self, pipeline: str, *, gone: bool = False) -> View:
        def removed() -> View:
            would = self._views.removable(pipeline, gone=gone)
            if gone:
                self._controller.remove(pipeline, self._views.orphans(pipeline))
            else:
                spec = self._views.known(pipeline)
                found = self._controller.collect(spec)
                would = retention_view(spec, found, self._views.history, removed=True, notes=would.notes)
            return would.model_copy(update={"removed": True})

        return self._controller.ask(removed).result(timeout=_GC_PATIENCE)

    def take(self, form: RequestForm, who: str) -> View:
        return self._controller.ask(lambda: self._inbox.take(form, who)).result(timeout=30)


@dataclass(frozen=True)
class Ended:
    """How a run of the daemon ended, for its summary and exit code."""

    status: StatusView
    stopped: bool  # someone asked for it


def run(settings: Settings, *, once: bool = False) -> Ended:
    """Run the daemon until it is told to stop, or with `once` until there is nothing left to do.

    Raises StateLocked if another daemon has the state directory.
    """
    arm(settings.failpoints)
    state = StateDir(settings.state)
    with locked(state.lock), _parts(settings, state) as (controller, server, stop, views):
        notifier = Notifier(settings.notify_socket)
        with signals(stop, lambda: controller.look(SPECS)):
            server.start()
            because = "something went wrong that it cannot go on from"
            try:
                controller.run(stop, notifier, Rhythm(rescan=settings.rescan), once=once)
                because = "asked to" if stop.asked.is_set() else "all is done"
            finally:
                log.info(Event.STOPPING.value, extra={"because": because})
                notifier.say(STOPPING="1")
                server.stop()
        return Ended(views.status(), stop.asked.is_set())


@contextlib.contextmanager
def _parts(settings: Settings, state: StateDir) -> Iterator[tuple[Controller, SocketServer, Stop, Views]]:
    clock = SystemClock()
    looks = DelayQueue(clock)
    stop = Stop(looks.wake)
    store = MlmdStore(state.metadata, clock)
    history = remember(store)
    recover(store, history, state, clock)
    prune_logs(history, state, settings.keep_logs)
    executor = ProcessExecutor(
        ExecutorSettings(
            env=child_environment(),
            logs=state.logs,
            templates=PROFILES if settings.warm else {},
            impatient=IMPATIENT,
            failpoints=settings.failpoints,
        ),
        clock,
        looks.wake,
    )
    watcher = Watcher(looks.add_all, clock, settings.debounce)
    observer = Observer(clock, looks.add, watcher.touched, FileDigests(clock, DigestFile(state.digests, clock)))
    wanted = Wanted(settings.specs, settings.targets, settings.state, settings.pools)
    limits = Limits(settings.parallel, settings.pools)
    parts = Parts(store, history, executor, observer, state, clock, next_epoch(history), limits, settings.keep_logs)
    reconciler = Reconciler(parts, lambda: wanted.targets)
    controller = Controller(wanted, reconciler, executor, watcher, looks, clock)
    started = clock.now()
    folders = {"specs": settings.specs, "targets": settings.targets, "state_dir": state.root}
    log.info(Event.STARTED.value, extra={"pid": os.getpid(), "start": parts.epoch, **folders})
    views = Views(
        wanted,
        history,
        state,
        plans=lambda: controller.plans,
        progress=executor.progress,
        strays=observer.strays,
        daemon=lambda: _daemon_view(started, parts.epoch, watcher),
        faults=lambda: controller.faults,
    )
    inbox = Inbox(views, reconciler.obey, controller.look, clock)
    try:
        yield controller, SocketServer(application(Answers(views, inbox, controller)), state.socket), stop, views
    finally:
        watcher.stop()
        executor.stop(hurry=stop.hurry.is_set())
        reconciler.take_in()
        observer.close()
        store.close()


def _daemon_view(started: datetime, epoch: int, watcher: Watcher) -> DaemonView:
    return DaemonView(
        pid=os.getpid(),
        started=started.isoformat(),
        epoch=epoch,
        watching=dict(watcher.problems()),
        memory_mb=memory_mb(),
    )
