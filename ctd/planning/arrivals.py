"""When spans came: which came too late for windows, and whether a source has fallen silent. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from ctd.core.timing import format_duration
from ctd.planning.decisions import Alert, AlertKind
from ctd.planning.world import SpansFact, World
from ctd.specs.nodes import ExampleGenSpec


def late(node: ExampleGenSpec, name: str, pipeline: str, numbers: Iterable[int], world: World) -> dict[int, str]:
    """Spans that came more than `max_lateness` after a newer one was read, each with the reason.

    A span has come when its first execution began: of any version, so that a correction is never late. What came
    together, or while nobody looked, is not late either: a backlog is read oldest first.
    """
    if node.max_lateness is None:
        return {}
    arrived = world.history.arrived(pipeline, name)
    read = world.history.arrived(pipeline, name, read=True)
    found: dict[int, str] = {}
    newer: tuple[datetime, int] | None = None  # the newer span that was read first
    for number in sorted({*numbers, *read}, reverse=True):
        after = arrived.get(number, world.now) - newer[0] if newer else None
        if newer and after is not None and after > node.max_lateness:
            most = format_duration(node.max_lateness)
            found[number] = f"it came {format_duration(after)} after span {newer[1]}, later than max_lateness {most}"
        at = read.get(number)
        if at is not None and number not in node.deny and (newer is None or at < newer[0]):
            newer = at, number
    return found


def silent_from(
    node: ExampleGenSpec, name: str, pipeline: str, fact: SpansFact | None, world: World
) -> datetime | None:
    """From when on the source counts as silent, unless another span comes; None where that is not asked for."""
    known: Mapping[int, datetime] = world.history.arrived(pipeline, name)
    first = node.start
    arrived = {n: at for n, at in known.items() if first is None or n >= first}  # a backfill is no sign of life
    if node.stale_after is None or not arrived:
        return None
    new = (s.span.number for s in (fact.spans if fact else ()) if s.complete and s.span.number not in arrived)
    if any(first is None or number >= first for number in new):
        return None  # one has just come
    return max(arrived.values()) + node.stale_after


def silence(node: ExampleGenSpec, name: str, since: datetime) -> Alert:
    """What to say of a source that is silent since then."""
    said = format_duration(node.stale_after) if node.stale_after else ""
    last = since - node.stale_after if node.stale_after else since
    because = f"no new span since {last:%Y-%m-%d %H:%M} UTC (stale_after {said}): what is made is made of old data"
    places = " and ".join(pattern.text for pattern in node.patterns.values())
    hint = f"See what keeps the source of {places}, or raise `stale_after`."
    return Alert(name, because, hint, kind=AlertKind.SILENT, since=last)
