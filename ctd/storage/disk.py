"""Whether folders can be written to: what the file system says of itself, and what a small write says of it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from ctd.core.failpoints import fp
from ctd.core.troubles import Fault, TroubleKind

Look = Callable[[Path], "Fault | None"]

LEAST = 1 << 18  # bytes free, below which a disk counts as full: a transaction and its log may need as much
_PROBE = 4096

_FULL = "Free space on it."
_INODES = "Remove files on it, or make the file system anew with more inodes."
_READ_ONLY = "Mount it to be written to; after an error of the disk, check it first."
_RIGHTS = "Give the daemon's user the right to write there."
_GONE = "Put it back, or mount its disk."
_DEVICE = "Check the disk: `dmesg` may say more."

_KINDS = {
    errno.ENOSPC: (TroubleKind.DISK_FULL, _FULL),
    errno.EDQUOT: (TroubleKind.DISK_FULL, "Free space, or raise the quota of the daemon's user."),
    errno.EFBIG: (TroubleKind.NOT_WRITABLE, "Raise the limit on the size of files (`ulimit -f`)."),
    errno.EROFS: (TroubleKind.READ_ONLY, _READ_ONLY),
    errno.EACCES: (TroubleKind.NOT_WRITABLE, _RIGHTS),
    errno.EPERM: (TroubleKind.NOT_WRITABLE, _RIGHTS),
    errno.ENOENT: (TroubleKind.GONE, _GONE),
    errno.EISDIR: (TroubleKind.NOT_WRITABLE, "Remove the folder that is in its place."),
    errno.ELOOP: (TroubleKind.NOT_WRITABLE, "Put the folder back: there is a link that leads in a circle."),
    errno.ENOTDIR: (TroubleKind.GONE, "Put the folder back."),
    errno.ENOTCONN: (TroubleKind.GONE, _GONE),
    errno.ESTALE: (TroubleKind.GONE, _GONE),
    errno.EMFILE: (TroubleKind.NOT_WRITABLE, "Raise the limit on open files (`ulimit -n`)."),
    errno.ENFILE: (TroubleKind.NOT_WRITABLE, "The machine has no open files left: end what holds them."),
}


def fault_of(error: OSError, place: str | os.PathLike[str]) -> Fault:
    """What an error of the operating system about a place means, and what to do."""
    kind, hint = _KINDS.get(error.errno or 0, (TroubleKind.NOT_WRITABLE, _DEVICE))
    if error.errno == errno.ENOSPC and _without_inodes(Path(place)):
        kind, hint = TroubleKind.INODES, _INODES
    return Fault(kind, os.fspath(place), error.strerror or str(error), hint)


def there(place: Path) -> bool:
    """Whether there is something, be it a link to nowhere; what cannot be told is not there."""
    return os.path.lexists(place)


def nearest(place: Path) -> Path:
    """The place, or the folder above it that is there."""
    return next((path for path in (place, *place.parents) if there(path)), place)


def _without_inodes(place: Path) -> bool:
    with contextlib.suppress(OSError):
        about = os.statvfs(nearest(place))
        return bool(about.f_files) and about.f_favail == 0
    return False


def at_a_glance(folder: Path) -> Fault | None:
    """What the file system says of itself. Writes nothing, costs microseconds."""
    try:
        fp("disk.look")
        about = os.statvfs(folder)
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as error:
        return fault_of(error, folder)
    place = str(folder)
    if about.f_flag & os.ST_RDONLY:
        return Fault(TroubleKind.READ_ONLY, place, "its file system is mounted read-only", _READ_ONLY)
    for_all = os.geteuid() != 0  # the blocks that are kept back are there for root
    free = (about.f_bavail if for_all else about.f_bfree) * about.f_frsize
    if about.f_blocks and free < LEAST:
        return Fault(TroubleKind.DISK_FULL, place, f"{free:,} bytes are free on its disk", _FULL)
    if about.f_files and (about.f_favail if for_all else about.f_ffree) == 0:
        return Fault(TroubleKind.INODES, place, "its file system has no inode left for another file", _INODES)
    return None


def confirmed(fault: Fault) -> bool:
    """Whether a disk that says it is full really is: some file systems say so all their life."""
    full = fault.kind in (TroubleKind.DISK_FULL, TroubleKind.INODES)
    return not full or by_writing(Path(fault.place), LEAST) is not None


def by_writing(folder: Path, size: int = _PROBE) -> Fault | None:
    """What is found out by writing a file that has no name and is gone at once."""
    try:
        fp("disk.probe")
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            if file.write(bytes(size)) < size:
                file.write(b" ")  # what kept it from writing all says so now
    except OSError as error:
        return fault_of(error, folder)
    return None


def by_reading(folder: Path) -> Fault | None:
    """What is found out by listing it."""
    try:
        fp("disk.list")
        with os.scandir(folder) as entries:
            next(entries, None)
    except OSError as error:
        found = fault_of(error, folder)
        kind = found.kind if found.kind is TroubleKind.GONE else TroubleKind.ARTIFACTS
        return Fault(kind, found.place, f"it cannot be read: {found.because}", found.hint)
    return None


def by_rights(folder: Path) -> Fault | None:
    """For whoever must not write: whether this user could."""
    with contextlib.suppress(OSError):
        if not os.access(folder, os.W_OK | os.X_OK):
            return fault_of(PermissionError(errno.EACCES, os.strerror(errno.EACCES)), folder)
    return None


def first(folders: Iterable[Path], *looks: Look) -> Fault | None:
    """The first fault of any of the folders."""
    return next((fault for folder in folders for look in looks if (fault := look(folder))), None)
