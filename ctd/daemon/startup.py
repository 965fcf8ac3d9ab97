"""A start waits for what it needs: a lock that a backup holds, a disk without space. It says so, and goes on later."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from ctd.core.errors import CtdError, StorageUnavailable, StoreUnavailable
from ctd.core.timing import Clock
from ctd.core.troubles import Fault, TroubleKind
from ctd.daemon.lifecycle import Notifier, Stop
from ctd.daemon.troubles import Troubles, status_line
from ctd.engine.queue import DelayQueue
from ctd.storage import disk

T = TypeVar("T")

_PAUSE = timedelta(seconds=1)  # between two attempts
_ONCE = timedelta(minutes=5)  # of a run with --once, whose caller waits for an exit code
# What is said wrongly and does not heal: a file where a folder should be, a name that is too long.
_WRONG = frozenset({errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL})
_RIGHTS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class Stopped(Exception):
    """Somebody asked the daemon to stop before it had begun."""


class Startup:
    """The steps of one start, each of which may have to wait."""

    def __init__(self, troubles: Troubles, stop: Stop, notifier: Notifier, looks: DelayQueue, clock: Clock) -> None:
        self._troubles = troubles
        self._stop = stop
        self._notifier = notifier
        self._looks = looks
        self._clock = clock
        self.meanwhile: Callable[[], None] = lambda: None  # what else is to be tried again while a step waits
        self.patience: timedelta | None = None
        self._began = clock.monotonic()

    def have(self, make: Callable[[], T]) -> T:
        """What `make` makes, as soon as it can. It may be called any number of times.

        Raises Stopped, and what waiting cannot help: errors of ctd's own that are not of the store or the disk.
        """
        while True:
            if self._stop.asked.is_set():
                raise Stopped
            try:
                made = make()
            except (StoreUnavailable, StorageUnavailable, OSError) as error:
                if self._hopeless(error):
                    raise
                self._wait(_fault_of(error))
            else:
                self._troubles.note("start", None)
                return made

    def impatient(self) -> None:
        """Somebody waits for an exit code: do not wait for ever."""
        self.patience = _ONCE

    def _hopeless(self, error: CtdError | OSError) -> bool:
        if isinstance(error, OSError) and error.errno in (_WRONG if self.patience is None else _WRONG | _RIGHTS):
            return True
        return self.patience is not None and self._clock.monotonic() - self._began > self.patience.total_seconds()

    def _wait(self, fault: Fault) -> None:
        self._troubles.note("start", fault)
        self.meanwhile()
        # It is there and answers, though it cannot work yet: systemd must not kill it for that.
        self._notifier.say(READY="1", WATCHDOG="1")
        self._notifier.status(status_line(self._troubles.now(), ""))
        name = self._looks.take(_PAUSE)  # and not the stop's own wait, which a signal's handler could block for ever
        if name is not None:  # nobody is there yet who could look: the first look is at everything
            self._looks.done(name)


def _fault_of(error: CtdError | OSError) -> Fault:
    if isinstance(error, StoreUnavailable):
        return error.fault
    if isinstance(error, OSError):
        return disk.fault_of(error, os.fspath(error.filename) if isinstance(error.filename, (str, os.PathLike)) else "")
    return Fault(TroubleKind.NOT_WRITABLE, "", error.message, error.hint)
