"""What a decision means for the work that depends on it."""

from __future__ import annotations

import bisect
import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ctd.core.artifacts import Artifact
from ctd.core.executions import LeftOut
from ctd.planning.decisions import Blocked, Decision, Plan, Reuse, Run, Wait


class Status(enum.Enum):
    """What a decision means for those who want its result."""

    READY = "ready"
    PENDING = "pending"  # on its way
    STUCK = "stuck"  # someone must mend something first
    ABSENT = "absent"  # a span that has not arrived yet


def status_of(decision: Decision) -> Status:
    match decision:
        case Reuse():
            return Status.READY
        case Run():
            return Status.PENDING
        case Blocked():
            return Status.READY if decision.outputs else Status.STUCK
        case Wait():
            if decision.outputs:
                return Status.READY
            if decision.absent:
                return Status.ABSENT
            return Status.STUCK if decision.stuck else Status.PENDING


def outputs_of(decision: Decision) -> Mapping[str, tuple[Artifact, ...]]:
    return {} if isinstance(decision, Run) else decision.outputs


def used(made: Plan) -> Iterator[Artifact]:
    """The artifacts that a plan rests on: results that stay, and inputs of what is to run."""
    for decision in made.decisions:
        taken = decision.inputs if isinstance(decision, Run) else outputs_of(decision)
        for artifacts in taken.values():
            yield from artifacts


@dataclass
class Decided:
    """What was decided so far, as sources for what comes next."""

    single: dict[tuple[str, str], Decision] = field(default_factory=dict)
    by_span: dict[tuple[str, str], dict[int, Decision]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)  # why there are no spans, by the node that reads them
    late: dict[str, Mapping[int, str]] = field(default_factory=dict)  # spans that came too late, by that node
    disputed: dict[str, frozenset[int]] = field(default_factory=dict)  # spans of which nothing new is to be made
    silent: dict[str, str] = field(default_factory=dict)  # what to say of inputs that bring nothing new
    _ascending: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def before(self, place: tuple[str, str], span: int) -> Iterator[int]:
        """The spans below one that a piece decided about, highest first. Only once all of them are decided."""
        if place not in self._ascending:
            self._ascending[place] = sorted(self.by_span[place])
        numbers = self._ascending[place]
        return (numbers[at] for at in range(bisect.bisect_left(numbers, span) - 1, -1, -1))


@dataclass(frozen=True)
class Taken:
    """The artifacts of one input; `note` says what was left out, `stuck` that mending is needed for that."""

    artifacts: tuple[Artifact, ...]
    note: str = ""
    stuck: bool = False
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class Held:
    """The input is not there: why, and whether someone must mend something."""

    because: str
    stuck: bool = False
    refused: bool = False  # a verdict said no, which is not an error
    left_out: tuple[LeftOut, ...] = ()
    short: str = ""  # without what was left out, where `because` tells of that


def held(decision: Decision) -> str:
    """How a decision reads in the reason of one that depends on it."""
    s = decision.subject
    name = f"{s.node}/{s.key}" if s.key else s.node
    match decision:
        case Run():
            return f"{name} is to run"
        case Blocked():
            return f"{name} is blocked: {decision.because}"
        case Wait() if decision.running:
            return f"{name} is running"
        case Wait() if decision.follows:  # a chain of waits is told by its end, not by every link
            return decision.short or decision.because
        case _:
            return f"{name} waits: {decision.because}"
