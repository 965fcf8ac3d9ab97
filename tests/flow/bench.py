"""A whole ctd without processes: real folders for specs, data and state; time, store and executions as told."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ctd.api.requests import RequestForm
from ctd.core.artifacts import COUNTED, ArtifactType
from ctd.core.errors import CtdError, StoreUnavailable
from ctd.core.executions import Execution, State
from ctd.core.fingerprints import canonical, digest_of
from ctd.core.history import History
from ctd.core.requests import OperatorRequest
from ctd.core.timing import ManualClock
from ctd.core.work import Request
from ctd.daemon.controller import Controller
from ctd.daemon.inbox import Inbox
from ctd.daemon.views import Views
from ctd.daemon.wanted import Wanted
from ctd.engine.executor import ManualExecutor
from ctd.engine.observe import Observer
from ctd.engine.parts import Parts
from ctd.engine.queue import DelayQueue
from ctd.engine.reconcile import Reconciler
from ctd.engine.recovery import next_epoch, recover
from ctd.engine.slots import Limits
from ctd.metadata.store import MemoryStore
from ctd.planning.decisions import Decision
from ctd.storage.layout import StateDir

SPEC = """\
pipeline: {name}
module: ../model.py
nodes:
  examples: {{kind: example_gen, input: "../data/{name}/{{SPAN}}", complete: {complete}}}
  statistics: {{kind: statistics_gen}}
  schema: {{kind: importer, artifact: Schema, path: ../schema.pbtxt}}
  validator: {{kind: example_validator, on_anomaly: {on_anomaly}}}
  trainer: {{kind: trainer, window: {window}, train_steps: {steps}}}
