"""`ctd explain` for people: decisions, chains of causes down to what set work off, and executions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ctd.api.models import CauseView, ExecutionView, ExplainView, LeftOutView, PlanView, RequestView
from ctd.cli.render import place, plan, state_text
from ctd.cli.text import ago, clean, counted, seconds

_SHOWN = 5  # causes that lead to different executions of the same node
_LEADS = ("input changed", "input new", "input left", "reused", "left out")
_STYLES = {
    "ran": "bold",
    "running": "bold cyan",
    "to run": "bold cyan",
    "cut off": "green",
    "reused": "green",
    "failed": "red",
    "attempt": "red",
    "waits": "yellow",
    "paused": "yellow",
    "not due": "yellow",
    "refused": "yellow",
    "needs approval": "yellow",
    "left out": "yellow",
}


def explain(view: ExplainView, now: datetime) -> RenderableType:
    """`ctd explain`: the decisions, what the latest work was made of, and the executions."""
    parts: list[RenderableType] = [plan(PlanView(pipeline=view.pipeline, decisions=view.decisions), everything=True)]
    parts += _causes("Why", view.causes, now)
    parts += _causes("Why not", view.why_not, now)
    if view.ingredients:
        parts += [Text(), Text("Made of", style="bold")]
        parts += [Text(clean(f"  {name}: {value}")) for name, value in _ingredients(view.ingredients)]
    if view.requests:
        parts += [Text(), Text("Requests, newest first", style="bold")]
        parts += [Text(clean(f"  {_request(r, now)}")) for r in reversed(view.requests)]
    parts += [Text(), Text("Executions, newest first" if view.executions else "No executions yet.", style="bold")]
    parts += [Padding(execution(e, now), (0, 0, 0, 2)) for e in reversed(view.executions)]
    return Group(*parts)


def _request(view: RequestView, now: datetime) -> str:
    """`pause trainer by ana, 3m ago: disk is full`."""
    about = " ".join(p for p in (view.node, view.key, f"#{view.execution}" if view.execution else "") if p)
    again = " --again" if view.again else ""
    reason = f": {view.reason}" if view.reason else ""
    return f"{view.verb}{again} {about}".rstrip() + f" by {view.who}, {ago(view.at, now)}{reason}"


def execution(view: ExecutionView, now: datetime) -> RenderableType:
    """Everything about one execution."""
    head = state_text(view.state)
    head.append(f"  #{view.execution}  {clean(place(view.node, view.piece, view.key))}", "bold")
    took = f" in {seconds(view.seconds)}" if view.seconds is not None else ""
    head.append(f"  attempt {view.attempt}, {ago(view.ended or view.started, now)}{took}", "dim")
    head.no_wrap = False
    facts = {
        "because": view.because,
        "left out": _left_out(view.left_out),
        "result": view.result,
        "progress": view.progress,
        "error": view.error,
        "hint": view.hint,
        "phases": ", ".join(f"{name} {seconds(took)}" for name, took in view.timings.items()),
        "log": view.log,
    }
    table = Table.grid(padding=(0, 1))
    for name, value in facts.items():
        if value:
            style = {"error": "red", "hint": "yellow"}.get(name, "none")
            table.add_row(Text(f"  {name}", style="dim"), Text(clean(value, lines=name == "error"), style=style))
    return Group(head, table)


def _causes(title: str, found: Sequence[CauseView], now: datetime) -> Iterator[RenderableType]:
    """A section with a tree for each cause."""
    if found:
        yield Text()
        yield Text(title, style="bold")
        yield Group(*(_tree(cause, now) for cause in found))


def _left_out(found: Sequence[LeftOutView]) -> str:
    """`span 4 quarantined (fare: out of range)`."""
    return "; ".join(f"span {left.label or left.span} {left.kind} ({left.why})" for left in found)


def _tree(cause: CauseView, now: datetime) -> Tree:
    tree = Tree(_line(cause, now), guide_style="dim")
    _grow(tree, cause, now)
    return tree


def _grow(tree: Tree, cause: CauseView, now: datetime) -> None:
    more: dict[str, int] = {}
    for kind in dict.fromkeys(c.kind for c in cause.causes):
        alike = [c for c in cause.causes if c.kind == kind]
        shown = alike if kind not in _LEADS else alike[:_SHOWN]
        for behind in shown:
            _grow(tree.add(_line(behind, now)), behind, now)
        more[kind] = len(alike) - len(shown)
    if any(more.values()):
        tree.add(Text(f"and {counted(sum(more.values()), 'cause')} more (all are in --json)", style="dim"))


def _line(cause: CauseView, now: datetime) -> Text:
    text = Text(clean(cause.said), style=_STYLES.get(cause.kind, "none"))
    if cause.at:
        text.append(f", {ago(cause.at, now)}", "dim")
    if cause.against and cause.kind in ("ran", "running", "to run"):
        text.append(f", compared with execution {cause.against}", "dim")
    if cause.kind.startswith("input") and cause.execution:
        against = f" instead of {cause.against}" if cause.against else ""
        text.append(f", by execution {cause.execution}{against}", "dim")
    if cause.hint:
        text.append(f"{'' if cause.said.endswith('.') else '.'} {clean(cause.hint)}", "dim")
    return text


def _ingredients(made_of: dict[str, object]) -> Iterable[tuple[str, str]]:
    for name, value in made_of.items():
        if isinstance(value, dict):
            inner = ", ".join(f"{key} {_short(item)}" for key, item in value.items())
            if inner:
                yield name, inner
        else:
            yield name, _short(value)


def _short(value: object) -> str:
    """Digests by their beginning, lists of inputs by their number."""
    if isinstance(value, list):
        return counted(len(value), "item")
    text = str(value)
    return text[:12] if len(text) >= 40 and " " not in text and "/" not in text else text
