"""Which versions of a model are wanted, where each one is, and what to do next. Pure: no files, no threads."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ctd.core.errors import IllegalTransition

_NUMBER = re.compile(r"[0-9]+")
_LARGEST = 2**63 - 1  # version numbers travel as int64


class Phase(enum.IntEnum):
    """Where a version is; the numbers are those of the ModelService. It only ever moves down this list."""

    START = 10  # seen on disk and wanted
    LOADING = 20  # being loaded and warmed up
    AVAILABLE = 30  # answers requests
    UNLOADING = 40  # finishes what it has begun, takes nothing new
    END = 50  # unloaded, or failed to load

    @property
    def settled(self) -> bool:
        """Loading it has come to a result."""
        return self >= Phase.AVAILABLE


@dataclass(frozen=True)
class Version:
    """One version of one model as the server sees it; code and message say why its load failed."""

    number: int
    phase: Phase = Phase.START
    wanted: bool = True
    code: int = 0
    message: str = ""

    @property
    def failed(self) -> bool:
        return self.phase is Phase.END and self.code != 0

    def moved(self, phase: Phase, code: int = 0, message: str = "") -> Version:
        """The version one phase further on."""
        if phase <= self.phase:
            raise IllegalTransition(
                f"version {self.number} is {self.phase.name} and cannot become {phase.name}",
                hint="this is a bug of the model server: please report it with the server's log",
            )
        return replace(self, phase=phase, code=code, message=message)


@dataclass(frozen=True)
class Latest:
    """Serve the newest `count` versions that load."""

    count: int = 1


@dataclass(frozen=True)
class All:
    """Serve every version on disk."""


@dataclass(frozen=True)
class Specific:
    """Serve these versions and no other."""

    numbers: frozenset[int]


Policy = Latest | All | Specific


@dataclass(frozen=True)
class Load:
    """Start loading this version."""

    number: int


@dataclass(frozen=True)
class Unload:
    """Stop giving requests to this version and let it go."""

    number: int


def version_number(directory: str) -> int | None:
    """The version a directory name stands for: digits only, '00000123' is 123; anything else is no version."""
    if not _NUMBER.fullmatch(directory):
        return None
    number = int(directory)
    return number if number <= _LARGEST else None


def wanted(policy: Policy, found: Iterable[int], failed: Iterable[int] = ()) -> frozenset[int]:
    """The versions to serve out of those on disk.

    A version that failed to load does not count as one of the latest, so that a server started over a broken newest
    version serves the one before instead of none.
    """
    match policy:
        case Latest(count):
            newest = sorted(set(found) - set(failed), reverse=True)
            return frozenset(newest[: max(count, 1)])
        case All():
            return frozenset(found)
        case Specific(numbers):
            return numbers & frozenset(found)


def next_action(versions: Sequence[Version]) -> Load | Unload | None:
    """Never unload the last version that answers while a wanted one is still on its way."""
    ready = [version for version in versions if version.phase is Phase.AVAILABLE]
    stale = sorted(version.number for version in ready if not version.wanted)
    wanted_is_up = any(v.wanted for v in ready) or not any(v.wanted for v in versions)
    if stale and (wanted_is_up or len(stale) > 1):
        return Unload(stale[0])
    new = [v.number for v in versions if v.wanted and v.phase is Phase.START]
    return Load(max(new)) if new else None