"""
DEFAULTS: Mapping[str, Any] = {
    "complete": "{marker: _SUCCESS}", "on_anomaly": "quarantine", "window": 3, "steps": 100,
}  # fmt: skip
MODULE = "def run_fn(fn_args):\n    pass\n"
_MOST_STEPS = 500  # of one tick: more is a daemon that spins


@dataclass
class Store(MemoryStore):
    """A store that may be away, or whose answers may be lost after it did what it was asked."""

    away: set[str] = field(default_factory=set)  # method names
    mute: set[str] = field(default_factory=set)
    most_requests: int = 1_000_000  # before it is away for more

    def __post_init__(self) -> None:
        super().__init__()

    def begin(self, execution: Execution) -> Execution:
        return self._answered("begin", execution)

    def note_process(self, execution: Execution) -> None:
        self._answered("note_process", execution)

    def finish(self, execution: Execution) -> Execution:
        return self._answered("finish", execution)

    def record_request(self, request: OperatorRequest) -> OperatorRequest:
        self._there("record_request")
        if len(list(self.requests())) >= self.most_requests:
            raise StoreUnavailable("the store is away (record_request)", hint="wait")
        return super().record_request(request)

    def forget_starts(self) -> None:
        """Be as the store of a ctd that did not count them."""
        self._starts = 0

    def _there(self, name: str) -> None:
        if name in self.away:
            raise StoreUnavailable(f"the store is away ({name})", hint="wait")

    def _answered(self, name: str, execution: Execution) -> Any:
        self._there(name)
        canonical([[dict(a.properties) for a in made] for made in execution.outputs.values()])  # as the real one does
        answer = getattr(super(), name)(execution)
        if name in self.mute:
            raise StoreUnavailable(f"the answer to {name} was lost", hint="wait")
        return answer


class NoWatcher:
    """Sees nothing: every tick of the bench looks at everything, as the timer of the daemon does."""

    interests: Mapping[str, frozenset[str]] = {}

    def watch(self, interests: Mapping[str, frozenset[str]]) -> None:
        self.interests = interests

    def check(self) -> None:
        """Nothing to check."""

    def stop(self) -> None:
        """Nothing to stop."""


class Bench:
    """One project folder and its daemon, a step at a time."""

    def __init__(self, root: Path, *, parallel: int = 1000, pools: Mapping[str, int] = MappingProxyType({})) -> None:
        self.root = root
        self.limits = Limits(parallel, pools)
        self.clock = ManualClock()
        self.store = Store()
        self.epochs = 0
        for folder in ("specs", "deploy_targets", "data"):
            (root / folder).mkdir()
        (root / "model.py").write_text(MODULE)
        (root / "schema.pbtxt").write_text("feature { name: 'fare' type: FLOAT }\n")

    # What the user does.

    def spec(self, name: str = "taxi", **changes: Any) -> Path:
        """Save a pipeline's spec."""
        path = self.root / f"specs/{name}.yaml"
        path.write_text(SPEC.format(name=name, **{**DEFAULTS, **changes}))
        return path

    def span(self, number: int, text: str = "", *, marker: bool = True, pipeline: str = "taxi") -> Path:
        """Put a span there, or write it anew."""
        folder = self.root / "data" / pipeline / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "trips.csv").write_text(text or f"fare\n{number}\n")
        if marker:
            (folder / "_SUCCESS").touch()
        return folder

    def remove(self, number: int) -> None:
        shutil.rmtree(self.root / f"data/taxi/{number}")

    # The daemon's life.

    def start(self) -> Bench:
        """Start the daemon, after the end of the last one if there was one."""
        state = StateDir(self.root / "state")
        self.history = History(self.store.executions(), self.store.requests())
        for artifact in self.store.deleted_artifacts():
            self.history.forget_artifact(artifact)
        recover(self.store, self.history, state, self.clock)
        self.executor = ManualExecutor()
        self.looks = DelayQueue(self.clock)
        self.observer = Observer(self.clock, self.looks.add)
        self.wanted = Wanted(self.root / "specs", self.root / "deploy_targets", self.root / "state")
        self.watcher = NoWatcher()
        self.epoch = next_epoch(self.store, self.history)
        parts = Parts(
            self.store, self.history, self.executor, self.observer, state, self.clock, self.epoch, self.limits
        )
        self.reconciler = Reconciler(parts, lambda: self.wanted.targets)
        self.controller = Controller(self.wanted, self.reconciler, self.executor, self.watcher, self.looks, self.clock)
        return self

    def kill(self) -> None:
        """The power fails: what is in memory is gone, and what ran has ended."""
        self.observer.close()

    def stop(self) -> None:
        """A graceful stop, as `daemon.app` does it."""
        self.executor.stop()
        self.reconciler.take_in()
        self.observer.close()

    def tick(self) -> list[str]:
        """Look at everything, until nothing is due any more; the decisions about `taxi`."""
        self.controller.look_at_all()
        for _ in range(_MOST_STEPS):
            if not self.controller.step(timedelta(0)):
                return self.said()
        raise AssertionError(f"it still looks after {_MOST_STEPS} steps: {self.said()}")

    def ask(self, verb: str, node: str = "", *, pipeline: str = "taxi", **said: Any) -> list[int]:
        """Someone asks the daemon for something; the numbers of what was recorded."""
        form = RequestForm(**{"verb": verb, "pipeline": pipeline, "node": node, "reason": "so be it", **said})
        return [request.request for request in self.inbox().take(form, "ana").requests]

    def inbox(self) -> Inbox:
        """What takes requests."""
        return Inbox(self.views(), self.reconciler.obey, self.controller.look, self.clock)

    def views(self) -> Views:
        """What the daemon would answer."""
        return Views(
            self.wanted,
            self.history,
            StateDir(self.root / "state"),
            plans=lambda: self.controller.plans,
            progress=self.executor.progress,
            strays=self.observer.strays,
            daemon=lambda: None,
            faults=lambda: self.controller.faults,
            troubles=self.controller.troubles.now,
        )

    # How executions end.

    def running(self, node: str = "", pipeline: str = "taxi") -> list[Request]:
        requests = (self.executor.requests[id_] for id_ in self.executor.running())
        return [r for r in requests if node in ("", r.node) and r.pipeline == pipeline]

    def finish(self, node: str, key: str = "", **properties: str | int | float) -> None:
        """What runs of a node succeeds: with the same inputs and settings always in the same way."""
        found = [r for r in self.running(node) if key in ("", r.key)]
        assert found, f"nothing runs of {node} {key}: {self.said()}"
        for request in found:
            self._succeed(request, **properties)

    def fail(self, node: str, error: CtdError, key: str = "") -> None:
        (request,) = (r for r in self.running(node) if key in ("", r.key))
        self.executor.fail(request.execution_id, error)

    def settle(self) -> list[str]:
        """Let everything that runs succeed until nothing runs."""
        self.tick()
        while requests := [self.executor.requests[id_] for id_ in self.executor.running()]:
            for request in requests:
                self._succeed(request)
            self.tick()
        return self.said()

    def _succeed(self, request: Request, **properties: str | int | float) -> None:
        if ArtifactType.ANOMALIES in request.outputs.values():
            properties = {"blessed": 1, "reason": "no anomalies", **properties}
        if ArtifactType.SCHEMA in request.outputs.values() and not request.inputs:
            properties = {COUNTED: "", **properties}  # it says nothing that statistics depend on
        inputs = {key: [a.digest for a in taken] for key, taken in request.inputs.items()}
        files = [Path(file.path).read_text() for file in request.files]
        named = [path.read_text() for path in map(Path, request.paths.values()) if path.is_file()]
        content = digest_of([files, named, inputs, dict(request.spec)])
        self.executor.succeed(request.execution_id, content, **properties)

    # What there is to see.

    def decisions(self, pipeline: str = "taxi") -> tuple[Decision, ...]:
        made = self.controller.plans.get(pipeline)
        return made.decisions if made else ()

    def said(self, pipeline: str = "taxi") -> list[str]:
        """`wait trainer spans 1..2 (2): 2 of 3 spans`."""
        return [
            f"{d.action} {' '.join(p for p in (d.subject.node, d.subject.key) if p)}: {d.because}"
            for d in self.decisions(pipeline)
        ]

    def of(self, node: str, pipeline: str = "taxi") -> str:
        """What was decided about a node, in one line each."""
        return "\n".join(s for s in self.said(pipeline) if s.split(" ", 1)[1].startswith(node))

    def executions(self, node: str = "", state: State | None = None) -> list[Execution]:
        """What the store says."""
        return [e for e in self.store.executions() if node in ("", e.node) and state in (None, e.state)]

    def trained_on(self) -> list[str]:
        """The windows of all trainings, in their order."""
        return [e.key for e in self.executions("trainer")]

    def check(self, *, again: bool = False) -> None:
        """What must hold at rest, whatever happened: nothing doubled, nothing lost, memory as the store.

        `again`: what was collected may have been made again.
        """
        deleted = set(self.store.deleted_artifacts())
        counted = (
            e
            for e in self.executions(state=State.SUCCEEDED)
            if not (again and any(a.id in deleted for some in e.outputs.values() for a in some))
        )
        done = Counter((e.pipeline, e.node, e.piece, e.fingerprint) for e in counted)
        assert [work for work, times in done.items() if times > 1] == []
        assert {e.id: e for e in self.history} == {e.id: e for e in self.store.executions()}
        made = [a for e in self.executions() for some in e.outputs.values() for a in some]
        recorded = {a.uri for a in made if a.id not in deleted}
        assert {str(p) for p in self._placed()} == recorded
        staged = {p.name for p in (self.root / "state/staging").iterdir()}
        assert staged == {str(id_) for id_ in self.executor.running()}

    def _placed(self) -> Iterator[Path]:
        return (self.root / "state/artifacts").glob("*/*/*/*")
