"""Newer data while older is worked on: what waits is not begun, and what runs may give way, but not for ever."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ctd.core.errors import WorkerLost
from ctd.core.executions import SUPERSEDED, State
from ctd.planning.supersede import MOST
from tests.flow.bench import Bench

HASTY = "supersede: running"


def training(tmp_path: Path, said: str = HASTY, **limits: int) -> Bench:
    """A pipeline whose first training runs, on span 1."""
    bench = Bench(tmp_path, **limits)
    spec = bench.spec()
    spec.write_text(
        spec.read_text().replace("{kind: trainer, ", f"{{kind: trainer, {said}, " if said else "{kind: trainer, ")
    )
    bench.span(1)
    bench.start().tick()
    above(bench)
    assert [r.key for r in bench.running()] == ["span-1"]
    return bench


def above(bench: Bench) -> None:
    """All that runs but the trainer succeeds, until nothing but the trainer runs."""
    bench.tick()
    while nodes := {r.node for r in bench.running()} - {"trainer"}:
        bench.finish(sorted(nodes)[0])
        bench.tick()
    bench.tick()  # what was stopped has ended


def arrive(bench: Bench, number: int) -> None:
    bench.span(number)
    above(bench)


def test_by_default_what_runs_ends_and_what_waited_gives_way(tmp_path: Path) -> None:
    bench = training(tmp_path, said="")
    for number in (2, 3, 4):
        arrive(bench, number)
    assert "wait trainer spans 2..4 (3): execution" in bench.of("trainer")
    bench.settle()
    assert bench.trained_on() == ["span-1", "spans 2..4 (3)"]
    assert bench.executions(state=State.CANCELLED) == []
    bench.check()


def test_what_runs_is_stopped_for_newer_data_and_says_for_which(tmp_path: Path) -> None:
    bench = training(tmp_path)
    arrive(bench, 2)
    (old,) = bench.executions("trainer", State.CANCELLED)
    assert old.failure is not None
    assert (old.failure.kind, old.failure.retryable) == (SUPERSEDED, False)
    assert old.failure.message == "superseded by trainer spans 1..2 (2)"
    (new,) = bench.running("trainer")
    assert new.key == "spans 1..2 (2)"
    made = bench.controller.plans["taxi"]
    assert not made.failed, "it is no failure"
    bench.settle()
    assert [e.state for e in bench.executions("trainer")] == [State.CANCELLED, State.SUCCEEDED]
    bench.check()


def test_it_goes_on_until_the_newer_work_could_begin(tmp_path: Path) -> None:
    bench = training(tmp_path)
    bench.span(2)
    bench.tick()
    bench.finish("examples", "span-2")
    bench.tick()
    assert [r.key for r in bench.running("trainer")] == ["span-1"]
    assert bench.executions(state=State.CANCELLED) == []


@pytest.mark.parametrize(
    "said", ["min_interval: 1h", "when: schedule, schedule: {cron: '0 3 * * *'}", "approval: true"]
)
def test_it_does_not_give_way_to_what_may_not_begin_yet(tmp_path: Path, said: str) -> None:
    bench = training(tmp_path) if "approval" in said else training(tmp_path, f"{HASTY}, {said}")
    if "approval" in said:
        spec = bench.root / "specs/taxi.yaml"
        spec.write_text(spec.read_text().replace(HASTY, f"{HASTY}, {said}"))
    arrive(bench, 2)
    assert [r.key for r in bench.running("trainer")] == ["span-1"]
    assert "is still running on span-1" in bench.of("trainer")


def test_a_paused_node_stops_nothing(tmp_path: Path) -> None:
    bench = training(tmp_path)
    bench.ask("pause", "trainer")
    arrive(bench, 2)
    assert [r.key for r in bench.running("trainer")] == ["span-1"]
    bench.ask("resume", "trainer")
    above(bench)
    assert [r.key for r in bench.running("trainer")] == ["spans 1..2 (2)"]


def test_a_feed_that_is_faster_than_training_gets_its_models_too(tmp_path: Path) -> None:
    bench = training(tmp_path)
    finished = 0
    for number in range(2, 20):
        arrive(bench, number)
        (running,) = bench.running("trainer")
        if "are superseded" in bench.of("trainer") or "let finish" in bench.of("trainer"):
            assert f"{MOST} before it were superseded, so it is let finish" in bench.of("trainer")
            bench._succeed(running)
            bench.tick()
            finished += 1
    states = [e.state for e in bench.executions("trainer")]
    assert finished >= 3
    for first in range(len(states) - MOST):
        assert states[first : first + MOST + 1] != [State.CANCELLED] * (MOST + 1)
    bench.settle()
    assert bench.trained_on()[-1] == "spans 17..19 (3)"
    bench.check()


def test_the_count_of_those_that_gave_way_outlives_a_restart_and_failures(tmp_path: Path) -> None:
    bench = training(tmp_path)
    for number in range(2, 2 + MOST):
        arrive(bench, number)
    bench.fail("trainer", WorkerLost("killed"))
    bench.stop()
    bench.clock.forward(minutes=5)
    bench.start().tick()
    (running,) = bench.running("trainer")
    arrive(bench, 10)
    assert bench.running("trainer") == [running]
    assert len(bench.executions("trainer", State.CANCELLED)) == MOST


def test_what_gave_way_is_done_after_all_when_it_is_wanted_again(tmp_path: Path) -> None:
    bench = training(tmp_path)
    arrive(bench, 2)
    bench.remove(2)
    above(bench)
    bench.settle()
    assert bench.trained_on() == ["span-1", "spans 1..2 (2)", "span-1"]
    last = bench.executions("trainer")[-1]
    assert (last.state, last.attempt) == (State.SUCCEEDED, 2)
    assert (
        last.because
        == f"execution {bench.executions('trainer')[0].id} gave way to newer work, but this is wanted again"
    )
    bench.check()


def test_newer_work_takes_over_the_slot_although_others_have_waited_longer(tmp_path: Path) -> None:
    bench = training(tmp_path, parallel=1)
    bench.spec("other")
    bench.span(1, pipeline="other")
    spec = bench.root / "specs/taxi.yaml"
    spec.write_text(spec.read_text().replace("steps: 100", "steps: 200"))
    above(bench)
    assert [r.spec["train_steps"] for r in bench.running("trainer")] == [200]
    assert bench.running(pipeline="other") == []
    bench.settle()
    bench.check()


def test_a_daemon_that_dies_over_it_begins_the_newer_work(tmp_path: Path) -> None:
    bench = training(tmp_path)
    bench.executor.cancel = lambda *_, **__: None  # type: ignore[method-assign]
    arrive(bench, 2)
    assert "gives way; then: " in bench.of("trainer")
    bench.kill()
    bench.start().settle()
    assert [(e.key, e.state) for e in bench.executions("trainer")] == [
        ("span-1", State.ABANDONED),
        ("spans 1..2 (2)", State.SUCCEEDED),
    ]
    bench.check()


def test_what_succeeds_before_it_could_be_stopped_counts(tmp_path: Path) -> None:
    bench = training(tmp_path)
    bench.executor.cancel = lambda *_, **__: None  # type: ignore[method-assign]
    arrive(bench, 2)
    bench.finish("trainer")
    while bench.controller.step(timedelta(0)) or not bench.running("trainer"):
        pass
    assert [e.state for e in bench.executions("trainer")] == [State.SUCCEEDED, State.RUNNING]
    bench.settle()
    bench.check()
