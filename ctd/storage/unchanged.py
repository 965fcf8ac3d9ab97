"""Telling from a folder alone that what lies in it is as it was: from its times, and from what the kernel reported.

A folder's times tell of every entry that comes, goes or is renamed; they do not tell of a file that is written in
place. Of that the kernel tells those who watch; whoever does not must look at every file (`docs/decisions/012`).
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Protocol

from ctd.core.timing import Clock
from ctd.storage.contents import Trace, trace_of

# Folders' times are not finer than their file system counts time: a look counts only if it was made this long after
# the times were first seen.
_SETTLED = 2.0
# No event is proof of nothing: events get lost, and some changes cause none. Everything is looked at this often.
EVERYTHING_WITHIN = timedelta(minutes=20)
_WITHIN = EVERYTHING_WITHIN.total_seconds()

Identity = tuple[int, int]  # device and inode


class Touches(Protocol):
    """What the kernel reported of folders, on a count that only grows."""

    def count(self) -> int:
        """Where the count is now."""

    def last(self, folder: Identity) -> int | None:
        """Where it was when something may have changed in a folder; None: nobody would tell."""


class NothingTold:
    """Where nobody watches."""

    def count(self) -> int:
        return 0

    def last(self, folder: Identity) -> int | None:
        return None


@dataclass(frozen=True)
class FolderSeen:
    """A folder as it was just before someone looked at all that lies in it."""

    trace: Trace
    since: float  # by the monotonic clock: when its times were first seen
    at: float  # when it was looked at
    touches: int

    @property
    def path(self) -> str:
        return self.trace[0]


class FolderGlance:
    """Compares folders with how they were. `begin` is called before anything is looked at."""

    def __init__(self, clock: Clock, touches: Touches) -> None:
        self._clock = clock
        self._touches = touches
        self.begin()

    def begin(self) -> None:
        self.now = self._clock.monotonic()
        self._count = self._touches.count()
        self._facts: dict[str, os.stat_result] = {}

    def facts(self, path: str) -> os.stat_result:
        """The facts of a folder, asked for once per scan. Raises OSError."""
        found = self._facts.get(path)
        return found if found is not None else self.note(path, os.stat(path))

    def note(self, path: str, facts: os.stat_result) -> os.stat_result:
        self._facts[path] = facts
        return facts

    def seen(self, trace: Trace, before: FolderSeen | None = None) -> FolderSeen:
        """A look that is being made, of a folder that was like this before it."""
        since = before.since if before is not None and before.trace == trace else self.now
        return FolderSeen(trace, since, self.now, self._count)

    def same(self, seen: FolderSeen) -> bool:
        """Whether nothing can have changed in the folder that a look at it, not at its files, would miss."""
        if seen.at - seen.since < _SETTLED or self.now - seen.at >= _WITHIN:
            return False
        try:
            facts = self.facts(seen.path)
        except OSError:
            return False
        if trace_of(seen.path, facts) != seen.trace:
            return False
        last = self._touches.last((facts.st_dev, facts.st_ino))
        return last is not None and last <= seen.touches


class Turns:
    """Gives everyone a turn within `EVERYTHING_WITHIN`: few at a time, in the order of their last turns."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._due = 0.0
        self._asked: float | None = None

    def take(self, now: float) -> frozenset[str]:
        """Whose turn it is at a time of the monotonic clock; they keep their places until they have had it."""
        passed = 0.0 if self._asked is None else max(0.0, now - self._asked)
        self._asked = now
        self._due = min(self._due + passed / _WITHIN * len(self._waiting), float(len(self._waiting)))
        count = int(self._due)
        self._due -= count
        return frozenset(islice(self._waiting, count))

    def had(self, name: str) -> None:
        self._waiting[name] = None
        self._waiting.move_to_end(name)

    def forget(self, name: str) -> None:
        del self._waiting[name]
