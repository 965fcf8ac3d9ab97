"""A lock on a file: one process at a time, and whoever dies lets go."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from ctd.core.errors import TargetUnavailable
from ctd.core.timing import Clock, format_duration

_POLL = timedelta(milliseconds=200)


@contextlib.contextmanager
def locked(path: Path, patience: timedelta, clock: Clock, complaint: str) -> Iterator[None]:
    """Hold the lock of a file, which is made if need be. Raises TargetUnavailable with the complaint after patience."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        until = clock.monotonic() + patience.total_seconds()
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if clock.monotonic() > until:
                    raise TargetUnavailable(
                        f"{complaint} for {format_duration(patience)}",
                        hint=f"It is tried again. `fuser {path}` names the process.",
                    ) from error
            time.sleep(_POLL.total_seconds())
        yield
