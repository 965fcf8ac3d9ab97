"""When spans came: which came too late for windows, and whether a source has fallen silent. Pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from ctd.core.calendars import number_at
from ctd.core.timing import format_duration
from ctd.planning.backfills import invited
from ctd.planning.decisions import Alert, AlertKind
from ctd.planning.world import SpansFact, World
from ctd.specs.nodes import ExampleGenSpec


def late(
    node: ExampleGenSpec,
    name: str,
    pipeline: str,
    numbers: Iterable[int],
    world: World,
    pinned: Collection[int] = (),
) -> dict[int, str]:
    """Spans that came more than `max_lateness` after a newer one was read, each with the reason.

    A span has come when its first execution began: of any version, so that a correction is never late. What came
    together, or while nobody looked, is not late either: a backlog is read oldest first. Only what is there makes
    others late, or is `pinned` by a window: a folder with a wrong number is forgotten once it is removed. What a lower
    `start` lets in was there before, and nobody may say when it came.
    """
    if node.max_lateness is None:
        return {}
    there = frozenset(numbers)
    arrived = world.history.arrived(pipeline, name)
    read = _read(node, name, pipeline, there, world)
    read |= {n: at for n, at in world.history.arrived(pipeline, name, read=True).items() if n in pinned}
    found: dict[int, str] = {}
    newer: tuple[datetime, int] | None = None  # the newer span that was read first
    for number in sorted({*there, *read}, reverse=True):
        after = arrived.get(number, world.now) - newer[0] if newer else None
        if newer and number in there and after is not None and after > node.max_lateness:
            most, said = format_duration(node.max_lateness), node.calendar.say(newer[1])
            found[number] = f"it came {format_duration(after)} after span {said}, later than max_lateness {most}"
        at = read.get(number)
        if at is not None and number not in node.deny and (newer is None or at < newer[0]):
            newer = at, number
    since = _first(node, name, pipeline, world) if found else -math.inf
    return {number: why for number, why in found.items() if number >= since}


def _first(node: ExampleGenSpec, name: str, pipeline: str, world: World) -> float:
    """The span that was read first of all, if the input has a `start`: older ones were let in, and did not come."""
    ever = world.history.arrived(pipeline, name, read=True) if node.start is not None else {}
    return min(ever, key=lambda n: (ever[n], n)) if ever else -math.inf


def _read(node: ExampleGenSpec, name: str, pipeline: str, there: Collection[int], world: World) -> dict[int, datetime]:
    """When the spans that are there were read for the first time.

    Where changes are read, as what they are now: what had the number before, and was removed, was something else.
    """
    ever = world.history.arrived(pipeline, name, read=True)
    fact = world.spans.get(name)
    if node.on_change != "new_version" or fact is None:
        return {n: ever[n] for n in there if n in ever}
    found: dict[int, datetime] = {}
    for span in fact.spans:
        number = span.span.number
        if number in there and number in ever and (span.complete or span.passing):
            at = world.history.first_read(pipeline, name, number, span.digest) if span.digest else ever[number]
            if at is not None:
                found[number] = min(at, found.get(number, at))
    return found


_FAR = 3  # times the largest step between the spans before
_SOON = timedelta(days=31)  # data about a later day than this is hardly meant


def misnumbered(
    node: ExampleGenSpec, name: str, pipeline: str, numbers: Iterable[int], late_ones: Collection[int], world: World
) -> Alert | None:
    """What to say of spans whose number is likely wrong: it is far ahead of what came after them, or of today.

    Such a span stays the newest for long: what comes after it counts as late, or is never the newest.
    """
    arrived = world.history.arrived(pipeline, name)
    there = [n for n in numbers if n in arrived]
    newest = max(there, default=None)
    if newest is None or (arrived[newest] == max(arrived.values()) and newest <= _last_day(node, world.now)):
        return None  # as nearly always: the newest came last
    here = sorted(n for n in there if n not in node.deny)
    future = here[bisect_right(here, _last_day(node, world.now)) :]
    last = max((n for n in here if n not in future), key=lambda n: (arrived[n], n), default=None)
    far = _far_ahead(here, last) if last is not None and not invited(world.history, pipeline, name, last) else []
    wrong = sorted({*future, *far})
    if not wrong:
        return None
    first, *others = (node.calendar.say(n) for n in wrong)
    after = "" if last is None else node.calendar.say(last)
    because = f"span {first} {'lies in the future' if future else f'is far ahead of span {after}, which came after it'}"
    shut_out = last in late_ones
    because += ": what comes now counts as late and enters no window" if shut_out else ": windows take it as the newest"
    hint = f"If the number is wrong, remove the folder or write `deny: [{', '.join([first, *others])}]` at {name}"
    by_hand = f"; `ctd backfill {pipeline} {after} {after}` lets a span in as it is" if shut_out else ""
    return Alert(name, because, f"{hint}{by_hand}.", kind=AlertKind.MISNUMBERED, spans=tuple(wrong))


def _last_day(node: ExampleGenSpec, now: datetime) -> float:
    """The last span that is about a time which may be meant, where spans are times."""
    unit = node.calendar.unit
    return math.inf if unit is None else number_at(unit, (now + _SOON).replace(tzinfo=None))


def _far_ahead(here: Sequence[int], last: int) -> list[int]:
    """The spans after the one that came last, if they are much further from it than spans are from each other."""
    at = bisect_right(here, last)
    usual = max((after - before for before, after in pairwise(here[:at])), default=1)
    return list(here[at:]) if here[at:] and here[at] - last > _FAR * usual else []


def silent_from(
    node: ExampleGenSpec, name: str, pipeline: str, fact: SpansFact | None, world: World
) -> datetime | None:
    """From when on the source counts as silent, unless another span comes; None where that is not asked for."""
    known: Mapping[int, datetime] = world.history.arrived(pipeline, name)
    first = node.start
    arrived = {n: at for n, at in known.items() if first is None or n >= first}  # a backfill is no sign of life
    if node.stale_after is None or not arrived:
        return None
    new = (s.span.number for s in (fact.spans if fact else ()) if s.complete and s.span.number not in arrived)
    if any(first is None or number >= first for number in new):
        return None  # one has just come
    return max(arrived.values()) + node.stale_after


def silence(node: ExampleGenSpec, name: str, since: datetime) -> Alert:
    """What to say of a source that is silent since then."""
    said = format_duration(node.stale_after) if node.stale_after else ""
    last = since - node.stale_after if node.stale_after else since
    because = f"no new span since {last:%Y-%m-%d %H:%M} UTC (stale_after {said}): what is made is made of old data"
    places = " and ".join(pattern.text for pattern in node.patterns.values())
    hint = f"See what keeps the source of {places}, or raise `stale_after`."
    return Alert(name, because, hint, kind=AlertKind.SILENT, since=last)
