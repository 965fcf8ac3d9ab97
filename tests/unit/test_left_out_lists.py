"""What windows go without is told once, where it arises; those that go without the same point there."""

from __future__ import annotations

from typing import Any

import pytest
from planning_world import Bench, pipeline

from ctd.core.calendars import NUMBERS
from ctd.core.executions import LeftOut
from ctd.planning.decisions import Plan
from ctd.planning.windows import left_out_note

WHOLE: dict[str, Any] = {"transform": {"window": "all"}, "trainer": {"window": "all"}, "evaluator": {"window": "all"}}


def bench(content: str, **changes: Any) -> Bench:
    """Span 1 was good, and the eight after it were not."""
    made = Bench(spec=pipeline(**{**WHOLE, **changes}))
    made.arrive(1)
    made.settle()
    for number in range(2, 10):
        made.arrive(number, content=content)
    return made


def said(plan: Plan) -> dict[str, str]:
    """The reasons of what is not done span by span."""
    of_spans = ("examples", "statistics", "validator")
    return {
        ".".join(p for p in (d.subject.node, d.subject.piece) if p): d.because
        for d in plan.decisions
        if d.subject.node not in of_spans
    }


def test_quarantined_spans_are_listed_by_the_first_node_that_goes_without_them() -> None:
    told = said(bench("odd").settle())
    assert told["transform"].endswith("; quarantined spans 2..9: validator: fare: out of range")
    assert told["evaluator.metrics"].endswith("; 8 spans left out, as transform says")
    assert [node for node, why in told.items() if "out of range" in why] == ["transform"]


@pytest.mark.parametrize("restarted", [False, True])
def test_failed_spans_are_listed_once_however_many_nodes_wait_for_them(restarted: bool) -> None:
    world = bench("empty")
    world.settle()
    if restarted:
        world.kill_daemon()
    told = said(world.settle())
    assert told["transform"].count("trips.csv is empty") == 8
    assert [node for node, why in told.items() if "trips.csv" in why] == ["transform"]
    for node in ("trainer", "evaluator.metrics", "evaluator.verdict", "infra", "pusher.serving"):
        assert "as transform says; same work as execution" in told[node]


def test_a_window_that_is_too_short_names_what_it_lacks_once() -> None:
    world = bench("odd", transform={"window": "all", "min_spans": 3})
    told = said(world.settle())
    assert told["transform"] == "1 of 3 spans; quarantined spans 2..9: validator: fare: out of range"
    assert told["pusher.serving"] == "1 of 3 spans (transform says which spans it goes without)"
    assert [node for node, why in told.items() if "out of range" in why] == ["transform"]


def test_a_node_says_itself_what_only_it_goes_without() -> None:
    """The evaluator looks at one span, the transform at three: the newest is out of both, another of one."""
    world = Bench(spec=pipeline(transform={"window": {"first": 1, "last": 3}}))
    for number, content in enumerate(("a", "odd", "b", "odd-b"), start=1):
        world.arrive(number, content=content)
    told = said(world.settle())
    assert told["transform"].endswith("; quarantined span 2: validator: fare: out of range")
    assert told["evaluator.metrics"].endswith("; quarantined span 4: validator: fare: out of range")


def test_what_is_recorded_of_each_execution_stays_whole() -> None:
    world = bench("odd")
    world.code = "code-2"
    world.settle()
    for node in ("transform", "evaluator"):
        assert [left.span for left in world.ran(node)[-2 if node == "evaluator" else -1].left_out] == [*range(9, 1, -1)]


@pytest.mark.parametrize(
    ("left_out", "note"),
    [
        ([LeftOut(3, "quarantined", "v: odd")], "quarantined span 3: v: odd"),
        (
            [*(LeftOut(n, "quarantined", "v: odd") for n in (9, 4, 3))],
            "quarantined spans 3..4, 9: v: odd",
        ),
        (
            [LeftOut(9, "quarantined", "v: odd"), LeftOut(8, "quarantined", "v: no"), LeftOut(7, "late", "came late")],
            "quarantined span 9: v: odd; quarantined span 8: v: no; left out span 7: came late",
        ),
        ([LeftOut(3, "denied", "`deny` of the spec names it"), LeftOut(2, "not complete", "no _SUCCESS yet")], ""),
    ],
)  # fmt: skip
def test_spans_that_lack_for_the_same_reason_are_told_together(left_out: list[LeftOut], note: str) -> None:
    assert left_out_note(left_out, NUMBERS) == note
