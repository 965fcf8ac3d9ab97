"""Which entries under a pattern say that they are spans, level by level. Folders are listed only if they changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ctd.core.completeness import CompleteRule, Manifest, Marker
from ctd.core.spans import Component, PatternError, Span, SpanPattern
from ctd.storage.contents import kind_of, trace_of, trouble
from ctd.storage.unchanged import FolderGlance, FolderSeen


class Unseen(Exception):
    """A folder of many spans is there but cannot be read: which spans there are is not known."""


@dataclass(frozen=True)
class Claim:
    """An entry that says it is a span: a folder, or a file (several files of one name pattern are one span)."""

    span: Span
    path: str
    group: str  # the path with its digits and open `*`: the same for all files of one span
    is_folder: bool = False
    fault: str = ""  # there is something, but it cannot be looked at

    @property
    def name(self) -> str:
        """What the span is called by, whichever of its files is looked at."""
        return self.path if self.is_folder else self.group


@dataclass
class _Entry:
    """A name that matches, with its digits and those of the folders above."""

    path: str
    group: str
    digits: Mapping[str, str]
    link: bool
    claim: Claim | None = None  # as it was found last

    @property
    def stands(self) -> bool:
        """A plain file stays one for as long as the names in its folder do."""
        return self.claim is not None and not self.claim.is_folder and not self.link


@dataclass(frozen=True)
class _Level:
    """The entries of one folder, and when it was listed."""

    seen: FolderSeen
    entries: tuple[_Entry, ...]
    strays: tuple[str, ...] = field(default=())


class Claims:
    """Finds the claims of one input."""

    def __init__(self, pattern: SpanPattern, rule: CompleteRule, glance: FolderGlance) -> None:
        self._pattern = pattern
        self._marker = rule.name if isinstance(rule, Marker | Manifest) else ""
        self._inside = pattern.components[pattern.root + 1 :]
        self._glance = glance
        self._levels: dict[str, _Level] = {}
        self._before: dict[str, _Level] = {}

    def find(self, strays: list[str]) -> Iterator[Claim]:
        """All claims, in no order. Raises OSError if the base cannot be read, and Unseen."""
        self._before, self._levels = self._levels, {}
        yield from self._walk(self._pattern.base, 0, {}, strays)

    def seen(self, folder: str) -> FolderSeen:
        """How a folder was when its entries were listed last."""
        return self._levels[folder].seen

    def _walk(self, folder: str, depth: int, found: Mapping[str, str], strays: list[str]) -> Iterator[Claim]:
        """Entries that match, down to the level of spans. Raises OSError only for `folder` itself."""
        level = self._level(folder, depth, found)
        strays += level.strays
        for entry in level.entries:
            if entry.claim and entry.stands:
                yield entry.claim
                continue
            path = entry.path
            try:
                facts = self._glance.note(path, os.stat(path))
                if depth < self._pattern.root:
                    yield from self._below(entry, facts, depth, strays)
                elif reason := self._unfit(facts):
                    strays.append(f"{path} is {reason}")
                else:
                    yield self._claim(entry, facts)
            except OSError as error:
                strays.append(trouble(path, error))
                yield from self._out_of_reach(entry, error)
            except PatternError as error:
                strays.append(f"{path}: {error}")

    def _claim(self, entry: _Entry, facts: os.stat_result) -> Claim:
        is_folder = stat.S_ISDIR(facts.st_mode)
        if entry.claim is None or entry.claim.is_folder is not is_folder:
            entry.claim = Claim(self._pattern.read(entry.digits), entry.path, entry.group, is_folder)
        return entry.claim

    def _out_of_reach(self, entry: _Entry, error: OSError) -> Iterator[Claim]:
        """The span that an entry stands for which is there but cannot be read: it is not gone."""
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return
        if not {*entry.digits, "VERSION"}.issuperset(self._pattern.tokens):
            raise Unseen(trouble(entry.path, error)) from error
        yield Claim(self._pattern.read(entry.digits), entry.path, entry.path, fault=trouble(entry.path, error))

    def _below(self, entry: _Entry, facts: os.stat_result, depth: int, strays: list[str]) -> Iterator[Claim]:
        if stat.S_ISDIR(facts.st_mode):
            yield from self._walk(entry.path, depth + 1, entry.digits, strays)
        elif self._pattern.components[depth].tokens:
            strays.append(f"{entry.path} is {kind_of(facts)}, not a folder")

    def _level(self, folder: str, depth: int, found: Mapping[str, str]) -> _Level:
        before = self._before.get(folder)
        if before is None or not self._glance.same(before.seen):
            # How the folder is comes first: what changes while it is listed shows the next time.
            trace = trace_of(folder, self._glance.facts(folder))
            strays: list[str] = []
            entries = tuple(self._entries(folder, self._pattern.components[depth], found, strays))
            before = _Level(self._glance.seen(trace, before.seen if before else None), entries, tuple(strays))
        self._levels[folder] = before
        return before

    def _entries(
        self, folder: str, component: Component, found: Mapping[str, str], strays: list[str]
    ) -> Iterator[_Entry]:
        """The names that match one component, with their digits, in no order."""
        prefix = folder.rstrip("/") + "/"
        if component.literal:
            path = prefix + component.text
            if os.path.lexists(path):
                yield _Entry(path, path, found, os.path.islink(path))
            return
        with os.scandir(prefix) as entries:
            for entry in entries:
                name = entry.name
                digits = component.match(name)
                if self._marks(component, name, digits) or component.passes_over(name):
                    continue
                if digits is not None:
                    group = prefix + component.filled(digits)
                    yield _Entry(prefix + name, group, {**found, **digits}, entry.is_symlink())
                elif component.stray(name):
                    strays.append(f"{prefix}{name} does not fit {component.text}")

    def _marks(self, component: Component, name: str, digits: Mapping[str, str] | None) -> bool:
        """Whether a name is that of a marker or manifest beside a file, and not of a file."""
        if not self._marker or not name.endswith(self._marker):
            return False
        return digits is None or component.match(name.removesuffix(self._marker)) is not None

    def _unfit(self, facts: os.stat_result) -> str:
        """Why an entry with the right name cannot be a span."""
        if stat.S_ISDIR(facts.st_mode):
            return ""
        if not stat.S_ISREG(facts.st_mode):
            return f"{kind_of(facts)}, neither a file nor a folder"
        return "a file, not a folder" if self._inside else ""
