"""A piece of work in its place in a pipeline, and where its inputs come from. `wiring` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ctd.core.calendars import NUMBERS, Calendar
from ctd.core.selectors import EachSpan
from ctd.specs.base import Piece


@dataclass(frozen=True)
class Source:
    """Where an input comes from: an output of a piece of a node."""

    node: str
    piece: str
    output: str


Gates = Mapping[str, tuple[tuple[str, str], ...]]
"""By input, the pieces whose verdicts on spans are heeded."""


@dataclass(frozen=True)
class WiredPiece:
    """A piece of work in its place: every input that is wired, with its source."""

    node: str
    piece: Piece
    sources: Mapping[str, Source]
    per_span: bool  # runs once per span
    root: str | None  # the node whose spans it runs for, or whose spans reach it
    module: str | None
    gates: Gates  # pieces whose verdicts on spans it heeds, by input
    calendar: Calendar = NUMBERS  # how the spans of its root are numbered
    calendars: Mapping[str, Calendar] = field(default_factory=dict)  # and those that reach each input

    @cached_property
    def id(self) -> tuple[str, str]:
        return self.node, self.piece.name

    def calendar_of(self, key: str) -> Calendar:
        """How the spans are numbered that reach an input."""
        return self.calendars.get(key, self.calendar)

    @cached_property
    def fan(self) -> str:
        """The input that it takes span by span; empty if there is none."""
        return next(
            (k for k, t in self.piece.takes.items() if isinstance(t.select, EachSpan) and k in self.sources), ""
        )
