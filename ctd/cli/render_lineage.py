"""Lineage and retention for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from ctd.api.lineage import (
    ArtifactView,
    ComparedModelView,
    DifferenceView,
    LineageView,
    MetricDifferenceView,
    ModelDiffView,
    PushView,
    ReachView,
    RetentionView,
    SpansDifferenceView,
    StepView,
)
from ctd.cli.render import place
from ctd.cli.text import ago, clean, counted, seconds


def rendered(view: LineageView | ReachView | ModelDiffView, now: datetime) -> RenderableType:
    """Whatever `ctd lineage` was asked."""
    match view:
        case LineageView():
            return Group(*_back(view, now))
        case ReachView():
            return Group(*_forward(view, now))
        case ModelDiffView():
            return Group(*_difference(view))


def retention(view: RetentionView) -> RenderableType:
    """`ctd gc` of one pipeline."""
    done = "removed" if view.removed else "to remove"
    head = Text(clean(view.pipeline), style="bold")
    stay = [Text(f"  {clean(note)}", style="dim") for note in view.notes]
    if not (view.keeps or view.results):
        return Group(head.append(": no node says `keep`, so everything stays", "none"), *stay)
    head.append(f": {counted(len(view.results), 'result')} {done}", "none")
    lines = (
        f"  {c.node} {c.key}  {c.artifact.type} #{c.artifact.artifact}: {c.because}  {c.artifact.uri}"
        for c in view.results
    )
    return Group(head, *map(_line, lines), *stay)


def _back(view: LineageView, now: datetime) -> Iterator[RenderableType]:
    head = Text.assemble((clean(view.pipeline), "bold"), f" model #{view.model.artifact}")
    yield head.append(" (its files were removed)" if view.model.deleted else "", "yellow")
    for push in view.pushes:
        yield _line(f"  {_push(push, now)}")
    for verdict in view.verdicts:
        text = Text("  blessed " if verdict.blessed else "  refused ", style="green" if verdict.blessed else "red")
        yield text.append(clean(f"by {place(verdict.node, verdict.piece, '')}: {verdict.reason}"), "none")
    yield from _section("Made by", [line for step in view.made for line in _step(step, now)])
    yield from _section("Judged by", [line for step in view.judged for line in _step(step, now)])
    yield from _section(
        "Spans",
        [f"  {s.node} span {s.label}  {s.content[:12]}" for s in view.spans],
    )


def _step(step: StepView, now: datetime) -> Iterator[str]:
    e = step.execution
    took = f" in {seconds(e.seconds)}" if e.seconds is not None else ""
    when = f"attempt {e.attempt}, {ago(e.started, now)}{took}"
    yield f"  #{e.execution} {place(e.node, e.piece, e.key)}: {when}; {e.because}"
    settings = step.ingredients.get("settings", {})
    facts = {
        "code": str(step.ingredients.get("code", ""))[:12],
        "settings": ", ".join(f"{name} {value}" for name, value in settings.items()),
        **{key: ", ".join(_short(a) for a in taken) for key, taken in step.inputs.items()},
        **{f"{key} (looked back at)": ", ".join(_short(a) for a in taken) for key, taken in step.back.items()},
    }
    yield from (f"      {name}: {said}" for name, said in facts.items() if said)


def _short(artifact: ArtifactView) -> str:
    gone = ", removed" if artifact.deleted else ""
    number = "" if artifact.label.startswith("#") else f"#{artifact.artifact} "
    return f"{number}{artifact.label} ({artifact.digest[:8]}{gone})"


def _forward(view: ReachView, now: datetime) -> Iterator[RenderableType]:
    said = [
        counted(len(view.executions), "execution"),
        counted(len(view.models), "model"),
        counted(len(view.versions), "version"),
    ]
    yield Text.assemble((clean(view.pipeline), "bold"), f" span {view.label} went into {', '.join(said)}")
    lines = [
        f"  #{e.execution} {place(e.node, e.piece, e.key)}  {e.state}, {ago(e.started, now)}" for e in view.executions
    ]
    yield from _section("Executions", lines)
    yield from _section("Versions", [f"  {_push(push, now)}" for push in view.versions])


def _difference(view: ModelDiffView) -> Iterator[RenderableType]:
    yield Text.assemble(
        (clean(view.pipeline), "bold"), f" model #{view.after.artifact} against #{view.before.artifact}"
    )
    for model, about in ((view.before, view.about_before), (view.after, view.about_after)):
        if about is not None:
            yield from map(_line, _about(model, about))
    yield from _section("Metrics", [*_metrics(view), *(f"  {why}" for why in view.metrics_missing)])
    yield from _section("Spans", list(map(_spans, view.spans)))
    lines = [line for d in view.differences for line in _made_differently(d)]
    yield from _section("What was done differently", lines or ["  nothing: they are the same work"])


def _about(model: ArtifactView, about: ComparedModelView) -> Iterator[str]:
    """Where a model is, and the last word of each of its judges."""
    pushed = ", ".join(f"version {p.version} on {p.target}" for p in reversed(about.pushes)) or "never pushed"
    gone = "; its files were removed" if model.deleted else ""
    yield f"  #{model.artifact}: {pushed}{gone}"
    for verdict in {(v.node, v.piece): v for v in about.verdicts}.values():
        said = "blessed" if verdict.blessed else "refused"
        yield f"      {said} by {place(verdict.node, verdict.piece, '')}: {verdict.reason}"


def _metrics(view: ModelDiffView) -> Iterator[str]:
    """All examples; slices are in --json."""
    for node in dict.fromkeys(d.node for d in view.metrics):
        mine = [d for d in view.metrics if d.node == node]
        whole = [d for d in mine if d.slice == "overall"] or mine
        width = max(len(d.metric) for d in whole)
        for d in whole:
            change = f"  {d.after - d.before:+.4f}" if d.after is not None and d.before is not None else ""
            yield f"  {d.metric:<{width}}  {_number(d.before)} -> {_number(d.after)}{change}"
        yield f"      {node}, {_examples(whole[0])}{_slices(mine)}"


def _examples(d: MetricDifferenceView) -> str:
    if d.same_examples:
        return f"both on the same {counted(d.examples_after or 0, 'example')}"
    of = (counted(n, "example") if n is not None else "none" for n in (d.examples_before, d.examples_after))
    return f"each on the examples of its own evaluation: {' and '.join(of)}"


def _slices(of: Sequence[MetricDifferenceView]) -> str:
    many = len({d.slice for d in of} - {"overall"})
    return f"; {counted(many, 'slice')} in --json" if many else ""


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}" if value != int(value) else f"{value:.0f}"


def _spans(d: SpansDifferenceView) -> str:
    return f"  {d.node}  {d.label}"


def _made_differently(d: DifferenceView) -> Iterator[str]:
    numbers = " -> ".join(f"#{n}" if n else "none" for n in (d.before, d.after))
    yield f"  {place(d.node, d.piece, d.key)} ({numbers})"
    yield from (f"      {change}" for change in d.changes)


def _push(push: PushView, now: datetime) -> str:
    return f"version {push.version} on {push.target}" + (f", pushed {ago(push.pushed, now)}" if push.pushed else "")


def _section(title: str, lines: Sequence[str]) -> Iterator[RenderableType]:
    if lines:
        yield Text(title, style="bold")
        yield from map(_line, lines)


def _line(text: str) -> Text:
    return Text(clean(text))
