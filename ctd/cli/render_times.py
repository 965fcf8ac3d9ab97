"""`ctd explain --time` for people: a table of seconds, and bars side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ctd.api.times import GapView, StepView, TimesView
from ctd.cli.text import clean, counted, seconds

# What the table has columns for; phases that never take long stand in `other`.
_COLUMNS = ("waiting", "starting", "importing", "reading", "computing", "writing", "publishing")
_BEFORE = ("down", "noticing", "settling", "held up")
_ARRIVING = ("noticing", "settling")
_TOLD = (*_ARRIVING, "slot")  # gaps that have a column
_NOTABLE = 0.1  # seconds: a gap that is shorter is not worth a line
_SHOWN = 12  # steps beside the path
_BARS = {True: "█", False: "▒"}


def times(view: TimesView) -> RenderableType:
    """Everything: what it is about, the table, the bars, what would make it shorter."""
    head = Text.assemble(
        (clean(view.pipeline), "bold"),
        f": {seconds(view.seconds)} from {_beginning(view)} to the end of execution {view.execution}",
        f", {clean(view.result)}" if view.result else "",
    )
    shown, left = _shown(view.steps)
    parts: list[RenderableType] = [head, Text(f"set off by: {clean(view.set_off)}", "dim"), Text(), _table(shown)]
    if left:
        parts.append(Text(f"  and {counted(left, 'execution')} beside the path (all are in --json)", style="dim"))
    parts += [Text(), _Bars(shown, view.seconds), *_held_up(view.steps)]
    parts += [Text(), Text("What would make it shorter", style="bold")]
    parts += [Padding(Text(clean(said)), (0, 0, 0, 2)) for said in view.shorter or ["nothing took half a second"]]
    return Group(*parts)


def _held_up(steps: Sequence[StepView]) -> list[RenderableType]:
    """Why nothing was done for a while, each stretch with its reason."""
    found = [(step, gap) for step in steps for gap in _gaps(step)]
    if not found:
        return []
    lines = [f"{seconds(gap.seconds)} before {_name(step)}: {gap.said}" for step, gap in found]
    return [Text(), Text("Nothing was done for", style="bold"), *(Padding(Text(clean(s)), (0, 0, 0, 2)) for s in lines)]


def _beginning(view: TimesView) -> str:
    first = next((step for step in view.steps if step.critical), None)
    of_span = first is not None and any(name in first.phases for name in _BEFORE)
    return f"the arrival of {clean(first.key)}" if first and of_span else "the start"


def _shown(steps: Sequence[StepView]) -> tuple[list[StepView], int]:
    """The path, and the longest of what ran beside it; how many more there are."""
    beside = sorted((s for s in steps if not s.critical), key=lambda s: s.end - s.start, reverse=True)
    kept = {s.execution for s in beside[:_SHOWN]}
    return [s for s in steps if s.critical or s.execution in kept], max(0, len(beside) - _SHOWN)


def _table(steps: Sequence[StepView]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("")
    table.add_column("from", justify="right")
    table.add_column("took", justify="right")
    columns = [name for name in (*_ARRIVING, *_COLUMNS) if any(step.phases.get(name, 0) >= 0.01 for step in steps)]
    for name in (*columns, "other", "to spare"):
        table.add_column(name, justify="right")
    for step in steps:
        for gap in _gaps(step):
            table.add_row(
                Text(f"  {clean(gap.kind)}", style="yellow"),
                f"{gap.start:.2f}",
                f"{gap.seconds:.2f}",
                *("" for _ in columns),
            )
        inside = sum(s for name, s in step.phases.items() if name not in (*_BEFORE, "waiting"))
        other = sum(s for name, s in step.phases.items() if name not in (*_BEFORE, *_COLUMNS))
        other += max(0.0, step.end - step.start - inside)
        table.add_row(
            Text(clean(_name(step)), style="bold" if step.critical else "dim"),
            f"{step.start:.2f}",
            f"{step.end - step.start:.2f}",
            *(_cell(step.phases, name) for name in columns),
            f"{other:.2f}" if other >= 0.01 else "",
            Text("on the path", "bold") if step.critical else f"{step.slack:.2f}",
        )
    return table


def _gaps(step: StepView) -> list[GapView]:
    """What held a step of the path up and is told by no column."""
    return [gap for gap in step.gaps if gap.kind not in _TOLD and gap.seconds >= _NOTABLE]


def _cell(phases: Mapping[str, float], name: str) -> str:
    return f"{phases[name]:.2f}" if phases.get(name, 0) >= 0.01 else ""


def _name(step: StepView) -> str:
    name = f"{step.node}.{step.piece}" if step.piece else step.node
    return name if step.state == "succeeded" else f"{name} ({step.state})"


class _Bars:
    """A bar for each step as wide as there is room: dots while nothing was done, filled on the path, shaded beside."""

    def __init__(self, steps: Sequence[StepView], whole: float) -> None:
        self._steps = steps
        self._whole = max(whole, 0.001)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        names = [clean(_name(step)) for step in self._steps]
        margin = max(map(len, names), default=0) + 1
        width = max(10, min(options.max_width, 120) - margin - 1)
        for name, step in zip(names, self._steps, strict=True):
            ready, begin, end = (self._column(at, width) for at in (step.ready, step.start, step.end))
            gap = min((self._column(g.start, width) for g in step.gaps), default=ready)
            bar = " " * min(gap, ready) + "·" * (begin - min(gap, ready)) + _BARS[step.critical] * max(1, end - begin)
            yield Text(f"{name:<{margin}}{bar[:width]}", style="bold" if step.critical else "dim", no_wrap=True)
        yield Text(" " * margin + f"0{seconds(self._whole):>{width - 1}}", style="dim", no_wrap=True)

    def _column(self, at: float, width: int) -> int:
        return min(width - 1, max(0, int(at / self._whole * width)))
