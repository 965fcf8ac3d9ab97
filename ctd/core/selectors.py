"""How a node chooses among what its source makes. The planner knows these and never component kinds."""

from __future__ import annotations

from dataclasses import dataclass

from ctd.core.artifacts import ArtifactType
from ctd.core.calendars import SpanRef


@dataclass(frozen=True)
class EachSpan:
    """Once per span, newest first."""

    def __str__(self) -> str:
        return "each span"


@dataclass(frozen=True)
class Newest:
    """The newest `count` accepted spans; waits until there are at least `least`.

    `consecutive` waits too while a number between the oldest and the newest of them has not arrived.
    """

    count: int
    least: int = 1
    consecutive: bool = False

    def __str__(self) -> str:
        return f"newest {self.count}"


@dataclass(frozen=True)
class AllSpans:
    """Every accepted span."""

    least: int = 1
    consecutive: bool = False

    def __str__(self) -> str:
        return "all spans"


@dataclass(frozen=True)
class Between:
    """The accepted spans from `first` to `last`, both included; no limit on a side that is None.

    `written` is how a spec says them; they have their numbers once it is known whose spans are meant.
    """

    first: int | None
    last: int | None
    least: int = 1
    consecutive: bool = False
    written: tuple[SpanRef | None, SpanRef | None] = (None, None)

    def __str__(self) -> str:
        return f"spans {'' if self.first is None else self.first}..{'' if self.last is None else self.last}"


@dataclass(frozen=True)
class Pinned:
    """Exactly these spans; waits until all of them are there and accepted. `written` is as with `Between`."""

    spans: tuple[int, ...]
    written: tuple[SpanRef, ...] = ()

    def __str__(self) -> str:
        return f"pinned {', '.join(map(str, self.spans))}"


@dataclass(frozen=True)
class AnyOf:
    """Every accepted span that one of several windows would take; waits for none that is not there."""

    windows: tuple[Newest | AllSpans | Between | Pinned, ...]

    def __str__(self) -> str:
        return " and ".join(map(str, self.windows))


Window = Newest | AllSpans | Between | Pinned | AnyOf


@dataclass(frozen=True)
class Downstream:
    """The spans that windows downstream take, of all that is made of the result. Wiring puts a window in its place."""

    def __str__(self) -> str:
        return "spans of the windows downstream"


@dataclass(frozen=True)
class Latest:
    """All that the source's current execution made; of a source that runs per span, the newest accepted span's."""

    def __str__(self) -> str:
        return "latest"


@dataclass(frozen=True)
class PreviousSpan:
    """For a node that runs once per span: what the source made for the newest good span before it, if any."""

    def __str__(self) -> str:
        return "previous span"


@dataclass(frozen=True)
class Alongside:
    """For a node that runs once per span: what another source made for the accepted span of the same number.

    Until there is such a span it is the newest before it, and nothing if there is none of these either. The source
    is another one than that of the node's input `beside`: data is not compared with itself.
    """

    beside: str

    def __str__(self) -> str:
        return "same span, or the newest before it"


@dataclass(frozen=True)
class LatestBlessed:
    """The newest model that is blessed, and older than the node's own `model` input if it has one.

    History, not content: it never makes a node run again, or every blessing would cause the next training.
    """

    def __str__(self) -> str:
        return "latest blessed"


@dataclass(frozen=True)
class LastMade:
    """What the source's newest successful execution made, whatever it was made of; nothing if that is gone.

    History, not content, as the latest blessed model: a piece may take what it made itself the time before.
    """

    def __str__(self) -> str:
        return "last made"


LooksBack = LatestBlessed | LastMade

Selector = EachSpan | Window | Downstream | Latest | PreviousSpan | Alongside | LooksBack


@dataclass(frozen=True)
class Take:
    """One input of a piece of work.

    `prefer` names the output to take where several nodes make the type. `triggers` says whether other content
    means other work; `must_be_blessed` holds the node back until the artifact taken says yes. `of_model` holds it back
    until what is taken is about the very model that the piece takes. `if_clear` leaves an optional input out where
    several nodes make the type, instead of asking which; `every` takes all of them that are about that model.
    `from_outside` takes by type only what a node brings in from outside, and not what is made in the pipeline. `part`
    names the property with the digest of the part that counts as content, where it is not the whole; while it is empty,
    the work is what it would be without the input.
    `holds_for`: what is made of it holds for its spans, so that windows downstream take no others beside it.
    """

    type: ArtifactType
    select: Selector
    prefer: str = ""
    optional: bool = False
    triggers: bool = True
    must_be_blessed: bool = False
    of_model: bool = False
    if_clear: bool = False
    every: bool = False
    from_outside: bool = False
    part: str = ""
    holds_for: bool = False
