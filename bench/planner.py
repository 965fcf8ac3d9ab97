"""What a look at a pipeline costs beside a long history, how long a start takes, and how much memory history needs.

`python -m bench.planner [--quick] [--rescan] [--pipelines 100] [--spans 100]`. A look is what the daemon does when
something may have changed: observe storage, code and results, and plan. Every span has had a full round of work, down
to the push, so a store of 100 pipelines with 10 nodes and 100 spans each has 100,000 executions; another one has as
many of one pipeline with 10,000 spans. The metadata is written to a real store in bulk and read as a start of the
daemon reads it.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.executions import Execution, State
from ctd.core.fingerprints import digest_of, fingerprint
from ctd.core.history import History
from ctd.core.timing import SystemClock
from ctd.daemon.controller import Rhythm
from ctd.engine.collect import unlink_deleted
from ctd.engine.look import look
from ctd.engine.observe import Observer
from ctd.engine.recovery import remember
from ctd.metadata import convert
from ctd.metadata.connection import READ_WRITE, Connection
from ctd.metadata.mlmd import MlmdReader, MlmdStore
from ctd.metadata.recorded import EXECUTION_PREFIX
from ctd.planning.decisions import Plan, Reuse, Run
from ctd.planning.plan import plan
from ctd.planning.world import World
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.targets import AnyTarget, TfServingTarget
from ctd.specs.wired import WiredPiece
from ctd.storage.layout import StateDir
from ctd.watching.watcher import Watcher

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
WINDOW = 3
_NOWHERE = StateDir(Path("/nowhere"))  # of pipelines whose results nobody looks at
NODES: Mapping[str, Any] = {
    "examples": {"kind": "example_gen", "input": "data/{SPAN}"},
    "statistics": {"kind": "statistics_gen"},
    "schema": {"kind": "importer", "artifact": "Schema", "path": "schema.pbtxt"},
    "validator": {"kind": "example_validator", "on_anomaly": "quarantine"},
    "transform": {"kind": "transform", "window": WINDOW},
    "trainer": {"kind": "trainer", "train_steps": 100, "warm_start": "latest_blessed"},
    "evaluator": {"kind": "evaluator", "label_key": "tips", "metrics": {"AUC": {"at_least": 0.5}}},
    "infra": {"kind": "infra_validator"},
    "pusher": {"kind": "pusher", "targets": ["serving"]},
    "second": {"kind": "pusher", "targets": ["mobile"]},
}


def pipeline_at(folder: Path, name: str) -> PipelineSpec:
    """The pipeline of ten nodes, whose data lies in the folder."""
    return PipelineSpec.model_validate(
        {"pipeline": name, "module": "model.py", "nodes": NODES}, context={"base": str(folder)}
    )


@dataclass
class Project:
    """Data, code and results on disk for one pipeline, and its executions."""

    folder: Path
    spec: PipelineSpec
    targets: Mapping[str, AnyTarget]
    observer: Observer

    @classmethod
    def at(cls, folder: Path, spans: int) -> Project:
        folder.mkdir(parents=True)
        (folder / "model.py").write_text("def run_fn(fn_args):\n    pass\n")
        (folder / "schema.pbtxt").write_text("feature { name: 'fare' type: FLOAT }\n")
        targets = {
            name: TfServingTarget(target=name, kind="tf_serving", path=str(folder / name))
            for name in ("serving", "mobile")
        }
        made = cls(folder, pipeline_at(folder, "p0"), targets, Observer(SystemClock(), lambda _: None))
        for number in range(1, spans + 1):
            made.arrive(number)
        return made

    def arrive(self, number: int) -> None:
        span = self.folder / f"data/{number}"
        span.mkdir(parents=True)
        (span / "trips.csv").write_text(f"fare\n{number}\n")
        (span / "_SUCCESS").touch()

    def remove(self, number: int) -> None:
        for file in (self.folder / f"data/{number}").iterdir():
            file.unlink()
        (self.folder / f"data/{number}").rmdir()

    def observe(self, history: History) -> World:
        """The world once everything in it has been read."""
        while True:
            world = self.observer.observe(self.spec, self.targets, history)
            if all(s.digest for fact in world.spans.values() for s in fact.spans):
                return world
            time.sleep(0.05)

    def look(self, history: History) -> Plan:
        return look(self.observer, self.spec, self.targets, history)


class Rounds:
    """The executions that a pipeline has had when every span went all the way, one after the other."""

    def __init__(self, project: Project, world: World) -> None:
        self.project = project
        self.digests = {s.span.number: s.digest for s in world.spans["examples"].spans}
        self.templates = dict(self._templates(world))

    def of(self, pipeline: str) -> Iterator[tuple[Execution, Mapping[str, list[tuple[str, str, int]]]]]:
        """Executions in their order, and where their inputs come from: node, output and span."""
        for number in sorted(self.digests):
            for wired in self.project.spec.work:
                once = wired.node == "schema"
                if wired.id in self.templates and (not once or number == min(self.digests)):  # no canary was ever tried
                    yield self._execution(pipeline, wired, number)

    def _templates(self, world: World) -> Iterator[tuple[tuple[str, str], Run]]:
        """How each piece of work is described when it is planned: from a pipeline with few spans, played through."""
        few = tuple(s for s in world.spans["examples"].spans if s.span.number <= WINDOW + 1)
        small = replace(world, history=History(), spans={"examples": replace(world.spans["examples"], spans=few)})
        ids = itertools.count(1)
        while runs := plan(self.project.spec, replace(small, missing=frozenset())).runs:
            for run in runs:
                wired = self._wired(run)
                yield wired.id, run
                outputs = {
                    output: tuple(replace(a, id=next(ids)) for a in self._artifacts("p0", wired, output, run.span or 4))
                    for output in wired.piece.makes
                }
                done = Execution(
                    "p0", wired.node, "", run.subject.key, run.fingerprint, START, wired.piece.name,
                    ingredients=run.ingredients, state=State.SUCCEEDED, ended=START, outputs=outputs, id=next(ids),
                )  # fmt: skip
                small.history.record(done)

    def _wired(self, run: Run) -> WiredPiece:
        return next(w for w in self.project.spec.work if w.id == (run.subject.node, run.subject.piece))

    def _execution(
        self, pipeline: str, wired: WiredPiece, number: int
    ) -> tuple[Execution, Mapping[str, list[tuple[str, str, int]]]]:
        template = self.templates[wired.id]
        ingredients = dict(template.ingredients)
        inputs = {
            key: self._places(wired, key, number)
            for key in wired.sources
            if key not in ("base_model", "baseline_model", "analyzer_cache")
        }
        if wired.node == "examples":
            ingredients |= {"content": self.digests[number], "span": [number, None]}
        elif "inputs" in ingredients:
            ingredients["inputs"] = {
                key: [[self._span(output, span), digest_of([node, output, span])] for node, output, span in inputs[key]]
                for key in ingredients["inputs"]
            }
        key = (
            template.subject.key.replace(f"span-{template.span}", f"span-{number}")
            if wired.per_span
            else f"{wired.piece.name} spans {number}"
        )
        started = START + timedelta(minutes=number)
        outputs = {output: self._artifacts(pipeline, wired, output, number) for output in wired.piece.makes}
        return (
            Execution(
                pipeline=pipeline, node=wired.node, kind=self.project.spec.node(wired.node).kind, key=key.strip(),
                fingerprint=fingerprint(ingredients), started=started, piece=wired.piece.name,
                because=f"examples: span {number} new", ingredients=ingredients, state=State.SUCCEEDED,
                ended=started + timedelta(seconds=5), outputs=outputs,
                timings={"import": 0.1, "run": 4.0}, process={"pid": 4242, "started": 12345, "boot": "b"}, epoch=1,
            ),
            inputs,
        )  # fmt: skip

    def _places(self, wired: WiredPiece, key: str, number: int) -> list[tuple[str, str, int]]:
        source = wired.sources[key]
        window = wired.node in ("transform", "trainer") and key == "examples"
        spans = range(max(1, number - WINDOW + 1), number + 1) if window else [1 if source.node == "schema" else number]
        return [(source.node, source.output, span) for span in spans]

    def _span(self, output: str, number: int) -> int | None:
        return number if output in ("examples", "statistics", "anomalies", "transformed_examples") else None

    def _artifacts(self, pipeline: str, wired: WiredPiece, output: str, number: int) -> tuple[Artifact, ...]:
        spans = range(max(1, number - WINDOW + 1), number + 1) if output == "transformed_examples" else [number]
        return tuple(self._artifact(pipeline, wired, output, number, span) for span in spans)

    def _artifact(self, pipeline: str, wired: WiredPiece, output: str, number: int, span: int) -> Artifact:
        type_ = wired.piece.makes[output]
        properties: dict[str, Any] = {}
        if type_ in (ArtifactType.MODEL_BLESSING, ArtifactType.INFRA_BLESSING, ArtifactType.ANOMALIES):
            properties = {"blessed": 1, "reason": "blessed: AUC 0.8 >= 0.5"}
        if type_ is ArtifactType.PUSHED_MODEL:
            to = str(self.project.folder / wired.piece.target / str(number))
            properties = {"pushed": 1, "pushed_version": number, "pushed_destination": to}
        folder = self.project.folder / "artifacts" if pipeline == "p0" else _NOWHERE.artifacts / pipeline
        return Artifact(
            type_, str(folder / f"{wired.node}/{output}/{number}/{span}"),
            digest_of([wired.node, output, 1 if wired.node == "schema" else span]), self._span(output, span), None,
            properties,
        )  # fmt: skip


class Bulk:
    """Writes executions to a real store by the thousand; what it writes is what MlmdStore would have written."""

    def __init__(self, store: MetadataStore) -> None:
        self.store = store
        self.types: dict[str, int] = {}

    def write(self, rounds: Rounds, pipeline: str) -> None:
        made = list(rounds.of(pipeline))
        protos, places = [], []
        for execution, _ in made:
            for output, artifacts in execution.outputs.items():
                for index, artifact in enumerate(artifacts):
                    protos.append(self._artifact(execution, artifact, f"{execution.name}/{output}/{index}"))
                    places.append((execution, output, artifact, index))
        ids = [i for some in _chunks(protos) for i in self.store.put_artifacts(some)]
        known = {(e.node, output, a.span or _number(e)): i for (e, output, a, _), i in zip(places, ids, strict=True)}
        models = {_number(e): i for (e, output, _, _), i in zip(places, ids, strict=True) if output == "model"}
        blessings = [(i, p) for i, p in zip(ids, protos, strict=True) if "blessed" in p.custom_properties]
        self._bless(blessings, models)
        executions = [self._execution(e) for e, _ in made]
        numbers = [i for some in _chunks(executions) for i in self.store.put_executions(some)]
        events, outputs = [], iter(ids)
        for (execution, inputs), number in zip(made, numbers, strict=True):
            for key, sources in inputs.items():
                for index, source in enumerate(sources):
                    events.append(_event(pb.Event.INPUT, number, known[source], key, index))
            for output, artifacts in execution.outputs.items():
                for index, _ in enumerate(artifacts):
                    events.append(_event(pb.Event.OUTPUT, number, next(outputs), output, index))
        for some in _chunks(events):
            self.store.put_events(some)

    def _bless(self, blessings: list[tuple[int, pb.Artifact]], models: Mapping[int, int]) -> None:
        for artifact_id, proto in blessings:
            number = int(Path(proto.uri).name)
            proto.id = artifact_id
            proto.custom_properties["current_model_id"].int_value = models[number]
        for some in _chunks([p for _, p in blessings]):
            self.store.put_artifacts(some)

    def _artifact(self, execution: Execution, artifact: Artifact, name: str) -> pb.Artifact:
        type_ = artifact.type.value
        if type_ not in self.types:
            self.types[type_] = self.store.put_artifact_type(convert.artifact_type(artifact.type))
        return convert.artifact_to_proto(artifact, self.types[type_], name)

    def _execution(self, execution: Execution) -> pb.Execution:
        name = EXECUTION_PREFIX + execution.kind
        if name not in self.types:
            self.types[name] = self.store.put_execution_type(convert.execution_type(execution.kind))
        return convert.execution_to_proto(execution, self.types[name])


def _chunks(items: list[Any], size: int = 2000) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _number(execution: Execution) -> int:
    return int((execution.started - START).total_seconds() // 60)


def _event(type_: int, execution: int, artifact: int, key: str, index: int) -> pb.Event:
    event = pb.Event(type=type_, execution_id=execution, artifact_id=artifact, milliseconds_since_epoch=1)
    event.path.steps.add(key=key)
    event.path.steps.add(index=index)
    return event


@dataclass(frozen=True)
class Measured:
    """A line of the table. `goal` is the most it may be, None where it is only of interest."""

    what: str
    value: float
    unit: str
    goal: float | None = None

    def __str__(self) -> str:
        verdict = "" if self.goal is None else ("met" if self.value <= self.goal else "MISSED")
        goal = "" if self.goal is None else f"{self.goal:g} {self.unit}"
        return f"{self.what:<78} {self.value:>9.1f} {self.unit:<3} {goal:>9} {verdict}"


def looks(
    title: str, project: Project, history: History, spans: int, goals: tuple[float | None, float | None]
) -> tuple[list[Measured], float]:
    """Nothing changed, then one new span: medians of several looks."""
    rounds = 5
    settled = project.look(history)
    others = [d for d in settled.decisions if not isinstance(d, Reuse)]
    if others:
        raise AssertionError(f"{len(others)} decisions are not at rest: {others[0]}")
    quiet = statistics.median(_timed(lambda: project.look(history)) for _ in range(rounds))
    new = []
    for _ in range(rounds):
        project.arrive(spans + 1)
        made: list[Plan] = []
        new.append(_timed(lambda made=made: made.append(project.look(history))))  # type: ignore[misc]
        if [r.subject.node for r in made[0].runs] != ["examples"]:
            raise AssertionError(f"one span arrived, but this is to run: {made[0].runs}")
        project.remove(spans + 1)
        project.look(history)
    fresh = statistics.median(new)
    return [
        Measured(f"nothing changed: {title}", quiet, "ms", goals[0]),
        Measured(f"one new span: {title}", fresh, "ms", goals[1]),
    ], fresh


def _timed(work: Callable[[], Any]) -> float:
    """Milliseconds, without those of the garbage collector on a heap that only this process has."""
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    work()
    took = time.perf_counter() - start
    gc.enable()
    return took * 1000


def load(metadata: Path) -> None:
    """In a process of its own: a start's reading of history, and the memory it needs."""
    before = _rss()
    start = time.perf_counter()
    reader = MlmdReader(metadata)
    history = remember(reader)
    said = {"seconds": time.perf_counter() - start, "mb": _rss() - before, "executions": len(history)}
    gone = [a.id for e in history if e.pipeline != "p0" for made in e.outputs.values() for a in made]
    for number in gone:
        history.forget_artifact(number)
    start = time.perf_counter()
    unlink_deleted(history, _NOWHERE)
    print(json.dumps({**said, "gone": len(gone), "passed over": time.perf_counter() - start}))


