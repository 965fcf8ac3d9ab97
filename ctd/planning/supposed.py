"""The world in which spans have arrived that have not: what `ctd plan --with-span` asks about. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ctd.core.calendars import NotASpan, SpanRef
from ctd.core.errors import NotFound, NotPossible
from ctd.core.spans import PatternError, Span, SpanPattern, span_name
from ctd.planning.backfills import unread
from ctd.planning.world import SpanFact, SpansFact, World
from ctd.specs.pipeline import PipelineSpec


class NothingSupposed(NotPossible):
    """What is to be supposed cannot be, or would change nothing."""

    exit_code = 2


def with_spans(spec: PipelineSpec, world: World, said: Sequence[SpanRef], node: str = "") -> World:
    """The world in which these spans of an input are complete, with content never seen before.

    Without a version a span is the next version where there are versions, else it is new or has changed in its place.
    Raises NotFound for an input that there is not, NothingSupposed.
    """
    if not said:
        return world
    name = _input(spec, node)
    fact = world.spans.get(name, SpansFact())
    there = {found.span: found for found in fact.spans}
    calendar = spec.inputs[name].calendar
    for ref in said:
        try:
            span = Span(calendar.one(ref), ref.version)
        except NotASpan as error:
            raise NothingSupposed(f"--with-span {ref.text}, of {name}: {error}", hint=error.hint) from error
        if not calendar.exists(span.number):
            raise NothingSupposed(f"--with-span {ref.text}, of {name}: the clocks of {calendar.zone} skip it")
        meant = _meant(span, spec.inputs[name].pattern, name, there)
        if unread(spec.inputs[name], name, spec.name, world.history, meant.number):
            hint = f"`ctd backfill {spec.name} ... --dry-run` says what reading old spans would do."
            said_as = span_name(calendar, meant.number, meant.version)
            raise NothingSupposed(f"span {said_as} is before the `start` of {name}: it would not be read", hint=hint)
        there[meant] = SpanFact(meant, "(supposed)", (), True, "complete: supposed", digest=f"supposed {meant.label}")
    spans = tuple(sorted(there.values(), key=lambda found: found.span))
    return replace(world, spans={**world.spans, name: SpansFact(spans)})


def _input(spec: PipelineSpec, node: str) -> str:
    inputs = sorted(spec.inputs)
    if node and node not in inputs:
        raise NotFound(f"{spec.name} has no input {node!r}", hint=f"Inputs: {', '.join(inputs) or 'none'}.")
    if not inputs:
        raise NothingSupposed(f"{spec.name} reads no spans: none can arrive")
    if not node and len(inputs) > 1:
        hint = f"Say it with --input: {' or '.join(inputs)}."
        raise NothingSupposed(f"{spec.name} has {len(inputs)} inputs: which one has the span arrived in?", hint=hint)
    return node or inputs[0]


def _meant(said: Span, pattern: SpanPattern, name: str, there: Mapping[Span, SpanFact]) -> Span:
    """The span that is to be supposed, with its version. Raises NothingSupposed."""
    calendar, number = pattern.calendar, pattern.calendar.say(said.number)
    if not pattern.versioned and said.version is not None:
        hint = f"Write --with-span {number}: it has arrived, or has changed in its place."
        raise NothingSupposed(f"spans of {name} have no versions ({pattern.text})", hint=hint)
    if not pattern.tokens and said.number:
        raise NothingSupposed(f"{name} has one span, without a number ({pattern.text})", hint="Write --with-span 0.")
    versions = {s.version: f for s, f in there.items() if s.number == said.number and s.version is not None}
    newest = max((version for version, found in versions.items() if found.complete), default=None)
    if said.version is not None and newest is not None and said.version < newest:
        hint = f"Write --with-span {number}: the next version of it."
        name = span_name(calendar, said.number, said.version)
        raise NothingSupposed(f"version {newest} of span {number} is there: {name} would change nothing", hint=hint)
    span = said
    if pattern.versioned and said.version is None:
        after = [version for version in versions if newest is None or version > newest]  # they are on their way
        span = Span(said.number, max(after) if after else (newest or 0) + 1)
    try:
        pattern.path_of(span)
    except PatternError as error:
        raise NothingSupposed(str(error), hint=error.hint) from error
    return span
