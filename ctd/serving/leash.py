"""Become a program that cannot outlive its parent: `python leash.py PARENT_PID PROGRAM ARGUMENTS...`.

A process of its own instead of code between fork and exec, because that is not safe in a parent with threads. It
imports nothing of ctd, so it starts in milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_ORPHANED = 75


def hold(parent: int) -> None:
    """Bind this process to its parent, the thread that has started it; ends it if that is gone already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:  # it died before we could ask to die with it
        sys.exit(_ORPHANED)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Bind this process to its parent, then turn into the program."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    hold(parent)
    try:
        os.execv(command[0], command)  # noqa: S606  # the very purpose
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error}")


if __name__ == "__main__":
    main()
