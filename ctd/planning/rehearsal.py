"""What a backfill would set off, before anybody asks for it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from ctd.core.calendars import Calendar
from ctd.core.executions import State
from ctd.core.history import History
from ctd.core.requests import OperatorRequest
from ctd.planning.decisions import Plan
from ctd.planning.forecast import Expected, copy_of, forecast, last_id_of
from ctd.planning.plan import plan
from ctd.planning.reasons import span_key
from ctd.planning.world import SpanFact, SpansFact, World
from ctd.specs.pipeline import PipelineSpec


@dataclass(frozen=True)
class Rehearsal:
    """The plan if a backfill were asked for, and what would run for it, in the order in which it would begin."""

    plan: Plan
    expected: tuple[Expected, ...]

    @property
    def cost(self) -> timedelta:
        """The sum of what is known."""
        return sum((e.took for e in self.expected if e.took), timedelta(0))


def rehearsal(spec: PipelineSpec, world: World, request: OperatorRequest) -> Rehearsal:
    """All that a backfill would set off, beside what is to be done anyway."""
    anyway = {e.run.subject for e in forecast(spec, world).expected}
    history = copy_of(world.history, spec.name)
    asked = replace(request, id=1 + last_id_of(history, spec.name))
    history.record_request(asked)
    supposed = replace(
        world,
        history=history,
        spans={name: _as_read(fact, name, spec, asked, history) for name, fact in world.spans.items()},
    )
    expected = (e for e in forecast(spec, supposed).expected if e.run.subject not in anyway)
    return Rehearsal(plan(spec, supposed), tuple(expected))


def _as_read(fact: SpansFact, node: str, spec: PipelineSpec, request: OperatorRequest, history: History) -> SpansFact:
    """The spans of an input, those that the request asks for with content: as it was when it was read, or new."""
    calendar = spec.inputs[node].calendar
    return replace(fact, spans=tuple(_with_content(s, node, calendar, request, history) for s in fact.spans))


def _with_content(
    span: SpanFact, node: str, calendar: Calendar, request: OperatorRequest, history: History
) -> SpanFact:
    number = span.span.number
    if span.digest or not span.complete or not request.covers(number):
        return span
    read = history.of_key(request.pipeline, node, "", span_key(calendar, number, span.span.version))
    contents = [str(e.ingredients["content"]) for e in read if e.state is State.SUCCEEDED]
    return replace(span, digest=contents[-1] if contents else f"new {span.span.label}")
