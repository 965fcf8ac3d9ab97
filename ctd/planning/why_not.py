"""Why a node does not run now: what was done before stays, or what it waits for, link by link to the end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from ctd.core.artifacts import Artifact
from ctd.core.calendars import NUMBERS, Calendar, span_in_key
from ctd.core.executions import Execution, LeftOut
from ctd.core.history import History
from ctd.core.selectors import EachSpan, LooksBack, Window
from ctd.planning.causes import Cause, Causes
from ctd.planning.decided import Status, outputs_of, status_of
from ctd.planning.decisions import Blocked, Decision, Plan, Reuse, Run, Subject, Wait
from ctd.planning.reasons import short
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.wired import WiredPiece

_Place = tuple[str, str]
_MANY = 3  # results that stay; more are one line
_MOST_LINKS = 20  # that one wait is followed to


@dataclass(frozen=True)
class CutOff:
    """An input that was made anew, with the content that it had: so what takes it need not run."""

    node: str
    output: str
    span: str  # as people name it; nothing where it is of none
    made: int  # the execution that made it now
    before: int  # the execution that made the one that was taken
    digest: str

    @property
    def said(self) -> str:
        """`examples of span 7 were made anew by execution 41, with the content that execution 12 made`."""
        of = f" of span {self.span}" if self.span else ""
        content = f"the same content ({short(self.digest)}) as by execution {self.before}"
        return f"{self.output}{of} made anew by execution {self.made} with {content}: nothing follows"


@dataclass
class WhyNot:
    """Explains the decisions of one plan. `told` are subjects whose wait was told already."""

    spec: PipelineSpec
    plan: Plan
    history: History
    told: set[Subject] = field(default_factory=set)
    offers: dict[tuple[_Place, str], dict[tuple[int | None, str], Artifact]] = field(default_factory=dict)

    @cached_property
    def _decisions(self) -> dict[_Place, list[Decision]]:
        found: dict[_Place, list[Decision]] = {}
        for d in self.plan.decisions:
            found.setdefault((d.subject.node, d.subject.piece), []).append(d)
        return found

    @cached_property
    def _of_key(self) -> dict[tuple[str, str, str], list[Decision]]:
        found: dict[tuple[str, str, str], list[Decision]] = {}
        for d in self.plan.decisions:
            found.setdefault((d.subject.node, d.subject.piece, d.subject.key), []).append(d)
        return found

    @cached_property
    def _work(self) -> dict[_Place, WiredPiece]:
        return {w.id: w for w in self.spec.work}

    def cut_offs(self, decision: Decision) -> tuple[CutOff, ...]:
        """The inputs of a reused result that were made anew since, with equal content."""
        if not isinstance(decision, Reuse):
            return ()
        wired = self._work.get((decision.subject.node, decision.subject.piece))
        done = self.history.execution(decision.execution)
        if wired is None or done is None:
            return ()
        return tuple(dict.fromkeys(self._cut_offs(wired, done)))

    def _cut_offs(self, wired: WiredPiece, done: Execution) -> Iterator[CutOff]:
        for key, source in wired.sources.items():
            if not wired.piece.takes[key].triggers or isinstance(wired.piece.takes[key].select, LooksBack):
                continue
            taken = [a for a in map(self.history.artifact, done.inputs.get(key, ())) if a is not None]
            now = self._made_now((source.node, source.piece), source.output)
            for artifact in taken:
                current = now.get((artifact.span, artifact.digest))
                made, before = (self.history.maker(a.id) if a else None for a in (current, artifact))
                if current and made and before and made.id > done.id:
                    span = "" if artifact.span is None else wired.calendar_of(key).say(artifact.span)
                    yield CutOff(source.node, source.output, span, made.id, before.id, artifact.digest)

    def _made_now(self, place: _Place, output: str) -> dict[tuple[int | None, str], Artifact]:
        """What a source offers, by span and content."""
        if (place, output) not in self.offers:
            made = (a for d in self._decisions.get(place, ()) for a in outputs_of(d).get(output, ()))
            self.offers[place, output] = {(a.span, a.digest): a for a in made}
        return self.offers[place, output]

    def of_node(self, node: str) -> tuple[Cause, ...]:
        """Every piece of work of the node that does not run, with the reason; many alike reused ones once."""
        mine = (d for d in self.plan.decisions if d.subject.node == node and not isinstance(d, Run))
        return tuple(_without_many_reused([self._of(d) for d in mine]))

    def _of(self, decision: Decision) -> Cause:
        match decision:
            case Reuse():
                return self._reused(decision)
            case Run():
                return self._to_run(decision)
            case Wait():
                return self._waits(decision)
            case Blocked():
                return self._blocked(decision)

    def _reused(self, d: Reuse) -> Cause:
        done = self.history.execution(d.execution)
        cut = self.cut_offs(d)
        causes = tuple(map(_cut_off, cut)) or self._cut_above(d.subject)
        said = f"{_name(d)}: what execution {d.execution} made of the same ingredients stays"
        return replace(
            _about(d, "cut off" if cut else "reused", said),
            execution=d.execution,
            at=done.ended if done else None,
            causes=(*causes, *self._left_out(d.subject)),
        )

    def _cut_above(self, subject: Subject) -> tuple[Cause, ...]:
        """Where a change that might have come to this work was cut off on its way."""
        found: dict[CutOff, Cause] = {}
        left, seen = [subject], {subject}
        while left:
            below = left.pop()
            wired = self._work.get((below.node, below.piece))
            for above in self._above(wired, below) if wired else ():
                cut = self.cut_offs(above)
                for c in cut:
                    found.setdefault(c, replace(_cut_off(c), said=f"{above.subject.node} was cut off: {c.said}"))
                if not cut and above.subject not in seen:
                    seen.add(above.subject)
                    left.append(above.subject)
        return tuple(found.values())

    def _to_run(self, d: Run) -> Cause:
        return Causes(self.history, self.spec).to_run(d)

    def _waits(self, d: Wait) -> Cause:
        running = self.history.execution(d.execution) if d.running else None
        if running is not None:
            causes = Causes(self.history, self.spec).of(running)
            said = f"{_name(d)} runs as execution {running.id}"
            return replace(_about(d, "running", said), execution=running.id, at=running.started, causes=causes)
        kind = "paused" if d.because.startswith("paused ") else "not due" if d.later else "waits"
        chain = self._chain(d) if d.follows else ()
        stays = f"; what execution {d.execution} made stays in use" if d.outputs else ""
        said = f"{_name(d)} waits: {d.because}{stays}"
        causes = (*chain, *self._left_out(d.subject))
        return replace(_about(d, kind, said), execution=d.execution, until=d.until, causes=causes)

    def _blocked(self, d: Blocked) -> Cause:
        failed = self.history.execution(d.execution) if d.execution else None
        failure = failed.failure if failed else None
        where = f" at {failure.where}" if failure and failure.where else ""
        said = f"{_name(d)} is blocked{where}: {d.because}"
        kind = "failed" if d.failed else "needs approval" if needs_approval(d) else "refused"
        causes = (*self._chain(d), *self._left_out(d.subject)) if not d.execution else self._left_out(d.subject)
        return replace(_about(d, kind, said), execution=d.execution, hint=d.hint, causes=tuple(causes))

    def _chain(self, d: Wait | Blocked) -> tuple[Cause, ...]:
        """The decisions on its sources that have no result, each with what it waits for in turn."""
        wired = self._work.get((d.subject.node, d.subject.piece))
        found: dict[Subject, Decision] = {}
        for above in self._above(wired, d.subject) if wired else ():
            if status_of(above) is not Status.READY and above.subject not in self.told:
                found[above.subject] = above
        arriving = [a for a in found.values() if status_of(a) is not Status.ABSENT] or list(found.values())
        self.told.update(a.subject for a in arriving)
        told = [(a, self._of(a)) for a in arriving[:_MOST_LINKS]]
        links = [cause for a, cause in told if cause.causes or not (isinstance(a, Wait) and a.follows)]
        if len(arriving) > _MOST_LINKS:
            links.append(Cause("waits", f"and for {len(arriving) - _MOST_LINKS} more"))
        return tuple(links)

    def _above(self, wired: WiredPiece, subject: Subject) -> Iterator[Decision]:
        """The decisions that a piece of work looks at: of its span if it runs per span, of all spans otherwise."""
        for key, source in wired.sources.items():
            select = wired.piece.takes[key].select
            if isinstance(select, LooksBack):
                continue
            if wired.per_span and isinstance(select, EachSpan):
                yield from self._of_key.get((source.node, source.piece, subject.key), ())
            else:
                yield from self._decisions.get((source.node, source.piece), ())
        for gate in dict.fromkeys(itertools.chain(*wired.gates.values())):
            yield from self._decisions.get(gate, ())

    def _left_out(self, subject: Subject) -> tuple[Cause, ...]:
        """Spans that its windows go without; those on their way are what it waits for, and told as such."""
        wired = self._work.get((subject.node, subject.piece))
        found = [left for left in self.plan.left_out.get(subject, ()) if left.kind != "on its way"]
        if wired and wired.root and any(isinstance(t.select, Window) for t in wired.piece.takes.values()):
            root = next(w for w in self.spec.work if w.node == wired.root)
            absent = (d for d in self._decisions.get(root.id, ()) if isinstance(d, Wait) and d.absent)
            found += [LeftOut(number, "not complete", d.because) for d in absent if (number := _span_of(d)) is not None]
        calendar = wired.calendar if wired else NUMBERS
        return tuple(left_out(left, calendar) for left in found)


def _cut_off(c: CutOff) -> Cause:
    return Cause("cut off", c.said, c.node, execution=c.made, against=c.before, before=c.digest, after=c.digest)


def left_out(left: LeftOut, calendar: Calendar) -> Cause:
    """A span that a window goes without."""
    said = f"without span {calendar.say(left.span)}, {left.kind}: {left.why}"
    return Cause("left out", said, name=left.kind, spans=(left.span,))


def needs_approval(decision: Blocked) -> bool:
    """Whether it waits for someone's yes. What was rejected got its answer."""
    return bool(decision.fingerprint) and decision.because.startswith("waits for approval")


def _span_of(d: Decision) -> int | None:
    found = span_in_key(d.subject.key)
    return found.number if found else None


def _about(d: Decision, kind: str, said: str) -> Cause:
    return Cause(kind, said, d.subject.node, d.subject.piece, d.subject.key)


def _name(d: Decision) -> str:
    s = d.subject
    rest = s.key.removeprefix(s.piece).strip()
    return f"{s.node}{f'.{s.piece}' if s.piece else ''} {rest}".strip()


def _without_many_reused(found: list[Cause]) -> Iterator[Cause]:
    """All that is news; of many results that just stay, the newest and how many there are."""
    reused = [c for c in found if c.kind == "reused"]
    many = len(reused) > _MANY
    newest = max(reused, key=lambda c: c.execution, default=None)
    for cause in found:
        if cause.kind != "reused" or not many:
            yield cause
        elif cause is newest:
            yield replace(cause, said=f"{cause.said}, as do {len(reused) - 1} others of {cause.node}")
