"""What faults act on, and what a fault is."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from tests.soak.daemon import Supervisor
from tests.soak.generator import Feed
from tests.soak.history import History
from tests.soak.project import Project, Wanted
from tests.soak.seen import Again, Harm, Looker


@dataclass
class Ground:
    """What faults act on, and what is known of the harm done."""

    project: Project
    history: History
    daemon: Supervisor
    feed: Feed
    looker: Looker
    wanted: Wanted
    harm: Harm = field(default_factory=Harm)
    crashed: Callable[[], None] = lambda: None  # what is to be looked at when it was killed

    def strike_place(self, place: Path) -> None:
        self.harm = replace(self.harm, places=self.harm.places | {str(place)})
        self.history.note("harmed", place=place)

    def strike_version(self, number: int) -> None:
        self.harm = replace(self.harm, versions=self.harm.versions | {number})
        self.history.note("harmed", version=number)

    def again(self, node: str, since: datetime) -> None:
        """The node was asked to do once more what it had done, at some time since then."""
        asked = Again(node, since, datetime.now(timezone.utc))
        self.harm = replace(self.harm, again=(*self.harm.again, asked))

    def want(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.project.want(wanted)

    def kill(self) -> None:
        """As power would; what is left is looked at before anything is put right."""
        self.daemon.kill()
        self.crashed()


Strike = Callable[[Ground, random.Random], AbstractContextManager[object]]


@dataclass(frozen=True)
class Fault:
    """A kind of fault. `told`: words of which status has to have one, with an exit code other than 0.

    `mounts`: it needs the small disk, `bound`: a daemon that is bound by permissions. `spares`: a pipeline that it must
    not concern.
    """

    strike: Strike
    lasting: bool = False
    told: tuple[str, ...] = ()
    mounts: bool = False
    bound: bool = False
    spares: str = ""


def remove(place: Path) -> None:
    """Whatever it is."""
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)
