"""Named places where a test makes ctd fail. Nothing happens unless `arm` was called, which only test runs do.

    push.after_rename=kill:1; store.commit=err(ENOSPC):3; worker.start=sleep(5); art.before_rename=raise;
    worker.before_exec=hold(/tmp/held); start.log=err(EACCES,/tmp/fault)

`err` with a file fails as long as the file is there: a fault of the machine that lasts for a while. `:N` means at the
N-th hit of that name only; without it, at every hit. `hold` says so on stderr and waits as long as the file is there:
a test that waits for that kills or goes on at exactly this place.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import threading
import time
from dataclasses import dataclass

from ctd.core.errors import SpecError

_POINT = re.compile(r"([a-z0-9_.-]+)=(kill|raise|err|sleep|hold)(?:\(([A-Za-z0-9._,/-]+)\))?(?::(\d+))?")


class FailpointHit(BaseException):
    """What the action `raise` raises: the end of the process, in tests that stay in theirs."""


@dataclass(frozen=True)
class Failpoint:
    """What to do at a named place, and at which hit of it (0: at each)."""

    name: str
    action: str
    argument: str = ""
    hit: int = 0

    def fire(self) -> None:
        match self.action:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "raise":
                raise FailpointHit(self.name)
            case "err":
                name, _, file = self.argument.partition(",")
                if not file or os.access(file, os.F_OK):
                    raise OSError(getattr(errno, name), f"failpoint {self.name}: {os.strerror(getattr(errno, name))}")
            case "sleep":
                time.sleep(float(self.argument))
            case "hold":
                print(f"failpoint {self.name}: held, pid {os.getpid()}", file=sys.stderr, flush=True)  # noqa: T201  for who waits for it
                while os.access(self.argument, os.F_OK):
                    time.sleep(0.02)


class Failpoints:
    """The armed points of this process and how often each name was hit."""

    def __init__(self, points: tuple[Failpoint, ...] = (), trace: str = "") -> None:
        self._points = points
        self._trace = trace
        self._hits: dict[str, int] = {}
        self._lock = threading.Lock()
        self.active = bool(points or trace)

    def hit(self, name: str) -> None:
        with self._lock:
            count = self._hits[name] = self._hits.get(name, 0) + 1
        if self._trace:
            self._write(f"{name}\n")
        for point in self._points:
            if point.name == name and point.hit in (0, count):
                point.fire()

    def _write(self, line: str) -> None:
        """One write with O_APPEND: several processes share the trace."""
        file = os.open(self._trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)


def parse_failpoints(text: str) -> tuple[Failpoint, ...]:
    """Raises SpecError naming the part that is not `name=action`."""
    return tuple(_parse(part.strip()) for part in text.split(";") if part.strip())


def _parse(part: str) -> Failpoint:
    found = _POINT.fullmatch(part)
    if found is None:
        raise SpecError(
            f"{part!r} is not a failpoint",
            hint="Write name=kill:1, name=raise, name=err(EIO), name=err(EIO,FILE), name=sleep(0.5), name=hold(FILE).",
        )
    name, action, argument, hit = found.groups()
    number = (argument or "").partition(",")[0]
    if action == "err" and not isinstance(getattr(errno, number, None), int):
        raise SpecError(f"{part!r}: no errno is called {number}", hint="Write for instance err(ENOSPC).")
    if action == "sleep" and not re.fullmatch(r"\d+(\.\d+)?", argument or ""):
        raise SpecError(f"{part!r}: sleep needs seconds", hint="Write for instance sleep(0.5).")
    if action == "hold" and not argument:
        raise SpecError(f"{part!r}: hold needs a file", hint="Write for instance hold(/tmp/held).")
    return Failpoint(name, action, argument or "", int(hit or 0))


_armed = Failpoints()


def arm(text: str, trace: str = "") -> None:
    """Arm the points for this process, from the first hit on; `trace` is a file that gets every name hit."""
    global _armed  # noqa: PLW0603  one process, one set of failpoints: fp() stays free where nothing is armed
    _armed = Failpoints(parse_failpoints(text), trace)


def fp(name: str) -> None:
    """A place that may fail in a test."""
    if _armed.active:
        _armed.hit(name)
