"""Which spans make a window: the selector's, as far as their source and its validators accept them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ctd.core.artifacts import Artifact
from ctd.core.calendars import Calendar
from ctd.core.executions import LeftOut
from ctd.core.selectors import AllSpans, AnyOf, Between, Newest, Pinned, Window
from ctd.planning.decided import Held, Status, Taken, held, outputs_of, status_of
from ctd.planning.decisions import Decision
from ctd.planning.reasons import spans_said


class Admission(enum.Enum):
    """What becomes of a span that a window would like to have."""

    YES = "yes"
    LATER = "later"  # on its way
    ABSENT = "absent"  # not arrived: the window looks further back
    FAILED = "failed"  # left out until mended
    QUARANTINED = "quarantined"  # left out by verdict
    STOP = "stop"  # nothing goes on until it is corrected


ON_ITS_WAY = "on its way"

_KINDS = {
    Admission.LATER: ON_ITS_WAY,
    Admission.ABSENT: "not complete",
    Admission.FAILED: "failed",
    Admission.QUARANTINED: "quarantined",
    Admission.STOP: "refused",
}


_NOTED = {"failed": "left out", "late": "left out", "quarantined": "quarantined"}
"""Kinds of what is left out that are told with the work: what has not come, and what the spec denies, is no news."""


@dataclass(frozen=True)
class Gate:
    """A validator: its decisions by span, and what its refusal means (block, quarantine or warn).

    `accepted` are the spans that a person let pass although it refused them.
    """

    name: str
    policy: str
    decisions: Mapping[int, Decision]
    accepted: frozenset[int] = frozenset()


@dataclass
class _Found:
    """What a walk over spans, newest first, has come to."""

    numbers: list[int] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    stuck: bool = False

    def __len__(self) -> int:
        return len(self.numbers) + len(self.pending)


def window(  # noqa: PLR0913 - all that a window depends on
    select: Window,
    decisions: Mapping[int, Decision],
    output: str,
    gates: Iterable[Gate],
    shut_out: Mapping[int, str],
    calendar: Calendar,
    *,
    patient: bool,
) -> Taken | Held:
    """The artifacts of the window, spans in ascending order, or why it has to wait.

    `patient` windows wait for spans that are on their way; the others take what is there. Spans that are `shut_out`
    (denied, or too late) are left out, each with its reason if it has one, unless the window names them.
    """
    found, gates = _Found(), tuple(gates)
    for number in _candidates(select, decisions, found):
        admission, why = admit(decisions[number], number, gates, calendar)
        kind = _KINDS.get(admission, "")
        if number in shut_out and not _names(select, number):
            reason = shut_out[number]
            admission, why = Admission.QUARANTINED, f"left out span {calendar.say(number)}: {reason}" if reason else ""
            kind = "late" if reason else "denied"
        if admission is not Admission.YES:
            found.left_out.append(_left_out(number, calendar.say(number), kind, why, decisions[number]))
        match admission:
            case Admission.YES:
                found.numbers.append(number)
                found.artifacts += outputs_of(decisions[number]).get(output, ())
            case Admission.LATER if patient:
                found.pending.append(why)
            case Admission.STOP:
                return Held(why, stuck=True, refused=True, left_out=tuple(found.left_out))
            case Admission.FAILED | Admission.QUARANTINED:
                found.stuck = found.stuck or admission is Admission.FAILED
            case _:
                pass
    if found.pending:
        more = f", and {len(found.pending) - 1} more" if len(found.pending) > 1 else ""
        return Held(found.pending[0] + more, left_out=tuple(found.left_out))
    taken = Taken(
        in_order(found.artifacts), left_out_note(found.left_out, calendar), found.stuck, tuple(found.left_out)
    )
    return complete(select, taken, found.numbers, _arrivals(found, decisions, shut_out), calendar)


def _arrivals(found: _Found, decisions: Mapping[int, Decision], shut_out: Mapping[int, str]) -> Callable[[int], bool]:
    """Whether a span is no gap: it came, or nobody waits for it as it is shut out. What is on its way is one as yet."""
    later = {left.span for left in found.left_out if left.kind == ON_ITS_WAY}

    def arrived(number: int) -> bool:
        there = decisions.get(number)
        came = there is not None and number not in later and status_of(there) is not Status.ABSENT
        return came or number in shut_out

    return arrived


def _left_out(span: int, name: str, kind: str, why: str, decision: Decision) -> LeftOut:
    """What to record of a span that is not in the window; the reason without the span's name."""
    if kind == "denied":
        return LeftOut(span, kind, "`deny` of the spec names it")
    for said in (f"left out span {name}: ", f"quarantined span {name}: ", f"span {name}: "):
        why = why.removeprefix(said)
    return LeftOut(span, kind, why or decision.because)


