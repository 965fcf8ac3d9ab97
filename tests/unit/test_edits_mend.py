"""What failed for a spec's sake is tried again after the next edit, also of a key that changes no result."""

from __future__ import annotations

from typing import Any

import pytest
from planning_world import Bench, pipeline

from ctd.core.executions import Failure, State
from ctd.core.requests import Verb
from ctd.planning.decisions import Blocked, Decision, Run

PERMANENT = Failure("ComponentFailed", "it cannot be done like this", hint="Mend it.")
LATE = Failure("ComponentTimeout", "longer than its timeout", retryable=True)
LOST = Failure("WorkerLost", "killed", retryable=True)


def of(bench: Bench, node: str) -> Decision:
    return next(d for d in bench.plan().decisions if d.subject.node == node)


def blocked(node: str, failure: Failure, **edit: Any) -> Bench:
    """A pipeline in which a node has failed as often as it may."""
    bench = Bench(spec=pipeline(**edit), failures={node: failure}, files={"/specs/other.pbtxt": "schema-1"})
    bench.arrive(1)
    for _ in range(6):
        bench.settle()
        at = of(bench, node)
        if isinstance(at, Blocked):
            return bench
        bench.now = getattr(at, "until", None) or bench.now
    raise AssertionError(of(bench, node))


@pytest.mark.parametrize(
    ("node", "failure", "before", "after"),
    [
        ("trainer", LATE, {"timeout": "1h"}, {"timeout": "8h"}),
        ("trainer", LOST, {"attempts": 1}, {"attempts": 2}),
        ("trainer", PERMANENT, {"keep": {"newest": 5}}, {}),
        ("statistics", PERMANENT, {"beam": {"args": ["--wrong"]}}, {"beam": {"args": ["--right"]}}),
        ("examples", PERMANENT, {"input": "data/{SPAN}/v{VERSION}/*.csv"}, {}),
        ("examples", PERMANENT, {"complete": {"quiet": "1m"}}, {}),
        ("infra", PERMANENT, {"load_timeout": "1s"}, {"load_timeout": "1m"}),
        ("infra", PERMANENT, {}, {"docker": {"host": "tcp://there:1"}}),
        ("schema", PERMANENT, {"path": "other.pbtxt"}, {}),
        ("evaluator", PERMANENT, {}, {"beam": {"runner": "FlinkRunner"}}),
    ],
)
def test_an_edit_of_a_key_that_changes_no_result_lets_failed_work_be_tried_again(
    node: str, failure: Failure, before: dict[str, Any], after: dict[str, Any]
) -> None:
    bench = blocked(node, failure, **{node: before})
    bench.spec = pipeline(**{node: after})
    again = of(bench, node)
    assert isinstance(again, Run), again
    assert "edited" in again.because
    bench.failures.clear()
    bench.settle()
    assert of(bench, node).action == "reuse"


def test_a_mended_module_is_tried_again_though_its_edits_make_nothing_run() -> None:
    bench = blocked("trainer", PERMANENT, trainer={"code": "pinned"}, transform={"code": "pinned"})
    bench.code = "code-2"
    assert isinstance(of(bench, "trainer"), Run)


def test_an_edit_of_a_targets_file_lets_a_failed_push_be_tried_again() -> None:
    bench = blocked("pusher", PERMANENT)
    bench.keys_of["serving"] = "server: {tls: {ca: right.pem}}"
    assert isinstance(of(bench, "pusher"), Run)


def test_without_an_edit_it_stays_as_it_is_and_another_node_s_edit_is_none() -> None:
    bench = blocked("trainer", PERMANENT)
    assert isinstance(of(bench, "trainer"), Blocked)
    bench.spec = pipeline(transform={"keep": {"newest": 3}})
    assert isinstance(of(bench, "trainer"), Blocked)


def test_attempts_since_the_edit_count_anew() -> None:
    bench = blocked("trainer", LATE, trainer={"attempts": 2})
    bench.spec = pipeline(trainer={"attempts": 2, "timeout": "8h"})
    for _ in range(3):
        bench.settle()
        bench.now = getattr(of(bench, "trainer"), "until", None) or bench.now
    assert len(bench.ran("trainer")) == 4
    assert isinstance(of(bench, "trainer"), Blocked)


def test_what_somebody_cancelled_stays_cancelled_through_an_edit() -> None:
    bench = Bench()
    bench.arrive(1)
    while not (runs := [r for r in bench.plan().runs if r.subject.node == "trainer"]):
        run = bench.plan().runs[0]
        bench.finish(bench.start(run), run)
    execution = bench.start(runs[0])
    bench.ask(Verb.CANCEL, "trainer", execution=execution.id, key=execution.key)
    bench.finish(execution, state=State.CANCELLED)
    bench.spec = pipeline(trainer={"timeout": "8h"})
    assert isinstance(of(bench, "trainer"), Blocked)


def test_failures_from_before_this_was_recorded_stay_as_they_are() -> None:
    bench = blocked("trainer", PERMANENT)
    for execution in bench.ran("trainer"):
        bench.history.record(type(execution)(**{**_fields(execution), "told": ""}))
    bench.spec = pipeline(trainer={"timeout": "8h"})
    assert isinstance(of(bench, "trainer"), Blocked)


def _fields(execution: Any) -> dict[str, Any]:
    return {name: getattr(execution, name) for name in type(execution).__dataclass_fields__}


def test_a_success_is_not_made_again_for_any_such_edit() -> None:
    bench = Bench()
    bench.arrive(1)
    bench.settle()
    bench.spec = pipeline(trainer={"timeout": "8h", "keep": {"newest": 3}}, infra={"load_timeout": "9m"})
    assert bench.plan().runs == ()
