"""Asking the machine whether it takes files and gives descriptors: what it refuses now, it refused a moment ago."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path

from ctd.core.failpoints import fp
from ctd.core.machine import machine
from ctd.storage.layout import StateDir

_BYTES = bytes(256 * 1024)
_DESCRIPTORS = 16  # what starting a process takes, and a few to spare
_NAME = ".ctd-probe"


def probe_folder(folder: Path) -> None:
    """Raise OSError if a file of some size cannot be made, kept and removed there."""
    fp("probe.folder")
    file = folder / _NAME
    with contextlib.suppress(FileNotFoundError):
        file.unlink()  # left by a crash
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        left = memoryview(_BYTES)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
        file.unlink()


def probe(state: StateDir) -> None:
    """Raise StorageUnavailable or MachineUnavailable if work that is started now would fail for want of either."""
    with machine("probe.descriptors", "no process can be started"):
        _probe_descriptors()
    for folder in (state.staging(0).parent, state.artifacts, state.logs):
        with machine("probe.state", "nothing can be written", folder):
            folder.mkdir(parents=True, exist_ok=True)
            probe_folder(folder)


def probe_threads() -> None:
    """Raise OSError if no thread can be started. Python raises something else, and libraries end the process."""
    thread = threading.Thread(target=int)
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
    thread.join()


def _probe_descriptors() -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(_DESCRIPTORS):
            opened.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
