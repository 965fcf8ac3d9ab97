"""Which database belongs to a state directory, so that an emptied, foreign or restored one is never taken for ours.

The same uuid stands in a file beside the database and in a context inside it. A store is made under another name and
renamed into place last: wherever a crash strikes, the next start either finishes the work or begins it anew.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ctd.core.errors import PermanentError, StoreUnavailable
from ctd.metadata import faults
from ctd.metadata.faults import RESTORE
from ctd.storage import disk

IDENTITY = "IDENTITY"
_IDENTITY = """
    SELECT string_value FROM ContextProperty JOIN Context ON Context.id = context_id JOIN Type ON Type.id = type_id
    WHERE Type.name = 'ctd.store' AND ContextProperty.name = 'identity'
"""
_PATIENCE = 1.0  # seconds with another process's lock; who starts waits by itself


def claim(path: Path, make: Callable[[Path, str], None]) -> str:
    """The identity of the store at `path`. Where there is none yet, `make(path, identity)` makes it, once."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() and not _file(path).exists():
            _create(path, make)
        elif not path.exists() and _unborn(path).exists():
            _rename(_unborn(path), path)  # the last start was killed just before this line
        return identity_of(path)
    except OSError as error:
        fault = disk.fault_of(error, path)
        message = f"cannot make or open the metadata store {path}: {fault.because}"
        raise StoreUnavailable(message, hint=fault.hint, fault=fault) from error


def identity_of(path: Path) -> str:
    """The identity that the state directory expects of its database. Refuses when one of the two is missing."""
    file = _file(path)
    if not path.exists() and not file.exists():
        raise PermanentError(f"there is no metadata store at {path}", hint="name the state directory with --state")
    if not file.exists():
        raise PermanentError(f"{path} is there but {file} is missing: whose store it is cannot be told", hint=RESTORE)
    if not path.exists():
        raise PermanentError(f"{file} is there but its database {path} is missing", hint=RESTORE)
    if path.stat().st_size == 0:
        raise PermanentError(f"{path} is empty (0 bytes)", hint=RESTORE)
    identity = file.read_text("ascii", errors="replace").strip()
    if not identity:
        raise PermanentError(f"{file} is empty", hint=RESTORE)
    return identity


def check(path: Path, found: str | None) -> None:
    """Refuse a database that says it is someone else's."""
    expected = identity_of(path)
    if found != expected:
        says = f"says it is {found}" if found else "carries no identity of ctd"
        raise PermanentError(
            f"{path} does not belong here: {_file(path)} says {expected}, the database {says}", hint=RESTORE
        )


def glance(path: Path) -> tuple[str | None, int]:
    """Whose the database says it is, and its highest execution, without what its write-ahead log has.

    Nothing else is opened, locked or written: SQLite would take any log that lies beside a file for that file's.
    """
    try:
        uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            (newest,) = database.execute("SELECT coalesce(max(id), 0) FROM Execution").fetchone()
            found = database.execute(_IDENTITY).fetchone()
    except (sqlite3.Error, OSError):  # no database, or none of ML Metadata's
        return None, 0
    return (str(found[0]) if found else None), int(newest)


def has_log(path: Path) -> bool:
    """Whether a write-ahead log with something in it lies beside the database."""
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size > 0
    except OSError:
        return False


def prepare(path: Path) -> None:
    """Switch write-ahead logging on and check the pages.

    Only before ML Metadata opens the file: when a second SQLite library of the same process closes a file, the
    first one loses its locks (sqlite.org/howtocorrupt.html, section 2.2).
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=_PATIENCE)) as database:
            database.execute("PRAGMA journal_mode=WAL")
            (result,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        busy = faults.is_locked(error)
        fault = faults.locked(path) if busy else faults.diagnosed(path, str(error), writing=True)
        message = f"cannot open the metadata store {path}: {fault.because}"
        raise StoreUnavailable(message, hint=fault.hint, fault=fault) from error
    except sqlite3.DatabaseError as error:
        raise PermanentError(f"{path} is not an ML Metadata database: {error}", hint=RESTORE) from error
    if result != "ok":
        raise PermanentError(f"{path} is damaged: {result}", hint=RESTORE)


def _create(path: Path, make: Callable[[Path, str], None]) -> None:
    unborn = _unborn(path)
    for ending in ("", "-wal", "-shm", "-journal"):
        unborn.with_name(unborn.name + ending).unlink(missing_ok=True)
    identity = uuid.uuid4().hex
    make(unborn, identity)
    _sync(unborn)
    draft = path.with_name(IDENTITY + ".new")
    draft.write_text(identity + "\n", "ascii")
    _sync(draft)
    _rename(draft, _file(path))
    _rename(unborn, path)


def _rename(source: Path, target: Path) -> None:
    source.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _file(path: Path) -> Path:
    return path.with_name(IDENTITY)


def _unborn(path: Path) -> Path:
    return path.with_name(path.name + ".new")
