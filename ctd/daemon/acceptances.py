"""Acceptances of spans that a validator refused, checked against what there is, and what else keeps windows shut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from ctd.api.models import ObstacleView
from ctd.api.requests import RequestForm
from ctd.core.calendars import NUMBERS, span_in_key
from ctd.core.errors import CtdError, NotFound, NotPossible
from ctd.core.requests import OperatorRequest
from ctd.daemon.about import About
from ctd.daemon.span_names import span_among, written
from ctd.daemon.views import Views, state_word
from ctd.planning.asked import accepted, finding
from ctd.planning.decided import outputs_of
from ctd.planning.decisions import Blocked, Decision, Plan, Reuse, Wait
from ctd.planning.reasons import span_key
from ctd.specs.hints import listed
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.wired import WiredPiece


@dataclass(frozen=True)
class Acceptances:
    """Raises NotFound for spans that no validator has judged, NotPossible for those that are not refused."""

    views: Views

    def asked(self, form: RequestForm) -> Iterator[About]:
        """One acceptance for each validator that refuses the span."""
        spec, ref = self.views.known(form.pipeline), written(form.span)
        calendars = {w.node: w.calendar for w in spec.work if w.piece.gate}
        number, said, among = span_among(calendars, form.span, form.pipeline)
        return _Asked(self.views, form, spec, number, ref.version, said, among).concerned()


@dataclass(frozen=True)
class _Asked:
    """A span that somebody wants accepted, and what the plan says of it."""

    views: Views
    form: RequestForm
    spec: PipelineSpec
    number: int
    version: int | None
    said: str  # its name
    among: frozenset[str] | None  # the validators that have spans of this kind; None: all

    @cached_property
    def plan(self) -> Plan:
        made = self.views.plans().get(self.spec.name)
        if made is None:
            raise NotPossible(f"{self.spec.name} was not looked at yet", hint="Ask again in a moment.")
        return made

    @cached_property
    def gates(self) -> dict[str, WiredPiece]:
        among = self.among
        return {w.node: w for w in self.spec.work if w.piece.gate and (among is None or w.node in among)}

    @cached_property
    def judged(self) -> list[Decision]:
        return [d for d in self.plan.decisions if d.subject.node in self.gates]

    @cached_property
    def mine(self) -> list[Decision]:
        return [d for d in self.judged if _is_span(d.subject.key, self.number, self.version)]

    def concerned(self) -> Iterator[About]:
        refused = [d for d in self.mine if _refuses(d)]
        if not refused:
            raise self._not_judged() if not self.mine else self._not_refused()
        known = [(d, found) for d in refused if (found := self._finding(d))]
        requests = [request for d in refused for request in self._accepted(d)]
        if len(requests) == len(refused) and all(r.baseline is self.form.as_baseline for r in requests):
            raise self._accepted_before(refused[0], requests[0].said)
        for d, found in known:
            yield About(d.subject.node, d.subject.key, self.number, found, obstacles=tuple(self._obstacles(d)))

    def _accepted(self, decision: Decision) -> list[OperatorRequest]:
        """The acceptance in force of what this validator found, if there is one."""
        gate = self.gates[decision.subject.node]
        return list(accepted(self.views.history, self.spec.name, gate, {self.number: decision}).values())

    def _finding(self, decision: Decision) -> str:
        number = decision.execution if isinstance(decision, Reuse | Wait) else 0
        execution = self.views.history.execution(number)
        return finding(execution, self.gates[decision.subject.node]) if execution else ""

    # Why there is nothing to accept.

    def _accepted_before(self, decision: Decision, said: str) -> CtdError:
        held = next(self._shut_out(), None)
        hint = "Windows that reach back to it take it."
        if held:
            hint = f"But windows leave it out: {held.why}. {held.hint}"
        return NotPossible(f"{decision.subject.key} was accepted before, {said}", hint=hint)

    def _not_refused(self) -> CtdError:
        key = self.mine[0].subject.key
        open_ = [d for d in self.mine if not isinstance(d, Reuse)]
        if open_:
            because = "; ".join(f"{d.subject.node}: {d.because}" for d in open_)
            return NotPossible(f"{key} is not refused: {because}", hint=self._refused)
        held = next(self._shut_out(), None)
        if held:
            return NotPossible(f"{key} is not refused, but windows leave it out: {held.why}", hint=held.hint)
        return NotPossible(f"{key} is not refused: it is good", hint=self._refused)

    def _not_judged(self) -> CtdError:
        """Of all that may be so, what is."""
        name = self.spec.name
        if not self.gates:
            return NotFound(f"{name} has no validator: nothing refuses its spans", hint="It has no example_validator.")
        mine = [d for d in self.judged if _is_span(d.subject.key, self.number, None)]
        said = self.form.span
        if mine and self._was_read():
            now = mine[0].subject.key
            state = "refused too" if any(map(_refuses, mine)) else "not refused"
            why = f"{self._key} was replaced by {now}, which is {state}"
            hint = f"`ctd accept {name} {now.removeprefix('span-')}` would accept that." if "too" in state else ""
            return NotPossible(why, hint=hint or "Windows take the newest version of a span.")
        roots = {w.root for w in self.gates.values()}
        unread = [u for u in self.plan.unread if u.node in roots and self.number in u.spans]
        if unread:
            return NotPossible(f"span {said} is not read: {unread[0].because}", hint=self._refused)
        at_source = [
            d
            for d in self.plan.decisions
            if d.subject.node in roots and _is_span(d.subject.key, self.number, self.version)
        ]
        if at_source:
            why = f"no validator of {name} has looked at {at_source[0].subject.key} yet"
            return NotPossible(f"{why}: {at_source[0].because}", hint=self._refused)
        if self._was_read():
            return NotPossible(f"span {said} is no longer there", hint=f"Windows have forgotten it. {self._refused}")
        return NotFound(f"no validator of {name} has looked at a span {said}", hint=self._refused)

    @property
    def _key(self) -> str:
        calendar = next((w.calendar for w in self.gates.values()), NUMBERS)
        return span_key(calendar, self.number, self.version)

    def _was_read(self) -> bool:
        """Whether this version of the span, or the span, was ever read."""
        roots = {w.root for w in self.gates.values() if w.root}
        if self.version is None:
            return any(self.number in self.views.history.arrived(self.spec.name, root) for root in roots)
        return any(self.views.history.of_key(self.spec.name, root, "", self._key) for root in roots)

    @property
    def _refused(self) -> str:
        there = sorted({d.subject.key for d in self.judged if _refuses(d)})
        return f"Refused: {listed(there)}. `ctd status {self.spec.name}` says why."

    # What keeps windows from taking it besides.

    def _obstacles(self, decision: Decision) -> Iterator[ObstacleView]:
        """What still holds a span that this validator lets pass."""
        shut_out = list(self._shut_out())
        yield from shut_out
        for d in self.mine:
            if not outputs_of(d):
                hint = d.hint if isinstance(d, Blocked) else ""
                yield ObstacleView(kind=state_word(d), why=f"{d.subject.node}: {d.because}", hint=hint)
        root = self.gates[decision.subject.node].root
        for d in self.plan.decisions:
            if d.subject.node == root and isinstance(d, Blocked) and _is_span(d.subject.key, self.number, None):
                yield ObstacleView(kind="changed", why=d.because, hint=d.hint)
        left_out = (left for some in self.plan.left_out.values() for left in some if left.span == self.number)
        if not shut_out and not any(left_out) and not self._accepted(decision):
            why = "no window reaches back to it"
            yield ObstacleView(kind="out of reach", why=why, hint="A longer one does, or one that names it (`pinned`).")

    def _shut_out(self) -> Iterator[ObstacleView]:
        """What the spec says of the span, whatever validators say."""
        name = self.spec.name
        for root in dict.fromkeys(self.gates[d.subject.node].root or "" for d in self.mine):
            node = self.spec.inputs[root]
            said = node.calendar.say(self.number)
            if self.number in node.deny:
                hint = f"Take {said} out of `deny` of {root}."
                yield ObstacleView(kind="denied", why=f"`deny` of {root} names it", hint=hint)
            late = self.plan.late.get(root, {}).get(self.number)
            if late:
                hint = f"`ctd backfill {name} {said} {said}` lets it in."
                yield ObstacleView(kind="late", why=late, hint=hint)


def _is_span(key: str, number: int, version: int | None) -> bool:
    found = span_in_key(key)
    return found is not None and found.number == number and version in (None, found.version or 0)


def _refuses(decision: Decision) -> bool:
    return any(not a.blessed for made in outputs_of(decision).values() for a in made)
