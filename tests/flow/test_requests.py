"""What people ask of a daemon at work: it does so, says so, and remembers it over its own death."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ctd.core.errors import ComponentFailed, CtdError, NotFound, NotPossible, StorageUnavailable, StoreUnavailable
from ctd.core.executions import State
from tests.flow.bench import Bench

BROKEN = ComponentFailed("run_fn raised", hint="mend it")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.spec()
    return made.start()


def until_training(bench: Bench) -> int:
    """Let everything succeed until the trainer runs; its execution."""
    bench.tick()
    while not bench.running("trainer"):
        for request in bench.running():
            bench.finish(request.node, request.key)
        bench.tick()
    return bench.running("trainer")[0].execution_id


def refuse(bench: Bench, number: int) -> None:
    """A span that the validator does not like."""
    bench.span(number)
    bench.tick()
    for node in ("examples", "statistics"):
        bench.finish(node)
        bench.tick()
    bench.finish("validator", blessed=0, reason="fare: out of range")
    bench.tick()


def test_a_quarantined_span_is_trained_on_once_someone_accepts_it(bench: Bench) -> None:
    bench.span(1)
    bench.settle()
    refuse(bench, 2)
    assert "quarantined span 2" in bench.of("trainer")
    bench.ask("accept", span="2")
    bench.kill()
    bench.start()
    bench.settle()
    assert bench.trained_on() == ["span-1", "spans 1..2 (2)"]
    (said,) = bench.views().explain("taxi", "validator").requests
    assert (said.verb, said.key, said.who, said.reason) == ("accept", "span-2", "ana", "so be it")
    with pytest.raises(NotPossible, match="accepted before"):
        bench.ask("accept", span="span-2")
    with pytest.raises(NotFound, match="1970-01-03 is a day, but these spans have numbers"):
        bench.ask("accept", span="1970-01-03")
    bench.check()


def test_a_corrected_span_is_not_accepted_by_the_acceptance_of_the_bad_one(bench: Bench) -> None:
    bench.span(1)
    bench.settle()
    refuse(bench, 2)
    bench.ask("accept", span="2")
    bench.settle()
    bench.clock.forward(minutes=1)
    bench.span(2, "fare\n222\n")
    bench.tick()
    for node in ("examples", "statistics"):
        bench.finish(node)
        bench.tick()
    bench.finish("validator", blessed=0, reason="fare: out of range")
    bench.tick()
    assert "quarantined span 2" in bench.of("trainer")


@pytest.mark.parametrize("node", ["", "trainer"])
def test_a_pause_lasts_over_a_restart_until_someone_resumes(bench: Bench, node: str) -> None:
    bench.span(1)
    bench.settle()
    bench.ask("pause", node)
    bench.span(2)
    bench.tick()
    bench.kill()
    bench.start()
    bench.settle()
    assert bench.trained_on() == ["span-1"]
    assert bench.views().status("taxi").pipelines[0].pauses == [f"{node or 'taxi'} is paused by ana: so be it"]
    assert "paused by ana" in bench.of(node or "examples")
    bench.ask("resume", node)
    bench.settle()
    assert bench.trained_on() == ["span-1", "spans 1..2 (2)"]
    assert bench.views().status("taxi").pipelines[0].pauses == []
    bench.check()


def test_cancelled_work_stays_undone_until_a_retry(bench: Bench) -> None:
    bench.span(1)
    number = until_training(bench)
    bench.ask("cancel", pipeline="", execution=number)
    bench.tick()
    assert bench.executions("trainer")[0].state is State.CANCELLED
    assert f"execution {number} was cancelled by ana: so be it" in bench.of("trainer")
    bench.clock.forward(hours=5)
    bench.settle()
    assert len(bench.executions("trainer")) == 1
    bench.ask("retry", "trainer")
    bench.settle()
    assert bench.executions("trainer")[-1].state is State.SUCCEEDED
    bench.check()


def test_a_cancellation_counts_though_the_daemon_died_over_it(bench: Bench) -> None:
    bench.span(1)
    until_training(bench)
    bench.ask("cancel", "trainer")
    bench.kill()
    bench.start()
    bench.settle()
    assert [e.state for e in bench.executions("trainer")] == [State.ABANDONED]
    assert "was cancelled by ana" in bench.of("trainer")


def test_what_runs_of_a_spec_that_is_gone_can_be_cancelled(bench: Bench) -> None:
    bench.span(1)
    number = until_training(bench)
    bench.spec().unlink()
    bench.tick()
    bench.ask("cancel", pipeline="", execution=number)
    bench.tick()
    assert bench.executions("trainer")[0].state is State.CANCELLED


def test_a_blocked_failure_is_tried_once_more_when_asked(bench: Bench) -> None:
    bench.span(1)
    number = until_training(bench)
    bench.fail("trainer", BROKEN)
    bench.tick()
    bench.ask("retry", pipeline="", execution=number)
    bench.tick()
    assert bench.executions("trainer")[-1].because == "tried again, asked by ana: so be it"
    bench.fail("trainer", BROKEN)
    bench.settle()
    assert len(bench.executions("trainer")) == 2


def test_a_back_off_ends_when_someone_says_now(bench: Bench) -> None:
    bench.span(1)
    until_training(bench)
    bench.fail("trainer", StorageUnavailable("disk full"))
    bench.tick()
    assert not bench.running("trainer")
    bench.ask("run-now")
    bench.tick()
    assert bench.running("trainer")
    bench.settle()
    assert [request.node for request in bench.history.requests("taxi")] == ["trainer"], "only what waited"


def test_again_does_what_is_done_once_more(bench: Bench) -> None:
    bench.span(1)
    bench.settle()
    bench.ask("run-now", "trainer", again=True)
    bench.settle()
    assert bench.trained_on() == ["span-1", "span-1"]
    bench.kill()
    bench.start()
    bench.settle()
    assert len(bench.trained_on()) == 2


def test_work_behind_an_approval_waits_without_a_worker(bench: Bench) -> None:
    path = bench.spec()
    path.write_text(path.read_text().replace("train_steps", "approval: true, train_steps"))
    bench.span(1)
    bench.settle()
    assert not bench.running()
    assert "waits for approval: ctd approve taxi trainer" in bench.of("trainer")
    bench.ask("reject", "trainer")
    bench.settle()
    assert "rejected by ana" in bench.of("trainer")
    bench.ask("approve", "trainer")
    bench.settle()
    assert bench.trained_on() == ["span-1"]
    bench.span(2)
    bench.settle()
    assert bench.trained_on() == ["span-1"]


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        pytest.param({"verb": "pause", "pipeline": "taxy"}, NotFound, "Did you mean 'taxi'?", id="pipeline"),
        pytest.param({"verb": "pause", "node": "trainr"}, NotFound, "Did you mean 'trainer'?", id="node"),
        pytest.param({"verb": "accept", "span": "first"}, NotFound, "such as 42, 2026-11-29", id="no span"),
        pytest.param({"verb": "accept", "span": "7"}, NotFound, "Refused: nothing", id="unknown span"),
        pytest.param({"verb": "accept", "span": "1.v3"}, NotFound, "Refused: nothing", id="unknown version"),
        pytest.param({"verb": "accept", "span": "1"}, NotPossible, "span-1 is not refused", id="good span"),
        pytest.param({"verb": "resume"}, NotPossible, "Paused: nothing", id="not paused"),
        pytest.param({"verb": "run-now"}, NotPossible, "waits for a time", id="nothing waits"),
        pytest.param({"verb": "run-now", "node": "trainer"}, NotPossible, "--again", id="nothing of it waits"),
        pytest.param({"verb": "retry", "node": "trainer"}, NotPossible, "failed or was cancelled", id="no failure"),
        pytest.param({"verb": "retry", "execution": 1}, NotPossible, "--again", id="a success"),
        pytest.param({"verb": "retry", "execution": 99}, NotFound, "ctd explain", id="execution"),
        pytest.param({"verb": "cancel", "execution": 1}, NotPossible, "has ended: succeeded", id="ended"),
        pytest.param({"verb": "cancel", "node": "trainer"}, NotPossible, "ctd pause", id="nothing runs"),
        pytest.param({"verb": "approve", "node": "trainer"}, NotPossible, "approval: true", id="no approval"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_do_and_not_recorded(
    bench: Bench, asked: dict[str, object], error: type[CtdError], said: str
) -> None:
    bench.span(1)
    bench.settle()
    with pytest.raises(error) as refused:
        bench.ask(**asked)
    assert said in f"{refused.value.message} {refused.value.hint}"
    assert list(bench.store.requests()) == []


def test_pausing_twice_is_refused_by_name_of_who_did_it(bench: Bench) -> None:
    bench.tick()
    bench.ask("pause", "trainer")
    with pytest.raises(NotPossible, match="paused already, by ana: so be it"):
        bench.ask("pause", "trainer")
    with pytest.raises(NotPossible) as refused:
        bench.ask("resume")
    assert refused.value.hint == "Paused: taxi trainer."


def test_a_request_has_its_pipeline_looked_at_at_once(bench: Bench) -> None:
    bench.tick()
    assert not bench.controller.step(timedelta(0))
    bench.ask("pause")
    assert bench.controller.step(timedelta(0))


def test_a_request_that_cannot_be_recorded_has_no_effect(bench: Bench) -> None:
    bench.span(1)
    until_training(bench)
    bench.store.away.add("record_request")
    with pytest.raises(StoreUnavailable):
        bench.ask("cancel", "trainer")
    bench.tick()
    assert bench.running("trainer")
    assert bench.history.requests("taxi") == ()
