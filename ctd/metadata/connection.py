"""A connection to ML Metadata that is thrown away and opened anew when it breaks.

After one failed commit (a full disk, for instance) a MetadataStore answers every later call with `Transaction already
open`; only a new one works. So all work comes as a function of the store that looks first what is already there and
may be called again.
"""

from __future__ import annotations

import itertools
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from ml_metadata import errors
from ml_metadata.metadata_store.metadata_store import ListOptions, MetadataStore, OrderByField
from ml_metadata.proto import metadata_store_pb2 as pb

from ctd.core.errors import PermanentError, StoreUnavailable
from ctd.core.timing import backoff
from ctd.core.troubles import Fault, TroubleKind
from ctd.metadata import faults, identity, sqlite_reading
from ctd.metadata.locks import WriteLock

log = logging.getLogger(__name__)
logging.getLogger("absl").setLevel(logging.CRITICAL)  # MLMD's line for each call that fails: `run` says it once

T = TypeVar("T")

READ_ONLY = pb.SqliteMetadataSourceConfig.READONLY
READ_WRITE = pb.SqliteMetadataSourceConfig.READWRITE
CREATE = pb.SqliteMetadataSourceConfig.READWRITE_OPENCREATE

_IDENTITY_CONTEXT = pb.ContextType(name="ctd.store", properties={"identity": pb.STRING, "format": pb.INT})
_STARTS = "starts"
_FORMAT = 1  # of what `convert` writes; a newer one is refused

PATIENCE = timedelta(seconds=6)  # of a call; while a trouble lasts, no more of it
_LOCKED_FOR_LONG = timedelta(seconds=5)  # longer than anybody's transaction should take
_OPENINGS = 3  # of a store that breaks again and again
_NEWEST = ListOptions(limit=1, order_by=OrderByField.ID, is_asc=False)
_BROKEN = (
    errors.InternalError,
    errors.FailedPreconditionError,
    errors.UnavailableError,
    errors.UnknownError,
    errors.DataLossError,
    errors.DeadlineExceededError,
    errors.ResourceExhaustedError,
    errors.CancelledError,
    RuntimeError,  # what opening a store raises
)


