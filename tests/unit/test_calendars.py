"""Spans of time: numbers, texts, and what the clocks of a zone skip and show twice."""
# ruff: noqa: DTZ001 - times of the clock on the wall

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ctd.core.calendars import Calendar, NotASpan, Unit, begin, looks_like, number_at, said, span_ref

# Whole hours, halves and quarters; summer time of an hour and of half an hour, at 2, at 0 and at -1; a day skipped
# (Samoa, 2011) and one twice (Kwajalein, 1969); offsets that were changed for good (Nepal, 1986; Venezuela, 2007).
ZONES = [
    "UTC", "Europe/Berlin", "Europe/London", "America/New_York", "America/St_Johns", "America/Sao_Paulo",
    "America/Caracas", "Asia/Kathmandu", "Asia/Kolkata", "Asia/Tehran", "Australia/Lord_Howe", "Pacific/Apia",
    "Pacific/Kwajalein", "Pacific/Chatham", "Africa/Casablanca", "America/Scoresbysund", "Antarctica/Troll",
]  # fmt: skip

units = st.sampled_from(Unit)
times = st.datetimes(datetime(1600, 1, 1), datetime(2400, 1, 1))
LONG_AGO, LATER = datetime(1971, 1, 1), datetime(2037, 1, 1)


def calendar(unit: Unit, zone: str = "UTC", step: int | None = None) -> Calendar:
    return Calendar(unit, ZoneInfo(zone), step)


@given(units, times)
@example(Unit.WEEK, datetime(2021, 1, 3, 23, 59))  # the last day of 2020-W53
@example(Unit.HOUR, datetime(1969, 12, 31, 23, 59))
def test_a_number_is_text_and_the_text_that_number(unit: Unit, at: datetime) -> None:
    number = number_at(unit, at)
    ref = span_ref(said(unit, number))
    assert (ref.number, ref.unit, ref.version) == (number, unit, None)
    start, end = begin(unit, number), begin(unit, number + 1)
    assert start is not None
    assert end is not None
    assert start <= at < end
    assert number_at(unit, end) == number + 1, "the next time is the next number"


@given(units, st.integers(-(10**12), 10**12))
def test_where_the_calendar_ends_a_span_is_its_number(unit: Unit, number: int) -> None:
    text = said(unit, number)
    assert span_ref(text).number == number
    assert (begin(unit, number) is None) == (text == str(number))


