"""What was found out about files: those that specs name, and those of artifacts."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class CodeFact:
    """The user's module with everything it imports from its own tree, and the files there that it names.

    `digest` is insensitive to comments, docstrings and formatting; `own` is the module's file alone. `problem` says
    with file:line why it cannot run.
    """

    digest: str
    own: str = field(default="", kw_only=True)
    files: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class FileFact:
    """A file or folder that a spec names, by content."""

    path: str
    digest: str
    problem: str = ""


@dataclass(frozen=True)
class TargetSeen:
    """What a look at a target says of the version that was pushed there last.

    `fault` is what is wrong with it; `unreadable` why that cannot be told. `listens` says of the server behind the
    target, if that was asked, whether somebody answers there. `live_fault` is what is wrong with the live version,
    while the one pushed last is on trial beside it.
    """

    version: int
    fault: str = ""
    unreadable: str = ""
    listens: bool = True
    live_fault: str = ""


@dataclass(frozen=True)
class Damage:
    """What is wrong with the files of an artifact; `aside` is where its remains are, once they are there."""

    artifact: int
    uri: str
    found: str
    aside: str = ""
