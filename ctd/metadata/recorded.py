"""From what ML Metadata holds back to the values that were recorded, whichever way it was read.

A history has the same few names a hundred thousand times and JSON that is rarely looked at, and all of it stays in
memory: names are kept once, and JSON stays text until somebody looks.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from sys import intern
from typing import Any, TypeVar

from ctd.core.artifacts import Artifact, ArtifactType, Value
from ctd.core.executions import Execution, Failure, LeftOut, State

EXECUTION_PREFIX = "ctd."
REQUEST_TYPE = "ctd.request"  # of executions that are none: without contexts and events, TFX's readers never meet them
EXACT = "__exact__"
OWN_ARTIFACT_PROPERTIES = frozenset({"span", "version", "digest", "tfx_version", "is_external", EXACT})

T = TypeVar("T")

_NOTHING: Mapping[str, Any] = {}


class JsonObject(Mapping[str, Any]):
    """A JSON object that stays the text which was recorded."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __getitem__(self, key: str) -> Any:
        return _decoded(self._text)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(_decoded(self._text))

    def __len__(self) -> int:
        return len(_decoded(self._text))

    def __repr__(self) -> str:
        return repr(_decoded(self._text))


@functools.lru_cache(maxsize=256)
def _decoded(text: str) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(text)
    return decoded


def is_execution(type_name: str) -> bool:
    """Whether executions of this type are ctd's: a store may also hold those of other tools."""
    return type_name.startswith(EXECUTION_PREFIX) and type_name != REQUEST_TYPE


def exactly(values: dict[str, Any]) -> dict[str, Any]:
    """Custom properties with those that MLMD would have spoilt."""
    exact = values.pop(EXACT, "")
    return values | json.loads(exact) if exact else values


def artifact_of(number: int, type_name: str, uri: str, values: Mapping[str, Any], splits: str | None) -> Artifact:
    """The artifact that was recorded with these custom properties, and with `splits` as its typed `split_names`."""
    properties: dict[str, Value] = {
        intern(name): value for name, value in values.items() if name not in OWN_ARTIFACT_PROPERTIES
    }
    if values.get("is_external"):
        properties["is_external"] = values["is_external"]
    if splits is not None:
        properties["split_names"] = intern(splits)
    return Artifact(
        type=ArtifactType(type_name),
        uri=uri,
        digest=values.get("digest", ""),
        span=values.get("span"),
        version=values.get("version"),
        properties=properties or _NOTHING,
        id=number,
    )


def execution_of(
    number: int,
    type_name: str,
    state: State,
    values: Mapping[str, Any],
    inputs: Iterable[tuple[str, int, int]],
    outputs: Iterable[tuple[str, int, Artifact]],
) -> Execution:
    """The execution that was recorded with these custom properties and events; what events say is key, index, what."""
    ended = values.get("ended")
    failure = values.get("failure")
    left_out = values.get("left_out")
    return Execution(
        pipeline=intern(values["pipeline"]),
        node=intern(values["node"]),
        kind=intern(type_name.removeprefix(EXECUTION_PREFIX)),
        key=values.get("key", ""),
        fingerprint=values.get("fingerprint", ""),
        started=datetime.fromisoformat(values["started"]),
        piece=intern(values.get("piece", "")),
        attempt=values.get("attempt", 0),
        because=intern(values.get("because", "")),
        ingredients=_object(values.get("ingredients")),
        inputs=_by_key(inputs, values.get("empty_inputs")),
        state=State.ABANDONED if values.get("abandoned") else state,
        ended=datetime.fromisoformat(ended) if ended else None,
        outputs=_by_key(outputs, values.get("empty_outputs")),
        failure=Failure(**json.loads(failure)) if failure else None,
        timings=_object(values.get("timings")),
        process=_object(values.get("process")),
        left_out=tuple(LeftOut(*left) for left in json.loads(left_out)) if left_out else (),
        told=intern(values.get("told", "")),
        epoch=values.get("epoch", 0),
        id=number,
    )


def _object(text: str | None) -> Mapping[str, Any]:
    return JsonObject(text) if text else _NOTHING


def _by_key(places: Iterable[tuple[str, int, T]], empty: str | None) -> Mapping[str, tuple[T, ...]]:
    found: dict[str, dict[int, T]] = {}
    for key, index, what in places:
        found.setdefault(intern(key), {})[index] = what
    by_key = {key: tuple(of[i] for i in sorted(of)) if len(of) > 1 else tuple(of.values()) for key, of in found.items()}
    if empty:
        by_key |= dict.fromkeys(json.loads(empty), ())
    return by_key or _NOTHING