@pytest.mark.parametrize(
    ("text", "unit", "number", "version"),
    [
        ("42", None, 42, None),
        ("-3", None, -3, None),
        ("span-42.v2", None, 42, 2),
        ("2026-11-29", Unit.DAY, 20_786, None),
        ("2026-11-29.v2", Unit.DAY, 20_786, 2),
        ("2026-11-29T23", Unit.HOUR, 498_887, None),
        (" 2026-11-29 23 ", Unit.HOUR, 498_887, None),
        ("span-2026-11-29T23.v0", Unit.HOUR, 498_887, 0),
        ("2026-11-29T23:15", Unit.MINUTE, 29_933_235, None),
        ("2026-11-29 2315", Unit.MINUTE, 29_933_235, None),
        ("2026-11-29T23:15:00", Unit.MINUTE, 29_933_235, None),
        ("2026-11", Unit.MONTH, 682, None),
        ("2026-W48", Unit.WEEK, 2969, None),
    ],
)
def test_people_write_spans_in_these_ways(text: str, unit: Unit | None, number: int, version: int | None) -> None:
    ref = span_ref(text)
    assert (ref.unit, ref.number, ref.version) == (unit, number, version)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("first", "'first' is no span"),
        ("", "'' is no span"),
        ("2026-11-31", "no such time as 2026-11-31"),
        ("2026-11-29T24", "no such time as 2026-11-29T24"),
        ("2026-11-29T23:60", "no such time as 2026-11-29T23:60"),
        ("2026-13", "no such time as 2026-13"),
        ("2026-W54", "no such time as 2026-W54"),
        ("2026-11-29T23:15:30", "is no span"),
        ("2026-11-29T23Z", "is no span"),
        ("٢٠٢٦-11-29", "is no span"),
        ("42.vx", "has no version"),
    ],
)
def test_what_is_no_span_is_refused_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(NotASpan, match=message) as refused:
        span_ref(text)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("unit", "text", "first", "last"),
    [
        (Unit.HOUR, "2026-11-29", "2026-11-29T00", "2026-11-29T23"),
        (Unit.HOUR, "2026-11-29T23", "2026-11-29T23", "2026-11-29T23"),
        (Unit.HOUR, "2026-11-29T23:00", "2026-11-29T23", "2026-11-29T23"),
        (Unit.HOUR, "2026-W48", "2026-11-23T00", "2026-11-29T23"),
        (Unit.MINUTE, "2026-11-29T23", "2026-11-29T23:00", "2026-11-29T23:59"),
        (Unit.MINUTE, "2026-11-29", "2026-11-29T00:00", "2026-11-29T23:59"),
        (Unit.DAY, "2024-02", "2024-02-01", "2024-02-29"),
        (Unit.DAY, "2026-W01", "2025-12-29", "2026-01-04"),
        (Unit.MONTH, "2026-11", "2026-11", "2026-11"),
    ],
)
def test_a_longer_time_is_all_spans_in_it(unit: Unit, text: str, first: str, last: str) -> None:
    of = Calendar(unit)
    assert tuple(map(of.say, of.range(span_ref(text)))) == (first, last)
    if first != last:
        with pytest.raises(NotASpan, match=f"one {unit.value} is asked for") as refused:
            of.one(span_ref(text))
        assert first in refused.value.hint
        assert last in refused.value.hint


@pytest.mark.parametrize(
    ("unit", "text", "message"),
    [
        (None, "2026-11-29", r"2026-11-29 is a day, but these spans have numbers \(\{SPAN\}\)"),
        (None, "2026-11-29T23", "is an hour, but these spans have numbers"),
        (Unit.DAY, "2026-11-29T23", "is an hour, but these spans are days"),
        (Unit.HOUR, "2026-11-29T23:15", "is a minute, but these spans are hours"),
        (Unit.WEEK, "2026-11-29", "is a day, but these spans are weeks"),
        (Unit.WEEK, "2026-11", "is a month, but these spans are weeks"),
        (Unit.MONTH, "2026-W48", "is a week, but these spans are months"),
        (Unit.HOUR, "2026112923", "2026112923 is no hour"),
        (Unit.DAY, "20261129", "20261129 is no day"),
    ],
)
def test_a_span_of_another_kind_is_refused(unit: Unit | None, text: str, message: str) -> None:
    with pytest.raises(NotASpan, match=message) as refused:
        Calendar(unit).range(span_ref(text))
    assert refused.value.hint


def test_a_number_is_taken_by_all() -> None:
    assert Calendar(Unit.HOUR).one(span_ref("498887")) == 498_887
    assert Calendar().one(span_ref("2026112923")) == 2_026_112_923


def wall(zone: str, start: datetime, days: int) -> set[datetime]:
    """What the clock on the wall shows, looked at every quarter of an hour."""
    at = start.replace(tzinfo=timezone.utc)
    looks = (at + timedelta(minutes=15) * n for n in range(days * 96))
    return {look.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for look in looks}


def shown(zone: str, start: datetime, unit: Unit) -> None:
    """Hold what exists against what the clock shows from a day on, whatever its hours are."""
    of = calendar(unit, zone)
    numbers = {number_at(unit, at) for at in wall(zone, start, 4)}
    between = range(min(numbers), max(numbers) + 1)
    assert [n for n in between if of.exists(n)] == sorted(numbers)
    assert of.gap(min(numbers), max(numbers), lambda n: n in numbers) is None, "no feed can be more complete"


