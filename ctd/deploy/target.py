"""What all destinations have in common: what is pushed, what came of it, and the server that is asked about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Candidate:
    """A model to hand over: its artifact's id and the directory that holds exactly what is to be handed over.

    `recipe` identifies of what content and how the files were made where they are not the model's own; made again they
    may differ in their bytes, and must not be another version for that. `untried` says that it is to take over at
    once, without being tried beside the live version.
    """

    id: int
    path: Path
    recipe: str = ""
    untried: bool = False


@dataclass(frozen=True)
class Pushed:
    """A version at a destination. `fresh` if this push made it, `verified` if the server answers as the model does.

    `label` is the one that the server knows it by, if ctd keeps its labels; `trial` says that this is not the live one.
    `uploaded` is the repository that has it too; `not_uploaded` why it has not, where it should.
    """

    version: int
    path: Path
    fresh: bool
    verified: bool
    note: str
    label: str = ""
    trial: bool = False
    uploaded: str = ""
    not_uploaded: str = ""


class Phase(enum.Enum):
    """How far a server is with a version, in the words of TensorFlow Serving's ModelService."""

    UNKNOWN = "unknown"  # the server has not seen it yet
    LOADING = "loading"
    AVAILABLE = "available"
    END = "end"  # failed, or unloaded


@dataclass(frozen=True)
class VersionState:
    """A server's answer about one version. `error` is why loading failed, if it did."""

    phase: Phase
    error: str = ""


@dataclass(frozen=True)
class Answers:
    """What a server's answers say about a version that it calls AVAILABLE. Nothing is wrong where both are empty."""

    differ: str = ""  # it answers, but otherwise than the model itself: which output, and by how much
    missing: str = ""  # it does not answer such requests, or answers them with another version
    note: str = ""  # what was compared


class ModelServer(Protocol):
    """The server that watches a destination."""

    @property
    def name(self) -> str:
        """Address and model, for messages."""
        ...

    def state(self, version: int) -> VersionState:
        """Ask about one version. Raises TargetUnavailable if the server does not answer."""
        ...

    def answers(self, version: int) -> Answers:
        """Ask a version for predictions, by its number and without, and compare them with the model's own.

        Raises TargetUnavailable if the server does not answer.
        """
        ...

    def labelled(self, label: str) -> int | None:
        """The version that answers by a label, if there is one. Raises TargetUnavailable if the server does not."""
        ...


class Target(Protocol):
    """A destination of models. Safe to push to again after a crash at any moment."""

    def push(self, model: Candidate) -> Pushed: ...
