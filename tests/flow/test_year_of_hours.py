"""A year of an hourly feed, told chapter by chapter: what arrives, what goes wrong, and what is in the windows then.

A shop in Berlin writes a folder for each hour, named by the clock on its wall. From the first hour of 2026 on 8,760
hours pass. The days on which something happens are lived through hour by hour. Of the quiet stretches between them the
last week comes at once, as it does when the shop was offline; what was written before goes to an archive unread, and so
do hours of which the pipeline needs nothing any more: to work on each of them would take minutes, and tell nothing new.
At the end all of them are brought back, and the year is on disk.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import FrameType
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ctd.api.models import PipelineView
from ctd.core.executions import State
from ctd.core.failpoints import FailpointHit, arm
from tests.flow.bench import Bench

SPEC = """\
pipeline: taxi
module: ../model.py
nodes:
  examples:
    kind: example_gen
    input: "../data/{{YYYY}}/{{MM}}/{{DD}}/{{HH}}"
    timezone: Europe/Berlin
    max_lateness: 12h
    stale_after: 3h
    keep: {{spans: 48}}
    deny: [{deny}]
    start: {start}
  statistics: {{kind: statistics_gen, keep: {{spans: 48}}}}
  schema: {{kind: importer, artifact: Schema, path: ../schema.pbtxt}}
  validator: {{kind: example_validator, on_anomaly: quarantine{drift}, keep: {{spans: 72, versions: 2}}}}
  trainer: {{kind: trainer, window: 24, on_gap: wait, train_steps: {steps}, keep: {{newest: 3}}}}
