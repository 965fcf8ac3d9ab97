"""Days in the life of a pipeline, told tick by tick."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ctd.core.errors import BadInput, ComponentFailed, InputChanged, WorkerLost
from ctd.core.executions import Outcome, State
from ctd.engine.executor import Ended
from ctd.observability import Event
from tests.flow.bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.spec()
    return made.start()


def test_a_span_becomes_a_model(bench: Bench) -> None:
    bench.tick()
    assert "does not exist" in bench.of("trainer")
    bench.span(1)
    bench.tick()
    assert bench.of("examples").startswith("wait examples span-1: running, attempt 1")
    bench.finish("examples")
    bench.tick()
    assert bench.of("statistics").startswith("wait statistics span-1: schema is running")
    bench.finish("schema")
    bench.tick()
    assert bench.of("statistics").startswith("wait statistics span-1: running")
    bench.settle()
    assert bench.trained_on() == ["span-1"]
    bench.check()


def test_a_span_that_arrives_while_another_trains_is_trained_on_next(bench: Bench) -> None:
    bench.span(1)
    while not bench.running("trainer"):
        for request in bench.running():
            bench.finish(request.node)
        bench.tick()
    bench.span(2)
    bench.tick()
    for node in ("examples", "statistics", "validator"):
        bench.finish(node)
        bench.tick()
    assert "is still running on span-1" in bench.of("trainer")
    bench.finish("trainer")
    bench.tick()
    assert bench.running("trainer")
    bench.settle()
    assert bench.trained_on() == ["span-1", "spans 1..2 (2)"]
    bench.check()


def test_three_spans_at_once_are_trained_on_once(bench: Bench) -> None:
    for number in (1, 2, 3):
        bench.span(number)
    bench.settle()
    assert bench.trained_on() == ["spans 1..3 (3)"]


def test_a_half_copied_span_waits_and_holds_up_nobody(bench: Bench) -> None:
    bench.span(1)
    bench.settle()
    bench.span(2, marker=False)
    bench.tick()
    assert "no _SUCCESS yet" in bench.of("examples")
    assert bench.of("trainer").startswith("reuse")
    bench.span(2)
    bench.settle()
    assert bench.trained_on() == ["span-1", "spans 1..2 (2)"]


def test_a_spec_that_is_deleted_and_put_back_finds_everything_done(bench: Bench) -> None:
    bench.span(1)
    bench.settle()
    before = bench.executions()
    text = bench.spec().read_text()
    bench.spec().unlink()
    bench.tick()
    assert bench.said() == []
    assert not bench.watcher.interests.keys() & {str(bench.root / "data/taxi")}
    bench.span(2)
    bench.tick()
    assert bench.executions() == before, "what is not wanted is not done"
    (bench.root / "specs/taxi.yaml").write_text(text)
    bench.settle()
    assert bench.trained_on() == ["span-1", "spans 1..2 (2)"]
    bench.check()


@pytest.mark.parametrize("instead", ["nothing", "a file"])
def test_a_specs_folder_that_cannot_be_read_keeps_every_pipeline_and_is_said(bench: Bench, instead: str) -> None:
    bench.span(1)
    bench.settle()
    folder, away = bench.root / "specs", bench.root / "specs-away"
    folder.rename(away)
    if instead == "a file":
        folder.touch()
    bench.span(2)
    bench.settle()
    assert bench.trained_on() == ["span-1", "spans 1..2 (2)"]
    (problem,) = bench.views().status().problems
    assert (problem.file, problem.warning) == (str(folder), False)
    assert "the folder cannot be read" in problem.message
    if instead == "a file":
        folder.unlink()
    away.rename(folder)
    bench.tick()
    assert bench.views().status().problems == []
    bench.spec().unlink()
    bench.tick()
    assert bench.said() == [], "an empty folder says that nothing is wanted"
    bench.check()


def test_a_spec_deleted_during_a_run_keeps_what_the_run_makes(bench: Bench) -> None:
    bench.span(1)
    bench.tick()
    path = bench.spec()
    path.unlink()
    bench.tick()
    bench.finish("examples")
    bench.finish("schema")
    bench.tick()
    bench.spec()
    bench.settle()
    assert len(bench.executions("examples")) == 1
    bench.check()


def test_an_edit_during_a_run_lets_it_end_and_runs_anew(bench: Bench) -> None:
    bench.span(1)
    while not bench.running("trainer"):
        for request in bench.running():
            bench.finish(request.node)
        bench.tick()
    bench.spec(steps=200)
    bench.tick()
    assert "is still running" in bench.of("trainer")
    bench.finish("trainer")
    bench.tick()
    assert bench.executions("trainer")[-1].because == "train_steps 100 -> 200"
    bench.settle()
    assert len(bench.executions("trainer")) == 2
    bench.spec()
    bench.settle()
    assert len(bench.executions("trainer")) == 2, "the first model is still there"
    bench.check()


def test_an_invalid_edit_changes_nothing_until_it_is_mended(bench: Bench) -> None:
    bench.span(1)
    bench.settle()
    (bench.root / "specs/taxi.yaml").write_text("pipeline: taxi\nnodes: {trainer: {kind: trayner}}\n")
    bench.span(2)
    bench.settle()
    assert bench.trained_on() == ["span-1", "spans 1..2 (2)"]
    assert bench.wanted.problems_of("taxi")
    bench.spec(steps=200)
    bench.settle()
    assert bench.trained_on() == ["span-1", "spans 1..2 (2)", "spans 1..2 (2)"]
    assert not bench.wanted.problems_of("taxi")


def test_a_fault_of_ctds_own_in_one_pipeline_does_not_stop_the_other(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.spec("bikes")
    bench.span(1)
    bench.span(1, pipeline="bikes")
    bench.settle()
    # What no version of ctd ever wrote: planning trips over it when it says what changed.
    (old,) = (e for e in bench.executions("trainer", State.SUCCEEDED) if e.pipeline == "taxi")
    bench.history.record(replace(old, ingredients={"inputs": {"examples": 7}}))
    bench.spec(steps=200)
    bench.spec("bikes", steps=200)
    caplog.clear()
    for _ in range(20):
        bench.tick()
        bench.clock.forward(seconds=5)
    assert caplog.messages.count(Event.LOOK_FAILED.value) == 1
    (problem,) = bench.views().status("taxi").pipelines[0].problems
    assert "cannot be planned: TypeError" in problem.message
    assert bench.running("trainer", "bikes")
    assert not bench.running("trainer", "taxi")
    bench.history.record(old)
    bench.clock.forward(seconds=5)
    bench.tick()
    assert bench.running("trainer", "taxi"), "it was looked at again by itself"
    assert not bench.views().status("taxi").pipelines[0].problems


def test_an_end_that_nobody_waits_for_is_passed_over(bench: Bench) -> None:
    bench.span(1)
    bench.tick()
    bench.executor._events.append(Ended(999, Outcome(State.SUCCEEDED)))
    bench.settle()
    assert bench.trained_on() == ["span-1"]
    bench.check()


def test_with_two_slots_what_is_nearest_to_a_served_model_goes_first(tmp_path: Path) -> None:
    bench = Bench(tmp_path, parallel=2)
    bench.spec()
    bench.span(1)
    bench.start().settle()
    for number in range(2, 8):
        bench.span(number)
    bench.tick()
    assert [r.node for r in bench.running()] == ["examples", "examples"]
    order = []
    while running := bench.running():
        assert len(running) <= 2
        order.append(running[0].node)
        bench.finish(running[0].node, running[0].key)
        bench.tick()
    # A span is taken to its end before the next begins; the window waits for all of them.
    assert order.index("validator") < len(order) - 1 - order[::-1].index("examples")
    assert bench.trained_on() == ["span-1", "spans 5..7 (3)"]
    bench.check()


def test_input_that_changed_while_it_was_read_is_read_again(bench: Bench) -> None:
    bench.span(1)
    bench.tick()
    bench.span(1, "fare\n2\n3\n")
    bench.fail("examples", InputChanged("trips.csv changed while it was read"))
    bench.tick()
    assert bench.running("examples"), "the new content is new work, and need not wait for a retry"
    bench.settle()
    assert bench.trained_on() == ["span-1"]
    bench.check()


def test_a_lost_worker_is_tried_again_when_due_and_not_for_ever(bench: Bench) -> None:
    bench.span(1)
    bench.tick()
    while bench.running("examples"):
        bench.fail("examples", WorkerLost("killed"))
        bench.tick()
        assert not bench.running("examples")
        bench.clock.forward(minutes=1)
        bench.tick()
    attempts = len(bench.executions("examples"))
    assert attempts > 1
    assert bench.of("examples").startswith(f"blocked examples span-1: {attempts} times in a row")


@pytest.mark.parametrize("error", [BadInput("trips.csv is empty", hint="write rows"), ComponentFailed("boom")])
def test_a_span_that_fails_is_left_out_and_the_mended_one_is_enough(bench: Bench, error: BadInput) -> None:
    bench.span(1)
    bench.settle()
    bench.span(2, "bad")
    bench.tick()
    bench.fail("examples", error)
    bench.tick()
    assert bench.of("examples").startswith(f"blocked examples span-2: {error.message}")
    assert "left out span 2" in bench.of("trainer")
    bench.clock.forward(hours=1)
    bench.settle()
    assert bench.trained_on() == ["span-1"]
    bench.span(2, "good")
    bench.settle()
    assert bench.trained_on() == ["span-1", "spans 1..2 (2)"]
    bench.check()


def test_a_span_that_the_validator_refuses_is_quarantined(bench: Bench) -> None:
    bench.span(1)
    bench.settle()
    bench.span(2)
    bench.tick()
    for node in ("examples", "statistics"):
        bench.finish(node)
        bench.tick()
    bench.finish("validator", blessed=0, reason="fare: out of range")
    bench.settle()
    assert bench.trained_on() == ["span-1"]
    assert "quarantined span 2" in bench.of("trainer")
    bench.spec(on_anomaly="block")
    bench.tick()
    assert "fare: out of range" in bench.of("trainer")
    bench.spec(on_anomaly="warn")
    bench.settle()
    assert bench.trained_on() == ["span-1", "spans 1..2 (2)"]


def test_a_span_that_is_removed_leaves_the_window_and_the_earlier_model_is_found(bench: Bench) -> None:
    bench.span(1)
    bench.settle()
    bench.span(2)
    bench.settle()
    bench.remove(2)
    bench.settle()
    assert bench.trained_on() == ["span-1", "spans 1..2 (2)"]
    assert bench.of("trainer").startswith("reuse trainer span-1: ")


def test_a_root_that_goes_away_and_comes_back_changes_nothing(bench: Bench) -> None:
    for number in (1, 2):
        bench.span(number)
    bench.settle()
    before = bench.executions()
    data, moved = bench.root / "data", bench.root / "moved"
    data.rename(moved)
    for _ in range(3):
        bench.tick()
        bench.clock.forward(minutes=5)
    assert "does not exist" in bench.of("trainer")
    moved.rename(data)
    bench.settle()
    assert bench.executions() == before
    assert bench.of("trainer").startswith("reuse")


def test_results_that_someone_deleted_are_made_again(bench: Bench) -> None:
    bench.span(1)
    bench.settle()
    (model,) = bench.executions("trainer")[0].output("model")
    path = Path(model.uri)
    (path / "data").unlink()
    path.rmdir()
    bench.settle()
    assert bench.executions("trainer")[-1].because.endswith("is gone: made again")
    assert len(bench.executions("examples")) == 1


def test_results_that_cannot_be_looked_at_for_a_while_are_not_made_again(bench: Bench) -> None:
    bench.span(1)
    bench.settle()
    before = bench.executions()
    results = bench.root / "state/artifacts/taxi"
    moved = bench.root / "moved"
    results.rename(moved)
    results.symlink_to(results)  # as an error of the disk, for root too
    bench.tick()
    assert bench.executions() == before
    results.unlink()
    moved.rename(results)
    bench.settle()
    assert bench.executions() == before


@pytest.mark.parametrize("hours", [-24 * 365 * 10, -1, 1, 24 * 365])
def test_the_wall_clock_may_jump(bench: Bench, hours: int) -> None:
    bench.span(1)
    bench.tick()
    bench.fail("examples", WorkerLost("killed"))
    bench.tick()
    bench.clock.jump(hours=hours)
    for _ in range(3):
        bench.clock.forward(minutes=1)
        bench.tick()
    assert bench.running("examples"), "a retry is not held back by a clock set back"
    bench.settle()
    assert bench.trained_on() == ["span-1"]
    bench.check()


def test_a_pipeline_that_waits_for_room_is_looked_at_when_another_makes_some(tmp_path: Path) -> None:
    bench = Bench(tmp_path, parallel=1)
    for name in ("first", "second"):
        bench.spec(name)
        bench.span(1, pipeline=name)
    bench.start().tick()
    (running,) = bench.executor.running()
    had_it = bench.executor.requests[running].pipeline
    bench.executor.succeed(running, "content")
    bench.controller.step(timedelta(0))  # takes in what ended
    while bench.controller.step(timedelta(0)):
        pass
    (running,) = bench.executor.running()
    assert bench.executor.requests[running].pipeline != had_it, "without waiting for the next rescan"
