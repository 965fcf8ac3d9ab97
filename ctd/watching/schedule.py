"""When a schedule fires. The only module that imports APScheduler.

ctd needs no scheduler's thread: a plan says when it could change by itself, and the loop's queue wakes it then. So
there is nothing to misfire, and what was missed while the daemon was down is due once when it is back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from apscheduler.triggers.cron import CronTrigger

from ctd.core.errors import SpecError

_TICK = timedelta(microseconds=1)
_ANY_TIME = datetime(2000, 1, 1, tzinfo=timezone.utc)
_LONGEST = timedelta(days=366 * 8)  # between two times of a schedule: 29 February, around a year that is no leap year
_SKIPPED = timedelta(hours=2)  # more than summer time takes away anywhere
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_WEEKDAYS = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?")


def check(cron: str, zone: str) -> None:
    """Raises SpecError where `next_fire` would."""
    next_fire(cron, zone, _ANY_TIME)


def next_fire(cron: str, zone: str, after: datetime) -> datetime:
    """The first time after `after` that the five fields of `cron` name, in the time zone.

    The fields mean what crontab(5) says: 0 and 7 are Sunday, and of a day of the month and a weekday either is enough,
    unless one of them has a star.
    A time that summer time skips fires as long after midnight as it would have otherwise: 02:30 at 03:30. Of one that
    comes twice, the second does not fire, unless the hours are `*`: 02:30 is once a day, 30 past is every hour.
    Raises SpecError for text that is no such schedule, an unknown zone, and a schedule that never fires.
    """
    try:
        triggers = [CronTrigger.from_crontab(said, timezone=zone) for said in _said_for_all(cron)]
    except (ValueError, LookupError) as error:
        raise SpecError(
            f"schedule {cron!r} in {zone}: {error}",
            hint="Write five fields (minute hour day month weekday) such as `0 3 * * *`, a zone such as Europe/Berlin.",
        ) from error
    every_hour = cron.split()[1].startswith("*")
    found = [fire for trigger in triggers if (fire := _next(trigger, after, every_hour=every_hour))]
    if not found:
        raise SpecError(f"schedule {cron!r} never fires", hint="Is there such a day in such a month?")
    return min(found)


def last_fire(cron: str, zone: str, now: datetime) -> datetime | None:
    """The last time that has come by `now`. Raises SpecError as `next_fire` does."""
    now, back = now.astimezone(timezone.utc), timedelta(minutes=1)
    while next_fire(cron, zone, now - back) > now:
        if back > _LONGEST:
            return None
        back *= 2
    early, late = now - back, now
    while True:  # from `early` on it fires by now, from `late` on it does not
        found = next_fire(cron, zone, early).astimezone(timezone.utc)
        if next_fire(cron, zone, found) > now:
            return found
        middle = found + (late - found) / 2
        if next_fire(cron, zone, middle) <= now:
            early = middle
        else:
            early, late = found, middle


def _next(trigger: CronTrigger, after: datetime, *, every_hour: bool) -> datetime | None:
    begin = after - _SKIPPED if _skips(trigger, after) else after  # what an hour that is none names comes after it
    found: datetime | None = trigger.get_next_fire_time(None, begin + _TICK)
    while found is not None and (found <= after or (found.fold and not every_hour)):
        found = trigger.get_next_fire_time(None, found.astimezone(timezone.utc) + _TICK)
    return found


def _skips(trigger: CronTrigger, at: datetime) -> bool:
    """Whether summer time began shortly before."""
    before, then = (t.astimezone(trigger.timezone).utcoffset() for t in (at - _SKIPPED, at + timedelta(seconds=1)))
    return before is not None and then is not None and before < then


def _said_for_all(cron: str) -> Iterator[str]:
    """The schedule in APScheduler's words, which counts days of the week from Monday and wants all fields to hold."""
    fields = cron.split()
    if len(fields) != 5:
        yield cron  # which is refused
        return
    minute, hour, day, month, weekday = fields
    named = _named(weekday)
    if "*" in day or "*" in weekday:
        yield f"{minute} {hour} {day} {month} {named}"
    else:
        yield f"{minute} {hour} {day} {month} *"
        yield f"{minute} {hour} * {month} {named}"


def _named(weekday: str) -> str:
    """The weekdays of a cron field by their names. Raises ValueError."""
    return "*" if weekday == "*" else ",".join(_DAYS[n] for n in sorted(set(_numbers(weekday))))


def _numbers(weekday: str) -> Iterator[int]:
    for part in weekday.lower().split(","):
        said = _WEEKDAYS.fullmatch(part)
        if said is None:
            raise ValueError(
                f"{part!r} names no weekdays: 0 to 7 (0 and 7 are Sunday), sun to sat, `1-5`, `*/2`, `6,7`"
            )
        first, last, step = said.groups()
        low, high = (_number(first), _number(last or first)) if first else (0, 6)
        high = 7 if high == 0 < low else high
        if high < low:
            raise ValueError(f"the weekdays {part!r} end before they begin: a week is from 0, Sunday, to 7, Sunday")
        if step and (int(step) == 0 or not (last or not first)):
            raise ValueError(f"{part!r}: a step needs a range of weekdays and is at least 1, as in `1-5/2`")
        yield from (number % 7 for number in range(low, high + 1, int(step or 1)))


def _number(day: str) -> int:
    if day in _DAYS:
        return _DAYS.index(day)
    if not day.isdecimal() or int(day) > 7:
        raise ValueError(f"{day!r} is no weekday: 0 to 7 (0 and 7 are Sunday), or sun to sat")
    return int(day)
