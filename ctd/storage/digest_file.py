"""Digests that outlive the process: a small SQLite file that may be deleted at any time, and is when it is damaged.

Nothing rests on it but how much is read after a restart. A row counts only for a file whose size, times and inode are
the very same, and only if its own seal is right.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from ctd.core.timing import Clock
from ctd.observability import Event

log = logging.getLogger("ctd.storage")

# A power failure may take back what was written to a file, yet leave the times it was given. By then it is on disk.
_WRITTEN_BACK = timedelta(minutes=1)
_MOST_ROWS = 1_000_000
_BUSY = 1.0  # seconds; another process may be reading
_REST = timedelta(seconds=30)  # after it could not be used, before it is tried again
_MOST_PENDING = 100_000
# Numbers as text: inodes and the times of far-off years may need more bits than SQLite's numbers have.
_TABLE = (
    "CREATE TABLE digests (path BLOB PRIMARY KEY, inode TEXT, size TEXT, mtime_ns TEXT, ctime_ns TEXT, "
    "digest TEXT, seal TEXT)"
)

FileIdentity = tuple[int, int, int, int]  # inode, size, mtime_ns, ctime_ns: devices are numbered anew at every boot


class DigestFile:
    """Remembers digests of files. Never raises: what goes wrong costs reading, for as long as it lasts. Thread-safe."""

    def __init__(self, path: Path, clock: Clock, *, writable: bool = True) -> None:
        self._path = path
        self._clock = clock
        self._writable = writable
        self._lock = threading.Lock()
        self._pending: dict[str, tuple[FileIdentity, str]] = {}
        self._connection: sqlite3.Connection | None = None
        self._said = ""  # what went wrong, as long as it lasts
        self._try_at = 0.0  # monotonic
        with self._lock, self._guarded():
            self._open()
        if self._connection is None and writable and not path.exists():
            with self._lock, self._guarded():  # what was there has been removed
                self._open()

    def find(self, path: str, identity: FileIdentity) -> str:
        """The digest of a file that is still the same, or nothing."""
        with self._lock:
            row = None
            with self._guarded():
                if self._connection is not None:
                    said = "SELECT inode, size, mtime_ns, ctime_ns, digest, seal FROM digests WHERE path = ?"
                    row = self._connection.execute(said, (os.fsencode(path),)).fetchone()
            if row is None or row != _row(path, identity, row[4])[1:]:
                return ""
            return str(row[4])

    def keep(self, path: str, identity: FileIdentity, digest: str) -> None:
        """Remember what a file was read as; it is written down by `save`."""
        if self._writable:
            with self._lock:
                self._pending[path] = identity, digest

    def save(self) -> None:
        """Write down what is old enough to last. What cannot be written now is tried again with what comes later."""
        if not self._pending:
            return
        with self._lock:
            last = (self._clock.now() - _WRITTEN_BACK).timestamp() * 1e9
            old = {path: said for path, said in self._pending.items() if said[0][3] <= last}
            with self._guarded():
                if old and self._connection is None and self._clock.monotonic() >= self._try_at:
                    self._open()
                if old and self._connection is not None:
                    rows = [_row(path, *said) for path, said in old.items()]
                    with self._connection:
                        self._connection.executemany("INSERT OR REPLACE INTO digests VALUES (?,?,?,?,?,?,?)", rows)
                        beyond = "SELECT max(rowid) - ? FROM digests"
                        self._connection.execute(f"DELETE FROM digests WHERE rowid <= ({beyond})", (_MOST_ROWS,))  # noqa: S608
                    self._said = ""
                    for path in old:
                        del self._pending[path]
            if len(self._pending) > _MOST_PENDING:  # they are read again after a restart
                self._pending.clear()

    def close(self) -> None:
        self.save()
        with self._lock, self._guarded():
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _open(self) -> None:
        if not self._writable and not self._path.exists():
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        mode = "rwc" if self._writable else "ro"
        opened = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode={mode}", uri=True, timeout=_BUSY, check_same_thread=False
        )
        self._connection = opened
        if not self._writable:
            return
        # Killed in the middle of a write, SQLite takes it back. What a power failure leaves torn is found by the seals.
        opened.execute("PRAGMA synchronous = OFF")
        row = opened.execute("SELECT sql FROM sqlite_master WHERE name = 'digests'").fetchone()
        if row != (_TABLE,):
            opened.execute("DROP TABLE IF EXISTS digests")
            opened.execute(_TABLE)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Do without a file that cannot be used; one that is damaged is removed."""
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            if str(error) != self._said:
                log.warning(Event.DIGESTS.value, extra={"path": str(self._path), "because": str(error)})
            self._said = str(error)
            self._try_at = self._clock.monotonic() + _REST.total_seconds()
            connection, self._connection = self._connection, None
            with contextlib.suppress(sqlite3.Error, OSError):
                if connection is not None:
                    connection.close()
                usable = not isinstance(error, sqlite3.DatabaseError) or isinstance(error, sqlite3.OperationalError)
                if self._writable and not usable:
                    for name in (self._path, Path(f"{self._path}-journal")):
                        name.unlink(missing_ok=True)


def _row(path: str, identity: FileIdentity, digest: str) -> tuple[bytes | str, ...]:
    name = os.fsencode(path)
    seal = hashlib.sha256(repr((name, *identity, digest)).encode()).hexdigest()[:32]
    return name, *map(str, identity), digest, seal
