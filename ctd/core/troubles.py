"""What is wrong with the daemon's own means: its store, its disk, its lock, its socket, its log. No pipeline's fault.

All of it heals by itself once the cause is gone, and nothing is lost meanwhile; until then somebody has to act.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime


class TroubleKind(str, enum.Enum):
    """What kind of trouble it is, for whoever reads `--json`."""

    STORE_LOCKED = "store locked"  # by another process
    STORE_GONE = "store gone"
    STORE_REPLACED = "store replaced"  # by one that is not ours, or by an older copy of ours
    STORE = "store does not answer"
    DISK_FULL = "disk full"
    INODES = "inodes used up"
    READ_ONLY = "disk read-only"
    NOT_WRITABLE = "not writable"  # rights, a quota, a limit, an error of the device
    GONE = "folder gone"
    ARTIFACTS = "artifacts unreadable"
    LOCK = "lock gone"
    SOCKET = "socket gone"
    LOG = "log not written"
    MACHINE = "nothing can be started"  # the machine refuses files, processes or memory that workers need
    BUSY = "daemon busy"  # its loop does not come to answer


@dataclass(frozen=True)
class Fault:
    """Something that is wrong now, where, and what to do about it."""

    kind: TroubleKind
    place: str
    because: str
    hint: str = ""


@dataclass(frozen=True)
class Trouble:
    """A fault, and since when it has been there; nothing where it was just found, and nobody looked before."""

    fault: Fault
    since: datetime | None = None
