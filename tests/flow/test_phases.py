"""What is recorded of the time before an execution starts, and of how it went."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ctd.core.executions import Execution
from tests.flow.bench import Bench


def of_span(bench: Bench, span: int) -> Execution:
    (found,) = (e for e in bench.executions("examples") if e.key == f"span-{span}")
    return found


def dated(bench: Bench, span: int, *, ago: float) -> None:
    """Files have real times, and the bench has its own clock."""
    then = bench.clock.now().timestamp() - ago
    for file in (bench.root / f"data/taxi/{span}").iterdir():
        os.utime(file, (then, then))


def test_it_is_recorded_how_long_a_span_settled_and_how_long_a_slot_was_waited_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path, parallel=1)
    bench.spec(complete="{quiet: 30s}")
    bench.start().settle()
    bench.clock.forward(seconds=100)
    for number in (1, 2):
        bench.span(number, marker=False)
        dated(bench, number, ago=2)
    bench.tick()
    bench.clock.forward(seconds=31)
    bench.tick()
    assert of_span(bench, 1).timings == {"notice": 2.0, "settle": 31.0, "wait": 0.0}
    bench.clock.forward(seconds=5)
    bench.finish("examples")
    bench.tick()
    bench.finish("statistics")
    bench.tick()
    while not bench.running("examples"):
        bench.finish(bench.running()[0].node)
        bench.tick()
    assert of_span(bench, 2).timings == {"notice": 2.0, "settle": 31.0, "wait": 5.0}
    assert {e.id: e for e in bench.history} == {e.id: e for e in bench.store.executions()}


def test_the_time_of_a_file_that_is_older_than_the_daemon_says_nothing_of_when_it_came(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.spec()
    bench.start().settle()
    bench.span(1)
    dated(bench, 1, ago=3600)
    bench.tick()
    assert of_span(bench, 1).timings == {"settle": 0.0, "wait": 0.0}


def test_from_the_end_of_the_process_to_the_record_is_a_phase_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.spec()
    bench.start().settle()
    bench.span(1)
    bench.tick()
    (request,) = bench.running("examples")
    bench.clock.forward(seconds=3)
    bench._succeed(request)
    (ended,) = bench.executor._events[-1:]
    bench.executor._events[-1] = replace(ended, outcome=replace(ended.outcome, timings={"start": 0.5, "run": 2.0}))
    bench.clock.forward(seconds=1)
    bench.tick()
    timings = of_span(bench, 1).timings
    assert (timings["start"], timings["run"], timings["publish"]) == (0.5, 2.0, 1.5)


def test_a_path_is_told_of_what_the_daemon_recorded(tmp_path: Path) -> None:
    bench = Bench(tmp_path, parallel=1)
    bench.spec()
    bench.start().settle()
    bench.span(1)
    bench.settle()
    trainer = bench.executions("trainer")[-1]
    view = bench.views().times("taxi", trainer.id)
    assert [step.node for step in view.steps if step.critical] == ["examples", "statistics", "validator", "trainer"]
    assert view.steps[-1].node == "trainer"
