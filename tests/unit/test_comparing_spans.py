"""Spans of one source compared with those of another: which one it is, and what is looked at again when one comes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import planning_world
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_world import pipeline

from ctd.core.requests import Verb
from ctd.core.spans import Span
from ctd.planning.asked import finding
from ctd.planning.decisions import Blocked, Decision, Reuse, Wait
from ctd.planning.world import SpansFact, World
from ctd.specs.pipeline import PipelineSpec

SERVED = "served"


NODES: dict[str, Any] = {
    **planning_world.NODES,
    "served": {"kind": "example_gen", "input": "served/{SPAN}/v{VERSION}"},
    "served_statistics": {"kind": "statistics_gen", "inputs": {"examples": "served"}},
}
for _name in ("statistics", "transform", "evaluator", "infra"):
    NODES[_name] = {**NODES[_name], "inputs": {"examples": "examples"}}
_WIRES = {"statistics": "statistics", "serving_statistics": "served_statistics"}
NODES["validator"] = {**NODES["validator"], "skew": {"fare": 0.1}, "inputs": _WIRES}


def two_sources(**changes: dict[str, Any]) -> PipelineSpec:
    """The taxi pipeline with serving logs beside it."""
    return pipeline(NODES, **changes)


@dataclass
class Bench(planning_world.Bench):
    """Two sources, of which serving data may be incomplete or out of sight."""

    spec: PipelineSpec = field(default_factory=two_sources)
    half: set[int] = field(default_factory=set)  # serving spans that are still being copied
    unseen: bool = False

    def world(self) -> World:
        world = super().world()
        facts = (replace(f, complete=f.span.number not in self.half) for f in world.spans[SERVED].spans)
        seen = SpansFact(problem="/served cannot be read") if self.unseen else SpansFact(tuple(facts))
        return replace(world, spans={**world.spans, SERVED: seen})

    def serve(self, *numbers: int, content: str = "") -> None:
        for number in numbers:
            self.beside.setdefault(SERVED, {})[Span(number, 7)] = content or f"served-{number}"


OF_SERVED = {
    "kind": "example_validator",
    "on_anomaly": "quarantine",
    "inputs": {"statistics": "served_statistics"},
}


def at_rest(spec: PipelineSpec | None = None, *, examples: int = 3, served: tuple[int, ...] = ()) -> Bench:
    bench = Bench(spec=spec or two_sources())
    for number in range(1, examples + 1):
        bench.arrive(number)
    bench.serve(*served)
    bench.settle()
    return bench


def decision(bench: Bench, node: str, key: str = "") -> Decision:
    return next(d for d in bench.plan().decisions if d.subject.node == node and key in d.subject.key)


def compared(bench: Bench) -> dict[int, int | None]:
    """The serving span that the verdict in force on each span rests on."""
    found = {}
    for d in bench.plan().decisions:
        if d.subject.node == "validator" and isinstance(d, Reuse):
            execution = bench.history.execution(d.execution)
            assert execution
            inputs = execution.ingredients["inputs"]
            ((span, _),) = inputs["statistics"]
            found[span] = inputs["serving_statistics"][0][0] if inputs["serving_statistics"] else None
    return found


def validated_anew(bench: Bench) -> list[int]:
    """The spans that the validator looks at until the pipeline rests, each as often as it does."""
    before = len(bench.ran("validator"))
    bench.settle()
    spans = [e.ingredients["inputs"]["statistics"][0][0] for e in bench.ran("validator")[before:]]
    return sorted(spans)


def test_a_span_is_compared_with_the_serving_span_of_its_number() -> None:
    assert compared(at_rest(served=(1, 2, 3))) == {1: 1, 2: 2, 3: 3}


def test_until_that_one_is_there_it_is_the_newest_before_it() -> None:
    assert compared(at_rest(examples=4, served=(2, 9))) == {1: None, 2: 2, 3: 2, 4: 2}


def test_without_serving_data_nothing_waits() -> None:
    bench = at_rest()
    assert compared(bench) == {1: None, 2: None, 3: None}
    assert bench.ran("trainer")


def test_only_spans_that_a_serving_span_concerns_are_judged_again_and_nothing_is_trained() -> None:
    bench = at_rest(examples=4, served=(1, 3))
    trained = len(bench.ran("trainer"))
    bench.serve(2)
    assert validated_anew(bench) == [2]
    assert (
        bench.ran("validator")[-1].because
        == "serving_statistics: span 2 new; serving_statistics: span 1 left the window"
    )
    assert len(bench.ran("trainer")) == trained


def test_a_serving_span_that_is_still_being_copied_is_not_waited_for() -> None:
    bench = at_rest(examples=2, served=(1,))
    bench.serve(2)
    bench.half.add(2)
    assert validated_anew(bench) == []
    bench.half.clear()
    assert validated_anew(bench) == [2]


def test_a_serving_span_that_is_being_read_is_waited_for_so_that_a_span_is_judged_once() -> None:
    bench = at_rest(examples=1, served=(1,))
    bench.arrive(2)
    bench.serve(2)
    assert validated_anew(bench) == [2]


def test_serving_data_that_is_denied_empty_or_refused_is_passed_over_and_named() -> None:
    bench = at_rest(two_sources(served={"deny": [1]}, of_served=OF_SERVED), examples=0)
    bench.serve(1)
    bench.serve(2)
    bench.serve(3, content="empty")
    bench.serve(4, content="odd")
    for number in (1, 2, 4):
        bench.arrive(number)
    bench.settle()
    assert compared(bench) == {1: None, 2: 2, 4: 2}
    because = decision(bench, "validator", "span-4").because
    assert "served_statistics: quarantined span 4: of_served: fare: out of range" in because
    assert isinstance(decision(bench, "validator", "span-4"), Reuse)


def test_the_verdict_on_serving_data_is_about_no_window_of_training_data() -> None:
    inferred = {"kind": "schema_gen", "inputs": {"statistics": "statistics"}}
    spec = two_sources(of_served={**OF_SERVED, "on_anomaly": "block"}, schema=inferred)
    gates = {w.node: [node for gates in w.gates.values() for node, _ in gates] for w in spec.work}
    assert gates["transform"] == ["validator"]
    assert gates["validator"] == ["of_served"]
    assert gates["of_served"] == []
    bench = at_rest(spec, examples=2)
    bench.serve(2, content="odd")
    bench.settle()
    assert decision(bench, "trainer").subject.key == "spans 1..2 (2)"
    assert isinstance(decision(bench, "trainer"), Reuse)


def test_a_serving_source_that_cannot_be_seen_changes_nothing() -> None:
    bench = at_rest(served=(1, 2, 3))
    executions = len(list(bench.history))
    bench.unseen = True
    bench.arrive(4)
    bench.settle()
    waits = decision(bench, "validator", "span-4")
    assert isinstance(waits, Wait)
    assert "served: /served cannot be read" in waits.because
    assert [e.node for e in list(bench.history)[executions:]] == ["examples", "statistics"]
    bench.unseen = False
    assert validated_anew(bench) == [4]


def test_a_serving_source_that_never_was_there_holds_nothing_up() -> None:
    bench = Bench(unseen=True)
    bench.arrive(1)
    bench.settle()
    assert compared(bench) == {1: None}
    assert bench.ran("trainer")


def test_an_acceptance_stands_while_the_finding_does_whatever_it_is_compared_with() -> None:
    bench = at_rest(examples=1)
    bench.arrive(2, content="odd")
    bench.settle()
    refused = decision(bench, "validator", "span-2")
    assert isinstance(refused, Reuse)
    execution = bench.history.execution(refused.execution)
    assert execution
    wired = next(w for w in bench.spec.work if w.node == "validator")
    later = execution.ingredients["inputs"] | {"serving_statistics": [[2, "served"]]}
    same = replace(execution, ingredients={**execution.ingredients, "inputs": later})
    assert finding(same, wired) == finding(execution, wired)


def test_a_dispute_about_a_training_span_is_not_one_about_the_serving_span_of_its_number() -> None:
    bench = at_rest(two_sources(examples={"on_change": "fail"}), examples=2, served=(1,))
    bench.contents[Span(1, 1)] = "changed"
    bench.serve(2)
    assert validated_anew(bench) == [2]
    disputed = two_sources(served={"on_change": "fail"})
    bench = at_rest(disputed, examples=2, served=(1,))
    bench.beside[SERVED][Span(1, 7)] = "changed"
    bench.arrive(3)
    bench.settle()
    blocked = decision(bench, "validator", "span-3")
    assert isinstance(blocked, Blocked)
    assert "served: span 1 changed after it was read" in blocked.because
    assert isinstance(decision(bench, "validator", "span-2"), Reuse), "what was made of it stays"


def test_a_pause_of_the_serving_side_is_told_where_it_holds_things_up() -> None:
    bench = at_rest(served=(1, 2, 3))
    bench.ask(Verb.PAUSE, "served_statistics")
    bench.arrive(4)
    bench.serve(4)
    bench.settle()
    assert "served_statistics/span-4.v7 waits: paused by ana" in decision(bench, "validator", "span-4").because


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 5), st.integers(1, 2), st.booleans()), min_size=1, max_size=12),
)
def test_in_any_order_a_span_is_judged_again_only_when_its_counterpart_is_another(
    arrivals: list[tuple[bool, int, int, bool]],
) -> None:
    bench = Bench()
    versions: dict[tuple[bool, int], int] = {}
    for served, number, version, rest in arrivals:
        arrived = bench.beside.setdefault(SERVED, {}) if served else bench.contents
        arrived[Span(number, version)] = f"{served} {number} {version}"
        versions[served, number] = max(version, versions.get((served, number), 0))
        if rest:
            bench.settle()
    bench.settle()
    there = [number for served, number in versions if served]
    expected = {
        number: max((n for n in there if n <= number), default=None) for served, number in versions if not served
    }
    assert compared(bench) == expected
    looked_at = [
        (e.key, str(e.ingredients["inputs"]["statistics"]), str(e.ingredients["inputs"]["serving_statistics"]))
        for e in bench.ran("validator")
    ]
    assert len(looked_at) == len(set(looked_at))


@pytest.mark.parametrize("skew", [{}, {"fare": 0.1}])
def test_the_fan_is_that_of_the_data_that_is_judged(skew: dict[str, float]) -> None:
    spec = two_sources(validator={"skew": skew})
    (wired,) = (w for w in spec.work if w.node == "validator")
    assert (wired.fan, wired.root) == ("statistics", "examples")
    assert wired.sources["serving_statistics"].node == "served_statistics", "naming it is enough"
