"""The daemon's loop: take the name that is due, bring it a step closer, remember when to look again."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

from ctd.core.errors import StoreUnavailable
from ctd.core.timing import Clock
from ctd.daemon.health import Health
from ctd.daemon.lifecycle import Notifier, Stop
from ctd.daemon.troubles import Troubles, status_line
from ctd.daemon.wanted import Wanted
from ctd.engine.executor import Executor
from ctd.engine.queue import DelayQueue
from ctd.engine.reconcile import Reconciler
from ctd.observability import Event
from ctd.planning.decisions import Plan, Subject, Wait
from ctd.planning.retention import Collect
from ctd.specs.pipeline import PipelineSpec

log = logging.getLogger("ctd.daemon")

_STORE = "what the store was asked"
_ENDS = "*ends*"  # taking in how executions ended
SPECS = "*specs*"  # in the queue beside pipelines, whose names never have a star
PAUSE = timedelta(seconds=5)  # before looking again after something went wrong on our side
T = TypeVar("T")


class Watching(Protocol):
    """What the loop asks of the watcher."""

    def watch(self, interests: Mapping[str, frozenset[str]]) -> None: ...
    def check(self) -> None: ...
    def stop(self) -> None: ...


@dataclass(frozen=True)
class Rhythm:
    """How often things are looked at although nothing called for it."""

    rescan: timedelta = timedelta(seconds=30)
    tick: timedelta = timedelta(seconds=1)  # progress, watch health, the watchdog of systemd


class Controller:
    """One loop, one thread: it alone plans, starts, publishes and writes metadata."""

    def __init__(
        self,
        wanted: Wanted,
        reconciler: Reconciler,
        executor: Executor,
        watcher: Watching,
        looks: DelayQueue,
        clock: Clock,
    ) -> None:
        self.wanted = wanted
        self.plans: dict[str, Plan] = {}
        self.faults: dict[str, str] = {}  # of ctd's own: what went wrong in the last look, by pipeline or SPECS
        self.troubles = Troubles(clock)
        self._reconciler = reconciler
        self._executor = executor
        self._watcher = watcher
        self._looks = looks
        self._clock = clock
        self._questions: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._said_progress: dict[int, str] = {}
        self._watch_trouble = ""
        self._unanswered: set[str] = set()  # what the store did not answer: looks at pipelines, or _ENDS
        self._interests: dict[str, frozenset[str]] = {}  # paths that matter, by pipeline
        self._arriving: dict[str, set[Subject]] = {}  # spans on their way, by pipeline
        self._fresh: set[str] = set()  # pipelines that were planned since something ended last
        self._looked: list[str] = []  # what was looked at since slots were given last
        self._step_began = clock.monotonic()
        self._stirred = False  # whether anything happened since that could give someone else a turn

    def ask(self, question: Callable[[], T]) -> Future[T]:
        """Have the loop answer a question between two steps. Called from other threads."""
        future: Future[T] = Future()

        def answer() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(question())
                except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
                    future.set_exception(error)

        self._questions.put(answer)
        self._looks.wake()
        return future

    def collect(self, spec: PipelineSpec) -> tuple[Collect, ...]:
        """Remove what need not stay. Only in answer to a question: the loop alone writes."""
        return self._reconciler.collect(spec)

    def look(self, name: str) -> None:
        """Ask for a look at a pipeline, or at the specs. Safe in a signal handler and from any thread."""
        self._looks.add(name)

    def now(self) -> datetime:
        return self._clock.now()

    def busy_for(self) -> timedelta:
        """How long the present step has taken. Called from other threads."""
        return timedelta(seconds=self._clock.monotonic() - self._step_began)

    def run(self, stop: Stop, notifier: Notifier, rhythm: Rhythm, *, once: bool, health: Health) -> None:
        """Go on until asked to stop, or, with `once`, until there is nothing left to do or to wait for.

        Raises StateLocked once another daemon has the state directory.
        """
        if once:
            self._reload()  # somebody waits for an exit code: a fault of ours is one
        else:
            self._guarded(SPECS, self._reload)
        if self.wanted.pipelines and not once:  # once: only if there is anything to do
            self._executor.warm_up()
        notifier.say(READY="1")
        next_tick = next_rescan = self._clock.monotonic()
        while not stop.asked.is_set():
            now = self._step_began = self._clock.monotonic()
            health.own()
            if now >= next_tick:
                next_tick = now + rhythm.tick.total_seconds()
                self._tick(notifier)
                health.look(thoroughly=now >= next_rescan)
                notifier.status(status_line(self.troubles.now(), f"{len(self.wanted.pipelines)} pipelines"))
            if now >= next_rescan:
                next_rescan = now + rhythm.rescan.total_seconds()
                self.look_at_all()
            until_next = min(next_tick, next_rescan) - self._clock.monotonic()
            looked = self.step(timedelta(seconds=max(0.0, until_next)))
            if once and not looked and self._at_rest():
                return

    def look_at_all(self) -> None:
        """Ask for a look at the specs and at every pipeline, whether or not anything seems to have happened."""
        self._reconciler.rescan()
        self._looks.add(SPECS)
        for name in self.wanted.pipelines:
            self._looks.add(name)

    def step(self, patience: timedelta) -> bool:
        """Answer, take in what ended, and look at what is due within `patience`; whether there was such a thing."""
        self._answer()
        name = self._looks.take(timeout=patience)
        self._take_in()
        if name is not None:
            self._look_at(name)
        self._give_slots()
        return name is not None

    def _tick(self, notifier: Notifier) -> None:
        notifier.say(WATCHDOG="1")
        self._check_watches()
        if self._reconciler.held_back():
            self._stirred = True
        self.troubles.note("machine", self._reconciler.refusal(), logged=True)
        running = self._executor.running()
        for execution_id in running:
            said = self._executor.progress(execution_id)
            if said and said != self._said_progress.get(execution_id):
                self._said_progress[execution_id] = said
                self._reconciler.say_progress(execution_id, said)
        self._said_progress = {id_: said for id_, said in self._said_progress.items() if id_ in running}

    def _check_watches(self) -> None:
        trouble = ""
        try:
            self._watcher.check()
        except (
            OSError,
            RuntimeError,
        ) as error:  # out of descriptors or threads, for instance: looking at intervals has to do meanwhile
            trouble = f"the watches cannot be checked: {error}"
        if trouble and trouble != self._watch_trouble:
            log.error(Event.WATCH.value, extra={"because": trouble})
        if self._watch_trouble and not trouble:
            self.look_at_all()  # what was refused to the watches was refused to looks, too, and nobody was told
        self._watch_trouble = trouble

    def _answer(self) -> None:
        while not self._questions.empty():
            self._questions.get()()

    def _take_in(self) -> None:
        try:
            changed = self._reconciler.take_in()
            self._looks.add_all(changed)
            self._store_answers(_ENDS)
        except StoreUnavailable as error:
            self._store_is_away(_ENDS, error)
            return
        if changed:  # there may be room now
            self._fresh.clear()
            self._stirred = True

    def _look_at(self, name: str) -> None:
        self._looked.append(name)
        self._stirred = True
        try:
            self._guarded(name, self._reload if name == SPECS else partial(self._plan, name))
        finally:
            self._looks.done(name)

    def _plan(self, name: str) -> None:
        if name in self.wanted.pipelines:
            made = self._reconciler.look(self.wanted.pipelines[name])
            self.plans[name] = made
            self.troubles.note(f"results of {name}", self._reconciler.unreadable(name))
            self._fresh.add(name)
            if made.wake_at:
                self._looks.add(name, made.wake_at)
            arriving = {d.subject for d in made.decisions if isinstance(d, Wait) and d.absent}
            if arriving - self._arriving.get(name, set()):
                self._executor.warm_up()
            self._arriving[name] = arriving
            self._interests[name] = self._reconciler.interests(self.wanted.pipelines[name])
            self._watch()

    def _give_slots(self) -> None:
        """Start whatever has its turn, once all that is due was looked at: the order is one of all pipelines.

        Where something is due all the time, when each could have had its look thrice, and without those that are due.
        """
        due = self._looks.due()
        if not self._stirred or (due and len(self._looked) <= 3 * len(self.wanted.pipelines)):
            return
        self._stirred = False
        turns = self._reconciler.turns
        while claim := turns.next(but=due):
            if claim.pipeline not in self._fresh:  # it has waited since: is that still what it wants?
                self._looks.add(claim.pipeline)
                break
            self._guarded(claim.pipeline, partial(self._reconciler.start, claim))
        self.plans.update((made.pipeline, made) for made in turns.plans())
        for name in self._looked:
            self._store_answers(name)
            self.faults.pop(name, None)
        self._looked.clear()

    def _guarded(self, name: str, step: Callable[[], None]) -> None:
        """Take a step about one pipeline. If it fails nothing of the pipeline starts before the next look."""
        try:
            step()
        except StoreUnavailable as error:
            self._store_is_away(name, error)
        except Exception as error:  # the top frame of a step: no pipeline may stop the others
            because = f"{type(error).__name__}: {error}"
            if self.faults.get(name) != because:
                log.exception(Event.LOOK_FAILED.value, extra={"pipeline": name, "because": because})
            self.faults[name] = because
        else:
            return
        self._looked = [other for other in self._looked if other != name]
        self._reconciler.turns.drop(name)
        self._looks.add(name, self._clock.now() + PAUSE)

    def _store_is_away(self, doing: str, error: StoreUnavailable) -> None:
        """Say it once; executions that end meanwhile are kept."""
        if not self._unanswered:
            hint = f"{error.hint} It is tried again by itself.".lstrip()
            log.error(Event.STORE.value, extra={"because": error.message, "hint": hint})
        self._unanswered.add(doing)
        self.troubles.note(_STORE, error.fault, logged=True)

    def _store_answers(self, doing: str) -> None:
        if doing in self._unanswered:
            self._unanswered.remove(doing)
            if not self._unanswered:
                log.info(Event.STORE.value, extra={"because": "it answers again"})
                self.troubles.note(_STORE, None, logged=True)

    def _reload(self) -> None:
        change = self.wanted.reload()
        for name in change.gone:
            self.plans.pop(name, None)
            self.faults.pop(name, None)
            self.troubles.note(f"results of {name}", None)
            self._store_answers(name)
            self._fresh.discard(name)
            self._arriving.pop(name, None)
            self._looks.forget(name)
            self._interests.pop(name, None)
            self._reconciler.forget(name)
        for name, spec in self.wanted.pipelines.items():
            self._interests[name] = self._reconciler.interests(spec)
        self._watch()
        for name in change.look:
            self._looks.add(name)

    def _watch(self) -> None:
        paths = {str(folder): {SPECS} for folder in self.wanted.folders}
        for name, interests in self._interests.items():
            for path in interests:
                paths.setdefault(path, set()).add(name)
        self._watcher.watch({path: frozenset(names) for path, names in paths.items()})

    def _at_rest(self) -> bool:
        due = self._looks.next_in()
        if self._executor.running() or due == timedelta(0):
            return False
        planned = self.wanted.pipelines.keys() - self.faults.keys()
        return all(name in self.plans and self.plans[name].settled for name in planned)
