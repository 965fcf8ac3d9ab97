"""Between ctd's values and ML Metadata's protos: TFX's names, and everything needed to get the same value back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from ml_metadata.proto import metadata_store_pb2 as pb

from ctd.core.artifacts import Artifact, Artifacts, ArtifactType, Value
from ctd.core.executions import Execution, State
from ctd.core.fingerprints import canonical
from ctd.core.requests import OperatorRequest, Order, Verb
from ctd.metadata.recorded import EXACT, EXECUTION_PREFIX, artifact_of, exactly, execution_of

# An event between an execution and an artifact of one request, both by position there; None: the event has the id.
Edge = tuple[int, int | None, pb.Event]

TFX_VERSION = "1.16.0"  # whose layout and names we write; its readers fall back to older ones without it

PIPELINE_CONTEXT = pb.ContextType(name="pipeline")
NODE_CONTEXT = pb.ContextType(name="node")

_TYPED_PROPERTIES: Mapping[ArtifactType, Mapping[str, int]] = {
    ArtifactType.EXAMPLES: {"span": pb.INT, "version": pb.INT, "split_names": pb.STRING},
    ArtifactType.STATISTICS: {"span": pb.INT, "split_names": pb.STRING},
    ArtifactType.ANOMALIES: {"span": pb.INT, "split_names": pb.STRING},
}
_ARTIFACT_BASES: Mapping[ArtifactType, int] = {
    ArtifactType.EXAMPLES: pb.ArtifactType.DATASET,
    ArtifactType.STATISTICS: pb.ArtifactType.STATISTICS,
    ArtifactType.MODEL: pb.ArtifactType.MODEL,
    ArtifactType.PUSHED_MODEL: pb.ArtifactType.MODEL,
}
# The kinds whose TFX component has a base type, and no others.
_EXECUTION_BASES: Mapping[str, int] = {
    "statistics_gen": pb.ExecutionType.PROCESS,
    "schema_gen": pb.ExecutionType.PROCESS,
    "transform": pb.ExecutionType.TRANSFORM,
    "trainer": pb.ExecutionType.TRAIN,
    "evaluator": pb.ExecutionType.EVALUATE,
    "pusher": pb.ExecutionType.DEPLOY,
}
_STATES: Mapping[State, int] = {
    State.RUNNING: pb.Execution.RUNNING,
    State.SUCCEEDED: pb.Execution.COMPLETE,
    State.FAILED: pb.Execution.FAILED,
    State.CANCELLED: pb.Execution.CANCELED,
    State.ABANDONED: pb.Execution.FAILED,  # MLMD has no word for it: the property `abandoned` tells them apart
}
STATES_READ = {proto: state for state, proto in _STATES.items() if state is not State.ABANDONED}

_RESULT = "__execution_result__"
# Status codes as in TFX's ExecutionResult (google.rpc.Code).
_CANCELLED, _INVALID_ARGUMENT, _INTERNAL, _UNAVAILABLE = 1, 3, 13, 14


def artifact_type(type_: ArtifactType) -> pb.ArtifactType:
    """The MLMD type, with TFX's typed properties and base type."""
    proto = pb.ArtifactType(name=type_.value, properties=_TYPED_PROPERTIES.get(type_, {}))
    if type_ in _ARTIFACT_BASES:
        proto.base_type = _ARTIFACT_BASES[type_]
    return proto


def execution_type(kind: str) -> pb.ExecutionType:
    """The MLMD type `ctd.<kind>`."""
    proto = pb.ExecutionType(name=EXECUTION_PREFIX + kind)
    if kind in _EXECUTION_BASES:
        proto.base_type = _EXECUTION_BASES[kind]
    return proto


def contexts(execution: Execution, pipeline_type: int, node_type: int) -> list[pb.Context]:
    """The contexts by which TFX's readers find the executions and artifacts of a pipeline and a node."""
    return [
        pb.Context(type_id=pipeline_type, name=execution.pipeline),
        pb.Context(type_id=node_type, name=f"{execution.pipeline}.{execution.node}"),
    ]