"""
BERLIN = ZoneInfo("Europe/Berlin")
HOURS = 8760
WEEK = 24 * 7
Folder = str
"""An hour as the shop names it, `2026/03/29/03`."""


class Shop:
    """What writes the hours, and the daemon that reads them."""

    def __init__(self, root: Path) -> None:
        self.bench = Bench(root)
        self.archive = root / "archive"
        self.said: dict[str, Any] = {"deny": "", "start": "2026-01-01", "drift": "", "steps": 100}
        self.edit()
        self.bench.start()
        self.first = self.bench.clock.now()
        self.hours = 0  # that have passed

    # What the shop does.

    def edit(self, **said: Any) -> None:
        """Save the spec with other settings."""
        self.said |= said
        (self.bench.root / "specs/taxi.yaml").write_text(SPEC.format(**self.said))

    def name(self, hour: int) -> Folder:
        """What the clock on the wall shows when an hour begins, counted from the first of the year."""
        began = self.first - timedelta(hours=1) + timedelta(hours=hour)
        return f"{began.astimezone(BERLIN):%Y/%m/%d/%H}"

    def write(self, hour: Folder, text: str = "") -> None:
        folder = self.bench.root / "data" / hour
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "trips.csv").write_text(text or f"fare\n{hour}\n")
        (folder / "_SUCCESS").touch()

    def passes(self, hours: int = 1, *, but: tuple[Folder, ...] = ()) -> None:
        """So many hours pass. Each is written when it ends, `but` some; an hour that comes again adds to its folder."""
        for _ in range(hours):
            hour = self.name(self.hours)
            again = self.name(self.hours - 1) == hour
            if hour not in but:
                self.write(hour, f"fare\n{hour}\nthe second\n" if again else "")
            self.hours += 1
        self.bench.clock.forward(hours=hours)

    def until(self, day: str) -> None:
        """A quiet stretch up to midnight of that day: its last week comes at once, all before is archived unread."""
        midnight = datetime.fromisoformat(day).replace(tzinfo=BERLIN)
        left = int((midnight - self.first) / timedelta(hours=1)) + 1 - self.hours
        if left > WEEK:
            self.passes(left - WEEK)
            self.put_away()
            left = WEEK
        self.passes(left)
        self.bench.settle()
        self.put_away()
        self.bench.settle()
        self.at_rest()

    def hourly(self, hours: int, *, but: tuple[Folder, ...] = ()) -> None:
        """So many hours, each worked on before the next."""
        for _ in range(hours):
            self.passes(but=but)
            self.bench.settle()

    def put_away(self) -> None:
        """All but the newest two days goes to the archive."""
        folders = sorted((self.bench.root / "data").glob("*/*/*/*"))
        for folder in folders[:-48]:
            to = self.archive / folder.relative_to(self.bench.root / "data")
            to.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(to)

    # What there is to see.

    @property
    def seen(self) -> PipelineView:
        """What `ctd status` says of it."""
        return self.bench.views().status().pipelines[0]

    def at_rest(self, *windows: str, again: bool = False) -> None:
        """All is as wanted, nothing was done twice, and these were the last windows."""
        self.bench.check(again=again)
        assert self.seen.state == "as wanted", self.bench.said()
        assert tuple(self.bench.trained_on()[-len(windows) :]) == windows or not windows
        assert self.bench.executions(state=State.RUNNING) == []

    def at_rest_but_waiting(self, *windows: str) -> None:
        """Nothing goes on, and somebody has to look or something to come."""
        self.bench.check()
        assert self.seen.state == "waiting", self.bench.said()
        assert tuple(self.bench.trained_on()[-len(windows) :]) == windows

    def compared_with(self, hour: str) -> str:
        """The baseline of the last verdict on an hour."""
        last = [e for e in self.bench.executions("validator") if e.key == f"span-{hour}"][-1]
        (id_,) = last.inputs["previous_statistics"]
        artifacts = (a for e in self.bench.executions("statistics") for a in e.outputs.get("statistics", ()))
        made = next(a for a in artifacts if a.id == id_)
        return f"{datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(hours=made.span or 0):%Y-%m-%dT%H}"

    def kept(self, place: str) -> list[str]:
        """The results that are on disk."""
        return sorted(p.name for p in (self.bench.root / "state/artifacts/taxi" / place).iterdir())

    def read(self, hour: str) -> int:
        """How often an hour was read."""
        done = self.bench.executions("examples", State.SUCCEEDED)
        return sum(e.key == f"span-{hour}" for e in done)

    def refuse(self, hour: str) -> None:
        """The hour that has come last is read, and the validator refuses it."""
        for node in ("examples", "statistics"):
            self.bench.tick()
            self.bench.finish(node, f"span-{hour}")
        self.bench.tick()
        self.bench.finish("validator", f"span-{hour}", blessed=0, reason="fare: out of range")
        self.bench.settle()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    arm("")
    made.bench.kill()


def test_a_year_of_hours(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    new_year(shop)
    hours_that_come_late(shop)
    shop.until("2026-02-01")
    in_winter = work_of_an_hour(shop)
    spring(shop)
    an_exception(shop)
    half_way(shop)
    the_power_fails(shop)
    autumn(shop)
    an_hour_that_never_comes(shop)
    shop.until("2026-12-30")
    grown = {name: (n, in_winter[name]) for name, n in work_of_an_hour(shop).items() if n > 1.1 * in_winter[name] + 10}
    assert grown == {}, "a plan costs as much as there are spans, and not as much as there ever were"
    new_years_eve(shop, monkeypatch)


def new_year(shop: Shop) -> None:
    """A day hour by hour, and over midnight: each hour is one training, on what there is of the newest 24."""
    shop.hourly(26)
    trained, first = shop.bench.trained_on(), "spans 2026-01-01T00.."
    assert len(trained) == 26
    assert trained[:3] == ["span-2026-01-01T00", f"{first}2026-01-01T01 (2)", f"{first}2026-01-01T02 (3)"]
    shop.at_rest(window("01-01T00", "01-01T23"), window("01-01T01", "01-02T00"), window("01-01T02", "01-02T01"))


def hours_that_come_late(shop: Shop) -> None:
    """One that comes in time is waited for; one that comes too late is gone without, until somebody lets it in."""
    shop.hourly(3, but=("2026/01/02/03",))
    assert shop.seen.state == "waiting"
    assert "span 2026-01-02T03 has not arrived, and on_gap says wait" in shop.bench.of("trainer")
    shop.at_rest_but_waiting(window("01-01T03", "01-02T02"))
    shop.write("2026/01/02/03")
    shop.bench.settle()
    shop.at_rest(window("01-01T03", "01-02T02"), window("01-01T05", "01-02T04"))

    shop.hourly(2, but=("2026/01/02/05",))
    shop.passes(13)
    shop.bench.settle()
    shop.at_rest_but_waiting(window("01-01T05", "01-02T04"))
    shop.write("2026/01/02/05")
    shop.bench.settle()
    assert "it came 13h00m after span 2026-01-02T06, later than max_lateness 12h00m" in shop.bench.of("trainer")
    shop.at_rest(window("01-01T05", "01-02T04"), window("01-01T19", "01-02T19"))
    shop.bench.ask("backfill", first="2026-01-02T05", last="2026-01-02T05")
    shop.bench.settle()
    assert shop.read("2026-01-02T05") == 1, "it was read when it came"
    shop.at_rest(window("01-01T19", "01-02T19"), window("01-01T20", "01-02T19"))


def spring(shop: Shop) -> None:
    """The clock skips an hour: no gap, and a day of 23. An hour is corrected, in a window and out of all."""
    shop.until("2026-03-29")
    shop.hourly(5)
    assert "span-2026-03-29T02" not in {e.key for e in shop.bench.executions("examples")}
    shop.at_rest(window("03-28T03", "03-29T03"), window("03-28T04", "03-29T04"), window("03-28T05", "03-29T05"))

    trained = len(shop.bench.trained_on())
    shop.write("2026/03/29/01", "fare\ncorrected\n")
    shop.bench.settle()
    assert shop.read("2026-03-29T01") == 2
    assert len(shop.bench.trained_on()) == trained + 1
    shop.at_rest(*[window("03-28T05", "03-29T05")] * 2)
    shop.write("2026/03/28/04", "fare\ncorrected\n")
    shop.bench.settle()
    assert shop.read("2026-03-28T04") == 2
    assert len(shop.bench.trained_on()) == trained + 1, "no window reaches back to it any more"
    shop.at_rest()


def an_exception(shop: Shop) -> None:
    """An hour is refused, and accepted as it is. The hours after it are not compared with it."""
    shop.until("2026-06-20")
    shop.edit(drift=", drift: {fare: 0.1}")
    shop.bench.settle()
    shop.at_rest()
    trained = shop.bench.trained_on()
    shop.passes()
    shop.refuse("2026-06-20T00")
    assert shop.seen.state == "waiting"
    assert "ctd accept taxi 2026-06-20T00 --reason" in shop.seen.suggestions[0]
    assert shop.bench.trained_on() == trained, "nothing is new in the window"
    shop.hourly(1)
    assert shop.compared_with("2026-06-20T01") == "2026-06-19T23"
    shop.at_rest_but_waiting(window("06-19T01", "06-20T01"))
    shop.bench.ask("accept", span="2026-06-20T00")
    shop.bench.settle()
    shop.at_rest(window("06-19T01", "06-20T01"), window("06-19T02", "06-20T01"))
    shop.hourly(1)
    assert shop.compared_with("2026-06-20T01") == "2026-06-19T23", "an exception is no baseline"
    assert shop.compared_with("2026-06-20T02") == "2026-06-20T01"
    shop.at_rest(window("06-19T03", "06-20T02"))
    shop.edit(drift="")  # the verdicts of before are still there
    shop.bench.settle()
    shop.at_rest()


def half_way(shop: Shop) -> None:
    """An edit trains once, on the newest window; taken back, it trains nothing. Only the last models are kept."""
    shop.until("2026-07-02")
    trained, read = len(shop.bench.trained_on()), len(shop.bench.executions("examples"))
    shop.edit(steps=200)
    shop.bench.settle()
    shop.at_rest(*[window("07-01T00", "07-01T23")] * 2)
    shop.edit(steps=100)
    shop.bench.settle()
    assert (len(shop.bench.trained_on()), len(shop.bench.executions("examples"))) == (trained + 1, read)
    assert len(shop.kept("trainer/model")) == 3
    shop.at_rest()


def the_power_fails(shop: Shop) -> None:
    """In the midst of a day that comes at once; before results are unlinked; after a training that nobody recorded."""
    bench = shop.bench
    shop.until("2026-08-13")
    shop.passes(24)
    bench.tick()
    for request in bench.running("examples")[:10]:
        bench.finish("examples", request.key)
    bench.kill()
    bench.start()
    assert len(bench.executions("examples", State.ABANDONED)) == 24
    bench.tick()
    bench.finish("examples", "span-2026-08-13T00")
    bench.tick()
    bench.kill()
    bench.start().settle()
    assert {shop.read(f"2026-08-13T{hour:02}") for hour in range(24)} == {1}
    shop.at_rest(window("08-13T00", "08-13T23"))

    shop.passes(3)
    arm("gc.before_unlink=raise:2")
    with pytest.raises(FailpointHit):
        bench.settle()
    arm("")
    bench.kill()
    bench.start().settle()
    shop.at_rest(window("08-13T03", "08-14T02"))

    shop.passes()
    for node in ("examples", "statistics", "validator"):
        bench.tick()
        bench.finish(node)
    bench.tick()
    bench.store.mute = {"finish"}
    bench.finish("trainer")
    bench.tick()
    bench.kill()
    bench.store.mute = set()
    bench.start().settle()
    shop.at_rest(window("08-13T03", "08-14T02"), window("08-13T04", "08-14T03"))


def autumn(shop: Shop) -> None:
    """The clock shows an hour twice: its folder is read again, although the power fails over that."""
    shop.until("2026-10-25")
    shop.hourly(3)
    assert (shop.name(shop.hours - 1), shop.name(shop.hours)) == ("2026/10/25/02",) * 2
    shop.at_rest(window("10-24T03", "10-25T02"))
    shop.passes()
    shop.bench.tick()
    assert [r.key for r in shop.bench.running("examples")] == ["span-2026-10-25T02"]
    shop.bench.kill()
    shop.bench.start().settle()
    assert shop.read("2026-10-25T02") == 2
    shop.at_rest(*[window("10-24T03", "10-25T02")] * 2)
    shop.hourly(1)
    shop.at_rest(window("10-24T04", "10-25T03"))


def an_hour_that_never_comes(shop: Shop) -> None:
    """The shop is silent for a night, and one of its hours is lost: the window waits, until somebody denies it."""
    shop.until("2026-12-10")
    shop.bench.clock.forward(hours=3)
    shop.bench.settle()
    assert shop.seen.state == "waiting"
    assert "no new span since 2026-12-10 00:00 UTC (stale_after 3h00m)" in shop.seen.alerts[0]
    shop.bench.clock.forward(hours=-3)  # what passed is made up for below
    shop.passes(4, but=("2026/12/10/01",))
    shop.bench.settle()
    assert shop.seen.alerts == []
    shop.at_rest_but_waiting(window("12-09T00", "12-09T23"))
    assert "span 2026-12-10T01 has not arrived" in shop.bench.of("trainer")
    shop.edit(deny="2026-12-10T01")
    shop.bench.settle()
    shop.at_rest(window("12-09T00", "12-09T23"), window("12-09T03", "12-10T03"))


def new_years_eve(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive is brought back: a year of folders, and of all that nothing is opened but what somebody asks for."""
    bench = shop.bench
    shop.passes(HOURS - shop.hours)
    bench.settle()
    shop.at_rest(window("12-31T00", "12-31T23"))
    worked = max(e.id for e in bench.executions())
    shop.edit(start="2026-12-30")
    bench.settle()
    for folder in sorted(shop.archive.glob("*/*/*/*")):
        to = bench.root / "data" / folder.relative_to(shop.archive)
        to.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(to)
    names = {shop.name(hour) for hour in range(HOURS)}
    assert len(names) == HOURS - 1, "one lacks in March, which is no name, and one in October is for two hours"
    on_disk = {"/".join(path.parts[-4:]) for path in (bench.root / "data").glob("*/*/*/*")}
    assert names - on_disk == {"2026/12/10/01"}
    opened = Opened(monkeypatch)
    bench.settle()
    asked_for = "2026-01-02T05"
    assert set(opened.hours()) == {"2026/01/02/05"}, "somebody had asked for it; its results had been collected"
    assert {e.key for e in bench.executions() if e.id > worked} == {f"span-{asked_for}"}
    unread = len(on_disk) - 48 - 1
    assert f"{unread} spans before 2026-12-30T00 are not read (start)" in shop.seen.notes[0]
    assert len(bench.decisions()) <= 4 * 49 + 2, "one of each piece for each span from `start` on"
    shop.at_rest(window("12-31T00", "12-31T23"), again=True)

    done = max(e.id for e in bench.executions())
    bench.kill()
    bench.start().settle()
    assert {hour[:10] for hour in opened.hours()} == {"2026/01/02", "2026/12/30", "2026/12/31"}
    assert max(e.id for e in bench.executions()) == done, "a restart does nothing again"
    bench.ask("backfill", first="2026-03-29", last="2026-03-29")
    bench.settle()
    day = [e.key for e in bench.executions("examples") if e.id > done]
    assert sorted(day) == [f"span-2026-03-29T{hour:02}" for hour in range(24) if hour != 2], "23 hours has that day"
    shop.at_rest(window("12-31T00", "12-31T23"), again=True)


def window(first: str, last: str) -> str:
    """The newest 24 hours."""
    return f"spans 2026-{first}..2026-{last} (24)"


def work_of_an_hour(shop: Shop) -> Counter[str]:
    """How often each function of the planner is called until the next hour is trained on: a count, not a time."""
    shop.passes()
    calls: Counter[str] = Counter()

    def seen(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and "/ctd/planning/" in code.co_filename:
            calls[f"{Path(code.co_filename).stem}.{code.co_name}"] += 1

    sys.setprofile(seen)
    try:
        shop.bench.settle()
    finally:
        sys.setprofile(None)
    return calls


class Opened:
    """Which hours are opened by this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._paths: list[str] = []
        really = os.open

        def noted(path: str, *more: int, **besides: int) -> int:
            self._paths.append(str(path))
            return really(path, *more, **besides)

        monkeypatch.setattr(os, "open", noted)

    def hours(self) -> list[Folder]:
        """Since the last time that somebody asked."""
        opened, self._paths = self._paths, []
        return ["/".join(Path(path).parent.parts[-4:]) for path in opened if path.endswith("/trips.csv")]
