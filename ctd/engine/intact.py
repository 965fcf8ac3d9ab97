"""Whether the results that a plan rests on are still what was published: there at every look, whole by their sizes.

Contents are verified by the workers that use them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from ctd.core.artifacts import Artifact
from ctd.core.facts import Damage
from ctd.core.failpoints import fp
from ctd.planning.world import World
from ctd.storage.checksums import size_faults
from ctd.storage.contents import trouble


@dataclass
class Losses:
    """What is not as it was published."""

    missing: set[str] = field(default_factory=set)
    damaged: dict[str, Damage] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.missing or self.unreadable)

    def seen_in(self, world: World) -> World:
        """The world with these losses as well."""
        return replace(
            world,
            missing=world.missing | self.missing,
            damaged={**world.damaged, **self.damaged},
            unreadable={**world.unreadable, **self.unreadable},
        )


class Intact:
    """Looks at results for one daemon.

    Every look asks whether each is there and its folder unchanged. The sizes of its files are compared when it is
    used first, when its folder has changed, and once after each `rescan`: what happens below the folder is noticed by
    nothing else.
    """

    def __init__(self) -> None:
        self.aside: dict[str, Damage] = {}  # what was set aside, by place
        self._measured: dict[str, int] = {}  # time of modification when the sizes were right, by place

    def rescan(self) -> None:
        """Compare all sizes again, when they are next looked at."""
        self._measured.clear()

    def known(self, world: World) -> World:
        """The world with what is known without looking."""
        return replace(world, damaged={**world.damaged, **self.aside}) if self.aside else world

    def losses(self, results: Mapping[str, Artifact]) -> Losses:
        """What is wrong with these places of results."""
        found = Losses()
        for place, artifact in results.items():
            try:
                fp("artifact.look")
                modified = os.stat(place).st_mtime_ns  # noqa: PTH116 - thousands per look
                if self._measured.get(place) == modified:
                    continue
                wrong = size_faults(artifact) if place == artifact.uri else ""
            except (FileNotFoundError, NotADirectoryError):
                found.missing.add(place)
            except OSError as error:
                found.unreadable[place] = trouble(place, error)
            else:
                if wrong:
                    found.missing.add(place)
                    found.damaged[place] = Damage(artifact.id, place, wrong)
                else:
                    self._measured[place] = modified
        return found


def places(artifact: Artifact) -> Iterator[str]:
    """Where there must be something for the artifact to count."""
    yield artifact.uri
