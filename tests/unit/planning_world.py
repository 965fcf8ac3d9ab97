"""A world for planner tests: spans, code and settings that change, and work whose results depend only on its inputs."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from ctd.core.artifacts import COUNTED, Artifact, ArtifactType
from ctd.core.executions import Execution, Failure, Outcome, State
from ctd.core.facts import CodeFact, Damage, FileFact, TargetSeen
from ctd.core.fingerprints import digest_of
from ctd.core.history import History
from ctd.core.requests import OperatorRequest, Verb
from ctd.core.spans import Span
from ctd.engine.observe import cron_of, fire_fact
from ctd.metadata.store import MemoryStore
from ctd.planning.decisions import Plan, Run, Wait
from ctd.planning.plan import plan
from ctd.planning.world import SpanFact, SpansFact, TargetFact, World
from ctd.specs.base import NodeSpec
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.wired import WiredPiece

NODES: dict[str, Any] = {
    "examples": {"kind": "example_gen", "input": "data/{SPAN}/v{VERSION}"},
    "statistics": {"kind": "statistics_gen"},
    "schema": {"kind": "importer", "artifact": "Schema", "path": "schema.pbtxt"},
    "validator": {"kind": "example_validator", "on_anomaly": "quarantine"},
    "transform": {"kind": "transform", "window": 3},
    "trainer": {"kind": "trainer", "train_steps": 100, "warm_start": "latest_blessed"},
    "evaluator": {
        "kind": "evaluator",
        "label_key": "tips",
        "metrics": {"AUC": {"at_least": 0.5, "not_worse_than_baseline_by": 0.1}},
    },
    "infra": {"kind": "infra_validator"},
    "pusher": {"kind": "pusher", "targets": ["serving"]},
}

SPLIT: dict[str, Any] = {
    "examples": {"kind": "example_gen", "input": {"train": "data/train/{SPAN}", "eval": "data/eval/{SPAN}"}},
    "statistics": {"kind": "statistics_gen"},
    "schema": {"kind": "schema_gen"},
    "validator": {"kind": "example_validator", "on_anomaly": "block"},
    "trainer": {"kind": "trainer", "train_steps": 100, "code_deps": ["words.txt"], "packages": ["keras"]},
    "evaluator": {"kind": "evaluator", "label_key": "tips", "metrics": {"AUC": {"at_least": 0.5}}},
    "pusher": {"kind": "pusher", "targets": ["serving"], "require": ["model"]},
}
"""Data that is split already, a schema that is inferred, no Transform, a package that counts, one blessing."""

JUDGED_TWICE: dict[str, Any] = {**NODES, "safety": {**NODES["evaluator"], "metrics": {"AUC": {"at_least": 0.5}}}}
"""Two evaluators of one model: it needs the blessing of both."""

TWO: dict[str, Any] = {
    **NODES,
    "holdout": {"kind": "example_gen", "input": "holdout/{SPAN}/v{VERSION}"},
    "statistics": {"kind": "statistics_gen", "inputs": {"examples": "examples"}},
    "validator": {**NODES["validator"], "inputs": {"statistics": "statistics"}},
    "transform": {**NODES["transform"], "inputs": {"examples": "examples"}},
    "evaluator": {**NODES["evaluator"], "window": 2, "inputs": {"examples": "holdout"}},
    "infra": {"kind": "infra_validator", "inputs": {"examples": "holdout"}},
    "holdout_statistics": {"kind": "statistics_gen", "inputs": {"examples": "holdout"}},
    "holdout_validator": {
        "kind": "example_validator",
        "on_anomaly": "quarantine",
        "inputs": {"statistics": "holdout_statistics"},
    },
}
"""Two inputs with a validator each: models are trained on one and judged on the other."""


def pipeline(nodes: Mapping[str, Any] = NODES, /, **changes: dict[str, Any] | None) -> PipelineSpec:
    """The taxi pipeline, with fields of nodes replaced: `pipeline(trainer={"train_steps": 200})`.

    A change with a `kind` is another node, or one more; None takes the node out.
    """
    made = dict(nodes)
    for name, said in changes.items():
        if said is None:
            made.pop(name, None)
        elif "kind" in said:
            made[name] = said
        elif name in made:
            made[name] = {**made[name], **said}
    return _parsed(json.dumps(made))


@functools.cache
def _parsed(nodes: str) -> PipelineSpec:
    said = {"pipeline": "taxi", "module": "taxi.py", "nodes": json.loads(nodes)}
    return PipelineSpec.model_validate(said, context={"base": "/specs"})


IMMATERIAL = frozenset(
    {
        "kind", "inputs", "timeout", "attempts", "approval", "keep", "window", "min_spans", "on_gap", "module",
        "code", "code_deps", "packages", "when", "schedule", "min_interval", "input", "complete", "deny",
        "on_change", "max_lateness", "stale_after", "path", "on_anomaly", "load_timeout", "request_timeout",
        "targets", "require", "push_within", "start", "supersede", "coalesce",
    }
)  # fmt: skip
"""What a node may be told without changing what it makes of given inputs."""

HISTORY = frozenset(
    {
        ("transform", "analyzer_cache"),
        ("trainer", "base_model"),
        ("evaluator", "baseline_model"),
        ("evaluator", "measured_before"),
        ("infra_validator", "examples"),
        ("pusher", "model_blessing"),
        ("pusher", "infra_blessing"),
        ("pusher", "examples"),
        ("pusher", "transformed_examples"),
        ("pusher", "evaluation"),
    }
)
"""Inputs by kind of node that decide when something is done, or how well, and not what (decision 005)."""

Truth = tuple[Any, ...]
Taken = Mapping[str, tuple[tuple[int | None, str], ...]]
"""The content of inputs: span and digest."""


def material(node: NodeSpec, piece: str) -> str:
    """The settings that decide a result. Limits are of the verdict only, all else of the metrics."""
    said = {name: value for name, value in node if name not in IMMATERIAL}
    if node.kind == "evaluator" and piece == "verdict":
        return repr(said["metrics"])
    if node.kind == "evaluator":
        said["metrics"] = {name: limit.config for name, limit in said["metrics"].items()}
    return repr(sorted(said.items()))


@dataclass(frozen=True)
class Begun:
    """What an execution works on, as it was when it began."""

    node: NodeSpec
    wired: WiredPiece
    truth: Truth
    taken: Taken
    at: Span | None  # the span that it runs for
    told: str = ""  # what its process is told, whether that decides the result or not

    @property
    def content(self) -> str:
        """Of the span that is read; nothing where none is."""
        read: tuple[Any, ...] = self.truth[5]
        return str(read[2]) if read else ""


@dataclass
class Bench:
    """A pipeline, its world and an executor whose work is a pure function of what identifies it.

    Content says what happens: `empty` fails ExampleGen, `odd` is refused by the validator. Limits above 0.5 refuse
    some models, more than 20 requests of the InfraValidator do too.
    """

    spec: PipelineSpec = field(default_factory=pipeline)
    contents: dict[Span, str] = field(default_factory=dict)
    beside: dict[str, dict[Span, str]] = field(default_factory=dict)  # spans of further inputs, by node
    incomplete: set[Span] = field(default_factory=set)
    passing: set[Span] = field(default_factory=set)  # in a quiet period, or out of reach for a while
    away: bool = False  # the disk with the data
    code: str = "code-1"
    own: str = "own-1"  # the module's file alone
    code_problem: str = ""
    schema: str = "schema-1"
    counted: str | None = None  # of the schema, the part that statistics depend on; it does not say unless said
    schema_problem: str = ""
    files: dict[str, str] = field(default_factory=dict)  # other files that specs name, by path
    packages: dict[str, str] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=lambda: {"serving": "/serving/taxi"})  # to their paths
    keys_of: dict[str, str] = field(default_factory=dict)  # what targets' files say beside that, by target
    pins: dict[str, int] = field(default_factory=dict)  # by target
    only_told: set[str] = field(default_factory=set)  # targets with `on_damage: report`
    servers: dict[str, str] = field(default_factory=dict)  # of targets
    uploads: dict[str, str] = field(default_factory=dict)  # repositories that are to have what targets have
    silent: set[str] = field(default_factory=set)  # targets whose server is down
    faults: dict[str, str] = field(default_factory=dict)  # what is wrong with the latest version, by target
    hidden: dict[str, str] = field(default_factory=dict)  # targets that cannot be looked at: why
    missing: set[str] = field(default_factory=set)
    damaged: dict[str, Damage] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    now: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc)
    watched: datetime | None = None  # since when the daemon has been there
    backlog: dict[str, frozenset[int]] = field(default_factory=dict)  # the spans that it found there, by node
    store: MemoryStore = field(default_factory=MemoryStore)
    history: History = field(default_factory=History)
    failures: dict[str, Failure] = field(default_factory=dict)  # by node: what its next attempts end with
    flaky: dict[str, list[Failure]] = field(default_factory=dict)  # by node: what one attempt each ends with
    verdicts: dict[str, bool] = field(default_factory=dict)  # threshold to blessing; by the model unless said
    begun: dict[int, Begun] = field(default_factory=dict)  # by execution
    served: dict[str, str] = field(default_factory=dict)  # what targets have: their path to the model's digest
    canaries: set[str] = field(default_factory=set)  # targets that try what is new beside what is live
    untried: set[int] = field(default_factory=set)  # executions that push what is to take over at once
    bad: set[str] = field(default_factory=set)  # digests of models that do not stand a trial
    emptied: int = 0  # how many versions somebody removed from targets, with all that was known of them there
    shape: Mapping[str, Any] = field(default_factory=lambda: NODES)  # the pipeline before all edits,
    said: dict[str, Any] = field(default_factory=dict)  # and the edit in force
    accepted: set[Truth] = field(default_factory=set)  # findings that people let pass,
    norms: set[Truth] = field(default_factory=set)  # and that are a measure for other spans besides

    def arrive(self, number: int, version: int | None = 1, content: str | None = None) -> Span:
        span = Span(number, version)
        self.contents[span] = content or f"content-{number}-{version}"
        return span

    def world(self) -> World:
        others = {n: self.beside.get(n, {}) for n in self.spec.inputs if n != "examples"}
        return World(
            now=self.now,
            history=self.history,
            spans={"examples": self._spans(), **{n: SpansFact(_complete(n, said)) for n, said in others.items()}},
            code={"/specs/taxi.py": CodeFact(self.code, ("/specs/taxi.py",), self.code_problem, own=self.own)},
            files={
                "/specs/schema.pbtxt": FileFact("/specs/schema.pbtxt", self.schema, self.schema_problem),
                **{path: FileFact(path, self.files.get(path, "")) for path in self.spec.files if "schema" not in path},
            },
            fires={n: fire_fact(*cron, self.now) for n in self.spec.nodes if (cron := cron_of(self.spec, n))},
            watched=self.watched,
            backlog=self.backlog,
            packages=self.packages,
            targets={
                name: TargetFact(
                    name,
                    {"kind": "tf_serving", "path": path},
                    repair=name not in self.only_told,
                    pin=self.pins.get(name, 0),
                    server=self.servers.get(name, ""),
                    uploads=self.uploads.get(name, ""),
                    seen=self._seen(name, path),
                    identity=self.keys_of.get(name, ""),
                )
                for name, path in self.targets.items()
            },
            missing=frozenset(self.missing),
            damaged=dict(self.damaged),
            unreadable=dict(self.unreadable),
        )

    def _seen(self, target: str, path: str) -> TargetSeen | None:
        push = next(self.history.pushes(self.spec.name, target), None)
        for pushed in push.output("pushed_model") if push else ():
            version, place = pushed.properties["pushed_version"], str(pushed.properties["pushed_destination"])
            if place.startswith(f"{path}/"):
                fault = f"version {version} is gone" if place in self.missing else self.faults.get(target, "")
                return TargetSeen(int(version), fault, self.hidden.get(target, ""), listens=target not in self.silent)
        return None

    def _spans(self) -> SpansFact:
        if self.away:
            return SpansFact(problem="the disk is away")
        open_ = self.incomplete | self.passing
        return SpansFact(
            tuple(
                SpanFact(
                    span,
                    f"/data/{span.number}/v{span.version}",
                    (),
                    complete=span not in open_,
                    because="no _SUCCESS yet" if span in self.incomplete else "complete: marker _SUCCESS",
                    digest="" if span in open_ else content_digest(content),
                    passing=span in self.passing and span not in self.incomplete,
                )
                for span, content in self.contents.items()
            )
        )

    def plan(self) -> Plan:
        return plan(self.spec, self.world())

    def start(self, run: Run) -> Execution:
        execution = run.execution(self.spec.name, self.spec.node(run.subject.node).kind, self.now)
        begun = self.store.begin(execution)
        self.history.record(begun)
        self.begun[begun.id] = self.work_of(run)
        self.untried |= {begun.id} if run.untried else set()
        return begun

    def finish(self, execution: Execution, run: Run | None = None, state: State = State.SUCCEEDED) -> Execution:
        """The end of an execution: as its inputs, the failures on order, or `state` say."""
        begun = self.begun[execution.id]
        failure = self._fails(execution, begun)
        if state is not State.SUCCEEDED:
            outcome = Outcome(state)
        elif failure:
            outcome = Outcome(State.FAILED, failure=failure)
        else:
            outcome = Outcome(State.SUCCEEDED, outputs=self._outputs(execution, begun))
        ended = self.store.finish(execution.with_outcome(outcome, self.now))
        self.history.record(ended)
        for pushed in ended.output("pushed_model"):
            if not pushed.properties.get("trial"):
                self._serve(pushed)
        for said in ended.output("canary_blessing"):
            if said.blessed:
                self._serve(said)
        return ended

    def _serve(self, said: Artifact) -> None:
        """The model of this version is the live one now."""
        place = str(said.properties["pushed_destination"])
        pushed = (e for e in self.history if any(_at(a, place) for a in e.output("pushed_model")))
        push = next(pushed)
        self.served[place.rpartition("/")[0]] = self.begun[push.id].taken["model"][0][1]

    def settle(self, most: int = 60) -> Plan:
        """Run everything there is to run until the plan stands still."""
        for _ in range(most):
            made = self.plan()
            if not made.runs:
                waits = [d.until for d in made.decisions if isinstance(d, Wait) and d.until and not d.stuck]
                if not waits:
                    return made
                self.now = min(waits)
                continue
            for run in made.runs:
                self.finish(self.start(run), run)
                self.now += timedelta(seconds=1)
        raise AssertionError(f"no rest after {most} plans: {[(r.subject, r.because) for r in made.runs]}")

    def ask(self, verb: Verb, node: str = "", **about: Any) -> OperatorRequest:
        """Someone asks for something."""
        request = self.store.record_request(
            OperatorRequest(verb, self.spec.name, "ana", self.now, node, reason="so be it", **about)
        )
        self.history.record_request(request)
        return request

    def kill_daemon(self) -> None:
        """Everything that runs is abandoned, and memory is read anew from the store."""
        for execution in self.store.executions():
            if execution.state is State.RUNNING:
                self.store.finish(execution.with_outcome(Outcome(State.ABANDONED), self.now))
        self.history, self.watched = self.remembered(), self.now

    def remembered(self) -> History:
        """Memory as the daemon reads it when it starts."""
        history = History(self.store.executions(), self.store.requests())
        for artifact in self.store.deleted_artifacts():
            history.forget_artifact(artifact)
        return history

    def lose_version(self, destination: str) -> None:
        """Somebody deletes a version from its target."""
        self.missing.add(destination)
        path = destination.rpartition("/")[0]
        pushed = [a for e in self.store.executions() for a in e.output("pushed_model")]
        there = [str(a.properties["pushed_destination"]) for a in pushed]
        if [d for d in there if d.startswith(f"{path}/")][-1] == destination:
            self.served.pop(path, None)

    def found(self, execution: Execution) -> Truth:
        """What a validator's finding is about: the node, the data it looked at, and the result."""
        (result,) = execution.output("anomalies")
        return execution.node, self.begun[execution.id].taken["statistics"], result.digest

    def ran(self, node: str, piece: str | None = None) -> list[Execution]:
        return [e for e in self.history if e.node == node and piece in (None, e.piece)]

    def work_of(self, run: Run) -> Begun:
        """What a run is really about, whatever the planner takes for its identity."""
        wired = next(w for w in self.spec.work if w.id == (run.subject.node, run.subject.piece))
        taken = {key: tuple((a.span, a.digest) for a in made) for key, made in run.inputs.items()}
        at = Span(run.span, run.version) if run.span is not None else None
        return self.work(wired, taken, at)

    def work(self, wired: WiredPiece, taken: Taken, at: Span | None) -> Begun:
        """A piece of work on these inputs as things are now."""
        node = self.spec.node(wired.node)
        told = repr([node, wired.module, wired.module and self.code, self.keys_of.get(wired.piece.target)])
        return Begun(node, wired, self.truth(wired, taken, at), taken, at, told)

    def truth(self, wired: WiredPiece, taken: Taken, at: Span | None) -> Truth:
        """All that decides the result of a piece of work."""
        node = self.spec.node(wired.node)
        code = {"strict": self.code, "module": self.own}.get(wired.piece.code, "pinned") if wired.module else ""
        said = {"/specs/schema.pbtxt": self.schema, **self.files}
        files = [(name, said.get(path, "")) for name, path in wired.piece.files.items()]
        reads = at is not None and wired.node in self.spec.inputs
        read = [at.number, at.version, self.content_at(wired.node, at)] if at and reads else []
        return (
            material(node, wired.piece.name),
            code,
            tuple(sorted(files)),
            tuple((name, self.packages.get(name, "not installed")) for name in getattr(node, "packages", ())),
            self.targets.get(wired.piece.target, "") if wired.piece.target else "",
            tuple(read),
            tuple(sorted((key, made) for key, made in taken.items() if made and (node.kind, key) not in HISTORY)),
        )

    def content_at(self, node: str, span: Span) -> str:
        return (self.contents if node == "examples" else self.beside[node])[span]

    def _fails(self, execution: Execution, begun: Begun) -> Failure | None:
        node = execution.node
        if self.flaky.get(node):
            return self.flaky[node].pop(0)
        if begun.content == "empty":
            return self.failures.get(node) or Failure("BadInput", "trips.csv is empty", hint="Write a header and rows.")
        return self.failures.get(node)

    def _outputs(self, execution: Execution, begun: Begun) -> dict[str, tuple[Artifact, ...]]:
        made: dict[str, tuple[Artifact, ...]] = {}
        version = begun.at.version if begun.at else None
        for output, results in outputs(begun).items():
            type_, uri = begun.wired.piece.makes[output], f"/artifacts/{execution.id}/{output}"
            properties = self._properties(type_, execution, begun)
            many = output == "transformed_examples"
            made[output] = tuple(
                Artifact(type_, f"{uri}/{of}" if many else uri, digest, of, version, properties)
                for of, digest in results
            )
        return made

    def _properties(self, type_: ArtifactType, execution: Execution, begun: Begun) -> dict[str, str | int | float]:
        if type_ is ArtifactType.ANOMALIES:
            return {"blessed": int(passes(type_, begun)), "reason": "fare: out of range"}
        if type_ is ArtifactType.SCHEMA and self.counted is not None:
            return {COUNTED: self.counted}
        if type_ is ArtifactType.EVALUATION:
            return {"current_model_id": execution.inputs["model"][0]}
        if type_ in (ArtifactType.MODEL_BLESSING, ArtifactType.INFRA_BLESSING):
            said = self.verdicts.get(str(execution.ingredients["settings"]))
            ok = passes(type_, begun) if said is None else said
            return {"blessed": int(ok), "current_model_id": execution.inputs["model"][0], "reason": "AUC 0.4 < 0.5"}
        if type_ is ArtifactType.PUSHED_MODEL:
            version = 1 + len(self.ran(execution.node)) - self.emptied
            verified = int(begun.wired.piece.target not in self.silent)
            place, live = f"{begun.truth[4]}/{version}", self.served.get(begun.truth[4])
            tried = begun.wired.piece.target in self.canaries and execution.id not in self.untried
            trial = int(tried and live not in (None, begun.taken["model"][0][1]))
            said = {"pushed": 1, "pushed_version": version, "pushed_destination": place, "verified": verified}
            where = self.uploads.get(begun.wired.piece.target)
            if where:
                said |= {"verified": 1, **({"uploaded": where} if verified else {"not_uploaded": "401"})}
            return {**said, "trial": trial, "label": "canary" if trial else "stable", "model_id": model_of(execution)}
        if type_ is ArtifactType.CANARY_BLESSING:
            return self._end_of_trial(execution)
        return {}

    def _end_of_trial(self, execution: Execution) -> dict[str, str | int | float]:
        """As the watch would find it: overtaken by what was pushed since, or the model is good, or it is bad."""
        (pushed,) = (self.history.artifact(i) for i in execution.inputs["pushed_model"])
        assert pushed
        version, place = int(pushed.properties["pushed_version"]), str(pushed.properties["pushed_destination"])
        pushes = self.history.pushes(self.spec.name, execution.piece.removesuffix(".canary"))
        (newest,) = next(pushes).output("pushed_model")
        if int(newest.properties["pushed_version"]) > version:
            return {"blessed": 0, "pushed_destination": place, "reason": f"version {version} is no longer on trial"}
        model = self.history.artifact(int(pushed.properties["model_id"]))
        good = model is not None and model.digest not in self.bad
        reason = f"version {version} " + ("promoted after 10m" if good else "rolled back after 3s: drift 0.4 > 0.1")
        verdict = {"blessed": int(good), "current_model_id": int(pushed.properties["model_id"])}
        return {**verdict, "pushed_destination": place, "reason": reason}


