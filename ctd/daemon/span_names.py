"""Spans as people write them in commands, held against the inputs of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping

from ctd.core.calendars import NUMBERS, Calendar, NotASpan, SpanRef, span_ref
from ctd.core.errors import NotFound


def span_among(calendars: Mapping[str, Calendar], said: str, pipeline: str) -> tuple[int, str, frozenset[str] | None]:
    """The one span that someone means, its name, and the inputs that have such spans (none: any). Raises NotFound."""
    ref = written(said)
    found = {node: _one(calendar, ref) for node, calendar in calendars.items()}
    numbers = {node: number for node, number in found.items() if isinstance(number, int)}
    wrong = next((error for error in found.values() if isinstance(error, NotASpan)), None)
    if not numbers and wrong:
        raise NotFound(f"{pipeline}: {wrong}", hint=wrong.hint)
    mine = next(iter(numbers), "")
    number, calendar = numbers.get(mine, ref.number), calendars.get(mine, NUMBERS)
    same_kind = len({c.unit for c in calendars.values()}) < 2
    return number, calendar.say(number), None if same_kind else frozenset(n for n in numbers if numbers[n] == number)


def _one(calendar: Calendar, ref: SpanRef) -> int | NotASpan:
    try:
        return calendar.one(ref)
    except NotASpan as error:
        return error


def span_range(calendars: Mapping[str, Calendar], first: SpanRef, last: SpanRef, pipeline: str) -> tuple[int, int]:
    """The first and the last span of a range: of two days, from the first hour to the last. Raises NotFound."""
    if len({calendar.unit for calendar in calendars.values()}) > 1:
        kinds = ", ".join(f"{node}: {calendar.kind}" for node, calendar in calendars.items())
        hint = f"Name the input with --node ({kinds})."
        raise NotFound(f"the inputs of {pipeline} have spans of several kinds", hint=hint)
    calendar = next(iter(calendars.values()), NUMBERS)
    try:
        found = calendar.range(first)[0], calendar.range(last)[1]
    except NotASpan as error:
        raise NotFound(f"{pipeline}: {error}", hint=error.hint) from error
    if found[0] > found[1]:
        raise NotFound(f"the range ends at {last.text}, before it begins at {first.text}", hint="Swap them.")
    return found


def written(said: str) -> SpanRef:
    """What someone wrote. Raises NotFound."""
    try:
        return span_ref(said)
    except NotASpan as error:
        raise NotFound(str(error), hint=error.hint) from error
