"""Pushes as states to keep true: what is lost is pushed again, and what people pin or roll back to stays."""

from __future__ import annotations

from datetime import timedelta

import pytest
from planning_world import Bench, pipeline

from ctd.core.errors import BadInput, TargetUnavailable
from ctd.core.executions import Execution, Failure
from ctd.core.requests import Verb
from ctd.planning.decisions import Blocked, Plan, Reuse, Run, Wait
from ctd.planning.holds import one_before, version_of
from ctd.planning.lineage import pushed_model
from ctd.planning.retention import collectable


def trained(bench: Bench, times: int) -> Bench:
    """So many models, one after the other, each pushed."""
    for steps in range(times):
        bench.spec = pipeline(trainer={"train_steps": 100 + steps})
        bench.settle()
    return bench


@pytest.fixture
def bench() -> Bench:
    """Three models were pushed to `serving`, one after the other."""
    made = Bench()
    for number in (1, 2, 3):
        made.arrive(number)
    return trained(made, 3)


def pushes(bench: Bench) -> list[Execution]:
    return bench.ran("pusher")


def version(bench: Bench, which: int = -1) -> int:
    return version_of(pushes(bench)[which])


def models(bench: Bench) -> list[int]:
    """The models that were pushed, in order, counted from 1."""
    found = [pushed_model(bench.history, e) for e in pushes(bench)]
    ids = sorted({m.id for m in found if m})
    return [1 + ids.index(m.id) for m in found if m]


def decided(made: Plan) -> Run | Reuse | Wait | Blocked:
    (found,) = (d for d in made.decisions if d.subject.node == "pusher")
    return found


def roll_back(bench: Bench, to: int) -> None:
    """As `ctd rollback` does it: to the push of this place, from the newest."""
    back = pushes(bench)[to]
    bench.ask(Verb.ROLLBACK, "pusher", key="serving", about=str(back.id), execution=pushes(bench)[-1].id)


def deleted(bench: Bench) -> None:
    (made,) = pushes(bench)[-1].output("pushed_model")
    bench.lose_version(str(made.properties["pushed_destination"]))


def test_a_version_that_is_gone_is_pushed_again_and_people_are_told(bench: Bench) -> None:
    lost = version(bench)
    deleted(bench)
    made = bench.plan()
    (alert,) = made.alerts
    assert (alert.target, alert.because) == ("serving", f"version {lost} is gone")
    assert decided(made).because == f"version {lost} is gone on target serving: pushed again"
    after = bench.settle()
    assert models(bench) == [1, 2, 3, 3]
    assert (after.alerts, decided(after).action) == ((), "reuse")


@pytest.mark.parametrize(
    "fault",
    [
        "version 4 is not as it was pushed: w has 7 of 90 bytes",
        "version 99, which ctd did not make, is above version 4",
    ],
)
def test_what_is_damaged_or_covered_is_pushed_again_once(bench: Bench, fault: str) -> None:
    bench.faults["serving"] = fault
    run = decided(bench.plan())
    assert isinstance(run, Run)
    assert fault in run.because
    bench.finish(bench.start(run))
    del bench.faults["serving"]
    assert isinstance(decided(bench.plan()), Reuse)


def test_what_is_only_to_be_told_is_not_mended(bench: Bench) -> None:
    bench.only_told.add("serving")
    deleted(bench)
    made = bench.settle()
    assert models(bench) == [1, 2, 3]
    (alert,) = made.alerts
    assert "on_damage: report" in alert.hint
    assert f"version {version(bench)} is gone" in decided(made).because
    assert made.targets["serving"].trouble == f"version {version(bench)} is gone"
    bench.ask(Verb.RUN_NOW, "pusher", again=True)
    assert isinstance(decided(bench.plan()), Run), "a person may ask for it"


def test_a_target_out_of_reach_is_told_and_nothing_is_pushed_for_it(bench: Bench) -> None:
    bench.hidden["serving"] = "/serving cannot be looked at: Input/output error"
    made = bench.settle()
    assert [alert.because for alert in made.alerts] == ["/serving cannot be looked at: Input/output error"]
    assert models(bench) == [1, 2, 3]


def test_what_goes_missing_again_and_again_is_pushed_ever_more_slowly(bench: Bench) -> None:
    began = bench.now
    for _ in range(30):
        deleted(bench)
        bench.settle()
        if isinstance(decided(bench.plan()), Wait):
            bench.now += timedelta(minutes=1)
    assert len(pushes(bench)) - 3 <= (bench.now - began) / timedelta(minutes=1)
    bench.now += timedelta(hours=2)
    assert isinstance(decided(bench.plan()), Run), "what was long ago does not count"


def test_while_a_push_runs_nothing_is_said_of_what_it_changes(bench: Bench) -> None:
    bench.spec = pipeline(trainer={"train_steps": 900})
    while not isinstance(run := decided(bench.plan()), Run):
        for other in bench.plan().runs:
            bench.finish(bench.start(other))
    bench.start(run)
    bench.faults["serving"] = "version 5, of a push that came to no good end, is above version 4"
    made = bench.plan()
    assert (made.alerts, made.targets["serving"].trouble) == ((), "")


