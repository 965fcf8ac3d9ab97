"""Feeds of hours and of minutes: over midnight, through both changes of clocks, and by what people write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ctd.api.lineage import LineageQuery, ReachView
from ctd.core.calendars import span_ref
from ctd.core.errors import NotFound
from ctd.core.executions import State
from ctd.core.spans import plain_key
from ctd.planning.supposed import NothingSupposed, with_spans
from tests.flow.bench import Bench

SPEC = """\
pipeline: taxi
module: ../model.py
nodes:
  examples: {{kind: example_gen, input: "../data/{input}"{more}}}
  statistics: {{kind: statistics_gen}}
  schema: {{kind: importer, artifact: Schema, path: ../schema.pbtxt}}
  validator: {{kind: example_validator, on_anomaly: quarantine, drift: {{fare: 0.1}}}}
  trainer: {{kind: trainer, window: {window}, on_gap: {on_gap}, train_steps: 100}}
"""
HOURS = "{YYYY}/{MM}/{DD}/{HH}"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    hours(made)
    yield made.start()
    made.kill()


def hours(bench: Bench, more: str = "", *, input_: str = HOURS, window: str = "3", on_gap: str = "wait") -> None:
    text = SPEC.format(input=input_, more=f", {more}" if more else "", window=window, on_gap=on_gap)
    (bench.root / "specs/taxi.yaml").write_text(text)


def arrive(bench: Bench, *names: str, text: str = "") -> None:
    """`2026/11/29/23` comes, or comes again."""
    for name in names:
        folder = bench.root / "data" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "trips.csv").write_text(text or f"fare\n{len(name)}{name[-2:]}\n")
        (folder / "_SUCCESS").touch()


def test_hours_follow_each_other_over_midnight_new_year_and_the_end_of_february(bench: Bench) -> None:
    for day, next_ in (("2026/11/29", "2026/11/30"), ("2026/12/31", "2027/01/01"), ("2028/02/29", "2028/03/01")):
        arrive(bench, f"{day}/22", f"{day}/23", f"{next_}/00")
        bench.settle()
        first, last = day.replace("/", "-"), next_.replace("/", "-")
        assert bench.trained_on()[-1] == f"spans {first}T22..{last}T00 (3)"
    bench.check()


def test_an_hour_that_lacks_is_waited_for_by_its_name(bench: Bench) -> None:
    arrive(bench, "2026/11/29/22", "2026/11/30/00", "2026/11/30/01")
    bench.settle()
    assert "wait trainer: span 2026-11-29T23 has not arrived, and on_gap says wait" in bench.of("trainer")
    arrive(bench, "2026/11/29/23")
    bench.settle()
    assert bench.trained_on() == ["spans 2026-11-29T23..2026-11-30T01 (3)"]


def test_drift_is_measured_from_the_hour_before_midnight(bench: Bench) -> None:
    arrive(bench, "2026/11/29/23", "2026/11/30/00")
    bench.tick()
    bench.finish("examples")
    bench.finish("schema")
    bench.tick()
    bench.finish("statistics")
    bench.tick()
    bench.finish("validator", "span-2026-11-29T23")
    bench.tick()
    (request,) = bench.running("validator")
    (before,) = request.inputs["previous_statistics"]
    assert (request.key, before.span, before.label) == ("span-2026-11-30T00", 498_887, "span 2026-11-29T23")


SPRING = ("2026/03/29/00", "2026/03/29/01", "2026/03/29/03", "2026/03/29/04")


def test_the_hour_that_summer_time_skips_is_no_gap_where_the_clocks_are_known(bench: Bench) -> None:
    arrive(bench, *SPRING[1:])
    bench.settle()
    assert "span 2026-03-29T02 has not arrived" in bench.of("trainer"), "the clocks of UTC skip nothing"
    hours(bench, "timezone: Europe/Berlin")
    bench.settle()
    assert bench.trained_on() == ["spans 2026-03-29T01..2026-03-29T04 (3)"]
    assert [e.key for e in bench.executions("examples")].count("span-2026-03-29T01") == 1, "no number has changed"
    bench.check()


def test_a_folder_of_the_hour_that_is_skipped_is_read_all_the_same(bench: Bench) -> None:
    hours(bench, "timezone: Europe/Berlin")
    arrive(bench, "2026/03/29/01", "2026/03/29/02", "2026/03/29/03")
    bench.settle()
    assert bench.trained_on() == ["spans 2026-03-29T01..2026-03-29T03 (3)"]


def test_the_hour_that_comes_twice_in_autumn_is_one_span_that_is_read_again(bench: Bench) -> None:
    hours(bench, "timezone: Europe/Berlin")
    arrive(bench, "2026/10/25/01", "2026/10/25/02")
    bench.settle()
    arrive(bench, "2026/10/25/02", text="fare\n102\n202\n")  # the second time round, into the same folder
    bench.settle()
    arrive(bench, "2026/10/25/03")
    bench.settle()
    assert bench.trained_on() == [
        *["spans 2026-10-25T01..2026-10-25T02 (2)"] * 2,
        "spans 2026-10-25T01..2026-10-25T03 (3)",
    ]
    assert [e.key for e in bench.executions("examples")].count("span-2026-10-25T02") == 2
    bench.check()


def test_a_feed_every_quarter_of_an_hour_is_consecutive_too(bench: Bench) -> None:
    hours(bench, "every: 15m", input_="trips-{YYYY}-{MM}-{DD}T{HH}{mm}")
    arrive(bench, "trips-2026-11-29T2330", "trips-2026-11-30T0000", "trips-2026-11-30T0015")
    bench.settle()
    assert "span 2026-11-29T23:45 has not arrived, and on_gap says wait" in bench.of("trainer")
    arrive(bench, "trips-2026-11-29T2345")
    bench.settle()
    assert bench.trained_on() == ["spans 2026-11-29T23:45..2026-11-30T00:15 (3)"]


@pytest.mark.parametrize(
    ("input_", "names", "window"),
    [
        ("{YYYY}-{MM}", ["2026-11", "2026-12", "2027-01"], "spans 2026-11..2027-01 (3)"),
        ("{GGGG}-W{WW}", ["2026-W52", "2026-W53", "2027-W01"], "spans 2026-W52..2027-W01 (3)"),
        ("{YYYY}{MM}{DD}", ["20261230", "20261231", "20270101"], "spans 2026-12-30..2027-01-01 (3)"),
    ],
)
def test_months_weeks_and_days_follow_each_other_over_new_year(
    bench: Bench, input_: str, names: list[str], window: str
) -> None:
    hours(bench, input_=input_)
    arrive(bench, *names)
    bench.settle()
    assert bench.trained_on() == [window]


def test_a_window_over_a_day_has_all_its_hours(bench: Bench) -> None:
    hours(bench, window="{first: 2026-11-29, last: 2026-11-29}", on_gap="skip")
    arrive(bench, "2026/11/28/23", *(f"2026/11/29/{hour:02}" for hour in range(24)), "2026/11/30/00")
    bench.settle()
    assert bench.trained_on() == ["spans 2026-11-29T00..2026-11-29T23 (24)"]


def test_what_is_before_the_start_is_read_by_a_backfill_of_whole_days(bench: Bench) -> None:
    hours(bench, "start: 2026-11-29", window="1")
    arrive(bench, "2026/11/27/23", "2026/11/28/00", "2026/11/28/23", "2026/11/29/00")
    bench.settle()
    assert [e.key for e in bench.executions("examples")] == ["span-2026-11-29T00"]
    (note,) = bench.views().status().pipelines[0].notes
    assert "3 spans before 2026-11-29T00 are not read (start)" in note
    assert "`ctd backfill taxi 2026-11-27T23 2026-11-28T23` reads them" in note
    with pytest.raises(NotFound, match="no span of taxi lies from 2026-11-20T00 to 2026-11-26T23") as refused:
        bench.ask("backfill", first="2026-11-20", last="2026-11-26")
    assert refused.value.hint == "Spans there: 4, from 2026-11-27T23 to 2026-11-29T00."
    bench.ask("backfill", first="2026-11-28", last="2026-11-28")
    bench.tick()
    (open_,) = bench.views().plan("taxi").backfills
    assert (open_.range, open_.spans) == ("2026-11-28T00..2026-11-28T23", 2)
    bench.settle()
    assert sorted(e.key for e in bench.executions("examples"))[0] == "span-2026-11-28T00", "nothing of the 27th"
    bench.check()


def test_a_refused_hour_is_accepted_by_its_name_and_a_day_is_no_hour(bench: Bench) -> None:
    hours(bench, on_gap="skip")
    arrive(bench, "2026/11/29/22")
    bench.settle()
    arrive(bench, "2026/11/29/23")
    bench.tick()
    bench.finish("examples")
    bench.tick()
    bench.finish("statistics")
    bench.tick()
    bench.finish("validator", blessed=0, reason="fare: out of range")
    bench.settle()
    assert "quarantined span 2026-11-29T23: validator: fare: out of range" in bench.of("trainer")
    (advice,) = bench.views().status().pipelines[0].suggestions
    assert "ctd accept taxi 2026-11-29T23 --reason" in advice
    with pytest.raises(NotFound, match="2026-11-29 is a day, and one hour is asked for") as refused:
        bench.ask("accept", span="2026-11-29")
    assert "such as 2026-11-29T00" in refused.value.hint
    with pytest.raises(NotFound, match="2026-11-29T23:30 is a minute, but these spans are hours"):
        bench.ask("accept", span="2026-11-29T23:30")
    bench.ask("accept", span="2026-11-29 23")
    bench.settle()
    assert bench.trained_on()[-1] == "spans 2026-11-29T22..2026-11-29T23 (2)"


def test_lineage_and_suppositions_name_hours_as_people_do(bench: Bench) -> None:
    hours(bench, "timezone: Europe/Berlin", on_gap="skip")
    arrive(bench, "2026/11/29/23")
    bench.settle()
    reached = bench.views().lineage("taxi", LineageQuery(span="2026-11-29T23"))
    assert isinstance(reached, ReachView)
    assert (reached.span, reached.label) == (498_887, "2026-11-29T23")
    assert [e.node for e in reached.executions] == ["examples", "statistics", "validator", "trainer"]
    with pytest.raises(NotFound, match="span 2026-11-29T22 of taxi was never read"):
        bench.views().lineage("taxi", LineageQuery(span="2026-11-29T22"))
    spec = bench.wanted.pipelines["taxi"]
    world = bench.observer.observe(spec, {}, bench.history)
    there = with_spans(spec, world, [span_ref("2026-11-30T00")]).spans["examples"].spans
    assert [found.span.number for found in there] == [498_887, 498_888]
    for said, why in (
        ("2026-11-30", "one hour is asked for"),
        ("2026-03-29T02", "the clocks of Europe/Berlin skip it"),
    ):
        with pytest.raises(NothingSupposed, match=why):
            with_spans(spec, world, [span_ref(said)])


def test_a_late_hour_is_late_by_the_clock_and_by_its_name(bench: Bench) -> None:
    bench.clock.forward(days=333)  # to the end of November
    hours(bench, "max_lateness: 2h, stale_after: 90m", on_gap="skip")
    arrive(bench, "2026/11/29/23", "2026/11/30/01")
    bench.settle()
    bench.clock.forward(hours=3)
    arrive(bench, "2026/11/30/00")
    bench.settle()
    assert "it came 3h00m after span 2026-11-30T01, later than max_lateness 2h00m" in bench.of("examples")
    bench.clock.forward(hours=2)
    bench.settle()
    (alert,) = bench.views().status().pipelines[0].alerts
    assert "no new span since" in alert


def test_a_name_that_is_no_hour_is_a_stray_with_its_reason(bench: Bench) -> None:
    arrive(bench, "2026/11/29/23", "2026/11/29/24", "2026/02/30/01", "2026/11/29/7")
    bench.settle()
    strays = " ".join(bench.views().status().pipelines[0].strays)
    assert "2026/11/29/24: there is no hour 2026-11-29T24" in strays
    assert "2026/02/30/01: there is no hour 2026-02-30T01" in strays
    assert "2026/11/29/7 does not fit {HH}" in strays
    assert [e.key for e in bench.executions("examples")] == ["span-2026-11-29T23"]


def test_numbers_that_look_like_hours_are_told_with_the_pattern_that_is_meant(bench: Bench) -> None:
    hours(bench, input_="{SPAN:10}")
    arrive(bench, "2026112922", "2026112923", "2026113000")
    bench.settle()
    notes = " ".join(bench.views().status().pipelines[0].notes)
    assert "looks like an hour, 2026-11-30T00, but is counted as a number: a gap wherever a day ends" in notes
    assert "/data/{YYYY}{MM}{DD}{HH}`" in notes
    hours(bench, input_="{YYYY}{MM}{DD}{HH}")
    bench.settle()
    assert bench.trained_on() == ["spans 2026-11-29T22..2026-11-30T00 (3)"]
    assert bench.views().status().pipelines[0].notes == []


def test_what_was_done_of_days_when_their_keys_had_numbers_is_not_done_again(bench: Bench) -> None:
    hours(bench, "on_change: ignore", input_="{YYYY}-{MM}-{DD}", on_gap="skip")
    arrive(bench, "2026-11-28")
    bench.settle()
    arrive(bench, "2026-11-29")
    bench.tick()
    bench.finish("examples")
    bench.tick()
    bench.finish("statistics")
    bench.tick()
    bench.finish("validator", blessed=0, reason="fare: out of range")
    bench.settle()
    bench.ask("accept", span="2026-11-29")
    bench.settle()
    before = len(bench.executions())
    bench.kill()
    store = bench.store
    for e in store.executions():  # as they were recorded
        store._executions[e.id] = replace(e, key=plain_key(e.key))
    store._requests = {r.id: replace(r, key=plain_key(r.key)) for r in store.requests()}
    assert {e.key for e in store.executions() if e.node == "examples"} == {"span-20785", "span-20786"}
    arrive(bench, "2026-11-28", text="fare\n9\n")  # ignored, as what was read of it stays
    bench.start()
    bench.settle()
    assert [e for e in bench.executions() if e.id > before and e.state is not State.SUCCEEDED] == []
    assert len(bench.executions()) == before
    assert "changed since" in bench.of("examples")
    assert "quarantined" not in bench.of("trainer")
