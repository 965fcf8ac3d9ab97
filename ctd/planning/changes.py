"""A span whose content is another than when it was read: a new version, ignored, or an error. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ctd.core.executions import Execution, State
from ctd.core.fingerprints import fingerprint
from ctd.core.history import History
from ctd.planning.asked import distrusted
from ctd.planning.decide import Wanted, whole
from ctd.planning.decisions import Blocked, Decision, Reuse, Subject
from ctd.planning.world import World

Policy = Literal["new_version", "ignore", "fail"]


def unless_new_version(policy: Policy, wanted: Wanted, world: World) -> Decision | None:
    """The decision about a span that changed after it was read, unless its content is to be read as any other."""
    if policy == "new_version":
        return None
    read = _in_use(wanted.pipeline, wanted.subject, wanted.ingredients, world)
    key = fingerprint(wanted.ingredients)
    if read is None or any(e.fingerprint == key for e in _read(wanted.pipeline, wanted.subject, world.history)):
        return None
    change = f"{_short(read.ingredients['content'])} -> {_short(wanted.ingredients['content'])}"
    if policy == "ignore":
        return _stays(wanted.subject, read, f"changed since ({change})")
    because = f"changed since execution {read.id} read it ({change}), and on_change is `fail`"
    hint = "Put the old content back, deliver the new one as a version, or set `on_change: new_version` to read it."
    return Blocked(wanted.subject, because, hint, execution=read.id, outputs=read.outputs)


def kept(
    policy: Policy, pipeline: str, subject: Subject, identity: Mapping[str, Any], why: str, world: World
) -> Reuse | None:
    """What was read of a span that is not complete just now, where changes are ignored."""
    if policy != "ignore":
        return None
    read = _in_use(pipeline, subject, identity, world)
    return _stays(subject, read, why) if read else None


def revision(history: History, pipeline: str, subject: Subject, content: str) -> int:
    """The how manieth content of this span this is, counting those that were read, from 1."""
    contents = [str(e.ingredients.get("content")) for e in _read(pipeline, subject, history)]
    distinct = list(dict.fromkeys(contents))
    return distinct.index(content) + 1 if content in distinct else len(distinct) + 1


def _stays(subject: Subject, read: Execution, why: str) -> Reuse:
    because = f"what execution {read.id} read stays: {why}, ignored by on_change"
    return Reuse(subject, because, read.id, read.outputs)


def _in_use(pipeline: str, subject: Subject, identity: Mapping[str, Any], world: World) -> Execution | None:
    """The last reading of the span by the same component and settings that is still there."""
    wanted = _whoever(identity)
    for execution in reversed(_read(pipeline, subject, world.history)):
        again = distrusted(world.history, pipeline, subject.node, execution.ingredients["span"][0])
        trusted = again is None or execution.id > again.id
        if trusted and _whoever(execution.ingredients) == wanted and whole(execution, world):
            return execution
    return None


def _whoever(ingredients: Mapping[str, Any]) -> str:
    """The identity of the work without that of the data."""
    return fingerprint({key: value for key, value in ingredients.items() if key not in ("content", "span")})


def _read(pipeline: str, subject: Subject, history: History) -> list[Execution]:
    tried = history.of_key(pipeline, subject.node, subject.piece, subject.key)
    return [e for e in tried if e.state is State.SUCCEEDED]


def _short(digest: object) -> str:
    return str(digest)[:8]
