"""Nodes that run by the clock, not too often, or only when asked; and what was missed while nobody was there."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctd.core.errors import BadInput, SpecError, StorageUnavailable
from ctd.watching.schedule import last_fire, next_fire
from tests.flow.bench import MODULE, Bench


def bench_with(tmp_path: Path, trainer: str) -> Bench:
    """A pipeline that has trained on span 1 at midnight, 1 January 2026 (UTC)."""
    bench = started(tmp_path, trainer)
    bench.settle()
    return bench


def bench_that_trains(tmp_path: Path, trainer: str) -> Bench:
    """The same, a moment before its first training ends."""
    bench = started(tmp_path, trainer)
    until_it_trains(bench)
    return bench


def started(tmp_path: Path, trainer: str) -> Bench:
    bench = Bench(tmp_path)
    spec = bench.spec()
    spec.write_text(spec.read_text().replace("{kind: trainer, ", f"{{kind: trainer, {trainer}, "))
    bench.span(1)
    return bench.start()


def trainings(bench: Bench) -> int:
    return sum(e.node == "trainer" for e in bench.history)


def trainer(bench: Bench) -> str:
    return next(line for line in bench.said() if " trainer" in line)


def to(bench: Bench, when: str, *, rest: bool = True) -> None:
    """Let it become this time (UTC)."""
    bench.clock.forward(seconds=(datetime.fromisoformat(f"{when}+00:00") - bench.clock.now()).total_seconds())
    if rest:
        bench.settle()


NIGHTLY_UTC = "when: schedule, schedule: {cron: '0 3 * * *'}"
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


@pytest.mark.parametrize("restarted", [False, True])
def test_after_an_idle_night_what_comes_by_day_waits_for_the_next_night(tmp_path: Path, restarted: bool) -> None:
    bench = bench_with(tmp_path, NIGHTLY_UTC)
    to(bench, "2026-01-01T12:00")
    if restarted:
        bench.kill()
        bench.start().settle()
    for night, span in ((3, 2), (7, 3)):
        to(bench, f"2026-01-{night - 1:02}T02:59")
        to(bench, f"2026-01-{night - 1:02}T03:00")
        to(bench, f"2026-01-{night - 1:02}T16:00")
        bench.span(span)
        bench.settle()
        assert f"due at 2026-01-{night:02} 03:00" in trainer(bench)
        to(bench, f"2026-01-{night:02}T02:59")
        assert trainings(bench) == span - 1
        to(bench, f"2026-01-{night:02}T03:00")
        assert trainings(bench) == span


def test_data_that_comes_at_the_very_time_or_is_on_its_way_then_is_trained_on_that_night(tmp_path: Path) -> None:
    bench = bench_with(tmp_path, NIGHTLY_UTC)
    to(bench, "2026-01-02T02:50")
    bench.span(2)
    bench.tick()
    bench.clock.forward(minutes=30)
    bench.settle()
    assert trainings(bench) == 2, "reading began before three and ended after it"
    to(bench, "2026-01-03T03:00")
    bench.span(3)
    bench.settle()
    assert trainings(bench) == 3


def test_what_was_wanted_at_its_time_and_could_not_begin_is_made_up_for(tmp_path: Path) -> None:
    bench = bench_with(tmp_path, NIGHTLY_UTC)
    to(bench, "2026-01-01T16:00")
    bench.span(2)
    bench.settle()
    bench.ask("pause", "trainer")
    to(bench, "2026-01-02T09:00")
    bench.ask("resume", "trainer")
    bench.settle()
    assert trainings(bench) == 2


def test_an_edit_after_an_idle_night_counts_as_wanted_since_the_last_training(tmp_path: Path) -> None:
    bench = bench_with(tmp_path, NIGHTLY_UTC)
    bench.clock.forward(hours=1)
    (tmp_path / "model.py").write_text("def run_fn(fn_args):\n    return 1\n")
    bench.settle()
    assert trainings(bench) == 1, "no night has passed since"
    (tmp_path / "model.py").write_text(MODULE)
    to(bench, "2026-01-02T16:00")
    (tmp_path / "model.py").write_text("def run_fn(fn_args):\n    return 1\n")
    bench.settle()
    assert trainings(bench) == 2


def until_it_trains(bench: Bench) -> None:
    for _ in range(50):
        bench.tick()
        if bench.running("trainer"):
            return
        for request in bench.running():
            if request.node != "trainer":
                bench.finish(request.node, request.key)
    raise AssertionError(f"it does not train: {trainer(bench)}")


@pytest.mark.parametrize("timed", ["NIGHTLY", "min_interval: 24h", "when: schedule, schedule: {every: 24h}"])
def test_a_training_that_failed_is_made_up_for_as_soon_as_it_is_mended(tmp_path: Path, timed: str) -> None:
    bench = bench_with(tmp_path, timed.replace("NIGHTLY", NIGHTLY_UTC))
    to(bench, "2026-01-01T20:00")
    bench.span(2)
    bench.settle()
    to(bench, "2026-01-02T03:00", rest=False)
    until_it_trains(bench)
    bench.fail("trainer", BadInput("run_fn raised", hint="mend it"))
    bench.tick()
    bench.clock.forward(minutes=5)
    (tmp_path / "model.py").write_text("def run_fn(fn_args):\n    return 1\n")
    bench.settle()
    assert [e.state.value for e in bench.executions("trainer")] == ["succeeded", "failed", "succeeded"]
    bench.span(3)
    bench.settle()
    assert trainings(bench) == 3, "that was the turn"


@pytest.mark.parametrize("timed", ["NIGHTLY", "min_interval: 24h"])
def test_a_first_training_that_failed_does_not_wait_when_it_is_mended(tmp_path: Path, timed: str) -> None:
    bench = bench_that_trains(tmp_path, timed.replace("NIGHTLY", NIGHTLY_UTC))
    bench.fail("trainer", BadInput("run_fn raised", hint="mend it"))
    bench.tick()
    (tmp_path / "model.py").write_text("def run_fn(fn_args):\n    return 1\n")
    bench.settle()
    assert [e.state.value for e in bench.executions("trainer")] == ["failed", "succeeded"]


@pytest.mark.parametrize("timed", ["NIGHTLY", "min_interval: 24h", "when: manual"])
def test_a_training_that_died_with_the_daemon_is_made_up_for_with_the_newest_data(tmp_path: Path, timed: str) -> None:
    bench = bench_with(tmp_path, timed.replace("NIGHTLY", NIGHTLY_UTC))
    bench.span(2)
    bench.settle()
    to(bench, "2026-01-02T03:00", rest=False)
    if timed == "when: manual":
        bench.ask("run-now", "trainer")
    until_it_trains(bench)
    bench.clock.forward(minutes=10)
    bench.kill()
    bench.span(3)
    bench.start().settle()
    assert [e.state.value for e in bench.executions("trainer")][-2:] == ["abandoned", "succeeded"]
    assert bench.trained_on()[-2:] == ["spans 1..2 (2)", "spans 1..3 (3)"]


@pytest.mark.parametrize("timed", ["NIGHTLY", "min_interval: 24h"])
def test_a_training_that_somebody_stopped_has_had_its_turn(tmp_path: Path, timed: str) -> None:
    bench = bench_that_trains(tmp_path, timed.replace("NIGHTLY", NIGHTLY_UTC))
    bench.ask("cancel", "trainer")
    bench.tick()
    bench.span(2)
    bench.settle()
    assert [e.state.value for e in bench.executions("trainer")] == ["cancelled"]
    bench.clock.forward(hours=24)
    bench.settle()
    assert bench.trained_on()[-1] == "spans 1..2 (2)"


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
    assert fires("30 2 * * *", "2026-03-29T01:10+00:00", 2) == ["03-29 01:30", "03-30 00:30"], "seen from 03:10"
    assert fires("30 2 * * *", "2026-03-28T12:00+00:00", 3) == ["03-29 01:30", "03-30 00:30", "03-31 00:30"]


def test_times_of_an_hour_that_comes_twice_fire_once_each() -> None:
    assert fires("*/20 2 * * *", "2026-10-24T12:00+00:00", 4) == [
        "10-25 00:00", "10-25 00:20", "10-25 00:40", "10-26 01:00",
    ]  # fmt: skip


def test_a_time_that_comes_twice_fires_once_unless_it_is_for_every_hour() -> None:
    assert fires("30 2 * * *", "2026-10-24T12:00+00:00", 3) == ["10-25 00:30", "10-26 01:30", "10-27 01:30"]
    assert fires("30 * * * *", "2026-10-24T23:00+00:00", 4) == [
        "10-24 23:30", "10-25 00:30", "10-25 01:30", "10-25 02:30",
    ]  # fmt: skip


WEEK = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@pytest.mark.parametrize(
    ("weekday", "days"),
    [
        ("0", "sun"), ("7", "sun"), ("1", "mon"), ("6", "sat"), ("sun", "sun"), ("Mon", "mon"), ("sat", "sat"),
        ("1-5", "mon tue wed thu fri"), ("mon-fri", "mon tue wed thu fri"), ("0-2", "sun mon tue"),
        ("5,6", "fri sat"), ("6-7", "sun sat"), ("sat-sun", "sun sat"), ("5-7", "sun fri sat"), ("0,6", "sun sat"),
        ("0,7", "sun"), ("0-0", "sun"), ("0-7", " ".join(WEEK)), ("mon-sun", " ".join(WEEK)), ("*", " ".join(WEEK)),
        ("*/2", "sun tue thu sat"), ("*/3", "sun wed sat"), ("1-5/2", "mon wed fri"), ("1-7/3", "sun mon thu"),
        ("wed,5-6", "wed fri sat"), ("mon,wed,7", "sun mon wed"),
    ],
)  # fmt: skip
def test_weekdays_are_those_of_crontab(weekday: str, days: str) -> None:
    found, fire = set(), at("2026-01-01T00:00+00:00")
    for _ in range(14):
        fire = next_fire(f"0 3 * * {weekday}", "UTC", fire)
        found.add(WEEK[fire.isoweekday() % 7])
    assert found == set(days.split())


@pytest.mark.parametrize(
    ("cron", "dates"),
    [
        ("0 3 13 * fri", [2, 9, 13, 16, 23, 30]),
        ("0 3 1,15 * 1", [1, 5, 12, 15, 19, 26]),
        ("0 3 1-3 * 0", [1, 2, 3, 4, 11, 18, 25]),
        ("0 3 */10 * *", [1, 11, 21, 31]),
        ("0 3 */2 * 1", [5, 19]),  # a star in one of them: both must hold
        ("0 3 12-13 * */2", [13]),
        ("0 3 30 1 sun", [4, 11, 18, 25, 30]),
        ("0 3 31 * *", [31]),
    ],
)
def test_of_a_day_of_the_month_and_a_weekday_either_is_enough_as_in_crontab(cron: str, dates: list[int]) -> None:
    found, fire = [], at("2025-12-31T12:00+00:00")
    while (fire := next_fire(cron, "UTC", fire)) < at("2026-02-01T00:00+00:00"):
        found.append(fire.day)
    assert found == dates


@pytest.mark.parametrize("weekday", ["8", "1-8", "5-2", "fri-mon", "5/2", "*/0", "1-5/0", "sunday", "", "1,,2", "-1"])
def test_what_names_no_weekdays_is_refused(weekday: str) -> None:
    with pytest.raises(SpecError, match=r"schedule '0 3 \* \* ") as refused:
        next_fire(f"0 3 * * {weekday}", "UTC", at("2026-01-01T00:00+00:00"))
    assert "minute hour day month weekday" in refused.value.hint


@given(
    st.sampled_from(["* * * * *", "*/7 3-5 * * *", "30 2 * * *", "0 3 * * 0", "0 0 29 2 *", "5 4 13 * 5", "0 * 1 1 *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
    st.integers(0, 600 * 86_400).map(lambda s: at("2025-03-01T00:00+00:00") + timedelta(seconds=s)),
)
def test_the_last_time_that_has_come_is_followed_by_the_next_one(cron: str, zone: str, now: datetime) -> None:
    last = last_fire(cron, zone, now)
    assert last is not None
    assert last <= now < next_fire(cron, zone, last)
    assert next_fire(cron, zone, last) == next_fire(cron, zone, now)
    # In UTC: a time that is none where clocks stand is equal to nothing.
    assert next_fire(cron, zone, last - timedelta(microseconds=1)).astimezone(timezone.utc) == last
    assert last_fire(cron, zone, last) == last


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
    until_it_trains(bench)
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
