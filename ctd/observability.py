"""The vocabulary of events, and the form of the daemon's log lines."""

from __future__ import annotations

import enum
import json
import logging
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Protocol, runtime_checkable


class Event(str, enum.Enum):
    """One member per fact that can change. A log line is one of these with its fields."""

    STARTED = "daemon started"
    STOPPING = "daemon stopping"
    SPEC_LOADED = "spec loaded"
    SPEC_REFUSED = "spec refused"
    SPEC_DOUBTFUL = "spec doubtful"  # used, but something it names is not there
    SPEC_REMOVED = "spec removed"
    DECISION = "decision changed"
    STALE = "source stale"  # no new span for longer than the spec says
    MISNUMBERED = "span misnumbered"  # likely, for it is far ahead of what comes now
    TARGET = "target changed"  # what was pushed there is gone, damaged, not on top, or cannot be looked at
    OVERDUE = "push overdue"  # nothing was pushed for longer than the spec says, although data came
    REQUEST = "request"  # someone asked for something
    EXECUTION_STARTED = "execution started"
    EXECUTION_PROGRESS = "execution progress"
    EXECUTION_ENDED = "execution ended"
    RECOVERED = "recovered"
    DAMAGED = "artifact damaged"  # or gone: a result that is not as it was published
    UNREADABLE = "artifacts unreadable"  # perhaps whole, on a disk that cannot be read
    COLLECTED = "collected"  # results that need not stay
    STRAY = "stray path skipped"
    WATCH = "watch changed"
    WORKERS = "workers"
    SUMMARY = "summary"  # of a run with --once
    STORE = "metadata store"
    MACHINE = "machine"  # it refuses what workers need: nothing is started; or takes it again
    DIGESTS = "remembered digests"  # the file of them cannot be used
    TROUBLE = "trouble"  # of the daemon's own means: its store, disk, lock, socket, log
    TROUBLE_OVER = "trouble over"
    LOCK = "lock made anew"  # its file was gone
    SOCKET = "socket"  # what its server has to complain of
    LINES_LOST = "log lines lost"
    LOOK_FAILED = "look failed"  # a fault of ctd's own


_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """What was passed as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class JsonLines(logging.Formatter):
    """One JSON object per line; control characters escaped, so user text cannot forge lines."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


@dataclass(frozen=True)
class LostLines:
    """Lines of the log that could not be written, since when, and why."""

    count: int
    since: datetime
    because: str


@runtime_checkable
class CountsLosses(Protocol):
    """A handler that counts what it could not write."""

    def acquire(self) -> None: ...
    def release(self) -> None: ...

    def catch_up(self) -> LostLines | None:
        """Say what was lost, if that can be said now; what is still not said."""
        ...


def lost_lines() -> LostLines | None:
    """What the log lacks at its end, although it was tried once more to write it."""
    for handler in logging.getLogger("ctd").handlers:
        if isinstance(handler, CountsLosses):
            handler.acquire()
            try:
                lost = handler.catch_up()
            finally:
                handler.release()
            if lost is not None:
                return lost
    return None


def log_to(handler: logging.Handler, level: int = logging.INFO) -> None:
    """Send everything under the logger `ctd` to this handler alone."""
    logger = logging.getLogger("ctd")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
