"""The daemon dies at any moment; its successor finds what it left and reaches the same end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ctd.core.errors import StoreUnavailable
from ctd.core.executions import State
from ctd.core.failpoints import FailpointHit, arm
from ctd.engine.processes import STAGING_VARIABLE, facts
from tests.flow.bench import Bench

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.spec()
    made.span(1)
    return made.start()


@pytest.fixture(autouse=True)
def _disarmed() -> object:
    yield
    arm("")


POINTS = [
    "store.after_intent", "store.before_commit", "store.after_commit",
    "art.before_rename", "art.after_rename", "art.after_dirsync",
]  # fmt: skip


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("hit", range(1, 9))
def test_it_dies_at_a_named_point(bench: Bench, point: str, hit: int) -> None:
    bench.settle()
    bench.span(2)
    arm(f"{point}=raise:{hit}")
    with contextlib.suppress(FailpointHit):
        bench.settle()
    arm("")
    bench.kill()
    bench.start().settle()
    assert bench.trained_on()[-1] == "spans 1..2 (2)"
    assert not bench.executions(state=State.RUNNING)
    bench.check()


def test_it_is_stopped_while_something_runs_and_goes_on_without_a_lost_attempt(bench: Bench) -> None:
    for _ in range(20):
        bench.tick()
        bench.stop()
        bench.start()
    bench.settle()
    (done,) = bench.executions("trainer", State.SUCCEEDED)
    assert done.key == "span-1"
    assert not bench.executions(state=State.FAILED)
    bench.check()


def test_it_dies_in_the_middle_of_recovery(bench: Bench) -> None:
    bench.span(2)
    bench.tick()
    bench.kill()
    running = len(bench.executions(state=State.RUNNING))
    assert running == 3
    arm("gc.mid_tree=raise:2")
    with pytest.raises(FailpointHit):
        bench.start()
    arm("")
    assert 0 < len(bench.executions(state=State.RUNNING)) < running
    bench.store.away = {"finish"}
    with pytest.raises(StoreUnavailable):
        bench.start()
    bench.store.away = set()
    bench.start().settle()
    assert bench.trained_on() == ["spans 1..2 (2)"]
    bench.check()


def test_leftovers_of_unknown_origin_in_staging_are_swept(bench: Bench) -> None:
    bench.settle()
    for name in ("99/examples", "gone-artifacts-taxi-7", ".half"):
        (bench.root / "state/staging" / name).mkdir(parents=True)
    bench.kill()
    bench.start().settle()
    assert not any((bench.root / "state/staging").iterdir())


def test_what_a_worker_started_is_killed_with_the_abandoned_execution(bench: Bench) -> None:
    bench.tick()
    (request,) = bench.running("examples")
    staging = str(bench.root / "state/staging" / str(request.execution_id))
    assert staging == request.staging
    worker = subprocess.Popen(SLEEP, start_new_session=True)
    stray = subprocess.Popen(SLEEP, start_new_session=True, env={**os.environ, STAGING_VARIABLE: staging})
    stranger = subprocess.Popen(SLEEP, start_new_session=True, env={**os.environ, STAGING_VARIABLE: staging + "0"})
    try:
        known = bench.history.execution(request.execution_id)
        assert known
        bench.store.note_process(replace(known, process=facts(worker.pid)))
        bench.kill()
        bench.start()
        assert worker.wait(100) == -signal.SIGKILL
        assert stray.wait(100) == -signal.SIGKILL
        assert stranger.poll() is None
    finally:
        for process in (worker, stray, stranger):
            process.kill()
            process.wait()


def test_a_daemon_that_keeps_dying_in_one_execution_slows_it_down_and_then_leaves_it(bench: Bench) -> None:
    bench.settle()
    bench.span(2)
    starts = 0
    for _ in range(40):
        bench.tick()
        starts += bool(bench.running("examples"))
        bench.kill()
        bench.start()
        bench.clock.forward(seconds=20)
    assert starts < 15
    assert "the daemon died" in (bench.tick() and bench.of("examples"))
    assert "left out span 2" in bench.of("trainer")
    bench.span(3)
    bench.settle()
    assert bench.trained_on()[-1] == "spans 1..3 (2)"
