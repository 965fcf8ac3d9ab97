"""What is known of the time before a span is read: no daemon, not noticed, not complete, or held up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ctd.core.executions import Execution, State
from ctd.core.history import History
from ctd.core.timing import ManualClock
from ctd.core.work import SourceFile
from ctd.engine.moments import Moments
from ctd.planning.decisions import Decision, Plan, Run, Subject, Wait

SUBJECT = Subject("examples", "", "span-2")


@pytest.fixture
def file(tmp_path: Path) -> SourceFile:
    """A file that came just now, with a time of long ago: it was copied with it."""
    path = tmp_path / "trips.csv"
    path.write_text("fare\n1\n")
    return SourceFile(str(path), 7, 0)


def came(file: SourceFile) -> datetime:
    return datetime.fromtimestamp(Path(file.path).stat().st_ctime, timezone.utc)


def run(file: SourceFile) -> Run:
    return Run(SUBJECT, "new span", "f", {"content": "c", "span": [2, None]}, {}, 1, span=2, files=(file,))


def earlier(file: SourceFile, seconds: float, **changes: object) -> History:
    """Span 1 was read by the daemon before this one, so long before the file came."""
    at = came(file) - timedelta(seconds=seconds)
    read = Execution("taxi", "examples", "example_gen", "span-1", "e", at, epoch=1, id=1, state=State.SUCCEEDED)
    return History([replace(read, **changes)])  # type: ignore[arg-type]  # fields by name


def before(moments: Moments, one: Run, history: History) -> Mapping[str, float]:
    return moments.before("taxi", one, history, epoch=2)


def see(moments: Moments, *decisions: Decision) -> None:
    moments.saw(Plan("taxi", decisions))


def test_while_the_daemon_is_there_it_counts_from_when_the_file_came_whatever_time_was_copied_with_it(
    file: SourceFile,
) -> None:
    clock = ManualClock(came(file) - timedelta(seconds=100))
    moments = Moments(clock)
    clock.forward(seconds=103)
    see(moments, run(file))
    clock.forward(seconds=1)
    assert before(moments, run(file), earlier(file, 50)) == {"notice": 3.0, "settle": 0.0, "wait": 1.0}


def test_a_span_that_came_while_no_daemon_ran_waited_for_one(file: SourceFile) -> None:
    clock = ManualClock(came(file) + timedelta(seconds=500))
    moments = Moments(clock)
    clock.forward(seconds=2)
    see(moments, run(file))
    found = before(moments, run(file), earlier(file, 50))
    assert found == {"down": 500.0, "notice": 2.0, "settle": 0.0, "wait": 0.0}


@pytest.mark.parametrize(
    ("history", "why"),
    [
        pytest.param(lambda file: History(), "the pipeline is new", id="new"),
        pytest.param(lambda file: earlier(file, -50), "it was there while a daemon ran that did not want it", id="old"),
        pytest.param(
            lambda file: earlier(file, 50, key="span-2", ingredients={"content": "c", "span": [2, None]}),
            "the same content was read before",
            id="again",
        ),
    ],
)
def test_where_it_cannot_be_known_when_it_was_wanted_nothing_is_told(
    file: SourceFile, history: object, why: str
) -> None:
    moments = Moments(ManualClock(came(file) + timedelta(seconds=500)))
    see(moments, run(file))
    assert callable(history), why
    assert before(moments, run(file), history(file)) == {"settle": 0.0, "wait": 0.0}


def test_old_spans_that_a_backfill_reads_have_not_come_just_now(file: SourceFile) -> None:
    moments = Moments(ManualClock(came(file) + timedelta(seconds=500)))
    asked = replace(run(file), turn=(7, 1))
    see(moments, asked)
    assert before(moments, asked, earlier(file, 50)) == {"settle": 0.0, "wait": 0.0}


def test_what_holds_a_complete_span_up_is_told_apart_from_its_becoming_complete_and_from_its_slot(
    file: SourceFile,
) -> None:
    clock = ManualClock(came(file))
    moments = Moments(clock)
    see(moments, Wait(SUBJECT, "no _SUCCESS yet", absent=True))
    clock.forward(seconds=3)
    see(moments, Wait(SUBJECT, "paused by ana"))
    clock.forward(seconds=5)
    see(moments, Wait(SUBJECT, "paused by ana"))
    clock.forward(seconds=4)
    see(moments, run(file))
    clock.forward(seconds=2)
    found = before(moments, run(file), earlier(file, 50))
    assert {phase: found[phase] for phase in ("settle", "held", "wait")} == {"settle": 3.0, "held": 9.0, "wait": 2.0}


def test_of_a_further_attempt_only_its_own_wait_is_told(file: SourceFile) -> None:
    clock = ManualClock(came(file))
    moments = Moments(clock)
    again = replace(run(file), attempt=2)
    see(moments, Wait(SUBJECT, "again in 60s"))
    clock.forward(seconds=60)
    see(moments, again)
    clock.forward(seconds=1)
    assert before(moments, again, earlier(file, 50)) == {"wait": 1.0}
