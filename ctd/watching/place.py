"""One path that somebody cares about, and the folders that must be watched to notice its changes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from ctd.core.timing import format_duration
from ctd.watching.inotify import Folder, Identity, Inotify, NoWatchLeft, Sign, identify
from ctd.watching.polling import Polling, must_poll
from ctd.watching.touched import TouchedFolders

_MOST_LINKS = 40  # as the kernel
_MOST_TRIES = 10

Leads = Mapping[str, frozenset[bytes]]


class Place:
    """Watches the entries that lead to the path and, if it leads to a folder, that folder and all below.

    The entries are: every symbolic link on the way, the last one itself, or the first that does not exist yet. So a
    file that is renamed over, a folder made anew, a link that is swapped and a path that appears are all noticed.
    Not thread-safe.
    """

    def __init__(
        self, path: str, names: frozenset[str], polling: Polling, touched: TouchedFolders | None = None
    ) -> None:
        self.path = path
        self.names = names
        self.problem = ""
        self.polled = False
        self._polling = polling
        self._touched = touched or TouchedFolders()
        self._inotify: Inotify | None = None
        self._leads: Leads = {}
        self._entries: list[Folder] = []
        self._tree: dict[Identity, Folder] = {}
        self._device = -1  # of the path: on another one, mounted below, the kernel may not tell of everything

    @property
    def folders(self) -> tuple[Folder, ...]:
        return (*self._entries, *self._tree.values())

    def watch(self, inotify: Inotify | None) -> None:
        """Begin, or begin anew. Afterwards everything may have changed since before."""
        self.release()
        self._inotify = inotify
        self.problem, self.polled = "", False
        if inotify is None:
            self._poll("the kernel has no inotify instance left (fs.inotify.max_user_instances)")
            return
        try:
            self._watch_entries(inotify)
            self._watch_tree()
        except OSError as error:
            self._give_up(error)

    def release(self) -> None:
        """Watch nothing."""
        self._drop(list(self._tree.values()))
        if self._inotify is not None:
            for folder in self._entries:
                self._inotify.release(folder)
        self._entries.clear()

    def heed(self, signs: Mapping[Folder, Sign]) -> None:
        """Let the watches follow what happened: to new folders, and away from those that went."""
        if self._begin_anew(signs):
            self.watch(self._inotify)
            return
        held = {folder: sign for folder, sign in signs.items() if self._tree.get(folder.identity) is folder}
        for folder in held:
            self._touched.touch(folder.identity)
        for folder, sign in held.items():
            if Sign.ENDED in sign:
                self._drop([folder])
            elif Sign.MOVED in sign and not folder.still_there():
                self._drop_below(folder.path)
        try:
            for folder, sign in held.items():
                if Sign.ARRIVED in sign:
                    self._grow(_folders_in(folder.path))
        except OSError as error:
            self._give_up(error)

    def sound(self, *, thoroughly: bool) -> bool:
        """Whether the watches are on what the path leads to now; thoroughly: every folder below, too."""
        if _leads(self.path) != self._leads or (self._tree and identify(self.path) not in self._tree):
            return False
        return all(folder.still_there() for folder in (self.folders if thoroughly else self._entries))

    def _begin_anew(self, signs: Mapping[Folder, Sign]) -> bool:
        ends = Sign.ENDED | Sign.MOVED
        return (
            any(Sign.LOST in sign for sign in signs.values())
            or any(folder in signs for folder in self._entries)
            or any(sign & ends for folder, sign in signs.items() if folder.path == self.path)
        )

    def _watch_entries(self, inotify: Inotify) -> None:
        """Until what leads there has not changed while the watches were set."""
        for _ in range(_MOST_TRIES):
            self.release()
            self._leads = _leads(self.path)
            for path, names in self._leads.items():
                identity = identify(path)
                if identity is not None:
                    self._entries.append(inotify.hold(self.path, path, identity, names))
            if _leads(self.path) == self._leads:
                return

    def _watch_tree(self) -> None:
        kind = must_poll(self.path, self._polling.mountinfo)
        identity = identify(self.path)
        if kind:
            self._poll(f"{kind} does not report changes made elsewhere")
        elif identity is None:
            self.problem = "does not exist yet; its creation is watched for"
        elif _leads_to_folder(Path(self.path)):
            self._device, _ = identity
            self._grow([self.path])

    def _grow(self, paths: Iterable[str]) -> None:
        """Watch folders and all below. Each is watched before it is listed: what comes later leaves a mark."""
        pending = list(paths)
        while pending:
            path = pending.pop()
            if self._hold(path):
                pending.extend(_folders_in(path))

    def _hold(self, path: str) -> bool:
        """False for what is watched already, under this path or another that leads there, or is gone again."""
        identity = identify(path)
        if identity is None or self._inotify is None:
            return False
        known = self._tree.get(identity)
        if known is not None:
            if known.still_there():
                return False
            self._drop_below(known.path)
        try:
            self._tree[identity] = self._inotify.hold(self.path, path, identity)
            if identity[0] == self._device:
                self._touched.hold(identity)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except PermissionError as error:
            self._poll(f"{error.filename} cannot be read")
            return False
        return True

    def _drop_below(self, path: str) -> None:
        self._drop([one for one in self._tree.values() if one.path == path or one.path.startswith(path + "/")])

    def _drop(self, folders: Iterable[Folder]) -> None:
        for folder in folders:
            if self._inotify is not None and self._tree.get(folder.identity) is folder:
                del self._tree[folder.identity]
                if folder.identity[0] == self._device:
                    self._touched.release(folder.identity)
                self._inotify.release(folder)

    def _give_up(self, error: OSError) -> None:
        """Let go of all watches, for others may do with fewer."""
        self.release()
        if isinstance(error, NoWatchLeft):
            self._poll(str(error))
        else:
            self._poll(f"{error.filename or self.path}: {error.strerror or error}")

    def _poll(self, because: str) -> None:
        self.polled = True
        self.problem = f"{because}; looked at every {format_duration(self._polling.every)}"


def _leads(path: str) -> Leads:
    """By folder, the names of the entries that decide what a path leads to."""
    found: dict[str, frozenset[bytes]] = {}
    here, rest, links = Path("/"), _components(path), 0
    while rest and links <= _MOST_LINKS:
        name = rest.pop()
        if name == "..":
            here = here.parent
            continue
        target = _target(here / name)
        goes_on = target is None and _leads_to_folder(here / name)
        if not goes_on or not rest:
            found[str(here)] = found.get(str(here), frozenset()) | {os.fsencode(name)}
        if target is not None:
            links += 1
            rest += _components(target)
            here = Path("/") if target.startswith("/") else here
        elif goes_on:
            here /= name
        else:
            break
    return found


def _components(path: str) -> list[str]:
    """The last first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _target(path: Path) -> str | None:
    """Where a symbolic link points; None for anything else."""
    try:
        return str(path.readlink())
    except OSError:
        return None


def _leads_to_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False


def _folders_in(path: str) -> list[str]:
    """The folders in a folder, and the links to folders; none if it went away or may not be read."""
    try:
        with os.scandir(path) as entries:
            return [entry.path for entry in entries if _is_folder(entry)]
    except OSError:
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISDIR(entry.stat().st_mode) if entry.is_symlink() else entry.is_dir()
    except OSError:  # a link to nowhere, or in a circle
        return False
