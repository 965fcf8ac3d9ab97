"""Whose turn it is when slots are scarce: all that is to run, of all pipelines, in one order.

What waits here is no promise. It is taken from a pipeline's latest plan and gone with the next one, so that what was
paused, superseded or removed never keeps a slot from others.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from ctd.core.executions import Execution
from ctd.engine.readiness import Readiness
from ctd.engine.slots import BESIDE, Slots
from ctd.planning.decide import running_since
from ctd.planning.decisions import AT_ONCE, Decision, Plan, Run, Subject, Wait
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.wired import WiredPiece


@dataclass(frozen=True)
class Claim:
    """Something that is to run, and what its place in the order depends on."""

    spec: PipelineSpec
    wired: WiredPiece
    run: Run
    place: int  # in the plan's own queue
    pool: str
    priority: int

    @classmethod
    def of(cls, spec: PipelineSpec, wired: WiredPiece, run: Run, place: int) -> Claim:
        pool = BESIDE if wired.piece.watches or run.urgent else spec.node(wired.node).pool_of(wired.piece)
        return cls(spec, wired, run, place, pool, spec.priority_of(wired.node))

    @property
    def pipeline(self) -> str:
        return self.spec.name

    @property
    def of_span(self) -> bool:
        """Whether it is work on a single span that no backfill asked for."""
        return self.run.span is not None and self.run.turn == AT_ONCE

    @property
    def input(self) -> tuple[str, str]:
        """The pipeline and the node that reads the spans."""
        return self.pipeline, self.wired.root or self.wired.node


class Turns:
    """Higher priority first; then what takes over the slot of work that gave way to it; then all before any backfill;
    then the pipeline that has gone without for longest; then as its plan has it, deeper nodes first, the spans of
    several inputs in turn.

    A pipeline that never had a slot comes first among equals, so a backlog of one holds up no other; of such, the one
    that was there first.
    """

    def __init__(self, slots: Slots, readiness: Readiness) -> None:
        self._slots = slots
        self._readiness = readiness
        self._waiting: dict[str, list[Claim]] = {}
        self._plans: dict[str, Plan] = {}
        self._served: dict[str, int] = {}  # when each pipeline last had a slot, as a count of all that were given
        self._came: dict[str, int] = {}  # which came first, of those that never had one: a new look changes no order
        self._comers = itertools.count()
        self._looked_at: dict[tuple[str, str], int] = {}  # when each input last had one, by pipeline and node
        self._count = 0

    def put(self, spec: PipelineSpec, made: Plan) -> None:
        """What the plan says is to run waits for its turn, and nothing else of this pipeline."""
        work = {w.id: w for w in spec.work}
        self._plans[spec.name] = made
        if spec.name not in self._came:
            self._came[spec.name] = next(self._comers)
        claims = [
            Claim.of(spec, work[run.subject.node, run.subject.piece], run, place)
            for place, run in enumerate(made.queue)
        ]
        self._waiting[spec.name] = self._alternating(claims)

    def _alternating(self, claims: list[Claim]) -> list[Claim]:
        """Spans of several inputs take turns, so that one with more than there are slots for starves no other."""
        by_input: dict[tuple[str, str], list[Claim]] = {}
        for claim in claims:
            if claim.of_span:
                by_input.setdefault(claim.input, []).append(claim)
        if len(by_input) < 2:
            return claims
        longest_ago = sorted(by_input, key=lambda name: self._looked_at.get(name, 0))
        turns = itertools.chain.from_iterable(itertools.zip_longest(*(by_input[name] for name in longest_ago)))
        mixed = (claim for claim in turns if claim is not None)
        ordered = (next(mixed) if claim.of_span else claim for claim in claims)
        return [replace(claim, place=place) for place, claim in enumerate(ordered)]

    def drop(self, pipeline: str) -> None:
        """Nothing of the pipeline waits until there is another plan."""
        self._waiting.pop(pipeline, None)

    def forget(self, pipeline: str) -> None:
        """The pipeline is no longer wanted."""
        self.drop(pipeline)
        self._plans.pop(pipeline, None)
        self._served.pop(pipeline, None)
        self._came.pop(pipeline, None)
        self._looked_at = {name: at for name, at in self._looked_at.items() if name[0] != pipeline}

    def next(self, but: Collection[str] = ()) -> Claim | None:
        """Whoever comes first of those that have room; pipelines named in `but` are passed over."""
        if any(self._waiting.values()) and self._readiness.refusal:
            return None
        room: dict[str, bool] = {}
        for claim in self._in_order():
            if claim.pipeline in but:
                continue
            if claim.pool not in room:
                room[claim.pool] = not self._slots.lacking(claim.pool)
            if room[claim.pool]:
                return claim
        return None

    def taken(self, claim: Claim, execution: Execution) -> None:
        """It was started."""
        self._count += 1
        self._served[claim.pipeline] = self._count
        if claim.of_span:
            self._looked_at[claim.input] = self._count
        self._slots.take(execution, claim.pool)
        self._waiting[claim.pipeline] = [other for other in self._waiting[claim.pipeline] if other is not claim]
        running = Wait(claim.run.subject, running_since(execution), execution=execution.id)
        self._plans[claim.pipeline] = _with(self._plans[claim.pipeline], {claim.run.subject: running})

    def plans(self) -> Iterator[Plan]:
        """The plans as they are now: what has begun runs, and what waits for a slot says who has it."""
        waits: dict[str, dict[Subject, Decision]] = {name: {} for name in self._plans}
        ahead: dict[str, int] = {}
        lacking: dict[str, str] = {}
        closed = self._readiness.refusal if any(self._waiting.values()) else ""
        for claim in self._in_order():
            if closed:
                waits[claim.pipeline][claim.run.subject] = self._held(claim.run, closed)
                continue
            if claim.pool not in lacking:
                lacking[claim.pool] = self._slots.lacking(claim.pool)
            reason = lacking[claim.pool]
            if reason:
                before = ahead.get(reason, 0)
                ahead[reason] = before + 1
                waits[claim.pipeline][claim.run.subject] = _waiting(claim.run, reason, before)
        for name, made in self._plans.items():
            yield _with(made, waits[name])

    def _held(self, run: Run, closed: str) -> Wait:
        because = f"nothing is started: {closed}; {self._readiness.hint}"
        lasting = self._readiness.lasting
        return Wait(run.subject, because, until=self._readiness.look_again, stuck=lasting, queued=not lasting)

    def _in_order(self) -> list[Claim]:
        return sorted((claim for claims in self._waiting.values() for claim in claims), key=self._rank)

    def _rank(self, claim: Claim) -> tuple[int, bool, bool, int, int, int]:
        name, backfill = claim.pipeline, claim.run.turn != AT_ONCE
        turn = self._served.get(name, 0), self._came[name]
        return -claim.priority, not claim.run.supersedes, backfill, *turn, claim.place


def _waiting(run: Run, lacking: str, before: int) -> Wait:
    first = f"; {before} {'goes' if before == 1 else 'go'} before it" if before else ""
    return Wait(run.subject, f"waits for a slot: {lacking}{first}; then: {run.because}", queued=True)


def _with(made: Plan, decisions: dict[Subject, Decision]) -> Plan:
    if not decisions:
        return made
    return replace(made, decisions=tuple(decisions.get(d.subject, d) for d in made.decisions))
