"""Manifests: what a producer says a span consists of, as JSON or as `sha256sum` writes it. Pure text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_PLAIN = re.compile(r"(\\?)([0-9a-fA-F]{64}) [ *](.+)")  # a backslash in front: the name is escaped
_TAGGED = re.compile(r"(\\?)SHA256 \((.+)\) = ([0-9a-fA-F]{64})")
_ESCAPED = re.compile(r"\\(.)")
_FORMS = 'Write {"files": [{"name": ..., "size": ..., "sha256": ...}]}, or what `sha256sum` writes.'


class ManifestError(ValueError):
    """A manifest that says nothing, or what cannot be."""


@dataclass(frozen=True)
class Listed:
    """One file as a manifest lists it; what it does not say of it is None or empty."""

    name: str  # relative to the manifest's folder
    size: int | None = None
    sha256: str = ""


def parse_manifest(text: str, own_name: str) -> tuple[Listed, ...]:
    """The files a manifest lists, by name; an entry for the manifest itself is passed over. Raises ManifestError."""
    as_json = own_name.lower().endswith(".json") or text.lstrip()[:1] in ("{", "[")
    found: dict[str, Listed] = {}
    for entry in _from_json(text) if as_json else _from_lines(text):
        name = _relative(entry.name)
        if name in found:
            raise ManifestError(f"lists {name} twice")
        found[name] = Listed(name, entry.size, entry.sha256.lower())
    found.pop(own_name, None)
    return tuple(found[name] for name in sorted(found))


def lacking(listed: tuple[Listed, ...], sizes: Mapping[str, int]) -> tuple[str, ...]:
    """What is not there as it is listed, given the sizes of what is there."""
    found = []
    for file in listed:
        size = sizes.get(file.name)
        if size is None:
            found.append(f"{file.name} is missing")
        elif file.size is not None and size != file.size:
            found.append(f"{file.name} has {size} of {file.size} bytes")
    return tuple(found)


def _from_json(text: str) -> Iterator[Listed]:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"is not JSON ({error}); is it still being written?") from None
    entries = said.get("files") if isinstance(said, dict) else said
    if not isinstance(entries, list):
        raise ManifestError(f"has no list of files. {_FORMS}")
    return map(_entry, entries)


def _entry(said: Any) -> Listed:
    name = said.get("name") if isinstance(said, dict) else None
    if not isinstance(name, str):
        raise ManifestError(f"has an entry without a name: {str(said)[:80]}. {_FORMS}")
    size, sha256 = said.get("size"), said.get("sha256", "")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise ManifestError(f"says of {name} that its size is {size!r}, which is no number of bytes")
    if not isinstance(sha256, str) or (sha256 and not _SHA256.fullmatch(sha256)):
        raise ManifestError(f"says of {name} that its sha256 is {sha256!r}, which is not 64 hexadecimal digits")
    if size is None and not sha256:
        raise ManifestError(f"says neither size nor sha256 of {name}")
    return Listed(name, size, sha256)


def _from_lines(text: str) -> Iterator[Listed]:
    if not text.strip():
        raise ManifestError("is empty; is it still being written?")
    if not text.endswith("\n"):
        raise ManifestError("has no end of its last line; is it still being written?")
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not line or line.startswith("#"):
            continue
        if plain := _PLAIN.fullmatch(line):
            escaped, sha256, name = plain.groups()
        elif tagged := _TAGGED.fullmatch(line):
            escaped, name, sha256 = tagged.groups()
        else:
            raise ManifestError(f"has a line {number} that is no checksum with a name: {line[:80]}. {_FORMS}")
        yield Listed(_unescaped(name) if escaped else name, None, sha256)


def _unescaped(name: str) -> str:
    return _ESCAPED.sub(lambda found: {"n": "\n", "r": "\r"}.get(found[1], found[1]), name)


def _relative(name: str) -> str:
    """The name without `./`. A manifest speaks of its own folder: whatever leads out of it is refused."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise ManifestError(f"lists {name}, which is outside of the span")
    if not parts or "\0" in name:
        raise ManifestError(f"lists {name!r}, which is no name of a file")
    return "/".join(parts)
