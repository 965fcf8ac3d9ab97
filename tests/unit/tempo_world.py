"""A pipeline in simulated time: spans that keep coming, work that takes its time, slots that are scarce, and failures.

Everything is decided by ctd's planner and handed out by its turns and slots; only the work itself is made up.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from planning_world import NODES, Bench, pipeline

from ctd.core.errors import WorkerLost
from ctd.core.executions import SUPERSEDED, Execution, Failure, Outcome, State
from ctd.core.spans import Span
from ctd.core.timing import SystemClock
from ctd.engine.readiness import Readiness
from ctd.engine.slots import Limits, Slots
from ctd.engine.turns import Turns
from ctd.planning.decisions import Run, Wait

QUICK: Mapping[str, float] = {
    "examples": 0.3, "statistics": 0.3, "schema": 0.2, "validator": 0.2, "transform": 3.0, "trainer": 12.0,
    "evaluator": 2.4, "infra": 1.7, "pusher": 1.5,
}  # fmt: skip
"""Seconds of work, by node, as the taxi example takes them."""

_VERDICT = 0.2  # of metrics that are there
LOST = Failure(WorkerLost.__name__, "the worker was killed", retryable=True)


@dataclass(frozen=True)
class Tempo:
    """How fast data comes, how long work takes, and how much of it at once."""

    every: float = 6.0  # seconds between spans
    takes: Mapping[str, float] = field(default_factory=lambda: dict(QUICK))
    parallel: int = 2
    pools: Mapping[str, int] = field(default_factory=dict)
    fails: float = 0.0  # how many of a hundred attempts are lost
    jitter: float = 0.0  # by how much times vary, as a part of them
    spans: int = 1_000_000  # then no more come
    corrections: float = 0.0  # how many of a hundred spans come once more, corrected
    edits: Mapping[str, Any] = field(default_factory=dict)
    shape: Mapping[str, Any] = field(default_factory=lambda: NODES)
    seed: int = 0


class Simulation:
    """Lives through a tempo. `bench` is the world, with everything that was done in its history."""

    def __init__(self, tempo: Tempo) -> None:
        self.tempo = tempo
        self.bench = Bench(spec=pipeline(tempo.shape, **tempo.edits))
        self.bench.watched = self.start = self.bench.now
        self.slots = Slots(Limits(tempo.parallel, tempo.pools))
        self.turns = Turns(self.slots, Readiness(lambda: None, SystemClock()))  # a machine that is well
        self._random = random.Random(tempo.seed)
        self._events: list[tuple[datetime, int, Any]] = []
        self._order = itertools.count()
        self._looks: set[datetime] = set()
        self._runs: dict[int, Run] = {}

    def run(self, seconds: float) -> Simulation:
        """Let data come and work be done for so long."""
        end = self.start + timedelta(seconds=seconds)
        self._at(self.bench.now, 1)
        self._look()
        while self._events and self._events[0][0] <= end:
            self.bench.now, _, event = heapq.heappop(self._events)
            match event:
                case int():
                    self._arrives(event)
                case Execution():
                    self._ends(event)
                case _:
                    self._looks.discard(self.bench.now)
            self._look()
        self.bench.now = end
        return self

    # What happened.

    def trained(self) -> list[Execution]:
        """The trainings that ended with a model, in that order."""
        return self._done("trainer")

    def models(self, node: str, piece: str | None = None) -> list[int]:
        """The models that a node came to a result about, in that order."""
        return [e.inputs["model"][0] for e in self._done(node, piece)]

    def judged(self) -> list[tuple[datetime, int, bool]]:
        """When the last word on a model was said, on which, and whether it was yes: of all gates, or the first no."""
        words: dict[int, list[tuple[datetime, bool]]] = {}
        for node, piece, output in self._gates():
            for e in self._done(node, piece):
                words.setdefault(e.inputs["model"][0], []).append((e.ended or e.started, e.output(output)[0].blessed))
        found: list[tuple[datetime, int, bool]] = []
        for model, said in words.items():
            no = [at for at, blessed in said if not blessed]
            if no:
                found.append((min(no), model, False))
            elif len(said) == len(self._gates()):
                found.append((max(at for at, _ in said), model, True))
        return sorted(found)

    def _gates(self) -> list[tuple[str, str, str]]:
        all_ = [(node, "verdict", "blessing") for node in ("evaluator", "safety")] + [("infra", "", "blessing")]
        return [gate for gate in all_ if gate[0] in self.bench.spec.nodes]

    def pushed(self) -> list[tuple[datetime, int]]:
        """When pushes ended, and of which model."""
        return [(e.ended, e.inputs["model"][0]) for e in self._done("pusher") if e.ended]

    def trainings_between(self, times: Sequence[datetime]) -> list[int]:
        """How many trainings ended before the first of these times, between one and the next, and after the last."""
        ends = [e.ended for e in self.trained() if e.ended]
        borders = [self.start, *times, self.bench.now]
        return [sum(a < end <= b for end in ends) for a, b in itertools.pairwise(borders)]

    def _done(self, node: str, piece: str | None = None) -> list[Execution]:
        done = [e for e in self.bench.ran(node, piece) if e.state is State.SUCCEEDED]
        return sorted(done, key=lambda e: (e.ended or e.started, e.id))

    # How it happens.

    def _at(self, when: datetime, event: Any) -> None:
        heapq.heappush(self._events, (when, next(self._order), event))

    def _arrives(self, number: int) -> None:
        self.bench.arrive(number)
        if number > 1 and self._random.random() * 100 < self.tempo.corrections:
            self.bench.arrive(number - 1, version=2)
        for node in self.bench.spec.inputs.keys() - {"examples"}:  # comes with every other span
            beside = self.bench.beside.setdefault(node, {})
            beside |= {Span(number, 1): f"beside-{number}"} if number % 2 else {}
        if number < self.tempo.spans:
            self._at(self.bench.now + self._varied(self.tempo.every), number + 1)

    def _ends(self, execution: Execution) -> None:
        known = self.bench.history.execution(execution.id)
        if known is None or known.state.final:
            return  # it gave way
        if self._random.random() * 100 < self.tempo.fails:
            self.bench.flaky[execution.node] = [LOST]
        self.bench.finish(known, self._runs.pop(execution.id))
        self.slots.give_back(execution.id)

    def _look(self) -> None:
        made = self.bench.plan()
        for d in made.decisions:
            if isinstance(d, Wait) and d.supersedes:
                self._gives_way(d.supersedes)
                self._look()
                return
        self.turns.put(self.bench.spec, made)
        while claim := self.turns.next():
            execution = self.bench.start(claim.run)
            self._runs[execution.id] = claim.run
            self.turns.taken(claim, execution)
            self._at(self.bench.now + self._varied(self._seconds(execution)), execution)
        wake = made.wake_at
        if wake is not None and wake > self.bench.now and wake not in self._looks:
            self._looks.add(wake)
            self._at(wake, None)

    def _gives_way(self, execution_id: int) -> None:
        execution = self.bench.history.execution(execution_id)
        assert execution is not None
        outcome = Outcome(State.CANCELLED, failure=Failure(SUPERSEDED, "superseded by newer work"))
        self.bench.history.record(self.bench.store.finish(execution.with_outcome(outcome, self.bench.now)))
        self.slots.give_back(execution_id)

    def _seconds(self, execution: Execution) -> float:
        same = {"holdout": "examples", "holdout_statistics": "statistics", "holdout_validator": "validator"}
        same["safety"] = "evaluator"
        return _VERDICT if execution.piece == "verdict" else self.tempo.takes[same.get(execution.node, execution.node)]

    def _varied(self, seconds: float) -> timedelta:
        off = self.tempo.jitter * (2 * self._random.random() - 1)
        return timedelta(seconds=max(0.01, seconds * (1 + off)))
