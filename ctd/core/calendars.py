"""Spans of time: minutes, hours, days, weeks and months as consecutive numbers, and as people write them.

A number counts what the clock on the wall shows, from 1970 on: `2026-11-29T23` is hour 498,887 in every time zone. So
text and number never depend on a zone, a file of its rules, or a setting that somebody edits. A zone only says which
hours its clocks skip: those are no gap. What its clocks show twice is one span (docs/decisions/026-spans-of-time.md).
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo

_EPOCH = date(1970, 1, 1).toordinal()
_FIRST_MONDAY = date(1969, 12, 29).toordinal()  # of the week that 1970-01-01 is in
_TICK = timedelta(microseconds=1)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d)(?::?(\d\d)(?::00)?)?", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MONTH = re.compile(r"(\d{4})-(\d\d)", re.ASCII)
_WEEK = re.compile(r"(\d{4})-W(\d\d)", re.ASCII)
_NUMBER = re.compile(r"-?\d{1,18}", re.ASCII)


class Unit(enum.Enum):
    """What a span of time lasts."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"

    # One object for each: cheaper than the hash of its name, which is asked for with every span at every look.
    __hash__ = object.__hash__

    @property
    def example(self) -> str:
        """How people write one."""
        return {
            Unit.MINUTE: "2026-11-29T23:15",
            Unit.HOUR: "2026-11-29T23",
            Unit.DAY: "2026-11-29",
            Unit.WEEK: "2026-W48",
            Unit.MONTH: "2026-11",
        }[self]

    @property
    def a(self) -> str:
        """`a day`, `an hour`."""
        return f"{'an' if self is Unit.HOUR else 'a'} {self.value}"


