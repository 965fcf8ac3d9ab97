"""Spans that change after they were read, that come late, or that do not come at all."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_oracle import differences
from planning_steps import CONTENTS, SPANS, VERSIONS, apply, histories
from planning_world import NODES, Bench, pipeline
from test_incremental import Watched

from ctd.core.executions import Execution, State
from ctd.core.fingerprints import digest_of
from ctd.core.history import History
from ctd.core.spans import Span
from ctd.planning.arrivals import late
from ctd.planning.decisions import Blocked, Decision, Plan, Reuse, Run
from ctd.planning.world import World
from ctd.specs.nodes import ExampleGenSpec

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def bench(**examples: object) -> Bench:
    """Span 1 went all the way."""
    made = Bench(spec=pipeline(examples=examples))
    made.arrive(1)
    made.settle()
    return made


def of_span(plan: Plan, number: int, node: str = "examples") -> Decision:
    return next(d for d in plan.decisions if d.subject.node == node and d.subject.key.startswith(f"span-{number}."))


def rewrite(world: Bench, content: str, number: int = 1) -> None:
    """Another content in the same place."""
    world.contents[Span(number, 1)] = content


def test_changed_content_is_read_anew_and_counted() -> None:
    world = bench()
    for revision, content in ((2, "b"), (3, "c")):
        rewrite(world, content)
        (run,) = (r for r in world.plan().runs if r.subject.node == "examples")
        assert run.revision == revision
        assert "content changed" in run.because
        world.settle()
    assert len(world.ran("trainer")) == 3
    rewrite(world, "b")
    assert world.plan().runs[0].subject.node != "examples", "it was read once"
    world.missing |= {a.uri for e in world.ran("examples") for a in e.outputs["examples"]}
    assert next(r for r in world.plan().runs if r.subject.node == "examples").revision == 2


def test_where_changes_are_ignored_what_was_read_stays() -> None:
    world = bench(on_change="ignore")
    rewrite(world, "b")
    plan = world.settle()
    decision = of_span(plan, 1)
    first = world.ran("examples")[0]
    change = f"{digest_of('content-1-1')[:8]} -> {digest_of('b')[:8]}"
    assert isinstance(decision, Reuse)
    assert decision.because == f"what execution {first.id} read stays: changed since ({change}), ignored by on_change"
    assert decision.outputs == first.outputs
    assert len(world.ran("trainer")) == 1
    world.arrive(1, version=2)
    world.settle()
    assert [e.key for e in world.ran("examples")] == ["span-1.v1", "span-1.v2"], "a version is said on purpose"


def test_ignored_changes_are_read_when_what_was_read_is_lost_or_the_settings_are_others() -> None:
    world = bench(on_change="ignore")
    rewrite(world, "b")
    world.settle()
    world.spec = pipeline(examples={"on_change": "ignore", "splits": {"train": 3, "eval": 1}})
    world.settle()
    assert [e.ingredients["content"] for e in world.ran("examples")] == [digest_of("content-1-1"), digest_of("b")]
    world.spec = pipeline(examples={"on_change": "ignore"})
    world.settle()
    assert len(world.ran("examples")) == 2, "back to the first settings, and to what was read with them"
    world.missing.add(world.ran("examples")[0].outputs["examples"][0].uri)
    world.settle()
    assert world.ran("examples")[-1].ingredients["content"] == digest_of("b")


def test_where_a_change_is_an_error_it_stops_that_span_with_a_hint() -> None:
    world = bench(on_change="fail")
    world.arrive(2)
    world.settle()
    rewrite(world, "b")
    plan = world.settle()
    decision = of_span(plan, 1)
    assert isinstance(decision, Blocked)
    assert "changed since execution" in decision.because
    assert "on_change: new_version" in decision.hint
    assert plan.failed
    assert {d.action for d in plan.decisions if d.subject.node != "examples"} == {"reuse"}, "what was made of it stays"
    world.code = "code-2"
    world.arrive(3)
    plan = world.settle()
    blocked = next(d for d in plan.decisions if d.subject.node == "transform")
    assert blocked.because == "examples: span 1 changed after it was read, so nothing new is made of it"
    assert len(world.ran("trainer")) == 2
    assert of_span(plan, 3, "statistics").action == "reuse", "other spans go on"
    rewrite(world, "content-1-1")
    assert not world.settle().failed
    assert len(world.ran("trainer")) == 3
    rewrite(world, "b")
    world.spec = pipeline()
    assert not world.settle().failed
    assert len(world.ran("trainer")) == 4


@pytest.mark.parametrize("policy", ["new_version", "ignore", "fail"])
def test_a_policy_changes_nothing_where_nothing_changed(policy: str) -> None:
    world = bench()
    world.spec = pipeline(examples={"on_change": policy})
    assert {d.action for d in world.plan().decisions} == {"reuse"}


def test_a_span_that_is_being_written_again_holds_windows_unless_changes_are_ignored() -> None:
    for policy, action in (("new_version", "wait"), ("fail", "wait"), ("ignore", "reuse")):
        world = bench(on_change=policy)
        world.passing.add(Span(1, 1))
        plan = world.plan()
        assert {d.subject.node: d.action for d in plan.decisions}["transform"] == action


def test_a_span_that_comes_too_late_is_read_but_enters_no_window() -> None:
    world = bench(max_lateness="2d")
    world.arrive(4)
    world.settle()
    world.now += timedelta(days=1)
    world.arrive(3)
    world.settle()
    assert world.ran("transform")[-1].key == "spans 1..4 (3)"
    world.now += timedelta(days=2)
    world.arrive(2)
    plan = world.settle()
    assert world.ran("examples")[-1].key == "span-2.v1"
    decision = of_span(plan, 2)
    assert isinstance(decision, Reuse)
    assert decision.because.endswith("after span 3, later than max_lateness 2d0h") or "after span 4" in decision.because
    assert world.ran("transform")[-1].key == "spans 1..4 (3)"
    transform = next(d for d in plan.decisions if d.subject.node == "transform")
    assert "left out span 2: it came 3d" in transform.because
    world.spec = pipeline()
    world.settle()
    assert world.ran("transform")[-1].key == "spans 2..4 (3)"


def test_nobody_waits_for_a_span_that_is_too_late() -> None:
    world = bench(max_lateness="2d")
    world.arrive(3)
    world.settle()
    world.now += timedelta(days=3)
    world.arrive(2)
    plan = world.plan()
    assert isinstance(of_span(plan, 2), Run)
    assert next(d for d in plan.decisions if d.subject.node == "transform").action == "reuse"


def test_a_late_span_that_is_pinned_is_taken() -> None:
    world = bench(max_lateness="2d")
    world.arrive(3)
    world.settle()
    world.now += timedelta(days=3)
    world.arrive(2)
    world.spec = pipeline(examples={"max_lateness": "2d"}, transform={"window": {"pinned": [2, 3]}})
    world.settle()
    assert world.ran("transform")[-1].key == "spans 2..3 (2)"


def test_a_correction_of_an_old_span_is_not_late() -> None:
    world = bench(max_lateness="2d")
    world.arrive(2)
    world.settle()
    world.now += timedelta(days=9)
    world.arrive(1, version=2)
    world.settle()
    assert world.ran("transform")[-1].key == "spans 1..2 (2)"
    assert "examples: span 1 changed" in world.ran("transform")[-1].because


def arrivals(*hours: tuple[int, int]) -> History:
    """A history in which spans were read at these hours."""
    return History(
        Execution(
            "p", "examples", "example_gen", f"span-{n}", f"{n}", NOW + timedelta(hours=at),
            ingredients={"span": [n, None]}, state=State.SUCCEEDED, id=i + 1,
        )
        for i, (n, at) in enumerate(hours)
    )  # fmt: skip


LATE = ExampleGenSpec.model_validate({"kind": "example_gen", "input": "/d/{SPAN}", "max_lateness": "24h", "deny": [99]})


@pytest.mark.parametrize(
    ("came", "found"),
    [
        pytest.param([(1, 0), (2, 24), (3, 48)], [], id="in order"),
        pytest.param([(2, 0), (1, 24)], [], id="just in time"),
        pytest.param([(2, 0), (1, 25)], [1], id="too late"),
        pytest.param([(3, 0), (2, 5), (1, 25)], [1], id="counted from the first newer one"),
        pytest.param([(1, 0), (3, 1), (2, 30), (4, 31)], [2], id="one in between"),
        pytest.param([(99, 0), (1, 25), (2, 49)], [], id="a denied span makes none late"),
    ],
)
def test_a_span_is_late_by_the_time_since_a_newer_one_was_read(came: list[tuple[int, int]], found: list[int]) -> None:
    world = World(NOW + timedelta(hours=100), arrivals(*came))
    assert sorted(late(LATE, "examples", "p", [n for n, _ in came], world)) == found


@given(st.permutations(range(6)), st.lists(st.integers(0, 20), min_size=6, max_size=6), st.integers(0, 5))
def test_a_backlog_that_came_within_the_limit_has_no_late_spans_and_late_ones_stay_late(
    order: list[int], gaps: list[int], longer: int
) -> None:
    at, came = 0, []
    for number, gap in zip(order, gaps, strict=True):
        at += gap
        came.append((number, at))
    now = NOW + timedelta(hours=at)
    found = late(LATE, "examples", "p", order, World(now, arrivals(*came)))
    assert late(LATE, "examples", "p", order, World(now + timedelta(days=longer), arrivals(*came))) == found
    when = dict(came)
    assert set(found) == {n for n in order if any(when[n] - when[m] > 24 for m in order if m > n)}


def test_a_silent_source_raises_an_alert_by_itself_and_is_named_in_what_runs_meanwhile() -> None:
    world = bench(stale_after="26h")
    read = world.ran("examples")[0].started
    plan = world.plan()
    assert (plan.alerts, plan.wake_at) == ((), read + timedelta(hours=26))
    world.now = read + timedelta(hours=26)
    plan = world.plan()
    (alert,) = plan.alerts
    assert (alert.node, plan.wake_at) == ("examples", None)
    assert alert.because.startswith("no new span since 2026-01-01 00:00 UTC (stale_after 26h00m)")
    assert any(d.action == "wait" and d.because == alert.because for d in plan.decisions)
    assert plan.settled
    assert plan.stuck
    world.code = "code-2"
    world.settle()
    assert alert.because in world.ran("trainer")[-1].because
    world.arrive(2)
    plan = world.plan()
    assert plan.alerts == (), "it has just come"
    plan = world.settle()
    assert (plan.alerts, plan.stuck) == ((), False)


def test_a_correction_or_an_incomplete_span_is_no_sign_of_life() -> None:
    world = bench(stale_after="26h")
    world.now += timedelta(hours=27)
    world.incomplete.add(world.arrive(2))
    world.arrive(1, version=2)
    assert world.settle().alerts


def test_a_source_that_never_brought_anything_waits_without_an_alert() -> None:
    world = Bench(spec=pipeline(examples={"stale_after": "1h"}))
    plan = world.settle()
    assert (plan.alerts, plan.wake_at) == ((), None)


@pytest.mark.parametrize("hours", [-48, -1])
def test_a_clock_that_is_set_back_raises_no_alert(hours: int) -> None:
    world = bench(stale_after="26h")
    world.now += timedelta(hours=hours)
    assert world.plan().alerts == ()


POLICIES = st.fixed_dictionaries(
    {},
    optional={
        "on_change": st.sampled_from(["ignore", "fail"]),
        "max_lateness": st.sampled_from(["1s", "20s"]),
        "stale_after": st.sampled_from(["1s", "30s"]),
    },
)


@given(POLICIES, histories())
def test_whatever_the_policy_no_work_is_done_twice_and_memory_is_what_the_store_says(
    said: dict[str, str], history: list[tuple[Any, ...]]
) -> None:
    nodes = {**NODES, "examples": {**NODES["examples"], **said}}
    world = Watched(spec=pipeline(nodes), shape=nodes)
    for step in history:
        apply(world, step)
    plan = world.settle()
    assert differences(world.history, world.store) == []
    world.history = world.remembered()
    assert world.plan() == plan


ARRIVALS = st.one_of(
    st.tuples(st.just("arrive"), SPANS, VERSIONS, CONTENTS), st.tuples(st.just("run"), st.integers(1, 6))
)


@settings(max_examples=100, deadline=None)
@given(histories(ARRIVALS))
def test_where_changes_are_ignored_each_version_of_a_span_is_read_once(history: list[tuple[Any, ...]]) -> None:
    world = Bench(spec=pipeline(examples={"on_change": "ignore"}))
    for step in history:
        apply(world, step)
    world.settle()
    read = [e.key for e in world.ran("examples") if e.state is State.SUCCEEDED]
    assert len(read) == len(set(read))