def left_out_note(left_out: Iterable[LeftOut], calendar: Calendar) -> str:
    """What a window goes without, in words; spans that lack for the same reason together."""
    groups: dict[tuple[str, str], list[int]] = {}
    for left in left_out:
        if left.kind in _NOTED:
            groups.setdefault((_NOTED[left.kind], left.why), []).append(left.span)
    return "; ".join(f"{word} {spans_said(calendar, numbers)}: {why}" for (word, why), numbers in groups.items())


def admit(decision: Decision, span: int, gates: Iterable[Gate], calendar: Calendar) -> tuple[Admission, str]:
    """Whether a span may enter a window, by what its source and its validators say."""
    status = status_of(decision)
    if status is Status.ABSENT:
        return Admission.ABSENT, ""
    if status is Status.PENDING:
        return Admission.LATER, held(decision)
    if status is Status.STUCK:
        return Admission.FAILED, f"left out span {calendar.say(span)}: {held(decision)}"
    for gate in gates:
        admission, why = judge(gate, span, calendar)
        if admission is not Admission.YES:
            return admission, why
    return Admission.YES, ""


def choose(select: Window, artifacts: Iterable[Artifact]) -> tuple[Artifact, ...]:
    """The window's part of artifacts that are there already, such as what Transform made."""
    ordered = in_order(artifacts)
    match select:
        case Newest():
            return ordered[-select.count :]
        case AnyOf():
            return in_order({a.id: a for each in select.windows for a in choose(each, ordered)}.values())
        case _:
            return tuple(a for a in ordered if wants(select, a.span or 0, 0))


def complete(
    select: Window, taken: Taken, numbers: Iterable[int], arrived: Callable[[int], bool], calendar: Calendar
) -> Taken | Held:
    """The window, if it has all that its selector asks for."""
    there = sorted(numbers)
    because = ""
    if isinstance(select, Pinned):
        lacking = [calendar.say(n) for n in select.spans if n not in there]
        if lacking:
            because = f"pinned span {', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not there"
    elif isinstance(select, AnyOf):
        because = "" if taken.artifacts else "0 of 1 spans"
    elif len(taken.artifacts) < select.least:
        because = f"{len(taken.artifacts)} of {select.least} spans"
    elif select.consecutive:
        gap = calendar.gap(there[0], there[-1], arrived)
        because = f"span {calendar.say(gap)} has not arrived, and on_gap says wait" if gap is not None else ""
    if not because:
        return taken
    said = f"{because}; {taken.note}" if taken.note else because
    return Held(said, taken.stuck, left_out=taken.left_out, short=because if taken.note else "")


def in_order(artifacts: Iterable[Artifact]) -> tuple[Artifact, ...]:
    """By span, then by age."""
    return tuple(sorted(artifacts, key=lambda a: (a.span or 0, a.id)))


def _candidates(select: Window, spans: Iterable[int], found: _Found) -> Iterator[int]:
    """The spans that the selector would like to have, newest first, beside what is found meanwhile."""
    for number in sorted(spans, reverse=True):
        if wants(select, number, len(found)):
            yield number
        elif isinstance(select, Newest):
            return


def wants(select: Window, number: int, found: int) -> bool:
    """Whether the selector would like to have a span, of which as many newer ones are `found` already."""
    match select:
        case Newest():
            return found < select.count
        case AllSpans():
            return True
        case Between():
            return (select.first is None or number >= select.first) and (select.last is None or number <= select.last)
        case Pinned():
            return number in select.spans
        case AnyOf():
            return any(wants(each, number, found) for each in select.windows)


def _names(select: Window, number: int) -> bool:
    """Whether the selector asks for exactly this span, whatever keeps it out of other windows."""
    pinned = select.windows if isinstance(select, AnyOf) else (select,)
    return any(isinstance(each, Pinned) and number in each.spans for each in pinned)


def judge(gate: Gate, span: int, calendar: Calendar) -> tuple[Admission, str]:
    """Whether a gate lets a span pass, and why not."""
    decision = gate.decisions.get(span)
    if decision is None:
        return Admission.YES, ""
    status = status_of(decision)
    if status is Status.PENDING:
        return Admission.LATER, held(decision)
    if status is not Status.READY:
        return Admission.FAILED, f"left out span {calendar.say(span)}: {held(decision)}"
    refused = next((a for made in outputs_of(decision).values() for a in made if not a.blessed), None)
    if refused is None or gate.policy == "warn" or span in gate.accepted:
        return Admission.YES, ""
    why = f"span {calendar.say(span)}: {gate.name}: {refused.properties.get('reason', 'anomalies')}"
    if gate.policy == "block":
        return Admission.STOP, why
    return Admission.QUARANTINED, f"quarantined {why}"