class Connection:
    """Work on the store at `path`, one call at a time. `mode` is one of MLMD's, and never creates a file."""

    def __init__(self, path: Path, mode: int, patience: timedelta = PATIENCE) -> None:
        self.patience = patience  # with another process's lock, and with what may pass
        self._path = path
        self._mode = mode
        self._lock = threading.RLock()
        self._store: MetadataStore | None = None
        self._closed = False
        self._trouble = ""  # said already
        self._impatient = False  # the trouble lasts: waiting for its end would keep everybody waiting
        self._file: tuple[int, int] | None = None  # what was opened last
        self._write_lock = WriteLock(path)
        self._held_since = 0.0  # monotonic: when another process was first seen to hold the lock; 0: nobody does
        self.newest = 0  # the highest id that this connection has seen or recorded
        self.run("open", lambda _: None)

    def run(self, what: str, work: Callable[[MetadataStore], T]) -> T:
        """What `work` returns. It is repeated on a new connection when the old one breaks or another process is busy.

        Raises StoreUnavailable when that does not help, PermanentError when MLMD says that the request is wrong.
        """
        with self._lock:
            started = time.monotonic()
            patience = 0.0 if self._impatient else self.patience.total_seconds()
            for attempt in itertools.count(1):
                locked = False
                try:
                    return self._answered(work(self._open()))
                except (errors.AbortedError, _Locked):
                    trouble, locked = "another process holds a lock on it", True
                except (*_BROKEN, OSError) as error:
                    self._store = None
                    trouble = _brief(error)
                except errors.StatusError as error:
                    raise PermanentError(
                        f"ML Metadata refused to {what}: {type(error).__name__}: {_brief(error)}",
                        hint="this is a defect of ctd, or a store changed by hand; please report it with this text",
                    ) from error
                if trouble != self._trouble:
                    log.warning("metadata store does not answer", extra={"doing": what, "why": trouble})
                self._trouble = trouble
                if not (locked or attempt < _OPENINGS) or time.monotonic() - started >= patience:
                    break
                time.sleep(backoff(attempt, first=PATIENCE / 100, most=PATIENCE / 10).total_seconds())
            self._impatient = True
            fault = self._locked() if locked else self._diagnosed(trouble)
            message = f"the metadata store {self._path} does not answer (to {what}): {fault.because}"
            raise StoreUnavailable(message, hint=fault.hint, fault=fault)

    def health(self) -> Fault | None:
        """What is wrong with the store although nothing is asked of it: gone, replaced, or locked for long.

        Costs microseconds while all is well. That it can be read does not mean that it can be written to.
        """
        with self._lock:
            try:
                self._open()
            except StoreUnavailable as error:
                return error.fault
            except (errors.AbortedError, _Locked):
                return self._locked()
            except (*_BROKEN, errors.StatusError, OSError) as error:
                self._store = None
                return self._diagnosed(_brief(error))
            if not self._write_lock.holder():
                self._held_since, self._impatient = 0.0, False
                return None
            self._held_since = self._held_since or time.monotonic()
            long = time.monotonic() - self._held_since >= _LOCKED_FOR_LONG.total_seconds()
            return self._locked() if long else None

    def _locked(self) -> Fault:
        return faults.locked(self._path, self._write_lock.holder())

    def _diagnosed(self, said: str) -> Fault:
        return faults.diagnosed(self._path, said, writing=self._mode != READ_ONLY)

    def read_file(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` finds in the database file itself, past MLMD. Raises Unreadable.

        MLMD's connection is closed before: of two SQLite libraries in one process the one that closes a file takes the
        other's locks away (sqlite.org/howtocorrupt.html, section 2.2).
        """
        with self._lock:
            self.run("open", lambda _: None)  # or another file than ours might be read
            self._store = None
            return sqlite_reading.read(self._path, work)

    def _answered(self, answer: T) -> T:
        self._trouble, self._impatient = "", False
        return answer

    def close(self) -> None:
        with self._lock:
            self._store = None
            self._closed = True

    def _open(self) -> MetadataStore:
        if self._closed:
            raise PermanentError(f"the metadata store {self._path} has been closed")
        file = _file(self._path)
        if file != self._file:
            self._store = None  # moved or replaced: what is open would be written to a file that nobody reads again
        if self._store is None:
            self._write_lock.let_go()
            try:
                if self._file not in (None, file):
                    self._check_untouched()
                _can_be_read(self._path)
                store = _connect(self._path, self._mode)
                identity.check(self._path, _identity_in(store, self._path))
                there = max((e.id for e in store.get_executions(_NEWEST)), default=0)
                if self._file not in (None, file):
                    self._check_number(there)
            except PermanentError as error:
                if self._file is None:
                    raise
                kind = TroubleKind.STORE_REPLACED if file is not None else TroubleKind.STORE_GONE
                fault = Fault(kind, str(self._path), error.message, error.hint)
                raise StoreUnavailable(error.message, hint=error.hint, fault=fault) from error  # it was fine
            self._store, self._file, self.newest = store, file, max(there, self.newest)
        return self._store

    def _check_untouched(self) -> None:
        """Look at a file that came in the place of ours without touching the log beside it, which may be ours."""
        found, newest = identity.glance(self._path)
        identity.check(self._path, found)
        if not identity.has_log(self._path):
            self._check_number(newest)

    def _check_number(self, there: int) -> None:
        """A copy from before would give numbers away anew that this daemon's executions have."""
        if there < self.newest:
            raise PermanentError(
                f"{self._path} was replaced by an older copy: it ends with number {there}, and {self.newest} had been "
                "recorded",
                hint="Put the newer file back; or restart ctd to go on from the older one.",
            )


class _Locked(Exception):
    """Another process keeps the file from being read."""


def _can_be_read(path: Path) -> None:
    """Ask SQLite itself first, while ML Metadata has the file closed: that waits ten seconds for each lock it finds.

    Raises _Locked. What else is wrong ML Metadata says.
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=0)) as database:
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if faults.is_locked(error):
            raise _Locked from error
    except (sqlite3.Error, OSError):
        return


def make_store(path: Path, own: str) -> None:
    """Make an empty store that says whose it is, and leave it closed."""
    try:
        store = _connect(path, CREATE)
        type_id = store.put_context_type(_IDENTITY_CONTEXT)
        context = pb.Context(type_id=type_id, name="store")
        context.properties["identity"].string_value = own
        context.properties["format"].int_value = _FORMAT
        store.put_contexts([context])
    except (errors.StatusError, RuntimeError) as error:
        fault = faults.diagnosed(path, _brief(error), writing=True)
        message = f"cannot make the metadata store {path}: {fault.because}"
        raise StoreUnavailable(message, hint=fault.hint, fault=fault) from error


def _connect(path: Path, mode: int) -> MetadataStore:
    config = pb.ConnectionConfig()
    config.sqlite.filename_uri = str(path)
    config.sqlite.connection_mode = mode
    config.retry_options.max_num_retries = 1  # MLMD's own retries sleep for seconds; ours are in `run`
    return MetadataStore(config)


def _identity_in(store: MetadataStore, path: Path) -> str | None:
    context = store.get_context_by_type_and_name(_IDENTITY_CONTEXT.name, "store")
    if context is None:
        return None
    written = context.properties["format"].int_value
    if written > _FORMAT:
        raise PermanentError(
            f"{path} was written by a newer ctd (format {written}, this one knows {_FORMAT})",
            hint="install that version again, or restore the backup made before the upgrade",
        )
    return str(context.properties["identity"].string_value)


def count_start(store: MetadataStore, at_least: int) -> int:
    """One more start, kept with the store's identity: a backup brings both back."""
    context = store.get_context_by_type_and_name(_IDENTITY_CONTEXT.name, "store")
    start = max(context.custom_properties[_STARTS].int_value + 1, at_least)
    context.custom_properties[_STARTS].int_value = start
    store.put_contexts([context])
    return int(start)


def _file(path: Path) -> tuple[int, int] | None:
    """What tells the file at a path from all others; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _brief(error: Exception) -> str:
    """The reason alone: MLMD's texts carry the whole request before it and the query behind it."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rpartition("Error when executing query: ")[2].partition(" query: ")[0][-300:]
