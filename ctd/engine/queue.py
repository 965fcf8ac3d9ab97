"""Which pipelines want looking at, and when. It carries names only: what to do is found by looking."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import datetime, timedelta

from ctd.core.timing import Clock


class DelayQueue:
    """Each name is in it at most once, at the earliest time asked for, and with at most one taker.

    A name added while its taker is busy is taken again after `done`. Times are kept on the monotonic clock, so
    a step of the wall clock neither holds names back nor releases them early.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}
        self._busy: set[str] = set()
        self._woken = False
        self._changed = threading.Condition()

    def add(self, name: str, at: datetime | None = None) -> None:
        """Look at `name` at the given time, or now. An earlier time already asked for stays."""
        due = self._clock.monotonic()
        if at is not None:
            due += (at - self._clock.now()).total_seconds()
        with self._changed:
            if due < self._due.get(name, float("inf")):
                self._due[name] = due
                self._changed.notify_all()

    def add_all(self, names: Iterable[str]) -> None:
        """Look at all of them now."""
        for name in names:
            self.add(name)

    def take(self, timeout: timedelta) -> str | None:
        """The name that has been due for longest; None if none becomes due within the timeout, or on `wake`."""
        until = self._clock.monotonic() + timeout.total_seconds()
        with self._changed:
            while True:
                # Of those due at the same moment, the one that was asked for first.
                name = min((n for n in self._due if n not in self._busy), key=self._due.__getitem__, default=None)
                now = self._clock.monotonic()
                if name is not None and self._due[name] <= now:
                    del self._due[name]
                    self._busy.add(name)
                    return name
                left = min(until, self._due[name] if name is not None else until) - now
                if left <= 0 or self._woken:
                    self._woken = False
                    return None
                self._changed.wait(left)

    def done(self, name: str) -> None:
        """The taker of `name` has finished with it."""
        with self._changed:
            self._busy.discard(name)
            self._changed.notify_all()

    def wake(self) -> None:
        """Have whoever takes return, because there is something else to attend to. Safe in a signal handler."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def forget(self, name: str) -> None:
        """Do not look at `name` any more, until it is added again."""
        with self._changed:
            self._due.pop(name, None)

    def due(self) -> frozenset[str]:
        """The names that could be taken now."""
        with self._changed:
            now = self._clock.monotonic()
            return frozenset(name for name, at in self._due.items() if at <= now and name not in self._busy)

    def next_in(self) -> timedelta | None:
        """How long until the next name is due (zero: now); None while nothing is asked for."""
        with self._changed:
            if not self._due:
                return None
            return timedelta(seconds=max(0.0, min(self._due.values()) - self._clock.monotonic()))
