"""Whose spans a piece of work takes, and so which numbers its windows mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from ctd.core.calendars import Calendar, Unit
from ctd.core.selectors import AllSpans, Alongside, Between, EachSpan, LooksBack, Newest, Take
from ctd.specs.base import Complaint, Piece
from ctd.specs.windows import resolved

Place = tuple[str, str]


def root_of(start: Place, above: Mapping[Place, Mapping[str, Place]], pieces: Mapping[Place, Piece]) -> Iterator[Place]:
    """The pieces that a piece goes back to, nearest first: along what it takes span by span, if there is that.

    `above` has the source of each input of each piece.
    """
    left, seen = [start], {start}
    while left:
        place = left.pop()
        yield place
        takes = pieces[place].takes
        found = {key: p for key, p in above[place].items() if not isinstance(takes[key].select, LooksBack)}
        each = [p for key, p in found.items() if isinstance(takes[key].select, EachSpan)]
        next_ = [p for p in each or found.values() if p not in seen]
        seen.update(next_)
        left += reversed(next_)  # the first one is the next


def in_numbers(piece: Piece, calendars: Mapping[str, Calendar]) -> Piece:
    """The piece with windows in the numbers of the spans that they choose from. Raises Complaint."""
    takes = {
        key: replace(take, select=resolved(take.select, calendars[key])) if key in calendars else take
        for key, take in piece.takes.items()
    }
    return replace(piece, takes=takes)


def about_calendars(name: str, piece: Piece, calendars: Mapping[str, Calendar]) -> Iterator[Complaint]:
    """What cannot be counted: gaps between minutes of which nobody knows when they come, spans of two kinds."""
    for key, calendar in calendars.items():
        take = piece.takes[key]
        if calendar.unit is Unit.MINUTE and calendar.step is None and _consecutive(take):
            message = f"nodes.{name} waits for gaps (on_gap), but nothing says which minutes have spans"
            hint = "Write for instance `every: 15m` at the example_gen, or `on_gap: skip`."
            yield Complaint(message, hint, (name, "on_gap"))
        beside = take.select.beside if isinstance(take.select, Alongside) else ""
        other = calendars.get(beside)
        if other and other.unit is not calendar.unit:
            message = f"`{key}` of {name}: its spans are {calendar.kind}, and those of `{beside}` {other.kind}"
            yield Complaint(message, "Compare inputs whose spans have the same numbers.", (name,))


def _consecutive(take: Take) -> bool:
    return isinstance(take.select, Newest | AllSpans | Between) and take.select.consecutive
