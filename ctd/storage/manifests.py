"""Manifests on disk: read before the files they list are looked at, and held against them."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ctd.core.manifests import Listed, ManifestError, lacking, parse_manifest
from ctd.core.spans import hidden
from ctd.core.work import SourceFile
from ctd.storage.contents import Contents, Trace, kind_of, trace_of, trouble

_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class FoundManifest:
    """A manifest as it was when it was read."""

    trace: Trace
    listed: tuple[Listed, ...] = ()
    problem: str = ""

    @property
    def path(self) -> str:
        return self.trace[0]


def read_manifest(path: str) -> FoundManifest | None:
    """What a manifest says, or None if there is none; whatever is wrong with it is said, not raised."""
    try:
        facts = os.stat(path)
        trace = trace_of(path, facts)
        if not stat.S_ISREG(facts.st_mode):
            return FoundManifest(trace, problem=f"it is {kind_of(facts)}, not a file")
        if facts.st_size > _MOST_BYTES:
            return FoundManifest(trace, problem=f"it is larger than {_MOST_BYTES >> 20} MB")
        with open(path, "rb", opener=_without_waiting) as file:
            text = file.read().decode("utf-8", "surrogateescape").removeprefix("\ufeff")
        return FoundManifest(trace, parse_manifest(text, os.path.basename(path)))
    except FileNotFoundError:
        return None
    except ManifestError as error:
        return FoundManifest(trace, problem=f"it {error}")
    except (OSError, ValueError) as error:
        return FoundManifest((path, 0, 0, 0, 0, 0), problem=trouble(path, error))


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def hold_against(manifests: Sequence[FoundManifest], contents: Contents, *, all_listed: bool) -> list[Trace]:
    """Keep the files that manifests list, with the checksums they say, and note what is there otherwise.

    `all_listed`: what they list belongs to the span, wherever it lies and whatever its name. Otherwise, it does if the
    pattern chooses it. Gives traces of what was looked at besides.
    """
    if not manifests:
        return []
    there = {file.path: file for file in (*contents.files, *contents.hidden)}
    shown = {file.path for file in contents.files}
    besides: list[Trace] = []
    wanted: dict[str, Listed] = {}
    for manifest in manifests:
        contents.traces.append(manifest.trace)
        if manifest.problem:
            contents.lacking.append(manifest.problem)
        folder = os.path.dirname(manifest.path)
        paths = {listed.name: os.path.join(folder, listed.name) for listed in manifest.listed}
        found = {name: there.get(path) or _look(path, contents, besides) for name, path in paths.items()}
        contents.lacking += lacking(manifest.listed, {name: file.size for name, file in found.items() if file})
        wanted |= {paths[listed.name]: listed for listed in manifest.listed}
        unchosen = {name: file for name, file in found.items() if file and file.path not in there}
        if all_listed:
            there |= {file.path: file for file in unchosen.values()}
        else:
            contents.unchosen += unchosen
    contents.beside = sorted(os.path.basename(path) for path in shown if path not in wanted)
    contents.files = [
        replace(file, sha256=wanted[file.path].sha256)
        for file in there.values()
        if file.path in wanted and not _only_a_sign(file)
    ]
    contents.traces += besides
    return besides


def _only_a_sign(file: SourceFile) -> bool:
    """Whether a file says something by being there, as _SUCCESS does: `sha256sum *` lists it with the data."""
    return not file.size and hidden(os.path.basename(file.path))


def _look(path: str, contents: Contents, besides: list[Trace]) -> SourceFile | None:
    """A listed file that was not found by the pattern; None if it is missing."""
    try:
        facts = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        contents.faults.append(trouble(path, error))
        return None
    if not stat.S_ISREG(facts.st_mode):
        contents.faults.append(f"{path} is {kind_of(facts)}, not a file")
        return None
    besides.append(trace_of(path, facts))
    return SourceFile(path, facts.st_size, facts.st_mtime_ns)
