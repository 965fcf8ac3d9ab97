"""The small disk of a run: a tmpfs in a mount namespace of the run's own, gone with its last process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_INSIDE = "CTD_SOAK_NAMESPACE"


def is_private() -> bool:
    """Whether this process may mount without anybody else seeing it."""
    return os.environ.get(_INSIDE) == "1"


def go_private(module: str, arguments: list[str]) -> None:
    """Begin anew in a mount namespace of our own, if that can be had."""
    wrapped = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid() != 0 or is_private():
        return
    with contextlib.suppress(OSError):
        if subprocess.run([*wrapped, "true"], check=False, capture_output=True).returncode == 0:
            command = [*wrapped, sys.executable, "-m", module, *arguments]
            os.execvpe(command[0], command, {**os.environ, _INSIDE: "1"})  # noqa: S606


def mount(place: Path, megabytes: int) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "ctd-soak", place], check=True)


def unmount(place: Path) -> None:
    subprocess.run(["umount", "--lazy", place], check=False)


@contextlib.contextmanager
def full(place: Path) -> Iterator[None]:
    """Not a byte is free, however often others free some, for as long as the filler is refilled by nobody."""
    filler = place / "filler"
    try:
        with filler.open("wb") as file:
            for size in (1 << 24, 1 << 20, 1 << 12):  # others write, too: as long as there is anything to take
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
        yield
    finally:
        filler.unlink(missing_ok=True)


@contextlib.contextmanager
def without_inodes(place: Path) -> Iterator[None]:
    """No new file can be made: as many are allowed as there are."""
    room = os.statvfs(place)
    try:
        _remount(place, room.f_files - room.f_ffree)
        yield
    finally:
        _remount(place, room.f_files)


def _remount(place: Path, inodes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,nr_inodes={inodes}", place], check=True)
