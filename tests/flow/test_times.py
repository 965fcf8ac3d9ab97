"""Nodes that run by the clock, not too often, or only when asked; and what was missed while nobody was there."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ctd.core.errors import StorageUnavailable
from ctd.watching.schedule import next_fire
from tests.flow.bench import Bench


def bench_with(tmp_path: Path, trainer: str) -> Bench:
    """A pipeline that has trained on span 1 at midnight, 1 January 2026 (UTC)."""
    bench = Bench(tmp_path)
    spec = bench.spec()
    spec.write_text(spec.read_text().replace("{kind: trainer, ", f"{{kind: trainer, {trainer}, "))
    bench.span(1)
    bench.start().settle()
    return bench


def trainings(bench: Bench) -> int:
    return sum(e.node == "trainer" for e in bench.history)


def trainer(bench: Bench) -> str:
    return next(line for line in bench.said() if " trainer" in line)


NIGHTLY = "when: schedule, schedule: {cron: '0 3 * * *', timezone: Europe/Berlin}"


def test_a_scheduled_node_waits_for_its_time_and_keeps_its_result(tmp_path: Path) -> None:
    bench = bench_with(tmp_path, NIGHTLY)
    assert trainings(bench) == 1, "the first model does not wait for the night"
    bench.span(2)
    bench.settle()
    assert "wait trainer spans 1..2 (2): due at 2026-01-01 03:00+01:00; then: examples: span 2 new" in trainer(bench)
    bench.clock.forward(hours=1, minutes=59)
    bench.settle()
    assert trainings(bench) == 1
    bench.clock.forward(minutes=1)
    bench.settle()
    assert trainings(bench) == 2


def test_at_its_time_a_node_runs_only_if_something_changed(tmp_path: Path) -> None:
    bench = bench_with(tmp_path, NIGHTLY)
    bench.clock.forward(days=3)
    bench.settle()
    assert trainings(bench) == 1


def test_what_was_missed_while_down_is_made_up_for_once(tmp_path: Path) -> None:
    bench = bench_with(tmp_path, NIGHTLY)
    bench.kill()
    bench.span(2)
    bench.clock.forward(days=10)
    bench.start().settle()
    assert trainings(bench) == 2
    bench.span(3)
    bench.settle()
    assert trainings(bench) == 2, "the next one is for tonight"


def test_an_interval_counts_from_the_last_start(tmp_path: Path) -> None:
    bench = bench_with(tmp_path, "when: schedule, schedule: {every: 6h}")
    bench.span(2)
    bench.settle()
    bench.clock.forward(hours=5, minutes=59)
    bench.settle()
    assert trainings(bench) == 1
    bench.clock.forward(minutes=1)
    bench.settle()
    assert trainings(bench) == 2


def test_an_hourly_feed_trains_daily(tmp_path: Path) -> None:
    bench = bench_with(tmp_path, "min_interval: 24h")
    for hour in range(2, 50):
        bench.clock.forward(hours=1)
        bench.span(hour)
        bench.settle()
    assert trainings(bench) == 3, "at hours 0, 24 and 48"
    assert sum(e.node == "statistics" for e in bench.history) == 49


def test_a_manual_node_waits_to_be_asked_and_the_rest_goes_on(tmp_path: Path) -> None:
    bench = bench_with(tmp_path, "when: manual")
    assert trainings(bench) == 0
    assert "manual: `ctd run-now taxi trainer`" in trainer(bench)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ("{cron: '0 0 30 2 *'}", "schedule '0 0 30 2 *' never fires"),
        ("{cron: '0 3 * * *', timezone: Europe/Berlinn}", "No time zone found with key Europe/Berlinn"),
        ("{cron: '0 25 * * *'}", "the last value (25) is higher than the maximum value (23)"),
        ("{cron: nightly}", "Wrong number of fields; got 1, expected 5"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_at_its_line_and_the_last_good_one_stays(
    tmp_path: Path, schedule: str, said: str
) -> None:
    bench = bench_with(tmp_path, NIGHTLY)
    path = tmp_path / "specs/taxi.yaml"
    path.write_text(path.read_text().replace("{cron: '0 3 * * *', timezone: Europe/Berlin}", schedule))
    bench.wanted.reload()
    (problem,) = bench.wanted.problems_of("taxi")
    assert said in problem.message
    assert problem.hint
    assert path.read_text().splitlines()[problem.line - 1].lstrip().startswith("trainer:")
    bench.span(2)
    bench.settle()
    assert "due at 2026-01-01 03:00+01:00" in trainer(bench)


@pytest.mark.parametrize("hours", [1, 24])
def test_a_clock_that_is_set_back_holds_nothing_up_for_longer_than_that(tmp_path: Path, hours: int) -> None:
    bench = bench_with(tmp_path, "min_interval: 1h")
    bench.clock.forward(hours=-hours)
    bench.span(2)
    bench.settle()
    assert trainings(bench) == 2, "an execution of the future is no reason to wait"


def test_summer_time_is_heeded(tmp_path: Path) -> None:
    bench = bench_with(tmp_path, NIGHTLY)
    bench.clock.forward(seconds=(datetime(2026, 7, 1, 12, tzinfo=timezone.utc) - bench.clock.now()).total_seconds())
    bench.span(2)
    bench.settle()
    bench.span(3)
    bench.settle()
    assert "due at 2026-07-02 03:00+02:00" in trainer(bench)
    assert timedelta(hours=2) == datetime.fromisoformat("2026-07-02 03:00+02:00").utcoffset()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def fires(cron: str, after: str, times: int) -> list[str]:
    """The next times that a schedule of Berlin fires, in UTC, each after the one before."""
    found = [at(after)]
    for _ in range(times):
        found.append(next_fire(cron, "Europe/Berlin", found[-1]).astimezone(timezone.utc))
    return [f"{fire:%m-%d %H:%M}" for fire in found[1:]]


def test_a_time_that_summer_time_skips_fires_once_on_that_day() -> None:
    assert fires("30 2 * * *", "2026-03-28T12:00+00:00", 3) == ["03-29 01:30", "03-30 00:30", "03-31 00:30"]


def test_a_time_that_comes_twice_fires_once_unless_it_is_for_every_hour() -> None:
    assert fires("30 2 * * *", "2026-10-24T12:00+00:00", 3) == ["10-25 00:30", "10-26 01:30", "10-27 01:30"]
    assert fires("30 * * * *", "2026-10-24T23:00+00:00", 4) == [
        "10-24 23:30", "10-25 00:30", "10-25 01:30", "10-25 02:30",
    ]  # fmt: skip


@pytest.mark.parametrize("timed", [NIGHTLY, "when: schedule, schedule: {every: 6h}", "min_interval: 6h"])
@pytest.mark.parametrize("hours", [-1, 1, -24 * 365])
def test_a_clock_that_jumps_in_the_middle_of_a_wait_neither_stalls_nor_storms(
    tmp_path: Path, timed: str, hours: int
) -> None:
    bench = bench_with(tmp_path, timed)
    bench.clock.forward(hours=1)
    bench.span(2)
    bench.settle()
    bench.clock.jump(hours=hours)
    for _ in range(26):
        bench.clock.forward(hours=1)
        bench.settle()
    assert trainings(bench) == 2
    assert "reuse trainer" in trainer(bench)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_jumps_in_the_middle_of_a_back_off_neither_stalls_nor_storms(tmp_path: Path, hours: int) -> None:
    bench = bench_with(tmp_path, "timeout: 1h")
    bench.span(2)
    while not bench.running("trainer"):
        bench.tick()
        for request in bench.running():
            if request.node != "trainer":
                bench.finish(request.node, request.key)
        bench.tick()
    bench.fail("trainer", StorageUnavailable("no space left", hint="make room"))
    bench.tick()
    bench.clock.jump(hours=hours)
    attempts = 0
    for _ in range(20):
        bench.tick()
        for _request in bench.running("trainer"):
            bench.fail("trainer", StorageUnavailable("no space left", hint="make room"))
            attempts += 1
        bench.clock.forward(minutes=1)
    assert 1 <= attempts <= 20
    bench.settle()
    bench.clock.forward(minutes=30)
    bench.settle()
    assert "reuse trainer" in trainer(bench)
