"""Whatever happens to a pipeline: its results are those it is to have, and no work is done twice or too early.

Three options depend on when data came, on purpose (decision 009). `on_change: ignore` and `fail` hold on to what was
read first; they are in force while things happen and are taken back before results are compared, and their promises
are in test_arrivals.py. `max_lateness` judges a span by what was read before it: the oracle does so too, but planning
from scratch may come to other windows.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import example, given
from planning_oracle import Made, Oracle, Record, differences
from planning_steps import EDITS, WORLDS, apply, change, lived, refused, running
from planning_world import Begun, Bench

from ctd.core.executions import Execution, State
from ctd.core.requests import Verb
from ctd.planning.asked import finding
from ctd.planning.decided import outputs_of
from ctd.planning.decisions import Blocked, Plan, Reuse, Run, Wait
from ctd.specs.timing import Schedule

World = tuple[str, list[tuple[Any, ...]]]
REFUSED = [("arrive", 1, 1, "content-a"), ("settle",), ("arrive", 2, 1, "odd"), ("settle",)]
ARRIVED = (("arrive", 1, 1, "content-a"), ("beside", 1, 1, "content-b"))
ASKING = (("edit", EDITS.index({"trainer": {"approval": True}})), ("arrive", 1, 1, "content-a"), ("settle",))
DRIFT = EDITS.index({"validator": {"drift": {"fare": 0.1}}})
TIMEOUT = EDITS.index({"trainer": {"timeout": "1h", "attempts": 2, "keep": {"newest": 3}}})
LATE = EDITS.index({"examples": {"max_lateness": "20s"}})
WRONG = [("edit", LATE), ("arrive", 1, 1, "content-a"), ("arrive", 4, 1, "content-b"), ("settle",), ("remove", 4, 1)]
BEHIND = [("clock", 30), ("arrive", 2, 1, "content-c"), ("settle",)]
BESIDE = [step for n in (1, 2, 3) for step in (("arrive", n, 1, "content-a"), ("beside", n, 1, "content-b"))]
LIMITS = EDITS.index({"evaluator": {"metrics": {"AUC": {"at_least": 0.7}, "BinaryAccuracy": {}}}})
MADE_AGAIN = [*BESIDE, ("settle",), ("lose", 40), ("settle",), ("edit", LIMITS), ("settle",), ("broken", "code")]
GAP = EDITS.index({"transform": {"window": 3, "on_gap": "wait"}})


def rest(bench: Bench, *, accepting: bool = False) -> Plan:
    """Everything done that can be: pauses lifted, approvals given, times waited for, what waits to be asked asked for.

    `accepting` lets spans pass that people had let pass in another life of this pipeline.
    """
    bench.passing.clear()
    for node in ("", *bench.spec.nodes):
        bench.ask(Verb.RESUME, node)
    for _ in range(200):
        for execution in running(bench):
            bench.finish(execution)
        made = bench.plan()
        if not (_works(bench, made) or _asks(bench, made, accepting=accepting) or _waits(bench, made)):
            return made
    raise AssertionError(f"no rest: {[(r.subject, r.because) for r in made.runs]}")


def _works(bench: Bench, made: Plan) -> bool:
    for run in made.runs:
        bench.finish(bench.start(run))
    return bool(made.runs)


def _asks(bench: Bench, made: Plan, *, accepting: bool) -> bool:
    unapproved = [d for d in made.decisions if isinstance(d, Blocked) and d.fingerprint]
    for d in unapproved:
        bench.ask(Verb.APPROVE, d.subject.node, key=d.subject.key, about=d.fingerprint)
    manual = {d.subject.node for d in made.decisions if isinstance(d, Wait) and d.later and not d.until}
    for node in manual:
        bench.ask(Verb.RUN_NOW, node)
    let_pass = [(n, e) for n, e in refused(bench) if bench.found(e) in bench.accepted] if accepting else []
    about = [
        (n, e.key, finding(e, bench.begun[e.id].wired), at.number, bench.found(e) in bench.norms)
        for n, e in let_pass
        if (at := bench.begun[e.id].at)
    ]
    known = {r.about for r in bench.store.requests() if r.verb is Verb.ACCEPT}
    new = [a for a in about if a[2] not in known]
    for node, key, found, number, baseline in new:
        bench.ask(Verb.ACCEPT, node, key=key, span=number, about=found, baseline=baseline)
    return bool(unapproved or manual or new)


def _waits(bench: Bench, made: Plan) -> bool:
    """Whether something waits for a time. What waits for its turn has it then, and waits for no later one."""
    times = [d.until for d in made.decisions if isinstance(d, Wait) and d.until]
    bench.now = min(times, default=bench.now)
    due = [d.subject for d in made.decisions if isinstance(d, Wait) and d.later and d.until == bench.now]
    again = [d for d in bench.plan().decisions if isinstance(d, Wait) and d.later and d.until and d.subject in due]
    assert again == [], "a wait for a time that never ends"
    return bool(times)


def drop(bench: Bench, *fields: str) -> None:
    """The same spec without these fields of the input."""
    said = {k: v for k, v in (bench.said.get("examples") or {}).items() if k not in fields}
    change(bench, {**bench.said, "examples": said})


def shown(bench: Bench, plan: Plan) -> dict[tuple[str, str, int | None], Made]:
    """The results that a plan has in use, by node, piece and span."""
    per_span = {w.id for w in bench.spec.work if w.per_span}
    found: dict[tuple[str, str, int | None], Made] = {}
    for d in plan.decisions:
        if outputs_of(d):
            id_ = (d.subject.node, d.subject.piece)
            span = int(re.findall(r"\d+", d.subject.key)[0]) if id_ in per_span else None
            found[(*id_, span)] = {k: tuple((a.span, a.digest) for a in made) for k, made in outputs_of(d).items()}
    return found


def state(plan: Plan) -> dict[tuple[str, str, str], Any]:
    """What a plan comes to: actions and the identity of every result, without ids and times."""
    found = {}
    for d in plan.decisions:
        digests = {key: tuple(a.digest for a in made) for key, made in outputs_of(d).items()}
        stays = isinstance(d, Wait) and bool(d.outputs)
        result = "reuse" if stays else d.action
        found[d.subject.node, d.subject.piece, re.sub(r"#\d+", "#", d.subject.key)] = (result, digests)
    return found


def served(bench: Bench, plan: Plan) -> dict[str, str | None]:
    """What each target has where a push is in force, as the target itself would tell."""
    pushers = {d.subject.piece for d in plan.decisions if d.subject.node == "pusher" and outputs_of(d)}
    return {name: bench.served.get(path) for name, path in bench.targets.items() if name in pushers}


@given(WORLDS)
@example(("split", [("arrive", 1, 1, "content-a"), ("settle",), ("arrive", 2, 1, "odd")]))
@example(("split", MADE_AGAIN))
@example(("taxi", [("edit", GAP), ("arrive", 1, 1, "content-a"), ("arrive", 3, 1, "content-b"), ("settle",)]))
@example(("two", [*ARRIVED, ("settle",), ("arrive", 2, 1, "odd"), ("beside", 2, 1, "content-c"), ("settle",)]))
@example(("taxi", [*REFUSED, ("accept", 2)]))
@example(("taxi", [("fail", "trainer", "permanent", 1), *ARRIVED, ("settle",), ("edit", TIMEOUT), ("settle",)]))
@example(("taxi", [*WRONG, *BEHIND]))
@example(("taxi", [*WRONG, *BEHIND, ("arrive", 4, 1, "content-d"), ("settle",)]))
@example(("taxi", [("edit", DRIFT), *REFUSED, ("accept", 2), ("arrive", 3, 1, "content-b")]))
@example(("taxi", [("edit", DRIFT), *REFUSED, ("accept", 2, True), ("arrive", 3, 1, "content-b")]))
@example(("taxi", [*REFUSED, ("accept", 2), ("settle",), ("arrive", 2, 1, "odd-b")]))
@example(("taxi", [*REFUSED, ("fail", "trainer", "transient", 1), ("code", 2), ("settle",)]))
@example(("two", [*ARRIVED, ("edit", EDITS.index({"examples": {"deny": [2]}})), ("beside", 2, 1, "content-c")]))
def test_at_rest_the_results_are_those_that_spec_and_contents_call_for(world: World) -> None:
    bench = lived(Bench(), world)
    drop(bench, "on_change")
    plan = rest(bench)
    oracle = Oracle(bench)
    assert shown(bench, plan) == oracle.results()
    reused = [e for d in plan.decisions if isinstance(d, Reuse) and (e := bench.history.execution(d.execution))]
    assert [e for e in reused if e not in oracle.record.usable(bench.begun[e.id])] == [], "gone, or to be done again"
    pushes = {w.piece.target: oracle.expect(w, None) for w in oracle.work.values() if w.piece.target}
    assert served(bench, plan) == {name: p[0].taken["model"][0][1] for name, p in pushes.items() if p}


@given(WORLDS)
def test_incremental_equals_from_scratch(world: World) -> None:
    bench = lived(Bench(), world)
    drop(bench, "on_change", "max_lateness", "stale_after")
    bench.flaky.clear()
    for execution in running(bench):
        bench.finish(execution)
    for node in bench.spec.nodes:
        bench.ask(Verb.RETRY, node)
    incremental = rest(bench)
    scratch = Bench(
        spec=bench.spec,
        contents=bench.contents,
        beside=bench.beside,
        incomplete=bench.incomplete,
        away=bench.away,
        code=bench.code,
        own=bench.own,
        code_problem=bench.code_problem,
        schema=bench.schema,
        schema_problem=bench.schema_problem,
        files=bench.files,
        packages=bench.packages,
        targets=bench.targets,
        accepted=bench.accepted,
        norms=bench.norms,
    )
    anew = rest(scratch, accepting=True)
    assert state(incremental) == state(anew)
    assert served(bench, incremental) == served(scratch, anew)


class Watched(Bench):
    """A bench that looks at every plan: what is to run must not be done, given up, held up or told otherwise."""

    def plan(self) -> Plan:
        made = super().plan()
        record = Record(self)
        for run in made.runs:
            begun = self.work_of(run)
            assert not record.usable(begun), f"{run.subject} is done again: {run.because}"
            assert not record.given_up(begun), f"{run.subject} is tried again: {run.because}"
            assert not self._at_work(begun), f"{run.subject} is at work already"
            assert not self._paused(run.subject.node), f"{run.subject} is paused"
            assert self._approved(run), f"{run.subject} was not approved"
            assert self._in_time(run), f"{run.subject} runs before its time: {run.because}"
            assert self._base(run) == record.blessed(begun, run.inputs), f"{run.subject} takes another blessed model"
        for d in made.decisions:
            if isinstance(d, Wait) and d.later:
                assert d.subject.piece in ("", "metrics"), f"{d.subject} waits for a time of its own"
                assert d.until is None or d.until > self.now, f"{d.subject} waits for a time that has passed"
        return made

    def _at_work(self, begun: Begun) -> bool:
        mine = [self.begun[e.id] for e in running(self) if e.node == begun.wired.node]
        return any(b.wired.id == begun.wired.id and (begun.at is None or b.at == begun.at) for b in mine)

    def _said(self, *verbs: Verb, node: str) -> list[Verb]:
        return [r.verb for r in self.store.requests() if r.node == node and r.verb in verbs]

    def _paused(self, node: str) -> bool:
        return any(self._said(Verb.PAUSE, Verb.RESUME, node=n)[-1:] == [Verb.PAUSE] for n in ("", node))

    def _approved(self, run: Run) -> bool:
        said = [r for r in self.store.requests() if r.verb in (Verb.APPROVE, Verb.REJECT)]
        mine = [r.verb for r in said if (r.node, r.about) == (run.subject.node, run.fingerprint)]
        return not self.spec.node(run.subject.node).approval or mine[-1:] == [Verb.APPROVE]

    def _in_time(self, run: Run) -> bool:
        """Whether a run is the first piece's in its time, another piece's, or makes up for what came to nothing."""
        node, place = self.spec.node(run.subject.node), (run.subject.node, run.subject.piece)
        if place[1] not in ("", "metrics"):
            return True
        begun = [e for e in self.store.executions() if (e.node, e.piece) == place]
        if begun and begun[-1].fingerprint == run.fingerprint:
            return True
        turns = [e for e in begun if e.state in (State.RUNNING, State.SUCCEEDED) or self._stopped(e)]
        asked = [r.id for r in self.store.requests() if r.verb is Verb.RUN_NOW and r.node == run.subject.node]
        if asked and asked[-1] > (turns[-1].id if turns else 0):
            return True
        when = getattr(node, "when", "change")
        if when == "manual" or not turns or begun[-1] is not turns[-1] or turns[-1].started > self.now:
            return bool(when != "manual")
        schedule, least = getattr(node, "schedule", None), getattr(node, "min_interval", None)
        soon = [
            every for every in (schedule and schedule.every, least) if every and self.now < turns[-1].started + every
        ]
        passed = not (schedule and schedule.cron) or self._passed(schedule, turns[-1].started)
        return passed and not soon

    def _stopped(self, e: Execution) -> bool:
        asked = any(r.execution == e.id for r in self.store.requests() if r.verb is Verb.CANCEL)
        return asked or (e.state is State.CANCELLED and not e.superseded)

    def _passed(self, schedule: Schedule, since: datetime) -> bool:
        """Whether a time of the cron has come since. Hours and minutes of the edits are enough."""
        minute, hour = str(schedule.cron).split()[:2]
        step = timedelta(minutes=1)
        at = since.replace(second=0, microsecond=0) + step
        while at <= min(self.now, since + timedelta(days=2)):
            local = at.astimezone(ZoneInfo(schedule.timezone))
            if hour in ("*", str(local.hour)) and local.minute % (int(minute.removeprefix("*/")) or 60) == 0:
                return True
            at += step
        return False

    def _base(self, run: Run) -> list[int]:
        return [a.id for key in ("base_model", "baseline_model") for a in run.inputs.get(key, ())]


@given(WORLDS)
@example(("taxi", [("arrive", 1, 1, "content-a"), ("begin", 1), ("cancel", 0, False), ("crash", 1), ("settle",)]))
@example(("taxi", [*ASKING, ("judge", Verb.APPROVE), ("settle",), ("arrive", 2, 1, "content-b"), ("settle",)]))
@example(("taxi", [("ask", Verb.PAUSE, "evaluator"), ("arrive", 1, 1, "content-a"), ("settle",)]))
def test_nothing_runs_that_is_done_or_given_up_or_not_to_run_now(world: World) -> None:
    bench = lived(Watched(), world)
    rest(bench)
    done = Record(bench).attempts
    assert all(e.state is not State.RUNNING for tried in done.values() for e in tried)


@given(WORLDS)
def test_memory_equals_what_the_store_says_after_every_step(world: World) -> None:
    shape, history = world
    bench = lived(Bench(), (shape, []))
    for step in history:
        apply(bench, step)
        assert differences(bench.history, bench.store) == []
    before = bench.plan()
    bench.history = bench.remembered()
    assert bench.plan() == before
