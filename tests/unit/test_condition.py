"""The worst that anybody has to act on: by plans as they come about, and as headline, exit code and JSON tell it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from planning_world import TWO, Bench, pipeline

from ctd.api.health import EXIT_CODES, PipelineState, worst
from ctd.api.models import PipelineView, ProblemView, StatusView
from ctd.cli.status import exit_code
from ctd.core.executions import Failure, State
from ctd.core.requests import Verb
from ctd.core.spans import Span
from ctd.planning.asked import finding
from ctd.planning.condition import Condition, condition
from ctd.planning.decisions import Plan

LOST = Failure("StorageUnavailable", "the disk is away", retryable=True)
BROKEN = Failure("ComponentFailed", "run_fn raised", hint="Mend it.")


def settled(**edit: Any) -> Bench:
    """Two inputs, so that something can run that has nothing to do with the other."""
    bench = Bench(spec=pipeline(TWO, **edit))
    for number in (1, 2):
        bench.arrive(number)
        bench.beside.setdefault("holdout", {})[Span(number, 1)] = f"held-{number}"
        bench.settle()
    return bench


def refused(policy: str = "quarantine") -> Bench:
    bench = settled(validator={"on_anomaly": policy})
    bench.arrive(3, content="odd")
    bench.settle()
    return bench


def also_at_work(bench: Bench) -> Bench:
    """The same while something runs."""
    bench.beside["holdout"][Span(9, 1)] = "held-9"
    bench.start(bench.plan().runs[0])
    return bench


def accepted() -> Bench:
    bench = refused()
    execution = bench.ran("validator")[-1]
    gate = next(w for w in bench.spec.work if w.piece.gate)
    bench.ask(Verb.ACCEPT, "validator", key=execution.key, span=3, about=finding(execution, gate))
    bench.settle()
    return bench


def failing(failure: Failure, times: int = 1, **edit: Any) -> Bench:
    bench = settled(**edit)
    bench.failures["trainer"] = failure
    bench.arrive(3)
    for _ in range(times):
        while runs := bench.plan().runs:
            bench.finish(bench.start(runs[0]), runs[0])
        waits = [d.until for d in bench.plan().decisions if getattr(d, "until", None)]
        bench.now = max(waits, default=bench.now)
    return bench


def at_the_end_of_a_pause(bench: Bench) -> Bench:
    bench.now -= timedelta(seconds=1)
    return bench


def late_and_far() -> Bench:
    bench = settled(examples={"max_lateness": "1h"})
    bench.arrive(9999)
    bench.settle()
    bench.now += timedelta(hours=2)
    bench.arrive(3)
    bench.settle()
    return bench


def late_only() -> Bench:
    bench = settled(examples={"max_lateness": "1h"})
    bench.arrive(4)
    bench.settle()
    bench.now += timedelta(hours=2)
    bench.arrive(3)
    bench.settle()
    return bench


def silent() -> Bench:
    bench = settled(examples={"stale_after": "26h"})
    bench.now += timedelta(hours=27)
    return bench


def gap() -> Bench:
    bench = settled(transform={"window": 4, "on_gap": "wait"})
    bench.arrive(4)
    bench.settle()
    return bench


def asked(verb: Verb, node: str = "", *, then: int = 0, **edit: Any) -> Bench:
    bench = settled(**edit)
    bench.ask(verb, node)
    if then:
        bench.arrive(then)
        bench.settle()
    return bench


def unapproved() -> Bench:
    return settled(trainer={"approval": True})


def empty() -> Bench:
    bench = Bench()
    bench.settle()
    return bench


def rejected() -> Bench:
    bench = unapproved()
    (held,) = (d for d in bench.plan().decisions if getattr(d, "fingerprint", "") and d.action == "blocked")
    bench.ask(Verb.REJECT, "trainer", about=held.fingerprint)
    return bench


def not_blessed() -> Bench:
    bench = settled()
    bench.spec = pipeline(TWO, evaluator={"metrics": {"AUC": {"at_least": 0.99}}})
    bench.verdicts["{'limits': {'AUC': {'at_least': 0.99}}}"] = False
    bench.settle()
    return bench


def cancelled() -> Bench:
    bench = settled()
    bench.arrive(3)
    while not (runs := [r for r in bench.plan().runs if r.subject.node == "trainer"]):
        run = bench.plan().runs[0]
        bench.finish(bench.start(run), run)
    bench.finish(bench.start(runs[0]), state=State.CANCELLED)
    return bench


def changed() -> Bench:
    bench = settled(examples={"on_change": "fail"})
    bench.arrive(1, content="other")
    bench.settle()
    return bench


def half() -> Bench:
    bench = settled()
    bench.incomplete.add(bench.arrive(3))
    bench.settle()
    return bench


def away() -> Bench:
    bench = settled()
    bench.away = True
    return bench


def target(fault: str = "", **kinds: Any) -> Bench:
    bench = settled()
    bench.faults["serving"] = fault
    bench.only_told |= {"serving"} if kinds.get("only_told") else set()
    bench.hidden |= {"serving": "Input/output error"} if kinds.get("hidden") else {}
    return bench


def unserved() -> Bench:
    bench = Bench(servers={"serving": "localhost:8500"}, silent={"serving"})
    bench.arrive(1)
    bench.settle()
    return bench


def manual() -> Bench:
    bench = settled()
    bench.spec = pipeline(TWO, trainer={"when": "manual"})
    bench.arrive(3)
    bench.settle()
    return bench


def scheduled() -> Bench:
    bench = settled(trainer={"when": "schedule", "schedule": {"every": "24h"}})
    bench.arrive(3)
    while runs := bench.plan().runs:
        bench.finish(bench.start(runs[0]), runs[0])
    return bench


CASES: dict[str, tuple[Callable[[], Bench], Condition]] = {
    "all is done": (settled, Condition.AS_WANTED),
    "something runs": (lambda: also_at_work(settled()), Condition.WORKING),
    "nothing has come yet": (empty, Condition.WAITING),
    "half a span": (half, Condition.WAITING),
    "half a span, and something runs": (lambda: also_at_work(half()), Condition.WORKING),
    "the disk is away": (away, Condition.WAITING),
    "quarantined": (refused, Condition.WAITING),
    "quarantined, and something runs": (lambda: also_at_work(refused()), Condition.WAITING),
    "refused, which blocks": (lambda: refused("block"), Condition.BLOCKED),
    "refused, but warned of only": (lambda: refused("warn"), Condition.AS_WANTED),
    "accepted": (accepted, Condition.AS_WANTED),
    "failed for good": (lambda: failing(BROKEN), Condition.FAILED),
    "failed for good, and something runs": (lambda: also_at_work(failing(BROKEN)), Condition.FAILED),
    "failed once, tried again": (lambda: at_the_end_of_a_pause(failing(LOST)), Condition.WORKING),
    "failed again and again": (lambda: at_the_end_of_a_pause(failing(LOST, 9)), Condition.FAILED),
    "changed, and on_change says fail": (changed, Condition.FAILED),
    "a wrong number": (late_and_far, Condition.WAITING),
    "a wrong number, and something runs": (lambda: also_at_work(late_and_far()), Condition.WAITING),
    "late, as the spec has it": (late_only, Condition.AS_WANTED),
    "a silent source": (silent, Condition.WAITING),
    "a gap": (gap, Condition.WAITING),
    "too few spans": (lambda: settled(transform={"window": 3, "min_spans": 3}), Condition.WAITING),
    "paused, and nothing to do": (lambda: asked(Verb.PAUSE), Condition.AS_WANTED),
    "paused, and something to do": (lambda: asked(Verb.PAUSE, then=3), Condition.WAITING),
    "an approval is needed": (unapproved, Condition.BLOCKED),
    "an approval is needed, and something runs": (lambda: also_at_work(unapproved()), Condition.BLOCKED),
    "rejected": (rejected, Condition.BLOCKED),
    "cancelled": (cancelled, Condition.BLOCKED),
    "not blessed": (not_blessed, Condition.BLOCKED),
    "only when asked": (manual, Condition.AS_WANTED),
    "its time has not come": (scheduled, Condition.AS_WANTED),
    "damaged on the target, which is repaired": (lambda: target("version 2 is damaged"), Condition.WORKING),
    "damaged on the target, which is left so": (lambda: target("version 2 is gone", only_told=True), Condition.WAITING),
    "the target cannot be looked at": (lambda: target(hidden=True), Condition.WAITING),
    "pushed, and its server may come later": (unserved, Condition.AS_WANTED),
}


@pytest.mark.parametrize("case", CASES)
def test_the_condition_is_the_worst_that_somebody_has_to_act_on(case: str) -> None:
    made, expected = CASES[case]
    assert condition(made().plan()) is expected


def view(*states: PipelineState, problems: int = 0, warnings: int = 0) -> StatusView:
    found = [ProblemView(file="a", line=1, message="no", warning=False)] * problems
    found += [ProblemView(file="a", line=1, message="hm", warning=True)] * warnings
    views = [PipelineView(pipeline=s, file="", state=s, nodes=[], live=[]) for s in states]
    return StatusView(daemon=None, pipelines=views, problems=found)


@pytest.mark.parametrize(
    ("said", "state", "code"),
    [
        (view(), "as wanted", 0),
        (view("as wanted", "working"), "working", 0),
        (view("working", "waiting", "as wanted"), "waiting", 3),
        (view("waiting", "blocked"), "blocked", 3),
        (view("blocked", "failed"), "failed", 1),
        (view("failed", "invalid"), "invalid", 2),
        (view("failed", problems=1), "invalid", 2),
        (view("as wanted", warnings=1), "as wanted", 0),
    ],
)
def test_the_exit_code_and_the_json_tell_the_worst_of_all_pipelines(said: StatusView, state: str, code: int) -> None:
    assert (said.state, json.loads(said.model_dump_json())["state"], exit_code(said)) == (state, state, code)
    assert StatusView.model_validate_json(said.model_dump_json()) == said


def test_every_condition_of_a_plan_is_a_state_in_the_same_order() -> None:
    plans = [c.value for c in Condition]
    assert [state for state in EXIT_CODES if state in plans] == plans
    assert worst(reversed([*EXIT_CODES])) == "invalid"
    assert condition(Plan("taxi", ())) is Condition.AS_WANTED