def artifact_to_proto(artifact: Artifact, type_id: int, external_id: str) -> pb.Artifact:
    """A new LIVE artifact. `external_id` is unique in the store, so that none is ever recorded twice."""
    proto = pb.Artifact(type_id=type_id, uri=artifact.uri, state=pb.Artifact.LIVE, external_id=external_id)
    typed = _TYPED_PROPERTIES.get(artifact.type, {})
    values: dict[str, Value] = {"tfx_version": TFX_VERSION, "is_external": 0, **artifact.properties}
    if "split_names" in typed and "split_names" in values:
        proto.properties["split_names"].string_value = str(values.pop("split_names"))
    for name, number in (("span", artifact.span), ("version", artifact.version)):
        if number is not None:
            values[name] = number  # TFX's ExampleGen writes the custom property, everything behind it reads the typed
            if name in typed:
                proto.properties[name].int_value = number
    if artifact.digest:
        values["digest"] = artifact.digest
    _write(proto, values)
    return proto


def artifact_from_proto(proto: pb.Artifact) -> Artifact:
    splits = proto.properties["split_names"].string_value if "split_names" in proto.properties else None
    return artifact_of(proto.id, proto.type, proto.uri, _read(proto), splits)


def execution_to_proto(execution: Execution, type_id: int) -> pb.Execution:
    """The execution without its inputs and outputs, which are events."""
    e = execution
    proto = pb.Execution(type_id=type_id, name=e.name, last_known_state=_STATES[e.state])
    if e.id:
        proto.id = e.id
    values: dict[str, Value] = {
        "pipeline": e.pipeline,
        "node": e.node,
        "piece": e.piece,
        "key": e.key,
        "fingerprint": e.fingerprint,
        "attempt": e.attempt,
        "epoch": e.epoch,
        "because": e.because,
        "started": e.started.isoformat(),
        "ended": e.ended.isoformat() if e.ended else "",
        "abandoned": int(e.state is State.ABANDONED),
        "ingredients": _json(e.ingredients),
        "timings": _json(e.timings),
        "process": _json(e.process),
        "empty_inputs": _json([key for key, ids in e.inputs.items() if not ids]),
        "empty_outputs": _json([key for key, made in e.outputs.items() if not made]),
        "failure": _json(asdict(e.failure)) if e.failure else "",
        "told": e.told,
        "left_out": _json([[left.span, left.kind, left.why] for left in e.left_out]),
        _RESULT: _execution_result(e),
    }
    _write(proto, {name: value for name, value in values.items() if value not in ("", 0)})
    return proto


def execution_from_proto(
    proto: pb.Execution, events: Iterable[pb.Event], artifacts: Mapping[int, Artifact]
) -> Execution:
    """The value that was recorded. `events` are the execution's own; `artifacts` has all its outputs by id."""
    events = list(events)
    return execution_of(
        proto.id,
        proto.type,
        STATES_READ[proto.last_known_state],
        _read(proto),
        _places(events, pb.Event.INPUT),
        ((key, index, artifacts[number]) for key, index, number in _places(events, pb.Event.OUTPUT)),
    )


def request_to_proto(request: OperatorRequest, type_id: int) -> pb.Execution:
    """What someone asked for, as an execution of a type of its own."""
    r = request
    proto = pb.Execution(type_id=type_id, name=r.name, last_known_state=pb.Execution.COMPLETE)
    values: dict[str, Value] = {
        "verb": r.verb.value,
        "pipeline": r.pipeline,
        "node": r.node,
        "key": r.key,
        "about": r.about,
        "execution": r.execution,
        "again": int(r.again),
        "baseline": int(r.baseline),
        "reason": r.reason,
        "who": r.who,
        "at": r.at.isoformat(),
        "order": r.order.value if r.order else "",
    }
    spans = {name: number for name, number in (("span", r.span), ("last", r.last)) if number is not None}  # 0 is one
    _write(proto, {name: value for name, value in values.items() if value not in ("", 0)} | spans)
    return proto


def request_from_proto(proto: pb.Execution) -> OperatorRequest:
    """The value that was recorded."""
    values = _read(proto)
    return OperatorRequest(
        **{
            **values,
            "verb": Verb(values["verb"]),
            "at": datetime.fromisoformat(values["at"]),
            "again": bool(values.get("again")),
            "baseline": bool(values.get("baseline")),
            "order": Order(values["order"]) if "order" in values else None,
            "id": proto.id,
        }
    )


def set_process(proto: pb.Execution, process: Mapping[str, str | int]) -> None:
    """Note in a stored execution which process has it."""
    proto.custom_properties["process"].string_value = _json(process)


