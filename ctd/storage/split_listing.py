"""Spans whose splits arrive in places of their own: a span is what all splits have of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ctd.core.completeness import CompleteRule, Manifest
from ctd.core.spans import ObservedSpan, PatternError, Span, SpanPattern
from ctd.core.timing import Clock
from ctd.core.work import SourceFile
from ctd.storage.listing import Listing, SpanLister
from ctd.storage.unchanged import Touches

_Parts = Mapping[str, ObservedSpan | None]


def lister_of(
    patterns: Mapping[str, SpanPattern], rule: CompleteRule, clock: Clock, touches: Touches | None = None
) -> SpanLister | SplitLister:
    """The lister of an input: of the one pattern of split "", or of the patterns of several splits."""
    if list(patterns) == [""]:
        return SpanLister(patterns[""], rule, clock, touches)
    return SplitLister(patterns, rule, clock, touches)


@dataclass(frozen=True)
class _Joined:
    """What was said of a span, and of which parts: listers give the same object while a complete one is the same."""

    parts: _Parts
    span: ObservedSpan


class SplitLister:
    """Lists the spans of an input with a pattern per split. A span is complete when it is in every split."""

    def __init__(
        self,
        patterns: Mapping[str, SpanPattern],
        rule: CompleteRule,
        clock: Clock,
        touches: Touches | None = None,
    ) -> None:
        self._patterns = patterns
        mine = replace(rule, shared=True) if isinstance(rule, Manifest) else rule
        self._listers = {split: SpanLister(pattern, mine, clock, touches) for split, pattern in patterns.items()}
        self._joined: dict[Span, _Joined] = {}

    def scan(self) -> Listing:
        """Look at everything under all patterns, once."""
        listings = {split: lister.scan() for split, lister in self._listers.items()}
        problems = [f"{split}: {listing.problem}" for split, listing in listings.items() if listing.problem]
        strays = tuple(dict.fromkeys(stray for listing in listings.values() for stray in listing.strays))
        if problems:
            return Listing(strays=strays, problem="; ".join(problems))
        found = {split: {span.span: span for span in listing.spans} for split, listing in listings.items()}
        spans = sorted({span for there in found.values() for span in there}, key=Span.order)
        self._joined = {span: self._join(span, found) for span in spans}
        return Listing(tuple(joined.span for joined in self._joined.values()), strays)

    def _join(self, span: Span, found: Mapping[str, Mapping[Span, ObservedSpan]]) -> _Joined:
        parts = {split: _part(span, there) for split, there in found.items()}
        before = self._joined.get(span)
        if before and all(part is before.parts[split] for split, part in parts.items()):
            return before
        return _Joined(parts, self._span(span, parts))

    def _span(self, span: Span, parts: _Parts) -> ObservedSpan:
        there = {split: part for split, part in parts.items() if part}
        files = tuple(replace(file, split=split) for split, part in there.items() for file in part.files)
        path = next(iter(there.values())).path
        twice = next(_in_two_splits(files), "")
        if twice:
            return ObservedSpan(span, path, files, False, twice, passing=True)
        if all(part and part.complete for part in parts.values()):
            because = "; ".join(f"{split}: {part.because}" for split, part in there.items())
            return ObservedSpan(span, path, files, True, because)
        lacking = {split: part for split, part in parts.items() if part is None or not part.complete}
        because = "; ".join(
            f"{split}: {part.because if part else f'no {self._place(split, span)} yet'}"
            for split, part in lacking.items()
        )
        times = [part.ready_at for part in lacking.values() if part and part.ready_at]
        ready_at = max(times) if len(times) == len(lacking) else None
        passing = all(part and part.passing for part in lacking.values())
        return ObservedSpan(span, path, files, False, because, ready_at, passing)

    def _place(self, split: str, span: Span) -> str:
        try:
            return self._patterns[split].path_of(span)
        except PatternError:  # widths may differ between the splits
            return self._patterns[split].text


def _part(span: Span, there: Mapping[Span, ObservedSpan]) -> ObservedSpan | None:
    """What a split has of a span. If the folder of its versions cannot be read, that stands for all of them."""
    unread = there.get(Span(span.number)) if span.version is not None else None
    return there.get(span) or (unread if unread and unread.passing else None)


def _in_two_splits(files: tuple[SourceFile, ...]) -> Iterator[str]:
    """Evaluating on what was trained on shows nothing, so that it is most likely a mistake in the patterns."""
    splits: dict[str, str] = {}
    for file in files:
        if file.path in splits:
            yield f"{file.path} is in {splits[file.path]} and in {file.split}: let `input` choose different files"
        splits[file.path] = file.split
