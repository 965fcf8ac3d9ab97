"""Run one component on real files, without daemon, plan or metadata."""

import importlib
import itertools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
from pydantic import TypeAdapter

from ctd.components.api import Work
from ctd.core.artifacts import Artifact, Artifacts
from ctd.core.work import Made, Request, SourceFile
from ctd.specs.nodes import AnyNode


class Perform(Protocol):
    def __call__(
        self,
        component: str,
        folder: Path | None = None,
        *,
        spec: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Artifact | Iterable[Artifact]] | None = None,
        files: Iterable[Path | SourceFile] = (),
        **request: Any,
    ) -> Artifacts: ...


def source(path: Path) -> SourceFile:
    """A file of a span as a listing sees it now."""
    stat = path.stat()
    return SourceFile(str(path), stat.st_size, stat.st_mtime_ns)


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Perform:
    """`work("example_gen", spec={...}, inputs={"schema": artifact}, files=[path])` gives its artifacts by output.

    The spec's `kind` is the component unless it says another; further keywords are fields of the Request (`span`,
    `version`, `module`, `paths`, `target`). Staging is below `folder`, or a fresh directory.
    """
    numbers = itertools.count(1)

    def perform(
        component: str,
        folder: Path | None = None,
        *,
        spec: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Artifact | Iterable[Artifact]] | None = None,
        files: Iterable[Path | SourceFile] = (),
        **request: Any,
    ) -> Artifacts:
        entrypoint = f"ctd.components.{component}"
        node = TypeAdapter(AnyNode).validate_python({"kind": component, **(spec or {})})
        piece = next(p for p in node.pieces() if p.entrypoint == entrypoint)
        number = next(numbers)
        staging = (folder or tmp_path_factory.mktemp(component)) / f"{component}-{number}"
        staging.mkdir(parents=True)
        asked = Request(
            execution_id=number,
            pipeline="test",
            node=component,
            kind=node.kind,
            key="all",
            entrypoint=entrypoint,
            staging=str(staging),
            spec=node.model_dump(mode="json"),
            outputs=piece.makes,
            piece=piece.name,
            inputs={key: (a,) if isinstance(a, Artifact) else tuple(a) for key, a in (inputs or {}).items()},
            files=tuple(f if isinstance(f, SourceFile) else source(f) for f in files),
            **request,
        )
        # Through JSON, as the daemon sends it.
        outputs = importlib.import_module(entrypoint).run(Work(Request.from_json(asked.to_json())))

        def final(key: str, index: int, made: Made) -> Artifact:
            uri, type_ = str(staging / made.path), piece.makes[key]
            return Artifact(type_, uri, made.digest, made.span, made.version, made.properties, 100 * number + index)

        return {key: tuple(final(key, i, m) for i, m in enumerate(several)) for key, several in outputs.items()}

    return perform


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the Chicago taxi data's data.csv and schema.pbtxt."""
    said = os.environ.get("CTD_REAL_DATA")
    if not said:
        pytest.skip("CTD_REAL_DATA does not name the folder of the real data")
    return Path(said) / "taxi"


@pytest.fixture(scope="module")
def saved_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one small SavedModel per name."""
    directory = tmp_path_factory.mktemp("saved_models")
    importlib.import_module("tests.components.serving_models").build(directory)
    return directory
