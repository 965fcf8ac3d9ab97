"""Faults of the machine: what the operating system refuses says nothing about anybody's data, code or spec.

A disk that is full or gone, rights that were taken away, descriptors, processes or memory that have run out: whoever
meets that raises StorageUnavailable or MachineUnavailable, which never count as an attempt. Decision 024.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping

from ctd.core.errors import MachineUnavailable, StorageUnavailable
from ctd.core.failpoints import fp

Place = str | os.PathLike[str]

_AGAIN = "ctd goes on by itself as soon as it can."
_LIMITS: Mapping[int, str] = {
    errno.EMFILE: "Raise the limit of open files (`ulimit -n`, LimitNOFILE of the unit)",
    errno.ENFILE: "The whole machine has no open files left: raise fs.file-max, or see who has them",
    errno.ENOMEM: "Give the machine more memory, or run fewer executions side by side",
    errno.EAGAIN: "Raise the limit of processes (`ulimit -u`, TasksMax of the unit, pids.max)",
}
_DISK: dict[int, str] = {
    errno.ENOSPC: "Free space there, or inodes (`df -h`, `df -i`)",
    errno.EDQUOT: "Free space there, or raise the quota of the user that ctd runs as",
    errno.EFBIG: "Raise the limit of a file's size (`ulimit -f`, LimitFSIZE of the unit)",
    errno.EIO: "The disk does not read or write: see `dmesg`",
    errno.EROFS: "The file system is mounted read-only: `dmesg` may say why; mount it for writing",
    errno.ESTALE: "The server of the file system has lost it: mount it anew",
    errno.ENODEV: "The disk or mount is away: bring it back",
    errno.ENXIO: "The disk or mount is away: bring it back",
    errno.ETIMEDOUT: "The server of the file system does not answer: see to it, or to the network",
    errno.EACCES: "Give the user that ctd runs as its rights there again",
    errno.EPERM: "Give the user that ctd runs as its rights there again",
    errno.EXDEV: "It is on another file system: give both the same",
}

_PLACE = dict.fromkeys(
    (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ELOOP),
    "Something else is there, or has taken it away: nothing but ctd changes its state directory",
)

ANYWHERE = frozenset((*_LIMITS, errno.EIO, errno.ESTALE))
"""What is the machine's fault whatever was asked for."""

SPACE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS))
"""What is the machine's fault unless it names a file that is somebody else's."""

IN_OUR_PLACES = frozenset((*_LIMITS, *_DISK))
"""What is the machine's fault where ctd's own files are concerned."""


def unavailable(doing: str, error: OSError, place: Place = "") -> StorageUnavailable | MachineUnavailable:
    """The error of ctd's that one of the operating system's amounts to: what could not be done, where, and why."""
    number = error.errno or 0
    where = _names(error) or os.fspath(place)
    said = in_words(error)
    message = f"{doing}: {where}: {said}" if where else f"{doing}: {said}"
    if number in _LIMITS:
        return MachineUnavailable(message, hint=f"{_LIMITS[number]}; {_AGAIN}")
    advice = (_DISK | _PLACE).get(number, "Look at the disk and the rights of the state directory")
    return StorageUnavailable(message, hint=f"{advice}; {_AGAIN}")


def in_words(error: OSError) -> str:
    """`No space left on device (ENOSPC)`."""
    if error.errno is None:
        return str(error)
    return f"{os.strerror(error.errno)} ({errno.errorcode.get(error.errno, error.errno)})"


@contextlib.contextmanager
def machine(point: str, doing: str, place: Place = "") -> Iterator[None]:
    """The border around calls of the operating system: what they raise leaves as what it is, a fault of the machine.

    `point` is the name of a failpoint: every such border is tried with every fault.
    """
    try:
        fp(point)
        yield
    except OSError as error:
        raise unavailable(doing, error, place) from error


def _names(error: OSError) -> str:
    return " -> ".join(
        os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))
    )
