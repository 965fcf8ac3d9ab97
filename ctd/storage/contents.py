"""What lies inside a span: its data files, its bookkeeping, and whatever should not be there."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field

from ctd.core.spans import hidden
from ctd.core.work import SourceFile

_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}

Trace = tuple[str, int, int, int, int, int]  # path, size, mtime_ns, ctime_ns, inode, device


@dataclass
class Contents:
    """Data files, traces of everything (to notice changes), what says that it is complete, and what is wrong."""

    files: list[SourceFile] = field(default_factory=list)
    hidden: list[SourceFile] = field(default_factory=list)  # by their names no data, unless a manifest lists them
    traces: list[Trace] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    markers: int = 0  # or manifests
    markers_needed: int = 1
    lacking: list[str] = field(default_factory=list)  # what is not as its manifests say
    beside: list[str] = field(default_factory=list)  # data files that its manifests do not list
    unchosen: list[str] = field(default_factory=list)  # what its manifests list and the pattern does not choose
    unfinished: list[str] = field(default_factory=list)  # names that say: still being written
    partitions: list[str] = field(default_factory=list)  # Hive's folders that the pattern does not choose

    def add(self, path: str, name: str, facts: os.stat_result) -> None:
        """Take in one entry of the span."""
        if stat.S_ISREG(facts.st_mode):
            self.traces.append(trace_of(path, facts))
            kind = self.hidden if hidden(name) else self.files
            kind.append(SourceFile(path, facts.st_size, facts.st_mtime_ns))
        elif not stat.S_ISDIR(facts.st_mode) and not hidden(name):
            self.faults.append(f"{path} is {kind_of(facts)}, not a file")


def trace_of(path: str, facts: os.stat_result) -> Trace:
    """What tells a file or folder from what was there before. The time of its last status change cannot be set back."""
    return path, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino, facts.st_dev


def kind_of(facts: os.stat_result) -> str:
    """What an entry is, with its article."""
    if stat.S_ISDIR(facts.st_mode):
        return "a folder"
    return _KINDS.get(stat.S_IFMT(facts.st_mode), "a file")


def trouble(path: str, error: OSError | ValueError) -> str:
    """What the operating system said about a path, in words."""
    if isinstance(error, FileNotFoundError):
        return f"{path} is a link to nothing" if os.path.islink(path) else f"{path} does not exist"
    return f"{path}: {(error.strerror or str(error)) if isinstance(error, OSError) else error}"
