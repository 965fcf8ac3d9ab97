"""What filled the time before an execution began: people's pauses, approvals, schedules, slots, back-off, a daemon that
was down. Told from recorded facts, so that it can be told of executions of any age. Pure.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ctd.core.executions import BEFORE, STOPPED, Execution, State
from ctd.core.history import History
from ctd.core.requests import OperatorRequest, Verb
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.timing import TimedNode
from ctd.specs.wired import WiredPiece

_AT_ONCE = timedelta(seconds=10)  # what begins this soon after a request or an end began because of it
_ZERO = timedelta(0)


class GapKind(str, enum.Enum):
    """Why nothing of a path was at work for a while."""

    DOWN = "down"  # no daemon ran
    NOTICE = "noticing"  # the span was there and not noticed yet
    SETTLE = "settling"  # the span was not complete
    PAUSED = "paused"  # by a person
    FAILED = "failed"  # an attempt had failed: until its next one, or until somebody mended it
    APPROVAL = "approval"  # until a person approved
    SCHEDULE = "schedule"  # its time had not come
    ASKED = "asked"  # until a person asked for something else: to accept a span, say
    BUSY = "busy"  # the same node was at work on something else
    OTHERS = "others"  # what it might have taken was on its way
    SLOT = "slot"  # all slots were in use
    DECIDING = "deciding"  # nothing else is recorded: planning, or reading digests


@dataclass(frozen=True)
class Gap:
    """A stretch of time without work on the path, and why."""

    kind: GapKind
    said: str
    start: datetime
    end: datetime

    @property
    def took(self) -> timedelta:
        return self.end - self.start


_Span = tuple[datetime, datetime]


@dataclass(frozen=True)
class Gaps:
    """Explains gaps between the executions of one pipeline."""

    history: History
    spec: PipelineSpec

    def between(self, before: Execution, e: Execution) -> tuple[Gap, ...]:
        """All of the time from the end of one execution to the start of the next, in order, without holes."""
        ended = before.ended or before.started
        found = self._told(e, [(ended, max(ended, e.ready))], self._reasons(before))
        return tuple(_joined([*found, *_slot(e, max(ended, e.ready))]))

    def first(self, e: Execution) -> tuple[Gap, ...]:
        """All of the time from when its span was there, or it was to run, to its start."""
        at = e.started - timedelta(seconds=sum(e.timings.get(phase, 0.0) for phase in BEFORE))
        found: list[Gap] = []
        for phase in BEFORE:
            until = at + timedelta(seconds=e.timings.get(phase, 0.0))
            if until > at and phase != "wait":
                found += self._told(e, [(at, until)], (self._paused, self._approved, *_phase(e, phase)))
            at = until
        return tuple(_joined([*found, *_slot(e, e.ready)]))

    def _told(self, e: Execution, left: list[_Span], reasons: Iterable[_Reason]) -> list[Gap]:
        """Each reason takes what it explains of the time that those before it left over."""
        found: list[Gap] = []
        for reason in reasons:
            rest: list[_Span] = []
            for span in left:
                mine = [gap for gap in reason(e, span) if gap.took > _ZERO]
                found += mine
                rest += _without(span, mine)
            left = rest
        found += (Gap(GapKind.DECIDING, "it was decided what is next", *span) for span in left if span[1] > span[0])
        return sorted(found, key=lambda gap: gap.start)

    def _reasons(self, before: Execution) -> Sequence[_Reason]:
        """Those that are sure come first."""
        return (
            self._paused,
            lambda e, span: self._down(before, e, span),
            lambda e, span: self._failed(before, e, span),
            self._approved,
            self._busy,
            self._others,
            self._hurried,
            self._asked,
            self._timed,
        )

    def _paused(self, e: Execution, span: _Span) -> Iterator[Gap]:
        """While its node or its pipeline was paused."""
        taken: list[Gap] = []
        for node in dict.fromkeys(("", e.node)):
            asked = [r for r in self.history.requests(e.pipeline) if r.node == node and r.verb in _PAUSES]
            for pause, resume in _pauses(asked, span[1]):
                for start, end in _parts(_clipped((pause.at, resume), span), taken):
                    taken.append(Gap(GapKind.PAUSED, f"{node or e.pipeline} was paused {pause.said}", start, end))
        yield from taken

    def _down(self, before: Execution, e: Execution, span: _Span) -> Iterator[Gap]:
        """Between the last sign of life of one daemon and the first of the next."""
        if before.epoch == e.epoch:
            return
        old = [at for x in self.history if x.epoch < e.epoch for at in _signs(x) if at <= e.started]
        new = [x.started for x in self.history if x.epoch == e.epoch]
        new += [x.ended for x in self.history if x.epoch < e.epoch and x.ended and _left_behind(x)]
        up = min((at for at in new if at > max(old, default=span[0])), default=span[1])
        yield from _gap(GapKind.DOWN, "no daemon ran", (max(old, default=span[0]), up), span)

    def _failed(self, before: Execution, e: Execution, span: _Span) -> Iterator[Gap]:
        """After an attempt that had no result: back-off, or until a person did something about it."""
        if before.state is State.SUCCEEDED or (before.node, before.piece) != (e.node, e.piece):
            return
        failure = before.failure
        how = f"{before.state.value}{f': {failure.message}' if failure else ''}"
        if failure is not None and failure.kind == STOPPED:
            how = "stopped with the daemon"
        retry = self._last(e, span, lambda r: r.verb is Verb.RETRY)
        if before.fingerprint != e.fingerprint:
            said = f"execution {before.id} {how}; until it was mended"
        elif retry is not None:
            said = f"execution {before.id} {how}; until a retry was asked {retry.said}"
        else:
            said = f"execution {before.id} {how}; until the next attempt"
        yield Gap(GapKind.FAILED, said, *span)

    def _approved(self, e: Execution, span: _Span) -> Iterator[Gap]:
        yes = self._last(e, span, lambda r: r.verb is Verb.APPROVE and r.about == e.fingerprint)
        if yes is not None:
            yield from _gap(
                GapKind.APPROVAL, f"waited for approval, which was given {yes.said}", (span[0], yes.at), span
            )

    def _busy(self, e: Execution, span: _Span) -> Iterator[Gap]:
        """While the same piece was at work on something else: it does one thing at a time."""
        for other in self.history.of_place(e.pipeline, e.node, e.piece):
            if other.id < e.id and other.ended and not self._per_span(e):
                said = f"execution {other.id} was still at work on {other.key or 'older inputs'}"
                yield from _gap(GapKind.BUSY, said, (other.started, other.ended), span)

    def _others(self, e: Execution, span: _Span) -> Iterator[Gap]:
        """While something that it might have taken was on its way, and came to nothing."""
        taken: list[Gap] = []
        for place in self._above(e):
            for other in self.history.of_place(e.pipeline, *place):
                mine = _clipped((other.started, other.ended), span) if other.ended and other.id < e.id else None
                for start, end in _parts(mine, taken):
                    said = f"waited for execution {other.id}, {_name(other)}, which {other.state.value}"
                    taken.append(Gap(GapKind.OTHERS, said, start, end))
        yield from taken

    def _hurried(self, e: Execution, span: _Span) -> Iterator[Gap]:
        asked = self._last(e, span, lambda r: r.verb is Verb.RUN_NOW)
        if asked is not None:
            said = f"its time had not come, until a run was asked {asked.said}"
            yield from _gap(GapKind.SCHEDULE, said, (span[0], asked.at), span)

    def _asked(self, e: Execution, span: _Span) -> Iterator[Gap]:
        """Until somebody said something just before it began."""
        last = self._last(e, span, lambda r: e.ready - r.at < _AT_ONCE)
        if last is not None:
            about = " ".join(part for part in (last.verb.value, last.key) if part)
            yield from _gap(GapKind.ASKED, f"until {about} was asked {last.said}", (span[0], last.at), span)

    def _timed(self, e: Execution, span: _Span) -> Iterator[Gap]:
        node = self.spec.nodes.get(e.node)
        if isinstance(node, TimedNode) and (node.when != "change" or node.min_interval) and span[1] - span[0] > _SHORT:
            yield Gap(GapKind.SCHEDULE, f"the time of {e.node} had not come ({_when(node)})", *span)

    def _last(self, e: Execution, span: _Span, wanted: Callable[[OperatorRequest], bool]) -> OperatorRequest | None:
        asked = (r for r in self.history.requests(e.pipeline) if r.node in ("", e.node) or r.verb is Verb.ACCEPT)
        found = [r for r in asked if r.id < e.id and span[0] < r.at <= span[1] and wanted(r)]
        return found[-1] if found else None

    def _wired(self, e: Execution) -> WiredPiece | None:
        return next((w for w in self.spec.work if w.id == (e.node, e.piece)), None)

    def _per_span(self, e: Execution) -> bool:
        wired = self._wired(e)
        return wired is not None and wired.per_span

    def _above(self, e: Execution) -> Iterator[tuple[str, str]]:
        wired = self._wired(e)
        if wired is not None and not wired.per_span:
            for key, source in wired.sources.items():
                if wired.piece.takes[key].triggers:
                    yield from ((source.node, source.piece), *wired.gates.get(key, ()))


_Reason = Callable[[Execution, _Span], Iterable[Gap]]
_PAUSES = (Verb.PAUSE, Verb.RESUME)
_SHORT = timedelta(seconds=1)


def _slot(e: Execution, since: datetime) -> Iterator[Gap]:
    if since < e.started:
        yield Gap(GapKind.SLOT, "all slots were in use", since, e.started)


def _phase(e: Execution, phase: str) -> Iterator[_Reason]:
    """What is recorded of the time before a span was read."""
    kinds = {
        "down": (GapKind.DOWN, "no daemon ran"),
        "notice": (GapKind.NOTICE, f"{e.key} was not noticed yet"),
        "settle": (GapKind.SETTLE, f"{e.key} was not complete yet"),
        "held": (GapKind.DECIDING, f"the files of {e.key} were read for their digest"),
    }
    if phase in kinds:
        kind, said = kinds[phase]
        yield lambda _, span: [Gap(kind, said, *span)]


def _pauses(asked: Iterable[OperatorRequest], end: datetime) -> Iterator[tuple[OperatorRequest, datetime]]:
    """Each pause with its end."""
    pause: OperatorRequest | None = None
    for request in asked:
        if request.verb is Verb.PAUSE:
            pause = pause or request
        elif pause is not None:
            yield pause, request.at
            pause = None
    if pause is not None:
        yield pause, end


def _gap(kind: GapKind, said: str, of: _Span, within: _Span) -> Iterator[Gap]:
    part = _clipped(of, within)
    if part is not None:
        yield Gap(kind, said, *part)


def _clipped(of: _Span, within: _Span) -> _Span | None:
    start, end = max(of[0], within[0]), min(of[1], within[1])
    return (start, end) if start < end else None


def _parts(of: _Span | None, taken: Sequence[Gap]) -> list[_Span]:
    """What is left of a stretch beside what others have of it."""
    return _without(of, sorted(taken, key=lambda gap: gap.start)) if of is not None else []


def _without(span: _Span, gaps: Iterable[Gap]) -> list[_Span]:
    left: list[_Span] = []
    at, end = span
    for gap in sorted(gaps, key=lambda gap: gap.start):
        if gap.start > at:
            left.append((at, min(gap.start, end)))
        at = max(at, gap.end)
    return [*left, *([(at, end)] if at < end else [])]


def _joined(gaps: Iterable[Gap]) -> Iterator[Gap]:
    """Neighbours that say the same are one."""
    last: Gap | None = None
    for gap in gaps:
        if last is not None and (gap.kind, gap.said) == (last.kind, last.said) and gap.start == last.end:
            last = Gap(last.kind, last.said, last.start, gap.end)
            continue
        if last is not None:
            yield last
        last = gap
    if last is not None:
        yield last


def _signs(e: Execution) -> Iterator[datetime]:
    """When a daemon that had this execution was alive for sure. What it left behind was ended by its successor."""
    yield e.started
    if e.ended is not None and not _left_behind(e):
        yield e.ended


def _left_behind(e: Execution) -> bool:
    """Whether the daemon died over it. What it stopped itself has that for a reason."""
    return e.state is State.ABANDONED and e.failure is None


def _when(node: TimedNode) -> str:
    if node.when == "manual":
        return "when: manual"
    if node.schedule is not None:
        return "when: schedule"
    return "min_interval"


def _name(e: Execution) -> str:
    return " ".join(
        part for part in (f"{e.node}.{e.piece}" if e.piece else e.node, e.key.removeprefix(e.piece).strip()) if part
    )
