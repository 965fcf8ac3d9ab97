"""Turns what happens under the watched paths into the names of those who should look again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta

from ctd.core.timing import Clock
from ctd.observability import Event
from ctd.watching.inotify import Folder, Inotify, Marks, Sign
from ctd.watching.place import Place
from ctd.watching.polling import Polling
from ctd.watching.touched import TouchedFolders

log = logging.getLogger("ctd.watching")

_DEBOUNCE = timedelta(milliseconds=50)
_MOST = timedelta(seconds=1)


class _Timer:
    """Passes every so often, if asked."""

    def __init__(self, clock: Clock, every: timedelta) -> None:
        self._clock = clock
        self._every = every.total_seconds()
        self._next = clock.monotonic() + self._every

    def left(self) -> float:
        return max(0.0, self._next - self._clock.monotonic())

    def passed(self) -> bool:
        if self.left():
            return False
        self._next = self._clock.monotonic() + self._every
        return True


class Watcher:
    """Calls `on_change` from a thread of its own, with the names concerned, once `debounce` passed without an event.

    Constant change is reported every `most`. A name reported means *look again*, whether or not anything changed:
    after a path begins to be watched, after events were lost, and at intervals where they cannot be had.
    """

    def __init__(
        self,
        on_change: Callable[[frozenset[str]], None],
        clock: Clock,
        debounce: timedelta = _DEBOUNCE,
        most: timedelta = _MOST,
        polling: Polling | None = None,
    ) -> None:
        self._on_change = on_change
        self._clock = clock
        self._debounce = debounce
        self._most = most
        self._polling = polling or Polling()
        self._lock = threading.RLock()  # around everything below; the reader of inotify takes only that of the marks
        self.touched = TouchedFolders()
        self._places: dict[str, Place] = {}
        self._names: set[str] = set()
        self._poll_timer = _Timer(clock, self._polling.every)
        self._retry_timer = _Timer(clock, self._polling.retry)
        self._verify_timer = _Timer(clock, self._polling.verify)
        self._stopping = threading.Event()
        self._marks = Marks()
        self._inotify = self._open()
        self._thread = self._start()

    def watch(self, interests: Mapping[str, frozenset[str]]) -> None:
        """Watch exactly these paths from now on. Names on a path that is new to them are reported as changed."""
        with self._lock:
            if self._stopping.is_set():
                return
            for path in self._places.keys() - interests.keys():
                self._places[path].release()
            before = self._places
            self._places = {}
            for path, names in interests.items():
                place = self._places[path] = before.get(path) or Place(path, frozenset(), self._polling, self.touched)
                new = names - place.names
                place.names = names
                if path not in before:
                    self._watch_anew(place)
                self._report(new)

    def check(self) -> None:
        """Find out what no event tells: a folder renamed above, something mounted over it, a thread that died."""
        with self._lock:
            if self._stopping.is_set():
                return
            if self._inotify is None or not self._inotify.alive:
                self._reopen()
            if not self._thread.is_alive():
                log.error(Event.WATCH.value, extra={"because": "the thread that reports changes ended; started again"})
                self._thread = self._start()
                self._report_all(self._places.values())
            self._check_places()

    def problems(self) -> Mapping[str, str]:
        """What is wrong with each path that is not watched by events."""
        return {path: place.problem for path, place in self._places.copy().items() if place.problem}

    def stop(self) -> None:
        """Report nothing more. Waits for the threads, so not to be called from `on_change`."""
        self._stopping.set()
        self._marks.wake.set()
        self._thread.join()
        with self._lock:
            if self._inotify is not None:
                self._inotify.close()

    def _open(self) -> Inotify | None:
        try:
            return Inotify(self._marks, self._polling.most_watches)
        except OSError as error:
            log.error(Event.WATCH.value, extra={"because": f"no inotify: {error.strerror}; everything is polled"})
            return None

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._marks.wake.wait(self._until_poll()):
                self._let_settle()
            with self._lock:
                self._poll()
                self._heed()
                names, self._names = frozenset(self._names), set()
            if names and not self._stopping.is_set():
                self._on_change(names)

    def _let_settle(self) -> None:
        """Wait until nothing happens for a while, or for long enough."""
        started = self._clock.monotonic()
        while self._marks.wake.is_set() and self._clock.monotonic() - started < self._most.total_seconds():
            self._marks.wake.clear()
            if self._stopping.wait(self._debounce.total_seconds()):
                return
        self._marks.wake.clear()

    def _heed(self) -> None:
        by_place: dict[str, dict[Folder, Sign]] = {}
        for folder, sign in self._marks.take().items():
            if folder.place in self._places:
                by_place.setdefault(folder.place, {})[folder] = sign
        for path, signs in by_place.items():
            if any(Sign.LOST in sign for sign in signs.values()):
                log.warning(Event.WATCH.value, extra={"path": path, "because": "events were lost; watched anew"})
            place = self._places[path]
            before = place.problem
            place.heed(signs)
            self._say(place, before)
            self._report(place.names)

    def _poll(self) -> None:
        if self._poll_timer.passed():
            self._report_all(place for place in self._places.values() if place.polled)

    def _until_poll(self) -> float | None:
        """Seconds; None while everything is watched."""
        if any(place.polled for place in self._places.copy().values()):
            return self._poll_timer.left()
        return None

    def _reopen(self) -> None:
        if self._inotify is not None:
            log.error(Event.WATCH.value, extra={"because": "the reader of inotify ended; everything is watched anew"})
            for place in self._places.values():
                place.release()
            self._inotify.close()
            self._inotify = self._open()
        elif self._retry_timer.passed():
            self._inotify = self._open()
        else:
            return
        for place in self._places.values():
            self._watch_anew(place)

    def _check_places(self) -> None:
        if self._inotify is not None:
            self._inotify.read_limit()
        thoroughly = self._verify_timer.passed()
        retry = self._retry_timer.passed()
        for place in self._places.values():
            if (place.polled and retry) or not place.sound(thoroughly=thoroughly):
                self._watch_anew(place)

    def _watch_anew(self, place: Place) -> None:
        before = place.problem
        place.watch(self._inotify)
        self._say(place, before)
        self._report(place.names)

    def _say(self, place: Place, before: str) -> None:
        if place.problem != before:
            level = logging.WARNING if place.polled else logging.INFO
            because = place.problem or "watched by events"
            log.log(level, Event.WATCH.value, extra={"path": place.path, "because": because})

    def _report_all(self, places: Iterable[Place]) -> None:
        self._report(name for place in places for name in place.names)

    def _report(self, names: Iterable[str]) -> None:
        self._names.update(names)
        if self._names:
            self._marks.wake.set()