# Servers that were away.


@pytest.fixture
def unverified() -> Bench:
    bench = Bench(servers={"serving": "127.0.0.1:8500"}, silent={"serving"})
    bench.arrive(1)
    return trained(bench, 1)


def test_while_a_server_is_down_no_execution_asks_for_it(unverified: Bench) -> None:
    for _ in range(20):
        unverified.now += timedelta(minutes=10)
        made = decided(unverified.plan())
        assert isinstance(made, Reuse)
        assert made.because.endswith("pushed, not verified: nobody answers at 127.0.0.1:8500")
    assert len(pushes(unverified)) == 1


def test_a_server_that_is_back_is_asked_once(unverified: Bench) -> None:
    unverified.silent.clear()
    unverified.now += timedelta(minutes=1)
    run = decided(unverified.plan())
    assert isinstance(run, Run)
    assert "its server has not confirmed it: asked again" in run.because
    unverified.finish(unverified.start(run))
    unverified.now += timedelta(days=1)
    assert isinstance(decided(unverified.plan()), Reuse)
    assert unverified.plan().targets["serving"].trouble == ""


def test_a_server_that_answers_and_does_not_confirm_is_asked_ever_more_rarely(unverified: Bench) -> None:
    asked, last = [], unverified.now
    for _ in range(6):
        unverified.silent.clear()
        while not isinstance(run := decided(unverified.plan()), Run):
            unverified.now += timedelta(seconds=30)
        unverified.silent.add("serving")
        asked.append(unverified.now - last)
        last = unverified.now
        unverified.finish(unverified.start(run))
    minutes = [round(pause / timedelta(minutes=1)) for pause in asked]
    assert minutes == [0, 1, 2, 5, 10, 10], "at once when somebody listens, then ever more rarely"


def test_a_failed_question_costs_no_push_and_is_asked_again_in_its_time(unverified: Bench) -> None:
    unverified.silent.clear()
    unverified.now += timedelta(minutes=1)
    said = Failure(TargetUnavailable.__name__, "version 2 is unknown on its server", retryable=True)
    unverified.flaky["pusher"] = [said]
    run = decided(unverified.plan())
    assert isinstance(run, Run)
    unverified.finish(unverified.start(run))
    held = decided(unverified.plan())
    assert isinstance(held, Reuse), "the version is there all the same"
    unverified.now += timedelta(minutes=11)
    assert isinstance(decided(unverified.plan()), Run)


def test_a_version_that_the_server_refused_is_not_pushed_again(unverified: Bench) -> None:
    unverified.silent.clear()
    unverified.now += timedelta(minutes=1)
    unverified.flaky["pusher"] = [Failure(BadInput.__name__, "the server cannot load it", "look")]
    run = decided(unverified.plan())
    assert isinstance(run, Run)
    unverified.finish(unverified.start(run))
    unverified.faults["serving"] = "version 2 is gone"  # in quarantine
    assert isinstance(decided(unverified.plan()), Blocked)


# Pins.


def test_nothing_newer_is_pushed_over_a_pin(bench: Bench) -> None:
    bench.pins["serving"] = version(bench)
    trained(bench, 5)
    made = decided(bench.plan())
    assert isinstance(made, Reuse)
    assert made.because.startswith(f"pinned to version {version(bench)}; ")
    assert models(bench) == [1, 2, 3]
    bench.pins.clear()
    bench.settle()
    assert models(bench) == [1, 2, 3, 4], "the newest, once the pin is taken out"


def test_a_pinned_model_that_is_not_on_top_is_pushed_again(bench: Bench) -> None:
    bench.pins["serving"] = version(bench, 0)
    bench.settle()
    assert models(bench) == [1, 2, 3, 1]
    assert pushes(bench)[-1].because.startswith(f"pinned to version {version(bench, 0)}; ")
    assert dict(pushes(bench)[-1].inputs) == dict(pushes(bench)[0].inputs), "with the blessings it had"
    deleted(bench)
    bench.settle()
    assert models(bench) == [1, 2, 3, 1, 1]


def test_a_pin_holds_whatever_the_trainer_waits_for(bench: Bench) -> None:
    bench.pins["serving"] = version(bench, 0)
    bench.spec = pipeline(trainer={"train_steps": 7})
    bench.ask(Verb.PAUSE, "trainer")
    bench.settle()
    assert models(bench) == [1, 2, 3, 1]


def test_a_pin_to_what_never_was_is_blocked_and_says_what_there_was(bench: Bench) -> None:
    bench.pins["serving"] = 77
    made = decided(bench.plan())
    assert isinstance(made, Blocked)
    assert "version 77, which taxi never pushed there" in made.because
    assert ", ".join(str(version(bench, n)) for n in (0, 1, 2)) in made.hint


