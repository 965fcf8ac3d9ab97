"""ML Metadata does not answer for a while, or did what it was asked and nobody heard: nothing lost, nothing doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctd.core.executions import State
from tests.flow.bench import Bench

VERBS = ["begin", "note_process", "finish"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.spec()
    made.span(1)
    return made.start()


def through(bench: Bench) -> None:
    """A minute in which executions go on ending."""
    for _ in range(12):
        bench.tick()
        for request in [*bench.running("schema"), *bench.running("examples"), *bench.running("statistics")]:
            bench.finish(request.node, request.key)
        bench.tick()
        bench.clock.forward(seconds=5)


@pytest.mark.parametrize("verb", VERBS)
def test_the_store_is_away_for_a_minute(bench: Bench, verb: str) -> None:
    bench.store.away = {verb}
    through(bench)
    assert not bench.executions(state=State.SUCCEEDED)
    bench.store.away = set()
    bench.clock.forward(seconds=5)
    bench.settle()
    assert bench.trained_on() == ["span-1"]
    assert {e.attempt for e in bench.executions()} == {1}
    bench.check()


@pytest.mark.parametrize("verb", VERBS)
def test_the_stores_answers_are_lost_for_a_minute(bench: Bench, verb: str) -> None:
    bench.store.mute = {verb}
    through(bench)
    bench.store.mute = set()
    bench.clock.forward(seconds=5)
    bench.settle()
    assert bench.trained_on() == ["span-1"]
    assert {e.attempt for e in bench.executions()} == {1}
    bench.check()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("how", ["away", "mute"])
def test_the_daemon_is_killed_while_the_store_is_away(bench: Bench, verb: str, how: str) -> None:
    setattr(bench.store, how, {verb})
    through(bench)
    bench.kill()
    setattr(bench.store, how, set())
    bench.start().settle()
    assert bench.trained_on() == ["span-1"]
    bench.check()


@pytest.mark.parametrize("verb", VERBS)
def test_an_edit_meets_a_begin_whose_answer_was_lost(bench: Bench, verb: str) -> None:
    """The execution that was begun is nobody's: the next start finds it."""
    bench.store.mute = {verb}
    bench.tick()
    bench.span(1, "fare\n9\n")
    bench.store.mute = set()
    bench.clock.forward(seconds=5)
    bench.settle()
    assert bench.trained_on()[-1:] == ["span-1"]
    bench.kill()
    bench.start().settle()
    assert not bench.executions(state=State.RUNNING)
    bench.check()


def test_what_cannot_be_recorded_fails_its_execution_and_no_other(bench: Bench) -> None:
    bench.tick()
    (request,) = bench.running("examples")
    bench.finish("schema")
    bench.finish("examples", bad=object())  # type: ignore[arg-type]
    bench.tick()
    assert bench.executions("schema")[0].state is State.SUCCEEDED
    (failed,) = bench.executions("examples")
    assert failed.id == request.execution_id
    assert failed.state is State.FAILED
    assert failed.failure
    assert "recorded" in failed.failure.message
    bench.check()
