"""What an input says of the time that its spans have: whose clocks they go by, and how often one comes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo

from ctd.core.calendars import Calendar, NotASpan, SpanRef, Unit
from ctd.core.spans import SpanPattern
from ctd.core.timing import parse_duration
from ctd.specs.base import Complaint, say_duration
from ctd.specs.hints import did_you_mean
from ctd.specs.inputs import patterns_of
from ctd.specs.windows import written

_UNITS = {
    Unit.MINUTE: timedelta(minutes=1),
    Unit.HOUR: timedelta(hours=1),
    Unit.DAY: timedelta(days=1),
    Unit.WEEK: timedelta(weeks=1),
}


def _zone(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = available_timezones()
        lacks = "" if known else "This machine has no time zones: `pip install tzdata`. "
        hint = f"{lacks}{did_you_mean(value, sorted(known))}Write for instance UTC or Europe/Berlin."
        raise Complaint(f"there is no time zone {value!r}", hint) from None
    return value


Zone = Annotated[str, BeforeValidator(_zone, json_schema_input_type=str)]
"""A name of the time zone database: Europe/Berlin."""


def _often(value: object) -> object:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, timedelta) or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise Complaint(f"{value!r} does not say how often", "Write for instance 15m, 6h or 7d; of plain numbers, 3600.")


Often = Annotated[
    timedelta | int,
    BeforeValidator(_often, json_schema_input_type=int | str),
    PlainSerializer(lambda value: value if isinstance(value, int) else say_duration(value), return_type=int | str),
]
"""How far apart spans are: `15m`, or of plain numbers `3600`."""


def calendar_of(pattern: SpanPattern, zone: str | None, every: timedelta | int | None) -> Calendar:
    """How the spans of an input are numbered. Raises Complaint for what does not go together."""
    unit = pattern.unit
    if unit is None:
        if zone is not None:
            hint = "Take it out, or let `input` say the time: {YYYY}, {MM}, {DD}, {HH}."
            raise Complaint("`timezone` says nothing where spans are numbers", hint, ("timezone",))
        if isinstance(every, timedelta):
            hint = "Write how far apart the numbers are, such as `every: 3600` for seconds since 1970 once an hour."
            raise Complaint("spans are numbers, and `every` is a time", hint, ("every",))
        return Calendar(step=every)
    return Calendar(unit, None if zone in (None, "UTC") else ZoneInfo(zone or ""), _step(unit, every))


def _step(unit: Unit, every: timedelta | int | None) -> int | None:
    if every is None:
        return None
    length = _UNITS.get(unit)
    if length is None or not isinstance(every, timedelta) or every < length or every % length:
        example = {Unit.MINUTE: "15m", Unit.HOUR: "6h", Unit.DAY: "7d", Unit.WEEK: "14d"}.get(unit)
        said = say_duration(every) if isinstance(every, timedelta) else every
        hint = f"Write whole {unit.value}s, such as `every: {example}`." if example else "Take it out."
        raise Complaint(f"spans are {unit.value}s, and `every` is {said}", hint, ("every",))
    return every // length


def _own(value: object, info: ValidationInfo) -> tuple[SpanRef, Calendar]:
    ref = written(value)
    said = info.data.get("input")  # nothing if that is wrong: then it is what is complained of
    pattern = next(iter(patterns_of(said).values())) if said else None
    return ref, pattern.calendar if pattern else Calendar(ref.unit)


def _ranges(value: object, info: ValidationInfo) -> tuple[int, int]:
    try:
        ref, calendar = _own(value, info)
        return calendar.range(ref)
    except NotASpan as error:
        raise Complaint(str(error), error.hint) from error


def _first(value: object, info: ValidationInfo) -> object:
    return None if value is None else _ranges(value, info)[0]


def _each(value: object, info: ValidationInfo) -> object:
    return tuple(_numbers(value, info)) if isinstance(value, list | tuple) else value


def _numbers(values: list[object] | tuple[object, ...], info: ValidationInfo) -> Iterator[int]:
    for i, value in enumerate(values):
        try:
            first, last = _ranges(value, info)
        except Complaint as complaint:
            raise Complaint(str(complaint), complaint.hint, (i,)) from None
        yield from range(first, last + 1)


FirstSpan = Annotated[int | None, BeforeValidator(_first, json_schema_input_type=int | str | None)]
"""A span of the node's own `input`; of a longer time the first: of a day its first hour."""

EachOf = Annotated[tuple[int, ...], BeforeValidator(_each, json_schema_input_type=list[int | str])]
"""Spans of the node's own `input`; of a longer time each: of a day all its hours."""
