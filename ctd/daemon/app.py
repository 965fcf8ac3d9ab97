"""The only place where concrete parts meet: settings in, a running daemon out."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from ctd.api.app import application
from ctd.api.models import DaemonView, StatusView
from ctd.api.server import SocketServer
from ctd.core.errors import StoreUnavailable
from ctd.core.failpoints import arm, fp
from ctd.core.timing import SystemClock
from ctd.daemon.answers import Answers
from ctd.daemon.controller import SPECS, Controller, Rhythm
from ctd.daemon.health import Health, tended
from ctd.daemon.inbox import Inbox
from ctd.daemon.lifecycle import Notifier, Stop, signals
from ctd.daemon.lock import Lock, StateLocked
from ctd.daemon.startup import Startup, Stopped
from ctd.daemon.troubles import Troubles
from ctd.daemon.views import Views, memory_mb
from ctd.daemon.wanted import Wanted
from ctd.engine.collect import prune_logs
from ctd.engine.observe import Observer
from ctd.engine.parts import Parts
from ctd.engine.pressure import pressure_here
from ctd.engine.process_executor import ExecutorSettings, ProcessExecutor
from ctd.engine.queue import DelayQueue
from ctd.engine.reconcile import Reconciler
from ctd.engine.recovery import next_epoch, recover, remember
from ctd.engine.slots import Limits
from ctd.metadata.mlmd import MlmdStore
from ctd.observability import Event
from ctd.specs.settings import Settings, child_environment
from ctd.storage.digest_file import DigestFile
from ctd.storage.digests import FileDigests
from ctd.storage.disk import fault_of
from ctd.storage.layout import StateDir
from ctd.watching.watcher import Watcher

log = logging.getLogger("ctd.daemon")
T = TypeVar("T")

PROFILES = dict.fromkeys(("read", "data", "train", "evaluate", "light"), "all")  # one template has all libraries
IMPATIENT = frozenset({"light"})  # a process of its own is quicker than imports that it does not need


@dataclass(frozen=True)
class Ended:
    """How a run of the daemon ended, for its summary and exit code."""

    status: StatusView
    stopped: bool  # someone asked for it


def run(settings: Settings, *, once: bool = False) -> Ended:
    """Run the daemon until it is told to stop, or with `once` until there is nothing left to do.

    Raises StateLocked if another daemon has the state directory, or has got it while this one worked.
    """
    arm(settings.failpoints)
    clock = SystemClock()
    looks = DelayQueue(clock)
    stop, notifier, troubles = Stop(looks.wake), Notifier(settings.notify_socket), Troubles(clock)
    startup = Startup(troubles, stop, notifier, looks, clock)
    if once:
        startup.impatient()
    with signals(stop, lambda: looks.add(SPECS)):
        try:
            return _owned(settings, startup, Living(clock, looks, stop, notifier, troubles), once=once)
        except Stopped:
            return Ended(StatusView(daemon=None, pipelines=[]), stopped=True)


@dataclass(frozen=True)
class Living:
    """What the daemon has from its first moment on."""

    clock: SystemClock
    looks: DelayQueue
    stop: Stop
    notifier: Notifier
    troubles: Troubles


def _owned(settings: Settings, startup: Startup, living: Living, *, once: bool) -> Ended:
    """The daemon's life from the moment on in which the state directory is its own."""
    state = StateDir(settings.state)
    lock = Lock(state.lock)
    startup.have(_step("lock", lock.take))
    answers = Answers(living.troubles, _starting(living.clock.now()))
    server = SocketServer(application(answers), state.socket)
    try:
        startup.meanwhile = partial(_meanwhile, living.troubles, lock, server, state)
        startup.meanwhile()
        with _parts(settings, startup, living, lock) as (controller, views, inbox, store):
            answers.begin(views, inbox, controller)
            health = Health(living.troubles, state, lock, server, store.health)
            because = "something went wrong that it cannot go on from"
            try:
                controller.run(living.stop, living.notifier, Rhythm(rescan=settings.rescan), once=once, health=health)
                because = "asked to" if living.stop.asked.is_set() else "all is done"
            except StateLocked as error:
                because = error.message
                raise
            finally:
                log.info(Event.STOPPING.value, extra={"because": because})
                living.notifier.say(STOPPING="1")
                server.stop()
        return Ended(views.status(), living.stop.asked.is_set())
    finally:
        server.stop()
        lock.release()


