"""Who holds the lock of an SQLite database with write-ahead logging: asked of the kernel, without taking any.

The place of the lock is part of SQLite's file format (sqlite.org/walformat.html, section 2.3). The file is kept open:
closing it would take away the locks that ML Metadata's SQLite holds in this process (sqlite.org/howtocorrupt.html).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path

_WRITE_LOCK = 120  # the byte of the -shm file that whoever writes has locked
_FLOCK = "hhqqi4x"


class WriteLock:
    """The write lock of one database. Not thread-safe."""

    def __init__(self, database: Path) -> None:
        self._path = f"{database}-shm"
        self._descriptor = -1

    def holder(self) -> int:
        """The pid of another process that holds it, -1 if it is in another pid namespace; 0 if nobody does."""
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _WRITE_LOCK, 1, 0)
            kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(self._descriptor, fcntl.F_GETLK, asked))
        except OSError:  # no such file yet, or none that may be asked: then there is nothing to tell
            return 0
        return 0 if kind == fcntl.F_UNLCK else (pid or -1)

    def let_go(self) -> None:
        """Close the file. Only while ML Metadata has the database closed in this process."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = -1


def named(pid: int) -> str:
    """`process 4711 (sqlite3)`."""
    try:
        return f"process {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})" if pid > 0 else "another process"
    except OSError:
        return f"process {pid}"
