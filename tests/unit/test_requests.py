"""What requests of people do to a plan, verb by verb, and what they leave alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planning_world import Bench, pipeline

from ctd.core.executions import Failure, Outcome, State
from ctd.core.requests import Verb
from ctd.planning.asked import finding
from ctd.planning.decisions import Blocked, Decision, Reuse, Run, Wait
from ctd.specs.wired import WiredPiece

BROKEN = Failure("ComponentFailed", "run_fn raised", hint="mend it")
AWAY = Failure("StorageUnavailable", "disk full", retryable=True)


def settled(**changes: dict[str, object]) -> Bench:
    bench = Bench(spec=pipeline(**changes))
    bench.arrive(1)
    bench.settle()
    return bench


def decision(bench: Bench, node: str, key: str = "") -> Decision:
    return next(d for d in bench.plan().decisions if d.subject.node == node and key in d.subject.key)


def gate(bench: Bench) -> WiredPiece:
    return next(w for w in bench.spec.work if w.node == "validator")


def accept(bench: Bench, span: int) -> None:
    """As the daemon records it: bound to what the validator found."""
    refused = decision(bench, "validator", f"span-{span}")
    assert isinstance(refused, Reuse)
    execution = bench.history.execution(refused.execution)
    assert execution
    bench.ask(Verb.ACCEPT, "validator", key=refused.subject.key, span=span, about=finding(execution, gate(bench)))


# Pause and resume.


def test_a_paused_pipeline_starts_nothing_and_says_who_and_why() -> None:
    bench = settled()
    before = bench.plan()
    bench.ask(Verb.PAUSE)
    assert bench.plan() == before, "what is done stays done"
    bench.arrive(2)
    plan = bench.plan()
    assert plan.runs == ()
    waiting = decision(bench, "examples", "span-2")
    assert isinstance(waiting, Wait)
    assert "paused by ana: so be it (2026-01-01 00:0" in waiting.because
    assert plan.settled
    assert plan.stuck
    bench.ask(Verb.RESUME)
    bench.settle()
    assert len(bench.ran("pusher")) == 2


def test_a_paused_node_holds_up_itself_and_what_follows() -> None:
    bench = settled()
    bench.ask(Verb.PAUSE, "trainer")
    bench.arrive(2)
    bench.settle()
    assert len(bench.ran("transform")) == 2
    assert len(bench.ran("trainer")) == len(bench.ran("pusher")) == 1
    assert "trainer/spans 1..2 (2) waits: paused by ana" in decision(bench, "infra").because
    bench.ask(Verb.RESUME)
    assert isinstance(decision(bench, "trainer"), Wait), "the pause of a node is not the pipeline's to lift"
    bench.ask(Verb.RESUME, "trainer")
    bench.settle()
    assert len(bench.ran("trainer")) == len(bench.ran("pusher")) == 2


def test_what_runs_when_a_pause_comes_ends_as_it_would() -> None:
    bench = Bench()
    bench.arrive(1)
    run = next(r for r in bench.plan().runs if r.subject.node == "examples")
    execution = bench.start(run)
    bench.ask(Verb.PAUSE)
    assert "running" in decision(bench, "examples").because
    bench.finish(execution, run)
    assert isinstance(decision(bench, "examples"), Reuse)
    assert bench.plan().runs == ()


def test_a_pause_outlives_the_daemon() -> None:
    bench = settled()
    bench.ask(Verb.PAUSE)
    bench.arrive(2)
    bench.kill_daemon()
    assert bench.plan().runs == ()


# Retry.


def failing(failure: Failure, node: str = "trainer") -> Bench:
    bench = Bench(failures={node: failure})
    bench.arrive(1)
    bench.settle()
    return bench


@pytest.mark.parametrize("of", ["node", "execution"])
def test_a_failure_that_blocks_is_tried_once_more_when_asked(of: str) -> None:
    bench = failing(BROKEN)
    failed = bench.ran("trainer")[-1]
    assert isinstance(decision(bench, "trainer"), Blocked)
    bench.ask(Verb.RETRY, "trainer", execution=failed.id if of == "execution" else 0)
    run = decision(bench, "trainer")
    assert isinstance(run, Run)
    assert (run.attempt, run.because) == (2, "tried again, asked by ana: so be it")
    assert run.fingerprint == failed.fingerprint
    bench.settle()
    assert len(bench.ran("trainer")) == 2, "once"
    assert isinstance(decision(bench, "trainer"), Blocked)
    bench.failures.clear()
    bench.ask(Verb.RETRY, "trainer")
    bench.settle()
    assert isinstance(decision(bench, "pusher"), Reuse)


def test_a_retry_gives_lost_workers_all_their_attempts_again() -> None:
    bench = failing(Failure("WorkerLost", "killed", retryable=True))
    assert len(bench.ran("trainer")) == 3
    bench.ask(Verb.RETRY, "trainer")
    bench.settle()
    assert len(bench.ran("trainer")) == 6


def test_a_retry_of_one_execution_leaves_other_failures_alone() -> None:
    bench = Bench()
    bench.arrive(1, content="empty")
    bench.arrive(2, content="empty")
    bench.settle()
    first = next(e for e in bench.ran("examples") if e.key == "span-1.v1")
    bench.ask(Verb.RETRY, "examples", execution=first.id)
    assert [r.subject.key for r in bench.plan().runs if r.subject.node == "examples"] == ["span-1.v1"]


# Run now.


def test_a_time_to_wait_for_is_over_when_someone_says_now() -> None:
    bench = Bench()
    bench.arrive(1)
    run = next(r for r in bench.plan().runs if r.subject.node == "examples")
    bench.history.record(
        bench.store.finish(bench.start(run).with_outcome(Outcome(State.FAILED, failure=AWAY), bench.now))
    )
    waiting = decision(bench, "examples")
    assert isinstance(waiting, Wait)
    assert waiting.until
    bench.ask(Verb.RUN_NOW, "examples")
    assert isinstance(decision(bench, "examples"), Run)


def test_a_manual_node_runs_when_asked_and_then_waits_to_be_asked_again() -> None:
    bench = Bench(spec=pipeline(trainer={"when": "manual"}))
    bench.arrive(1)
    bench.settle()
    assert bench.ran("trainer") == []
    bench.ask(Verb.RUN_NOW, "trainer")
    bench.settle()
    assert len(bench.ran("trainer")) == len(bench.ran("pusher")) == 1
    assert "now, asked by ana" in bench.ran("trainer")[0].because
    bench.arrive(2)
    bench.settle()
    assert len(bench.ran("trainer")) == 1


def test_now_redoes_nothing_that_is_done() -> None:
    bench = settled()
    before = bench.plan()
    bench.ask(Verb.RUN_NOW, "trainer")
    assert bench.plan() == before


def test_again_does_the_nodes_work_once_more_and_equal_results_go_no_further() -> None:
    bench = settled()
    bench.ask(Verb.RUN_NOW, "transform", again=True)
    (run,) = bench.plan().runs
    assert run.because.startswith("execution ")
    assert run.because.endswith("done again, asked by ana: so be it")
    bench.settle()
    assert len(bench.ran("transform")) == 2
    assert len(bench.ran("trainer")) == 1
    bench.kill_daemon()
    assert bench.plan().runs == ()


# Cancel.


def cancelled(*, obeyed: bool) -> Bench:
    """An execution of the trainer that someone cancelled; the daemon died before it could obey, or not."""
    bench = Bench()
    bench.arrive(1)
    while not (runs := [r for r in bench.plan().runs if r.subject.node == "trainer"]):
        for run in bench.plan().runs:
            bench.finish(bench.start(run), run)
    execution = bench.start(runs[0])
    bench.ask(Verb.CANCEL, "trainer", execution=execution.id)
    if obeyed:
        bench.history.record(bench.store.finish(execution.with_outcome(Outcome(State.CANCELLED), bench.now)))
    else:
        bench.kill_daemon()
    return bench


@pytest.mark.parametrize("obeyed", [True, False])
def test_what_was_cancelled_is_not_tried_again_by_itself(obeyed: bool) -> None:
    bench = cancelled(obeyed=obeyed)
    plan = bench.settle()
    blocked = decision(bench, "trainer")
    assert isinstance(blocked, Blocked)
    assert "was cancelled by ana: so be it" in blocked.because
    assert "ctd retry taxi trainer" in blocked.hint
    assert not plan.failed
    bench.ask(Verb.RETRY, "trainer")
    bench.settle()
    assert len(bench.ran("pusher")) == 1


def test_changed_inputs_end_a_cancellation() -> None:
    bench = cancelled(obeyed=True)
    bench.arrive(2)
    bench.settle()
    assert isinstance(decision(bench, "trainer"), Reuse)


# Approval.


def test_work_that_needs_approval_waits_for_exactly_its_own() -> None:
    bench = settled(pusher={"approval": True})
    blocked = decision(bench, "pusher")
    assert isinstance(blocked, Blocked)
    assert blocked.because.startswith("waits for approval: ctd approve taxi pusher")
    assert not blocked.failed
    assert bench.plan().settled
    bench.ask(Verb.APPROVE, "pusher", about="another")
    assert isinstance(decision(bench, "pusher"), Blocked)
    bench.ask(Verb.APPROVE, "pusher", about=blocked.fingerprint)
    bench.settle()
    assert len(bench.ran("pusher")) == 1
    bench.arrive(2)
    bench.settle()
    assert "waits for approval" in decision(bench, "pusher").because, "another model"


def test_rejected_work_stays_undone_until_someone_approves_it() -> None:
    bench = settled(pusher={"approval": True})
    blocked = decision(bench, "pusher")
    assert isinstance(blocked, Blocked)
    bench.ask(Verb.REJECT, "pusher", about=blocked.fingerprint)
    assert decision(bench, "pusher").because.startswith("rejected by ana: so be it")
    bench.ask(Verb.APPROVE, "pusher", about=blocked.fingerprint)
    assert isinstance(decision(bench, "pusher"), Run)


def test_asking_for_approval_changes_no_identity() -> None:
    bench = settled()
    bench.spec = pipeline(trainer={"approval": True}, pusher={"approval": True})
    assert bench.plan().runs == ()
    assert isinstance(decision(bench, "trainer"), Reuse)


# Accept.


@pytest.mark.parametrize("policy", ["quarantine", "block"])
def test_an_accepted_span_enters_windows(policy: str) -> None:
    bench = settled(validator={"on_anomaly": policy})
    bench.arrive(2, content="odd")
    bench.settle()
    assert len(bench.ran("trainer")) == 1
    accept(bench, 2)
    bench.settle()
    assert bench.ran("transform")[-1].key == "spans 1..2 (2)"


def test_a_new_version_of_an_accepted_span_needs_an_acceptance_of_its_own() -> None:
    bench = settled()
    bench.arrive(2, content="odd")
    bench.settle()
    accept(bench, 2)
    bench.settle()
    bench.arrive(2, version=2, content="odd")
    bench.settle()
    assert "quarantined span 2" in decision(bench, "transform").because
    accept(bench, 2)
    assert "quarantined" not in decision(bench, "transform").because


def test_an_acceptance_is_of_the_data_and_the_finding_not_of_what_else_went_in() -> None:
    bench = settled()
    validated = bench.ran("validator")[-1]
    before = validated.ingredients["inputs"]
    edited = replace(validated, ingredients={"inputs": {**before, "schema": [[None, "edited"]]}})
    mended = replace(validated, ingredients={"inputs": {**before, "statistics": [[1, "other data"]]}})
    worse = replace(validated, outputs={"anomalies": (replace(validated.outputs["anomalies"][0], digest="worse"),)})
    assert finding(edited, gate(bench)) == finding(validated, gate(bench))
    assert len({finding(e, gate(bench)) for e in (validated, mended, worse)}) == 3


def test_an_acceptance_outlives_the_daemon_and_concerns_its_span_only() -> None:
    bench = settled()
    for number in (2, 3):
        bench.arrive(number, content="odd")
    bench.settle()
    accept(bench, 2)
    bench.kill_daemon()
    bench.settle()
    assert bench.ran("transform")[-1].key == "spans 1..2 (2)"
    assert "quarantined span 3" in decision(bench, "transform").because
