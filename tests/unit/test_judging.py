"""Which model is judged and pushed while a newer one is on its way, and which is not (decision 023)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from planning_world import Bench, pipeline

from ctd.core.executions import Execution, Failure
from ctd.core.requests import Verb
from ctd.planning.decisions import Blocked, Decision, Run, Wait

NO_DRIFT = pipeline()
STRICT = pipeline(evaluator={"metrics": {"AUC": {"at_least": 1.0}}})  # no model of these tests is as good


def of(bench: Bench, node: str, piece: str | None = None) -> Decision:
    (found,) = (d for d in bench.plan().decisions if d.subject.node == node and piece in (None, d.subject.piece))
    return found


def run_all_but(bench: Bench, *nodes: str) -> None:
    """Work until nothing is to run but these nodes."""
    while runs := [r for r in bench.plan().runs if r.subject.node not in nodes]:
        for run in runs:
            bench.finish(bench.start(run), run)


def begin(bench: Bench, node: str) -> Execution:
    (run,) = (r for r in bench.plan().runs if r.subject.node == node)
    return bench.start(run)


def model(e: Execution) -> int:
    return e.output("model")[0].id


@pytest.fixture
def bench() -> Bench:
    """One model is live; another has just ended; span 3 has come meanwhile, and the next training runs."""
    bench = Bench(spec=NO_DRIFT)
    bench.arrive(1)
    bench.settle()
    bench.arrive(2)
    run_all_but(bench, "trainer", "evaluator", "infra")
    second = begin(bench, "trainer")
    bench.arrive(3)
    run_all_but(bench, "trainer", "evaluator", "infra")
    bench.finish(second)
    run_all_but(bench, "trainer", "evaluator", "infra")
    begin(bench, "trainer")
    return bench


def second(bench: Bench) -> int:
    return model(bench.ran("trainer")[1])


def judged(bench: Bench) -> list[int]:
    return [e.inputs["model"][0] for e in bench.ran("evaluator", "verdict")]


def pushed(bench: Bench) -> list[int]:
    return [e.inputs["model"][0] for e in bench.ran("pusher", "serving")]


def test_it_is_judged_and_pushed_while_the_next_one_is_trained(bench: Bench) -> None:
    run_all_but(bench)
    assert judged(bench)[-1] == pushed(bench)[-1] == second(bench)
    assert [type(of(bench, node)) for node in ("infra",)] == [Wait]
    assert "trainer" in of(bench, "pusher", "serving").because


def test_nothing_is_judged_twice(bench: Bench) -> None:
    run_all_but(bench)
    bench.arrive(4)
    run_all_but(bench)
    assert len(judged(bench)) == len(set(judged(bench))) == 2
    assert len(bench.ran("evaluator", "metrics")) == 2


def test_limits_that_were_edited_meanwhile_count(bench: Bench) -> None:
    run_all_but(bench, "pusher")
    bench.spec = STRICT
    assert isinstance(of(bench, "evaluator", "verdict"), Run), "judged anew at once"
    assert not isinstance(of(bench, "pusher", "serving"), Run)
    run_all_but(bench)
    assert second(bench) not in pushed(bench)


def test_an_evaluation_by_other_settings_does_not_count(bench: Bench) -> None:
    run_all_but(bench, "pusher")
    bench.spec = pipeline(evaluator={"slices": [[], ["hour"]]})
    assert not isinstance(of(bench, "pusher", "serving"), Run)
    run_all_but(bench)
    assert pushed(bench)[-1] == second(bench)
    assert len(bench.ran("evaluator", "metrics")) == 3


def test_a_model_of_a_span_that_is_denied_by_now_is_passed_over(bench: Bench) -> None:
    bench.spec = pipeline(examples={"deny": [2]})
    run_all_but(bench, "trainer")
    assert second(bench) not in judged(bench) + pushed(bench)


def test_a_model_of_a_span_that_was_refused_since_is_passed_over(bench: Bench) -> None:
    validated = [e for e in bench.ran("validator") if e.key.startswith("span-2")]
    assert validated
    bench.contents[next(s for s in bench.contents if s.number == 2)] = "odd"
    run_all_but(bench, "trainer", "evaluator", "infra")
    run_all_but(bench, "trainer")
    assert second(bench) not in pushed(bench)


def test_a_model_of_an_earlier_spec_is_judged_until_there_is_one_of_this(bench: Bench) -> None:
    bench.spec = pipeline(trainer={"train_steps": 300})
    run_all_but(bench, "trainer")
    assert pushed(bench)[-1] == second(bench)


def test_a_model_that_the_spec_went_back_from_is_passed_over(bench: Bench) -> None:
    """A spec makes a model, another makes one, and the first is in force again: its own model counts."""
    bench = Bench(spec=NO_DRIFT)
    bench.arrive(1)
    bench.settle()
    bench.spec = pipeline(trainer={"train_steps": 300})
    run_all_but(bench, "evaluator", "infra", "pusher")
    other = model(bench.ran("trainer")[-1])
    bench.spec = NO_DRIFT
    bench.arrive(2)
    run_all_but(bench, "trainer")
    assert other not in judged(bench) + pushed(bench)


def _fails(bench: Bench) -> None:
    (running,) = (e for e in bench.history.running() if e.node == "trainer")
    bench.flaky["trainer"] = [Failure("ComponentFailed", "run_fn raised")]
    bench.finish(running)


def _paused(bench: Bench) -> None:
    bench.kill_daemon()
    bench.ask(Verb.PAUSE, "trainer")


def _approval(bench: Bench) -> None:
    bench.kill_daemon()
    bench.spec = pipeline(trainer={"approval": True})


@pytest.mark.parametrize("held", [_fails, _paused, _approval])
def test_whatever_holds_the_next_training_the_model_that_ended_is_pushed(
    bench: Bench, held: Callable[[Bench], None]
) -> None:
    held(bench)
    run_all_but(bench, "trainer")
    assert pushed(bench)[-1] == second(bench)


def test_the_newest_model_that_was_judged_is_pushed_and_not_one_before_a_refused_one(bench: Bench) -> None:
    run_all_but(bench, "pusher", "trainer")  # the second is blessed, and its push has yet to begin
    (third,) = (e for e in bench.history.running() if e.node == "trainer")
    newest = model(bench.finish(third))
    bench.verdicts = {str(bench.ran("evaluator", "verdict")[-1].ingredients["settings"]): False}
    run_all_but(bench, "pusher")
    assert judged(bench)[-1] == newest
    assert isinstance(of(bench, "pusher", "serving"), Blocked)


def test_a_failed_evaluation_shows_while_the_next_model_is_trained(bench: Bench) -> None:
    bench.failures["evaluator"] = Failure("ComponentFailed", "no label 'tips'")
    run_all_but(bench, "trainer")
    found = of(bench, "evaluator", "metrics")
    assert isinstance(found, Blocked)
    assert found.failed
    assert "no label" in found.because


def lost(bench: Bench) -> Bench:
    place = str(
        next(bench.history.pushes("taxi", "serving")).output("pushed_model")[0].properties["pushed_destination"]
    )
    bench.lose_version(place)
    return bench


def _training(bench: Bench) -> None:
    """A newer model is on its way, and the live one was judged long ago."""
    run_all_but(bench, "trainer")


def _judging(bench: Bench) -> None:
    run_all_but(bench, "trainer", "evaluator")
    begin(bench, "evaluator")


def _newest_is_refused(bench: Bench) -> None:
    bench.spec = STRICT
    run_all_but(bench, "trainer")


def _trainer_failed(bench: Bench) -> None:
    _fails(bench)
    run_all_but(bench)


def _newest_waits_for_approval(bench: Bench) -> None:
    run_all_but(bench, "trainer", "pusher")
    bench.spec = pipeline(pusher={"approval": True})


def _pushing_the_newest_fails(bench: Bench) -> None:
    bench.failures["pusher"] = Failure("BadModel", "the server cannot load it")
    run_all_but(bench, "trainer")
    bench.failures.clear()


@pytest.mark.parametrize(
    "state",
    [
        _training,
        _judging,
        _newest_is_refused,
        _trainer_failed,
        _newest_waits_for_approval,
        _pushing_the_newest_fails,
    ],
)
def test_a_lost_version_is_pushed_again_at_once_whatever_is_on_its_way(
    bench: Bench, state: Callable[[Bench], None]
) -> None:
    state(bench)
    live = bench.served["/serving/taxi"]
    run = of(lost(bench), "pusher", "serving")
    assert isinstance(run, Run)
    assert run.urgent, "it takes no slot"
    assert "pushed again" in run.because
    bench.finish(bench.start(run), run)
    assert bench.served["/serving/taxi"] == live
    assert not isinstance(of(bench, "pusher", "serving"), Run)


def test_a_target_that_only_reports_is_left_as_it_is(bench: Bench) -> None:
    bench.only_told = {"serving"}
    run_all_but(bench, "trainer")
    assert not isinstance(of(lost(bench), "pusher", "serving"), Run)


def test_a_paused_pusher_repairs_nothing(bench: Bench) -> None:
    run_all_but(bench, "trainer")
    bench.ask(Verb.PAUSE, "pusher")
    assert isinstance(of(lost(bench), "pusher", "serving"), Wait)
