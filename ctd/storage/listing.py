"""What spans a pattern finds on disk, level by level, and whether they are complete.

Nothing is raised for what a disk may hold: unreadable, vanishing and odd entries become reasons.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import timedelta

from ctd.core.completeness import CompleteRule, Quiet, Sighting, judge
from ctd.core.spans import ObservedSpan, Span, SpanPattern
from ctd.core.timing import Clock
from ctd.storage.claims import Claim, Claims, Unseen
from ctd.storage.contents import Contents, Trace, trouble
from ctd.storage.reader import ContentsReader, Reading, unchanged
from ctd.storage.unchanged import FolderGlance, FolderSeen, NothingTold, Touches, Turns

_MOST_STRAYS = 50
NEWEST = 100  # files of the newest spans, which are looked at every time: what is young is corrected most


@dataclass(frozen=True)
class Listing:
    """One scan. `strays` are entries that look like spans but are not, each with its reason.

    `problem` says why nothing could be read at all; the spans are then unknown, not gone.
    """

    spans: tuple[ObservedSpan, ...] = ()
    strays: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class _Memory:
    """Since when, by the monotonic clock, and for how many scans a span has looked like this."""

    traces: tuple[Trace, ...]
    since: float
    scans: int


@dataclass(frozen=True)
class _Known:
    """What was said of a span, from which files, and how the folders were just before these were looked at."""

    paths: tuple[str, ...]
    reading: Reading
    folders: tuple[FolderSeen, ...]
    span: ObservedSpan

    def stands_for(self, span: Span, paths: tuple[str, ...]) -> bool:
        return self.span.complete and self.paths == paths and self.span.span == span


class SpanLister:
    """Lists the spans of one input, and remembers what earlier scans saw.

    A complete span is given as the same object for as long as nothing in it changes. Where `touches` tells of changes,
    not every scan looks at every file (`ctd.storage.unchanged`).
    """

    def __init__(
        self,
        pattern: SpanPattern,
        rule: CompleteRule,
        clock: Clock,
        touches: Touches | None = None,
        newest: int = NEWEST,
    ) -> None:
        self._pattern = pattern
        self._rule = rule
        self._clock = clock
        self._newest_files = newest
        self._glance = FolderGlance(clock, touches or NothingTold())
        self._claims = Claims(pattern, rule, self._glance)
        self._reader = ContentsReader(pattern.components[pattern.root + 1 :], rule)
        self._turns = Turns()
        self._memory: dict[str, _Memory] = {}
        self._known: dict[str, _Known] = {}

    def scan(self) -> Listing:
        """Look at everything under the pattern, once."""
        self._glance.begin()
        strays: list[str] = []
        claims: dict[Span, list[Claim]] = {}
        try:
            base = self._pattern.base
            if not stat.S_ISDIR(self._glance.facts(base).st_mode):
                return Listing(problem=f"{base} is not a folder")
            for claim in self._claims.find(strays):
                claims.setdefault(claim.span, []).append(claim)
        except (OSError, ValueError) as error:
            return Listing(problem=trouble(base, error))
        except Unseen as unseen:
            return Listing(problem=str(unseen))
        order = sorted(claims, key=Span.order)
        closely = self._turns.take(self._glance.now) | frozenset(self._newest([claims[span] for span in order]))
        spans = tuple(self._observe(span, claims[span], closely) for span in order)
        self._forget({span.path for span in spans})
        if len(strays) > _MOST_STRAYS:
            strays[_MOST_STRAYS:] = [f"and {len(strays) - _MOST_STRAYS} more"]
        return Listing(spans, tuple(strays))

    def _forget(self, there: Set[str]) -> None:
        """Whatever is not there any more."""
        for path in self._known.keys() - there:
            del self._known[path]
            self._turns.forget(path)
        for path in self._memory.keys() - there:
            del self._memory[path]

    def _newest(self, claims: Sequence[list[Claim]]) -> Iterator[str]:
        files = 0
        for first, *_ in reversed(claims):
            known = self._known.get(first.name)
            files += len(known.span.files) if known else 0
            if files > self._newest_files:
                return
            yield first.name

    def _observe(self, span: Span, claims: list[Claim], closely: frozenset[str]) -> ObservedSpan:
        first = claims[0]
        paths: tuple[str, ...] = (first.path,)
        if faults := [claim.fault for claim in claims if claim.fault]:
            return ObservedSpan(span, first.path, (), False, "; ".join(faults), passing=True)
        if len(claims) > 1:
            if len({(c.group, c.path if c.is_folder else "") for c in claims}) > 1:
                return self._disputed(span, claims)
            paths = tuple(sorted(claim.path for claim in claims))
        known = self._known.get(first.name)
        if known and not known.stands_for(span, paths):
            known = None
        if known and first.name not in closely and self._as_it_was(known):
            return known.span
        self._turns.had(first.name)
        if known and first.is_folder and known.reading.verified():
            reading, said = known.reading, known.span
        else:
            reading = self._reader.folder(first.path) if first.is_folder else self._reader.files(list(paths))
            same = known is not None and known.reading.contents == reading.contents
            said = known.span if known and same else self._said(span, first.name, reading.contents)
        self._known[first.name] = _Known(paths, reading, tuple(self._folders(first, reading)), said)
        return said

    def _as_it_was(self, known: _Known) -> bool:
        """Whether a complete span need not be looked at in full."""
        return all(map(self._glance.same, known.folders)) and unchanged(known.reading.loose)

    def _folders(self, claim: Claim, reading: Reading) -> Iterator[FolderSeen]:
        known = self._known.get(claim.name)
        before = {seen.path: seen for seen in known.folders} if known else {}
        if not claim.is_folder:
            yield self._claims.seen(os.path.dirname(claim.path))
        for path, (trace, _) in reading.folders.items():
            yield self._glance.seen(trace, before.get(path))

    def _said(self, span: Span, path: str, contents: Contents) -> ObservedSpan:
        files = tuple(contents.files)
        seen = self._remember(path, contents)
        if contents.faults:
            return ObservedSpan(span, path, files, False, "; ".join(sorted(contents.faults)[:3]), passing=True)
        judged = judge(self._rule, seen, self._clock.now())
        return ObservedSpan(span, path, files, judged.complete, judged.because, judged.ready_at, passing=judged.passing)

    def _disputed(self, span: Span, claims: list[Claim]) -> ObservedSpan:
        paths = sorted({claim.path for claim in claims})
        more = f" and {len(paths) - 2} more" if len(paths) > 2 else ""
        because = f"{paths[0]} and {paths[1]}{more} all claim to be span {self._pattern.say(span)}: keep one"
        return ObservedSpan(span, paths[0], (), False, because, passing=True)

    def _remember(self, path: str, contents: Contents) -> Sighting:
        files = tuple(contents.files)
        partitions = tuple(contents.partitions)
        if not isinstance(self._rule, Quiet):
            return Sighting(
                files,
                partitions=partitions,
                markers=contents.markers,
                markers_needed=contents.markers_needed,
                lacking=tuple(contents.lacking),
                beside=tuple(contents.beside),
                unchosen=tuple(contents.unchosen),
                unfinished=tuple(contents.unfinished),
            )
        now, traces = self._clock.monotonic(), tuple(contents.traces)
        before = self._memory.get(path)
        same = before is not None and before.traces == traces
        seen = _Memory(traces, before.since, before.scans + 1) if before and same else _Memory(traces, now, 1)
        self._memory[path] = seen
        return Sighting(files, timedelta(seconds=now - seen.since), seen.scans, partitions=partitions)
