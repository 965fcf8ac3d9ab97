"""What is there at one moment: in ML Metadata, on the disk, among processes. Nothing of it is judged here.

It is read past ctd's engine: the metadata as SQLite, files as files.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import google_crc32c

from ctd.core.artifacts import Artifact
from ctd.core.executions import Execution, State
from ctd.metadata import sqlite_reading
from tests.soak.project import Project

Shape = Mapping[str, int]
"""Sizes of files by name."""

Span = tuple[str, int, "int | None"]
"""Pipeline, number and version."""


@dataclass(frozen=True)
class Again:
    """A node that was to do once more what it had done; asked for at some time between these two."""

    node: str
    since: datetime
    until: datetime


@dataclass(frozen=True)
class Harm:
    """What faults and people did on purpose: nobody answers for that."""

    places: frozenset[str] = frozenset()  # folders and files of artifacts
    versions: frozenset[int] = frozenset()
    again: tuple[Again, ...] = ()


@dataclass(frozen=True)
class Seen:
    """One look. `alive` are pids."""

    executions: tuple[Execution, ...] = ()
    deleted: frozenset[int] = frozenset()
    wrong: Mapping[int, str] = field(default_factory=dict)  # by artifact: what is wrong with its files
    places: frozenset[str] = frozenset()  # where artifacts lie
    staged: frozenset[str] = frozenset()
    versions: Mapping[int, str] = field(default_factory=dict)  # on the target, by number: what is wrong with it
    hidden: frozenset[str] = frozenset()  # beside them
    alive: frozenset[int] = frozenset()
    harm: Harm = field(default_factory=Harm)
    spans: frozenset[Span] = frozenset()  # complete ones that had time to be read

    def succeeded(self, node: str = "", piece: str = "") -> list[Execution]:
        wanted = (e for e in self.executions if e.state is State.SUCCEEDED and (not node or e.node == node))
        return [e for e in wanted if not piece or e.piece == piece]

    def pushes(self) -> list[tuple[Execution, int, int]]:
        """Execution, version and model of every push, oldest first."""
        found = []
        for execution in self.succeeded("pusher"):
            for artifact in execution.output("pushed_model"):
                if artifact.properties.get("pushed") == 1:
                    version, model = artifact.properties["pushed_version"], artifact.properties["model_id"]
                    found.append((execution, int(version), int(model)))
        return sorted(found, key=lambda push: push[0].id)

    def artifacts(self) -> dict[int, Artifact]:
        return {a.id: a for e in self.executions for made in e.outputs.values() for a in made}

    def harmed(self, artifact: Artifact) -> bool:
        return any(place == artifact.uri or place.startswith(f"{artifact.uri}/") for place in self.harm.places)


class Looker:
    """Takes looks. What was found whole once is read again only if its size has changed."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._whole: dict[int, Shape] = {}

    def look(self, alive: frozenset[int], harm: Harm, spans: frozenset[Span]) -> Seen:
        """Raises sqlite_reading.Unreadable and OSError: a fault may forbid looking."""
        executions, deleted = self.recorded()
        made = {a.id: a for e in executions for some in e.outputs.values() for a in some}
        base = Seen(executions=executions, deleted=deleted, alive=alive, harm=harm, spans=spans)
        live = [a for a in made.values() if a.id not in deleted and not base.harmed(a)]
        return Seen(
            executions=executions,
            deleted=deleted,
            wrong={a.id: said for a in live if (said := self._wrong(a))},
            places=frozenset(str(p) for p in self._project.state.glob("artifacts/*/*/*/*")),
            staged=frozenset(p.name for p in self._project.state.glob("staging/*")),
            versions=self._versions(base, made),
            hidden=frozenset(p.name for p in self._project.versions.glob(".*") if p.name != ".ctd"),
            alive=alive,
            harm=harm,
            spans=spans,
        )

    def recorded(self) -> tuple[tuple[Execution, ...], frozenset[int]]:
        """Of a copy: to look must not change what a crash has left."""
        with tempfile.TemporaryDirectory(dir=self._project.root) as folder:
            for path in self._project.state.glob("metadata.sqlite*"):
                if not path.name.endswith("-shm"):
                    shutil.copyfile(path, Path(folder, path.name))
            copy = Path(folder, self._project.store.name)
            executions = sqlite_reading.read(copy, sqlite_reading.executions)
            deleted = sqlite_reading.read(copy, sqlite_reading.deleted_artifacts)
        return tuple(sorted(executions, key=lambda e: e.id)), frozenset(deleted)

    def _wrong(self, artifact: Artifact) -> str:
        place = Path(artifact.uri)
        shape = sizes(place)
        if self._whole.get(artifact.id) == shape:
            return ""
        said = differences(place, shape, _recorded(artifact))
        if not said:
            self._whole[artifact.id] = shape
        return said

    def _versions(self, base: Seen, made: Mapping[int, Artifact]) -> dict[int, str]:
        """What a version on the target lacks of the model that was pushed as it; of one not recorded yet, of any."""
        models = {version: model for _, version, model in base.pushes()}
        found = {}
        for place in self._project.versions.glob("[0-9]*"):
            number, shape = int(place.name), sizes(place)
            if number in base.harm.versions:
                continue
            told = [made[models[number]]] if number in models else [m for m in made.values() if m.type.value == "Model"]
            wrong = [differences(place, shape, _served(model)) for model in told]
            found[number] = "" if "" in wrong or not place.is_dir() else (wrong or ["no model is recorded"])[0]
        return found


def sizes(folder: Path) -> Shape:
    """Of every file below a folder; nothing where there is none."""
    found = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                found[path.relative_to(folder).as_posix()] = path.stat().st_size
    return found


def differences(folder: Path, there: Shape, recorded: Mapping[str, tuple[int, str]]) -> str:
    """What is wrong with the files of a folder."""
    for name in sorted({*there, *recorded}):
        if name not in there:
            return f"{folder}: {name} is gone"
        if name not in recorded:
            return f"{folder}: {name} is nobody's"
        size, checksum = recorded[name]
        if there[name] != size:
            return f"{folder}: {name} has {there[name]} of {size} bytes"
        if f"{google_crc32c.value((folder / name).read_bytes()):08x}" != checksum:
            return f"{folder}: {name} has other bytes"
    return ""


def _recorded(artifact: Artifact) -> dict[str, tuple[int, str]]:
    said = json.loads(str(artifact.properties.get("checksums", "{}")))
    return {name: (size, checksum) for name, (size, checksum) in said.items()}


def _served(model: Artifact) -> dict[str, tuple[int, str]]:
    prefix = "Format-Serving/"
    return {n.removeprefix(prefix): said for n, said in _recorded(model).items() if n.startswith(prefix)}
