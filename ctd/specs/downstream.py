"""Which spans a schema is inferred from where nobody says so: those of the windows that it is to hold for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctd.core.calendars import Calendar
from ctd.core.selectors import (
    AllSpans,
    AnyOf,
    Between,
    Downstream,
    Latest,
    LooksBack,
    Newest,
    Pinned,
    Selector,
    Window,
)
from ctd.specs.base import Piece
from ctd.specs.document import Document
from ctd.specs.problems import Problem
from ctd.specs.windows import WindowedNode
from ctd.specs.wired import Source, WiredPiece

if TYPE_CHECKING:
    from ctd.specs.pipeline import PipelineSpec

_UNSEEN = (
    "What it was not inferred from may not be as it says: a blank cell is enough. Take `window` out: a schema is then "
    "inferred from all spans that are taken downstream."
)

Place = tuple[str, str]


@dataclass(frozen=True)
class Wires:
    """Pieces, where each takes its inputs, which validators it heeds, and whose spans those read that run per span."""

    pieces: Mapping[Place, Piece]
    sources: Mapping[Place, Mapping[str, Source]]
    gates: Mapping[Place, Mapping[str, Sequence[Place]]]
    reader: Callable[[Place], Place | None]

    def windows_below(self, place: Place, key: str) -> Iterator[tuple[Place, str, Window]]:
        """The windows of all that is made of what a piece makes, over the spans that reach an input of the piece.

        Whoever takes what was made of a window, as a trainer does what Transform made, takes no spans but these.
        """
        source = self.sources[place].get(key)
        root = self.reader((source.node, source.piece)) if source else None
        for taker in self._below(place) if root else ():
            for k in self.sources[taker]:
                yield from ((taker, k, window) for window in self._windows(taker, k, root, frozenset()))

    def _below(self, start: Place) -> Iterator[Place]:
        """All pieces that need what a piece makes, directly or not: a validator's verdict too, if that is made of it.

        Looking back at what was made is no need.
        """
        needs = {place: set(self._needs(place)) for place in self.sources}
        found, new = {start}, {start}
        while new:
            new = {place for place, above in needs.items() if above & new} - found
            found |= new
        return (place for place in self.sources if place in found and place != start)

    def _needs(self, place: Place) -> Iterator[Place]:
        takes = self.pieces[place].takes
        for key, source in self.sources[place].items():
            if not isinstance(takes[key].select, LooksBack):
                yield source.node, source.piece
        for gates in self.gates[place].values():
            yield from gates

    def _windows(self, place: Place, key: str, root: Place | None, seen: frozenset[Place]) -> Iterator[Window]:
        """Those by which an input has its spans: its own, or those of whoever made it of a window."""
        take, source = self.pieces[place].takes[key], self.sources[place][key]
        above = source.node, source.piece
        if not take.type.spanned or isinstance(take.select, LooksBack):
            return
        reader = self.reader(above)
        if reader is None:
            for k in self.sources[above] if above not in seen else ():
                yield from self._windows(above, k, root, seen | {above})
        elif reader == root and isinstance(take.select, Latest):
            yield Newest(1)
        elif reader == root and isinstance(take.select, Window):
            yield take.select


def joined(windows: Iterable[Window]) -> Window:
    """One window that takes what any of these takes; the newest span if there are none."""
    newest, pinned, ranges = 0, set[int](), dict[Between, None]()
    for window in windows:
        match window:
            case AllSpans():
                return AllSpans()
            case Newest():
                newest = max(newest, window.count)
            case Pinned():
                pinned |= {*window.spans}
            case Between():
                ranges[Between(window.first, window.last)] = None
            case AnyOf():
                raise TypeError(f"{window} is no window of a node")
    parts: list[Newest | Between | Pinned] = [*([Newest(newest)] if newest else []), *ranges]
    if pinned:  # which are not waited for: one may be wanted by another node than one that is there
        return AnyOf((*parts, Pinned(tuple(sorted(pinned)))))
    return AnyOf(tuple(parts)) if len(parts) > 1 else parts[0] if parts else Newest(1)


def smaller_windows(pipeline: PipelineSpec, document: Document) -> Iterator[Problem]:
    """Warnings: a schema is inferred from fewer spans than it is to hold for, because its own window says so."""
    work = {wired.id: wired for wired in pipeline.work}
    readers = {wired.node: wired.id for wired in pipeline.work if wired.node in pipeline.inputs}
    wires = Wires(
        {id_: wired.piece for id_, wired in work.items()},
        {id_: wired.sources for id_, wired in work.items()},
        {id_: wired.gates for id_, wired in work.items()},
        lambda id_: readers.get(work[id_].root or "") if work[id_].per_span else None,
    )
    for name, node in pipeline.nodes.items():
        if not isinstance(node, WindowedNode) or node.window is None:
            continue
        for piece in node.model_copy(update={"window": None}).pieces():
            wired = work[name, piece.name]
            for key in (k for k, take in piece.takes.items() if isinstance(take.select, Downstream)):
                own, calendar = wired.piece.takes[key].select, wired.calendar_of(key)
                for taker, k, window in wires.windows_below(wired.id, key):
                    if not covers(own, window) and not (_stays(own) and _checked(work[taker], k, wired, work)):
                        message = f"the schema is inferred from {_said(own, calendar)}, and {taker[0]} takes"
                        yield document.problem(
                            ("nodes", name, "window"), f"{message} {_said(window, calendar)}", _UNSEEN, warning=True
                        )
                        break


def covers(own: Selector, other: Window) -> bool:
    """Whether a window has all spans that another one can have."""
    match own, other:
        case AllSpans(), _:
            return True
        case Newest(), Newest():
            return own.count >= other.count
        case Between(), Between():
            early = own.first is None or (other.first is not None and other.first >= own.first)
            late = own.last is None or (other.last is not None and other.last <= own.last)
            return early and late
        case Between(), Newest():
            return own.first is None and own.last is None
        case Between(), Pinned():
            return all((own.first or n) <= n <= (n if own.last is None else own.last) for n in other.spans)
        case Pinned(), Pinned():
            return {*other.spans} <= {*own.spans}
        case _:
            return False


def _stays(select: Selector) -> bool:
    """Whether a window stays where it is while newer spans come."""
    return isinstance(select, Pinned) or (isinstance(select, Between) and select.last is not None)


def _checked(taker: WiredPiece, key: str, schema: WiredPiece, work: Mapping[Place, WiredPiece]) -> bool:
    """Whether a validator keeps out of a window what is not as this schema says."""
    gates = (work[gate] for gate in taker.gates.get(key, ()))
    return any(
        gate.piece.gate != "warn" and any((s.node, s.piece) == schema.id for s in gate.sources.values())
        for gate in gates
    )


def _said(select: Selector, calendar: Calendar) -> str:
    match select:
        case Newest():
            return f"the newest {select.count} spans" if select.count > 1 else "the newest span"
        case Pinned():
            return f"{'spans' if len(select.spans) > 1 else 'span'} {calendar.said(select.spans)}"
        case Between():
            first, last = (calendar.say(n) if n is not None else "" for n in (select.first, select.last))
            return f"spans {first}..{last}"
        case _:
            return str(select)
