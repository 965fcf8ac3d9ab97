"""What a plan says in the situations of a pipeline's life."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from planning_world import Bench, pipeline

from ctd.core.executions import STOPPED, Execution, Failure, Outcome, State
from ctd.core.requests import Verb
from ctd.planning.asked import finding
from ctd.planning.decisions import Blocked, Plan, Reuse, Run, Wait
from ctd.planning.plan import plan
from ctd.planning.world import FireFact


def actions(plan: Plan) -> dict[str, str]:
    """`node[/piece]` to action; the most urgent one for nodes that run per span."""
    found: dict[str, str] = {}
    for d in plan.decisions:
        name = d.subject.node + (f"/{d.subject.piece}" if d.subject.piece else "")
        if found.get(name) not in ("run", "blocked"):
            found[name] = d.action
    return found


def because(plan: Plan, node: str, piece: str = "") -> str:
    return next(d.because for d in plan.decisions if d.subject.node == node and piece in ("", d.subject.piece))


def settled(**changes: dict[str, object]) -> Bench:
    bench = Bench(spec=pipeline(**changes))
    bench.arrive(1)
    bench.settle()
    return bench


def test_an_empty_world_waits_for_the_first_span_and_imports_the_schema() -> None:
    plan = Bench().plan()
    assert actions(plan)["schema"] == "run"
    assert because(plan, "examples") == "no span has arrived yet"
    assert actions(plan)["pusher/serving"] == "wait"
    assert "no span has arrived yet" in because(plan, "trainer")


def test_a_span_goes_all_the_way_and_then_nothing_is_left_to_do() -> None:
    bench = settled()
    assert set(actions(bench.plan()).values()) == {"reuse"}
    assert len(bench.ran("trainer")) == 1
    assert len(bench.ran("pusher")) == 1
    assert bench.plan() == bench.plan()


def test_a_blessing_does_not_cause_another_training() -> None:
    bench = settled()
    model = bench.ran("trainer")[0].outputs["model"][0]
    assert list(bench.history.blessed_models("taxi")) == [model]
    bench.settle()
    assert len(bench.ran("trainer")) == 1


def test_the_next_model_is_compared_with_the_blessed_one_and_starts_from_it() -> None:
    bench = settled()
    first = bench.ran("trainer")[0].outputs["model"][0]
    bench.arrive(2)
    bench.settle()
    assert bench.ran("trainer")[-1].inputs["base_model"] == (first.id,)
    assert bench.ran("evaluator", "metrics")[-1].inputs["baseline_model"] == (first.id,)


def test_a_second_span_runs_only_what_it_affects_and_says_so() -> None:
    bench = settled()
    bench.arrive(2)
    bench.settle()
    assert [len(bench.ran(n)) for n in ("examples", "statistics", "validator", "transform", "trainer")] == [2] * 5
    assert len(bench.ran("schema")) == 1
    assert bench.ran("examples")[-1].because == "new span, complete: marker _SUCCESS"
    assert "examples: span 2 new" in bench.ran("transform")[-1].because


def test_three_spans_at_once_are_trained_on_once() -> None:
    bench = settled()
    for number in (2, 3, 4):
        bench.arrive(number)
    bench.settle()
    assert len(bench.ran("trainer")) == 2
    assert bench.ran("trainer")[-1].key == "spans 2..4 (3)"


def test_a_threshold_edit_judges_again_and_computes_nothing() -> None:
    bench = settled()
    bench.spec = pipeline(evaluator={"metrics": {"AUC": {"at_least": 0.6, "not_worse_than_baseline_by": 0.1}}})
    plan = bench.plan()
    assert [(r.subject.node, r.subject.piece) for r in plan.runs] == [("evaluator", "verdict")]
    assert "limits.AUC.at_least 0.5 -> 0.6" in plan.runs[0].because
    bench.settle()
    assert len(bench.ran("evaluator", "metrics")) == 1
    assert len(bench.ran("pusher")) == 1, "the same model is not pushed twice"


def test_a_refused_model_is_not_pushed_and_the_reason_is_the_verdict() -> None:
    bench = Bench()
    strict = pipeline(evaluator={"metrics": {"AUC": {"at_least": 0.99}}})
    limits = next(w for w in strict.work if w.piece.name == "verdict").piece.settings
    bench.verdicts[str(dict(limits))] = False
    bench.spec = strict
    bench.arrive(1)
    plan = bench.settle()
    assert actions(plan)["pusher/serving"] == "blocked"
    assert because(plan, "pusher") == "AUC 0.4 < 0.5"
    assert not plan.failed
    assert plan.stuck
    bench.spec = pipeline()
    bench.settle()
    assert len(bench.ran("pusher")) == 1


def test_a_model_is_not_pushed_on_the_blessing_of_another() -> None:
    bench = settled()
    bench.spec = pipeline(evaluator={"when": "manual"})
    bench.arrive(2)
    bench.settle()
    newest = bench.ran("trainer")[-1].outputs["model"][0]
    assert len(bench.ran("pusher")) == 1
    assert because(bench.plan(), "pusher") == f"evaluator has not evaluated model #{newest.id} yet"


def go_on(bench: Bench, plans: int = 9) -> Plan:
    """Do what there is to do now; nobody waits for anything."""
    for _ in range(plans):
        for run in bench.plan().runs:
            bench.finish(bench.start(run), run)
    return bench.plan()


TIMINGS = [
    {"min_interval": "1h"},
    {"when": "manual"},
    {"when": "schedule", "schedule": {"cron": "0 3 * * *"}},
    {"when": "schedule", "schedule": {"every": "1h"}},
]


@pytest.mark.parametrize("timing", TIMINGS)
def test_a_model_is_not_blessed_on_the_evaluation_of_another(timing: dict[str, object]) -> None:
    bench = Bench(spec=pipeline(evaluator=timing))
    bench.arrive(1)
    bench.ask(Verb.RUN_NOW, "evaluator")
    go_on(bench)
    bench.arrive(2)
    made = go_on(bench)
    first, second = (e.outputs["model"][0] for e in bench.ran("trainer"))
    assert list(bench.history.blessed_models("taxi")) == [first]
    assert because(made, "evaluator", "verdict") == f"evaluator has not evaluated model #{second.id} yet"
    bench.spec = pipeline(evaluator={**timing, "metrics": {"AUC": {"at_least": 0.4}}})
    go_on(bench)
    assert list(bench.history.blessed_models("taxi")) == [first], "other limits judge no other model"
    bench.now += timedelta(days=1)
    bench.ask(Verb.RUN_NOW, "evaluator")
    go_on(bench)
    assert list(bench.history.blessed_models("taxi")) == [second, first]


@pytest.mark.parametrize("timing", TIMINGS)
def test_a_verdict_follows_its_evaluation_at_once(timing: dict[str, object]) -> None:
    bench = Bench(spec=pipeline(evaluator=timing))
    for span in (1, 2, 3, 4):
        bench.arrive(span)
        go_on(bench)
        bench.now = bench.now.replace(hour=3) + timedelta(days=1, seconds=span)
        if timing.get("when") == "manual":
            bench.ask(Verb.RUN_NOW, "evaluator")
        go_on(bench)
        assert len(bench.ran("evaluator", "metrics")) == len(bench.ran("evaluator", "verdict")) == span
    bench.spec = pipeline(evaluator={**timing, "metrics": {"AUC": {"at_least": 0.4}}})
    go_on(bench)
    assert len(bench.ran("evaluator", "verdict")) == 5, "other limits are heeded at once"


def test_a_node_is_owed_a_time_at_which_its_data_was_on_its_way_through_others() -> None:
    bench = settled(trainer={"when": "schedule", "schedule": {"cron": "0 3 * * *"}})
    bench.now = bench.now.replace(day=2, hour=2, minute=50)
    bench.arrive(2)
    go_on(bench, plans=1)
    bench.now += timedelta(minutes=20)
    go_on(bench)
    began = [e.started.time().isoformat("minutes") for e in bench.history if "span-2" in e.key or "1..2" in e.key]
    assert (began[0], bench.ran("transform")[-1].started, len(bench.ran("trainer"))) == ("02:50", bench.now, 2)


def test_a_model_that_is_made_again_needs_no_other_evaluation_to_be_judged_anew() -> None:
    bench = settled()
    bench.missing.add(bench.ran("trainer")[0].outputs["model"][0].uri)
    bench.settle()
    assert len(bench.ran("trainer")) == 2
    bench.spec = pipeline(evaluator={"metrics": {"AUC": {"at_least": 0.4}}})
    bench.settle()
    assert (len(bench.ran("evaluator", "metrics")), len(bench.ran("evaluator", "verdict"))) == (1, 2)


def test_a_code_edit_reruns_what_uses_the_module_only() -> None:
    bench = settled()
    bench.code = "code-2"
    bench.settle()
    assert len(bench.ran("transform")) == len(bench.ran("trainer")) == 2
    assert len(bench.ran("examples")) == len(bench.ran("statistics")) == 1
    assert "code changed (code-1 -> code-2)" in bench.ran("transform")[-1].because


def test_broken_code_blocks_its_nodes_with_the_line_and_nothing_else() -> None:
    bench = Bench(code_problem="taxi.py:12: invalid syntax")
    bench.arrive(1)
    plan = bench.settle()
    assert actions(plan)["transform"] == "blocked"
    assert because(plan, "transform") == "taxi.py:12: invalid syntax"
    assert actions(plan)["validator"] == "reuse"
    bench.code_problem = ""
    assert actions(bench.settle())["pusher/serving"] == "reuse"


def test_an_incomplete_span_waits_and_holds_nothing_up() -> None:
    bench = settled()
    bench.incomplete.add(bench.arrive(2))
    plan = bench.plan()
    assert plan.runs == ()
    waits = [d for d in plan.decisions if isinstance(d, Wait)]
    assert [(d.subject.key, d.because) for d in waits] == [("span-2.v1", "no _SUCCESS yet")]


def test_a_new_version_replaces_the_old_one_once_it_is_complete() -> None:
    bench = settled()
    corrected = bench.arrive(1, version=2)
    bench.incomplete.add(corrected)
    assert bench.plan().runs == ()
    bench.incomplete.clear()
    bench.settle()
    assert [e.key for e in bench.ran("examples")] == ["span-1.v1", "span-1.v2"]
    assert "examples: span 1 changed" in bench.ran("transform")[-1].because


def test_a_bad_span_is_left_out_with_its_reason_and_the_old_result_stays() -> None:
    bench = settled()
    bench.arrive(2, content="empty")
    plan = bench.settle()
    assert actions(plan)["examples"] == "blocked"
    statistics = [d for d in plan.decisions if d.subject.node == "statistics"]
    assert {(d.subject.key, d.action) for d in statistics} == {("span-1.v1", "reuse"), ("span-2.v1", "wait")}
    assert "trips.csv is empty" in because(plan, "transform")
    assert actions(plan)["transform"] == "wait"
    assert len(bench.ran("trainer")) == 1
    bench.contents[max(bench.contents)] = "mended"
    assert actions(bench.settle())["trainer"] == "reuse"
    assert bench.ran("trainer")[-1].key == "spans 1..2 (2)"


@pytest.mark.parametrize(
    ("policy", "trained", "transform"),
    [
        pytest.param("warn", 2, "reuse", id="warn goes on with the span"),
        pytest.param("quarantine", 1, "reuse", id="quarantine leaves it out"),
        pytest.param("block", 1, "blocked", id="block holds everything until it is corrected"),
    ],
)
def test_anomalies_do_what_the_policy_says(policy: str, trained: int, transform: str) -> None:
    bench = settled(validator={"on_anomaly": policy})
    bench.arrive(2, content="odd")
    plan = bench.settle()
    assert len(bench.ran("trainer")) == trained
    assert actions(plan)["transform"] == transform
    assert not plan.failed


def test_a_permanent_failure_blocks_until_its_input_changes() -> None:
    bench = Bench(failures={"trainer": Failure("ComponentFailed", "run_fn raised ValueError", "Mend it.")})
    bench.arrive(1)
    plan = bench.settle()
    blocked = next(d for d in plan.decisions if isinstance(d, Blocked))
    assert (blocked.subject.node, blocked.hint) == ("trainer", "Mend it.")
    assert plan.failed
    assert "run_fn raised ValueError" in because(plan, "pusher")
    bench.failures.clear()
    assert bench.plan().runs == ()
    bench.code = "code-2"
    assert actions(bench.settle())["pusher/serving"] == "reuse"


def test_a_temporary_failure_is_tried_again_when_due_and_never_given_up() -> None:
    bench = settled()
    bench.failures["pusher"] = Failure("TargetUnavailable", "disk full", "Free some space.", retryable=True)
    bench.arrive(2)
    plan = bench.settle()
    wait = next(d for d in plan.decisions if d.subject.node == "pusher")
    assert isinstance(wait, Wait)
    assert wait.until
    assert "disk full" in wait.because
    bench.failures.clear()
    bench.now = wait.until - timedelta(milliseconds=1)
    assert bench.plan().runs == ()
    bench.now = wait.until
    assert actions(bench.settle())["pusher/serving"] == "reuse"


def test_a_worker_that_is_lost_again_and_again_blocks_after_its_attempts() -> None:
    bench = Bench(failures={"trainer": Failure("WorkerLost", "killed by SIGKILL", retryable=True)})
    bench.arrive(1)
    plan = bench.settle()
    while plan.wake_at:
        bench.now = plan.wake_at
        plan = bench.settle()
    assert len(bench.ran("trainer")) == 3
    assert because(plan, "trainer").startswith("3 times in a row: killed by SIGKILL")


def test_what_the_daemon_left_running_is_abandoned_and_done_once_more() -> None:
    bench = Bench()
    bench.arrive(1)
    (run,) = [r for r in bench.plan().runs if r.subject.node == "examples"]
    bench.start(run)
    assert because(bench.plan(), "examples").startswith("running, attempt 1: new span")
    bench.kill_daemon()
    again = next(r for r in bench.plan().runs if r.subject.node == "examples")
    assert (again.attempt, again.because) == (2, "execution 1 was abandoned when the daemon died: once more")


def test_work_that_kills_the_daemon_is_slowed_down_and_then_given_up() -> None:
    bench = Bench()
    bench.arrive(1)
    deaths = 0
    while (decision := next(d for d in bench.plan().decisions if d.subject.node == "examples")).action != "blocked":
        if isinstance(decision, Wait):
            assert deaths >= 3
            assert decision.until
            bench.now = decision.until
            continue
        assert isinstance(decision, Run)
        bench.start(decision)
        bench.kill_daemon()
        deaths += 1
    assert deaths == 10
    assert "the daemon died 10 times" in decision.because


def test_a_missing_artifact_is_made_again_loudly() -> None:
    bench = settled()
    statistics = bench.ran("statistics")[0].outputs["statistics"][0]
    bench.missing.add(statistics.uri)
    plan = bench.plan()
    assert [r.subject.node for r in plan.runs] == ["statistics"]
    assert f"{statistics.uri} is gone" in plan.runs[0].because
    bench.settle()
    assert len(bench.ran("trainer")) == 1, "equal content again: nothing below is touched"


def test_a_model_whose_files_are_gone_is_no_baseline_the_one_before_is() -> None:
    bench = settled()
    first = bench.ran("trainer")[0].outputs["model"][0]
    bench.arrive(2)
    bench.settle()
    bench.missing.add(bench.ran("trainer")[-1].outputs["model"][0].uri)
    bench.arrive(3)
    bench.settle()
    metrics = bench.ran("evaluator", "metrics")[-1]
    assert metrics.inputs["baseline_model"] == (first.id,)


def test_a_deleted_push_is_pushed_again() -> None:
    bench = settled()
    pushed = bench.ran("pusher")[0].outputs["pushed_model"][0]
    bench.missing.add(str(pushed.properties["pushed_destination"]))
    assert [r.subject.node for r in bench.plan().runs] == ["pusher"]


def test_going_back_to_an_older_model_trains_nothing_and_pushes_it_again() -> None:
    bench = settled()
    bench.spec = pipeline(trainer={"train_steps": 200})
    bench.settle()
    bench.spec = pipeline()
    bench.settle()
    assert len(bench.ran("trainer")) == 2
    models = [e.inputs["model"] for e in bench.ran("pusher")]
    assert models[0] == models[2] != models[1]
    bench.settle()
    assert len(bench.ran("pusher")) == 3


def test_new_work_waits_while_the_same_node_is_busy_with_the_old() -> None:
    bench = settled()
    bench.code = "code-2"
    run = next(r for r in bench.plan().runs if r.subject.node == "transform")
    busy = bench.start(run)
    bench.code = "code-3"
    assert because(bench.plan(), "transform") == f"execution {busy.id} is still running on span-1"
    bench.finish(busy, run)
    assert [r.subject.node for r in bench.plan().runs] == ["transform"]


def test_a_graceful_stop_costs_no_attempt() -> None:
    bench = Bench()
    bench.arrive(1)
    run = next(r for r in bench.plan().runs if r.subject.node == "examples")
    stopped = Outcome(State.ABANDONED, failure=Failure(STOPPED, "the daemon was stopped"))
    bench.history.record(bench.store.finish(bench.start(run).with_outcome(stopped, bench.now)))
    again = next(d for d in bench.plan().decisions if d.subject.node == "examples")
    assert isinstance(again, Run)


def test_a_target_that_is_not_declared_blocks_the_pusher_alone() -> None:
    bench = settled(pusher={"targets": ["serving", "nowhere"]})
    decisions = {d.subject.piece: d for d in bench.plan().decisions if d.subject.node == "pusher"}
    assert isinstance(decisions["serving"], Reuse)
    assert isinstance(decisions["nowhere"], Blocked)
    assert decisions["nowhere"].because == "no target 'nowhere' is declared"


def transformed(bench: Bench) -> str:
    """The key of the newest result of Transform, which names its spans."""
    return bench.ran("transform")[-1].key


@pytest.mark.parametrize(
    ("window", "spans"),
    [
        pytest.param(2, "spans 5..6 (2)", id="the newest two"),
        pytest.param("all", "spans 1..6 (5)", id="all there are"),
        pytest.param({"first": 2, "last": 5}, "spans 2..5 (3)", id="a range, both ends included"),
        pytest.param({"first": 5}, "spans 5..6 (2)", id="an open range"),
        pytest.param({"pinned": [1, 6]}, "spans 1..6 (2)", id="exactly these"),
    ],
)
def test_a_window_takes_what_it_says(window: object, spans: str) -> None:
    bench = Bench(spec=pipeline(transform={"window": window}))
    for number in (1, 2, 3, 5, 6):
        bench.arrive(number)
    bench.settle()
    assert transformed(bench) == spans


def test_a_denied_span_is_read_but_enters_no_window() -> None:
    bench = Bench(spec=pipeline(examples={"deny": [2]}, transform={"window": "all"}))
    for number in (1, 2, 3):
        bench.arrive(number)
    bench.settle()
    assert len(bench.ran("statistics")) == 3
    assert transformed(bench) == "spans 1..3 (2)"


def test_a_window_that_waits_for_gaps_names_the_missing_span() -> None:
    bench = Bench(spec=pipeline(transform={"window": 3, "on_gap": "wait"}))
    for number in (1, 2, 4):
        bench.arrive(number)
    assert because(bench.settle(), "transform") == "span 3 has not arrived, and on_gap says wait"
    bench.arrive(3)
    bench.settle()
    assert transformed(bench) == "spans 2..4 (3)"


def test_a_denied_span_is_no_gap() -> None:
    bench = Bench(spec=pipeline(examples={"deny": [2]}, transform={"window": 2, "on_gap": "wait"}))
    for number in (1, 2, 3):
        bench.arrive(number)
    bench.settle()
    assert transformed(bench) == "spans 1..3 (2)"


def test_a_denied_span_that_never_comes_is_no_gap_either() -> None:
    bench = Bench(spec=pipeline(examples={"deny": [2]}, transform={"window": 2, "on_gap": "wait"}))
    for number in (1, 3):
        bench.arrive(number)
    bench.settle()
    assert transformed(bench) == "spans 1..3 (2)"


def test_a_schedule_that_cannot_be_told_any_more_blocks_its_node_with_a_hint() -> None:
    bench = settled(trainer={"when": "schedule", "schedule": {"cron": "0 3 * * *", "timezone": "Mars/Base"}})
    bench.arrive(2)
    for _ in range(9):
        for run in plan(bench.spec, replace(bench.world(), fires={"trainer": FireFact(problem="no such zone")})).runs:
            bench.finish(bench.start(run), run)
    made = plan(bench.spec, replace(bench.world(), fires={"trainer": FireFact(problem="no such zone")}))
    (blocked,) = (d for d in made.decisions if d.subject.node == "trainer")
    assert isinstance(blocked, Blocked)
    assert (blocked.because, blocked.hint) == ("no such zone", "Mend `schedule` in the spec.")


def test_a_pinned_span_is_waited_for_by_name() -> None:
    bench = Bench(spec=pipeline(transform={"window": {"pinned": [1, 7]}}))
    bench.arrive(1)
    assert because(bench.settle(), "transform") == "pinned span 7 is not there"


def test_a_window_waits_for_its_least_number_of_spans() -> None:
    bench = Bench(spec=pipeline(transform={"window": 3, "min_spans": 2}))
    bench.arrive(1)
    assert because(bench.settle(), "transform") == "1 of 2 spans"
    bench.arrive(2)
    bench.settle()
    assert transformed(bench) == "spans 1..2 (2)"


def compared_with(world: Bench, span: int) -> list[int | None]:
    """The spans whose statistics the newest judgement of a span had beside its own."""
    last = [e for e in world.ran("validator") if e.key.startswith(f"span-{span}.")][-1]
    return [of for of, _ in last.ingredients["inputs"].get("previous_statistics", ())]


def test_drift_is_measured_from_the_newest_good_day_before_not_from_a_refused_or_denied_one() -> None:
    world = Bench(spec=pipeline(validator={"drift": {"fare": 0.1}, "on_anomaly": "quarantine"}))
    for number, content in ((1, "good-1"), (2, "odd"), (3, "good-3"), (4, "good-4")):
        world.arrive(number, content=content)
    world.settle()
    assert [compared_with(world, n) for n in (1, 2, 3, 4)] == [[], [1], [1], [3]]
    gate = next(w for w in world.spec.work if w.node == "validator")
    found = finding(refusal(world, 2), gate)
    world.ask(Verb.ACCEPT, "validator", key="span-2.v1", span=2, about=found)
    world.settle()
    assert compared_with(world, 3) == [1], "an exception that someone accepted is no measure of other days"
    world.now += timedelta(seconds=1)
    world.ask(Verb.ACCEPT, "validator", key="span-2.v1", span=2, about=found, baseline=True)
    world.settle()
    assert compared_with(world, 3) == [2], "unless they say that it is"
    world.spec = pipeline(validator={"drift": {"fare": 0.1}, "on_anomaly": "quarantine"}, examples={"deny": [3]})
    world.settle()
    assert compared_with(world, 4) == [2]


def refusal(world: Bench, span: int) -> Execution:
    return next(e for e in world.ran("validator") if e.key.startswith(f"span-{span}."))


def edited(bench: Bench, schema: str, counted: str) -> set[str]:
    """The nodes that ran for an edit of the curated schema."""
    before = {e.id for e in bench.history}
    bench.schema, bench.counted = schema, counted
    bench.settle()
    return {e.node for e in bench.history if e.id not in before}


def test_statistics_are_computed_anew_only_for_what_they_depend_on_in_a_curated_schema() -> None:
    bench = Bench(counted="")
    bench.arrive(1)
    bench.settle()
    assert "schema" not in bench.ran("statistics")[0].ingredients["inputs"], "as before there was such an input"
    assert "statistics" not in edited(bench, "schema-2", ""), "a range, an environment, a limit"
    assert "statistics" in edited(bench, "schema-3", "code is categorical")
    assert "statistics" not in edited(bench, "schema-4", "code is categorical")
    ran = len(bench.ran("statistics"))
    assert "validator" in edited(bench, "schema-5", ""), "the statistics that there were before serve again"
    assert len(bench.ran("statistics")) == ran
    unsaid = settled()
    assert unsaid.ran("statistics")[0].ingredients["inputs"]["schema"], "what does not say so counts as a whole"
