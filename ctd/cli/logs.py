"""`ctd logs`: what an execution wrote, as it writes it."""

from __future__ import annotations

import sys
import time
from collections import deque
from pathlib import Path
from typing import BinaryIO

import click

from ctd.api.models import ExecutionView
from ctd.cli.answers import Answers, answers
from ctd.cli.options import folders
from ctd.cli.text import clean
from ctd.core.errors import NotFound
from ctd.specs.settings import Settings

_EVERY = 0.3  # seconds between looks at a growing file
_ASK = 1.0  # seconds between questions whether the execution goes on


@click.command()
@click.argument("what", nargs=-1, required=True, metavar="PIPELINE NODE | EXECUTION")
@folders
@click.option("-f", "--follow", is_flag=True, help="Go on until the execution has ended.")
@click.option("-n", "--lines", type=click.IntRange(min=0), help="Only the last LINES lines.")
def logs(settings: Settings, what: tuple[str, ...], follow: bool, lines: int | None) -> int:
    """The log of an EXECUTION (its number), or of the latest execution of a NODE of PIPELINE.

    It has what the component and the user's code printed and logged, tracebacks too. Characters that would drive
    the terminal are escaped; with the output in a file or pipe, bytes are passed on as they are.
    """
    with answers(settings) as source:
        view = _wanted(source, what)
        path = Path(view.log)
        if not path.exists() and not (follow and view.state == "running"):
            raise NotFound(f"execution {view.execution} left no log at {path}", hint="It may have been cleaned up.")
        if path.exists():
            with path.open("rb") as file:
                _print_last(file, lines)
                if follow:
                    _follow(file, source, view)
    return 0


def _wanted(source: Answers, what: tuple[str, ...]) -> ExecutionView:
    match what:
        case (number,) if number.isdecimal():
            return source.execution(int(number))
        case (pipeline, node):
            executions = source.explain(pipeline, node).executions
            if not executions:
                hint = f"`ctd explain {pipeline} {node}` says why."
                raise NotFound(f"{pipeline}/{node} has not run yet", hint=hint)
            return executions[-1]
    raise click.UsageError("name a pipeline and a node, or the number of an execution")


def _print_last(file: BinaryIO, lines: int | None) -> None:
    for line in file if lines is None else deque(file, maxlen=lines):
        _print(line)
    sys.stdout.flush()


def _follow(file: BinaryIO, source: Answers, view: ExecutionView) -> None:
    """Print what is added until the execution has ended and all of it was read."""
    running, asked = view.state == "running", time.monotonic()
    while True:
        while line := file.readline():
            _print(line)
        sys.stdout.flush()
        if not running:
            return
        time.sleep(_EVERY)
        if time.monotonic() - asked >= _ASK:
            running, asked = source.execution(view.execution).state == "running", time.monotonic()


def _print(line: bytes) -> None:
    if sys.stdout.isatty():
        sys.stdout.write(clean(line.decode(errors="backslashreplace").expandtabs().replace("\r", "\n"), lines=True))
    else:
        sys.stdout.buffer.write(line)
