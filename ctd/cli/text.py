"""Text of users (names of files, messages of their code) made safe to show: nothing in it may drive the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from ctd.core.timing import format_duration


def clean(text: str, *, lines: bool = False) -> str:
    """The text with everything unprintable escaped; with `lines` its line breaks stay."""
    return "".join(c if c.isprintable() or (lines and c == "\n") else _escaped(c) for c in text)


def seconds(number: float) -> str:
    """`8.4s`, `3m20s`."""
    return format_duration(timedelta(seconds=number))


def ago(then: str, now: datetime) -> str:
    """How long an ISO time is past: `3m20s ago`."""
    return f"{format_duration(max(now - datetime.fromisoformat(then), timedelta()))} ago"


def counted(number: int, noun: str) -> str:
    """`1 pipeline`, `2 pipelines`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def ranges(numbers: Sequence[int]) -> str:
    """`1..3, 7`, of numbers in order; `none`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}..{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs) or "none"


def _escaped(character: str) -> str:
    return repr(character)[1:-1]
