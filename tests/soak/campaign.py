"""Goes through the schedule: storms and calms, one fault after the other, and asks what must hold at each moment."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone

import psutil

from ctd.metadata.sqlite_reading import Unreadable
from tests.soak.daemon import Said
from tests.soak.damage import versions, versions_deleted
from tests.soak.ground import Fault, Ground
from tests.soak.invariants import CALM, CRASHED, REST, Invariant, broken, every_span_is_read, stuck
from tests.soak.schedule import Act, Pace, Round
from tests.soak.seen import Seen, Span, sizes
from tests.soak.tempo import Tempo, pace, starved, trained, unjudged, unserved

_GLANCE = 0.2  # seconds between two looks at processes
_LOOK = 3.0  # between two looks at everything
_FEW_MEGABYTES, _FEW_DESCRIPTORS = 200.0, 200
_SETTLED = {"main": "as wanted", "side": "as wanted"}


class Campaign:
    """One run."""

    def __init__(self, ground: Ground, faults: Mapping[str, Fault], pace: Pace, patience: float) -> None:
        self._ground = ground
        self._faults = faults
        self._pace = pace
        self._patience = patience  # seconds in which everything has to heal
        ground.crashed = self._look_at_crash

    def begin(self) -> None:
        """The first model is served before anything goes wrong, and before the feed begins."""
        ground = self._ground
        ground.feed.more()
        ground.feed.more()
        ground.daemon.start()
        if not self._until(lambda: bool(self._there()), 4 * self._patience):
            ground.history.violated("I11", "no first version was pushed")
        ground.feed.begin()

    def go_through(self, rounds: tuple[Round, ...], seconds: float) -> None:
        """As many rounds as there is time for, at least one."""
        until = time.monotonic() + seconds - self._pace.storm
        for number, one in enumerate(rounds, 1):
            if number > 1 and time.monotonic() > until:
                self._ground.history.tell(f"time is up after {number - 1} of {len(rounds)} rounds")
                return
            self._ground.history.tell(f"round {number} of {len(rounds)}: {', '.join(a.fault for a in one.acts)}")
            for act in one.acts:
                self._act(act)
            self._calm(one.calm)

    def settle(self) -> None:
        """After the feed has ended, all comes to rest, and everything must hold."""
        ground = self._ground
        began = time.monotonic()
        if not self._until(self._at_rest, 6 * self._patience):
            told = _told(ground.daemon.status())
            ground.history.violated("I10", f"not at rest {6 * self._patience:.0f} s after the feed ended: {told}")
        ground.history.measured("seconds to rest after the feed ended", time.monotonic() - began)
        self._hold(REST)
        for said in unserved(ground.daemon.ask("/plan/main") or {}, self._look(), self._there()):
            ground.history.violated("I11", said)
        ground.daemon.stop()
        if not self._until(lambda: not ground.daemon.alive(), self._patience, tend=False):
            ground.history.violated("I7", f"{', '.join(ground.daemon.left())} outlived the daemon")
        self._check(REST, self._look())

    def _act(self, act: Act) -> None:
        ground, fault = self._ground, self._faults[act.fault]
        ground.history.note("fault", name=act.fault, lasts=act.lasts, seed=act.seed)
        ground.daemon.during = act.fault
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(fault.strike(ground, random.Random(act.seed)))
            except (OSError, sqlite3.Error, psutil.Error) as error:  # what it harms is not there
                ground.history.note("no strike", name=act.fault, because=str(error))
                return
            if fault.lasting:
                self._wait(act.lasts)
                self._must_be_told(act, fault)
                self._must_spare(act, fault)
        ground.history.note("healed", name=act.fault)
        self._wait(act.pause)

    def _must_be_told(self, act: Act, fault: Fault) -> None:
        """I12: status names every fault that is present."""
        if not fault.told or not self._pace.tells:
            return
        said = self._ground.daemon.status()
        until = time.monotonic() + 5
        while not (said.code != 0 and said.names(*fault.told)) and time.monotonic() < until:
            self._wait(0.5)
            said = self._ground.daemon.status()
        if said.code == 0 or not said.names(*fault.told):
            how = f"exits with {said.code} and {'names' if said.names(*fault.told) else 'does not name'} it"
            self._ground.history.violated("I12", f"{act.fault}: after {act.lasts:.0f} s `ctd status` {how}")
            self._ground.history.note("status", code=said.code, view=said.view, text=said.text[-500:])

    def _must_spare(self, act: Act, fault: Fault) -> None:
        """I8: what is wrong with one pipeline is no reason for another to stand still."""
        if not fault.spares:
            return
        there = frozenset(s for s in self._spans(time.monotonic()) if s[0] == fault.spares)
        rules = {"I1": (every_span_is_read,)}
        if not self._until(lambda: not broken(rules, replace(self._look(), spans=there)), self._patience):
            self._ground.history.violated("I8", f"{act.fault}: {fault.spares} stands still")

    def _calm(self, lasts: float) -> None:
        ground = self._ground
        ground.daemon.during = "calm"
        ground.history.note("calm", lasts=lasts)
        began = time.monotonic()
        if not self._until(self._healthy, self._patience):
            said = ground.daemon.status()
            ground.history.violated("I12", f"not healthy {self._patience:.0f} s after the last fault: {_told(said)}")
            ground.history.note("status", code=said.code, view=said.view, text=said.text[-500:])
        ground.history.measured("seconds to heal", time.monotonic() - began)
        healed = datetime.now(timezone.utc)
        self._hold(CALM)
        self._must_repair()
        if not self._until(lambda: self._pushed(healed), self._patience + 2 * self._pace.training):
            ground.history.violated("I11", "no model that was trained after all had healed was pushed")
        if self._pace.tells:  # a glance is for busy machines, too: facts, no times
            before, asked = ground.daemon.ask("/plan/main"), time.monotonic()
            self._wait(max(0.0, began + lasts - time.monotonic()))
            self._must_keep_pace(healed)
            if before and time.monotonic() - asked > 3 * self._pace.training:
                for said in stuck(before, ground.daemon.ask("/plan/main") or {}):
                    ground.history.violated("I12", said)
        self._hold(CALM)

    def _must_repair(self) -> None:
        """I11: versions that went are there again in seconds, whatever is being trained meanwhile."""
        ground = self._ground
        if not self._until(lambda: bool(self._there()), self._patience):
            ground.history.violated("I11", "nothing is served in a time without faults")
            return
        newest = max(self._there())
        with versions_deleted(ground, random.Random(0)):
            began = time.monotonic()
            ground.history.note("fault", name="all versions deleted in calm", newest=newest)
            if self._until(lambda: max(self._there(), default=0) > newest, self._patience):
                ground.history.measured("seconds to replace a deleted version", time.monotonic() - began)
            else:
                ground.history.violated("I11", f"all versions were deleted; {self._patience:.0f} s later none is there")

    def _pushed(self, since: datetime) -> bool:
        """Whether a model that was trained since then is on the target."""
        executions, _ = self._ground.looker.recorded()
        fresh = {t.model for t in trained(executions) if t.at >= since}
        return any(model in fresh for _, _, model in Seen(executions=executions).pushes())

    def _must_keep_pace(self, since: datetime) -> None:
        ground, now = self._ground, datetime.now(timezone.utc)
        executions, _ = ground.looker.recorded()
        for rule in (starved, unjudged):
            for said in rule(executions, since, now, Tempo()):
                ground.history.violated("I11", said)
        models, pushes = pace(executions, since, now)
        ground.history.measured("models in a calm", models)
        ground.history.measured("pushes in a calm", pushes)

    def _healthy(self) -> bool:
        said = self._ground.daemon.status()
        return said.code == 0 and bool(said.view.get("daemon")) and set(said.states()) == set(_SETTLED)

    def _at_rest(self) -> bool:
        said = self._ground.daemon.status()
        return said.code == 0 and said.states() == _SETTLED

    def _hold(self, rules: Mapping[str, tuple[Invariant, ...]]) -> None:
        """What does not hold at one look may be on its way; what does not hold at any is wrong."""
        until = time.monotonic() + self._patience
        wrong = broken(rules, self._look())
        while wrong and time.monotonic() < until:
            self._wait(_LOOK)
            now = broken(rules, self._look())
            wrong = {said: rule for said, rule in wrong.items() if said in now}
        for said, rule in wrong.items():
            self._ground.history.violated(rule, said)
        for orphan in self._ground.daemon.orphans():
            self._ground.history.violated("I7", f"{orphan} belongs to no daemon")
        megabytes, descriptors = self._ground.daemon.size()
        self._ground.history.measured("megabytes of the daemon", megabytes)
        self._ground.history.measured("descriptors of the daemon", descriptors)
        if megabytes > _FEW_MEGABYTES or descriptors > _FEW_DESCRIPTORS:
            self._ground.history.violated("I10", f"the daemon has {megabytes:.0f} MB and {descriptors} descriptors")

    def _check(self, rules: Mapping[str, tuple[Invariant, ...]], seen: Seen) -> None:
        for said, rule in broken(rules, seen).items():
            self._ground.history.violated(rule, said)

    def _look_at_crash(self) -> None:
        try:
            self._check(CRASHED, self._look())
        except (OSError, Unreadable) as error:  # a fault that is there besides may forbid it
            self._ground.history.note("could not look", because=str(error))

    def _look(self) -> Seen:
        ground = self._ground
        spans = self._spans(time.monotonic() - (0 if ground.feed.ended else self._patience))
        return ground.looker.look(ground.daemon.alive(), ground.harm, spans)

    def _spans(self, until: float) -> frozenset[Span]:
        fed = self._ground.feed.complete()
        return frozenset((f.pipeline, f.number, f.version) for f in fed if f.since < until)

    def _there(self) -> list[int]:
        try:
            return [int(p.name) for p in versions(self._ground)]
        except OSError:
            return []

    def _until(self, check: Callable[[], bool], patience: float, *, tend: bool = True) -> bool:
        until = time.monotonic() + patience
        while not (found := check()) and time.monotonic() < until:
            self._wait(_GLANCE, tend=tend)
        return found

    def _wait(self, seconds: float, *, tend: bool = True) -> None:
        until = time.monotonic() + seconds
        while True:
            self._ground.daemon.bury()
            if tend:
                self._ground.daemon.tend()
            if time.monotonic() >= until:
                return
            time.sleep(min(_GLANCE, max(0.0, until - time.monotonic())))


class Reader:
    """A model server's eye on the target: what it sees of a version first must be all of it (I3)."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="reader", daemon=True)
        self._first: dict[int, Mapping[str, int]] = {}
        self.seen = 0

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.03):
            with contextlib.suppress(OSError):  # it is closed, or not there yet
                for place in versions(self._ground):
                    self._see(int(place.name), sizes(place))

    def _see(self, number: int, shape: Mapping[str, int]) -> None:
        if number not in self._first and shape:
            self._first[number] = shape
            self.seen += 1
            self._compare(number, shape)

    def _compare(self, number: int, first: Mapping[str, int]) -> None:
        self._stop.wait(0.3)
        now = sizes(self._ground.project.versions / str(number))
        harmed = number in self._ground.harm.versions
        if now and not harmed and (now != first or "saved_model.pb" not in first):
            self._ground.history.violated("I3", f"version {number} was seen with {sorted(first)} of {sorted(now)}")


def _told(said: Said) -> str:
    """The worst of a status, in a line."""
    nodes = [
        f"{p['pipeline']}/{n['node']} {n['state']}: {n['because']}"
        for p in said.view.get("pipelines", ())
        for n in p["nodes"]
        if n["state"] not in ("up to date", "running", "queued")
    ]
    problems = [q["message"] for p in said.view.get("pipelines", ()) for q in p["problems"]]
    return f"exit code {said.code}, {said.states()}; " + "; ".join([*problems, *nodes])[:600]