def test_a_pin_to_a_model_that_was_removed_is_blocked(bench: Bench) -> None:
    model = pushed_model(bench.history, pushes(bench)[0])
    assert model is not None
    bench.store.delete_artifact(model)
    bench.history.forget_artifact(model.id)
    bench.pins["serving"] = version(bench, 0)
    made = decided(bench.plan())
    assert isinstance(made, Blocked)
    assert f"Model #{model.id} is no longer there" in made.because
    bench.pins["serving"] = version(bench)
    assert isinstance(decided(bench.plan()), Reuse)


# Rollbacks.


def test_a_rollback_pushes_the_model_from_before_as_a_new_version(bench: Bench) -> None:
    roll_back(bench, to=1)
    made = bench.settle()
    assert models(bench) == [1, 2, 3, 2]
    assert version(bench) > version(bench, 2)
    assert pushes(bench)[-1].because.startswith(f"rolled back to version {version(bench, 1)} by ana: so be it; ")
    assert made.targets["serving"].hold == f"rolled back to version {version(bench, 1)} by ana: so be it"


def test_the_bad_model_does_not_come_back_by_itself(bench: Bench) -> None:
    roll_back(bench, to=1)
    bench.settle()
    bench.kill_daemon()
    bench.settle()
    deleted(bench)
    bench.settle()
    assert models(bench) == [1, 2, 3, 2, 2]


def test_the_bad_model_made_again_is_still_the_bad_model(bench: Bench) -> None:
    roll_back(bench, to=1)
    bench.settle()
    bad = pushed_model(bench.history, pushes(bench)[2])
    assert bad is not None
    bench.missing.add(bad.uri)
    bench.settle()
    assert len(bench.ran("trainer")) == 4, "it was made again"
    assert models(bench)[-1] == 2


def test_a_newer_model_ends_a_rollback_and_the_bad_one_stays_away_then_too(bench: Bench) -> None:
    roll_back(bench, to=1)
    bench.settle()
    trained(bench, 4)
    assert models(bench) == [1, 2, 3, 2, 4]
    assert bench.plan().targets["serving"].hold == ""
    bench.spec = pipeline(trainer={"train_steps": 102})  # what made the bad one
    made = bench.settle()
    assert models(bench) == [1, 2, 3, 2, 4]
    assert "was rolled back from by ana" in decided(made).because


def test_a_release_lets_the_newest_model_in_again(bench: Bench) -> None:
    roll_back(bench, to=1)
    bench.settle()
    bench.ask(Verb.RELEASE, "pusher", key="serving")
    bench.settle()
    assert models(bench) == [1, 2, 3, 2, 3]


def test_rolling_back_twice_goes_back_further(bench: Bench) -> None:
    target = bench.world().targets["serving"]
    for expected in (1, 0):
        back = one_before(bench.history, "taxi", "pusher", target)
        assert back == pushes(bench)[expected]
        roll_back(bench, to=expected)
        bench.settle()
    assert models(bench) == [1, 2, 3, 2, 1]
    assert one_before(bench.history, "taxi", "pusher", target) is None


def test_a_rollback_needs_no_approval_and_goes_ahead_of_an_older_pause(bench: Bench) -> None:
    bench.spec = pipeline(trainer={"train_steps": 102}, pusher={"approval": True})
    bench.ask(Verb.PAUSE)
    roll_back(bench, to=1)
    assert isinstance(decided(bench.plan()), Run)
    bench.ask(Verb.PAUSE, "pusher")
    held = decided(bench.plan())
    assert isinstance(held, Wait)
    assert held.because.startswith("paused by ana")


def test_a_rollback_of_one_target_leaves_the_others_alone(bench: Bench) -> None:
    bench.spec = pipeline(trainer={"train_steps": 102}, pusher={"targets": ["serving", "edge"]})
    bench.targets["edge"] = "/edge/taxi"
    bench.settle()
    roll_back_of = [e for e in pushes(bench) if e.piece == "serving"]
    bench.ask(Verb.ROLLBACK, "pusher", key="serving", about=str(roll_back_of[0].id), execution=roll_back_of[-1].id)
    bench.settle()
    assert [e.piece for e in pushes(bench)][-2:] == ["edge", "serving"]


@pytest.mark.parametrize("how", ["pin", "rollback"])
def test_retention_keeps_what_a_target_is_held_at(bench: Bench, how: str) -> None:
    back = pushes(bench)[0]
    kept = {i for ids in back.inputs.values() for i in ids}
    if how == "pin":
        bench.pins["serving"] = version(bench, 0)
    else:
        roll_back(bench, to=0)
    bench.settle()
    trained(bench, 6)
    nodes = {n: {"keep": {"newest": 1}} for n in ("trainer", "evaluator", "infra")}
    bench.spec = pipeline(**{**nodes, "trainer": {"train_steps": 105, "keep": {"newest": 1}}})
    roll_back(bench, to=0) if how == "rollback" else None
    made = bench.settle()
    gone = {c.artifact.id for c in collectable(bench.spec, made, bench.history, {"serving": 1})}
    assert gone, "others go"
    assert not gone & kept
