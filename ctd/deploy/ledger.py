"""What was pushed to a destination: one JSON line per fact in a file that only grows.

The number of a version is written here before its directory appears, so it is never given twice, whatever crashes.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ctd.core.fingerprints import canonical

Shape = Mapping[str, tuple[int, int]]
"""Size and time of modification (in ns) of every file of a version, by name."""


class Fate(enum.Enum):
    """The last thing that happened to a version."""

    BEGUN = "begun"  # its number is taken; whether it got there, the directory shows
    PUSHED = "pushed"
    QUARANTINED = "quarantined"  # the server could not load it
    REMOVED = "removed"  # newer ones took its place


@dataclass(frozen=True)
class Entry:
    """One version that ctd made: of which model, by which recipe, and the digest of its files.

    `files` is how the files looked when they were whole: size and time of modification by name, so that a look can
    tell without reading them.
    """

    version: int
    model: int
    tree: str
    fate: Fate
    recipe: str = ""
    files: Shape = field(default_factory=dict)


class Ledger:
    """The pushes of one destination. Whoever writes holds the destination's lock."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def entries(self) -> Mapping[int, Entry]:
        """The latest entry of every version. A line torn by a crash is as if never written."""
        found = {}
        with contextlib.suppress(FileNotFoundError):
            for line in self._path.read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                    said = json.loads(line)
                    number, model = int(said["version"]), int(said["model"])
                    fate, recipe = Fate(said["fate"]), str(said.get("recipe", ""))
                    files = {str(name): (int(size), int(at)) for name, (size, at) in said.get("files", {}).items()}
                    found[number] = Entry(number, model, str(said["tree"]), fate, recipe, files)
        return found

    def write(self, entry: Entry, at: str) -> None:
        """Add a line and have the disk confirm it."""
        line = canonical({**asdict(entry), "fate": entry.fate.value, "at": at})
        with self._path.open("a+b") as file:
            file.seek(0, os.SEEK_END)
            torn = file.tell() > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
            file.write(("\n" if torn else "").encode() + line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
