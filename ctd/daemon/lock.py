"""One daemon per state directory: whoever holds the lock of the file that lies there now."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from ctd.core.errors import CtdError

_GLANCES, _GLANCE = 5, 0.05  # seconds between two of them
_MOST = 100  # bytes of a pid
_TRIES = 100  # to lock a file that others remove meanwhile


class StateLocked(CtdError):
    """Another daemon works on this state directory."""

    exit_code = 75  # EX_TEMPFAIL


class Lock:
    """The lock of a state directory, held from `take` on. `take` and `keep` raise StateLocked, and OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self.lost = False  # another daemon has it by now

    def take(self) -> None:
        """Lock the file, which is made if there is none; its owner's pid is written into it as far as the disk can."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(_TRIES):
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                _lock(file)
                ours = _same(file, self._path)  # and not one that somebody removed before it was locked
            except BlockingIOError as error:
                os.close(file)
                owner = owner_of(self._path) or "unknown"
                raise StateLocked(
                    f"another ctd (pid {owner}) works on {self._path.parent}",
                    hint="Ask it with `ctd status`, stop it, or give this one another --state.",
                ) from error
            except OSError:
                os.close(file)
                raise
            if ours:
                break
            os.close(file)
        else:
            raise StateLocked(f"{self._path} is removed again and again", hint="Find out who does that.")
        if self._file >= 0:
            os.close(self._file)
        self._file = file
        with contextlib.suppress(OSError):  # a full disk: then nobody is told who it is
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def keep(self) -> bool:
        """Make sure that it is still ours; whether it had to be made anew, since somebody had removed its file.

        StateLocked says that another daemon was quicker: then the directory is that one's.
        """
        if _same(self._file, self._path):
            return False
        self._path.parent.stat()  # of a folder that is gone as a whole nothing is made anew
        try:
            self.take()
        except StateLocked as error:
            self.lost = True
            raise StateLocked(
                f"{self._path} was removed, and another ctd (pid {owner_of(self._path) or 'unknown'}) works on "
                f"{self._path.parent} since: this one leaves it all to that one",
                hint="Never remove the lock: to end a daemon, send it SIGTERM.",
            ) from error
        return True

    def release(self) -> None:
        """Let others have the directory."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, 0)
            os.close(self._file)
        self._file = -1


@contextlib.contextmanager
def locked(path: Path) -> Iterator[Lock]:
    """Hold the state directory's lock. Raises as `Lock.take` does."""
    lock = Lock(path)
    lock.take()
    try:
        yield lock
    finally:
        lock.release()


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


def began_at(path: Path) -> datetime | None:
    """When its owner took the lock; nothing where there is none."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)
    except OSError:
        return None


def owner_of(path: Path) -> str:
    """The pid that the lock's owner wrote down; nothing where it could not."""
    try:
        with path.open("rb") as file:
            said = file.read(_MOST).decode("ascii", errors="replace").strip()
    except OSError:
        return ""
    return said if said.isdecimal() else ""


def _lock(file: int) -> None:
    """Lock for this process alone. Whoever only looks whether it is locked lets go at once."""
    for _ in range(_GLANCES):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(_GLANCE)
    return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _same(file: int, path: Path) -> bool:
    """Whether the open file is the one at the path."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    ours = os.fstat(file)
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)
