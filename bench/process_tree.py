"""What a process and all its descendants take together: memory at the most, and CPU."""

from __future__ import annotations

import contextlib
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

_EVERY = 0.25  # seconds between two samples


class Peak:
    """The most megabytes seen in a sample so far."""

    def __init__(self) -> None:
        self.megabytes = 0.0


@contextlib.contextmanager
def watched(pid: int, *, sample: bool = True) -> Iterator[Peak]:
    """Sample the tree of a process four times a second, if at all: a look takes about 15 ms for each GB that it maps.

    Each process counts with its proportional set size (Pss in /proc/PID/smaps_rollup): a page that n processes share,
    as forks of a template do, counts 1/n for each of them.
    """
    peak, done = Peak(), threading.Event()

    def look() -> None:
        while not done.wait(_EVERY):
            peak.megabytes = max(peak.megabytes, megabytes_of_tree(pid))

    looking = threading.Thread(target=look, daemon=True)
    if sample:
        looking.start()
    try:
        yield peak
    finally:
        done.set()
        if sample:
            looking.join()


def megabytes_of_tree(pid: int) -> float:
    """Proportional set sizes of a process and its descendants; those that end meanwhile count nothing."""
    return sum(_megabytes(process.pid) for process in _tree(pid))


def cpu_of_tree(pid: int) -> float:
    """CPU seconds so far of a process and its descendants, those that have ended included."""
    total = 0.0
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            spent = process.cpu_times()
            total += spent.user + spent.system + spent.children_user + spent.children_system
    return total


def cpu_of_ended() -> float:
    """CPU seconds of all children of this process that have ended, and of theirs."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _megabytes(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0
