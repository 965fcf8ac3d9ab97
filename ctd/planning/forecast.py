"""All that a change would set off, not just its first step: plan after plan, as if everything went well.

Results are made up: content never seen before, so that what depends on it would run too. In truth equal results may
cut the chain short, and a verdict may say no; a forecast is what it could cost at most. Where equal results would cut
it short, it says whose.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from ctd.core.artifacts import Artifact, Artifacts, ArtifactType, Value
from ctd.core.executions import Execution, Outcome, State
from ctd.core.fingerprints import fingerprint
from ctd.core.history import History
from ctd.core.spans import plain_key
from ctd.planning.decide import whole
from ctd.planning.decisions import Plan, Run
from ctd.planning.plan import plan
from ctd.planning.world import World
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.wired import WiredPiece

_MOST_PLANS = 200
_REMEMBERED = 20  # past executions that an estimate rests on


@dataclass(frozen=True)
class Expected:
    """One piece of work that would be done, and how long such work took so far (None: never seen)."""

    run: Run
    took: timedelta | None
    unless_same: tuple[str, ...] = ()  # the nodes whose results, if they were as before, would cut it off


@dataclass(frozen=True)
class Forecast:
    """What would run, in order, and the plan that it ends in."""

    expected: tuple[Expected, ...]
    end: Plan
    history: History = field(default_factory=History)  # as it would be then, with made-up results

    @property
    def cost(self) -> timedelta:
        """The sum of what is known; things may run side by side."""
        return sum((e.took for e in self.expected if e.took), timedelta(0))


def forecast(spec: PipelineSpec, world: World) -> Forecast:
    """Everything that would begin in this world until it comes to rest. What runs now is supposed to succeed."""
    running = [e for e in world.history.running() if e.pipeline == spec.name]
    begun = {_work(e): e for e in running}
    imagined = replace(world, history=copy_of(world.history, spec.name, without=running))
    pieces = {w.id: w for w in spec.work}
    last_id = last_id_of(world.history, spec.name)
    last_artifact = max((a.id for e in world.history for made in e.outputs.values() for a in made), default=0)
    ids = itertools.count(last_artifact + 1)
    expected: list[Expected] = []
    before: dict[str, _Before] = {}
    made = plan(spec, imagined)
    for _ in range(_MOST_PLANS):
        if not made.runs:
            break
        for run in sorted(made.runs, key=lambda run: run.turn):
            last_id += 1
            wired = pieces[run.subject.node, run.subject.piece]
            outputs = _made_up(wired, run, last_id, ids)
            before.update(_befores(world.history, spec.name, run, outputs))
            attempt = replace(run.execution(spec.name, spec.node(run.subject.node).kind, world.now), id=last_id)
            imagined.history.record(attempt.with_outcome(Outcome(State.SUCCEEDED, outputs), world.now))
            if begun.pop(_work(attempt), None) is None:
                cut_off = _unless_same(wired, run, before, spec.name, world)
                expected.append(Expected(run, _usual(world.history, spec.name, run), cut_off))
        made = plan(spec, imagined)
    return Forecast(tuple(expected), made, imagined.history)


def last_id_of(history: History, pipeline: str) -> int:
    """Executions and requests are counted together: what comes next is newer than both."""
    return max((known.id for known in [*history, *history.requests(pipeline)]), default=0)


def _work(e: Execution) -> tuple[str, str, str, str]:
    """What two attempts at the same work have in common."""
    return e.node, e.piece, e.key, e.fingerprint


def copy_of(history: History, pipeline: str, *, without: Collection[Execution] = ()) -> History:
    """A history to go on from, in which a pipeline has all that it has."""
    left_out = {e.id for e in without}
    found = History((e for e in history if e.id not in left_out), history.requests(pipeline))
    for artifact in history.deleted():
        found.forget_artifact(artifact.id)
    return found


def _made_up(wired: WiredPiece, run: Run, number: int, ids: Iterator[int]) -> Artifacts:
    """Outputs as the component would make them, as far as plans look at them."""
    sources = [a for taken in run.inputs.values() for a in taken if a.span is not None]
    found: dict[str, tuple[Artifact, ...]] = {}
    for output, type_ in wired.piece.makes.items():
        many = type_ is ArtifactType.EXAMPLES and not wired.per_span
        spans = [(a.span, a.version) for a in run.inputs.get("examples", ())] if many else [(run.span, run.version)]
        if not many and type_.spanned and run.span is None and sources:
            spans = [(sources[0].span, sources[0].version)]
        found[output] = tuple(
            Artifact(type_, place := f"forecast:{number}/{output}/{i}", place, span, version, _verdict(run), next(ids))
            for i, (span, version) in enumerate(spans)
        )
    return found


@dataclass(frozen=True)
class _Before:
    """What stood in the place of a made-up artifact: the node that made it, and its content."""

    node: str
    artifact: Artifact


def _befores(history: History, pipeline: str, run: Run, outputs: Artifacts) -> Iterator[tuple[str, _Before]]:
    """For each made-up artifact, by its content, the real one that it would replace, if there is one."""
    s = run.subject
    done = [e for e in history.of_place(pipeline, s.node, s.piece) if e.state is State.SUCCEEDED]
    if run.span is not None:
        mine = plain_key(s.key).partition(".v")[0]
        done = [e for e in done if plain_key(e.key).partition(".v")[0] == mine]
    if not done:
        return
    for output, made in outputs.items():
        there = {a.span: a for a in done[-1].output(output)}
        for artifact in made:
            if artifact.span in there:
                yield artifact.digest, _Before(s.node, there[artifact.span])


def _unless_same(
    wired: WiredPiece, run: Run, before: Mapping[str, _Before], pipeline: str, world: World
) -> tuple[str, ...]:
    """The nodes that decide whether the work is needed at all: with their former results it is done already."""
    inputs: dict[str, list[list[Any]]] = run.ingredients.get("inputs", {})
    replaced = [before[digest] for taken in inputs.values() for _, digest in taken if digest in before]
    if not replaced:
        return ()
    as_before: dict[str, list[list[Any]]] = {}
    for key, taken in inputs.items():
        part = wired.piece.takes[key].part
        contents = [
            [span, before[digest].artifact.content(part) if digest in before else digest] for span, digest in taken
        ]
        if not part or any(content for _, content in contents):
            as_before[key] = contents
    s = run.subject
    work = fingerprint({**run.ingredients, "inputs": as_before})
    tried = world.history.tried(pipeline, s.node, s.piece, work)
    last = world.history.latest_success(pipeline, s.node, s.piece)
    done = (e.state is State.SUCCEEDED and whole(e, world) and (e is last or not wired.piece.effect) for e in tried)
    return tuple(dict.fromkeys(b.node for b in replaced)) if any(done) else ()


def _verdict(run: Run) -> Mapping[str, Value]:
    models = run.inputs.get("model", ())
    return {"blessed": 1, **({"current_model_id": models[0].id} if models else {})}


def _usual(history: History, pipeline: str, run: Run) -> timedelta | None:
    """The median of what this piece of work took lately."""
    tried = history.of_place(pipeline, run.subject.node, run.subject.piece)
    took = [e.took.total_seconds() for e in tried if e.state is State.SUCCEEDED and e.took]
    return timedelta(seconds=statistics.median(took[-_REMEMBERED:])) if took else None
