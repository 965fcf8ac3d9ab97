"""Answers for people, on a terminal of any width or in a file. Text of users is never taken as markup."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.text import Text

from ctd.api.models import (
    DaemonView,
    DecisionView,
    ExpectedView,
    ForecastView,
    LiveView,
    NodeView,
    PipelineView,
    PlanView,
    ProblemView,
    StatusView,
    TroubleView,
)
from ctd.cli.text import ago, clean, counted, seconds

_UNBOUNDED = 10_000  # columns of a file or pipe: lines are for grep, not for eyes
_MANY = 3  # decisions to reuse; more are one line


@dataclass(frozen=True)
class Look:
    """How a state is shown."""

    glyph: str
    plain: str  # where the terminal has no such glyphs
    style: str


LOOKS = {
    "up to date": Look("✓", "+", "green"),
    "running": Look("▶", ">", "cyan"),
    "queued": Look("○", "o", "cyan"),
    "waiting": Look("…", ".", "yellow"),
    "blocked": Look("■", "#", "yellow"),
    "failed": Look("✗", "x", "red"),
    "succeeded": Look("✓", "+", "green"),
    "cancelled": Look("■", "#", "yellow"),
    "abandoned": Look("■", "#", "yellow"),
    "as wanted": Look("✓", "+", "green"),
    "working": Look("▶", ">", "cyan"),
    "run": Look("▶", ">", "cyan"),
    "reuse": Look("✓", "+", "green"),
    "cut off": Look("✓", "+", "green"),
    "wait": Look("…", ".", "yellow"),
}


def console() -> Console:
    """Standard output as it is: a terminal has its width, a file has no limit unless COLUMNS says so."""
    made = Console(highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = shutil.get_terminal_size(fallback=(_UNBOUNDED, 24)).columns
    return made


def show(rendered: RenderableType, to: Console | None = None) -> None:
    """Print; in files without the blanks that fill a table's last column."""
    to = to or console()
    if to.is_terminal:
        to.print(rendered)
        return
    with to.capture() as captured:
        to.print(rendered)
    sys.stdout.write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))


def state_text(state: str) -> Text:
    """Glyph and word of a state, in its colour."""
    look = LOOKS[state]
    unicode = sys.__stdout__ is not None and sys.__stdout__.encoding.lower().startswith("utf")
    glyph = look.glyph if unicode else look.plain
    return Text(f"{glyph} {state}", style=look.style, no_wrap=True)


def status(view: StatusView, now: datetime, offline: str) -> RenderableType:
    """`ctd status`. `offline` says what is read where no daemon runs."""
    head = _daemon(view.daemon, now) if view.daemon else Text(clean(offline), style="yellow")
    parts: list[RenderableType] = [*troubles(view.troubles, now), head]
    for pipeline in view.pipelines:
        parts += [Text(), _pipeline(pipeline, now)]
    if not view.pipelines and not (view.daemon and view.daemon.starting) and not view.troubles:
        parts += [Text(), Text("No pipelines.", style="yellow")]
    if view.problems:
        parts += [Text(), problems(view.problems)]
    return Group(*parts)


def troubles(found: Iterable[TroubleView], now: datetime) -> list[RenderableType]:
    """What is wrong before all else, since when, and what to do."""
    parts: list[RenderableType] = []
    for t in found:
        line = Text("TROUBLE", style="bold red")
        since = f" for {ago(t.since, now).removesuffix(' ago')}, since {_utc(t.since)}" if t.since else ""
        line.append(f"{since}: {clean(t.place)}: {t.kind.value}: {clean(t.because)}", "red")
        parts.append(line)
        if t.hint:
            parts.append(Padding(Text(clean(t.hint), style="dim"), (0, 0, 0, 4)))
    return parts


def _utc(at: str) -> str:
    """`2026-01-01 12:00:03 UTC`."""
    return f"{datetime.fromisoformat(at).astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def summary(view: StatusView, now: datetime) -> RenderableType:
    """How a run ended: per pipeline what is live, what is not as wanted, and why."""
    parts: list[RenderableType] = troubles(view.troubles, now)
    for pipeline in view.pipelines:
        held = [node for node in pipeline.nodes if node.state != "up to date"]
        parts += [Text(), _pipeline(pipeline.model_copy(update={"nodes": held}), now)]
    if view.problems:
        parts += [Text(), problems(view.problems)]
    return Group(*parts)


