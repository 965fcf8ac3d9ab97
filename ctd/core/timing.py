"""The clock as a parameter, durations as people write them, and back-off. The only module that reads the time."""

from __future__ import annotations

import hashlib
import math
import re
import time
from datetime import datetime, timedelta, timezone
from typing import Protocol

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


class Clock(Protocol):
    """What time it is: `now` for people and records, `monotonic` for how long something took."""

    def now(self) -> datetime: ...
    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(timezone.utc)

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to, for tests and simulations."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc)) -> None:
        self._now = start
        self._elapsed = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    def forward(self, **delta: float) -> None:
        """Move both clocks on, for instance `forward(minutes=5)`."""
        step = timedelta(**delta)
        self._now += step
        self._elapsed += step.total_seconds()

    def jump(self, **delta: float) -> None:
        """Set the wall clock forward or back, as people and time servers do; no time passes."""
        self._now += timedelta(**delta)


def parse_duration(text: str) -> timedelta:
    """`30s`, `5m`, `1h30m`, `250ms`, `2d`. Raises ValueError for anything else."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration: write for instance 30s, 5m, 1h30m")
    try:
        return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))
    except OverflowError:
        raise ValueError(f"{text!r} is longer than time itself: write for instance 30s, 5m, 1h30m") from None


def format_duration(delta: timedelta) -> str:
    """The shortest text for people that says about it: `250ms`, `8.4s`, `3m20s`, `1h05m`, `2d3h`."""
    seconds = delta.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s".replace(".0s", "s")
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s" if rest else f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h{minutes:02d}m"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours}h"


def backoff(attempt: int, *, first: timedelta, most: timedelta, growth: float = 2.0, seed: str = "") -> timedelta:
    """How long to wait after the given failed attempt (1 is the first): `growth` times as long each time, up to `most`.

    A seed takes away up to half of it, always the same part for the same seed and attempt: what failed together, as
    all does when a disk goes away, does not come back together.
    """
    full = min(first * float(growth ** min(attempt - 1, 30 / math.log2(growth))), most)
    return full * (1 - _fraction(f"{seed}/{attempt}") / 2) if seed else full


def _fraction(seed: str) -> float:
    """A number from 0 up to 1 that looks random and is not: planning depends on nothing but its arguments."""
    return int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=4).digest(), "big") / 2**32
