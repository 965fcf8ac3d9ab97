"""Everything a plan may depend on, frozen at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ctd.core.facts import CodeFact, Damage, FileFact, TargetSeen
from ctd.core.history import History
from ctd.core.spans import Span
from ctd.core.work import SourceFile


@dataclass(frozen=True)
class SpanFact:
    """A span as storage shows it. `digest` is the identity of its content, empty while it is being read.

    `passing` says of one that is not complete that this may pass: it is in its quiet period, or cannot be read.
    """

    span: Span
    path: str
    files: tuple[SourceFile, ...]
    complete: bool
    because: str
    ready_at: datetime | None = None
    digest: str = ""
    passing: bool = False


@dataclass(frozen=True)
class SpansFact:
    """All spans below one input, or the reason why they cannot be seen."""

    spans: tuple[SpanFact, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class TargetFact:
    """A declared target; `settings` is its spec as JSON, with the pipeline's own path filled in.

    `seen` is how the version is that was pushed last, if there is one.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    repair: bool = True  # whether what is damaged is pushed again
    pin: int = 0  # the version that nothing newer takes the place of
    server: str = ""  # where the one behind it is asked
    uploads: str = ""  # the repository behind it, that is to have every version too
    seen: TargetSeen | None = None


@dataclass(frozen=True)
class FireFact:
    """The times of a node's cron on both sides of now; `problem` says why they cannot be told."""

    before: datetime | None = None  # the last one that has come
    at: datetime | None = None  # the next one
    problem: str = ""


@dataclass(frozen=True)
class World:
    """The facts, and the time.

    `missing` holds places of recorded results that are no longer whole; `damaged` says of those that were found
    damaged, now or before, in which way. What is `unreadable` may be whole: it is neither used nor made again. What
    came before `watched` nobody may have been there to see.
    """

    now: datetime
    history: History
    spans: Mapping[str, SpansFact] = field(default_factory=dict)  # by node
    code: Mapping[str, CodeFact] = field(default_factory=dict)  # by module path
    files: Mapping[str, FileFact] = field(default_factory=dict)  # by path
    fires: Mapping[str, FireFact] = field(default_factory=dict)  # by node with a cron
    watched: datetime | None = None  # since when this daemon looks at the pipeline; none: always
    backlog: Mapping[str, frozenset[int]] = field(default_factory=dict)  # by node: spans that were there by then
    packages: Mapping[str, str] = field(default_factory=dict)  # versions of installed packages that specs name
    targets: Mapping[str, TargetFact] = field(default_factory=dict)  # by name
    missing: frozenset[str] = frozenset()
    damaged: Mapping[str, Damage] = field(default_factory=dict)  # by place
    unreadable: Mapping[str, str] = field(default_factory=dict)  # by place: why it cannot be looked at
