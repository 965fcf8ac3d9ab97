"""Manifests on disk: read before the files they list are looked at, and held against them."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ctd.core.manifests import Listed, ManifestError, lacking, parse_manifest
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


def hold_against(manifests: Sequence[FoundManifest], contents: Contents) -> None:
    """Keep the files that manifests list, with the checksums they say, and note what is there otherwise."""
    if not manifests:
        return
    there = {file.path: file.size for file in contents.files}
    wanted: dict[str, Listed] = {}
    for manifest in manifests:
        contents.traces.append(manifest.trace)
        if manifest.problem:
            contents.lacking.append(manifest.problem)
        folder = os.path.dirname(manifest.path)
        paths = {listed.name: os.path.join(folder, listed.name) for listed in manifest.listed}
        sizes = {name: size for name, path in paths.items() if (size := _size(path, there, contents)) is not None}
        contents.lacking += lacking(manifest.listed, sizes)
        wanted |= {paths[listed.name]: listed for listed in manifest.listed}
    contents.beside = sorted(os.path.basename(path) for path in there if path not in wanted)
    contents.files = [replace(f, sha256=wanted[f.path].sha256) for f in contents.files if f.path in wanted]


def _size(path: str, there: dict[str, int], contents: Contents) -> int | None:
    """The size of a listed file, chosen by the pattern or not; None if it is missing."""
    if path in there:
        return there[path]
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
    contents.traces.append(trace_of(path, facts))
    return facts.st_size
