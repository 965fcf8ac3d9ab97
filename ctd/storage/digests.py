"""Identity of bytes: SHA-256 of files, spans and folders, each file read once for as long as it stays the same."""

from __future__ import annotations

import glob
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from ctd.core.errors import BadInput, InputChanged, StorageUnavailable
from ctd.core.facts import FileFact
from ctd.core.fingerprints import digest_of
from ctd.core.timing import Clock
from ctd.core.work import SourceFile
from ctd.storage.contents import kind_of, trouble
from ctd.storage.digest_file import DigestFile, FileIdentity

_CHUNK = 1 << 20
_MOST_KNOWN = 200_000

# Two writes within one tick of a file system's clock leave the same times. Whether it ticks in nanoseconds shows in
# the times it gives; where it does not, it may be as coarse as FAT's two seconds.
_FINE_TICK = timedelta(milliseconds=50)
_COARSE_TICK = timedelta(seconds=2)

_Identity = tuple[int, int, int, int, int]
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class _Known:
    identity: _Identity
    digest: str


class FileDigests:
    """Digests of files outside the artifact store, remembered while size, times and inode stay the same.

    The time of the last status change is compared too: it cannot be set back as the time of modification can. What
    was written just before it was read is read again the next time. Safe to use from several threads.
    """

    def __init__(self, clock: Clock, lasting: DigestFile | None = None) -> None:
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._lasting = lasting

    def of(self, path: str) -> str:
        """The digest of a file. Raises StorageUnavailable, BadInput if it is no file, InputChanged if it is written."""
        return self._read(path)[1]

    def known(self, files: Sequence[SourceFile]) -> str:
        """The span's digest without reading anything, or nothing if some file must be read first."""
        found: list[tuple[SourceFile, str]] = []
        for file in files:
            try:
                facts = os.stat(file.path)
            except OSError:
                return ""
            digest = self._recall(file.path, facts)
            if not digest or not _as_listed(file, facts) or file.sha256 not in ("", digest):
                return ""
            found.append((file, digest))
        return _of_span(found)

    def save(self) -> None:
        """Write down what was read since the last time, if there is a file for it."""
        if self._lasting is not None:
            self._lasting.save()

    def close(self) -> None:
        if self._lasting is not None:
            self._lasting.close()

    def listed(self, file: SourceFile) -> str:
        """The digest of a file as it was listed.

        Raises as `of` does, InputChanged if it has changed since, and BadInput if its manifest says another checksum.
        """
        facts, digest = self._read(file.path)
        if not _as_listed(file, facts):
            raise InputChanged(f"{file.path} changed after it was listed", hint="It is looked at again by itself.")
        if file.sha256 not in ("", digest):
            said = f"the sha256 of {file.path} is {digest}, but its manifest says {file.sha256}"
            raise BadInput(said, hint="Copy the file again, or correct the manifest.")
        return digest

    def _read(self, path: str) -> tuple[os.stat_result, str]:
        try:
            there = os.stat(path)
            known = self._recall(path, there)
            if known:
                return there, known
            begun = self._clock.now()
            facts, digest = _sha256(path)
        except OSError as error:
            raise _unavailable(path, error) from error
        age = timedelta(seconds=begun.timestamp() - facts.st_ctime_ns / 1e9)
        if age > (_FINE_TICK if facts.st_ctime_ns % 1_000_000 else _COARSE_TICK):
            _keep(self._known, path, _Known(_identity(facts), digest))
            if self._lasting is not None:
                self._lasting.keep(path, _lasting(facts), digest)
        return facts, digest

    def _recall(self, path: str, facts: os.stat_result) -> str:
        """The digest of a file that is as it was when it was read, or nothing."""
        known = self._known.get(path)
        if known is not None and known.identity == _identity(facts):
            return known.digest
        digest = self._lasting.find(path, _lasting(facts)) if self._lasting is not None else ""
        if digest:
            _keep(self._known, path, _Known(_identity(facts), digest))
        return digest


def span_digest(files: Sequence[SourceFile], digests: FileDigests) -> str:
    """The identity of a span: names, contents, splits and partitions of files. Raises as `FileDigests.listed` does."""
    return _of_span([(file, digests.listed(file)) for file in files])


def tree_digest(path: str | os.PathLike[str]) -> tuple[str, int, int]:
    """Digest of a folder (names and contents of all files below it), how many files, how many bytes.

    Links count as what they lead to. Raises StorageUnavailable, and BadInput for what is neither file nor folder.
    """
    found = [(name, *_sha256_or_raise(file)) for name, file in tree_files(path)]
    digest = digest_of(sorted((name, sha) for name, _, sha in found))
    return digest, len(found), sum(facts.st_size for _, facts, _ in found)


