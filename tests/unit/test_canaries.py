"""Canaries as the planner sees them: watched, promoted or taken back; one verdict each, and nobody waits for ever."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_world import Bench, pipeline

from ctd.core.artifacts import Artifact
from ctd.core.executions import Execution, Failure, State
from ctd.core.requests import Verb
from ctd.planning.canaries import live, trial
from ctd.planning.decisions import Blocked, Decision, Plan, Reuse, Run, Wait
from ctd.planning.holds import version_of
from ctd.planning.lineage import pushed_model
from ctd.planning.retention import collectable

WATCH = "serving.canary"


def train(bench: Bench, steps: int, *, bad: bool = False) -> Artifact:
    """One more model, trained, blessed, and not yet pushed."""
    bench.spec = pipeline(trainer={"train_steps": steps})
    while True:
        runs = [run for run in bench.plan().runs if run.subject.node != "pusher"]
        if not runs:
            break
        for run in runs:
            bench.finish(bench.start(run), run)
    (model,) = bench.ran("trainer")[-1].output("model")
    bench.bad |= {model.digest} if bad else set()
    return model


@pytest.fixture
def bench() -> Bench:
    """A target with a canary, one model live."""
    made = Bench(canaries={"serving"})
    made.arrive(1)
    train(made, 100)
    made.settle()
    return made


def decided(made: Plan, piece: str = "serving") -> Decision:
    (found,) = (d for d in made.decisions if (d.subject.node, d.subject.piece) == ("pusher", piece))
    return found


def begin(bench: Bench, piece: str) -> tuple[Execution, Run]:
    run = decided(bench.plan(), piece)
    assert isinstance(run, Run), run
    return bench.start(run), run


def pushes(bench: Bench) -> list[Execution]:
    return bench.ran("pusher", "serving")


def watches(bench: Bench, state: State | None = None) -> list[Execution]:
    return [e for e in bench.ran("pusher", WATCH) if state in (None, e.state)]


def live_model(bench: Bench) -> int:
    push = live(bench.history, "taxi", "serving")
    assert push
    model = pushed_model(bench.history, push)
    assert model
    return model.id


def test_the_first_model_is_live_at_once(bench: Bench) -> None:
    assert [pushed.properties["trial"] for e in pushes(bench) for pushed in e.output("pushed_model")] == [0]
    assert watches(bench) == []
    assert all(d.subject.piece != WATCH for d in bench.plan().decisions), "there is nothing to say of a canary"


def test_a_good_model_is_watched_and_takes_over(bench: Bench) -> None:
    before, model = live_model(bench), train(bench, 101)
    push = bench.finish(*begin(bench, "serving"))
    assert (live_model(bench), trial(bench.history, "taxi", "serving")) == (before, push)
    watch, run = begin(bench, WATCH)
    assert run.because == f"version {version_of(push)} serves as canary"
    bench.finish(watch, run)
    assert (live_model(bench), trial(bench.history, "taxi", "serving")) == (model.id, None)
    after = bench.settle()
    assert isinstance(decided(after), Reuse)
    assert isinstance(decided(after, WATCH), Reuse)
    assert decided(after, WATCH).because.endswith("promoted after 10m")
    assert (len(pushes(bench)), len(watches(bench))) == (2, 1)


def test_a_bad_model_is_taken_back_told_and_not_pushed_again(bench: Bench) -> None:
    before = live_model(bench)
    train(bench, 101, bad=True)
    after = bench.settle()
    assert live_model(bench) == before
    reason = f"version {version_of(pushes(bench)[-1])} rolled back after 3s: drift 0.4 > 0.1"
    assert [(a.target, a.because) for a in after.alerts] == [("serving", reason)]
    assert after.targets["serving"].hold == reason
    assert decided(after).because.startswith(f"{reason}; same work as execution {pushes(bench)[0].id}")
    assert decided(after, WATCH).because == reason
    bench.kill_daemon()
    bench.now += timedelta(days=3)
    bench.settle()
    assert (len(pushes(bench)), len(watches(bench))) == (2, 1)


def test_a_model_that_was_taken_back_is_no_baseline(bench: Bench) -> None:
    before, model = live_model(bench), train(bench, 101, bad=True)
    assert next(bench.history.blessed_models("taxi")).id == model.id
    bench.settle()
    assert next(bench.history.blessed_models("taxi")).id == before
    assert next(bench.remembered().blessed_models("taxi")).id == before


def test_the_next_model_is_tried_and_the_bad_one_stays_away_then_too(bench: Bench) -> None:
    bad, good = train(bench, 101, bad=True), None
    bench.settle()
    good = train(bench, 102)
    after = bench.settle()
    assert (live_model(bench), after.alerts, after.targets["serving"].hold) == (good.id, (), "")
    bench.spec = pipeline(trainer={"train_steps": 101})
    bench.settle()
    assert live_model(bench) == good.id
    assert [pushed_model(bench.history, e) for e in pushes(bench)].count(bad) == 1


def test_the_bad_model_made_again_is_still_the_bad_model(bench: Bench) -> None:
    before, bad = live_model(bench), train(bench, 101, bad=True)
    bench.settle()
    bench.missing.add(bad.uri)
    bench.settle()
    assert len(bench.ran("trainer")) == 3, "it was made again"
    assert (live_model(bench), len(pushes(bench))) == (before, 2)


def test_people_can_have_it_tried_once_more(bench: Bench) -> None:
    model = train(bench, 101, bad=True)
    bench.settle()
    bench.bad.clear()
    bench.ask(Verb.RUN_NOW, "pusher", again=True)
    bench.settle()
    assert live_model(bench) == model.id
    assert len(watches(bench)) == 2


def test_a_newer_model_waits_for_the_verdict_and_is_tried_then(bench: Bench) -> None:
    train(bench, 101)
    push = bench.finish(*begin(bench, "serving"))
    watch, run = begin(bench, WATCH)
    newer = train(bench, 102)
    held = decided(bench.plan())
    assert isinstance(held, Wait)
    assert held.because.startswith(f"waits for the verdict on version {version_of(push)}, on trial as canary; then: ")
    assert not bench.plan().settled
    bench.finish(watch, run)
    assert trial(bench.history, "taxi", "serving") is None
    bench.settle()
    assert (live_model(bench), len(pushes(bench)), len(watches(bench))) == (newer.id, 3, 2)


def test_a_watch_that_cannot_come_to_a_verdict_holds_up_nothing_newer(bench: Bench) -> None:
    train(bench, 101)
    bench.finish(*begin(bench, "serving"))
    bench.flaky["pusher"] = [Failure("TargetUnavailable", "nobody answers", retryable=True)]
    bench.finish(*begin(bench, WATCH))
    newer = train(bench, 102)
    assert isinstance(decided(bench.plan()), Run)
    bench.settle()
    assert live_model(bench) == newer.id


@pytest.mark.parametrize("times", [1, 2])
def test_a_watch_cut_off_by_a_crash_begins_anew_and_ends_once(bench: Bench, times: int) -> None:
    model = train(bench, 101)
    bench.finish(*begin(bench, "serving"))
    for _ in range(times):
        begin(bench, WATCH)
        bench.kill_daemon()
        assert isinstance(decided(bench.plan()), Reuse), "what is pushed stays; a newer one would wait"
    run = decided(bench.plan(), WATCH)
    assert "was abandoned when the daemon died: once more" in run.because
    bench.settle()
    assert (live_model(bench), len(watches(bench, State.SUCCEEDED)), len(pushes(bench))) == (model.id, 1, 2)


def test_a_newer_model_waits_for_a_watch_that_was_cut_off(bench: Bench) -> None:
    train(bench, 101)
    bench.finish(*begin(bench, "serving"))
    begin(bench, WATCH)
    bench.kill_daemon()
    train(bench, 102)
    assert isinstance(decided(bench.plan()), Wait)
    bench.settle()
    assert len(watches(bench, State.SUCCEEDED)) == 2, "each has its verdict"


def test_what_is_seen_of_a_version_on_trial_is_for_its_watch(bench: Bench) -> None:
    train(bench, 101, bad=True)
    push = bench.finish(*begin(bench, "serving"))
    watch, run = begin(bench, WATCH)
    bench.faults["serving"] = f"version {version_of(push)} is gone"  # the watch has hidden it, and not ended yet
    made = bench.plan()
    assert isinstance(decided(made), Wait)
    assert made.alerts == ()
    del bench.faults["serving"]
    bench.finish(watch, run)
    bench.settle()
    assert len(pushes(bench)) == 2


def test_a_live_version_that_is_lost_after_a_trial_comes_back_untried(bench: Bench) -> None:
    train(bench, 101, bad=True)
    bench.settle()
    (made,) = pushes(bench)[0].output("pushed_model")
    bench.lose_version(str(made.properties["pushed_destination"]))
    run = decided(bench.plan())
    assert isinstance(run, Run)
    assert run.untried
    before = live_model(bench)
    bench.settle()
    assert (live_model(bench), len(pushes(bench)), len(watches(bench))) == (before, 3, 1)


def test_a_number_that_is_given_again_after_a_folder_was_emptied_is_another_version(bench: Bench) -> None:
    train(bench, 101, bad=True)
    bench.settle()
    bench.emptied = 2
    model = train(bench, 102)
    bench.settle()
    numbers = [version_of(e) for e in pushes(bench)]
    assert numbers[2] == numbers[1], "the number of the version that was taken back"
    assert live_model(bench) == model.id
    assert len(watches(bench, State.SUCCEEDED)) == 2


def test_a_rollback_ends_a_trial(bench: Bench) -> None:
    before, model = live_model(bench), train(bench, 101)
    push = bench.finish(*begin(bench, "serving"))
    watch, run = begin(bench, WATCH)
    bench.ask(Verb.ROLLBACK, "pusher", key="serving", about=str(pushes(bench)[0].id), execution=push.id)
    untried = decided(bench.plan())
    assert isinstance(untried, Run)
    assert untried.untried
    bench.finish(bench.start(untried), untried)
    assert live_model(bench) == before
    bench.finish(watch, run)
    after = bench.settle()
    assert live_model(bench) == before
    assert (bench.history.withdrawn(push), len(watches(bench))) == (True, 1)
    assert after.targets["serving"].hold.startswith("rolled back to version")
    assert next(bench.history.blessed_models("taxi")).id == model.id, "nobody said that the model is bad"


def test_a_pin_during_a_trial_takes_effect_at_once(bench: Bench) -> None:
    before = live_model(bench)
    train(bench, 101)
    bench.finish(*begin(bench, "serving"))
    begin(bench, WATCH)
    bench.pins["serving"] = version_of(pushes(bench)[0])
    run = decided(bench.plan())
    assert isinstance(run, Run)
    assert run.untried
    bench.finish(bench.start(run), run)
    assert live_model(bench) == before


def test_a_pin_to_a_version_that_was_taken_back_says_so(bench: Bench) -> None:
    train(bench, 101, bad=True)
    bench.settle()
    bench.pins["serving"] = version_of(pushes(bench)[-1])
    made = decided(bench.plan())
    assert isinstance(made, Blocked)
    assert "which did not stand its trial: version" in made.because
    assert "drift 0.4 > 0.1" in made.because


def test_a_cancelled_watch_is_left_alone_until_someone_asks(bench: Bench) -> None:
    train(bench, 101)
    bench.finish(*begin(bench, "serving"))
    watch, _ = begin(bench, WATCH)
    bench.ask(Verb.CANCEL, "pusher", execution=watch.id)
    bench.finish(watch, state=State.CANCELLED)
    assert isinstance(decided(bench.plan(), WATCH), Blocked)
    bench.ask(Verb.RETRY, "pusher", execution=watch.id)
    assert isinstance(decided(bench.plan(), WATCH), Run)


def test_a_pause_holds_a_watch_that_has_not_begun_and_an_approval_is_asked_once(bench: Bench) -> None:
    bench.spec = pipeline(trainer={"train_steps": 101}, pusher={"approval": True})
    bench.settle()
    held = decided(bench.plan())
    assert isinstance(held, Blocked)
    bench.ask(Verb.APPROVE, "pusher", about=held.fingerprint)
    bench.finish(*begin(bench, "serving"))
    bench.ask(Verb.PAUSE, "pusher")
    assert isinstance(decided(bench.plan(), WATCH), Wait)
    bench.ask(Verb.RESUME, "pusher")
    assert isinstance(decided(bench.plan(), WATCH), Run), "who approved the push has approved its trial"


def test_retention_keeps_the_live_model_while_another_is_on_trial(bench: Bench) -> None:
    nodes = {n: {"keep": {"newest": 1}} for n in ("trainer", "evaluator", "infra")}
    before = live_model(bench)
    train(bench, 101)
    bench.finish(*begin(bench, "serving"))
    begin(bench, WATCH)
    bench.spec = pipeline(**{**nodes, "trainer": {"train_steps": 101, "keep": {"newest": 1}}})
    gone = {c.artifact.id for c in collectable(bench.spec, bench.plan(), bench.history, {"serving": 1})}
    assert before not in gone


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("train"), st.integers(100, 105)),
        st.sampled_from(["one", "settle", "kill", "stop", "away", "lose", "again"]).map(lambda step: (step, 0)),
    ),
    max_size=14,
)


@settings(max_examples=100)
@given(st.sets(st.integers(101, 105)), STEPS)
def test_whatever_happens_the_newest_model_that_stands_its_trial_is_live_in_the_end(
    bad: set[int], steps: list[tuple[str, int]]
) -> None:
    bench = Bench(canaries={"serving"})
    bench.arrive(1)
    models = {number: train(bench, number, bad=number in bad) for number in range(100, 106)}
    bench.bad.discard(models[100].digest)
    train(bench, 100)
    bench.settle()
    shown = [bench.served["/serving/taxi"]]
    for step, number in steps:
        _take(bench, step, number)
        shown.append(bench.served.get("/serving/taxi", shown[-1]))
    bench.flaky.clear()
    wanted = bench.spec.nodes["trainer"].train_steps
    after = bench.settle()
    shown.append(bench.served["/serving/taxi"])
    assert not bench.bad.intersection(shown), "a bad model was never live"
    assert wanted in bad or shown[-1] == models[wanted].digest
    assert all(d.action in ("reuse", "wait") for d in after.decisions)
    judged = [e.inputs["pushed_model"] for e in watches(bench, State.SUCCEEDED)]
    assert len(judged) == len(set(judged)), "one verdict for each push"
    assert {e.id: e for e in bench.history} == {e.id: e for e in bench.remembered()}
    again, plan = bench.remembered(), bench.plan()
    bench.history = again
    assert bench.plan() == plan, "memory tells the same as the store"


def _take(bench: Bench, step: str, number: int) -> None:
    match step:
        case "train":
            bench.spec = pipeline(trainer={"train_steps": number})
        case "settle":
            bench.settle()
        case "again":
            bench.ask(Verb.RUN_NOW, "pusher", again=True)
        case "stop" | "away":
            kind = "Stopped" if step == "stop" else "TargetUnavailable"
            bench.flaky["pusher"] = [Failure(kind, "no verdict", retryable=True)]
        case "lose":
            push = live(bench.history, "taxi", "serving")
            for pushed in push.output("pushed_model") if push else ():
                bench.missing.add(str(pushed.properties["pushed_destination"]))
        case _:
            for run in bench.plan().runs[:1]:
                execution = bench.start(run)
                bench.finish(execution, run) if step == "one" else bench.kill_daemon()
