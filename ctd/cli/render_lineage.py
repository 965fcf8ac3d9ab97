"""Lineage and retention for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from ctd.api.lineage import ArtifactView, LineageView, ModelDiffView, PushView, ReachView, RetentionView, StepView
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
    if not view.differences:
        yield Text("  They are the same work.")
    for d in view.differences:
        numbers = " -> ".join(f"#{n}" if n else "none" for n in (d.before, d.after))
        yield _line(f"  {place(d.node, d.piece, d.key)} ({numbers})")
        yield from (_line(f"      {change}") for change in d.changes)


def _push(push: PushView, now: datetime) -> str:
    return f"version {push.version} on {push.target}" + (f", pushed {ago(push.pushed, now)}" if push.pushed else "")


def _section(title: str, lines: Sequence[str]) -> Iterator[RenderableType]:
    if lines:
        yield Text(title, style="bold")
        yield from map(_line, lines)


def _line(text: str) -> Text:
    return Text(clean(text))
