"""Targets that get no push for long although data came: when that is said, what holds the push up, when it is over."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from planning_steps import apply, histories
from planning_world import NODES, TWO, Bench, pipeline
from pydantic import ValidationError

from ctd.core.executions import Failure
from ctd.core.requests import Verb
from ctd.core.spans import Span
from ctd.planning.decisions import Alert, AlertKind, Decision, Plan, Run
from ctd.planning.plan import plan
from ctd.specs.nodes import PusherSpec
from ctd.specs.pipeline import PipelineSpec

HOURS = timedelta(hours=1)
NIGHT = datetime(2026, 1, 1, tzinfo=timezone.utc)
BROKEN = Failure("BadModule", "name 'x' is not defined", hint="Mend taxi.py.")


def within(*args: Any, **changes: Any) -> PipelineSpec:
    pusher = {"push_within": "6h", **changes.pop("pusher", {})}
    return pipeline(*args, pusher=pusher, **changes)


def bench(spec: PipelineSpec | None = None) -> Bench:
    """Span 1 was pushed at night."""
    made = Bench(spec=spec or within())
    made.arrive(1)
    made.settle()
    return made


def overdue(plan: Plan) -> list[Alert]:
    return [alert for alert in plan.alerts if alert.kind is AlertKind.OVERDUE]


def at(world: Bench, hours: float) -> Plan:
    world.now = NIGHT + hours * HOURS
    return world.plan()


def settled_at(world: Bench, hours: float) -> Plan:
    """At this time all is done that can be done then."""
    made = at(world, hours)
    while made.runs:
        for run in made.runs:
            world.finish(world.start(run), run)
        made = world.plan()
    return made


def test_a_span_that_leads_to_no_push_raises_an_alert_at_its_time_which_says_what_holds_it_and_heals_at_the_push() -> (
    None
):
    world = bench()
    world.failures["trainer"] = BROKEN
    world.arrive(2)
    made = settled_at(world, 10)
    assert (overdue(made), made.wake_at) == ([], NIGHT + 16 * HOURS)
    assert overdue(at(world, 16 - 0.001)) == []
    (alert,) = overdue(at(world, 16))
    assert (alert.node, alert.target, alert.since) == ("pusher", "serving", NIGHT + 10 * HOURS)
    assert alert.because == (
        "nothing was pushed to serving since 2026-01-01 00:00 UTC, although examples span-2.v1 came at "
        "2026-01-01 10:00 UTC (push_within 6h00m)"
    )
    assert len(alert.causes) == 1
    assert alert.causes[0].startswith("trainer/spans 1..2 (2) is blocked: name 'x' is not defined")
    assert alert.hint.endswith("; evaluator, infra and pusher wait for that.")
    del world.failures["trainer"]
    world.code = "code-2"
    assert overdue(world.settle()) == []


def test_it_is_quiet_where_nothing_new_came_however_long_the_last_push_is_ago() -> None:
    world = bench()
    made = at(world, 1000)
    assert (overdue(made), made.wake_at) == ([], None)


def test_without_push_within_nothing_is_said_and_nothing_is_waited_for() -> None:
    world = bench(pipeline())
    world.failures["trainer"] = BROKEN
    world.arrive(2)
    settled_at(world, 10)
    made = at(world, 1000)
    assert (made.alerts, made.wake_at) == ((), None)


def test_a_feed_that_never_stops_does_not_put_the_deadline_off() -> None:
    world = bench()
    world.failures["trainer"] = BROKEN
    for hour in range(10, 16):
        world.arrive(hour)
        assert overdue(settled_at(world, hour)) == []
    world.arrive(16)
    (alert,) = overdue(settled_at(world, 16))
    assert alert.since == NIGHT + 10 * HOURS


def test_a_push_of_an_older_model_does_not_count_for_newer_data() -> None:
    """The span came while the model before it was pushed, which knows nothing of it."""
    world = bench()
    world.arrive(2)
    world.now = NIGHT + 10 * HOURS
    while "pusher" not in {run.subject.node for run in world.plan().runs}:
        for run in world.plan().runs:
            world.finish(world.start(run), run)
    (push,) = (world.start(run) for run in world.plan().runs)
    world.failures["transform"] = BROKEN
    world.arrive(3)
    settled_at(world, 11)
    world.now = NIGHT + 12 * HOURS
    world.finish(push)
    assert overdue(settled_at(world, 16.9)) == []
    (alert,) = overdue(at(world, 17))
    assert "since 2026-01-01 12:00 UTC, although examples span-3.v1 came at 2026-01-01 11:00 UTC" in alert.because


@pytest.mark.parametrize(
    ("ask", "spec", "cause"),
    [
        pytest.param(Verb.PAUSE, {}, "paused by ana", id="a paused pipeline"),
        pytest.param(None, {"pusher": {"approval": True}}, "waits for approval", id="an approval"),
        pytest.param(None, {"trainer": {"when": "manual"}}, "manual: `ctd run-now taxi trainer`", id="a manual node"),
        pytest.param(None, {"evaluator": {"when": "manual"}}, "evaluator/metrics span-2 waits: manual", id="a judge"),
        pytest.param(None, {"trainer": {"min_interval": "3d"}}, "min_interval 3d", id="a long interval"),
        pytest.param(None, {"transform": {"window": {"newest": 3}, "on_gap": "wait"}}, "span 2", id="a gap"),
    ],
)
def test_whatever_holds_a_push_up_is_named(ask: Verb | None, spec: dict[str, Any], cause: str) -> None:
    world = bench()
    world.spec = within(**spec)
    if ask:
        world.now = NIGHT + 10 * HOURS
        world.ask(ask)
    world.arrive(3 if "gap" in str(spec) else 2)
    settled_at(world, 10)
    assert overdue(at(world, 15.9)) == []
    (alert,) = overdue(at(world, 16.1))
    assert cause in alert.hint
    assert world.plan() == world.plan()


def test_quarantined_spans_hold_a_push_up_though_all_else_is_done() -> None:
    world = bench()
    world.arrive(2, content="odd")
    settled_at(world, 10)
    (alert,) = overdue(at(world, 16))
    assert "examples span 2 is quarantined: validator: fare: out of range" in alert.hint
    world.arrive(3)
    settled_at(world, 17)
    assert overdue(at(world, 17)) == [], "a newer one was pushed"


def test_a_span_that_the_spec_denies_is_none_that_a_push_should_follow() -> None:
    world = bench()
    world.spec = within(examples={"deny": [2]})
    world.arrive(2)
    settled_at(world, 10)
    made = at(world, 100)
    assert (overdue(made), made.wake_at) == ([], None)


def test_spans_outside_of_a_fixed_window_call_for_no_push() -> None:
    world = bench(within(transform={"window": {"first": 1, "last": 1}}))
    world.arrive(2)
    settled_at(world, 10)
    made = at(world, 100)
    assert (overdue(made), made.wake_at) == ([], None)


def test_a_model_that_is_refused_is_no_push() -> None:
    world = bench()
    world.verdicts = {str(e.ingredients["settings"]): False for e in world.ran("evaluator", "verdict")}
    world.arrive(2)
    settled_at(world, 10)
    (alert,) = overdue(at(world, 16))
    assert "pusher/serving is blocked: AUC 0.4 < 0.5" in alert.hint


def test_a_corrected_span_calls_for_a_push_and_one_that_is_corrected_back_does_not() -> None:
    world = bench()
    world.failures["trainer"] = BROKEN
    world.arrive(1, version=2)
    settled_at(world, 10)
    (alert,) = overdue(at(world, 16))
    assert "examples span-1.v2 changed at 2026-01-01 10:00 UTC" in alert.because
    del world.contents[Span(1, 2)]
    assert overdue(world.settle()) == []


def test_an_edit_calls_for_a_push_from_the_first_work_that_was_done_for_it() -> None:
    world = bench()
    world.verdicts = {str(e.ingredients["settings"]): False for e in world.ran("evaluator", "verdict")}
    world.code = "code-2"
    settled_at(world, 10)
    assert overdue(at(world, 15.9)) == []
    (alert,) = overdue(at(world, 16))
    assert "trainer ran for a change at 2026-01-01 10:00 UTC" in alert.because
    world.code = "code-1"
    assert overdue(world.settle()) == [], "it was taken back"


def test_what_came_out_as_before_calls_for_no_push_later() -> None:
    world = bench()
    world.spec = within(evaluator={"slices": [[], ["company"]]})
    settled_at(world, 1)
    world.failures["trainer"] = BROKEN
    world.arrive(2)
    settled_at(world, 10)
    assert overdue(at(world, 15.9)) == []


def test_a_rollback_is_no_reason_by_itself_and_ends_with_newer_data() -> None:
    world = bench()
    world.arrive(2)
    settled_at(world, 1)
    world.now = NIGHT + 20 * HOURS
    first, second = world.ran("pusher")
    world.ask(Verb.ROLLBACK, "pusher", key="serving", execution=second.id, about=str(first.id))
    settled_at(world, 20)
    assert overdue(at(world, 100)) == []
    assert len(world.ran("pusher")) == 3


def test_newer_data_that_a_pin_keeps_away_is_told_of() -> None:
    world = bench()
    world.pins["serving"] = version = int(world.ran("pusher")[0].output("pushed_model")[0].properties["pushed_version"])
    assert overdue(settled_at(world, 10)) == []
    world.arrive(2)
    settled_at(world, 20)
    (alert,) = overdue(at(world, 26))
    assert alert.causes == (f"pusher.serving: pinned to version {version}",)


def test_a_canary_that_was_taken_back_is_no_push() -> None:
    world = bench()
    world.canaries.add("serving")
    world.arrive(2)
    world.now = NIGHT + 10 * HOURS
    while not world.ran("trainer")[-1].key.startswith("spans 1..2"):
        for run in world.plan().runs:
            world.finish(world.start(run), run)
    world.bad |= {a.digest for a in world.ran("trainer")[-1].output("model")}
    settled_at(world, 10)
    assert not next(e for e in world.ran("pusher") if e.output("canary_blessing")).output("canary_blessing")[0].blessed
    assert overdue(at(world, 15.9)) == []
    (alert,) = overdue(at(world, 16))
    assert "rolled back after 3s" in alert.causes[0]


def test_every_target_has_its_own_time() -> None:
    spec = within(pusher={"targets": ["serving", "mobile"], "push_within": {"mobile": "2h"}})
    world = Bench(spec=spec, targets={"serving": "/serving/taxi", "mobile": "/mobile/taxi"})
    world.arrive(1)
    world.settle()
    world.failures["trainer"] = BROKEN
    world.arrive(2)
    settled_at(world, 10)
    assert [alert.target for alert in overdue(at(world, 100))] == ["mobile"]


def test_a_new_data_set_for_the_judge_alone_calls_for_no_push() -> None:
    world = Bench(spec=within(TWO), shape=TWO)
    world.arrive(1)
    world.beside = {"holdout": {Span(1, 1): "h1"}}
    world.settle()
    world.failures["evaluator"] = BROKEN
    world.beside["holdout"][Span(2, 1)] = "h2"
    settled_at(world, 10)
    assert overdue(at(world, 100)) == []


def test_a_pipeline_that_has_never_pushed_is_overdue_after_its_first_span() -> None:
    world = Bench(spec=within())
    world.failures["trainer"] = BROKEN
    world.arrive(1)
    world.settle()
    assert overdue(at(world, 5.9)) == []
    (alert,) = overdue(at(world, 6.1))
    assert alert.because.startswith("nothing was ever pushed to serving, although examples span-1.v1 came at")


def test_a_restart_changes_no_deadline() -> None:
    world = bench()
    world.failures["trainer"] = BROKEN
    world.arrive(2)
    settled_at(world, 10)
    before = world.plan().wake_at
    world.kill_daemon()
    assert world.plan().wake_at == before == NIGHT + 16 * HOURS


def test_it_is_no_part_of_any_identity() -> None:
    world = bench(pipeline())
    ran = len(list(world.history))
    world.spec = within()
    world.settle()
    assert len(list(world.history)) == ran
    assert NODES["pusher"] == {"kind": "pusher", "targets": ["serving"]}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        pytest.param("6 hours", "'6 hours' is not a duration", id="no duration"),
        pytest.param(6, "6 is not a duration", id="a bare number"),
        pytest.param("0s", "must be longer than nothing", id="nothing"),
        pytest.param({"serving": "6"}, "'6' is not a duration", id="of one target"),
        pytest.param({"servin": "6h"}, "there is no target 'servin' here", id="a target that it does not push to"),
    ],
)
def test_a_wrong_time_is_refused(said: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        within(pusher={"push_within": said})


@pytest.mark.parametrize("said", ["6h", {"serving": "1h30m"}])
def test_workers_read_what_the_daemon_writes(said: Any) -> None:
    node = within(pusher={"push_within": said}).node("pusher")
    assert PusherSpec.model_validate(node.model_dump(mode="json")) == node


@settings(max_examples=60, deadline=None)
def untold(made: Plan) -> list[Decision]:
    """The decisions, less the note of what a process would be told, in which every key of the spec counts."""
    return [replace(d, told="") if isinstance(d, Run) else d for d in made.decisions]


@given(histories())
def test_whatever_happens_it_changes_no_decision_and_a_restart_changes_no_deadline(
    history: list[tuple[Any, ...]],
) -> None:
    nodes = {**NODES, "pusher": {**NODES["pusher"], "push_within": "20s"}}
    world = Bench(spec=pipeline(nodes), shape=nodes)
    for step in history:
        apply(world, step)
        made = world.plan()
        said = world.spec.model_dump(mode="json")
        said["nodes"]["pusher"]["push_within"] = {}
        without = PipelineSpec.model_validate_json(json.dumps(said), context={"base": "/specs"})
        assert untold(plan(without, world.world())) == untold(made)
        world.history = world.remembered()
        assert world.plan() == made
