"""The door to watchdog: single folders are watched with inotify, and what the kernel says becomes a mark.

Only watchdog's binding and its reader thread are used, not its observers. Those queue every event without bound, say
nothing when a watch cannot be added, and their reader dies when a folder that was moved away and one made anew in its
place are both deleted. Marks need no queue: they say which folders to look at, not what happened there.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyEvent, InotifyFD, Mask, WatchDescriptor

Identity = tuple[int, int]  # device and inode

_LIMITS = {
    "fs.inotify.max_user_watches": Path("/proc/sys/fs/inotify/max_user_watches"),
    "user.max_inotify_watches": Path("/proc/sys/user/max_inotify_watches"),
}
_SHARE = 0.8  # of the watches the kernel allows to a user, who may run other programs
_NO_WATCH = WatchDescriptor(-1)

# No IN_OPEN, IN_ACCESS or IN_CLOSE_NOWRITE: reading must not call for another look, or looking would never end.
# No IN_MODIFY: a long copy would send thousands; its creation and its close are enough.
_ARRIVALS = InotifyConstants.IN_CREATE | InotifyConstants.IN_MOVED_TO | InotifyConstants.IN_ATTRIB
_MASK = Mask(
    _ARRIVALS
    | InotifyConstants.IN_MOVED_FROM
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_MOVE_SELF
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_ONLYDIR
)


class NoWatchLeft(OSError):
    """No folder more can be watched: ctd has its share of what the kernel allows to a user, or the kernel refused."""

    def __init__(self, watched: int, because: str, path: str) -> None:
        super().__init__(errno.ENOSPC, f"{watched} folders are watched, and {because}", path)

    def __str__(self) -> str:
        return str(self.strerror)


class Sign(enum.Flag):
    """What may have happened to a watched folder since it was last looked at."""

    CHANGED = enum.auto()  # something in it
    ARRIVED = enum.auto()  # an entry came or became readable: perhaps a folder that wants watching
    MOVED = enum.auto()  # it was itself renamed
    ENDED = enum.auto()  # it is gone, and the watch with it
    LOST = enum.auto()  # the kernel dropped events: anything


@dataclass(eq=False, slots=True)
class Folder:
    """A watched folder. Watchdog's reader thread calls the `on_` methods, which only leave marks."""

    place: str  # on whose behalf
    path: str
    identity: Identity
    marks: Marks
    names: frozenset[bytes] | None = None  # only these entries matter; None: all do
    descriptor: WatchDescriptor = field(default=_NO_WATCH, init=False)

    def still_there(self) -> bool:
        """Whether the path still leads to the folder that is watched."""
        return identify(self.path) == self.identity

    def on_event(self, event: InotifyEvent) -> None:
        if event.mask & InotifyConstants.IN_MOVE_SELF:
            self.marks.add(self, Sign.MOVED)
        elif self.names is None or not event.name or event.name in self.names:
            self.marks.add(self, Sign.ARRIVED if event.mask & _ARRIVALS else Sign.CHANGED)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        self.marks.add(self, Sign.ENDED)

    def on_queue_overflow(self) -> None:
        self.marks.add(self, Sign.LOST)


class Marks:
    """The signs since they were last taken. They grow with what is watched, never with what happens."""

    def __init__(self) -> None:
        self.wake = threading.Event()
        self._lock = threading.Lock()
        self._signs: dict[Folder, Sign] = {}

    def add(self, folder: Folder, sign: Sign) -> None:
        with self._lock:
            self._signs[folder] = self._signs.get(folder, sign) | sign
        self.wake.set()

    def take(self) -> Mapping[Folder, Sign]:
        with self._lock:
            signs, self._signs = self._signs, {}
        return signs


class Inotify:
    """One inotify instance of the kernel, shared by everything that is watched. Raises OSError if there is none left.

    `most_watches` replaces the kernel's limit.
    """

    def __init__(self, marks: Marks, most_watches: int | None = None) -> None:
        self._marks = marks
        self._most_watches = most_watches
        self._users: Counter[WatchDescriptor] = Counter()
        self._reader = InotifyFD()
        self._reader.start()
        self.limit = 0
        self.read_limit()

    @property
    def alive(self) -> bool:
        """Whether somebody still reads what the kernel says."""
        return self._reader.is_alive()

    @property
    def watches(self) -> int:
        return len(self._users)

    def read_limit(self) -> None:
        """An operator may have raised it."""
        self.limit = int(_SHARE * self._allowed())

    def _allowed(self) -> int:
        return self._most_watches or _max_user_watches()

    def hold(self, place: str, path: str, identity: Identity, names: frozenset[bytes] | None = None) -> Folder:
        """Watch a folder for a place. Raises OSError: ENOSPC if no watches are left, EACCES if it may not be read."""
        if self.watches >= self.limit:
            because = (
                f"ctd takes no more than {self.limit} of the {self._allowed()} that fs.inotify.max_user_watches allows"
            )
            raise NoWatchLeft(self.watches, f"{because}: raise that with sysctl", path)
        folder = Folder(place, path, identity, self._marks, names)
        callback = CallbackId(id(folder))
        try:
            folder.descriptor = self._reader.add_callback(os.fsencode(path), _MASK, folder, callback)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise NoWatchLeft(self.watches, _refused(self.watches), path) from error
            raise
        if folder.descriptor == _NO_WATCH:  # the binding passes over EACCES
            self._reader.remove_callbacks([(_NO_WATCH, callback)])
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        self._users[folder.descriptor] += 1
        return folder

    def release(self, folder: Folder) -> None:
        """Watch the folder no longer, whether or not it still exists."""
        self._users[folder.descriptor] -= 1
        if not self._users[folder.descriptor]:
            del self._users[folder.descriptor]
        self._reader.remove_callbacks([(folder.descriptor, CallbackId(id(folder)))])

    def close(self) -> None:
        self._reader.stop()
        self._reader.join()


def identify(path: str) -> Identity | None:
    """What a path leads to, through links; None if nowhere."""
    with contextlib.suppress(OSError):
        facts = Path(path).stat()
        return facts.st_dev, facts.st_ino
    return None


def _max_user_watches() -> int:
    """The lower of two limits: that of the kernel, and that of the user namespace, as in a container."""
    return min(limit for _, limit in _limits())


def _limits() -> Iterator[tuple[str, int]]:
    """Names of sysctls, and what they say."""
    for name, path in _LIMITS.items():
        with contextlib.suppress(FileNotFoundError, PermissionError):
            yield name, int(path.read_text(encoding="ascii"))


def _refused(watched: int) -> str:
    """Why the kernel refused one more, as far as it can be told."""
    name, least = min(_limits(), key=lambda said: said[1])
    others = "" if watched >= least else ", and other programs of this user have the rest"
    return f"the kernel refused another: {name} allows {least}{others}: raise that with sysctl"
