"""The real metadata store: ML Metadata in one SQLite file.

MLMD holds Python's lock while it works, so every question is bounded: pages of ids, never a whole table or context.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from ml_metadata import errors
from ml_metadata.metadata_store.metadata_store import ListOptions, MetadataStore, OrderByField
from ml_metadata.proto import metadata_store_pb2 as pb

from ctd.core.artifacts import Artifact, Artifacts, ArtifactType
from ctd.core.errors import IllegalTransition, PermanentError
from ctd.core.executions import Execution
from ctd.core.requests import OperatorRequest
from ctd.core.timing import Clock
from ctd.core.troubles import Fault
from ctd.metadata import convert, identity, sqlite_reading
from ctd.metadata.connection import PATIENCE, READ_ONLY, READ_WRITE, Connection, count_start, make_store
from ctd.metadata.recorded import EXECUTION_PREFIX, REQUEST_TYPE, is_execution
from ctd.metadata.sqlite_reading import Unreadable

log = logging.getLogger(__name__)

_PAGE = 100
_READERS_PATIENCE = timedelta(seconds=2)  # somebody waits for an answer


class MlmdReader:
    """What a store holds, for commands that run while no daemon does. Creates, migrates and writes nothing."""

    def __init__(self, path: Path) -> None:
        identity.identity_of(path)
        self._connection = Connection(path, READ_ONLY, _READERS_PATIENCE)

    def executions(self) -> Iterator[Execution]:
        """Every execution of every pipeline with its outputs, oldest first."""
        try:
            yield from self._connection.read_file(sqlite_reading.executions)
        except Unreadable as why:
            log.info("the metadata is read through ML Metadata", extra={"why": str(why)})
            yield from self.executions_by_api()

    def executions_by_api(self) -> Iterator[Execution]:
        """The same in ML Metadata's own way, in pages."""
        last = self._connection.run("count executions", _last_execution)
        for first in range(1, last + 1, _PAGE):
            ids = range(first, min(first + _PAGE, last + 1))
            yield from self._connection.run("read executions", partial(_executions, ids=ids))

    def deleted_artifacts(self) -> Iterator[int]:
        """Ids of the artifacts marked DELETED."""
        try:
            yield from self._connection.read_file(sqlite_reading.deleted_artifacts)
        except Unreadable:
            yield from self.deleted_artifacts_by_api()

    def deleted_artifacts_by_api(self) -> Iterator[int]:
        """The same in ML Metadata's own way, in pages."""
        last = self._connection.run("count artifacts", _last_artifact)
        for first in range(1, last + 1, _PAGE):
            ids = range(first, min(first + _PAGE, last + 1))
            yield from self._connection.run("read artifacts", partial(_deleted, ids=ids))

    def requests(self) -> Iterator[OperatorRequest]:
        """Every request to every pipeline, oldest first."""
        yield from self._connection.run("read requests", _requests)

    def close(self) -> None:
        self._connection.close()


