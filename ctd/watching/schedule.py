"""When a schedule fires next. The only module that imports APScheduler.

ctd needs no scheduler's thread: a plan says when it could change by itself, and the loop's queue wakes it then. So
there is nothing to misfire, and what was missed while the daemon was down is due once when it is back.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from apscheduler.triggers.cron import CronTrigger

from ctd.core.errors import SpecError

_TICK = timedelta(microseconds=1)
_ANY_TIME = datetime(2000, 1, 1, tzinfo=timezone.utc)


def check(cron: str, zone: str) -> None:
    """Raises SpecError where `next_fire` would."""
    next_fire(cron, zone, _ANY_TIME)


def next_fire(cron: str, zone: str, after: datetime) -> datetime:
    """The first time after `after` that the five fields of `cron` name, in the time zone.

    A time that summer time skips fires as long after midnight as it would have otherwise: 02:30 at 03:30. Of one that
    comes twice, the second does not fire, unless the hours are `*`: 02:30 is once a day, 30 past is every hour.
    Raises SpecError for text that is no such schedule, an unknown zone, and a schedule that never fires.
    """
    try:
        trigger = CronTrigger.from_crontab(cron, timezone=zone)
    except (ValueError, LookupError) as error:
        raise SpecError(
            f"schedule {cron!r} in {zone}: {error}",
            hint="Write five fields (minute hour day month weekday) such as `0 3 * * *`, a zone such as Europe/Berlin.",
        ) from error
    found: datetime | None = trigger.get_next_fire_time(None, after + _TICK)
    if found is not None and found.fold and not cron.split()[1].startswith("*"):
        found = trigger.get_next_fire_time(None, found.astimezone(timezone.utc) + _TICK)
    if found is None:
        raise SpecError(f"schedule {cron!r} never fires", hint="Is there such a day in such a month?")
    return found
