"""The start and end of the daemon's process: the lock on its state, signals, and what systemd wants to hear."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from ctd.core.errors import CtdError

_GLANCES, _GLANCE = 5, 0.05  # seconds between two of them


class StateLocked(CtdError):
    """Another daemon works on this state directory."""

    exit_code = 75  # EX_TEMPFAIL


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the state directory's lock; raises StateLocked naming the owner's pid."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            _take(file.fileno())
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise StateLocked(
                f"another ctd (pid {owner}) works on {path.parent}",
                hint="Ask it with `ctd status`, stop it, or give this one another --state.",
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
        file.truncate(0)


def _take(file: int) -> None:
    """Lock for this process alone. Whoever only looks whether it is locked lets go at once."""
    for _ in range(_GLANCES):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(_GLANCE)
    return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def held(path: Path) -> bool:
    """Whether a daemon has the state directory's lock, or may have: who may not ask cannot tell."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except (BlockingIOError, PermissionError):
        return True
    return False


class Stop:
    """Set once by the first SIGTERM; a second one asks to hurry."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.asked = threading.Event()
        self.hurry = threading.Event()
        self._wake = wake

    def __call__(self, _signum: int = 0, _frame: FrameType | None = None) -> None:
        (self.hurry if self.asked.is_set() else self.asked).set()
        self._wake()


@contextlib.contextmanager
def signals(stop: Stop, reload: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT stop, SIGHUP reads the specs again; the former handlers return afterwards."""
    wanted: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {
        signal.SIGTERM: stop,
        signal.SIGINT: stop,
        signal.SIGHUP: lambda _signum, _frame: reload(),
    }
    former = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class Notifier:
    """Tells systemd how it goes (sd_notify); does nothing where nobody listens."""

    def __init__(self, address: str) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def say(self, **fields: str) -> None:
        """For instance `say(READY="1", STATUS="3 pipelines")`."""
        if not self._address:
            return
        text = "\n".join(f"{key}={value}" for key, value in fields.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(text.encode(), self._address)
