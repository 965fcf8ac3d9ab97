"""Looking at the world: storage, code, files, targets and what was recorded become one frozen World."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from ctd.core.completeness import CompleteRule
from ctd.core.errors import CtdError, SpecError
from ctd.core.executions import State
from ctd.core.facts import FileFact
from ctd.core.history import History
from ctd.core.spans import ObservedSpan, Span
from ctd.core.timing import Clock
from ctd.core.work import SourceFile
from ctd.engine.intact import Intact
from ctd.engine.observe_targets import TargetObserver
from ctd.planning.backfills import reading_turn, unread
from ctd.planning.reasons import span_key
from ctd.planning.world import FireFact, SpanFact, SpansFact, World
from ctd.specs.nodes import ExampleGenSpec
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.targets import AnyTarget
from ctd.storage.code import CodeReader
from ctd.storage.code_deps import code_dep_fact
from ctd.storage.digests import FileDigests, file_fact, span_digest
from ctd.storage.listing import SpanLister
from ctd.storage.packages import installed_version
from ctd.storage.split_listing import SplitLister, lister_of
from ctd.storage.unchanged import Touches
from ctd.watching.schedule import last_fire, next_fire

_AT_ONCE = 16 << 20  # bytes of new data that one look reads itself; the rest is read beside it
_BESIDE = 4  # spans of a pipeline that are read beside it at a time: new ones need not queue behind a backlog


@dataclass
class _Input:
    """The lister of one input, and what it last saw.

    The lister gives a complete span as the same object for as long as nothing in it changes: so does its fact last.
    """

    said: str | Mapping[str, str]  # its pattern, or one for each split
    rule: CompleteRule
    lister: SpanLister | SplitLister
    strays: tuple[str, ...] = ()
    backlog: frozenset[int] | None = None  # the spans that it saw first; None until it could look
    facts: dict[str, tuple[ObservedSpan, SpanFact]] = field(default_factory=dict)


class _Reading(NamedTuple):
    """The content of a span on its way."""

    pipeline: str
    digest: Future[str]


class Observer:
    """Sees the world for one daemon. `on_read` is called with a pipeline when content it waits for was read."""

    def __init__(
        self,
        clock: Clock,
        on_read: Callable[[str], None],
        touches: Touches | None = None,
        digests: FileDigests | None = None,
    ) -> None:
        self._clock = clock
        self._on_read = on_read
        self._touches = touches
        self._inputs: dict[tuple[str, str], _Input] = {}
        self.intact = Intact()
        self._digests = digests or FileDigests(clock)
        self._code = CodeReader()
        self._targets = TargetObserver(clock)
        self._watched: dict[str, datetime] = {}  # since when, by pipeline
        self._fires: dict[tuple[str, str], FireFact] = {}  # by cron and time zone
        self._left = 0  # bytes that the current look may still read
        self._reading: dict[tuple[SourceFile, ...], _Reading] = {}
        self._readers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="digest")

    def observe(self, spec: PipelineSpec, targets: Mapping[str, AnyTarget], history: History) -> World:
        """The world as it matters to one pipeline."""
        self._left = _AT_ONCE
        spans = {name: self._spans(spec.name, name, node, history) for name, node in spec.inputs.items()}
        world = World(
            now=self._clock.now(),
            history=history,
            spans=spans,
            backlog={name: self._inputs[spec.name, name].backlog or frozenset() for name in spans},
            code={path: self._code.read(path) for path in spec.modules},
            files={path: self._file(path, code=path in spec.code_deps) for path in spec.files},
            fires={name: self._fire(*cron) for name in spec.nodes if (cron := cron_of(spec, name))},
            watched=self._watched.setdefault(spec.name, self._clock.now()),
            packages={name: installed_version(name) for name in spec.packages},
            targets={name: self._targets.see(target, spec, history) for name, target in targets.items()},
        )
        self._digests.save()
        return world

    def _file(self, path: str, *, code: bool) -> FileFact:
        return code_dep_fact(path, self._digests, self._code) if code else file_fact(path, self._digests.of)

    def _fire(self, cron: str, zone: str) -> FireFact:
        known, now = self._fires.get((cron, zone)), self._clock.now()
        if known and known.at and known.before and known.before <= now < known.at:
            return known
        self._fires[cron, zone] = found = fire_fact(cron, zone, now)
        return found

    def strays(self, pipeline: str) -> tuple[str, ...]:
        """What looked like spans at the last look, but was not."""
        return tuple(s for (name, _), seen in self._inputs.items() if name == pipeline for s in seen.strays)

    def forget(self, pipeline: str) -> None:
        self._watched.pop(pipeline, None)
        self._inputs = {key: seen for key, seen in self._inputs.items() if key[0] != pipeline}

    def code_files(self, spec: PipelineSpec) -> tuple[str, ...]:
        """The module files of a pipeline and all that they import from their own trees."""
        return tuple(sorted({f for path in spec.modules for f in (path, *self._code.read(path).files)}))

    def close(self) -> None:
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._digests.close()

    def _spans(self, pipeline: str, name: str, node: ExampleGenSpec, history: History) -> SpansFact:
        rule = node.complete.rule
        seen = self._inputs.get((pipeline, name))
        if seen is None or (seen.said, seen.rule) != (node.input, rule):
            seen = _Input(node.input, rule, lister_of(node.patterns, rule, self._clock, self._touches))
            self._inputs[pipeline, name] = seen
        listing = seen.lister.scan()
        seen.strays, spans = listing.strays, listing.spans
        if seen.backlog is None and not listing.problem:
            seen.backlog = frozenset(found.span.number for found in spans)
        before, seen.facts = seen.facts, {}
        facts: dict[Span, SpanFact] = {}
        changed = []
        for found in spans:
            known = before.get(found.path)
            if unread(node, name, pipeline, history, found.span.number):
                facts[found.span] = SpanFact(found.span, found.path, found.files, found.complete, found.because)
            elif known and known[0] is found:
                seen.facts[found.path], facts[found.span] = known, known[1]
            else:
                changed.append(found)
        changed.sort(key=lambda found: reading_turn(history, pipeline, name, found.span.number))
        for found in changed:
            facts[found.span] = self._seen(pipeline, name, found, history)
            digest = facts[found.span].digest
            if found.complete and digest and self._digests.known(found.files) == digest:
                seen.facts[found.path] = found, facts[found.span]
        return SpansFact(tuple(facts[found.span] for found in spans), listing.problem)

    def _seen(self, pipeline: str, node: str, seen: ObservedSpan, history: History) -> SpanFact:
        return self._fact(pipeline, seen) if seen.complete else self._incomplete(pipeline, node, seen, history)

    def _incomplete(self, pipeline: str, node: str, seen: ObservedSpan, history: History) -> SpanFact:
        """A span in its quiet period is complete at once if it is as it was when it was read.

        Who watches has just been started, or the folder was touched; windows must not shrink for that.
        """
        fact = SpanFact(seen.span, seen.path, seen.files, False, seen.because, seen.ready_at, passing=seen.passing)
        if seen.ready_at is None:
            return fact
        key = span_key(seen.span.number, seen.span.version)
        read = [e for e in history.of_key(pipeline, node, "", key) if e.state is State.SUCCEEDED]
        if not read or any(f.mtime_ns / 1e9 > read[-1].started.timestamp() for f in seen.files):
            return fact  # new, or being written: reading it now would be in vain
        with contextlib.suppress(CtdError):
            digest = self._digest(pipeline, seen.files)
            for execution in reversed(read):
                if execution.ingredients.get("content") == digest:
                    because = f"complete: as it was when execution {execution.id} read it"
                    return SpanFact(seen.span, seen.path, seen.files, True, because, digest=digest)
        return fact

    def _fact(self, pipeline: str, seen: ObservedSpan) -> SpanFact:
        try:
            digest = self._digest(pipeline, seen.files)
        except CtdError as error:  # it changed or vanished since the scan, or its disk is away: look again later
            return SpanFact(seen.span, seen.path, seen.files, False, error.message, passing=True)
        return SpanFact(seen.span, seen.path, seen.files, True, f"complete: {seen.because}", digest=digest)

    def _digest(self, pipeline: str, files: tuple[SourceFile, ...]) -> str:
        known = self._digests.known(files)
        if known:
            return known
        size = sum(f.size for f in files)
        if size <= self._left:
            self._left -= size
            return span_digest(files, self._digests)
        pending = self._reading.get(files)
        if pending is None:
            # What was read is known by now; what was asked for by nobody since has changed.
            self._reading = {key: reading for key, reading in self._reading.items() if not reading.digest.done()}
            if sum(reading.pipeline == pipeline for reading in self._reading.values()) >= _BESIDE:
                return ""
            pending = _Reading(pipeline, self._readers.submit(span_digest, files, self._digests))
            self._reading[files] = pending
            pending.digest.add_done_callback(lambda _: self._on_read(pipeline))
        if not pending.digest.done():
            return ""
        del self._reading[files]
        return pending.digest.result()


def fire_fact(cron: str, zone: str, now: datetime) -> FireFact:
    """The times of a cron in a time zone on both sides of now."""
    try:
        return FireFact(last_fire(cron, zone, now), next_fire(cron, zone, now))
    except SpecError as error:
        return FireFact(problem=error.message)


def cron_of(spec: PipelineSpec, node: str) -> tuple[str, str] | None:
    """The cron of a node and its time zone, if it has one."""
    schedule = getattr(spec.nodes[node], "schedule", None)
    return (schedule.cron, schedule.timezone) if schedule and schedule.cron else None