class MlmdStore(MlmdReader):
    """The promises of MetadataStore, kept in ML Metadata. One per state directory: the daemon holds its lock.

    What `begin` and `finish` return is what `executions` will return after a restart.
    """

    def __init__(self, path: Path, clock: Clock, patience: timedelta = PATIENCE) -> None:
        """Open the store at `path`, or make it where neither it nor its IDENTITY file exists yet.

        `patience`: how long a call waits for another process's lock.
        """
        identity.claim(path, make_store)
        identity.prepare(path)
        self._clock = clock
        self._type_ids: dict[str, int] = {}
        self._connection = Connection(path, READ_WRITE, patience)

    @staticmethod
    def open_read_only(path: Path) -> MlmdReader:
        """The store of a state directory without a daemon."""
        return MlmdReader(path)

    def begin(self, execution: Execution) -> Execution:
        """Record a RUNNING execution with its inputs; return it with its id. Same name again: the same id."""
        begun = self._connection.run(f"begin {execution.name}", partial(self._begin, execution))
        self._connection.newest = max(self._connection.newest, begun.id)
        return begun

    def note_process(self, execution: Execution) -> None:
        """Record which process has the execution."""
        self._connection.run(f"note the process of {execution.name}", partial(_note_process, execution))

    def finish(self, execution: Execution) -> Execution:
        """Record a final state, output artifacts and events in one transaction; return it with artifact ids.

        Repeating it changes nothing and returns the same ids.
        """
        if not execution.state.final:
            raise IllegalTransition(f"{execution.name} cannot finish as {execution.state.value}")
        return self._connection.run(f"finish {execution.name}", partial(self._finish, execution))

    def delete_artifact(self, artifact: Artifact) -> None:
        """Mark an artifact DELETED; its files may be unlinked afterwards."""
        self._connection.run(f"delete artifact {artifact.id}", partial(_delete, artifact))

    def record_request(self, request: OperatorRequest) -> OperatorRequest:
        """Record what someone asked for; return it with its id. Same name again: the same id."""
        recorded = self._connection.run("record a request", partial(self._record_request, request))
        self._connection.newest = max(self._connection.newest, recorded.id)
        return recorded

    def count_start(self, at_least: int = 1) -> int:
        """Record that a daemon starts; which start it is: one more than the last time, and `at_least` this."""
        return self._connection.run("count a start", partial(count_start, at_least=at_least))

    def be_patient(self) -> None:
        """Wait for others from now on: what was opened without patience is at work."""
        self._connection.patience = PATIENCE

    def health(self) -> Fault | None:
        """What is wrong with the store although nothing is asked of it."""
        return self._connection.health()

    def _record_request(self, request: OperatorRequest, store: MetadataStore) -> OperatorRequest:
        known = store.get_execution_by_type_and_name(REQUEST_TYPE, request.name)
        if known is None:
            type_id = self._execution_type(store, REQUEST_TYPE.removeprefix(EXECUTION_PREFIX))
            with contextlib.suppress(errors.AlreadyExistsError):
                store.put_executions([convert.request_to_proto(request, type_id)])
            known = store.get_execution_by_type_and_name(REQUEST_TYPE, request.name)
        return convert.request_from_proto(known)

    def _begin(self, execution: Execution, store: MetadataStore) -> Execution:
        if _by_name(store, execution) is None:
            proto = convert.execution_to_proto(execution, self._execution_type(store, execution.kind))
            with contextlib.suppress(errors.AlreadyExistsError):  # someone was quicker: read what there is
                self._put(store, execution, proto, [], convert.input_edges(execution.inputs, self._clock.now()))
        return _values(store, [_begun(store, execution)])[0]

    def _finish(self, execution: Execution, store: MetadataStore) -> Execution:
        known = _begun(store, execution)
        if known.last_known_state == pb.Execution.RUNNING:
            proto = convert.execution_to_proto(replace(execution, id=known.id), known.type_id)
            places, artifacts = self._new_artifacts(store, execution.name, execution.outputs)
            self._put(
                store, execution, proto, artifacts, convert.output_edges(execution.outputs, places, self._clock.now())
            )
        return _values(store, [_begun(store, execution)])[0]

    def _new_artifacts(
        self, store: MetadataStore, name: str, outputs: Artifacts
    ) -> tuple[dict[tuple[str, int], int], list[pb.Artifact]]:
        places: dict[tuple[str, int], int] = {}
        protos: list[pb.Artifact] = []
        for key, made in outputs.items():
            for index, artifact in enumerate(made):
                if not artifact.id:
                    places[(key, index)] = len(protos)
                    type_id = self._artifact_type(store, artifact.type)
                    protos.append(convert.artifact_to_proto(artifact, type_id, f"{name}/{key}/{index}"))
        return places, protos

    def _put(
        self,
        store: MetadataStore,
        execution: Execution,
        proto: pb.Execution,
        artifacts: list[pb.Artifact],
        edges: list[convert.Edge],
    ) -> None:
        """One transaction. Inputs appear in events only: as artifacts they would be overwritten."""
        contexts = convert.contexts(
            execution,
            self._context_type(store, convert.PIPELINE_CONTEXT),
            self._context_type(store, convert.NODE_CONTEXT),
        )
        store.put_lineage_subgraph([proto], artifacts, contexts, edges, reuse_context_if_already_exist=True)

    def _execution_type(self, store: MetadataStore, kind: str) -> int:
        name = EXECUTION_PREFIX + kind
        if name not in self._type_ids:
            self._type_ids[name] = store.put_execution_type(convert.execution_type(kind))
        return self._type_ids[name]

    def _artifact_type(self, store: MetadataStore, type_: ArtifactType) -> int:
        if type_.value not in self._type_ids:
            self._type_ids[type_.value] = store.put_artifact_type(convert.artifact_type(type_))
        return self._type_ids[type_.value]

    def _context_type(self, store: MetadataStore, type_: pb.ContextType) -> int:
        if type_.name not in self._type_ids:
            self._type_ids[type_.name] = store.put_context_type(type_)
        return self._type_ids[type_.name]