def plan(view: PlanView, *, everything: bool) -> RenderableType:
    """`ctd plan`: what is to be done, node by node; what is done already in few lines."""
    actions = [d.action for d in view.decisions]
    cut_off = sum(bool(d.cut_off) for d in view.decisions)
    said = {
        "to run": actions.count("run"),
        "up to date": actions.count("reuse") - cut_off,
        "cut off": cut_off,
        "waiting": actions.count("wait"),
        "blocked": actions.count("blocked"),
    }
    head = Text(clean(view.pipeline), style="bold")
    head.append(": " + (", ".join(f"{n} {word}" for word, n in said.items() if n) or "not looked at yet"), "none")
    shown = view.decisions if everything else _without_many_reused(view.decisions)
    rows = [(state_text(_word(d)), _plain(_work(d)), _because(_reason(d), d.hint)) for d in shown]
    return Group(head, *rows_of(rows), *(_alert(alert) for alert in view.alerts), *_beside(view))


def forecast(view: ForecastView) -> RenderableType:
    """`ctd plan --forecast`: all that would be done, in order, with its usual cost, and what would be held up."""
    held = [d.action for d in view.held]
    said = {
        "reused": [d.action for d in view.decisions].count("reuse"),
        "waiting": held.count("wait"),
        "blocked": held.count("blocked"),
    }
    head = Text(clean(view.pipeline), style="bold")
    head.append(": " + ", ".join([in_all(view), *(f"{n} {word}" for word, n in said.items() if n)]), "none")
    rows = [(state_text(_word(d)), _plain(_work(d)), _because(_reason(d), d.hint)) for d in view.held]
    return Group(head, *rows_of(list(map(expected_row, view.forecast))), *rows_of(rows))


def in_all(view: ForecastView) -> str:
    """`18 would run, about 3m of work and 2 never seen before`."""
    if not view.forecast:
        return "nothing would run"
    unknown = sum(e.seconds is None for e in view.forecast)
    cost = f", about {seconds(view.seconds)} of work" if view.seconds else ""
    cost += f" and {unknown} never seen before" if unknown and view.seconds else ""
    return f"{len(view.forecast)} would run{cost}"


def expected_row(e: ExpectedView) -> tuple[Text, ...]:
    """Work, its usual cost, and why."""
    took = seconds(e.seconds) if e.seconds is not None else "?"
    return _plain(place(e.node, e.piece, e.key)), _plain(took), _because(e.because + _unless_same(e), "")


def _beside(view: PlanView | PipelineView) -> Iterator[Text]:
    """What there is to know beside nodes and their work."""
    for b in view.backfills:
        of = " ".join(part for part in (b.node, b.range) if part)
        asked = f"{'again, ' if b.again else ''}{b.order} first, by {b.who}{f': {b.reason}' if b.reason else ''}"
        failed = f", {b.failed} failed" if b.failed else ""
        said = f"  backfill {of} ({asked}): {b.done} of {counted(b.spans, 'span')} done{failed}"
        yield Text(clean(said), style="cyan")
    yield from (Text(f"  {clean(note)}", style="dim") for note in view.notes)


def problems(found: Iterable[ProblemView]) -> RenderableType:
    """Problems of files: place and message on a line, the hint below."""
    parts: list[RenderableType] = []
    for p in found:
        line = Text(f"{clean(p.file)}:{p.line}:{p.column}: ", style="bold")
        line.append("warning: " if p.warning else "error: ", "yellow" if p.warning else "red")
        line.append(clean(p.message), "none")
        parts.append(line)
        if p.hint:
            parts.append(Padding(Text(clean(p.hint), style="dim"), (0, 0, 0, 4)))
    return Group(*parts)


def _daemon(view: DaemonView, now: datetime) -> RenderableType:
    up = ago(view.started, now).removesuffix(" ago")
    memory = f", {view.memory_mb:.0f} MB" if view.memory_mb is not None else ""
    start = "starting" if view.starting else f"start {view.epoch}"
    lines = [Text(f"daemon {view.pid}, up {up}, {start}{memory}", style="dim")]
    lines += [Text(f"{clean(path)}: {clean(why)}", style="yellow") for path, why in view.watching.items()]
    return Group(*lines)


def _pipeline(view: PipelineView, now: datetime) -> RenderableType:
    head = Text.assemble((clean(view.pipeline), "bold"), "  ", state_text(view.state), "  ", (clean(view.file), "dim"))
    parts: list[RenderableType] = [head]
    parts += rows_of(
        [(_plain(n.node), state_text(n.state), _latest(n, now), _because(n.because, n.hint)) for n in view.nodes]
    )
    parts += rows_of([(_plain(t.target), _live(t, now), Text(clean(t.path), style="dim")) for t in view.live])
    if view.problems:
        parts.append(Text("  An edit was refused; the last good version stays in force:", style="red"))
        parts.append(Padding(problems(view.problems), (0, 0, 0, 4)))
    parts += [Text(f"  to do: {clean(suggestion)}", style="yellow") for suggestion in view.suggestions]
    parts += [_alert(alert) for alert in view.alerts]
    parts += [Text(f"  {clean(pause)}", style="yellow") for pause in view.pauses]
    parts += _beside(view)
    parts += [Text(f"  skipped: {clean(stray)}", style="yellow") for stray in view.strays]
    return Group(*parts)