def _at(artifact: Artifact, place: str) -> bool:
    return artifact.properties.get("pushed_destination") == place


def model_of(push: Execution) -> int:
    (model,) = push.inputs["model"]
    return model


@functools.cache
def content_digest(content: str) -> str:
    return digest_of(content)


def _complete(node: str, said: Mapping[Span, str]) -> tuple[SpanFact, ...]:
    return tuple(
        SpanFact(
            span,
            f"/{node}/{span.number}",
            (),
            complete=True,
            because="complete: marker _SUCCESS",
            digest=content_digest(content),
        )
        for span, content in said.items()
    )


def outputs(begun: Begun) -> dict[str, tuple[tuple[int | None, str], ...]]:
    """Span and digest of everything that a piece of work makes. What is made of `odd` content shows it."""
    made: dict[str, tuple[tuple[int | None, str], ...]] = {}
    first: tuple[int | None, str] = next(iter(begun.taken.values()), ((None, ""),))[0]
    for output, type_ in begun.wired.piece.makes.items():
        digest = digest_of([output, begun.truth])
        if output == "transformed_examples":
            made[output] = tuple((of, digest_of([digest, each])) for of, each in begun.taken["examples"])
        elif begun.at:
            odd = begun.content.startswith("odd") or (type_ is ArtifactType.STATISTICS and first[1].startswith("odd"))
            made[output] = ((begun.at.number, f"odd-{digest}" if odd else digest),)
        else:
            made[output] = ((first[0] if type_.spanned else None, digest),)
    return made


def passes(type_: ArtifactType, begun: Begun) -> bool:
    """Whether what is judged is good: by its content, and by limits that say more than the usual."""
    if type_ is ArtifactType.ANOMALIES:
        return not begun.taken["statistics"][0][1].startswith("odd")
    model = int(begun.taken["model"][0][1][:8], 16)
    if type_ is ArtifactType.INFRA_BLESSING:
        return bool(getattr(begun.node, "requests", 0) <= 20 or model % 2)
    limits = [limit.at_least or 0.0 for limit in getattr(begun.node, "metrics", {}).values()]
    return all(limit <= 0.5 or limit <= 0.5 + model / 0x1FFFFFFFF for limit in limits)
