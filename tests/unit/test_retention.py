"""What is collected: only what the spec does not keep, and never what anything still needs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_steps import EDITS, apply, histories
from planning_world import Bench, pipeline
from pydantic import ValidationError

from ctd.core.artifacts import Artifact
from ctd.core.requests import Verb
from ctd.planning.decided import outputs_of, used
from ctd.planning.decisions import Reuse, Run
from ctd.planning.retention import Collect, collectable
from ctd.specs.pipeline import PipelineSpec

SPANNED = {"examples", "statistics", "validator"}
NODES = ["examples", "statistics", "schema", "validator", "transform", "trainer", "evaluator", "infra", "pusher"]


def keeping(edit: dict[str, dict[str, Any]], newest: int) -> PipelineSpec:
    """The pipeline with this edit, and as little kept of every node as can be said."""
    keep = {
        node: {"keep": {"spans": newest} if node in SPANNED else {"newest": newest}, **(edit.get(node) or {})}
        for node in NODES
    }
    return pipeline(**keep)


def collect(bench: Bench, pushed: int = 1) -> tuple[Collect, ...]:
    """Do what the daemon does, files apart."""
    found = collectable(bench.spec, bench.plan(), bench.history, {"serving": pushed})
    for one in found:
        bench.store.delete_artifact(one.artifact)
        bench.history.forget_artifact(one.artifact.id)
    return found


def live(bench: Bench, node: str) -> list[Artifact]:
    made = (a for e in bench.ran(node) for some in e.outputs.values() for a in some)
    return [a for a in made if bench.history.live(a)]


def rounds(spec: PipelineSpec, spans: int) -> Bench:
    bench = Bench(spec=spec)
    for number in range(1, spans + 1):
        bench.arrive(number)
        bench.settle()
    return bench


def test_nothing_is_collected_unless_the_spec_says_so() -> None:
    assert collect(rounds(pipeline(), 5)) == ()


def test_models_beyond_the_newest_are_collected_and_those_on_a_target_are_not() -> None:
    bench = rounds(pipeline(trainer={"keep": {"newest": 1}}), 6)
    models = [e.outputs["model"][0] for e in bench.ran("trainer")]
    collect(bench, pushed=2)
    assert [a for a in live(bench, "trainer") if a in models] == models[-2:]


def test_each_output_may_keep_another_number() -> None:
    bench = rounds(pipeline(transform={"keep": {"transformed_examples": {"spans": 1}}}), 6)
    collected = collect(bench)
    assert {e.artifact.type.value for e in collected} == {"Examples"}
    assert all(e.because for e in collected)
    assert len([a for a in live(bench, "transform") if a.type.value == "TransformGraph"]) == 6


def test_spans_that_left_the_storage_are_collected_and_those_in_the_plan_are_not() -> None:
    bench = rounds(pipeline(examples={"keep": {"spans": 2}}), 6)
    assert collect(bench) == ()
    for span in [s for s in bench.contents if s.number <= 2]:
        del bench.contents[span]
    bench.settle()
    assert [c.artifact.span for c in collect(bench)] == [2, 1]


def test_an_older_version_of_a_span_is_collected_when_a_newer_one_is_there() -> None:
    bench = rounds(pipeline(examples={"keep": {"spans": 9, "versions": 1}}), 5)
    bench.arrive(5, 2)
    bench.settle()
    assert [(c.artifact.span, c.artifact.version) for c in collect(bench)] == [(5, 1)]


def test_while_an_input_is_out_of_reach_nothing_is_collected() -> None:
    bench = rounds(pipeline(examples={"keep": {"spans": 1}}), 4)
    bench.passing |= set(bench.contents)
    assert collect(bench) == ()


def test_while_a_source_is_silent_old_results_are_collected() -> None:
    edit = {"examples": {"stale_after": "26h"}}
    bench = rounds(keeping(edit, 1), 6)
    bench.now += timedelta(hours=27)
    assert [alert.node for alert in bench.plan().alerts] == ["examples"]
    assert {c.execution.node for c in collect(bench)} >= {"trainer", "transform", "evaluator"}


def test_while_an_input_is_paused_old_results_are_collected() -> None:
    bench = rounds(keeping({}, 1), 6)
    bench.ask(Verb.PAUSE, "examples")
    bench.arrive(7)
    assert [d.action for d in bench.plan().decisions if d.subject.key == "span-7.v1"][:1] == ["wait"]
    assert {c.execution.node for c in collect(bench)} >= {"trainer", "transform"}


def test_while_the_disk_is_away_or_empty_nothing_is_collected() -> None:
    bench = rounds(keeping({}, 1), 6)
    bench.away = True
    assert collect(bench) == ()
    bench.away = False
    bench.contents.clear()
    assert collect(bench) == ()


def test_what_was_collected_is_made_again_when_it_is_wanted_again() -> None:
    bench = rounds(keeping({}, 1), 5)
    bench.spec = keeping({"trainer": {"train_steps": 7}}, 1)
    bench.settle()
    for number in (6, 7, 8):
        bench.arrive(number)
        bench.settle()
    collect(bench)
    for number in (6, 7, 8):
        del bench.contents[next(s for s in bench.contents if s.number == number)]
    (run,) = [r for r in bench.plan().runs if r.subject.node == "transform"]
    assert "is gone: made again" in run.because
    bench.settle()
    assert not bench.plan().runs


@settings(max_examples=150, deadline=None)
@given(histories(), st.integers(1, 2), st.integers(0, len(EDITS) - 1), st.booleans())
def test_collecting_never_changes_the_next_plan(
    steps: list[tuple[Any, ...]], newest: int, edit: int, running: bool
) -> None:
    bench = Bench(spec=keeping({}, newest))
    for step in steps:
        if step[0] == "edit":
            bench.spec = keeping(EDITS[step[1]], newest)
        else:
            apply(bench, step)
        before = bench.plan()
        collected = {c.artifact.id for c in collect(bench)}
        after = bench.plan()
        assert after == before
        assert not collected & {a.id for a in used(after)}
        reused = (bench.history.execution(d.execution) for d in after.decisions if isinstance(d, Reuse))
        assert not collected & {i for e in reused if e for ids in e.inputs.values() for i in ids}
    bench.spec = keeping(EDITS[edit], newest)
    for run in bench.plan().runs if running else ():
        bench.start(run)
    taken = {i for e in bench.history.running() for ids in e.inputs.values() for i in ids}
    assert not taken & {c.artifact.id for c in collect(bench)}
    assert all(isinstance(d, Run) or all(map(bench.history.live, _flat(d))) for d in bench.plan().decisions)


def _flat(decision: Any) -> list[Artifact]:
    return [a for made in outputs_of(decision).values() for a in made]


@pytest.mark.parametrize(
    ("node", "keep", "said"),
    [
        pytest.param("trainer", {"models": {"newest": 1}}, "there is no output 'models' to keep", id="no such output"),
        pytest.param("trainer", {"spans": 3}, "where results have no span", id="spans of what has none"),
        pytest.param("trainer", {"newest": 3, "versions": 2}, "`versions` goes with `spans`", id="versions of nothing"),
        pytest.param("examples", {"newest": 1, "spans": 3}, "`keep` needs `newest` or `spans`", id="both"),
        pytest.param("examples", {"examples": {}}, "`keep` needs `newest` or `spans`", id="neither"),
        pytest.param("examples", {"newest": 0}, "greater than 0", id="nothing at all"),
    ],
)
def test_a_keep_that_cannot_be_is_refused(node: str, keep: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        pipeline(**{node: {"keep": keep}})


def test_keep_is_no_reason_to_run_again() -> None:
    bench = rounds(pipeline(), 2)
    bench.spec = keeping({}, 1)
    assert not bench.plan().runs
