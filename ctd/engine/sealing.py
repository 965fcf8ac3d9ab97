"""From what a component says it made to artifacts: every output there, counted, digested, summed and durable."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from ctd.core.artifacts import Artifact, Artifacts, ArtifactType
from ctd.core.errors import ComponentFailed
from ctd.core.work import Made, Request
from ctd.storage.checksums import CHECKSUMS, checksums
from ctd.storage.digests import tree_digest


def seal(request: Request, made: object) -> Artifacts:
    """The artifacts of an execution, URIs relative to staging. Raises ComponentFailed for what does not fit."""
    said = _outputs(request, made)
    return {key: tuple(_artifact(request, key, type_, m) for m in said[key]) for key, type_ in request.outputs.items()}


def _outputs(request: Request, made: object) -> Mapping[str, Sequence[Made]]:
    if not isinstance(made, Mapping) or set(made) != set(request.outputs):
        found = ", ".join(sorted(map(str, made))) if isinstance(made, Mapping) else type(made).__name__
        raise ComponentFailed(
            f"{request.entrypoint} returned {found or 'nothing'} where {', '.join(sorted(request.outputs))} was due",
            hint="A component returns a mapping with every output of its piece. This is a fault in the component.",
        )
    for key, artifacts in made.items():
        if not artifacts or not all(isinstance(m, Made) for m in artifacts):
            raise ComponentFailed(
                f"{request.entrypoint} made no artifact for its output {key}",
                hint="A component returns at least one Made for every output. This is a fault in the component.",
            )
    return made


def _artifact(request: Request, key: str, type_: ArtifactType, made: Made) -> Artifact:
    inside = PurePosixPath(made.path)
    if inside.is_absolute() or ".." in inside.parts or inside.parts[:1] != (key,):
        raise ComponentFailed(
            f"{request.entrypoint} put its output {key} at {made.path}", hint=f"Write below work.output({key!r})."
        )
    path = Path(request.staging, inside)
    if not path.is_dir():
        raise ComponentFailed(
            f"{request.entrypoint} left no directory for its output {key}", hint=f"Write below work.output({key!r})."
        )
    files, size = make_durable(path)
    digest = made.digest or tree_digest(path)[0]
    properties = {**made.properties, "files": files, "bytes": size, CHECKSUMS: checksums(path)}
    return Artifact(type_, str(inside), digest, made.span, made.version, properties)


def make_durable(path: Path) -> tuple[int, int]:
    """fsync every file and directory below `path`; how many files and bytes there are.

    Raises ComponentFailed for anything but files and directories: links would point elsewhere once published.
    """
    files = size = 0
    with os.scandir(path) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                more_files, more_bytes = make_durable(Path(entry.path))
                files, size = files + more_files, size + more_bytes
            elif stat.S_ISREG(status.st_mode):
                sync(Path(entry.path))
                files, size = files + 1, size + status.st_size
            else:
                raise ComponentFailed(
                    f"{entry.path} is neither a file nor a directory", hint="Write copies instead of links."
                )
    sync(path)
    return files, size


def sync(path: Path) -> None:
    """Have the disk keep a file's content or a directory's names."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