def rows_of(rows: Sequence[tuple[Text, ...]]) -> Iterator[RenderableType]:
    """Rows in columns; a last cell that does not fit beside the others goes below them, at full width."""
    widths = [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]
    for *cells, last in rows:
        head = Text("  ")
        for cell, width in zip(cells, widths, strict=False):
            head.append_text(cell).append(" " * (width - cell.cell_len + 2))
        yield _Row(head, last)


@dataclass(frozen=True)
class _Row:
    """The beginning of a line, and text that follows it or goes below."""

    head: Text
    rest: Text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.head.cell_len + self.rest.cell_len <= options.max_width:
            yield Text.assemble(self.head, self.rest, no_wrap=True)
        else:
            yield self.head
            yield Padding(self.rest, (0, 0, 0, 6))


def _live(view: LiveView, now: datetime) -> Text:
    text = Text()
    if view.version is not None:
        text.append(f"version {view.version}", "bold green" if not view.problem else "bold")
        text.append(f" (model #{view.model})" if view.model is not None else "")
        text.append(f", pushed {ago(view.pushed, now)}" if view.pushed else "", "dim")
        # Of what clients fetch as files, the version was asked before it landed.
        confirmed = "served" if view.kind == "tf_serving" else "verified"
        text.append(f", {confirmed}" if view.verified else "", "green")
    if view.canary:
        text.append(f"; {clean(view.canary)}", "cyan")
    if view.hold:
        text.append(f"; {clean(view.hold)}", "cyan")
    if view.problem:
        text.append("; " if text else "").append(clean(view.problem), "yellow")
    return text


def _latest(node: NodeView, now: datetime) -> Text:
    e = node.latest
    if e is None:
        return Text("-", style="dim")
    text = Text(f"#{e.execution} ", style="none")
    if e.state == "running":
        return text.append(clean(e.progress) or ago(e.started, now).removesuffix(" ago"), "cyan")
    if e.state != "succeeded":
        text.append(f"{e.state} ", LOOKS[e.state].style)
    return text.append(seconds(e.seconds) if e.seconds is not None else "", "dim")


def _because(because: str, hint: str) -> Text:
    text = _plain(because)
    if hint:
        text.append(f"{'' if because.endswith('.') else '.'} {clean(hint)}", "dim")
    return text


def _alert(alert: str) -> Text:
    return Text(f"  alert: {clean(alert)}", style="red")


def _word(d: DecisionView) -> str:
    if d.cut_off:
        return "cut off"
    return "failed" if d.action == "blocked" and d.failed else d.action


def _reason(d: DecisionView) -> str:
    more = f" (and {len(d.cut_off) - 1} more)" if len(d.cut_off) > 1 else ""
    return f"{d.cut_off[0]}{more}; {d.because}" if d.cut_off else d.because


def _unless_same(e: ExpectedView) -> str:
    """That equal results would cut the work off, where they could."""
    same = " and ".join(e.cut_off_if_same)
    return (
        f"; would be cut off if {same} {'make' if len(e.cut_off_if_same) > 1 else 'makes'} the same as before"
        if same
        else ""
    )


def _work(d: DecisionView) -> str:
    return place(d.node, d.piece, d.key)


def place(node: str, piece: str, key: str) -> str:
    """`examples span-42`, `evaluator.verdict spans 36..42 (7)`."""
    rest = key.removeprefix(piece).strip()
    return f"{node}.{piece} {rest}".rstrip() if piece else f"{node} {rest}".rstrip()


def _without_many_reused(decisions: Sequence[DecisionView]) -> list[DecisionView]:
    reused: dict[str, list[DecisionView]] = {}
    for d in decisions:
        if d.action == "reuse":
            reused.setdefault(f"{_word(d)} {d.node}.{d.piece}", []).append(d)
    shown: list[DecisionView] = []
    for d in decisions:
        same = reused.get(f"{_word(d)} {d.node}.{d.piece}", []) if d.action == "reuse" else []
        if len(same) <= _MANY:
            shown.append(d)
        elif d is same[0]:
            text = f"{counted(len(same), 'result')} stay as they are (`--all` lists them)"
            shown.append(d.model_copy(update={"key": "", "because": text}))
    return shown


def _plain(text: str) -> Text:
    return Text(clean(text))
