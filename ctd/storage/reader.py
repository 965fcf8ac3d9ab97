"""Looking inside spans: at every name and every file, in Hive's folders too."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field, replace

from ctd.core.completeness import CompleteRule, Manifest, Marker, Renamed
from ctd.core.partitions import is_partition, partition_of
from ctd.core.spans import Component, hidden, unfinished
from ctd.storage.contents import Contents, Trace, trace_of, trouble
from ctd.storage.manifests import FoundManifest, hold_against, read_manifest

Names = frozenset[tuple[str, bool]]  # the entries of a folder, and whether each is or leads to a folder


@dataclass(frozen=True)
class _Marks:
    """What says that a span is complete, read before its files are looked at."""

    count: int
    manifests: tuple[FoundManifest, ...] = ()


@dataclass
class Reading:
    """What was found in a span, and in which folders, as they were just before they were listed.

    `loose` are the files that may change without a sign of their folder: links, files with several names, manifests,
    and what lies in folders that were not listed.
    """

    contents: Contents
    folders: dict[str, tuple[Trace, Names]] = field(default_factory=dict)
    loose: list[Trace] = field(default_factory=list)

    def settle(self, manifests: tuple[FoundManifest, ...], listed: set[str], *, all_listed: bool = False) -> Reading:
        """Hold the files against the manifests, and bring everything in an order that does not depend on the disk."""
        contents = self.contents
        besides = hold_against(manifests, contents, all_listed=all_listed)
        contents.files.sort(key=lambda file: file.path)
        contents.traces.sort()
        contents.unfinished.sort()
        contents.partitions.sort()
        self.loose += [manifest.trace for manifest in manifests]
        self.loose += [trace for trace in contents.traces if os.path.dirname(trace[0]) not in listed]
        # Beside the pattern nobody saw whether they are links, or have other names.
        self.loose += [trace for trace in besides if os.path.dirname(trace[0]) in listed]
        return self

    def verified(self) -> bool:
        """Whether every name and every file still is as it was, which is quicker than reading anew."""
        try:
            for path, (trace, names) in self.folders.items():
                if trace_of(path, os.stat(path)) != trace or _names(path) != names:
                    return False
        except OSError:
            return False
        return unchanged(self.contents.traces) and unchanged(self.loose)


class ContentsReader:
    """Looks inside spans, whose files the rest of a pattern may choose."""

    def __init__(self, inside: tuple[Component, ...], rule: CompleteRule) -> None:
        self._inside = inside  # the components that choose files inside a folder; none: all
        self._marker = rule.name if isinstance(rule, Marker | Manifest) else ""
        self._by_manifest = isinstance(rule, Manifest)
        self._by_name = isinstance(rule, Renamed)

    def folder(self, path: str) -> Reading:
        """A span that is a folder: the files in it, or those that the rest of the pattern chooses.

        Below, Hive's folders are looked into, `country=US`, and no others unless the pattern names them.
        """
        # The marker first: what was written before it is then surely seen.
        marks = self._marks([f"{path}/{self._marker}"])
        reading = Reading(Contents(markers=marks.count))
        self._collect(path, self._inside, reading)
        reading.settle(marks.manifests, set(reading.folders), all_listed=not self._inside)
        if marks.manifests or len(reading.folders) > 1:  # or all files lie in the folder itself
            files = reading.contents.files
            reading.contents.files = [
                replace(file, partition=partition_of(file.path, path, self._inside)) for file in files
            ]
        return reading

    def files(self, paths: list[str]) -> Reading:
        """A span that is one file, or the files of one name pattern."""
        marks = self._marks([path + self._marker for path in paths])
        reading = Reading(Contents(markers=marks.count, markers_needed=len(paths)))
        for path in paths:
            self._stat(path, "", reading, link=os.path.islink(path))
        if self._marker:
            reading.loose += _links([path + self._marker for path in paths])
        return reading.settle(marks.manifests, {os.path.dirname(path) for path in paths})

    def _collect(
        self, folder: str, inside: tuple[Component, ...], reading: Reading, above: tuple[tuple[int, int], ...] = ()
    ) -> None:
        try:
            trace = trace_of(folder, os.stat(folder))
            with os.scandir(folder) as found:
                entries = list(found)
        except OSError as error:
            reading.contents.faults.append(trouble(folder, error))
            return
        here = trace[4], trace[5]
        if here in above:
            reading.contents.faults.append(f"{folder} leads back to a folder above it")
            return
        kinds = [_is_folder(entry) for entry in entries]
        reading.folders[folder] = trace, frozenset(zip([entry.name for entry in entries], kinds, strict=True))
        for entry, is_folder in zip(entries, kinds, strict=True):
            if is_folder and (deeper := self._below(entry.name, inside)) is not None:
                self._collect(entry.path, deeper, reading, (*above, here))
            else:
                self._enter(entry, inside, reading, is_folder=is_folder)

    def _below(self, folder: str, inside: tuple[Component, ...]) -> tuple[Component, ...] | None:
        """What chooses files in a folder of a span; None if it is not looked into."""
        if not inside:
            return () if is_partition(folder) else None
        if inside[0].match(folder) is None or (inside[0].passes_over(folder) and not is_partition(folder)):
            return None
        return inside[1:]

    def _enter(
        self, entry: os.DirEntry[str], inside: tuple[Component, ...], reading: Reading, *, is_folder: bool
    ) -> None:
        name, path = entry.name, entry.path
        if self._by_name and unfinished(name):
            reading.contents.unfinished.append(name)
        if name == self._marker:
            reading.loose += _links([path])
        elif is_folder:
            if is_partition(name):
                reading.contents.partitions.append(name)
        elif not inside:
            if not (self._marker and hidden(name)):  # beside a marker, what is hidden is of no interest
                self._stat(path, name, reading, link=entry.is_symlink())
        elif len(inside) == 1 and inside[0].match(name) is not None:
            self._stat(path, name, reading, link=entry.is_symlink())

    def _stat(self, path: str, name: str, reading: Reading, *, link: bool) -> None:
        try:
            facts = os.stat(path)
        except OSError as error:
            # Temporary names come and go; a data file that does so is worth another look.
            if not hidden(name):
                reading.contents.faults.append(trouble(path, error))
            return
        reading.contents.add(path, name, facts)
        if link or (facts.st_nlink > 1 and stat.S_ISREG(facts.st_mode)):
            reading.loose.append(trace_of(path, facts))

    def _marks(self, paths: list[str]) -> _Marks:
        """The markers or manifests that are there."""
        if self._by_manifest:
            found = tuple(manifest for path in paths if (manifest := read_manifest(path)))
            return _Marks(len(found), found)
        return _Marks(sum(map(_is_file, paths)) if self._marker else 0)


def unchanged(traces: list[Trace]) -> bool:
    """Whether every one of them is what it was."""
    try:
        return all(trace_of(trace[0], os.stat(trace[0])) == trace for trace in traces)
    except OSError:
        return False


def _names(folder: str) -> Names:
    with os.scandir(folder) as entries:
        return frozenset((entry.name, _is_folder(entry)) for entry in entries)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def _links(paths: list[str]) -> list[Trace]:
    """Those that are links to something: what they lead to may go away unseen."""
    return [trace_of(path, os.stat(path)) for path in paths if os.path.islink(path) and os.path.exists(path)]
