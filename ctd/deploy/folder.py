"""Numbered versions that no server watches: people and programs fetch them, and the file `current` says which."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from ctd.core.failpoints import fp
from ctd.core.timing import Clock, SystemClock
from ctd.deploy.target import Candidate, Pushed
from ctd.deploy.tree import write_durably
from ctd.deploy.versions import Versions

CURRENT = "current"
_LOCK = timedelta(seconds=60)


class Folder:
    """One base path whose newest version is the one to use."""

    def __init__(self, base: Path, *, keep: int, lock: timedelta = _LOCK, clock: Clock | None = None) -> None:
        self._versions = Versions(base, keep=keep, lock=lock, clock=clock or SystemClock())

    def versions(self) -> tuple[int, ...]:
        """The versions that ctd made and that are there, oldest first."""
        return self._versions.ours()

    def push(self, model: int, recipe: str, make: Callable[[], Path]) -> Pushed:
        """Make what the recipe gives for a model the newest version, unless it already is.

        `make` is called only if it is not; it gives the folder with the version's files. What it raises leaves the
        target as it was. Raises TargetUnavailable while the destination cannot be written.
        """
        versions = self._versions
        with versions.held():
            entry = versions.live(Candidate(model, versions.base, recipe))
            fresh = entry is None
            if entry is None:
                made = make()
                fp("push.made")
                entry = versions.publish(Candidate(model, made, recipe))
            fp("push.before_current")
            write_durably(versions.base / CURRENT, f"{entry.version}\n")
            fp("push.after_current")
            note = versions.retire(entry)
        return Pushed(entry.version, versions.path(entry.version), fresh, verified=True, note=note)
