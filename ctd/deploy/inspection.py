"""What a look at a target shows: whether the version that was pushed last is there, whole, and the one in use.

Sizes and times of files are compared with the ledger's, nothing is read. A version that only looks different is hashed
by the push that is planned for it, which finds it whole and notes how it looks now.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ctd.core.facts import TargetSeen
from ctd.deploy.folder import CURRENT
from ctd.deploy.ledger import Entry, Fate, Ledger, Shape
from ctd.deploy.tree import shape
from ctd.deploy.versions import TRASH, is_version, ledger_of


@dataclass(frozen=True)
class _Known:
    """A ledger as it was when its file had this size and time of modification."""

    size: int
    modified: int
    entries: Mapping[int, Entry]


class Inspector:
    """Looks at targets for one daemon. A ledger is read again when it has changed."""

    def __init__(self) -> None:
        self._ledgers: dict[Path, _Known] = {}

    def look(
        self, base: Path, version: int, *, pointer: bool, live: int = 0, other: Callable[[int], str] = lambda _: ""
    ) -> TargetSeen:
        """How a version is that was pushed; `pointer` if the target has a file that names the one in use.

        `live` is the live version, if the one that was pushed is on trial beside it. `other` tells the pipeline that
        made a model, if it is another one than the version's.
        """
        try:
            fault = self._fault(base, version, other) or (_misled(base, version) if pointer else "")
            return TargetSeen(version, fault, live_fault=self._live_fault(base, live) if live else "")
        except OSError as error:
            return TargetSeen(version, unreadable=f"{base} cannot be looked at: {error.strerror or error}")

    def _fault(self, base: Path, version: int, other: Callable[[int], str]) -> str:
        wrong = self._damage(base, version)
        if wrong:
            return wrong
        entries, top = self._entries(base), _top(base)
        if top > version:
            return f"version {top}, {_whose(entries.get(top), other)}, is above version {version}"
        return ""

    def _live_fault(self, base: Path, live: int) -> str:
        """What is wrong with the live version; nothing where a promotion is removing it, or has."""
        entry = self._entries(base).get(live)
        if (base / f"{TRASH}{live}").exists() or (entry and entry.fate is Fate.REMOVED):
            return ""
        return self._damage(base, live)

    def _damage(self, base: Path, version: int) -> str:
        if not (base / str(version)).is_dir():
            return f"version {version} is gone"
        entry = self._entries(base).get(version)
        wrong = _difference(entry.files, shape(base / str(version))) if entry and entry.files else ""
        return f"version {version} is not as it was pushed: {wrong}" if wrong else ""

    def _entries(self, base: Path) -> Mapping[int, Entry]:
        path = ledger_of(base)
        try:
            facts = path.stat()
        except FileNotFoundError:
            return {}
        known = self._ledgers.get(path)
        if known is None or (known.size, known.modified) != (facts.st_size, facts.st_mtime_ns):
            known = self._ledgers[path] = _Known(facts.st_size, facts.st_mtime_ns, Ledger(path).entries())
        return known.entries


def _whose(entry: Entry | None, other: Callable[[int], str]) -> str:
    if entry is None:
        return "which ctd did not make"
    pipeline = other(entry.model)
    return f"which pipeline {pipeline} pushed" if pipeline else "of a push that came to no good end"


def _top(base: Path) -> int:
    """The highest number there is: a server goes by names, a file's too."""
    try:
        return max((int(entry.name) for entry in os.scandir(base) if is_version(entry.name)), default=0)
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _difference(pushed: Shape, found: Shape) -> str:
    """The first thing that differs, by name."""
    for name in sorted(pushed.keys() | found.keys()):
        then, now = pushed.get(name), found.get(name)
        if now is None:
            return f"{name} is gone"
        if then is None:
            return f"{name} was added"
        if then[0] != now[0]:
            return f"{name} has {now[0]:,} of {then[0]:,} bytes"
        if then != now:
            return f"{name} was written to"
    return ""


def _misled(base: Path, version: int) -> str:
    """What is wrong with the file that names the version in use."""
    try:
        said = (base / CURRENT).read_text().strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return f"the file `{CURRENT}` does not name version {version}"
    return "" if said == str(version) else f"the file `{CURRENT}` names {said[:20] or 'nothing'} instead of {version}"
