"""In which folders something may have changed, for those who look into them only then."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from ctd.watching.inotify import Identity


@dataclass
class _Held:
    """A watched folder: by how many it is watched, and where the count was when something happened in it."""

    holders: int
    last: int


class TouchedFolders:
    """Counts what happens in watched folders. Thread-safe.

    A folder that begins to be watched counts as touched: what happened in it before would not have been told. It is
    known by device and inode, so that it does not matter by which links it is reached.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[Identity, _Held] = {}
        self._count = 0

    def count(self) -> int:
        """Where the count is now."""
        with self._lock:
            return self._count

    def last(self, folder: Identity) -> int | None:
        """Where the count was when something may have changed in a folder; None: it is not watched."""
        with self._lock:
            held = self._held.get(folder)
            return held.last if held else None

    def hold(self, folder: Identity) -> None:
        """The folder is watched from now on, perhaps by one more."""
        with self._lock:
            self._count += 1
            held = self._held.setdefault(folder, _Held(0, 0))
            held.holders += 1
            held.last = self._count

    def touch(self, folder: Identity) -> None:
        """Something happened in the folder."""
        with self._lock:
            self._count += 1
            if folder in self._held:
                self._held[folder].last = self._count

    def release(self, folder: Identity) -> None:
        """One holds it no longer."""
        with self._lock:
            held = self._held[folder]
            held.holders -= 1
            if not held.holders:
                del self._held[folder]
