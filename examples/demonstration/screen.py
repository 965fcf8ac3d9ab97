"""What the demo shows: rules, colours and a live table on a terminal; plain lines of ASCII anywhere else."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from demonstration.seen import Run, Seen

WIDTH = 78


class Screen(Protocol):
    """The few ways in which the demo speaks."""

    def act(self, number: int, title: str) -> None: ...
    def say(self, text: str) -> None: ...
    def command(self, text: str) -> None: ...
    def lines(self, lines: Sequence[str]) -> None: ...
    def quote(self, node: str, text: str) -> None: ...
    def proved(self, text: str) -> None: ...
    def wrong(self, text: str) -> None: ...
    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None: ...

    @contextmanager
    def runs(self, seen: Seen, after: int) -> Iterator[None]:
        """Show the executions with a number above `after` as they go; the block calls `seen.look()` meanwhile."""
        ...


def screen() -> Screen:
    """The screen for this standard output."""
    dumb = os.environ.get("TERM", "") in ("", "dumb") or "NO_COLOR" in os.environ
    utf = (sys.stdout.encoding or "").lower().startswith("utf")
    return RichScreen() if sys.stdout.isatty() and utf and not dumb else PlainScreen()


class PlainScreen:
    """Lines that read well in a file."""

    def act(self, number: int, title: str) -> None:
        self._print(f"\n== {number}. {title} " + "=" * max(0, WIDTH - 7 - len(title)))

    def say(self, text: str) -> None:
        self._print(textwrap.fill(text, WIDTH))

    def command(self, text: str) -> None:
        self._print(f"$ {text}")

    def lines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._print(f"  {line}")

    def quote(self, node: str, text: str) -> None:
        """Nothing: the line on the node's end has said it in full."""

    def proved(self, text: str) -> None:
        self._print(textwrap.fill(f"[ok] {text}", WIDTH, subsequent_indent="     "))

    def wrong(self, text: str) -> None:
        self._print(f"[failed] {text}")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
        for row in (header, ["-" * width for width in widths], *rows):
            first, *rest = zip(row, widths, strict=True)
            cells = (first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest))
            self._print("  " + "  ".join(cells).rstrip())

    @contextmanager
    def runs(self, seen: Seen, after: int) -> Iterator[None]:
        began = time.time()

        def show(run: Run) -> None:
            at = f"  +{max(0.0, (run.ended or run.started) - began):5.1f} s  {run.work}"
            if run.ended is None:
                self._print(f"{at}: {run.because}")
            else:
                result = f": {run.result}" if run.result else ""
                self._print(f"{at} {run.state} in {run.seconds:.1f} s{result}")

        seen.on_change = lambda run: show(run) if run.number > after else None
        try:
            yield
            seen.look()
        finally:
            seen.on_change = None

    def _print(self, text: str) -> None:
        print(text.encode("ascii", "backslashreplace").decode(), flush=True)


class RichScreen:
    """Colours, rules and a table that lives while things run."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, emoji=False)

    def act(self, number: int, title: str) -> None:
        self._console.print()
        self._console.rule(Text(f"{number} · {title}", "bold"), align="left", style="cyan")

    def say(self, text: str) -> None:
        self._console.print(Text(text), width=min(self._console.width, 100))

    def command(self, text: str) -> None:
        self._console.print(Text.assemble(("$ ", "green"), (text, "bold")), soft_wrap=True)

    def lines(self, lines: Sequence[str]) -> None:
        for line in lines:
            style = {"-": "red", "+": "green"}.get(line[:1], "none")
            self._console.print(Text("  " + line, style), soft_wrap=True)

    def quote(self, node: str, text: str) -> None:
        """What a node said, in full: the live table has room for its beginning only."""
        row = Table.grid(padding=(0, 1))
        row.add_row(Text(f"{node}:", "cyan"), Text(text, "dim"))
        self._console.print(row)

    def proved(self, text: str) -> None:
        row = Table.grid(padding=(0, 1))
        row.add_row(Text("✓", "bold green"), Text(text))
        self._console.print(row)

    def wrong(self, text: str) -> None:
        self._console.print(Text("✗ " + text, "bold red"))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
        for i, title in enumerate(header):
            table.add_column(title, justify="left" if i == 0 else "right")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self._console.print(table)

    @contextmanager
    def runs(self, seen: Seen, after: int) -> Iterator[None]:
        spinner = Spinner("dots", style="cyan")

        def shown() -> Group:
            runs = [run for run in seen.runs.values() if run.number > after]
            rows = Table.grid(padding=(0, 1), expand=True)
            rows.add_column(width=1, min_width=1)
            rows.add_column(no_wrap=True, min_width=max((len(run.work) for run in runs), default=0))
            rows.add_column(justify="right", no_wrap=True, min_width=7)
            rows.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
            for run in runs:
                mark, style = {"succeeded": ("✓", "green"), "running": ("", "")}.get(run.state, ("✗", "red"))
                told = run.result or run.because if run.ended else run.progress or run.because
                took = Text(f"{run.seconds:.1f} s", "dim" if run.ended else "cyan")
                rows.add_row(Text(mark, style) if mark else spinner, Text(run.work), took, Text(told, "dim"))
            return Group(rows) if runs else Group(spinner)

        with Live(get_renderable=shown, console=self._console, refresh_per_second=8):
            yield
            seen.look()
