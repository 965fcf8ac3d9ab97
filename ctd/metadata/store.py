"""What the engine asks of a metadata store, and a store in memory that keeps the same promises."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from ctd.core.artifacts import Artifact
from ctd.core.errors import IllegalTransition, PermanentError
from ctd.core.executions import Execution
from ctd.core.requests import OperatorRequest
from ctd.core.troubles import Fault


class MetadataStore(Protocol):
    """Executions and requests in and out. Safe to reopen after a crash; every write may be repeated.

    All methods raise `StoreUnavailable` while the database does not answer.
    """

    def begin(self, execution: Execution) -> Execution:
        """Record a RUNNING execution with its inputs; return it with its id. Same name again: the same id."""
        ...

    def note_process(self, execution: Execution) -> None:
        """Record which process has the execution (`execution.process`), so that a restart can find orphans."""
        ...

    def finish(self, execution: Execution) -> Execution:
        """Record a final state, output artifacts and events in one transaction; return it with artifact ids.

        Repeating it changes nothing and returns the same ids.
        """
        ...

    def delete_artifact(self, artifact: Artifact) -> None:
        """Mark an artifact DELETED; its files may be unlinked afterwards."""
        ...

    def executions(self) -> Iterator[Execution]:
        """Every execution of every pipeline with its outputs, oldest first, read in pages."""
        ...

    def deleted_artifacts(self) -> Iterator[int]:
        """Ids of the artifacts marked DELETED."""
        ...

    def record_request(self, request: OperatorRequest) -> OperatorRequest:
        """Record what someone asked for; return it with its id. Same name again: the same id."""
        ...

    def requests(self) -> Iterator[OperatorRequest]:
        """Every request to every pipeline, oldest first. They are no executions: `executions` leaves them out."""
        ...

    def count_start(self, at_least: int = 1) -> int:
        """Record that a daemon starts; which start it is: one more than the last time, and `at_least` this."""
        ...

    def health(self) -> Fault | None:
        """What is wrong with the store although nothing is asked of it now. Never raises, and is quick."""
        ...

    def close(self) -> None: ...


class MemoryStore:
    """The promises of a MetadataStore, kept in a dictionary."""

    def __init__(self) -> None:
        self._executions: dict[int, Execution] = {}
        self._ids: dict[str, int] = {}
        self._requests: dict[str, OperatorRequest] = {}
        self._deleted: dict[int, None] = {}
        self._last_artifact = 0
        self._starts = 0

    def begin(self, execution: Execution) -> Execution:
        known = self._ids.get(execution.name)
        if known is not None:
            return self._executions[known]
        recorded = replace(execution, id=self._next_id())
        self._ids[execution.name] = recorded.id
        self._executions[recorded.id] = recorded
        return recorded

    def note_process(self, execution: Execution) -> None:
        known = self._begun(execution)
        self._executions[known.id] = replace(known, process=execution.process)

    def finish(self, execution: Execution) -> Execution:
        if not execution.state.final:
            raise IllegalTransition(f"{execution.name} cannot finish as {execution.state.value}")
        known = self._begun(execution)
        if known.state.final:
            return known
        outputs = {key: tuple(self._with_id(a) for a in made) for key, made in execution.outputs.items()}
        recorded = replace(execution, id=known.id, inputs=known.inputs, outputs=outputs)
        self._executions[recorded.id] = recorded
        return recorded

    def delete_artifact(self, artifact: Artifact) -> None:
        self._deleted[artifact.id] = None

    def executions(self) -> Iterator[Execution]:
        return iter(tuple(self._executions.values()))

    def deleted_artifacts(self) -> Iterator[int]:
        return iter(tuple(self._deleted))

    def record_request(self, request: OperatorRequest) -> OperatorRequest:
        if request.name not in self._requests:
            self._requests[request.name] = replace(request, id=self._next_id())
        return self._requests[request.name]

    def requests(self) -> Iterator[OperatorRequest]:
        return iter(tuple(self._requests.values()))

    def count_start(self, at_least: int = 1) -> int:
        self._starts = max(self._starts + 1, at_least)
        return self._starts

    def health(self) -> Fault | None:
        return None

    def close(self) -> None:
        """Nothing to close."""

    def _next_id(self) -> int:
        return len(self._executions) + len(self._requests) + 1

    def _begun(self, execution: Execution) -> Execution:
        if execution.name not in self._ids:
            raise PermanentError(f"{execution.name} was never begun")
        return self._executions[self._ids[execution.name]]

    def _with_id(self, artifact: Artifact) -> Artifact:
        if artifact.id:
            return artifact
        self._last_artifact += 1
        return replace(artifact, id=self._last_artifact)