def file_fact(path: str, of: Callable[[str], str], counts: Callable[[str], bool] = lambda name: True) -> FileFact:
    """A file, folder or glob that a spec names, by content; what is wrong with it is said, not raised.

    `of` gives the digest of a file, `counts` says by its name in a folder whether it belongs to what was named.
    """
    try:
        if glob.has_magic(path):
            above = watched_part(path)
            found = (file for file in sorted(glob.glob(path, recursive=True)) if os.path.isfile(file))
            matches = [(file, of(file)) for file in found if counts(os.path.relpath(file, above))]
            return FileFact(path, _of_files(matches))
        if os.path.isdir(path):
            files = [(name, of(file)) for name, file in tree_files(path) if counts(name)]
            return FileFact(path, digest_of(sorted(files)), "" if files else f"{path} is empty")
        return FileFact(path, of(path))
    except (StorageUnavailable, BadInput, InputChanged) as error:
        return FileFact(path, "", error.message)


def watched_part(path: str) -> str:
    """What to watch for changes of a file, a folder, or a glob: of that, the folder before its first wildcard."""
    while _is_glob(path):
        path = os.path.dirname(path)
    return path


def _is_glob(path: str) -> bool:
    return glob.has_magic(path) and not os.path.lexists(path)


def _keep(known: dict[K, V], key: K, value: V) -> None:
    """Remember without growing for ever: when it is full, everything is read once more."""
    if len(known) >= _MOST_KNOWN:
        known.clear()
    known[key] = value


def _of_span(digests: Sequence[tuple[SourceFile, str]]) -> str:
    # The same file in another split is another span, and so it is in another partition, if it is one of the examples.
    return _of_files([(file.path, digest, *filter(None, (file.split,)), *file.partition) for file, digest in digests])


def _of_files(facts: Sequence[tuple[str, ...]]) -> str:
    """The identity of files, given of each its path and what is known of it.

    Names count from the deepest folder that all files share: a span may be moved as a whole.
    """
    if not facts:
        return digest_of([])
    above = os.path.commonpath([os.path.dirname(path) for path, *_ in facts])
    return digest_of(sorted((os.path.relpath(path, above), *known) for path, *known in facts))


def tree_files(path: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """Relative names and paths of all files below a folder, in order. Raises as `tree_digest` does."""
    return _tree(os.fspath(path), "", ())


def _tree(path: str, name: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, str]]:
    """The files below the folder of that name. `above` are the folders passed, against circles."""
    try:
        facts = os.stat(path)
        here = (facts.st_dev, facts.st_ino)
        if here in above:
            raise BadInput(f"{path} leads back to a folder above it", hint="Remove the link.")
        entries = sorted(os.listdir(path))
    except OSError as error:
        raise _unavailable(path, error) from error
    for entry in entries:
        inside, below = f"{path}/{entry}", f"{name}/{entry}" if name else entry
        if os.path.isdir(inside):
            yield from _tree(inside, below, (*above, here))
        else:
            yield below, inside


def _sha256_or_raise(path: str) -> tuple[os.stat_result, str]:
    try:
        return _sha256(path)
    except OSError as error:
        raise _unavailable(path, error) from error


def _sha256(path: str) -> tuple[os.stat_result, str]:
    """Facts and digest of a file that stayed the same while it was read."""
    # Not blocking: opening a FIFO must not wait for someone to write to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise BadInput(f"{path} is {kind_of(before)}, not a file", hint="Only files and folders can be read.")
        sha, buffer = hashlib.sha256(), bytearray(_CHUNK)
        view = memoryview(buffer)
        while count := file.readinto(buffer):
            sha.update(view[:count])
        if _identity(os.fstat(descriptor)) != _identity(before):
            raise InputChanged(f"{path} changed while it was read", hint="It is looked at again by itself.")
    return before, sha.hexdigest()


def _identity(facts: os.stat_result) -> _Identity:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _lasting(facts: os.stat_result) -> FileIdentity:
    return facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _as_listed(file: SourceFile, facts: os.stat_result) -> bool:
    return (facts.st_size, facts.st_mtime_ns) == (file.size, file.mtime_ns)


def _unavailable(path: str, error: OSError) -> StorageUnavailable:
    return StorageUnavailable(trouble(path, error), hint="Check the path, its rights and the disk.")
