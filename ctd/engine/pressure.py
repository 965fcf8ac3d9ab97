"""What the kernel counts against the cgroup that ctd and its workers share: kills for want of memory, refused forks.

A process that a worker started and that is killed so leaves no trace in how the worker ends: it may even succeed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ctd.core.errors import CtdError, MachineUnavailable, WorkerLost
from ctd.core.executions import Failure

_KILLED = ("memory.events", "memory.oom_control")  # cgroup v2, v1: the line `oom_kill N`
_REFUSED = ("pids.events",)  # the line `max N`
_MAYBE_REFUSED = frozenset({"WorkerLost", "ComponentFailed"})  # what libraries do where they get no thread
_MEMORY = "Give the machine, or ctd's cgroup (MemoryMax), more memory; or run fewer executions side by side"


@dataclass(frozen=True)
class Counts:
    """How often, since the cgroup was made."""

    killed: int = 0
    refused: int = 0

    def since(self, before: Counts) -> Counts:
        return Counts(self.killed - before.killed, self.refused - before.refused)


@dataclass(frozen=True)
class Pressure:
    """Reads the counters; where there is no cgroup, or it cannot be read, they stand still."""

    memory: Path | None = None
    pids: Path | None = None

    def counts(self) -> Counts:
        return Counts(_read(self.memory, "oom_kill"), _read(self.pids, "max"))


def pressure_here(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> Pressure:
    """The counters of this process's own cgroup, of version 2 or 1, as they are usually mounted."""
    try:
        lines = [line.split(":", 2) for line in proc.read_text().splitlines()]
    except OSError:
        return Pressure()
    paths = {name: path.lstrip("/") for _, names, path in lines for name in names.split(",")}
    return Pressure(_first(root, paths, "memory", _KILLED), _first(root, paths, "pids", _REFUSED))


def fault_under(counted: Counts, failure: Failure | None, *, alone: bool, killed: bool) -> CtdError | None:
    """What an execution that ended so has to be called, given what the kernel counted meanwhile; None: as it ended.

    `alone`: nothing else ran while it did. `killed`: its worker itself was.
    """
    if counted.killed > 0 and (killed or failure is None or not failure.retryable):
        return _memory_fault(counted.killed, alone=alone, killed=killed)
    if counted.refused > 0 and failure is not None and failure.kind in _MAYBE_REFUSED:
        return MachineUnavailable(
            f"{failure.message}; meanwhile the limit of processes of ctd's cgroup was hit {counted.refused} times",
            hint="Raise the limit (TasksMax of the unit, pids.max), or run fewer side by side; ctd tries again.",
        )
    return None


def _memory_fault(count: int, *, alone: bool, killed: bool) -> CtdError:
    times = f"the kernel killed {count} process{'es' if count > 1 else ''} of ctd's cgroup for want of memory"
    if killed:
        return WorkerLost(f"its process was killed (SIGKILL): {times}", hint=f"{_MEMORY}.")
    if alone:
        hint = f"{_MEMORY}. What it made is not used: part of its work may be missing."
        return WorkerLost(f"a process that it started was lost: {times}", hint=hint)
    hint = f"{_MEMORY}. What it made is not used; it is done again."
    return MachineUnavailable(f"{times} while it ran, and whose it was cannot be told", hint=hint)


def _first(root: Path, paths: Mapping[str, str], controller: str, names: tuple[str, ...]) -> Path | None:
    """Version 1 has a tree for each controller, version 2 one for all. In a container its root may be our own."""
    own, unified = paths.get(controller), paths.get("")
    folders = [root / controller / own, root / controller] if own is not None else []
    folders += [root / unified, root / "unified" / unified, root] if unified is not None else []
    return next((folder / name for folder in folders for name in names if _there(folder / name)), None)


def _there(file: Path) -> bool:
    with contextlib.suppress(OSError):
        return file.is_file()
    return False


def _read(file: Path | None, name: str) -> int:
    text = ""
    with contextlib.suppress(OSError):
        text = file.read_text() if file else ""
    for line in text.splitlines():
        said, _, number = line.partition(" ")
        if said == name and number.isdecimal():
            return int(number)
    return 0
