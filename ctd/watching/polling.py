"""Where the kernel does not report every change, so that looking at intervals has to do."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

# Other machines, or a process in user space, change these behind the kernel's back.
_NETWORK = "afs beegfs ceph cifs coda glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 gfs2 orangefs smb3 smbfs"
_HOST_OR_PROCESS = "9p fuse prl_fs vboxsf virtiofs"
_REMOTE = frozenset([*_NETWORK.split(), *_HOST_OR_PROCESS.split()])
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Polling:
    """How often what cannot be watched is looked at, and when watching is tried or verified again."""

    every: timedelta = timedelta(seconds=10)
    retry: timedelta = timedelta(minutes=5)
    verify: timedelta = timedelta(minutes=1)
    most_watches: int | None = None  # instead of the kernel's max_user_watches
    mountinfo: str = "/proc/self/mountinfo"


@dataclass(frozen=True)
class _Mount:
    point: str
    filesystem: str
    options: frozenset[str]

    @property
    def unwatched(self) -> bool:
        """An overlay without a layer to write to changes only from beneath."""
        if self.filesystem == "overlay":
            return not any(option.startswith("upperdir=") for option in self.options)
        return self.filesystem in _REMOTE or self.filesystem.startswith("fuse.")


def must_poll(path: str, mountinfo: str) -> str:
    """The file system under a path if it keeps changes to itself; empty if the kernel reports them."""
    real = os.path.realpath(path)
    under = [mount for mount in _mounts(mountinfo) if _within(real, mount.point)]
    # Of two mounts on one point the later hides the earlier.
    mount = max(reversed(under), key=lambda one: len(one.point), default=None)
    return mount.filesystem if mount is not None and mount.unwatched else ""


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _mounts(mountinfo: str) -> list[_Mount]:
    text = Path(mountinfo).read_text(encoding="utf-8", errors="surrogateescape")
    return [_parse(line) for line in text.splitlines()]


def _parse(line: str) -> _Mount:
    """`36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/sda rw,errors=continue`, blanks in octal."""
    place, _, about = line.partition(" - ")
    filesystem, _, options = about.partition(" ")
    point = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), place.split(" ")[4])
    return _Mount(point, filesystem, frozenset(options.rpartition(" ")[2].split(",")))
