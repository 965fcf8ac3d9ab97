"""Where a model came from, what a span has reached, and why two models differ: history followed link by link."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ctd.core.artifacts import VERDICTS, Artifact, Artifacts, ArtifactType
from ctd.core.calendars import NUMBERS, Calendar
from ctd.core.executions import Execution, State
from ctd.core.history import History
from ctd.core.spans import plain_key
from ctd.planning.reasons import Calendars, changes


@dataclass(frozen=True)
class Step:
    """An execution in a lineage. `back` are inputs that only look back, at a model made before."""

    execution: Execution
    taken: Artifacts
    back: Artifacts


@dataclass(frozen=True)
class Lineage:
    """A model: the work it was made by and judged by, nearest first, and where it was pushed to, newest first."""

    model: Artifact
    made: tuple[Step, ...]
    judged: tuple[Step, ...]
    pushes: tuple[Execution, ...]


@dataclass(frozen=True)
class Reach:
    """Everything that a span went into, oldest first."""

    span: int
    executions: tuple[Execution, ...]


@dataclass(frozen=True)
class SpansDifference:
    """The spans of one input in two models; `corrected` are in both, with other contents."""

    node: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    corrected: tuple[int, ...]


@dataclass(frozen=True)
class Difference:
    """What differs in one piece of work between two models; `before` or `after` is 0 where there was no such work."""

    node: str
    piece: str
    key: str
    before: int
    after: int
    changes: tuple[str, ...]


def lineage(history: History, model: Artifact, *, deep: bool = False) -> Lineage:
    """Back from a model. What it was compared with or started from is named, and followed only if `deep`."""
    maker = history.maker(model.id)
    made = ancestors(history, [maker] if maker else [], deep=deep)
    known = {step.execution.id for step in made}
    judges = ancestors(history, history.verdicts(model), deep=deep)
    pipeline = maker.pipeline if maker else ""
    pushes = [e for target in history.targets(pipeline) for e in history.pushes(pipeline, target) if _took(e, model)]
    judged = tuple(step for step in judges if step.execution.id not in known)
    return Lineage(model, made, judged, tuple(sorted(pushes, key=lambda e: e.id, reverse=True)))


def story(history: History, model: Artifact) -> dict[str, Any]:
    """Where a model came from, in JSON values, for whoever keeps the model far from this store."""
    found, maker = lineage(history, model), history.maker(model.id)
    ingredients = maker.ingredients if maker else {}
    return {
        "model": model.id,
        "pipeline": maker.pipeline if maker else "",
        "trained": maker.started.isoformat(timespec="seconds") if maker else "",
        "code": ingredients.get("code", ""),
        "settings": ingredients.get("settings", {}),
        "spans": [_read(e) for e in spans(found.made)],
        "verdicts": [str(said.properties.get("reason", "")) for _, said in verdicts(history, model)],
        "made_by": [
            {"node": e.node, "piece": e.piece, "key": e.key, "execution": e.id, "fingerprint": e.fingerprint}
            for e in (step.execution for step in found.made)
        ],
    }


def _read(e: Execution) -> dict[str, Any]:
    number, version = e.ingredients["span"]
    name = e.key.removeprefix("span-")
    return {"span": number, "name": name, "version": version, "content": e.ingredients.get("content", "")}


def verdicts(history: History, model: Artifact) -> Iterator[tuple[Execution, Artifact]]:
    """What was said of a model, oldest first. An evaluation is about a model as well, and says neither yes nor no."""
    return ((e, a) for e in history.verdicts(model) for a in _results(e) if a.type in VERDICTS)


def evaluations(history: History, model: Artifact) -> Mapping[str, tuple[Execution, Artifact]]:
    """The newest evaluation of a model by each evaluator."""
    found = ((e, a) for e in history.verdicts(model) for a in _results(e))
    return {e.node: (e, a) for e, a in found if a.type is ArtifactType.EVALUATION}


def _results(execution: Execution) -> Iterator[Artifact]:
    return (artifact for made in execution.outputs.values() for artifact in made)


def ancestors(history: History, of: Iterable[Execution], *, deep: bool = False) -> tuple[Step, ...]:
    """The executions and all that went into them, nearest first."""
    found: dict[int, Step] = {}
    left = {e.id: e for e in of}
    while left:
        execution = left.pop(max(left))  # makers have smaller numbers than those who take
        step = _step(history, execution)
        found[execution.id] = step
        taken = [*step.taken.values(), *(step.back.values() if deep else ())]
        for artifact in (a for artifacts in taken for a in artifacts):
            maker = history.maker(artifact.id)
            if maker is not None and maker.id not in found:
                left[maker.id] = maker
    return tuple(found.values())


def reach(history: History, pipeline: str, span: int, inputs: Collection[str] | None = None) -> Reach:
    """Forward from a span: all that took what was made of it, and so on. Looking back at a model is no such taking.

    `inputs` are the nodes that read such spans, where not all have numbers of one kind.
    """
    reached: dict[int, Execution] = {}
    made: set[int] = set()
    for execution in history.of_pipeline(pipeline):
        taken = {i for key, ids in execution.inputs.items() if not _looks_back(history, execution, key) for i in ids}
        read = root_span(execution) == span and (inputs is None or execution.node in inputs)
        if read or not made.isdisjoint(taken):
            reached[execution.id] = execution
            made.update(a.id for artifacts in execution.outputs.values() for a in artifacts)
    return Reach(span, tuple(reached.values()))


def spans(steps: Iterable[Step]) -> tuple[Execution, ...]:
    """The executions that read the spans of a lineage, oldest span first."""
    roots = {e.id: e for e in (step.execution for step in steps) if root_span(e) is not None}
    return tuple(sorted(roots.values(), key=lambda e: (root_span(e), e.id)))


def root_span(execution: Execution) -> int | None:
    """The span that an execution has read from storage, if that is its work."""
    said = execution.ingredients.get("span")
    return said[0] if said else None


def difference(
    old: Lineage, new: Lineage, calendars: Mapping[tuple[str, str], Calendars] | None = None
) -> tuple[Difference, ...]:
    """Why the new model is another one than the old: every piece of work that differs, nearest to the model first.

    `calendars` are those of the inputs of each piece, and of its own spans under no name.
    """
    calendars = calendars or {}
    fans = _fans(old.made) | _fans(new.made)
    before, after = _by_work(old.made, fans), _by_work(new.made, fans)
    found = []
    for work in [*after, *(w for w in before if w not in after)]:
        then, now = before.get(work), after.get(work)
        if then is None or now is None:
            found.append(_only(then, now, calendars))
        elif then.id != now.id:
            whose = calendars.get((now.node, now.piece), {})
            said = tuple(changes(now.ingredients, then.ingredients, whose)) or ("done again on the same",)
            found.append(Difference(now.node, now.piece, now.key, then.id, now.id, said))
    return tuple(found)


def spans_difference(old: Lineage, new: Lineage) -> tuple[SpansDifference, ...]:
    """The spans that went into each of two models, by input."""
    then, now = _contents(old.made), _contents(new.made)
    return tuple(
        SpansDifference(
            node,
            tuple(sorted(before := then.get(node, {}))),
            tuple(sorted(after := now.get(node, {}))),
            tuple(sorted(n for n in before.keys() & after.keys() if before[n] != after[n])),
        )
        for node in dict.fromkeys((*now, *then))
    )


def _contents(made: Iterable[Step]) -> dict[str, dict[int, str]]:
    """The contents of the spans that were read, by input and span."""
    found: dict[str, dict[int, str]] = {}
    for e in spans(made):
        found.setdefault(e.node, {})[root_span(e) or 0] = str(e.ingredients.get("content", ""))
    return found


def _only(then: Execution | None, now: Execution | None, calendars: Mapping[tuple[str, str], Calendars]) -> Difference:
    there = now or then
    assert there is not None  # noqa: S101 - the work was found in one of both lineages
    span = root_span(there)
    if span is None:
        said = "new" if now else "no longer used"
    else:
        calendar: Calendar = calendars.get((there.node, there.piece), {}).get("", NUMBERS)
        said = f"span {calendar.say(span)} " + ("new" if now else "left the window")
    return Difference(there.node, there.piece, there.key, then.id if then else 0, now.id if now else 0, (said,))


def _fans(steps: Iterable[Step]) -> frozenset[tuple[str, str]]:
    """Pieces of work that are there once per span."""
    done = [step.execution for step in steps]
    times = Counter((e.node, e.piece) for e in done)
    roots = {(e.node, e.piece) for e in done if root_span(e) is not None}
    return frozenset(roots | {place for place, count in times.items() if count > 1})


def _by_work(steps: Iterable[Step], fans: frozenset[tuple[str, str]]) -> Mapping[tuple[str, str, str], Execution]:
    """Executions by what they are in a pipeline. A corrected version of a span is in the place of the one before."""
    done = [step.execution for step in steps]
    of_span = {e.id: plain_key(e.key).partition(".v")[0] for e in done if (e.node, e.piece) in fans}
    return {(e.node, e.piece, of_span.get(e.id, "")): e for e in done}


def _step(history: History, execution: Execution) -> Step:
    taken: dict[str, tuple[Artifact, ...]] = {}
    back: dict[str, tuple[Artifact, ...]] = {}
    for key, ids in execution.inputs.items():
        artifacts = tuple(a for a in map(history.artifact, ids) if a is not None)
        (back if _looks_back(history, execution, key) else taken)[key] = artifacts
    return Step(execution, taken, back)


def _looks_back(history: History, execution: Execution, key: str) -> bool:
    """Whether an input is no cause of the work: a model it is compared with, or what its own piece made before."""
    if key in execution.ingredients.get("inputs", {}):
        return False
    taken = [(history.artifact(i), history.maker(i)) for i in execution.inputs[key]]
    return any(
        (artifact is not None and artifact.type is ArtifactType.MODEL)
        or (maker is not None and (maker.node, maker.piece) == (execution.node, execution.piece))
        for artifact, maker in taken
    )


def _took(push: Execution, model: Artifact) -> bool:
    return push.state is State.SUCCEEDED and any(model.id in ids for ids in push.inputs.values())


def pushed_model(history: History, push: Execution) -> Artifact | None:
    """The model that an execution pushed."""
    artifacts: Iterator[Artifact | None] = (history.artifact(i) for ids in push.inputs.values() for i in ids)
    return next((a for a in artifacts if a is not None and a.type is ArtifactType.MODEL), None)
