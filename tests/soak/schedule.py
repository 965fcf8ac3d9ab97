"""What happens when, worked out of the seed before anything begins."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_SHORT = 180.0  # seconds: below this, a run is a glance


@dataclass(frozen=True)
class Pace:
    """How long things take, in seconds. A glance has less of everything."""

    feed: float = 6.0  # between two spans
    training: float = 12.0
    storm: float = 75.0  # faults one after the other
    calm: float = 75.0  # none: what must heal, heals, and then tempo counts
    lasting: tuple[float, float] = (10.0, 20.0)  # of a fault that is there for a while
    pause: tuple[float, float] = (0.5, 4.0)  # between two faults

    @property
    def tells(self) -> bool:
        """Whether things last long enough to ask for times: faults for status to name them, calms for the tempo."""
        return self.lasting[0] >= 8


LONG = Pace()
GLANCE = Pace(feed=3.0, training=5.0, storm=30.0, calm=20.0, lasting=(2.0, 3.5), pause=(0.2, 1.0))


def pace_of(seconds: float) -> Pace:
    return GLANCE if seconds < _SHORT else LONG


@dataclass(frozen=True)
class Act:
    """One fault: which, for how long, how long until the next, and the seed of its own dice."""

    fault: str
    lasts: float
    pause: float
    seed: int


@dataclass(frozen=True)
class Round:
    """A storm and the calm after it."""

    acts: tuple[Act, ...]
    calm: float


def schedule(seed: int, seconds: float, lasting: Sequence[str], momentary: Sequence[str]) -> tuple[Round, ...]:
    """Rounds for about so many seconds. Every fault comes up before one comes up twice."""
    dice, pace = random.Random(seed), pace_of(seconds)
    deck = _deck(dice, (*lasting, *momentary))
    return tuple(
        Round(tuple(_storm(dice, pace, deck, frozenset(lasting))), pace.calm)
        for _ in range(max(1, round(seconds / (pace.storm + pace.calm))))
    )


def _deck(dice: random.Random, faults: Sequence[str]) -> Iterator[str]:
    while True:
        yield from dice.sample(sorted(faults), len(faults))


def _storm(dice: random.Random, pace: Pace, deck: Iterator[str], lasting: frozenset[str]) -> Iterator[Act]:
    left = pace.storm
    while left > 0:
        name = next(deck)
        lasts = dice.uniform(*pace.lasting) if name in lasting else 0.0
        act = Act(name, round(lasts, 1), round(dice.uniform(*pace.pause), 1), dice.randrange(1 << 30))
        left -= act.lasts + act.pause + 1
        yield act
