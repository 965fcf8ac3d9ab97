"""Looking after what the daemon itself needs: its lock, its disk, its store, its socket and its log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from ctd.api.server import SocketServer
from ctd.core.troubles import Fault, TroubleKind
from ctd.daemon.lock import Lock
from ctd.daemon.troubles import Troubles
from ctd.observability import Event, lost_lines
from ctd.storage import disk
from ctd.storage.layout import StateDir

log = logging.getLogger("ctd.daemon")


class Health:
    """Called by the loop. Whatever is found wrong is in `troubles`, until it is found to be well again."""

    def __init__(
        self, troubles: Troubles, state: StateDir, lock: Lock, server: SocketServer, store: Callable[[], Fault | None]
    ) -> None:
        self._troubles = troubles
        self._state = state
        self._lock = lock
        self._server = server
        self._store = store
        self._doubtful = True  # whether the disk has to be written to, to find out

    def own(self) -> None:
        """Make sure that the state directory is still this daemon's. Raises StateLocked once it is another's."""
        fault = None
        try:
            if self._lock.keep():
                hint = "Somebody removed it. Never do: while there is none, a second daemon can begin to work here."
                log.warning(Event.LOCK.value, extra={"place": str(self._state.lock), "hint": hint})
        except OSError as error:
            found = disk.fault_of(error, self._state.lock)
            if found.kind is TroubleKind.GONE:
                fault = Fault(TroubleKind.GONE, str(self._state.root), found.because, found.hint)
            else:
                fault = Fault(
                    TroubleKind.LOCK, found.place, f"it is gone and cannot be made: {found.because}", found.hint
                )
        self._troubles.note("lock", fault)

    def look(self, *, thoroughly: bool) -> None:
        """Look at everything; thoroughly: also at what only reading and writing tells."""
        self._troubles.note("disk", self._disk(thoroughly=thoroughly))
        self._troubles.note("store", self._store())
        self._troubles.note("socket", tended(self._server, self._state.socket))
        self._troubles.note("log", _log())

    def _disk(self, *, thoroughly: bool) -> Fault | None:
        fault = disk.first(self._folders(), _at_a_glance)
        if fault is None and (thoroughly or self._doubtful):
            fault = disk.first(self._folders(), disk.by_writing)
            if fault is None and disk.there(self._state.artifacts):
                fault = disk.by_reading(self._state.artifacts)
        self._doubtful = fault is not None
        return fault

    def _folders(self) -> Iterator[Path]:
        """They may lie on disks of their own. All but the first are made when they are needed."""
        yield self._state.root
        for folder in (self._state.artifacts, self._state.staging(0).parent, self._state.logs):
            if disk.there(folder):
                yield folder


def _at_a_glance(folder: Path) -> Fault | None:
    fault = disk.at_a_glance(folder)
    return fault if fault is None or disk.confirmed(fault) else None


def tended(server: SocketServer, path: Path) -> Fault | None:
    """Have the server listen again if its socket was removed; what keeps it from that."""
    error = server.tend()
    if error is None:
        return None
    found = disk.fault_of(error, path)
    because = f"nothing can be asked of this daemon, since its socket cannot be made: {found.because}"
    return Fault(TroubleKind.SOCKET, str(path), because, found.hint)


def _log() -> Fault | None:
    lost = lost_lines()
    if lost is None:
        return None
    because = f"lines of the log that were lost so far: {lost.count:,} ({lost.because})"
    hint = "Free space where it is written to. It goes on by itself, and says then what is missing."
    return Fault(TroubleKind.LOG, "standard output", because, hint)
