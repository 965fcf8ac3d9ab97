"""What can happen to a pipeline, step by step: data, edits, code, failures, crashes, clocks and people."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from planning_world import NODES, SPLIT, TWO, Bench, pipeline
from pydantic import ValidationError

from ctd.core.executions import STOPPED, Execution, Failure, State
from ctd.core.requests import Verb
from ctd.core.spans import Span
from ctd.planning.asked import finding
from ctd.planning.decided import outputs_of
from ctd.planning.decisions import Blocked, Reuse, Wait

SHAPES = {"taxi": NODES, "split": SPLIT, "two": TWO}
SPANS = st.integers(1, 5)
VERSIONS = st.integers(1, 3)
CONTENTS = st.sampled_from(["content-a", "content-b", "content-c", "content-d", "odd", "odd-b", "empty"])

EDITS: list[dict[str, Any]] = [
    {},
    {"trainer": {"train_steps": 200}},
    {"trainer": {"window": 2}},
    {"trainer": {"window": None}},
    {"transform": {"window": 2}},
    {"transform": {"window": 3, "min_spans": 2}},
    {"evaluator": {"metrics": {"AUC": {"at_least": 0.9}}}},
    {"evaluator": {"metrics": {"AUC": {"at_least": 0.7}, "BinaryAccuracy": {}}}},
    {"evaluator": {"window": 2}},
    {"transform": {"window": "all"}},
    {"transform": {"window": {"first": 2, "last": 4}}},
    {"transform": {"window": {"pinned": [1, 3]}}},
    {"transform": {"window": 3, "on_gap": "wait"}},
    {"examples": {"deny": [2]}},
    {"validator": {"drift": {"fare": 0.1}}},
    {"validator": {"on_anomaly": "warn"}},
    {"validator": {"on_anomaly": "block"}},
    {"trainer": {"window": {"last": 3}, "min_spans": 2}},
    {"trainer": {"window": "all", "on_gap": "wait"}},
    {"examples": {"splits": {"train": 3, "eval": 1}}},
    {"examples": {"max_lateness": "20s"}},
    {"examples": {"stale_after": "30s"}},
    {"pusher": {"push_within": "20s"}},
    {"examples": {"on_change": "ignore"}},
    {"examples": {"on_change": "fail"}},
    {"transform": {"code": "module"}},
    {"trainer": {"code": "pinned"}},
    {"trainer": {"code_deps": ["words.txt"], "packages": ["keras"]}},
    {"trainer": {"warm_start": None}},
    {"trainer": {"timeout": "1h", "attempts": 2, "keep": {"newest": 3}}},
    {
        node: {"timeout": "2h", "attempts": 4}
        for node in ("examples", "statistics", "transform", "trainer", "evaluator")
    },
    {"trainer": {"approval": True}},
    {"statistics": {"approval": True}},
    {"pusher": {"approval": True}},
    {"trainer": {"when": "manual"}},
    {"trainer": {"when": "schedule", "schedule": {"every": "1h"}}},
    {"trainer": {"when": "schedule", "schedule": {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}}},
    {"transform": {"min_interval": "1m"}},
    {"evaluator": {"when": "manual"}},
    {"evaluator": {"when": "schedule", "schedule": {"cron": "*/30 * * * *"}}},
    {"evaluator": {"min_interval": "2h"}},
    {"trainer": {"supersede": "running"}, "transform": {"supersede": "running"}},
    {"infra": {"requests": 40}},
    {"pusher": {"targets": ["serving", "edge"]}},
    {"pusher": {"targets": ["edge"]}},
    {"infra": None, "pusher": {"require": ["model"]}},
    {"validator": None},
    {"schema": {"kind": "schema_gen", "window": 2}},
    {"tuned": {"kind": "importer", "artifact": "HyperParameters", "path": "tuned.json"}},
    {"trainer": {"inputs": {"examples": "examples"}, "window": 2}},
    {"holdout": {"deny": [2]}},
    {"holdout_validator": {"on_anomaly": "block"}},
]
"""Edits of the taxi pipeline; the other shapes heed those that concern their nodes and make sense there."""

ASKED_OF = ["", "examples", "statistics", "validator", "transform", "trainer", "evaluator", "pusher"]
FAILURES = {
    "transient": Failure("StorageUnavailable", "the disk is away", retryable=True),
    "lost": Failure("WorkerLost", "killed by signal 9", retryable=True),
    "stopped": Failure(STOPPED, "the daemon was stopped", retryable=True),
    "permanent": Failure("BadModule", "run_fn raised", hint="Mend it."),
}

DATA = st.one_of(
    st.tuples(st.just("arrive"), SPANS, VERSIONS, CONTENTS),
    st.tuples(st.just("beside"), SPANS, VERSIONS, CONTENTS),
    st.tuples(st.just("half"), SPANS, VERSIONS, CONTENTS),
    st.tuples(st.just("remove"), SPANS, VERSIONS),
    st.tuples(st.just("reach"), SPANS, st.booleans()),
    st.tuples(st.just("away"), st.booleans()),
)
EDITED = st.tuples(st.sampled_from(["edit", "also"]), st.integers(0, len(EDITS) - 1))
CHANGES = st.one_of(
    st.tuples(st.just("code"), st.integers(1, 3)),
    st.tuples(st.just("own"), st.integers(1, 2)),
    st.tuples(st.just("schema"), st.integers(1, 2)),
    st.tuples(st.just("files"), st.integers(1, 2)),
    st.tuples(st.just("package"), st.integers(1, 2)),
    st.tuples(st.just("target"), st.sampled_from(["/serving/taxi", "/serving/other", ""])),
    st.tuples(st.just("broken"), st.sampled_from(["code", "schema", ""])),
)
FAULTS = st.one_of(
    st.tuples(st.just("lose"), st.integers(0, 60)),
    st.tuples(st.just("delete"), st.integers(0, 60)),
    st.tuples(st.just("unpush"), st.integers(0, 3)),
    st.tuples(st.just("fail"), st.sampled_from(ASKED_OF[1:]), st.sampled_from(sorted(FAILURES)), st.integers(1, 4)),
    st.tuples(st.just("crash"), st.integers(1, 3)),
    st.tuples(st.just("clock"), st.sampled_from([-26, -1, 1, 30])),
)
WORK = st.one_of(
    st.tuples(st.just("run"), st.integers(1, 6)),
    st.tuples(st.just("begin"), st.integers(1, 4)),
    st.tuples(st.just("end"), st.integers(0, 3)),
)
PEOPLE = st.one_of(
    st.tuples(
        st.just("ask"), st.sampled_from([Verb.PAUSE, Verb.RESUME, Verb.RETRY, Verb.RUN_NOW]), st.sampled_from(ASKED_OF)
    ),
    st.tuples(st.just("again"), st.sampled_from(ASKED_OF[1:])),
    st.tuples(st.just("cancel"), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("judge"), st.sampled_from([Verb.APPROVE, Verb.REJECT])),
    st.tuples(st.just("accept"), SPANS, st.booleans()),
)
_KINDS = [DATA, DATA, EDITED, EDITED, CHANGES, CHANGES, FAULTS, WORK, PEOPLE]
STEPS: st.SearchStrategy[tuple[Any, ...]] = st.sampled_from(_KINDS).flatmap(lambda kind: kind)  # one_of drops weights


def histories(steps: st.SearchStrategy[tuple[Any, ...]] = STEPS) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """Steps, most of them met by a pipeline at rest: an edit matters only where something was done before."""
    settle = st.just([("settle",)])
    often = st.one_of(settle, settle, st.just([]))
    step = st.tuples(steps.map(lambda s: [s]), often).map(lambda parts: parts[0] + parts[1])
    some = st.lists(step, min_size=2, max_size=12)
    return st.tuples(st.integers(1, 5), some).map(lambda h: [*_first(h[0]), *(s for part in h[1] for s in part)])


def _first(spans: int) -> list[tuple[Any, ...]]:
    """What every history begins with: some spans of each input, and rest."""
    both = (("arrive", "content-a"), ("beside", "content-b"))
    return [*((what, n, 1, content) for n in range(1, spans + 1) for what, content in both), ("settle",)]


def lives() -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """A history of a pipeline unlike others from the start: later edits rarely meet the data that they matter for."""
    edits = st.lists(st.integers(0, len(EDITS) - 1), max_size=4)
    return st.tuples(edits, histories()).map(lambda life: [*(("also", which) for which in life[0]), *life[1]])


WORLDS = st.tuples(st.sampled_from(["taxi", "taxi", "split", "two"]), lives())


def lived(bench: Bench, world: tuple[str, list[tuple[Any, ...]]]) -> Bench:
    """The bench after all that happened to a pipeline of this shape."""
    shape, history = world
    bench.shape = SHAPES[shape]
    bench.spec = pipeline(bench.shape)
    for step in history:
        apply(bench, step)
    return bench


def apply(bench: Bench, step: tuple[Any, ...]) -> None:
    """One thing that can happen to a pipeline, a while after the last."""
    bench.now += timedelta(seconds=1, microseconds=1)  # two requests at exactly one time count once
    what, *args = step
    _HAPPENS[what](bench, *args)


def change(bench: Bench, changes: dict[str, Any]) -> None:
    """An edit of the spec. One that makes no sense leaves the old spec in force, as the daemon does."""
    with contextlib.suppress(ValidationError):
        bench.spec = pipeline(bench.shape, **changes)
        bench.said = changes


def both(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """An edit on top of another."""
    merged = {**first, **second}
    for node in first.keys() & second.keys():
        if first[node] is not None and second[node] is not None:
            merged[node] = {**first[node], **second[node]}
    return merged


def running(bench: Bench) -> list[Execution]:
    return [e for e in bench.store.executions() if e.state is State.RUNNING]


def _span(bench: Bench, number: int, version: int) -> Span:
    return Span(number, version if bench.spec.inputs["examples"].pattern.versioned else None)


def _arrive(bench: Bench, number: int, version: int, content: str) -> None:
    span = _span(bench, number, version)
    bench.contents[span] = content
    bench.incomplete.discard(span)


def _beside(bench: Bench, number: int, version: int, content: str) -> None:
    bench.beside.setdefault("holdout", {})[Span(number, version)] = content


def _half(bench: Bench, number: int, version: int, content: str) -> None:
    span = _span(bench, number, version)
    bench.contents[span] = content
    bench.incomplete.add(span)


def _remove(bench: Bench, number: int, version: int) -> None:
    span = _span(bench, number, version)
    bench.contents.pop(span, None)
    bench.incomplete.discard(span)
    bench.beside.get("holdout", {}).pop(span, None)


def _reach(bench: Bench, number: int, there: bool) -> None:
    these = {s for s in bench.contents if s.number == number}
    bench.passing = bench.passing - these if there else bench.passing | these


def _code(bench: Bench, which: int) -> None:
    bench.code = f"{bench.own}/{which}"


def _own(bench: Bench, which: int) -> None:
    bench.own = f"own-{which}"
    bench.code = f"{bench.own}/1"


def _target(bench: Bench, path: str) -> None:
    bench.targets = {"edge": "/edge/taxi"} | ({"serving": path} if path else {})


def _broken(bench: Bench, what: str) -> None:
    bench.code_problem = "taxi.py:3: invalid syntax" if what == "code" else ""
    bench.schema_problem = "schema.pbtxt is not there" if what == "schema" else ""


def _artifacts(bench: Bench) -> list[Any]:
    return [a for e in bench.store.executions() for made in e.outputs.values() for a in made]


def _lose(bench: Bench, which: int) -> None:
    artifacts = _artifacts(bench)
    if artifacts:
        bench.missing.add(artifacts[which % len(artifacts)].uri)


def _delete(bench: Bench, which: int) -> None:
    artifacts = _artifacts(bench)
    if artifacts:
        artifact = artifacts[which % len(artifacts)]
        bench.store.delete_artifact(artifact)
        bench.history.forget_artifact(artifact.id)


def _unpush(bench: Bench, which: int) -> None:
    """A target loses a version, most likely the newest."""
    pushed = [str(a.properties["pushed_destination"]) for a in _artifacts(bench) if "pushed_version" in a.properties]
    if pushed:
        bench.lose_version(pushed[-1 - which % len(pushed)])


def _fail(bench: Bench, node: str, how: str, times: int) -> None:
    bench.flaky[node] = [FAILURES[how]] * times


def _run(bench: Bench, most: int) -> None:
    for run in bench.plan().runs[:most]:
        bench.finish(bench.start(run))


def _begin(bench: Bench, most: int) -> None:
    for run in bench.plan().runs[:most]:
        bench.start(run)


def _end(bench: Bench, which: int) -> None:
    there = running(bench)
    if there:
        bench.finish(there[which % len(there)])


def _crash(bench: Bench, most: int) -> None:
    _begin(bench, most)
    bench.kill_daemon()


def _cancel(bench: Bench, which: int, obeyed: bool) -> None:
    there = running(bench)
    if there:
        execution = there[which % len(there)]
        bench.ask(Verb.CANCEL, execution.node, execution=execution.id, key=execution.key)
        if obeyed:
            bench.finish(execution, state=State.CANCELLED)


def _clock(bench: Bench, hours: int) -> None:
    bench.now += timedelta(hours=hours)


def _judge(bench: Bench, verb: Verb) -> None:
    """About all that waits for approval."""
    for d in bench.plan().decisions:
        if isinstance(d, Blocked) and d.fingerprint:
            bench.ask(verb, d.subject.node, key=d.subject.key, about=d.fingerprint)


def _accept(bench: Bench, number: int, baseline: bool = False) -> None:
    """Let a span pass that a validator refused, as `ctd accept` does; with `--as-baseline` it is no exception."""
    for node, execution in refused(bench):
        span = bench.begun[execution.id].at
        if span is not None and span.number == number:
            bench.accepted.add(bench.found(execution))
            bench.norms = (
                (bench.norms | {bench.found(execution)}) if baseline else bench.norms - {bench.found(execution)}
            )
            bench.ask(
                Verb.ACCEPT,
                node,
                key=execution.key,
                span=number,
                about=finding(execution, bench.begun[execution.id].wired),
                baseline=baseline,
            )


def refused(bench: Bench) -> list[tuple[str, Execution]]:
    """The findings of validators that are in force and say no."""
    gates = {w.node for w in bench.spec.work if w.piece.gate}
    found = []
    for d in bench.plan().decisions:
        if d.subject.node in gates and isinstance(d, Reuse | Wait) and d.execution and outputs_of(d):
            execution = bench.history.execution(d.execution)
            if execution is not None and not all(a.blessed for a in execution.output("anomalies")):
                found.append((d.subject.node, execution))
    return found


_HAPPENS: dict[str, Any] = {
    "settle": lambda bench: bench.settle(),
    "arrive": _arrive,
    "beside": _beside,
    "half": _half,
    "remove": _remove,
    "reach": _reach,
    "away": lambda bench, gone: setattr(bench, "away", gone),
    "edit": lambda bench, which: change(bench, EDITS[which]),
    "also": lambda bench, which: change(bench, both(bench.said, EDITS[which])),
    "code": _code,
    "own": _own,
    "schema": lambda bench, which: setattr(bench, "schema", f"schema-{which}"),
    "files": lambda bench, which: bench.files.update({"/specs/words.txt": f"{which}", "/specs/tuned.json": f"{which}"}),
    "package": lambda bench, which: bench.packages.update(keras=f"3.{which}"),
    "target": _target,
    "broken": _broken,
    "lose": _lose,
    "delete": _delete,
    "unpush": _unpush,
    "fail": _fail,
    "crash": _crash,
    "clock": _clock,
    "run": _run,
    "begin": _begin,
    "end": _end,
    "ask": lambda bench, verb, node: bench.ask(verb, node),
    "again": lambda bench, node: bench.ask(Verb.RUN_NOW, node, again=True),
    "cancel": _cancel,
    "judge": _judge,
    "accept": _accept,
}