def input_edges(inputs: Mapping[str, Sequence[int]], at: datetime) -> list[Edge]:
    """Every input artifact by its id, so that the artifact itself is never written."""
    places = ((key, index, artifact) for key, ids in inputs.items() for index, artifact in enumerate(ids))
    return [(0, None, event) for event in _events(places, pb.Event.INPUT, at)]


def output_edges(outputs: Artifacts, new: Mapping[tuple[str, int], int], at: datetime) -> list[Edge]:
    """New artifacts by their position in the request, known ones by their id."""
    edges: list[Edge] = []
    for (key, index), position in new.items():
        event = pb.Event(type=pb.Event.OUTPUT, milliseconds_since_epoch=_milliseconds(at))
        _step(event, key, index)
        edges.append((0, position, event))
    known = (
        (key, index, artifact.id)
        for key, made in outputs.items()
        for index, artifact in enumerate(made)
        if (key, index) not in new
    )
    edges.extend((0, None, event) for event in _events(known, pb.Event.OUTPUT, at))
    return edges


def output_ids(events: Iterable[pb.Event]) -> list[int]:
    return sorted({event.artifact_id for event in events if event.type == pb.Event.OUTPUT})


def _events(places: Iterable[tuple[str, int, int]], type_: int, at: datetime) -> Iterable[pb.Event]:
    """MLMD keeps one event per artifact, execution and type: an artifact in two places has two pairs of steps."""
    events: dict[int, pb.Event] = {}
    for key, index, artifact_id in places:
        fresh = pb.Event(artifact_id=artifact_id, type=type_, milliseconds_since_epoch=_milliseconds(at))
        _step(events.setdefault(artifact_id, fresh), key, index)
    return events.values()


def _step(event: pb.Event, key: str, index: int) -> None:
    event.path.steps.add(key=key)
    event.path.steps.add(index=index)


def _places(events: Iterable[pb.Event], type_: int) -> Iterator[tuple[str, int, int]]:
    for event in events:
        if event.type == type_:
            steps = iter(event.path.steps)
            for key, index in zip(steps, steps, strict=True):
                yield key.key, index.index, event.artifact_id


def _execution_result(execution: Execution) -> str:
    """Why it failed, as the JSON of TFX's ExecutionResult, which its own tools show."""
    if execution.state in (State.RUNNING, State.SUCCEEDED):
        return ""
    failure = execution.failure
    code = _INTERNAL
    if execution.state is State.CANCELLED:
        code = _CANCELLED
    elif execution.state is State.ABANDONED or (failure and failure.retryable):
        code = _UNAVAILABLE
    elif failure and failure.kind == "BadInput":
        code = _INVALID_ARGUMENT
    message = f"{failure.kind}: {failure.message}" if failure else execution.state.value
    return canonical({"resultMessage": message, "code": code})


def _json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """Canonical JSON; nothing at all for nothing."""
    if not value:
        return ""
    return canonical(dict(value) if isinstance(value, Mapping) else value)


def _write(proto: pb.Artifact | pb.Execution, values: Mapping[str, Value]) -> None:
    """Values as custom properties.

    MLMD's SQLite queries round floats to six decimals and fifteen digits, fail on NaN and infinity, and cut text at a
    NUL. What they would spoil is kept once more, exactly, in one JSON property; TFX's readers find the rounded number.
    """
    spoilt = {name: value for name, value in values.items() if not _kept(value)}
    for name, value in values.items():
        if isinstance(value, float):
            if math.isfinite(value):
                proto.custom_properties[name].double_value = value
        elif name not in spoilt:
            if isinstance(value, str):
                proto.custom_properties[name].string_value = value
            else:
                proto.custom_properties[name].int_value = value
    if spoilt:
        proto.custom_properties[EXACT].string_value = json.dumps(spoilt)


def _kept(value: Value) -> bool:
    """Whether MLMD gives back what it was given."""
    if isinstance(value, float):
        return math.isfinite(value) and float(f"{float(f'{value:f}'):.15g}") == value
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)
    return -(2**63) <= value < 2**63


def _read(proto: pb.Artifact | pb.Execution) -> dict[str, Any]:
    return exactly({name: getattr(v, v.WhichOneof("value")) for name, v in proto.custom_properties.items()})


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)
