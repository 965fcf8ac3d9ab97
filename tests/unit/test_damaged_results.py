"""What a plan makes of results that were damaged, are gone, or cannot be read: a decision with its reason."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ctd.core.artifacts import Artifact
from ctd.core.executions import Failure, State
from ctd.core.facts import Damage
from ctd.planning.decisions import Plan, Reuse, Run, Wait
from tests.unit.planning_world import Bench


@pytest.fixture
def bench() -> Bench:
    """Three spans that went all the way to the target."""
    made = Bench()
    for number in (1, 2, 3):
        made.arrive(number)
    made.settle()
    return made


def artifact(bench: Bench, node: str, output: str) -> Artifact:
    return bench.ran(node)[-1].output(output)[0]


def damage(bench: Bench, found: Artifact, said: str = "trips.gz: 812 of 1,024 bytes") -> None:
    bench.missing.add(found.uri)
    bench.damaged[found.uri] = Damage(found.id, found.uri, said)


def of(made: Plan, node: str) -> list[str]:
    return [f"{d.action}: {d.because}" for d in made.decisions if d.subject.node == node]


def test_the_reason_names_the_execution_the_place_and_what_was_found(bench: Bench) -> None:
    found = artifact(bench, "trainer", "model")
    damage(bench, found)
    maker = bench.ran("trainer")[-1].id
    (run,) = bench.plan().runs
    assert run.because == (
        f"made by execution {maker}, but {found.uri} was damaged (trips.gz: 812 of 1,024 bytes): made again"
    )


def test_a_damaged_model_that_comes_out_the_same_is_neither_judged_nor_pushed_again(bench: Bench) -> None:
    damage(bench, artifact(bench, "trainer", "model"))
    pushes, verdicts = len(bench.ran("pusher")), len(bench.ran("evaluator", "verdict"))
    made = bench.settle()
    assert len(bench.ran("trainer")) == 2
    assert (len(bench.ran("pusher")), len(bench.ran("evaluator", "verdict"))) == (pushes, verdicts)
    assert of(made, "pusher")[0].startswith("reuse")


def test_nothing_is_pushed_while_a_damaged_model_is_made_again(bench: Bench) -> None:
    damage(bench, artifact(bench, "trainer", "model"))
    (run,) = bench.plan().runs
    bench.start(run)
    assert all(isinstance(d, Wait) for d in bench.plan().decisions if d.subject.node in ("evaluator", "pusher"))


@pytest.mark.parametrize("unreadable", ["examples", "transform", "trainer"])
def test_what_cannot_be_read_is_kept_and_nothing_new_is_made_of_it(bench: Bench, unreadable: str) -> None:
    before = len(bench.history)
    output = {"examples": "examples", "transform": "transform_graph", "trainer": "model"}[unreadable]
    found = artifact(bench, unreadable, output)
    bench.unreadable[found.uri] = f"{found.uri}: Input/output error"
    made = bench.plan()
    assert not made.runs
    assert made.settled
    (said,) = [s for s in of(made, unreadable) if "Input/output error" in s]
    assert said.startswith("wait: waits until it can be read")
    assert not any("left out" in d.because for d in made.decisions)
    bench.unreadable.clear()
    assert all(isinstance(d, Reuse) for d in bench.settle().decisions)
    assert len(bench.history) == before


def test_a_window_waits_for_a_span_that_cannot_be_read(bench: Bench) -> None:
    found = next(a for e in bench.ran("examples") for a in e.output("examples") if a.span == 3)
    bench.unreadable[found.uri] = f"{found.uri}: Permission denied"
    bench.arrive(4)
    made = bench.settle()
    assert "Permission denied" in of(made, "transform")[0]
    assert len(bench.ran("transform")) == 1
    bench.unreadable.clear()
    bench.settle()
    assert len(bench.ran("transform")) == 2


def test_work_that_met_a_damaged_input_is_done_at_once_when_that_is_made_again(bench: Bench) -> None:
    bench.code = "code-2"
    (run,) = bench.plan().runs
    bench.failures["transform"] = Failure("DamagedArtifact", "examples are damaged", retryable=True)
    bench.finish(bench.start(run), run)
    bench.failures.clear()
    (again,) = bench.plan().runs
    assert again.subject == run.subject
    assert again.attempt == 2


def test_it_slows_down_when_making_it_again_did_not_help(bench: Bench) -> None:
    bench.code = "code-2"
    bench.failures["transform"] = Failure("DamagedArtifact", "examples are damaged", retryable=True)
    began = bench.now
    for _ in range(12):
        made = bench.plan()
        if made.runs:
            (run,) = made.runs
            bench.finish(bench.start(run), run)
        else:
            assert made.wake_at
            bench.now = made.wake_at
    assert bench.now - began > timedelta(seconds=30)
    assert "examples are damaged" in of(bench.plan(), "transform")[0]
    assert not [e for e in bench.ran("transform") if e.state is State.SUCCEEDED and e.ingredients["code"] == "code-2"]
    assert bench.plan().failed, "someone should look at the disk"


def test_what_was_set_aside_long_ago_says_nothing_about_what_was_made_since(bench: Bench) -> None:
    found = artifact(bench, "trainer", "model")
    damage(bench, found)
    bench.settle()
    bench.missing.clear()
    bench.history.forget_artifact(found.id)
    made = bench.plan()
    assert all(isinstance(d, Reuse) for d in made.decisions if d.subject.node == "trainer")
    assert not any(isinstance(d, Run) for d in made.decisions)
