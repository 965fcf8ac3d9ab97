"""The feed: a new span every few seconds, some corrected later, some late, for as long as the run lasts."""

from __future__ import annotations

import contextlib
import math
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.soak.history import History
from tests.soak.project import MAIN, SIDE, Project

_ROWS = 60


@dataclass(frozen=True)
class Fed:
    """A span version that is complete, and since when."""

    pipeline: str
    number: int
    version: int | None
    since: float  # monotonic; never, while it is spoilt


class Feed:
    """Spans by a seed: which comes next depends on nothing else, when it comes on the clock."""

    def __init__(self, project: Project, history: History, seed: int, every: float) -> None:
        self._project = project
        self._history = history
        self._dice = random.Random(f"feed {seed}")
        self._every = every
        self._next = 1
        self._kept_back: list[int] = []
        self._spoilt = 0  # a span that must not be corrected before it is mended
        self._newest: dict[int, int] = {}  # versions by number
        self._complete: dict[tuple[str, int], Fed] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="feed", daemon=True)

    def begin(self) -> None:
        """One event after the other, until the end."""
        self._thread.start()

    def end(self) -> None:
        """No more; what was kept back until now comes now."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for number in self._kept_back:
            self._put(number, 1)

    @property
    def ended(self) -> bool:
        return self._stop.is_set()

    def complete(self) -> tuple[Fed, ...]:
        """The newest version of every span that is there, of both pipelines."""
        with self._lock:
            return tuple(self._complete.values())

    @contextlib.contextmanager
    def spoilt(self) -> Iterator[str]:
        """A recent span gets a version that cannot be read, which is mended at the end; its folder."""
        with self._lock:
            number = max(self._newest)
            version = self._newest[number] = self._newest[number] + 1
            self._complete[MAIN, number] = Fed(MAIN, number, version, math.inf)
            self._spoilt = number
        folder = self._project.data / str(number) / f"v{version}"
        folder.mkdir(parents=True)
        (folder / "trips.csv").write_text("miles,tips\n1.0,2.0,3.0\n")
        (folder / "_SUCCESS").touch()
        try:
            yield str(folder)
        finally:
            self._spoilt = 0
            self._put(number, version)

    def more(self) -> None:
        """The next event of the feed."""
        said = self._dice.random()
        old = [number for number in self._newest if number > self._next - 8]
        if said < 0.08 and self._next > 4:  # an older span comes late
            self._kept_back.append(self._next)
            self._next += 1
        if said > 0.9 and old:
            number = self._dice.choice(sorted(old))
            if number != self._spoilt:
                self._put(number, self._newest[number] + 1)
        elif said > 0.8 and self._kept_back:
            self._put(self._kept_back.pop(0), 1)
        else:
            self._put(self._next, 1)
            write_span(self._project.side / str(self._next), self._next)
            with self._lock:
                self._complete[SIDE, self._next] = Fed(SIDE, self._next, None, time.monotonic())
            self._next += 1

    def _put(self, number: int, version: int) -> None:
        write_span(self._project.data / str(number) / f"v{version}", number * 1000 + version)
        with self._lock:
            self._newest[number] = version
            self._complete[MAIN, number] = Fed(MAIN, number, version, time.monotonic())
        self._history.note("span", number=number, version=version)

    def _go_on(self) -> None:
        while not self._stop.wait(self._every * self._dice.uniform(0.8, 1.2)):
            self.more()


def write_span(folder: Path, seed: int) -> None:
    """A complete span of rows of its own."""
    dice = random.Random(seed)
    scale = dice.uniform(10, 20)
    rows = "".join(f"{dice.uniform(0.1, scale):.2f},{dice.uniform(0, 5):.2f}\n" for _ in range(_ROWS))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trips.csv").write_text(f"miles,tips\n{rows}")
    (folder / "_SUCCESS").touch()
