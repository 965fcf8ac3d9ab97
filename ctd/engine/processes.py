"""Processes as the kernel knows them: who is who across restarts, and how to end one with everything it started."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
import select
import signal
import time
from collections.abc import Mapping
from pathlib import Path

ProcessFacts = Mapping[str, str | int]

STAGING_VARIABLE = "CTD_STAGING"

_PROC = Path("/proc")
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36


@functools.cache
def boot_id() -> str:
    """Differs after every boot, so that a pid of an earlier boot is nobody's."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def facts(pid: int) -> dict[str, str | int]:
    """What identifies a process for good: pid, start time in clock ticks since boot, boot id. Empty if it is gone."""
    fields = _stat(pid)
    return {"pid": pid, "start": int(fields[19]), "boot": boot_id()} if fields else {}


def alive(process: ProcessFacts) -> bool:
    """Whether exactly this process still runs; a dead one that nobody has reaped does not."""
    pid = process.get("pid")
    return isinstance(pid, int) and facts(pid) == dict(process) and _stat(pid)[:1] not in ([], ["Z"], ["X"])


def kill_orphan(process: ProcessFacts) -> bool:
    """Kill the process that an earlier daemon left behind, with its group. False if it is gone or someone else."""
    return alive(process) and signal_group(int(process["pid"]), signal.SIGKILL)


def wait_until_gone(process: ProcessFacts, seconds: float = 5.0) -> bool:
    """Wait for a killed process that is not a child of ours; whether it is gone."""
    until = time.monotonic() + seconds
    while alive(process):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def signal_group(pid: int, number: signal.Signals) -> bool:
    """Signal the group led by `pid`, or `pid` alone while it has not made its group yet. False if there is neither."""
    for send in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # of another user: not one of ours
            send(pid, number)
            return True
    return False


def kill_strays(staging: Path) -> None:
    """Kill every process that an execution's worker started, by its environment: also those that left its group.

    Does what it can where descriptors have run out: most workers leave no strays.
    """
    wanted = f"{STAGING_VARIABLE}={staging}".encode()
    folders: list[Path] = []
    with contextlib.suppress(OSError):
        folders += _PROC.iterdir()
    for folder in folders:
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    os.kill(int(folder.name), signal.SIGKILL)


def children() -> set[int]:
    """The pids of this process's own children, adopted ones included."""
    found: set[int] = set()
    for task in (_PROC / "self/task").iterdir():
        with contextlib.suppress(OSError):
            found.update(int(pid) for pid in (task / "children").read_text().split())
    return found


def adopt_orphans() -> None:
    """Become the parent of descendants that lose theirs, so that none is out of reach."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def call_me(name: str) -> None:
    """What `ps` and `top` show (15 characters)."""
    _prctl(_PR_SET_NAME, ctypes.create_string_buffer(name.encode()[:15]))


def hold_lifeline(read_end: int) -> None:
    """Have the kernel kill this process's whole group as soon as nobody holds the pipe's other end any more.

    Neither a thread, which could wait for the interpreter's lock, nor the parent-death signal, which would reach
    only this process and leave what it started. The pipe is opened anew because the owner of its signals belongs
    to the open file, and `read_end` is shared with others.
    """
    own = os.open(f"/proc/self/fd/{read_end}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(own, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(own, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    cut, _, _ = select.select([own], [], [], 0)
    if cut:  # it was too late for the signal
        os.killpg(0, signal.SIGKILL)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/pid/stat from the third (the state) on; nothing if there is no such process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return []
    # The second field is the command in brackets and may hold anything, brackets and spaces included.
    return text.rpartition(")")[2].split()


def _prctl(option: int, argument: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
