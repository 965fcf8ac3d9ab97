"""Whether a target has gone without a push for too long although data came (`push_within`), and what holds it up. Pure.

All times come from recorded executions and requests, so that a restart changes no deadline.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from ctd.core.artifacts import Artifact
from ctd.core.executions import Execution, LeftOut, State
from ctd.core.history import History
from ctd.core.selectors import LooksBack
from ctd.core.timing import format_duration
from ctd.planning.asked import paused
from ctd.planning.decided import Decided, held
from ctd.planning.decisions import Alert, AlertKind, Blocked, Decision, Reuse, Standing, Subject, Wait
from ctd.planning.lineage import ancestors, pushed_model, root_span
from ctd.planning.world import SpanFact, World
from ctd.specs.hints import listed
from ctd.specs.nodes import PusherSpec
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.wired import WiredPiece

_HELD = frozenset({"failed", "quarantined", "refused", "on its way"})  # kinds of `LeftOut` that somebody may change
_PUSHES = 20  # the newest, among which the newest model is looked for: after a rollback it is not the last
_CAUSES = 3  # that are told


@dataclass(frozen=True)
class Due:
    """When a push is overdue unless one is made before. `what` came or changed at `since`."""

    at: datetime
    since: datetime
    what: str


@dataclass(frozen=True)
class _Known:
    """What the newest pushed model was made of."""

    read: Mapping[tuple[str, int], Execution]  # by input and span
    work: frozenset[str]  # fingerprints
    digests: frozenset[str]

    def newest(self, node: str) -> int | None:
        return max((span for name, span in self.read if name == node), default=None)


class PushDeadlines:
    """The deadlines of one pipeline's pushers, once everything else is decided."""

    def __init__(
        self,
        spec: PipelineSpec,
        world: World,
        decided: Decided,
        left_out: Mapping[Subject, tuple[LeftOut, ...]],
        targets: Mapping[str, Standing],
    ) -> None:
        self._spec = spec
        self._world = world
        self._decided = decided
        self._left_out = left_out
        self._targets = targets
        self._work = {w.id: w for w in spec.work}
        self._models: dict[str, _Known] = {}  # by target

    def alerts(self) -> Iterator[Alert | datetime]:
        """An alert for every target that is overdue; for every other one the time when it would be."""
        for wired in self._spec.work:
            node = self._spec.node(wired.node)
            within = (
                node.within(wired.piece.target) if isinstance(node, PusherSpec) and not wired.piece.watches else None
            )
            due = self._due(wired, within) if within is not None else None
            if within is not None and due is not None:
                yield self._alert(wired, due, within) if due.at <= self._world.now else due.at

    def _due(self, wired: WiredPiece, within: timedelta) -> Due | None:
        if not any(True for _ in self._causes(wired)):
            return None
        found = min(self._news(wired), default=None)
        return Due(found[0] + within, *found) if found else None

    def _alert(self, wired: WiredPiece, due: Due, within: timedelta) -> Alert:
        target = wired.piece.target
        last = next(self._world.history.pushes(self._spec.name, target), None)
        ever = f"nothing was pushed to {target} since {_clock(last.ended or last.started)}" if last else ""
        because = (
            f"{ever or f'nothing was ever pushed to {target}'}, although {due.what} {_clock(due.since)} "
            f"(push_within {format_duration(within)})"
        )
        causes = tuple(dict.fromkeys(self._causes(wired)))
        more = (f"and {len(causes) - _CAUSES} more",) if len(causes) > _CAUSES else ()
        behind = self._behind(wired)
        waiting = f"; {listed(behind)} {'waits' if len(behind) == 1 else 'wait'} for that" if behind else ""
        hint = f"Held up by: {'; '.join((*causes[:_CAUSES], *more))}{waiting}."
        return Alert(wired.node, because, hint, target, AlertKind.OVERDUE, due.since, causes)

    # What came.

    def _news(self, wired: WiredPiece) -> Iterator[tuple[datetime, str]]:
        """What the newest pushed model does not know, and since when it is there."""
        known = self._known(wired)
        above = self._above(wired, triggering=True)
        for one in above:
            if one.node in self._spec.inputs:
                yield from self._spans(one, known)
            elif not one.per_span:
                yield from self._edited(one, known)
        first = next(self._world.history.of_place(self._spec.name, *wired.id), None)
        if first is not None and next(self._world.history.pushes(self._spec.name, wired.piece.target), None) is None:
            yield first.started, "the first attempt was made at"

    def _known(self, wired: WiredPiece) -> _Known:
        """Of the newest model that the target ever got; of a new target, that any target got."""
        target = wired.piece.target
        if target not in self._models:
            self._models[target] = self._made_of(target)
        return self._models[target]

    def _made_of(self, target: str) -> _Known:
        history, name = self._world.history, self._spec.name
        model = _newest_model(history, name, [target]) or _newest_model(history, name, self._spec.targets)
        maker = history.maker(model.id) if model else None
        made = [step.execution for step in ancestors(history, [maker])] if maker else []
        read: dict[tuple[str, int], Execution] = {}
        for e in made:
            span = root_span(e)
            if span is not None:
                read[e.node, span] = e
        digests = (a.digest for e in made for artifacts in e.outputs.values() for a in artifacts)
        return _Known(read, frozenset(e.fingerprint for e in made), frozenset(digests))

    def _spans(self, wired: WiredPiece, known: _Known) -> Iterator[tuple[datetime, str]]:
        """Spans newer than all that the model knows, and corrections of those that it knows."""
        node = self._spec.inputs[wired.node]
        newest = known.newest(wired.node)
        arrived = self._world.history.arrived(self._spec.name, wired.node)
        late = self._decided.late.get(wired.node, {})
        for number, decision in self._decided.by_span.get(wired.id, {}).items():
            if number in node.deny or number in late:
                continue
            before = known.read.get((wired.node, number))
            if newest is None or number > newest:
                at = arrived.get(number) or self._unread_since(wired, number, decision)
                if at is not None:
                    yield at, f"{wired.node} {decision.subject.key} came at"
            elif before is not None:
                at = self._corrected(wired, before, decision)
                if at is not None:
                    yield at, f"{wired.node} {decision.subject.key} changed at"

    def _corrected(self, wired: WiredPiece, before: Execution, decision: Decision) -> datetime | None:
        """When other contents of a span were first read, if they are what is wanted now."""
        now = (
            self._world.history.execution(decision.execution) if isinstance(decision, Reuse | Wait | Blocked) else None
        )
        if now is not None and now.fingerprint == before.fingerprint:
            return None
        tried = self._world.history.of_key(self._spec.name, *wired.id, decision.subject.key)
        since = (e.started for e in tried if e.id > before.id and e.fingerprint != before.fingerprint)
        unread = None if isinstance(decision, Reuse) else self._unread_since(wired, root_span(before) or 0, decision)
        return next(since, unread)

    def _unread_since(self, wired: WiredPiece, number: int, decision: Decision) -> datetime | None:
        """Since when a complete span waits for a person before it is read; None if it is only about to be read."""
        pause = paused(self._world.history, self._spec.name, wired.node)
        if pause is None and not isinstance(decision, Blocked):
            return None
        fact = self._world.spans.get(wired.node)
        written = _written([s for s in (fact.spans if fact else ()) if s.span.number == number], self._world.now)
        asked = pause.at if pause else None
        return max((at for at in (written, asked) if at is not None and at <= self._world.now), default=None)

    def _edited(self, wired: WiredPiece, known: _Known) -> Iterator[tuple[datetime, str]]:
        """Work of a node that is no longer what the model was made by: settings, code, a schema."""
        decision = self._decided.single.get(wired.id)
        number = decision.execution if isinstance(decision, Reuse | Wait | Blocked) else 0
        e = self._world.history.execution(number)
        if e is None or e.fingerprint in known.work or not known.work:
            return
        made = {a.digest for artifacts in e.outputs.values() for a in artifacts}
        if e.state is State.SUCCEEDED and made <= known.digests:
            return  # it came out as before: nothing follows from it
        first = self._world.history.tried(self._spec.name, *wired.id, e.fingerprint)[0]
        yield first.started, f"{_name(wired)} ran for a change at"

    # What holds the push up.

    def _causes(self, wired: WiredPiece) -> Iterator[str]:
        """Where the push is held up: work that waits, runs or is blocked and waits for no other."""
        chain = [*self._above(wired), wired]
        holding = {w.id for w in chain if self._holds(w)}
        newest = {w.node: self._known(wired).newest(w.node) for w in chain if w.node in self._spec.inputs}
        for one in chain:
            decision = self._decided.single.get(one.id)
            if one.id in holding and decision is not None and not any(s in holding for s in self._sources(one)):
                hold = self._targets.get(one.piece.target, Standing()).hold
                yield f"{_name(one)}: {hold}" if hold and isinstance(decision, Reuse) else held(decision)
            for left in self._left_out.get(decision.subject, ()) if decision is not None else ():
                before = newest.get(one.root or "")
                if left.kind in _HELD and (before is None or left.span > before):
                    yield f"{one.root} span {left.span} is {left.kind}: {left.why}"

    def _behind(self, wired: WiredPiece) -> list[str]:
        """The nodes that wait for others, in the order of work."""
        chain = [*self._above(wired), wired]
        holding = {w.id for w in chain if self._holds(w)}
        waits = {w.id: any(s in holding for s in self._sources(w)) for w in chain if w.id in holding}
        first = {node for (node, _), behind in waits.items() if not behind}
        return list(dict.fromkeys(node for (node, _), behind in waits.items() if behind and node not in first))

    def _holds(self, wired: WiredPiece) -> bool:
        decision = self._decided.single.get(wired.id)
        hold = self._targets.get(wired.piece.target, Standing()).hold if wired.piece.target else ""
        return decision is not None and (not isinstance(decision, Reuse) or bool(hold))

    def _sources(self, wired: WiredPiece, *, triggering: bool = False) -> Iterator[tuple[str, str]]:
        for key, source in wired.sources.items():
            take = wired.piece.takes[key]
            needed = take.triggers or (not triggering and (take.must_be_blessed or take.of_model))
            if needed and not isinstance(take.select, LooksBack):
                yield source.node, source.piece

    def _above(self, wired: WiredPiece, *, triggering: bool = False) -> list[WiredPiece]:
        """The work that a push follows from, sources first; `triggering`: only what makes another model."""
        found: set[tuple[str, str]] = set()
        left = list(self._sources(wired, triggering=triggering))
        while left:
            place = left.pop()
            if place not in found:
                found.add(place)
                left += self._sources(self._work[place], triggering=triggering)
        return [w for w in self._spec.work if w.id in found]


def _newest_model(history: History, pipeline: str, targets: Iterable[str]) -> Artifact | None:
    """The newest model that was pushed to one of these targets."""
    pushes = (e for target in targets for e in itertools.islice(history.pushes(pipeline, target), _PUSHES))
    models = (pushed_model(history, e) for e in pushes)
    return max((m for m in models if m is not None), key=lambda m: m.id, default=None)


def _written(spans: Iterable[SpanFact], now: datetime) -> datetime | None:
    """When the files of spans were last written."""
    times = [file.mtime_ns for span in spans for file in span.files]
    return datetime.fromtimestamp(max(times) / 1e9, timezone.utc) if times else None


def _name(wired: WiredPiece) -> str:
    return f"{wired.node}.{wired.piece.name}" if wired.piece.name else wired.node


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
