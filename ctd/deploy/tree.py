"""Directory trees on disk: their identity by content, copies that survive power loss, removal nobody sees half of."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from ctd.core.errors import BadInput
from ctd.core.failpoints import fp
from ctd.core.fingerprints import digest_of

_CHUNK = 1 << 20


def manifest(root: Path) -> Mapping[str, str]:
    """SHA-256 of every file below a directory, by relative path. Raises BadInput for links and special files."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise BadInput(
                f"{path} is a link or a special file", hint="A model consists of plain files: write the content itself."
            )
        if path.is_file():
            found[path.relative_to(root).as_posix()] = _sha256(path)
    return found


def shape(root: Path) -> Mapping[str, tuple[int, int]]:
    """Size and time of modification of every file below a directory, by relative path: what a look can afford."""
    found = {}
    for folder, _, names in os.walk(root, onerror=_raise):
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118 - at every look
            facts = os.lstat(path)
            found[os.path.relpath(path, root)] = (facts.st_size, facts.st_mtime_ns)
    return found


def _raise(error: OSError) -> None:
    raise error


def tree_digest(files: Mapping[str, str]) -> str:
    """One digest for a whole manifest."""
    return digest_of(dict(files))


def copy_durably(source: Path, target: Path, files: Mapping[str, str], mode: int) -> None:
    """Copy the files of a manifest and have the disk confirm each; raises OSError, also for a copy that differs.

    `mode` is that of directories; files get it without the execute bits.
    """
    target.mkdir()
    folders = {target}
    for name, digest in files.items():
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        folders.update(parent for parent in copy.parents if parent.is_relative_to(target))
        fp("push.copy_mid")
        with (source / name).open("rb") as reader, copy.open("xb") as writer:
            shutil.copyfileobj(reader, writer, _CHUNK)
            writer.flush()
            os.fsync(writer.fileno())
        copy.chmod(mode & 0o666)
        if _sha256(copy) != digest:
            raise OSError(f"{copy} differs from {source / name} after copying")
    for folder in sorted(folders, reverse=True):
        folder.chmod(mode)
        sync_directory(folder)


def write_durably(path: Path, text: str) -> None:
    """Replace a small file by another in one step that survives power loss."""
    if path.is_file() and path.read_text() == text:
        return
    new = path.with_name(f".ctd-tmp-{path.name}")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the entries of a directory durable: renames in it, files made in it."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
