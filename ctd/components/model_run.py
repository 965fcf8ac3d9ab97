"""What of `fn_args.model_run_dir` is kept: files and folders.

Experiment trackers leave links to their latest run there, debuggers sockets, Lightning and the like FIFOs. They mean
nothing once the folder is published elsewhere, and are no reason to lose a training.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

_NAMED = 5
_KINDS = {
    stat.S_IFLNK: "link",
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "FIFO",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def without_others(folder: Path) -> str:
    """Remove what cannot be published from a folder, at any depth; a note about it for people, or nothing.

    That is all but files and folders, links to them too, and what has a name that is not UTF-8.
    """
    removed = sorted(_removed(folder, folder))
    if not removed:
        return ""
    named = ", ".join(f"{name} ({kind})" for name, kind in removed[:_NAMED])
    more = f" and {len(removed) - _NAMED} more" if len(removed) > _NAMED else ""
    return f"skipped in model_run_dir, which keeps files and folders only: {named}{more}"


def _removed(folder: Path, root: Path) -> Iterator[tuple[str, str]]:
    """Remove them; their paths in the root, in UTF-8, and what they were."""
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        path, kind = Path(entry.path), _in_the_way(entry)
        if kind:
            shutil.rmtree(path) if entry.is_dir(follow_symlinks=False) else path.unlink()
            yield os.fsencode(path.relative_to(root)).decode(errors="backslashreplace"), kind
        elif entry.is_dir(follow_symlinks=False):
            yield from _removed(path, root)


def _in_the_way(entry: os.DirEntry[str]) -> str:
    """Why an entry cannot be published, or nothing."""
    mode = entry.stat(follow_symlinks=False).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return _KINDS.get(stat.S_IFMT(mode), "special file")
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return "a name that is not UTF-8"
    return ""
