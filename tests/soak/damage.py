"""Harm to what was made: results and pushed versions, deleted, cut off, or with a bit turned over."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from ctd.metadata.sqlite_reading import Unreadable
from tests.soak.ground import Fault, Ground, Strike, remove

_RECENT = 40  # artifacts, of which one is harmed


def truncate(file: Path, dice: random.Random) -> None:
    os.truncate(file, dice.randrange(max(1, file.stat().st_size)))


def flip(file: Path, dice: random.Random) -> None:
    """Same size, other content: only who reads it can tell."""
    data = bytearray(file.read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    file.write_bytes(data)


def _delete(file: Path, _dice: random.Random) -> None:
    file.unlink()


Blow = Callable[[Path, random.Random], None]


def artifact_harmed(blow: Blow | None) -> Strike:
    """One of the newest results; without a blow to one of its files, all of it goes."""

    @contextlib.contextmanager
    def strike(ground: Ground, dice: random.Random) -> Iterator[None]:
        with contextlib.suppress(Unreadable, OSError, IndexError):
            executions, deleted = ground.looker.recorded()
            made = [a for e in executions for some in e.outputs.values() for a in some if a.id not in deleted]
            place = Path(dice.choice(made[-_RECENT:]).uri)
            files = sorted(p for p in place.rglob("*") if p.is_file() and p.stat().st_size)
            harmed = dice.choice(files) if blow else place
            ground.strike_place(place)
            if blow:
                blow(harmed, dice)
            else:
                remove(place)
        yield

    return strike


def version_harmed(blow: Blow | None) -> Strike:
    """The newest version on the target."""

    @contextlib.contextmanager
    def strike(ground: Ground, dice: random.Random) -> Iterator[None]:
        with contextlib.suppress(OSError, ValueError, IndexError):
            place = max(versions(ground), key=lambda p: int(p.name))
            ground.strike_version(int(place.name))
            if blow:
                blow(dice.choice(sorted(p for p in place.rglob("*") if p.is_file() and p.stat().st_size)), dice)
            else:
                remove(place)
        yield

    return strike


@contextlib.contextmanager
def versions_deleted(ground: Ground, _dice: random.Random) -> Iterator[None]:
    """All that was pushed."""
    with contextlib.suppress(OSError):
        for place in sorted(versions(ground), key=lambda p: int(p.name)):
            ground.strike_version(int(place.name))
            remove(place)
    yield


def versions(ground: Ground) -> list[Path]:
    """The numbered folders on the target."""
    return [p for p in ground.project.versions.iterdir() if p.name.isdecimal()]


DAMAGE: dict[str, Fault] = {
    "artifact deleted": Fault(artifact_harmed(None)),
    "artifact's file deleted": Fault(artifact_harmed(_delete)),
    "artifact truncated": Fault(artifact_harmed(truncate)),
    "artifact flipped": Fault(artifact_harmed(flip)),
    "version deleted": Fault(version_harmed(None)),
    "version truncated": Fault(version_harmed(truncate)),
    "version flipped": Fault(version_harmed(flip)),
    "version's file deleted": Fault(version_harmed(_delete)),
    "all versions deleted": Fault(versions_deleted),
}
