"""What the files of an artifact were when it was published, and whether they still are.

A CRC32C per file, not a digest: it finds what disks, memory and people do to files, at the speed of memory. The
identity of the content is the artifact's digest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping

import google_crc32c

from ctd.core.artifacts import Artifact
from ctd.core.errors import BadInput, StorageUnavailable
from ctd.core.failpoints import fp
from ctd.storage.contents import trouble
from ctd.storage.digests import tree_files

CHECKSUMS = "checksums"  # the custom property: sizes and checksums by relative name, as JSON

_ALL = "*"  # instead of names, where there are too many to keep them in the metadata
_MOST = 256
_SHOWN = 3  # files named in a message
_CHUNK = 1 << 20

_Sums = Mapping[str, tuple[int, str]]


def checksums(path: str | os.PathLike[str]) -> str:
    """The property for the files below `path`. Raises StorageUnavailable."""
    return _to_json(_folded(_read(os.fspath(path))))


def size_faults(artifact: Artifact) -> str:
    """What is wrong with names and sizes, or nothing. Raises OSError for what cannot be looked at.

    What is there besides the recorded files is seen by `content_faults`; only artifacts whose files were not
    recorded one by one are counted through.
    """
    said = _recorded(artifact)
    if not said or _ALL in said:
        return _total_faults(artifact)
    return _joined(
        f"{name} is gone" if found is None else f"{name}: {found:,} of {size:,} bytes"
        for name, (size, _) in said.items()
        if (found := _size(f"{artifact.uri}/{name}")) != size
    )


def content_faults(artifact: Artifact) -> str:
    """What is wrong with names, sizes and contents, or nothing. Raises OSError, StorageUnavailable.

    An artifact that was published without checksums is judged by its sizes.
    """
    said = _recorded(artifact)
    wrong = size_faults(artifact)
    if wrong or not said:
        return wrong
    if _ALL not in said:
        strange = [name for name, _ in tree_files(artifact.uri) if name not in said]
        if strange:
            return _joined(f"{name} was not there when it was made" for name in strange)
    return _joined(_differences(said, _folded(_read(artifact.uri))))


def _differences(said: _Sums, there: _Sums) -> Iterator[str]:
    for name, (_, checksum) in said.items():
        _, found = there.get(name, (0, "none"))
        if found != checksum:
            yield f"{'its files' if name == _ALL else name}: checksum {found} instead of {checksum}"


def _total_faults(artifact: Artifact) -> str:
    files, size = artifact.properties.get("files"), artifact.properties.get("bytes")
    if not isinstance(files, int) or not isinstance(size, int):
        return ""  # of an external or older artifact nothing is known but its place
    there, found = _count(artifact.uri)
    if (there, found) == (files, size):
        return ""
    return f"{found:,} of {size:,} bytes in {there:,} of {files:,} files"


def _count(folder: str) -> tuple[int, int]:
    files = size = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                more_files, more_bytes = _count(entry.path)
                files, size = files + more_files, size + more_bytes
            else:
                files, size = files + 1, size + entry.stat().st_size
    return files, size


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def _read(folder: str) -> dict[str, tuple[int, str]]:
    try:
        return {name: _crc32c(path) for name, path in tree_files(folder)}
    except OSError as error:
        place = str(error.filename or folder)
        raise StorageUnavailable(trouble(place, error), hint="Check the disk of the state directory.") from error
    except BadInput as error:  # a pipe or a circle of links where there were files: whatever it is, it is not ours
        raise StorageUnavailable(error.message, hint=error.hint) from error


def _crc32c(path: str) -> tuple[int, str]:
    fp("artifact.read")
    size = checksum = 0
    with open(path, "rb", buffering=0, opener=_without_waiting) as file:
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            checksum = google_crc32c.extend(checksum, chunk)
    return size, f"{checksum:08x}"


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # for a FIFO's other end


def _folded(sums: _Sums) -> _Sums:
    """One entry for all where there are many: then a fault is found, but not whose it is."""
    if len(sums) <= _MOST:
        return sums
    total = sum(size for size, _ in sums.values())
    return {_ALL: (total, f"{google_crc32c.value(_to_json(sums).encode()):08x}")}


def _to_json(sums: _Sums) -> str:
    return json.dumps(sums, separators=(",", ":"), sort_keys=True)


def _recorded(artifact: Artifact) -> dict[str, tuple[int, str]]:
    said = artifact.properties.get(CHECKSUMS)
    return {name: (size, checksum) for name, (size, checksum) in json.loads(str(said)).items()} if said else {}


def _joined(faults: Iterator[str]) -> str:
    found = list(faults)
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more