class NotASpan(ValueError):
    """What was written names no span, or none of these spans; `hint` says what to write instead."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class SpanRef:
    """A span, or a stretch of spans, as a person wrote it. What it means depends on whose spans are meant."""

    text: str
    number: int
    unit: Unit | None = None  # none: a number
    version: int | None = None


def number_at(unit: Unit, at: datetime) -> int:
    """The span of this unit that a time of the clock on the wall lies in."""
    day = at.toordinal()
    match unit:
        case Unit.MINUTE:
            return ((day - _EPOCH) * 24 + at.hour) * 60 + at.minute
        case Unit.HOUR:
            return (day - _EPOCH) * 24 + at.hour
        case Unit.DAY:
            return day - _EPOCH
        case Unit.WEEK:
            return (day - _FIRST_MONDAY) // 7
        case Unit.MONTH:
            return (at.year - 1970) * 12 + at.month - 1


def begin(unit: Unit, number: int) -> datetime | None:
    """When a span begins by the clock on the wall, or None where the calendar ends."""
    try:
        match unit:
            case Unit.MINUTE | Unit.HOUR:
                days, rest = divmod(number, 24 * 60 if unit is Unit.MINUTE else 24)
                at = time(*divmod(rest, 60)) if unit is Unit.MINUTE else time(rest)
                return datetime.combine(date.fromordinal(days + _EPOCH), at)
            case Unit.DAY:
                return datetime.combine(date.fromordinal(number + _EPOCH), time())
            case Unit.WEEK:
                return datetime.combine(date.fromordinal(number * 7 + _FIRST_MONDAY), time())
            case Unit.MONTH:
                return datetime(1970 + number // 12, number % 12 + 1, 1)  # noqa: DTZ001 - the clock on the wall
    except (ValueError, OverflowError):
        return None


@functools.lru_cache(maxsize=1 << 17)
def said(unit: Unit, number: int) -> str:
    """`2026-11-29T23`; the number where the calendar ends."""
    at = begin(unit, number)
    if at is None:
        return str(number)
    match unit:
        case Unit.MINUTE:
            return at.isoformat(timespec="minutes")
        case Unit.HOUR:
            return at.isoformat(timespec="hours")
        case Unit.DAY:
            return at.date().isoformat()
        case Unit.WEEK:
            year, week, _ = at.isocalendar()
            return f"{year:04}-W{week:02}"
        case Unit.MONTH:
            return at.date().isoformat()[:7]


def span_ref(text: str) -> SpanRef:
    """The span that a person wrote, perhaps with a version: `42`, `42.v2`, `2026-11-29T23`. Raises NotASpan."""
    name, dot, version = text.strip().removeprefix("span-").rpartition(".v")
    if not dot:
        return _ref(text, version, None)
    if not re.fullmatch(r"[0-9]{1,18}", version):
        raise NotASpan(f"{text!r} has no version", f"Write its number, such as {name}.v2.")
    return _ref(text, name, int(version))


def span_in_key(key: str) -> SpanRef | None:
    """The span that the key of an execution names, if it names one."""
    try:
        return span_ref(key) if key.startswith("span-") else None
    except NotASpan:
        return None


def _ref(text: str, name: str, version: int | None) -> SpanRef:
    if _NUMBER.fullmatch(name):
        return SpanRef(text, int(name), None, version)
    try:
        for unit, number in _times(name):
            return SpanRef(text, number, unit, version)
    except ValueError:
        raise NotASpan(f"there is no such time as {name}", "Is it in the calendar, and before 24:00?") from None
    raise NotASpan(
        f"{text!r} is no span",
        "Write its number or its time, such as 42, 2026-11-29, 2026-11-29T23 or 2026-11-29T23:15.",
    )


def _times(name: str) -> Iterator[tuple[Unit, int]]:
    """The unit and the number that a text stands for, if it has such a form. Raises ValueError for 2026-02-30."""
    if found := _TIME.fullmatch(name):
        at = datetime.combine(date.fromisoformat(found[1]), time(int(found[2]), int(found[3] or 0)))
        unit = Unit.HOUR if found[3] is None else Unit.MINUTE
        yield unit, number_at(unit, at)
    elif _DAY.fullmatch(name):
        yield Unit.DAY, number_at(Unit.DAY, _midnight(date.fromisoformat(name)))
    elif found := _MONTH.fullmatch(name):
        yield Unit.MONTH, number_at(Unit.MONTH, _midnight(date(int(found[1]), int(found[2]), 1)))
    elif found := _WEEK.fullmatch(name):
        yield Unit.WEEK, number_at(Unit.WEEK, _midnight(date.fromisocalendar(int(found[1]), int(found[2]), 1)))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time())


@dataclass(frozen=True)
class Calendar:
    """How the spans of one input are numbered: by numbers of their own (no unit), or by time.

    `step` is how many units lie between two spans, where somebody said so. `zone` is where the clock hangs.
    """

    unit: Unit | None = None
    zone: tzinfo | None = None
    step: int | None = None

    @property
    def kind(self) -> str:
        """`hours`, `numbers`."""
        return f"{self.unit.value}s" if self.unit else "numbers"

    @property
    def every(self) -> int:
        return self.step or 1

    def say(self, number: int) -> str:
        """A span as people write it: `42`, or `2026-11-29T23`."""
        return str(number) if self.unit is None else said(self.unit, number)

    def said(self, numbers: Iterable[int]) -> str:
        """Several spans."""
        return ", ".join(map(self.say, numbers))

    def one(self, ref: SpanRef) -> int:
        """The span that someone means. Raises NotASpan for what is none of these, or several."""
        first, last = self.range(ref)
        if first != last:
            asked = f"{ref.text} is {ref.unit.a if ref.unit else 'not one span'}"
            hint = f"Name one, such as {self.say(first)}, the first of it; the last is {self.say(last)}."
            raise NotASpan(f"{asked}, and one {self._name} is asked for", hint)
        return first

    def range(self, ref: SpanRef) -> tuple[int, int]:
        """The first and the last of the spans that someone means: all hours of a day. Raises NotASpan."""
        if self.unit is None:
            if ref.unit is not None:
                hint = "Write its number. Where numbers stand for times, let `input` say so: {YYYY}, {MM}, {DD}, {HH}."
                raise NotASpan(f"{ref.text} is {ref.unit.a}, but these spans have numbers ({{SPAN}})", hint)
            return ref.number, ref.number
        if ref.unit is None:
            if begin(self.unit, ref.number) is None:
                raise NotASpan(f"{ref.text} is no {self._name}", f"Write for instance {self.unit.example}.")
            return ref.number, ref.number
        if ref.unit is self.unit:
            return ref.number, ref.number
        return self._within(ref.unit, ref)

    def _within(self, unit: Unit, ref: SpanRef) -> tuple[int, int]:
        """The spans that a longer unit consists of; `23:00` is hour 23 as well."""
        mine = self.unit or unit
        if (unit, mine) == (Unit.MINUTE, Unit.HOUR) and ref.number % 60 == 0:
            return ref.number // 60, ref.number // 60
        if _LENGTH[unit] < _LENGTH[mine] or (unit, mine) == (Unit.MONTH, Unit.WEEK):
            raise NotASpan(f"{ref.text} is {unit.a}, but these spans are {mine.value}s", f"Write {mine.example}.")
        start, end = begin(unit, ref.number), begin(unit, ref.number + 1)
        if start is None or end is None:
            raise NotASpan(f"{ref.text} is where the calendar ends")
        return number_at(mine, start), number_at(mine, end) - 1

    def exists(self, number: int) -> bool:
        """Whether the clocks of the zone show anything of a span: when summer time begins they skip an hour."""
        start = begin(self.unit, number) if self.unit and self.zone else None
        end = begin(self.unit, number + 1) if self.unit and start else None
        if start is None or end is None:
            return True
        return self._shown(start) or self._shown(end - _TICK)

    def _shown(self, at: datetime) -> bool:
        try:
            there = at.replace(tzinfo=self.zone).astimezone(timezone.utc).astimezone(self.zone)
        except OverflowError:  # at the ends of the calendar
            return True
        return there.replace(tzinfo=None) == at

    def gap(self, first: int, last: int, arrived: Callable[[int], bool]) -> int | None:
        """The first span between two that is to come and has not."""
        missing = (n for n in range(first, last, self.every) if not arrived(n))
        return next((n for n in missing if self.exists(n)), None)

    @property
    def _name(self) -> str:
        return self.unit.value if self.unit else "span"


_LENGTH = {Unit.MINUTE: 0, Unit.HOUR: 1, Unit.DAY: 2, Unit.WEEK: 3, Unit.MONTH: 4}

NUMBERS = Calendar()
"""Spans that have numbers of their own."""


def looks_like(number: int) -> tuple[Unit, str] | None:
    """The time that the digits of a plain number seem to say: 2026112923 looks like an hour."""
    digits = str(number)
    form = {8: (Unit.DAY, "%Y%m%d"), 10: (Unit.HOUR, "%Y%m%d%H"), 12: (Unit.MINUTE, "%Y%m%d%H%M")}.get(len(digits))
    if form is None or not "1990" <= digits[:4] <= "2199":
        return None
    unit, parts = form
    try:
        at = datetime.strptime(digits, parts)  # noqa: DTZ007 - the clock on the wall
    except ValueError:
        return None
    return unit, said(unit, number_at(unit, at))
