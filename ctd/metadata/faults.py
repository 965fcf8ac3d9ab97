"""What is wrong with a store that does not answer, as far as can be seen from outside: MLMD only has texts."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ctd.core.troubles import Fault, TroubleKind
from ctd.metadata.locks import named
from ctd.storage import disk

RESTORE = "restore both from the same backup, or move the state directory away to start an empty one"

_HELD = "another process holds a lock on it"
_LET_GO = "If it does not let go by itself, as a backup does, end the process: `fuser -v` on the file names it."
_BUSY, _LOCKED = 5, 6  # SQLite's codes


def is_locked(error: sqlite3.Error) -> bool:
    """Whether SQLite says that another process is in the way."""
    code = getattr(error, "sqlite_errorcode", None)  # not there before Python 3.11
    return code & 0xFF in (_BUSY, _LOCKED) if code is not None else str(error) == "database is locked"


def locked(path: Path, holder: int = 0) -> Fault:
    """Another process (its pid, where it is known) holds a lock."""
    because = f"{_HELD}: {named(holder)}" if holder > 0 else _HELD
    return Fault(TroubleKind.STORE_LOCKED, str(path), because, _LET_GO)


def diagnosed(path: Path, said: str, *, writing: bool) -> Fault:
    """What lies behind what SQLite said. `writing`: whether a small file may be written to find out."""
    looks = (disk.at_a_glance, disk.by_writing if writing else disk.by_rights)
    found = disk.first([path.parent], *looks)
    if found is not None:
        return Fault(found.kind, str(path), f"{said} ({found.place}: {found.because})", found.hint)
    if not disk.there(path):
        return Fault(TroubleKind.STORE_GONE, str(path), f"{path} is gone", f"Put it back; or {RESTORE}.")
    hint = "Free space on its disk, or find out with `sqlite3` what keeps it from being written to."
    return Fault(TroubleKind.STORE, str(path), said, hint)
