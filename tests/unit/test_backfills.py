"""Spans before `start`, and the backfills that ask for them or for their work once more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_steps import CONTENTS, SPANS, VERSIONS, apply, histories
from planning_world import Bench, pipeline
from test_incremental import state

from ctd.core.executions import Failure, Outcome, State
from ctd.core.requests import OperatorRequest, Order, Verb
from ctd.core.spans import Span
from ctd.planning.decisions import Blocked, Plan, Reuse
from ctd.planning.rehearsal import rehearsal

BROKEN = Failure("BadInput", "trips.csv is odd", hint="mend it")


def bench(spans: int = 6, start: int | None = 4, **changes: dict[str, Any]) -> Bench:
    """Spans 1 to `spans` lie there; those from `start` on went all the way."""
    examples = {"start": start} if start is not None else {}
    made = Bench(spec=pipeline(examples={**examples, **changes.pop("examples", {})}, **changes))
    for number in range(1, spans + 1):
        made.arrive(number)
    made.settle()
    return made


def backfill(world: Bench, first: int, last: int, node: str = "", **said: Any) -> OperatorRequest:
    about = {"order": Order.NEWEST, **said}
    return world.ask(Verb.BACKFILL, node, key=f"{first}..{last}", span=first, last=last, **about)


def stop(world: Bench, request: OperatorRequest) -> None:
    world.ask(Verb.STOP_BACKFILL, request.node, key=request.key, about=str(request.id))


def spans_of(world: Bench, node: str = "examples") -> list[int]:
    """The spans that a node worked on, in the order in which it began."""
    return [int(e.key.removeprefix("span-").partition(".")[0]) for e in world.ran(node)]


def one_by_one(world: Bench, most: int = 200) -> list[str]:
    """Everything there is to run, with room for one at a time; the order in which it ran."""
    order: list[str] = []
    while queue := world.plan().queue:
        order.append(f"{queue[0].subject.node} {queue[0].subject.key}")
        world.finish(world.start(queue[0]), queue[0])
        assert len(order) < most
    return order


def progress(plan: Plan) -> list[tuple[int, int, int]]:
    """Spans, those done, and those failed, of each open backfill."""
    return [(len(b.spans), b.done, b.failed) for b in plan.backfills if b.open]


# Where reading starts.


def test_spans_before_start_are_not_read_and_told_once_with_a_count() -> None:
    world = bench()
    plan = world.plan()
    assert spans_of(world) == [6, 5, 4]
    (unread,) = plan.unread
    assert unread.spans == (1, 2, 3)
    assert unread.because == "3 spans before 4 are not read (start); `ctd backfill taxi 1 3` reads them"
    assert not [d for d in plan.decisions if d.subject.key.startswith(("span-1.", "span-2.", "span-3."))]
    assert (plan.settled, plan.stuck, plan.failed, plan.wake_at) == (True, False, False, None)


def test_old_spans_that_are_incomplete_or_being_written_cost_no_decision_either() -> None:
    world = bench()
    before = world.plan()
    world.incomplete.add(world.arrive(-7))
    world.passing.add(world.arrive(-8))
    assert world.plan() == before


def test_where_everything_lies_before_start_the_pipeline_waits_for_data_and_says_so() -> None:
    world = bench(start=7)
    plan = world.plan()
    assert world.history.count("taxi") == 1, "the schema"
    (root,) = (d for d in plan.decisions if d.subject.node == "examples")
    assert root.because == "no span since 7 (start) has arrived yet"
    assert plan.stuck
    assert "examples: no span since 7" in next(d for d in plan.decisions if d.subject.node == "transform").because


def test_a_start_in_a_dated_input_is_said_as_a_date() -> None:
    examples = {"input": "data/{YYYY}-{MM}-{DD}/v{VERSION}", "start": "1970-01-05"}
    world = bench(start=None, examples=examples)
    because = world.plan().unread[0].because
    assert "before 1970-01-05 are not read" in because
    assert "`ctd backfill taxi 1970-01-02 1970-01-04`" in because


def test_start_changes_no_identity() -> None:
    world = bench(start=None)
    world.spec = pipeline(examples={"start": 2})
    assert world.plan().runs == (), "the window of three does not reach so far"


def test_a_source_is_silent_though_old_spans_lie_unread_or_are_backfilled() -> None:
    world = bench(examples={"stale_after": "1h"})
    world.now += timedelta(hours=2)
    assert world.plan().alerts
    backfill(world, 1, 3)
    world.settle()
    assert spans_of(world)[-3:] == [3, 2, 1]
    assert world.plan().alerts, "what is read of the past is no sign of life"


# Reading old spans.


def test_a_backfill_reads_old_spans_and_a_window_over_all_trains_once() -> None:
    world = bench(transform={"window": "all"})
    backfill(world, 1, 3)
    plan = world.settle()
    assert sorted(spans_of(world)) == [1, 2, 3, 4, 5, 6]
    assert world.ran("transform")[-1].key == "spans 1..6 (6)"
    assert len(world.ran("transform")) == len(world.ran("trainer")) == 2
    assert plan.unread == ()
    read = next(e for e in world.ran("examples") if e.key == "span-2.v1")
    assert read.because == "new span, complete: marker _SUCCESS; backfill by ana: so be it"


def test_a_backfill_of_a_part_leaves_the_rest_unread_and_windows_that_do_not_reach_so_far_alone() -> None:
    world = bench()
    backfill(world, 2, 3)
    plan = world.settle()
    assert plan.unread[0].spans == (1,)
    assert plan.unread[0].because == "1 span before 4 is not read (start); `ctd backfill taxi 1 1` reads it"
    assert len(world.ran("trainer")) == 1, "the newest three are the same"


def test_a_backfill_outlives_the_daemon_and_its_spans_stay_for_good() -> None:
    world = bench()
    backfill(world, 2, 3)
    world.kill_daemon()
    world.settle()
    world.kill_daemon()
    assert world.plan().runs == ()
    world.arrive(2, version=2)
    world.settle()
    assert spans_of(world)[-1] == 2, "a correction of it is read as any other"


def test_progress_is_counted_in_spans_until_all_are_done_and_then_forgotten() -> None:
    world = bench()
    backfill(world, 2, 3)
    assert progress(world.plan()) == [(2, 0, 0)]
    order = one_by_one(world)
    assert order[:3] == ["examples span-3.v1", "statistics span-3.v1", "validator span-3.v1"]
    assert progress(world.plan()) == []
    world.arrive(2, version=2)
    assert progress(world.plan()) == [], "what comes later is no part of it"
    world.spec = pipeline(examples={"start": 4}, validator={"drift": {"fare": 0.1}})
    assert world.plan().runs
    assert progress(world.plan()) == []


def test_half_way_some_are_done() -> None:
    world = bench()
    backfill(world, 1, 3, order=Order.OLDEST)
    for _ in range(3):
        run = world.plan().queue[0]
        world.finish(world.start(run), run)
    assert progress(world.plan()) == [(3, 1, 0)]
    world.kill_daemon()
    assert progress(world.plan()) == [(3, 1, 0)]


def test_a_span_that_fails_keeps_a_backfill_open_and_is_counted() -> None:
    world = bench()
    world.arrive(2, content="empty")
    backfill(world, 1, 3)
    plan = world.settle()
    assert progress(plan) == [(3, 2, 1)]
    assert plan.failed
    world.arrive(2, content="mended")
    assert progress(world.settle()) == []


def test_spans_of_the_range_that_are_not_complete_do_not_count_until_they_are() -> None:
    world = bench(spans=6, start=5)
    world.incomplete.add(Span(3, 1))
    backfill(world, 2, 4)
    assert [len(b.spans) for b in world.plan().backfills] == [2]
    world.settle()
    assert progress(world.plan()) == []
    world.incomplete.clear()
    world.settle()
    assert 3 in spans_of(world), "it was asked for"


# Denied, late and refused spans.


def test_denied_spans_are_read_and_stay_out_of_windows() -> None:
    world = bench(examples={"deny": [2]}, transform={"window": "all"})
    backfill(world, 1, 3)
    world.settle()
    assert 2 in spans_of(world)
    assert world.ran("transform")[-1].key == "spans 1..6 (5)"


def test_a_backfilled_span_is_never_too_late() -> None:
    world = bench(examples={"max_lateness": "1h"}, transform={"window": "all"})
    world.now += timedelta(days=30)
    backfill(world, 1, 3)
    world.settle()
    assert world.ran("transform")[-1].key == "spans 1..6 (6)"


def test_a_backfill_lets_in_what_had_come_too_late_without_reading_it_again() -> None:
    world = bench(spans=3, start=None, examples={"max_lateness": "1h"}, transform={"window": "all"})
    world.now += timedelta(days=3)
    world.arrive(0)
    world.settle()
    assert world.ran("transform")[-1].key == "spans 1..3 (3)"
    backfill(world, 0, 0)
    world.settle()
    assert spans_of(world).count(0) == 1
    assert world.ran("transform")[-1].key == "spans 0..3 (4)"


def test_a_refused_span_counts_as_done_and_stays_quarantined() -> None:
    world = bench(transform={"window": "all"})
    world.arrive(2, content="odd")
    backfill(world, 1, 3)
    plan = world.settle()
    assert progress(plan) == []
    assert world.ran("transform")[-1].key == "spans 1..6 (5)"


# Doing it again.


def test_again_does_the_work_of_the_range_once_more_each_piece_once_and_equal_results_go_no_further() -> None:
    world = bench(start=None)
    before = len(world.history)
    request = backfill(world, 2, 4, again=True)
    assert progress(world.plan()) == [(3, 0, 0)]
    world.settle()
    again = [e for e in world.history if e.id > request.id]
    assert sorted((e.node, e.key) for e in again) == sorted(
        (node, f"span-{n}.v1") for node in ("examples", "statistics", "validator") for n in (2, 3, 4)
    )
    assert len(world.history) == before + 9
    assert all("done again, asked by ana: so be it" in e.because for e in again)
    world.kill_daemon()
    assert world.plan().runs == ()
    assert progress(world.plan()) == []


def test_again_of_one_node_does_only_its_work() -> None:
    world = bench(start=None)
    request = backfill(world, 2, 4, "statistics", again=True)
    world.settle()
    assert [(e.node, e.key) for e in world.history if e.id > request.id] == [
        ("statistics", f"span-{n}.v1") for n in (4, 3, 2)
    ]


def test_without_again_what_is_done_stays_done() -> None:
    world = bench(start=None)
    before = world.plan()
    backfill(world, 1, 6)
    assert world.plan().decisions == before.decisions
    assert progress(world.plan()) == []


@pytest.mark.parametrize("again", [False, True])
def test_failures_of_the_range_are_tried_again_only_with_again(again: bool) -> None:
    world = bench(start=None)
    world.failures["statistics"] = BROKEN
    world.arrive(7)
    world.settle()
    world.failures.clear()
    backfill(world, 5, 7, again=again)
    world.settle()
    tried = [e for e in world.ran("statistics") if e.key == "span-7.v1"]
    assert [e.state for e in tried] == [State.FAILED, *([State.SUCCEEDED] if again else [])]
    if again:
        assert tried[-1].because.startswith("tried again, asked by ana")


@pytest.mark.parametrize("again", [False, True])
def test_what_was_cancelled_is_done_only_with_again(again: bool) -> None:
    world = bench(start=None)
    world.arrive(7)
    (run,) = world.plan().runs
    execution = world.start(run)
    world.ask(Verb.CANCEL, "examples", execution=execution.id)
    world.history.record(world.store.finish(execution.with_outcome(Outcome(State.CANCELLED), world.now)))
    backfill(world, 7, 7, again=again)
    world.settle()
    assert len([e for e in world.ran("examples") if e.key == "span-7.v1"]) == 1 + again


def test_a_failure_after_the_request_is_no_reason_to_try_for_ever() -> None:
    world = bench(start=None)
    world.failures["statistics"] = BROKEN
    backfill(world, 2, 3, "statistics", again=True)
    plan = world.settle()
    assert progress(plan) == [(2, 0, 2)]
    assert len(world.ran("statistics")) == 8


def test_again_reads_changed_content_where_changes_are_ignored() -> None:
    world = bench(start=None, examples={"on_change": "ignore"})
    world.contents[Span(2, 1)] = "another"
    assert world.settle().runs == ()
    backfill(world, 2, 2, again=True)
    world.settle()
    assert world.ran("examples")[-1].key == "span-2.v1"
    decision = next(d for d in world.plan().decisions if d.subject.key == "span-2.v1")
    assert isinstance(decision, Reuse)
    assert decision.execution == world.ran("examples")[-1].id


# The order.


@pytest.mark.parametrize(("order", "spans"), [(Order.NEWEST, [4, 3, 2, 1]), (Order.OLDEST, [1, 2, 3, 4])])
def test_a_backfill_goes_through_its_spans_in_its_order_with_new_data_first(order: Order, spans: list[int]) -> None:
    world = bench(spans=6, start=5)
    backfill(world, 1, 4, order=order)
    for number in (7, 8):
        world.arrive(number)
    ran = one_by_one(world)
    read = [int(said.removeprefix("examples span-").partition(".")[0]) for said in ran if said.startswith("examples")]
    assert read == [7, 8, *spans]
    last_new = max(i for i, said in enumerate(ran) if "span-7" in said or "span-8" in said)
    assert last_new < ran.index(f"examples span-{spans[0]}.v1")


def test_new_data_overtakes_a_backfill_at_work() -> None:
    world = bench(spans=6, start=5)
    backfill(world, 1, 4)
    for _ in range(4):
        run = world.plan().queue[0]
        world.finish(world.start(run), run)
    world.arrive(7)
    assert world.plan().queue[0].subject.key == "span-7.v1"
    world.arrive(4, version=2)
    ran = one_by_one(world)
    assert ran.index("examples span-4.v2") < ran.index("examples span-2.v1"), "a correction is new data"


def test_an_older_backfill_comes_before_a_newer_one() -> None:
    world = bench(spans=6, start=5)
    backfill(world, 1, 2)
    backfill(world, 3, 4)
    assert [r.span for r in world.plan().queue] == [2, 1, 4, 3]


def test_without_backfills_the_order_is_deeper_first_and_oldest_first() -> None:
    world = bench()
    world.arrive(7)
    world.arrive(8)
    first = world.plan().runs
    world.finish(world.start(first[0]), first[0])
    assert world.plan().queue == tuple(reversed(world.plan().runs))


# Taking it back.


def test_a_stopped_backfill_begins_nothing_more_and_what_was_read_stays() -> None:
    world = bench(transform={"window": "all"})
    request = backfill(world, 1, 3)
    run = world.plan().queue[0]
    world.finish(world.start(run), run)
    running = world.plan().runs[-1] if world.plan().runs[-1].subject.node == "examples" else world.plan().queue[-1]
    execution = world.start(running)
    stop(world, request)
    plan = world.plan()
    assert (progress(plan), plan.backfills) == ([], ())
    world.finish(execution, running)
    plan = world.settle()
    assert plan.unread[0].spans == tuple(sorted({1, 2, 3} - {3, running.span}))
    assert len(spans_of(world)) == 5
    assert world.ran("transform")[-1].key.endswith("(5)")
    world.kill_daemon()
    assert world.plan() == plan


def test_a_stopped_repetition_leaves_what_was_done_before_in_use() -> None:
    world = bench(start=None)
    before = world.plan().decisions
    request = backfill(world, 1, 6, again=True)
    assert world.plan().runs
    stop(world, request)
    assert world.plan().decisions == before
    world.now += timedelta(seconds=1)
    backfill(world, 1, 6, again=True)
    assert world.plan().runs, "another one is another matter"


def test_a_span_that_failed_in_a_stopped_backfill_is_no_longer_wanted() -> None:
    world = bench()
    world.arrive(2, content="empty")
    request = backfill(world, 1, 3)
    assert world.settle().failed
    stop(world, request)
    plan = world.settle()
    assert not plan.failed
    assert plan.unread[0].spans == (2,)


# Rehearsing.


def test_a_rehearsal_is_what_would_run_beside_what_is_to_be_done_anyway_and_changes_nothing() -> None:
    world = bench(transform={"window": "all"})
    world.arrive(7)
    request = OperatorRequest(Verb.BACKFILL, "taxi", "", world.now, span=1, last=2, order=Order.OLDEST)
    before = (world.plan(), len(world.history), world.history.requests("taxi"))
    found = rehearsal(world.spec, world.world(), request)
    assert [(e.run.subject.node, e.run.subject.key) for e in found.expected][:4] == [
        ("examples", "span-1.v1"), ("examples", "span-2.v1"), ("statistics", "span-1.v1"), ("statistics", "span-2.v1"),
    ]  # fmt: skip
    assert not [e for e in found.expected if e.run.subject.key == "span-7.v1"]
    assert [e.run.subject.key for e in found.expected if e.run.subject.node == "transform"] == ["spans 1..7 (6)"]
    assert found.cost == timedelta(0)
    assert (world.plan(), len(world.history), world.history.requests("taxi")) == before


def test_old_spans_whose_content_was_not_looked_at_can_be_rehearsed() -> None:
    world = bench()
    facts = world.world()
    (fact,) = facts.spans.values()
    unseen = type(fact)(tuple(type(s)(**{**vars(s), "digest": ""}) if s.span.number < 4 else s for s in fact.spans))
    facts = type(facts)(**{**vars(facts), "spans": {"examples": unseen}})
    request = OperatorRequest(Verb.BACKFILL, "taxi", "", world.now, span=1, last=3, order=Order.NEWEST)
    keys = [e.run.subject.key for e in rehearsal(world.spec, facts, request).expected]
    assert keys[:3] == ["span-3.v1", "span-2.v1", "span-1.v1"]


@pytest.mark.parametrize("again", [False, True])
def test_a_rehearsal_runs_what_the_backfill_then_runs(again: bool) -> None:
    world = bench()
    request = OperatorRequest(Verb.BACKFILL, "taxi", "", world.now, span=2, last=5, order=Order.NEWEST, again=again)
    per_span = {"examples", "statistics", "validator"}
    said = [e.run.subject for e in rehearsal(world.spec, world.world(), request).expected]
    asked = backfill(world, 2, 5, again=again)
    world.settle()
    ran = [(e.node, e.key) for e in world.history if e.id > asked.id and e.node in per_span]
    assert sorted((s.node, s.key) for s in said if s.node in per_span) == sorted(ran)


# Whatever happens.

ARRIVALS = st.one_of(
    st.tuples(st.just("arrive"), SPANS, VERSIONS, CONTENTS),
    st.tuples(st.just("run"), st.integers(1, 6)),
    st.tuples(st.just("crash"), st.integers(1, 3)),
    st.tuples(st.just("backfill"), SPANS, SPANS, st.booleans()),
    st.tuples(st.just("stop"), st.integers(0, 3)),
)


def happen(world: Bench, step: tuple[Any, ...]) -> None:
    match step:
        case ("backfill", one, other, again):
            backfill(world, min(one, other), max(one, other), again=again)
        case ("stop", which):
            asked = [r for r in world.history.requests("taxi") if r.verb is Verb.BACKFILL]
            if asked:
                stop(world, asked[which % len(asked)])
        case _:
            apply(world, step)


@settings(max_examples=100, deadline=None)
@given(histories(ARRIVALS), st.sampled_from([None, 2, 4]))
def test_memory_is_what_the_store_says_and_what_is_unread_was_never_asked_for(
    history: list[tuple[Any, ...]], start: int | None
) -> None:
    world = Bench(spec=pipeline(examples={} if start is None else {"start": start}))
    for step in history:
        happen(world, step)
    plan = world.settle()
    world.history = type(world.history)(world.store.executions(), world.store.requests())
    assert world.plan() == plan
    assert all(b.failed == len(b.spans) - b.done for b in plan.backfills), "at rest all are done, or failed"
    for unread in plan.unread:
        assert start is not None
        assert max(unread.spans) < start


@settings(max_examples=100, deadline=None)
@given(histories(ARRIVALS.filter(lambda s: s[0] != "stop")), st.sampled_from([None, 2, 4]))
def test_with_backfills_too_step_by_step_ends_where_from_scratch_ends(
    history: list[tuple[Any, ...]], start: int | None
) -> None:
    world = Bench(spec=pipeline(examples={} if start is None else {"start": start}))
    for step in history:
        happen(world, step)
    incremental = world.settle()
    if any(isinstance(d, Blocked) and "the daemon died" in d.because for d in incremental.decisions):
        return
    scratch = Bench(spec=world.spec, contents=dict(world.contents))
    for request in world.history.requests("taxi"):
        scratch.history.record_request(scratch.store.record_request(request))
    assert state(scratch.settle()) == state(incremental)