@pytest.mark.parametrize("unit", [Unit.HOUR, Unit.DAY])
@settings(max_examples=60)
@given(st.sampled_from(ZONES), st.datetimes(LONG_AGO, LATER))
def test_those_spans_exist_that_a_clock_on_the_wall_shows(unit: Unit, zone: str, start: datetime) -> None:
    shown(zone, start, unit)


@pytest.mark.parametrize("unit", [Unit.HOUR, Unit.DAY])
@pytest.mark.parametrize("zone", ZONES)
def test_so_it_is_at_every_change_of_clocks_of_a_zone(zone: str, unit: Unit) -> None:
    changes = [day for day in days(1984, 1988) + days(2006, 2012) + days(2025, 2027) if changed(zone, day)]
    for day in changes:
        shown(zone, day - timedelta(days=2), unit)
    assert changes or zone in ("UTC", "Asia/Kolkata", "Pacific/Kwajalein")


def days(first: int, last: int) -> list[datetime]:
    return [datetime(first, 1, 1) + timedelta(days=n) for n in range((last - first) * 365)]


def changed(zone: str, day: datetime) -> bool:
    """Whether the clocks are put forward or back on a day."""
    at = day.replace(tzinfo=timezone.utc)
    return at.astimezone(ZoneInfo(zone)).utcoffset() != (at + timedelta(days=1)).astimezone(ZoneInfo(zone)).utcoffset()


def test_the_change_of_clocks_in_spring_is_no_gap_and_the_hour_after_it_is() -> None:
    there = {said(Unit.HOUR, n): n for n in range(*Calendar(Unit.HOUR).range(span_ref("2026-03-29")))}
    berlin, utc = calendar(Unit.HOUR, "Europe/Berlin"), calendar(Unit.HOUR)
    first, last = there["2026-03-29T01"], there["2026-03-29T04"]
    local = {first, there["2026-03-29T03"], last}
    assert berlin.gap(first, last, local.__contains__) is None
    assert utc.gap(first, last, local.__contains__) == there["2026-03-29T02"]
    assert berlin.gap(first, last, {first, last}.__contains__) == there["2026-03-29T03"]


@pytest.mark.parametrize(
    ("zone", "hour", "exists"),
    [
        ("Australia/Lord_Howe", "2026-10-04T02", True),  # half of it
        ("America/Sao_Paulo", "2017-10-15T00", False),
        ("America/New_York", "2026-11-01T01", True),  # twice
        ("Asia/Kathmandu", "1986-01-01T00", True),
        ("Pacific/Apia", "2011-12-30T12", False),
    ],
)
def test_an_hour_of_which_the_clocks_show_any_part_exists(zone: str, hour: str, exists: bool) -> None:
    assert calendar(Unit.HOUR, zone).exists(span_ref(hour).number) is exists


def test_a_gap_is_where_a_span_should_have_come() -> None:
    quarter = calendar(Unit.MINUTE, step=15)
    minute = span_ref("2026-11-29T23:05").number
    there = {minute, minute + 15, minute + 45}
    assert quarter.gap(minute, minute + 45, there.__contains__) == minute + 30
    assert quarter.gap(minute, minute + 15, there.__contains__) is None
    seconds = Calendar(step=3600)
    assert seconds.gap(1_764_000_000, 1_764_007_200, {1_764_000_000, 1_764_007_200}.__contains__) == 1_764_003_600


@pytest.mark.parametrize(
    ("number", "looks"),
    [
        (2_026_112_923, (Unit.HOUR, "2026-11-29T23")),
        (20_261_129, (Unit.DAY, "2026-11-29")),
        (202_611_292_315, (Unit.MINUTE, "2026-11-29T23:15")),
        (1_764_000_000, None),  # seconds since 1970
        (2_026_112_924, None),
        (2_026_11, None),
        (42, None),
        (498_887, None),
    ],
)
def test_a_number_may_look_like_a_time(number: int, looks: tuple[Unit, str] | None) -> None:
    assert looks_like(number) == looks
