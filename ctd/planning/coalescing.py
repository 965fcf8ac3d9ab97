"""How long data that is ready waits for more that is on its way (decision 023).

Several spans that arrive together are worked on once: a node waits for those that are on their way. But no longer than
its own last run took, of two the shorter: after that it works on what is ready, so that data that never stops coming
starves nobody.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import replace
from datetime import datetime, timedelta

from ctd.core.artifacts import Artifact
from ctd.core.executions import Execution, State
from ctd.core.selectors import EachSpan, Latest, LooksBack, Take, Window
from ctd.planning.decided import Held, Taken, outputs_of
from ctd.planning.decisions import Decision, Run, Subject, Wait
from ctd.planning.resolve import Inputs, gather, of_made
from ctd.planning.results import ABOUT_MODELS, Results
from ctd.planning.windows import ON_ITS_WAY, wants
from ctd.specs.base import NodeSpec
from ctd.specs.timing import TimedNode
from ctd.specs.wired import WiredPiece

_LEAST = timedelta(seconds=10)
_FIRST = timedelta(minutes=1)
"""The patience of a node that never ran. What was there before the daemon is waited for in any case: it has an end."""

_ANY = 0  # for pieces that do not run per span


class Coalescing:
    """What the nodes of one pipeline can work on before everything is there, and from when on they do."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._resolver = results.resolver
        self._world = results.resolver.world
        self._history = results.resolver.world.history

    def inputs(self, wired: WiredPiece, span: int | None) -> Inputs | None:
        """What is ready of all inputs, taken from one state of the pipeline; None if something lacks altogether."""
        if span is not None and self._has_result(wired, span):
            return None
        stays: list[Execution] = []
        found = gather(wired, lambda key: self._take(wired, key, span, stays, {}))
        only = self._held_for(stays)
        if span is not None and self._to_be_seen(wired, span, stays, only):
            return None
        if only and span is None:
            found = gather(wired, lambda key: self._take(wired, key, span, [], only))
        if isinstance(found, Held):
            return None
        together = {key: made for key in found.artifacts if (made := self._together(wired, key, stays))}
        return replace(found, artifacts={**found.artifacts, **together})

    def _has_result(self, wired: WiredPiece, span: int) -> bool:
        """Whether something was made of the span as it is: windows take that until it is made anew."""
        source = wired.sources[wired.fan]
        above = self._resolver.decided.by_span[source.node, source.piece][span]
        taken = tuple(a.id for a in outputs_of(above).get(source.output, ()))
        tried = self._history.of_key(self._resolver.pipeline, *wired.id, above.subject.key)
        return any(e.state is State.SUCCEEDED and e.inputs.get(wired.fan) == taken for e in tried)

    def in_time(self, node: NodeSpec, wired: WiredPiece, run: Run, span: int | None) -> datetime | None:
        """When the run may begin although more is on its way; now or in the past for at once, None for never."""
        history, s = self._history, run.subject
        if span is None:
            last = history.latest(self._resolver.pipeline, s.node, s.piece)
        else:
            last = next(reversed(history.of_key(self._resolver.pipeline, s.node, s.piece, s.key)), None)
        if last is not None and last.fingerprint == run.fingerprint:  # a further attempt, or a lost result made again
            return self._from(last.ended or last.started, node, s)
        fresh = any(last is None or _since(self._history.maker(a.id), last) for a in self._triggering(wired, run))
        if not fresh:
            return None  # all of it was there the last time: it would only leave something out
        ready = self._ready_since(wired, run, last, span)
        return self._from(ready, node, s) if ready else self._world.now

    def _from(self, ready: datetime, node: NodeSpec, s: Subject) -> datetime:
        """The end of the node's patience. A clock that was set back since must hold nothing up."""
        return ready + self._patience(node, s) if ready <= self._world.now else self._world.now

    def _held_for(self, stays: Iterable[Execution]) -> Mapping[str, Set[int]]:
        """By the node that reads them, the only spans that older results may be used with which hold for those alone.

        A schema that has not seen a span yet may ask for what this has not: it is soon inferred anew.
        """
        found: dict[str, Set[int]] = {}
        for e, key, _ in self._holding(stays):
            spans = {number for number, _ in e.ingredients["inputs"].get(key, ())}
            root = self._resolver.root_of(self._resolver.work[e.node, e.piece].sources[key])
            found[root] = found.get(root, spans) & spans
        return found

    def _to_be_seen(
        self, wired: WiredPiece, span: int, stays: Iterable[Execution], seen: Mapping[str, Set[int]]
    ) -> bool:
        """Whether a span is to be judged by what is soon inferred from it too: a schema that has a window around it."""
        there = seen.get(wired.root or "")
        if there is None or span in there:
            return False
        newer = sum(number > span for number in there)
        selects = (take.select for _, _, take in self._holding(stays))
        return any(wants(select, span, newer) for select in selects if isinstance(select, Window))

    def _holding(self, stays: Iterable[Execution]) -> Iterator[tuple[Execution, str, Take]]:
        """What older results rest on that holds for its spans, with the input that has these."""
        for e in (e for made in stays for e in self._ancestors(made)):
            wired = self._resolver.work.get((e.node, e.piece))
            for key, take in wired.piece.takes.items() if wired else ():
                if take.holds_for:
                    yield e, key, take

    def _take(
        self,
        wired: WiredPiece,
        key: str,
        span: int | None,
        stays: list[Execution],
        only: Mapping[str, Set[int]],
    ) -> Taken | Held:
        """An input as it is to be; or, if it is not there yet, as it is ready. `stays`: what this rests on."""
        take, source = wired.piece.takes[key], wired.sources[key]
        number = _ANY if span is None else span
        taken = (replace(self._resolver, only=only) if only else self._resolver).take(wired, key, number)
        if isinstance(taken, Taken) or taken.refused or take.type in ABOUT_MODELS:
            return taken
        if isinstance(take.select, EachSpan):
            return taken
        if (source.node, source.piece) in self._resolver.decided.by_span:
            return self._but_backlog(wired, key, self._results.ready(wired, key, number, only))
        made = next(self._results.of(source), None)
        if made is None:
            return taken
        stays.append(made)
        ready = Taken(made.output(source.output))
        return of_made(take.select, ready, wired.calendar_of(key)) if isinstance(take.select, Window) else ready

    def _but_backlog(self, wired: WiredPiece, key: str, taken: Taken | Held) -> Taken | Held:
        """A node that never ran waits for all spans that were there when the daemon came."""
        if self._history.latest(self._resolver.pipeline, *wired.id) is not None:
            return taken
        source, say = wired.sources[key], wired.calendar_of(key).say
        backlog = self._world.backlog.get(self._resolver.root_of(source), frozenset())
        first = next((out for out in taken.left_out if out.kind == ON_ITS_WAY and out.span in backlog), None)
        return Held(f"{source.node}: span {say(first.span)} is on its way") if first else taken

    def _together(self, wired: WiredPiece, key: str, stays: list[Execution]) -> tuple[Artifact, ...]:
        """What an older result that is used was itself made of: a graph does not go with a newer schema."""
        source, select = wired.sources[key], wired.piece.takes[key].select
        if not isinstance(select, Latest) or (source.node, source.piece) in self._resolver.decided.by_span:
            return ()
        for made in stays:
            for maker in self._ancestors(made):
                if (maker.node, maker.piece) == (source.node, source.piece) and self._results.usable(maker):
                    return maker.output(source.output)
        return ()

    def _ancestors(self, e: Execution) -> Iterator[Execution]:
        """The execution and what it rests on, as far as that is not made of single spans."""
        seen: set[int] = set()
        left = [e]
        while left:
            next_ = left.pop()
            if next_.id in seen:
                continue
            seen.add(next_.id)
            yield next_
            # What an input was offered and found empty is an ingredient, and was not taken.
            ids = (i for key in next_.ingredients.get("inputs", {}) for i in next_.inputs.get(key, ()))
            taken = map(self._history.artifact, ids)
            above = (self._history.maker(a.id) for a in taken if a is not None and not a.type.spanned)
            left += [maker for maker in above if maker is not None]

    def _triggering(self, wired: WiredPiece, run: Run) -> Iterator[Artifact]:
        return (a for key, made in run.inputs.items() if wired.piece.takes[key].triggers for a in made)

    def _ready_since(self, wired: WiredPiece, run: Run, last: Execution | None, span: int | None) -> datetime | None:
        """Since when the piece could have begun on something new."""
        if span is not None:
            each = (key for key, take in wired.piece.takes.items() if isinstance(take.select, EachSpan))
            makers = (self._history.maker(a.id) for key in each for a in run.inputs.get(key, ()))
            return max((maker.ended for maker in makers if maker and maker.ended), default=None)
        times = list(self._firsts(wired, last))
        return max(times, default=None) if last is None else min(times, default=None)

    def _firsts(self, wired: WiredPiece, last: Execution | None) -> Iterator[datetime]:
        """When each source first made something that the last run could not know of."""
        for key, take in wired.piece.takes.items():
            if not take.triggers or key not in wired.sources or isinstance(take.select, LooksBack):
                continue
            source = wired.sources[key]
            first: datetime | None = None
            for e in self._history.back(self._resolver.pipeline, source.node, source.piece):
                if e.state is State.SUCCEEDED and e.ended is not None:
                    if last is not None and not _since(e, last):
                        break
                    first = min(first or e.ended, e.ended)
            if first is not None:
                yield first

    def _patience(self, node: NodeSpec, s: Subject) -> timedelta:
        if isinstance(node, TimedNode) and node.coalesce is not None:
            return node.coalesce
        of_place = self._history.back(self._resolver.pipeline, s.node, s.piece)
        took = (e.took for e in of_place if e.state is State.SUCCEEDED and e.took is not None)
        # Of two, for a machine may sleep, or its clock be set, while one runs.
        return max(min(itertools.islice(took, 2), default=_FIRST), _LEAST)


def waits(held: Held, run: Run, due: datetime) -> Wait:
    """The wait for what is on its way, with its end."""
    at = due.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
    because = f"{held.because}; without it from {at} UTC on"
    return Wait(run.subject, because, until=due, follows=True)


def begins(decision: Decision) -> bool:
    """Whether a decision is to begin work, by itself or in the place of work that gives way."""
    return isinstance(decision, Run) or (isinstance(decision, Wait) and bool(decision.supersedes))


def _since(maker: Execution | None, last: Execution) -> bool:
    if maker is None or maker.ended is None:
        return True
    return maker.id > last.id or maker.ended > last.started  # ids go on where a clock was set back
