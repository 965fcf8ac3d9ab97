"""The logs of executions: a worker may write what it likes, the disk keeps the beginning and the end."""

from __future__ import annotations

import os
from pathlib import Path

_TAIL = 64 * 1024
_PATIENCE = 100  # readings, of a log that grows all the time


def keep_below(log: Path, most: int) -> bool:
    """Cut the middle out of a log that has outgrown `most` bytes; whether there was anything to cut.

    The writer holds the file open with O_APPEND and goes on after the cut. What it writes in the instant between
    reading the tail and cutting is lost, so the tail is read anew while more comes.
    """
    try:
        size = log.stat().st_size
        if size <= most:
            return False
        _cut(log, most)
    except OSError:
        return False  # there is no log yet, or its disk is away: nothing the work should fail for
    return True


def _cut(log: Path, most: int) -> None:
    head, tail = most // 2, min(_TAIL, most // 4)
    with log.open("r+b", buffering=0) as file:
        for _ in range(_PATIENCE):
            size = os.fstat(file.fileno()).st_size
            file.seek(size - tail)
            end = file.read(tail)
            if os.fstat(file.fileno()).st_size == size:
                break
        file.truncate(head)
    note = f"\n[ctd: the log had {size} bytes; {size - head - tail} were cut out here]\n".encode()
    with log.open("ab") as file:
        file.write(note + end)


def open_log(log: Path) -> int:
    """A descriptor that only ever appends, for the stdout and stderr of a process."""
    return os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
