"""A span with a wrong number freezes nothing: gone it is forgotten, there it is told, denied it does no harm."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from planning_world import Bench, pipeline

from ctd.core.calendars import Unit, number_at
from ctd.core.requests import Verb
from ctd.core.spans import Span
from ctd.planning.decisions import Plan

DAY = timedelta(days=1)


def bench(*numbers: int, **examples: Any) -> Bench:
    """Spans that came day by day."""
    made = Bench(spec=pipeline(examples={"max_lateness": "12h", **examples}))
    for number in numbers:
        come(made, number)
    return made


def come(world: Bench, number: int, content: str = "") -> Plan:
    world.arrive(number, content=content or None)
    made = world.settle()
    world.now += DAY
    return made


def go(world: Bench, number: int) -> None:
    del world.contents[Span(number, 1)]


def window(world: Bench) -> str:
    return world.ran("transform")[-1].key


def test_a_wrong_number_that_was_removed_makes_nothing_late() -> None:
    world = bench(41, 42, 9999)
    go(world, 9999)
    for number in (43, 44, 45):
        plan = come(world, number)
        assert (window(world), plan.alerts, plan.late["examples"]) == (f"spans {number - 2}..{number} (3)", (), {})


def test_what_came_late_for_its_sake_comes_in_when_it_is_removed() -> None:
    world = bench(41, 42, 9999, 43)
    assert 43 in world.plan().late["examples"]
    go(world, 9999)
    world.settle()
    assert window(world) == "spans 41..43 (3)"


def test_a_wrong_number_that_was_removed_and_one_day_is_right_makes_nothing_late_either() -> None:
    world = bench(41, 42, 46)
    go(world, 46)
    for number in (43, 44, 45):
        come(world, number)
    plan = come(world, 46, "what it really holds")
    assert plan.late["examples"] == {}
    assert window(world) == "spans 44..46 (3)"


def test_an_input_that_changes_to_lower_numbers_goes_on() -> None:
    world = bench(19786, 19787)
    world.spec = pipeline(examples={"max_lateness": "12h", "input": "weekly/{SPAN}/v{VERSION}"})
    world.contents.clear()
    for number in (1, 2, 3):
        plan = come(world, number)
        assert plan.late["examples"] == {}
    assert window(world) == "spans 1..3 (3)"


def test_one_that_is_there_is_told_as_soon_as_data_comes_behind_it() -> None:
    world = bench(40, 41, 42, 9999)
    assert world.plan().alerts == (), "for all that is known the feed goes on from there"
    plan = come(world, 43)
    (alert,) = plan.alerts
    assert (alert.node, alert.spans, plan.late["examples"].keys()) == ("examples", (9999,), {43})
    assert alert.because.startswith("span 9999 is far ahead of span 43, which came after it: what comes now counts as ")
    assert "`deny: [9999]`" in alert.hint
    assert "ctd backfill taxi 43 43" in alert.hint


@pytest.mark.parametrize("numbers", [(9999, 1), (40, 41, 53, 42), (1, 3, 5, 7, 31, 9), (-5, -4, 40, -3)])
def test_how_far_is_far_depends_on_the_steps_of_the_feed(numbers: tuple[int, ...]) -> None:
    world = bench(*numbers)
    (alert,) = world.plan().alerts
    assert f"far ahead of span {numbers[-1]}," in alert.because


@pytest.mark.parametrize(
    "numbers", [(40, 41, 42), (40, 42, 41), (20131, 20132, 20134, 20142, 20141), (1, 5, 9, 13, 11), (7,)]
)
def test_a_day_that_comes_after_its_successor_is_late_and_no_alert(numbers: tuple[int, ...]) -> None:
    assert bench(*numbers).plan().alerts == ()


def test_without_max_lateness_it_is_told_that_it_stays_the_newest() -> None:
    world = bench(40, 41, 9999, 42, max_lateness=None)
    (alert,) = world.plan().alerts
    assert alert.because.endswith("windows take it as the newest")
    assert "backfill" not in alert.hint


def test_denied_it_is_healed_and_so_are_several_at_once() -> None:
    world = bench(41, 42, 9998, 9999, 43)
    (alert,) = world.plan().alerts
    assert "`deny: [9998, 9999]`" in alert.hint
    world.spec = pipeline(examples={"max_lateness": "12h", "deny": [9998, 9999]})
    plan = world.settle()
    assert (plan.alerts, plan.late["examples"], window(world)) == ((), {}, "spans 41..43 (3)")


def test_a_backfill_lets_in_what_came_after_it_without_a_word_on_numbers() -> None:
    world = bench(41, 42, 9999, 43)
    world.ask(Verb.BACKFILL, span=43, last=43, key="43..43")
    plan = world.settle()
    assert (plan.alerts, plan.late["examples"]) == ((), {})


def test_a_backfill_of_old_spans_is_no_feed_that_went_on_below() -> None:
    world = bench(*range(500, 504), start=500)
    for number in range(1, 4):
        world.arrive(number)
    world.ask(Verb.BACKFILL, span=1, last=3, key="1..3")
    assert world.settle().alerts == ()


def day(text: str) -> int:
    year, month, date = map(int, text.split("-"))
    return number_at(Unit.DAY, datetime(year, month, date, tzinfo=timezone.utc))


def dated(*days: str) -> Bench:
    world = Bench(spec=pipeline(examples={"input": "data/{YYYY}-{MM}-{DD}/v{VERSION}", "max_lateness": "12h"}))
    for text in days:
        come(world, day(text))
    return world


def test_a_day_in_the_far_future_is_told_at_once_by_its_date() -> None:
    world = dated("2025-12-30", "2025-12-31", "2062-01-01")
    (alert,) = world.plan().alerts
    assert alert.because.startswith("span 2062-01-01 lies in the future: windows take it as the newest")
    assert "`deny: [2062-01-01]`" in alert.hint
    come(world, day("2026-01-02"))
    (alert,) = world.plan().alerts
    assert "counts as late" in alert.because


def test_the_right_year_is_no_matter() -> None:
    assert dated("2025-12-30", "2025-12-31", "2026-01-03").plan().alerts == ()


def test_a_span_that_a_window_names_still_counts_when_it_is_removed() -> None:
    named = pipeline(examples={"max_lateness": "12h"}, trainer={"window": {"pinned": [50]}})
    world = bench(41, 50)
    world.spec = named
    world.settle()
    go(world, 50)
    assert 42 in come(world, 42).late["examples"]
    world.spec = pipeline(examples={"max_lateness": "12h"})
    assert world.plan().late["examples"] == {}


def test_a_correction_of_the_newer_span_lets_nothing_in_while_its_first_version_is_there() -> None:
    world = bench(41, 43, 42)
    assert 42 in world.plan().late["examples"]
    world.arrive(43, version=2)
    assert 42 in world.settle().late["examples"]


def test_what_a_lower_start_lets_in_is_not_late_and_what_really_comes_late_is() -> None:
    world = bench(*range(10, 13), start=10)
    for number in (7, 8, 9):
        world.arrive(number)
    world.spec = pipeline(examples={"max_lateness": "12h", "start": 8}, transform={"window": "all"})
    plan = world.settle()
    assert (plan.late["examples"], plan.alerts, window(world)) == ({}, (), "spans 8..12 (5)")
    come(world, 14)
    assert come(world, 13).late["examples"].keys() == {13}
    go(world, 10)
    assert world.settle().late["examples"].keys() == {13}, "also when the first one is removed"