def _rss() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def store_of(folder: Path, rounds: Rounds, pipelines: int) -> History:
    """A real store with the rounds of that many pipelines, read again as the daemon does."""
    metadata = folder / "metadata.sqlite"
    folder.mkdir(parents=True)
    MlmdStore(metadata, SystemClock()).close()
    connection = Connection(metadata, READ_WRITE)
    start = time.perf_counter()
    for number in range(pipelines):
        connection.run("write in bulk", lambda store, number=number: Bulk(store).write(rounds, f"p{number}"))
    connection.close()
    reader = MlmdReader(metadata)
    history = remember(reader)
    reader.close()
    print(f"  written and read {len(history)} executions in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return history


def project_with(folder: Path, spans: int, pipelines: int) -> tuple[Project, History]:
    """A project whose every span went all the way, among as many pipelines with the same history."""
    project = Project.at(folder / "project", spans)
    rounds = Rounds(project, project.observe(History()))
    history = store_of(folder / "state", rounds, pipelines)
    for execution in history.successes("p0"):
        for artifacts in execution.outputs.values():
            for artifact in artifacts:
                Path(artifact.uri).mkdir(parents=True, exist_ok=True)
                pushed = artifact.properties.get("pushed_destination")
                if pushed:
                    Path(str(pushed)).mkdir(parents=True, exist_ok=True)
    return project, history


class LeapingClock(SystemClock):
    """The machine's clock, and a way to skip what a daemon waits between two rescans."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


def rescan(folder: Path, spans: int, files: int) -> list[Measured]:
    """Everything looked at again: many spans of many files, first unknown, then known, watched as a daemon does it."""
    project, clock, rounds = Project.at(folder / "rescan", 0), LeapingClock(), 10
    for number in range(1, spans + 1):
        span = folder / f"rescan/data/{number}"
        span.mkdir(parents=True)
        for file in range(files):
            (span / f"part-{file:05}.csv").write_text(f"fare\n{number}.{file}\n")
        (span / "_SUCCESS").touch()
    title = f"{spans:,} spans with {spans * files:,} files"
    watcher = Watcher(lambda _: None, clock)
    watcher.watch({str(folder / "rescan/data"): frozenset({"p0"})})
    try:
        project.observer = Observer(clock, lambda _: None, watcher.touched)
        first = _timed(lambda: project.observe(History())) / 1000
        full = _timed(lambda: project.observe(History())) / 1000
        for _ in range(3):  # until no folder is young
            clock.ahead += 3
            project.observe(History())
        again = statistics.median(_timed(lambda: project.observe(History())) for _ in range(rounds))
        shares = []
        for _ in range(rounds):
            clock.ahead += Rhythm().rescan.total_seconds()
            shares.append(_timed(lambda: project.observe(History())))
    finally:
        watcher.stop()
    return [
        Measured(f"first look at {title}", first, "s"),
        Measured(f"a look at every file of {title}", full, "s"),
        Measured(f"rescan of {title}", again, "ms", 20),
        Measured("the same with its share of looks at every file, every 30 s", statistics.median(shares), "ms"),
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pipelines", type=int, default=100)
    parser.add_argument("--spans", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--rescan", action="store_true", help="only the rescan of 1,000 spans with 100,000 files")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    said = parser.parse_args(arguments)
    if said.load:
        load(said.load)
        return
    pipelines, spans = (said.pipelines // 10, said.spans) if said.quick else (said.pipelines, said.spans)
    with tempfile.TemporaryDirectory(prefix="ctd-bench-") as scratch:
        table = rescan(Path(scratch), 1000, 100) if said.rescan else measure(Path(scratch), pipelines, spans)
    print(f"{'what':<78} {'measured':>13} {'goal':>9}")
    print("\n".join(map(str, table)))


def measure(folder: Path, pipelines: int, spans: int) -> list[Measured]:
    """The whole table."""
    small, little = project_with(folder / "small", spans, 1)
    table, alone = looks(f"1 pipeline, {spans} spans, {len(little):,} executions", small, little, spans, (None, None))
    del little
    large, history = project_with(folder / "large", spans, pipelines)
    nodes = pipelines * len(NODES)
    title = f"{nodes:,} nodes, {pipelines * spans:,} spans, {len(history):,} executions"
    lines, among = looks(title, large, history, spans, (20, 50))
    table += [*lines, Measured("one new span: many times as long as with a hundredth", among / alone, "x", 2)]
    del history
    child = [sys.executable, "-m", "bench.planner", "--load", str(folder / "large/state/metadata.sqlite")]
    said = json.loads(subprocess.run(child, check=True, capture_output=True).stdout)
    table += [
        Measured(f"start: reading {said['executions']:,} executions", said["seconds"], "s", 5),
        Measured(f"start: passing over {said['gone']:,} results collected long ago", said["passed over"], "s", 1),
        Measured(f"memory of {said['executions']:,} executions", said["mb"], "MB"),
    ]
    long, history = project_with(folder / "long", spans * pipelines, 1)
    title = f"1 pipeline, {pipelines * spans:,} spans, {len(history):,} executions"
    table += looks(title, long, history, pipelines * spans, (None, None))[0]
    return table + rescan(folder, 10 * pipelines, 100)


if __name__ == "__main__":
    main()