def _by_name(store: MetadataStore, execution: Execution) -> pb.Execution | None:
    return store.get_execution_by_type_and_name(EXECUTION_PREFIX + execution.kind, execution.name)


def _begun(store: MetadataStore, execution: Execution) -> pb.Execution:
    proto = _by_name(store, execution)
    if proto is None:
        raise PermanentError(f"{execution.name} was never begun")
    return proto


def _note_process(execution: Execution, store: MetadataStore) -> None:
    proto = _begun(store, execution)
    convert.set_process(proto, execution.process)
    store.put_executions([proto])


def _delete(artifact: Artifact, store: MetadataStore) -> None:
    stored = store.get_artifacts_by_id([artifact.id])
    if not stored:
        raise PermanentError(f"artifact {artifact.id} ({artifact.uri}) was never recorded")
    if stored[0].state != pb.Artifact.DELETED:
        stored[0].state = pb.Artifact.DELETED
        store.put_artifacts(stored)  # the whole artifact as it was just read: MLMD drops what is left out


def _last_execution(store: MetadataStore) -> int:
    newest = store.get_executions(ListOptions(limit=1, order_by=OrderByField.ID, is_asc=False))
    return newest[0].id if newest else 0


def _last_artifact(store: MetadataStore) -> int:
    newest = store.get_artifacts(ListOptions(limit=1, order_by=OrderByField.ID, is_asc=False))
    return newest[0].id if newest else 0


def _executions(store: MetadataStore, ids: range) -> list[Execution]:
    """Those of the ids that are ctd's: a store may also hold executions of other tools."""
    own = (proto for proto in store.get_executions_by_id(ids) if is_execution(proto.type))
    return _values(store, sorted(own, key=lambda proto: proto.id))


def _requests(store: MetadataStore) -> list[OperatorRequest]:
    found = store.get_executions_by_type(REQUEST_TYPE)
    return [convert.request_from_proto(proto) for proto in sorted(found, key=lambda proto: proto.id)]


def _values(store: MetadataStore, protos: list[pb.Execution]) -> list[Execution]:
    events: dict[int, list[pb.Event]] = {proto.id: [] for proto in protos}
    for event in store.get_events_by_execution_ids(list(events)) if events else ():
        events[event.execution_id].append(event)
    wanted = convert.output_ids(event for own in events.values() for event in own)
    stored = store.get_artifacts_by_id(wanted) if wanted else ()
    artifacts = {proto.id: convert.artifact_from_proto(proto) for proto in stored}
    return [convert.execution_from_proto(proto, events[proto.id], artifacts) for proto in protos]


def _deleted(store: MetadataStore, ids: range) -> list[int]:
    return sorted(proto.id for proto in store.get_artifacts_by_id(ids) if proto.state == pb.Artifact.DELETED)