def _step(name: str, make: Callable[[], T]) -> Callable[[], T]:
    """A step of the start that a test may have fail."""

    def made() -> T:
        fp(f"start.{name}")
        return make()

    return made


def _meanwhile(troubles: Troubles, lock: Lock, server: SocketServer, state: StateDir) -> None:
    """What is seen to while a step of the start waits."""
    try:
        lock.keep()
    except OSError as error:
        troubles.note("lock", fault_of(error, state.lock))
    else:
        troubles.note("lock", None)
        troubles.note("socket", tended(server, state.socket))


Wired = tuple[Controller, Views, Inbox, MlmdStore]


@contextlib.contextmanager
def _parts(settings: Settings, startup: Startup, living: Living, lock: Lock) -> Iterator[Wired]:
    clock, looks, state = living.clock, living.looks, StateDir(settings.state)
    have = startup.have  # which is patient, so the store need not be
    store = have(_step("store", lambda: MlmdStore(state.metadata, clock, patience=timedelta(0))))
    history = have(_step("remember", lambda: remember(store)))
    have(_step("recover", lambda: recover(store, history, state, clock)))
    epoch = have(_step("epoch", lambda: next_epoch(store, history)))
    have(lambda: prune_logs(history, state, settings.keep_logs))
    executor = have(lambda: ProcessExecutor(_workers(settings, state), clock, looks.wake))
    watcher = Watcher(looks.add_all, clock, settings.debounce)
    observer = Observer(clock, looks.add, watcher.touched, FileDigests(clock, DigestFile(state.digests, clock)))
    wanted = Wanted(settings.specs, settings.targets, settings.state, settings.pools)
    limits = Limits(settings.parallel, settings.pools)
    parts = Parts(store, history, executor, observer, state, clock, epoch, limits, settings.keep_logs)
    reconciler = Reconciler(parts, lambda: wanted.targets)
    controller = Controller(wanted, reconciler, executor, watcher, looks, clock)
    controller.troubles = living.troubles
    store.be_patient()
    started = clock.now()
    folders = {"specs": settings.specs, "targets": settings.targets, "state_dir": state.root}
    log.info(Event.STARTED.value, extra={"pid": os.getpid(), "start": epoch, **folders})
    views = Views(
        wanted,
        history,
        state,
        plans=lambda: controller.plans,
        progress=executor.progress,
        strays=observer.strays,
        daemon=lambda: _daemon_view(started, epoch, watcher),
        faults=lambda: controller.faults,
        troubles=living.troubles.now,
    )
    try:
        yield controller, views, Inbox(views, reconciler.obey, controller.look, clock), store
    finally:
        watcher.stop()
        if not lock.lost:  # else everything here is another daemon's; its lifeline ends what this one has started
            executor.stop(hurry=living.stop.hurry.is_set())
            with contextlib.suppress(StoreUnavailable):  # the next start does it
                reconciler.take_in(last=True)
        observer.close()
        store.close()


def _workers(settings: Settings, state: StateDir) -> ExecutorSettings:
    return ExecutorSettings(
        env=child_environment(),
        logs=state.logs,
        templates=PROFILES if settings.warm else {},
        impatient=IMPATIENT,
        failpoints=settings.failpoints,
        pressure=pressure_here(),
    )


def _starting(now: datetime) -> DaemonView:
    return DaemonView(pid=os.getpid(), started=now.isoformat(), epoch=0, starting=True, memory_mb=memory_mb())


def _daemon_view(started: datetime, epoch: int, watcher: Watcher) -> DaemonView:
    return DaemonView(
        pid=os.getpid(),
        started=started.isoformat(),
        epoch=epoch,
        watching=dict(watcher.problems()),
        memory_mb=memory_mb(),
    )
