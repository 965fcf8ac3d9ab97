"""When a span is complete: the rules, judged on what a scan of storage saw. Pure, as `ctd.core.spans`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ctd.core.timing import format_duration
from ctd.core.work import SourceFile

_SHARD = re.compile(r"(.*)-([0-9]{5,})-of-([0-9]{5,})(.*)", re.DOTALL)
_SHOWN = 3  # names in one reason


@dataclass(frozen=True)
class Marker:
    """Complete when a file of this name is there."""

    name: str


@dataclass(frozen=True)
class Manifest:
    """Complete when all that a file of this name lists is there, with the sizes it says."""

    name: str
    shared: bool = False  # it lists what lies in other splits, too


@dataclass(frozen=True)
class Renamed:
    """Complete as soon as it has its name: who writes gives it another one until then."""


@dataclass(frozen=True)
class Quiet:
    """Complete when nothing changed for this long, watched by our own clock: the times of files prove nothing."""

    period: timedelta


CompleteRule = Marker | Manifest | Renamed | Quiet


@dataclass(frozen=True)
class Sighting:
    """What a scan saw of one span, and how long it has seen just that."""

    files: tuple[SourceFile, ...]
    unchanged_for: timedelta = timedelta(0)  # since the first scan that saw this, by the monotonic clock
    scans: int = 1  # how many scans in a row saw this
    markers: int = 0  # how many markers or manifests are there
    markers_needed: int = 1  # one in a folder; a span of several files needs one for each
    lacking: tuple[str, ...] = ()  # what of it is not there as listed, or what is wrong with the manifests
    beside: tuple[str, ...] = ()  # files that the manifests do not list
    unchosen: tuple[str, ...] = ()  # files that the manifests list and `input` does not choose
    unfinished: tuple[str, ...] = ()  # names that say: still being written
    partitions: tuple[str, ...] = ()  # Hive's folders in which `input` chooses nothing


@dataclass(frozen=True)
class Judgement:
    """Whether a span is complete, why, and when it would be if nothing else happens.

    `passing`: it is not, but somebody is at it. If it was complete before, it is not gone.
    """

    complete: bool
    because: str
    ready_at: datetime | None = None
    passing: bool = False


def judge(rule: CompleteRule, seen: Sighting, now: datetime) -> Judgement:
    """Is the span complete? An empty span may be by its marker or manifest, never by being quiet or by its name."""
    judged = _judge(rule, seen, now)
    if seen.partitions and not seen.files:
        judged = replace(judged, because=f"{judged.because}; `input` chooses nothing in {_some(seen.partitions)}")
    if not judged.complete:
        return judged
    shards = "; ".join(shard_troubles(file.path for file in seen.files))
    return replace(judged, complete=False, because=f"{shards}; {judged.because}", passing=True) if shards else judged


def _judge(rule: CompleteRule, seen: Sighting, now: datetime) -> Judgement:
    match rule:
        case Marker():
            if seen.markers >= seen.markers_needed:
                return Judgement(True, f"marker {rule.name}; {_contents(seen.files)}")
            return _unmarked(rule.name, seen, now)
        case Manifest():
            return _by_manifest(rule, seen, now)
        case Renamed():
            if seen.unfinished:
                return Judgement(False, f"still being written; {_some(seen.unfinished)}", passing=True)
            said = f"has its name; {_contents(seen.files)}" if seen.files else "no files yet"
            return Judgement(bool(seen.files), said)
        case Quiet():
            return _by_quiet(rule, seen, now)


def _unmarked(name: str, seen: Sighting, now: datetime) -> Judgement:
    which = f"{seen.markers} of {seen.markers_needed} files have their {name}"
    if not seen.markers:
        which = f"no {name} yet"
    return Judgement(False, f"{which}; {_contents(seen.files)}{_last_change(seen.files, now)}")


def _by_manifest(rule: Manifest, seen: Sighting, now: datetime) -> Judgement:
    if seen.markers < seen.markers_needed:
        return _unmarked(rule.name, seen, now)
    if seen.lacking:
        return Judgement(False, f"not as {rule.name} says; {_some(seen.lacking)}", passing=True)
    beside = f"; ignored, as it is not listed: {_some(seen.beside)}" if seen.beside else ""
    if seen.unchosen and not rule.shared:
        beside += f"; listed, but not chosen by `input`: {_some(seen.unchosen)}"
    return Judgement(True, f"manifest {rule.name}; {_contents(seen.files)}{beside}")


def _by_quiet(rule: Quiet, seen: Sighting, now: datetime) -> Judgement:
    if not seen.files:
        return Judgement(False, "no files yet")
    wanted = format_duration(rule.period)
    if seen.scans >= 2 and seen.unchanged_for >= rule.period:
        return Judgement(True, f"nothing changed for {wanted}; {_contents(seen.files)}")
    so_far = format_duration(timedelta(seconds=int(seen.unchanged_for.total_seconds())))
    left = max(rule.period - seen.unchanged_for, timedelta(0))
    said = f"unchanged for {so_far.replace('0ms', '0s')} of {wanted}; {_contents(seen.files)}"
    return Judgement(False, said, now + left, passing=True)


def shard_troubles(names: Iterable[str]) -> Iterator[str]:
    """What sets of files named `*-NNNNN-of-MMMMM*` lack. They are counted from 0, or all from 1."""
    sets: dict[tuple[str, str], dict[int, set[int]]] = {}
    for name in names:
        found = _SHARD.fullmatch(name) if "-of-" in name else None
        if found:
            stem, number, total, rest = found.groups()
            sets.setdefault((stem, rest), {}).setdefault(int(total), set()).add(int(number))
    for (stem, rest), totals in sorted(sets.items()):
        if len(totals) > 1:
            said = " and of ".join(map(str, sorted(totals)))
            yield f"sets of {said} shards lie side by side ({stem.rpartition('/')[2]}-*{rest}): keep one"
            continue
        ((total, there),) = totals.items()
        first = 1 if total in there and 0 not in there else 0
        wanted = range(first, first + total)
        strange = sorted(number for number in there if number not in wanted)
        if strange:
            yield f"shard {strange[0]:05} cannot be of {total}"
        elif len(there) < total:
            missing = itertools.islice((f"{n:05}" for n in wanted if n not in there), _SHOWN)
            yield f"{len(there)} of {total} shards; missing {_some(tuple(missing), total - len(there))}"


def _some(names: tuple[str, ...], count: int = 0) -> str:
    """The first few, and how many more."""
    more = (count or len(names)) - len(names[:_SHOWN])
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more else "")


def format_bytes(count: int) -> str:
    """`0 B`, `532 B`, `1.2 MB`: decimal units, one digit after the point."""
    size, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if size < 999.95 or unit == "PB":
            break
        size /= 1000
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"


def _contents(files: tuple[SourceFile, ...]) -> str:
    if not files:
        return "no files"
    return f"{len(files)} file{'s' if len(files) > 1 else ''}, {format_bytes(sum(f.size for f in files))}"


def _last_change(files: tuple[SourceFile, ...], now: datetime) -> str:
    if not files:
        return ""
    ago = now.timestamp() - max(f.mtime_ns for f in files) / 1e9
    # A file from the future says that a clock is wrong, not how long ago it changed.
    return f", last change {format_duration(timedelta(seconds=int(ago)))} ago" if ago >= 1 else ", changed just now"
