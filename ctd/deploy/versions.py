"""Numbered version directories: how one appears, is found again, and goes.

Whoever watches such a folder takes a numeric directory the moment it sees it and never looks at it again. So a
version appears by one rename when it is whole and on disk, a number is given once, and a version that turns out bad
is moved out of sight.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import stat
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from ctd.core.errors import BadInput, StorageUnavailable, TargetUnavailable
from ctd.core.failpoints import fp
from ctd.core.timing import Clock
from ctd.deploy.ledger import Entry, Fate, Ledger
from ctd.deploy.locks import locked
from ctd.deploy.target import Candidate
from ctd.deploy.tree import copy_durably, manifest, shape, sync_directory, tree_digest

_OURS = ".ctd"
TRASH = ".ctd-trash-"
_COPY, _QUARANTINE = ".ctd-tmp-", ".ctd-quarantine-"
_MOST = 2**63 - 1  # servers read the names as int64, and pass over what is larger
_HINTS = {
    errno.ENOSPC: "The disk is full: free space, or lower `keep`; it is tried again.",
    errno.EDQUOT: "The quota is used up: free space, or lower `keep`; it is tried again.",
    errno.EACCES: "Give ctd's user write permission there; it is tried again.",
    errno.EPERM: "Give ctd's user write permission there; it is tried again.",
    errno.EROFS: "The file system is mounted read-only: mount it for writing; it is tried again.",
    errno.ENOTDIR: "Part of the path is a file: mend `path:` of the target, or move the file away.",
    errno.EEXIST: "The path is a file, or a link to nothing: mend `path:` of the target, or move that away.",
    errno.EXDEV: "Part of the folder is on another file system: a mount, or a layer of a container's image. A version "
    "appears by a rename, which cannot cross that: let `path:` be one plain folder on one disk.",
    errno.ELOOP: "The path is a link that leads to itself: mend it.",
    errno.ESTALE: "The network file system has lost the folder: mount it again.",
}


class Versions:
    """The versions below one base path. Those that ctd did not make are counted, never touched."""

    def __init__(self, base: Path, *, keep: int, lock: timedelta, clock: Clock) -> None:
        self.base = base
        self._keep = keep
        self._lock = lock
        self._clock = clock
        self._ledger = Ledger(ledger_of(base))

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """One push at a time, begun on clean ground. Raises TargetUnavailable for what the file system refuses."""
        with self._reachable(), self._locked():
            self._sweep()
            fp("push.held")
            yield

    def live(self, model: Candidate) -> Entry | None:
        """The newest version, if it was made of this model in this way and is whole."""
        newest = max(self._on_disk(), default=0)
        entry = self._ledger.entries().get(newest)
        if entry is None or not self.path(newest).is_dir() or (entry.model, entry.recipe) != (model.id, model.recipe):
            return None
        if self._tree(newest) != entry.tree:
            return None
        if not model.recipe and entry.tree != tree_digest(files_of(model)):
            return None
        files = shape(self.path(newest))
        if entry.fate is Fate.BEGUN or entry.files != files:  # a push died after the rename, or it was copied here
            entry = self.note(replace(entry, files=files), Fate.PUSHED)
        return entry

    def _tree(self, version: int) -> str:
        """The digest of what is there; nothing where something was added that no model has, such as a link."""
        try:
            return tree_digest(manifest(self.path(version)))
        except BadInput:
            return ""

    def publish(self, model: Candidate) -> Entry:
        """Copy, confirm, rename: before the rename a watcher sees nothing, after it everything."""
        files = files_of(model)
        entry = self.note(Entry(self.next(), model.id, tree_digest(files), Fate.BEGUN, model.recipe))
        fp("push.alloc")
        copy = self.base / f"{_COPY}{uuid.uuid4().hex}"
        try:
            copy_durably(model.path, copy, files, stat.S_IMODE(self.base.stat().st_mode) & 0o777)
            fp("push.before_rename")
            copy.rename(self.path(entry.version))
        except BaseException:
            shutil.rmtree(copy, ignore_errors=True)
            raise
        sync_directory(self.base)
        fp("push.after_rename")
        return self.note(replace(entry, files=shape(self.path(entry.version))), Fate.PUSHED)

    def hide(self, entry: Entry) -> Path:
        """Take a version out of sight; where it is then."""
        place = self.base / f"{_QUARANTINE}{entry.version}"
        self.path(entry.version).rename(place)
        sync_directory(self.base)
        return place

    def show(self, entry: Entry) -> None:
        """Put a version back that was hidden."""
        (self.base / f"{_QUARANTINE}{entry.version}").rename(self.path(entry.version))
        sync_directory(self.base)

    def ours(self) -> tuple[int, ...]:
        """The versions that ctd made and that are there, oldest first."""
        return tuple(sorted(version for version in self._ledger.entries() if self.path(version).is_dir()))

    def quarantine(self, entry: Entry) -> Path:
        """Hide a version that is no good; where it is then. As many as are kept stay for people to look at."""
        place = self.base / f"{_QUARANTINE}{entry.version}"
        if not place.exists():
            self.hide(entry)
        self.note(replace(entry, files={}), Fate.QUARANTINED)
        for old in sorted(self.base.glob(f"{_QUARANTINE}*"), key=lambda path: path.stat().st_mtime)[: -self._keep]:
            shutil.rmtree(old)
        return place

    def retire(self, live: Entry, spared: Collection[int] = ()) -> str:
        """Remove our oldest versions beyond `keep`, but none of those `spared`; what there is to tell if they cannot
        be removed.

        The new version is there by then: that an old one stays must not undo it.
        """
        try:
            self._retire(live, spared)
        except OSError as error:
            return f"old versions stay, they cannot be removed: {error}"
        return ""

    def _retire(self, live: Entry, spared: Collection[int]) -> None:
        """Out of sight first, then away."""
        entries = self._ledger.entries()
        ours = sorted(v for v in entries if v != live.version and self.path(v).is_dir())
        for version in (v for v in ours[: max(0, len(ours) - self._keep + 1)] if v not in spared):
            trash = self.base / f"{TRASH}{version}"
            self.path(version).rename(trash)
            sync_directory(self.base)
            fp("push.before_delete")
            shutil.rmtree(trash)
            fp("push.after_delete")
            self.note(replace(entries[version], files={}), Fate.REMOVED)

    def entry(self, version: int) -> Entry | None:
        """What is known of a version that ctd made."""
        return self._ledger.entries().get(version)

    def path(self, version: int) -> Path:
        return self.base / str(version)

    def note(self, entry: Entry, fate: Fate | None = None) -> Entry:
        """Write down what became of a version."""
        entry = replace(entry, fate=fate or entry.fate)
        self._ledger.write(entry, self._clock.now().isoformat())
        return entry

    @contextlib.contextmanager
    def _reachable(self) -> Iterator[None]:
        """What the file system refuses leaves as TargetUnavailable, with what to do about it."""
        try:
            yield
        except OSError as error:
            hint = _HINTS.get(error.errno or 0, "Mend the destination; it is tried again.")
            raise TargetUnavailable(f"target {self.base}: {error}", hint=hint) from error

    def _locked(self) -> AbstractContextManager[None]:
        """One push at a time per destination."""
        complaint = f"target {self.base}: another push has held it"
        return locked(self.base / _OURS / "lock", self._lock, self._clock, complaint)

    def _sweep(self) -> None:
        """Remove what pushes that died left behind. The lock is held, so nobody is using it."""
        for prefix in (_COPY, TRASH):
            for leftover in self.base.glob(f"{prefix}*"):
                if leftover.is_dir():
                    shutil.rmtree(leftover)
                else:
                    leftover.unlink()

    def next(self) -> int:
        """A number above all that were ever seen here: watchers must not meet one again with other content."""
        quarantined = (path.name.removeprefix(_QUARANTINE) for path in self.base.glob(f"{_QUARANTINE}*"))
        known = [*self._on_disk(), *self._ledger.entries(), *(int(n) for n in quarantined if is_version(n))]
        number = max(known, default=0) + 1
        if number > _MOST:
            raise TargetUnavailable(
                f"target {self.base}: the folder {_MOST} has the highest number there is",
                hint="Nothing can come after it: move it away. It is tried again.",
            )
        return number

    def _on_disk(self) -> Collection[int]:
        """What a server takes for versions, which goes by names alone: a file is one that it cannot load."""
        return {int(path.name) for path in self.base.iterdir() if is_version(path.name)}


def ledger_of(base: Path) -> Path:
    """Where a destination's ledger is."""
    return base / _OURS / "pushes.jsonl"


def files_of(model: Candidate) -> Mapping[str, str]:
    """What is to be handed over, as a manifest. Raises BadInput if there is nothing."""
    try:
        files = manifest(model.path)
    except OSError as error:
        raise StorageUnavailable(f"model #{model.id}: {error}", hint="Mend the artifact store.") from error
    if not files:
        raise BadInput(
            f"model #{model.id}: there is nothing in {model.path}",
            hint="The artifact's files are gone: ctd makes them anew when the trainer runs again.",
        )
    return files


def is_version(name: str) -> bool:
    """Whether a server takes what has this name for a version."""
    return name.isascii() and name.isdigit() and int(name) <= _MOST
