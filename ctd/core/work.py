"""What passes between the daemon and the process of an execution: a request in, an outcome out, both as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ctd.core.artifacts import Artifact, Artifacts, ArtifactType, Value
from ctd.core.executions import Failure, Outcome, State


class Cancelled(BaseException):
    """SIGTERM arrived. Not an Exception: the component's code must not take it for a failure of its own."""


@dataclass(frozen=True)
class SourceFile:
    """One file of a span: where it is and what it was when it was looked at.

    `sha256` is what a manifest says of it, `split` where it belongs if the data is split already, `partition` the
    names of Hive's folders that it lies in below its span (`ctd.core.partitions`).
    """

    path: str
    size: int
    mtime_ns: int
    sha256: str = ""
    split: str = ""
    partition: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """Everything a component needs to do one execution, and all it may know of the world.

    `spec` is the node's spec as JSON. `outputs` maps each output to its type. `staging` is the only directory
    that may be written. `files` are the files of the span (ExampleGen), `paths` the files that
    the spec names (Importer). `target` is the target's spec as JSON and `story` where the model came from (Pusher).
    `revision` counts the contents that the span has had, from 1. `untried` says that what is pushed takes over without
    having been a canary: somebody decided so.
    """

    execution_id: int
    pipeline: str
    node: str
    kind: str
    key: str
    entrypoint: str
    staging: str
    spec: Mapping[str, Any]
    outputs: Mapping[str, ArtifactType]
    piece: str = ""
    inputs: Artifacts = field(default_factory=dict)
    module: str | None = None
    span: int | None = None
    version: int | None = None
    revision: int = 1
    files: Sequence[SourceFile] = ()
    paths: Mapping[str, str] = field(default_factory=dict)
    target: Mapping[str, Any] = field(default_factory=dict)
    story: Mapping[str, Any] = field(default_factory=dict)
    untried: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Request:
        return cls(
            **{
                **said,
                "outputs": {key: ArtifactType(type_) for key, type_ in said["outputs"].items()},
                "inputs": _artifacts(said["inputs"]),
                "files": tuple(
                    SourceFile(**{**file, "partition": tuple(file.get("partition", ()))}) for file in said["files"]
                ),
            }
        )


@dataclass(frozen=True)
class Made:
    """One artifact a component made, at `path` (relative to staging). An empty digest means: by its bytes."""

    path: str
    digest: str = ""
    span: int | None = None
    version: int | None = None
    properties: Mapping[str, Value] = field(default_factory=dict)


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """The outcome as the child writes it; artifact URIs are still relative to staging."""
    return {
        "state": outcome.state.value,
        "outputs": {key: [asdict(a) for a in made] for key, made in outcome.outputs.items()},
        "failure": asdict(outcome.failure) if outcome.failure else None,
        "timings": dict(outcome.timings),
        "damaged": {str(artifact): found for artifact, found in outcome.damaged.items()},
    }


def outcome_from_json(said: Mapping[str, Any]) -> Outcome:
    """Raises KeyError, TypeError or ValueError for what no child of ours wrote."""
    failure = said["failure"]
    return Outcome(
        state=State(said["state"]),
        outputs=_artifacts(said["outputs"]),
        failure=Failure(**failure) if failure else None,
        timings={str(key): float(value) for key, value in said["timings"].items()},
        damaged={int(artifact): str(found) for artifact, found in said.get("damaged", {}).items()},
    )


def _artifacts(said: Mapping[str, Any]) -> Artifacts:
    return {
        key: tuple(Artifact(**{**a, "type": ArtifactType(a["type"])}) for a in artifacts)
        for key, artifacts in said.items()
    }
