"""What may be removed: results beyond what a spec keeps, unless something still needs them. A pure function."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ctd.core.artifacts import Artifact, Artifacts, ArtifactType
from ctd.core.calendars import Calendar
from ctd.core.executions import Execution, State
from ctd.core.history import History
from ctd.planning.blessed import blessed_models
from ctd.planning.canaries import trial
from ctd.planning.decided import outputs_of, used
from ctd.planning.decisions import Decision, Plan, Reuse, Run
from ctd.planning.lineage import ancestors, pushed_model
from ctd.specs.base import Keep
from ctd.specs.pipeline import PipelineSpec


@dataclass(frozen=True)
class Collect:
    """An artifact that nobody needs any more."""

    artifact: Artifact
    execution: Execution
    because: str


@dataclass(frozen=True)
class Unasked:
    """Results of single spans that `keep` does not ask for, and that stay because the data of their spans is there.

    `start` is the span that the input would have to start with for them to go.
    """

    node: str
    root: str
    results: int
    start: int


def keeps(spec: PipelineSpec) -> bool:
    """Whether the pipeline lets go of anything at all."""
    return any(node.keep for node in spec.nodes.values())


def collectable(spec: PipelineSpec, made: Plan, history: History, pushed: Mapping[str, int]) -> tuple[Collect, ...]:
    """What the spec does not keep, and neither the plan nor a target nor a comparison needs.

    `pushed` says how many versions each target keeps. Where an input cannot be seen, what its spans made is not in
    the plan although it may soon be again: then nothing is collected.
    """
    if not keeps(spec) or made.unseen or not made.decisions:
        return ()
    beyond = list(_beyond(spec, history))
    needed = frozenset(_needed(spec, made, history, pushed)) if beyond else frozenset()
    return tuple(c for c in beyond if c.artifact.id not in needed)


def unasked(spec: PipelineSpec, made: Plan, history: History) -> Iterator[Unasked]:
    """What `keep: {spans: n}` cannot let go of, by node: what is there is read, so it would be made again.

    Spans that a window takes are not among them: those are needed.
    """
    if made.unseen or not any(k.spans for node in spec.nodes.values() for k in node.keep.values()):
        return
    per_span = {w.id: w.root for w in spec.work if w.per_span and w.root}
    windowed: dict[str, set[int]] = {}
    there: dict[str, set[int]] = {}
    for d in made.decisions:
        place = d.subject.node, d.subject.piece
        if place in per_span:
            spans = (a.span for a in _flat(outputs_of(d)) if a.span is not None)
            there.setdefault(d.subject.node, set()).update(spans)
        else:
            root = next((w.root for w in spec.work if w.id == place), None) or ""
            windowed.setdefault(root, set()).update(_spans_taken(d, history))
    beyond: dict[str, list[Artifact]] = {}
    for c in _beyond(spec, history):
        beyond.setdefault(c.execution.node, []).append(c.artifact)
    for (node, _), root in per_span.items():
        keep = next((k for k in spec.node(node).keep.values() if k.spans), None)
        if keep is None or not there.get(node):
            continue
        start = min([*sorted(there[node], reverse=True)[: keep.spans], *windowed.get(root, ())])
        stay = [a for a in beyond.get(node, ()) if a.span in there[node] and (a.span or 0) < start]
        if stay:
            yield Unasked(node, root, len(stay), start)


def _spans_taken(decision: Decision, history: History) -> Iterator[int]:
    """The spans in the windows of a piece of work."""
    if isinstance(decision, Run):
        taken = list(_flat(decision.inputs))
    else:
        execution = history.execution(decision.execution)
        found = map(history.artifact, _taken(execution)) if execution else ()
        taken = [a for a in found if a is not None]
    return (a.span for a in taken if a.span is not None)


def orphaned(
    pipeline: str, spec: PipelineSpec | None, made: Plan | None, history: History, pushed: Mapping[str, int]
) -> tuple[Collect, ...]:
    """What nodes made that the spec has no longer, or all that is left of a pipeline without a spec.

    Nothing of it goes by itself: a name may be mistyped, and a spec come back. Whoever asks gets rid of what nothing
    needs.
    """
    if spec is not None and (made is None or made.unseen or not made.decisions):
        return ()
    left = list(_left(pipeline, spec, history))
    if not left:
        return ()
    if spec is not None and made is not None:
        needed = frozenset(_needed(spec, made, history, pushed))
    else:
        needed = frozenset(i for e in history.running() for i in _taken(e))
    return tuple(c for c in left if c.artifact.id not in needed)


def _left(pipeline: str, spec: PipelineSpec | None, history: History) -> Iterator[Collect]:
    """Live artifacts of places that the spec does not have."""
    because = "its node is no longer in the spec" if spec else "its pipeline has no spec any more"
    for node, piece in history.places(pipeline) - {w.id for w in (spec.work if spec else ())}:
        for execution in history.of_place(pipeline, node, piece):
            for artifact in _flat(execution.outputs):
                if history.live(artifact):
                    yield Collect(artifact, execution, because)


def _beyond(spec: PipelineSpec, history: History) -> Iterator[Collect]:
    """Live artifacts that `keep` does not ask for."""
    for wired in spec.work:
        node = spec.node(wired.node)
        done = [e for e in history.of_place(spec.name, *wired.id) if e.state is State.SUCCEEDED] if node.keep else []
        for output in wired.piece.makes:
            keep = node.keep_of(output)
            if keep is not None:
                live = [(e, a) for e in reversed(done) for a in e.output(output) if history.live(a)]
                yield from _of_spans(keep, live, wired.calendar) if keep.spans else _older(keep, live)


def _older(keep: Keep, live: Iterable[tuple[Execution, Artifact]]) -> Iterator[Collect]:
    """All but what the newest executions made; newest first."""
    seen: dict[int, None] = {}
    for execution, artifact in live:
        seen.setdefault(execution.id)
        if len(seen) > (keep.newest or 0):
            yield Collect(artifact, execution, f"not of the newest {keep.newest} executions")


def _of_spans(keep: Keep, live: list[tuple[Execution, Artifact]], calendar: Calendar) -> Iterator[Collect]:
    """All but the newest results of each of the newest spans."""
    newest = sorted({a.span for _, a in live if a.span is not None}, reverse=True)[: keep.spans]
    by_age = sorted(live, key=lambda made: (made[1].version or 0, made[0].id), reverse=True)
    seen: dict[int | None, int] = {}
    for execution, artifact in by_age:
        seen[artifact.span] = seen.get(artifact.span, 0) + 1
        if artifact.span not in newest:
            yield Collect(artifact, execution, f"not of the newest {keep.spans} spans")
        elif seen[artifact.span] > keep.versions:
            yield Collect(artifact, execution, f"{keep.versions} newer of span {calendar.say(artifact.span or 0)}")


def _needed(spec: PipelineSpec, made: Plan, history: History, pushed: Mapping[str, int]) -> Iterator[int]:
    """Ids of the artifacts that must stay, some more than once."""
    yield from (a.id for a in used(made))
    for execution in _concerned(spec, made, history):
        yield from _all_of(execution)
    for execution in history.running():
        yield from _taken(execution)
    pushes = list(_pushes(spec, history, pushed))
    models = [*_baselines(spec, made, history), *(m for m in (pushed_model(history, p) for p in pushes) if m)]
    judged = [v for model in models for v in history.verdicts(model)]
    makers = [m for m in (history.maker(model.id) for model in models) if m]
    yield from (a.id for execution in [*pushes, *judged, *makers] for a in _flat(execution.outputs))
    # To go on from the newest blessed model is to cost nothing, whatever the spec says next.
    for step in ancestors(history, makers[:1]):
        yield from (a.id for a in [*_flat(step.taken), *_flat(step.execution.outputs)])


def _concerned(spec: PipelineSpec, made: Plan, history: History) -> Iterator[Execution]:
    """Executions that decisions rest on, and for what is held up those they may come back to."""
    for decision in made.decisions:
        s = decision.subject
        found = history.execution(decision.execution) if not isinstance(decision, Run) else None
        if found is not None:
            yield found
        if not isinstance(decision, Reuse):
            yield from (e for e in history.of_key(spec.name, s.node, s.piece, s.key) if e.state is State.SUCCEEDED)
            latest = history.latest_success(spec.name, s.node, s.piece)
            if latest is not None:
                yield latest


def _baselines(spec: PipelineSpec, made: Plan, history: History) -> Iterator[Artifact]:
    """The models that the next candidate, and each one in use, would be compared with."""
    blessed = list(blessed_models(history, spec.name, spec.judges))
    yield from blessed[:1]
    for model in {
        a.id: a for d in made.decisions for a in _flat(outputs_of(d)) if a.type is ArtifactType.MODEL
    }.values():
        yield from [b for b in blessed if b.id < model.id][:1]


def _pushes(spec: PipelineSpec, history: History, pushed: Mapping[str, int]) -> Iterator[Execution]:
    """The newest push of each of the models that were pushed last, as many as the target keeps versions."""
    for target in history.targets(spec.name):
        newest: dict[int, Execution] = {}
        most = pushed.get(target, 1) + (1 if trial(history, spec.name, target) else 0)  # the live one besides
        for push in history.pushes(spec.name, target):
            model = pushed_model(history, push)
            newest.setdefault(model.id if model else -push.id, push)
            if len(newest) > most:
                break
        yield from list(newest.values())[:most]


def _all_of(execution: Execution) -> Iterator[int]:
    yield from _taken(execution)
    yield from (a.id for a in _flat(execution.outputs))


def _taken(execution: Execution) -> Iterator[int]:
    return (i for ids in execution.inputs.values() for i in ids)


def _flat(artifacts: Artifacts) -> Iterator[Artifact]:
    return (a for made in artifacts.values() for a in made)
