"""All executions and requests of all pipelines, indexed by what plans ask: the in-memory image of ML Metadata.

Loaded once at start, told of every write, never read from the database again. A test proves that it equals
what a fresh load of the database gives.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime

from ctd.core.artifacts import VERDICTS, Artifact, ArtifactType
from ctd.core.executions import Execution, State
from ctd.core.requests import OperatorRequest, Verb
from ctd.core.spans import plain_key


@dataclass(slots=True)
class _Place:
    """What there is of one piece of work of a node: ids of its executions, oldest first."""

    ids: list[int] = field(default_factory=list)
    by_work: dict[str, tuple[int, ...]] = field(default_factory=dict)  # by fingerprint
    by_key: dict[str, tuple[int, ...]] = field(default_factory=dict)
    latest: Execution | None = None
    latest_success: Execution | None = None

    def record(self, e: Execution, *, new: bool) -> None:
        if new:
            self.ids.append(e.id)
            self.by_work[e.fingerprint] = (*self.by_work.get(e.fingerprint, ()), e.id)
            key = plain_key(e.key)
            self.by_key[key] = (*self.by_key.get(key, ()), e.id)
        self.latest = _newer(self.latest, e)
        if e.state is State.SUCCEEDED:
            self.latest_success = _newer(self.latest_success, e)


_NOWHERE = _Place()


class History:
    """Executions by id, by work and by key. `record` replaces the execution of the same id.

    What is asked at every look is kept up to date with each write, so that a look costs what changed and not what
    there is.
    """

    def __init__(self, executions: Iterable[Execution] = (), requests: Iterable[OperatorRequest] = ()) -> None:
        self._requests: dict[str, dict[int, OperatorRequest]] = {}
        self._asked: dict[tuple[str, str, Verb], dict[int, OperatorRequest]] = {}
        self._by_id: dict[int, Execution] = {}
        self._places: dict[tuple[str, str, str], _Place] = {}  # pipeline, node, piece
        self._of_pipeline: dict[str, list[int]] = {}
        self._artifacts: dict[int, Artifact] = {}
        self._makers: dict[int, int] = {}  # artifact to the execution that made it
        self._gone: set[int] = set()
        self._running: dict[int, None] = {}
        self._arrived: dict[tuple[str, str, bool], dict[int, datetime]] = {}  # pipeline, node, whether it was read
        self._read: dict[tuple[str, str], dict[tuple[int, str], datetime]] = {}  # by span and content
        self._pushes: dict[tuple[str, str], list[int]] = {}  # pipeline and target to executions that pushed
        self._trials: dict[tuple[str, str], int] = {}  # pipeline and pushed version to the execution that judged it
        self._withdrawn: dict[tuple[str, str], int] = {}  # and of those that did not become the live one
        self._refuted: dict[tuple[str, str, str], dict[int, None]] = {}  # by place: executions that took one back
        self._verdicts: dict[int, dict[int, Artifact]] = {}  # model to blessings, by execution
        self._judged: dict[str, list[int]] = {}  # pipeline to models with a verdict, oldest first
        self._judges: dict[str, set[tuple[str, str]]] = {}  # and to who gave these
        self._blessed: dict[str, list[int]] = {}  # pipeline to its blessed models, oldest first
        for execution in executions:
            self.record(execution)
        for request in requests:
            self.record_request(request)

    def record(self, execution: Execution) -> None:
        """Take in a new execution or the new state of a known one. It must have an id."""
        e = execution
        new = e.id not in self._by_id
        if new:
            self._of_pipeline.setdefault(e.pipeline, []).append(e.id)
        place = (e.pipeline, e.node, e.piece)
        if place not in self._places:
            self._places[place] = _Place()
        self._places[place].record(e, new=new)
        self._by_id[e.id] = e
        if e.state is State.RUNNING:
            self._running[e.id] = None
        else:
            self._running.pop(e.id, None)
        if not e.inputs:
            self._note_arrival(e)
        for artifacts in e.outputs.values():
            for artifact in artifacts:
                self._take_in(e, artifact)

    def record_request(self, request: OperatorRequest) -> None:
        """Take in what someone asked for. It must have an id."""
        r = request
        self._requests.setdefault(r.pipeline, {})[r.id] = r
        self._asked.setdefault((r.pipeline, r.node, r.verb), {})[r.id] = r

    def forget_artifact(self, artifact_id: int) -> None:
        """The artifact is marked DELETED: it may never be reused."""
        self._gone.add(artifact_id)
        artifact, maker = self._artifacts.get(artifact_id), self._by_id.get(self._makers.get(artifact_id, 0))
        if artifact is not None and maker is not None:
            self._judge(maker.pipeline, artifact)

    def _note_arrival(self, e: Execution) -> None:
        """Of what takes nothing from other nodes, as whoever reads a span from storage."""
        span = next(iter(e.ingredients.get("span", ())), None)
        if span is None:
            return
        for read in (False, True) if e.state is State.SUCCEEDED else (False,):
            arrived = self._arrived.setdefault((e.pipeline, e.node, read), {})
            arrived[span] = min(arrived.get(span, e.started), e.started)
        if e.state is State.SUCCEEDED:
            contents, what = self._read.setdefault((e.pipeline, e.node), {}), (span, e.ingredients.get("content", ""))
            contents[what] = min(contents.get(what, e.started), e.started)

    def _take_in(self, e: Execution, artifact: Artifact) -> None:
        self._artifacts[artifact.id] = artifact
        self._makers.setdefault(artifact.id, e.id)
        if artifact.type is ArtifactType.PUSHED_MODEL and not artifact.refused:
            pushes = self._pushes.setdefault((e.pipeline, e.piece), [])
            if e.id not in pushes[-1:]:
                pushes.append(e.id)
        if artifact.type is ArtifactType.CANARY_BLESSING:
            version = (e.pipeline, _destination(artifact))
            self._trials[version] = e.id
            if not artifact.blessed:
                self._withdrawn[version] = e.id
            if not artifact.blessed and "current_model_id" in artifact.properties:
                self._refuted.setdefault((e.pipeline, e.node, e.piece), {})[e.id] = None
        model = artifact.properties.get("current_model_id")
        if isinstance(model, int):
            self._verdicts.setdefault(model, {})[e.id] = artifact
            if artifact.type in VERDICTS:
                self._note_verdict(e, artifact.type, model)
        self._judge(e.pipeline, artifact)

    def _note_verdict(self, e: Execution, type_: ArtifactType, model: int) -> None:
        if type_ is not ArtifactType.CANARY_BLESSING:
            self._judges.setdefault(e.pipeline, set()).add((e.node, e.piece))
        judged = self._judged.setdefault(e.pipeline, [])
        at = bisect.bisect_left(judged, model)
        if judged[at : at + 1] != [model]:
            judged.insert(at, model)

    def _judge(self, pipeline: str, artifact: Artifact) -> None:
        """Keep the blessed models up to date after a change of this artifact, a verdict or a model."""
        named = artifact.properties.get("current_model_id", artifact.id)
        if not isinstance(named, int) or named not in self._verdicts:
            return
        blessed = self._blessed.setdefault(pipeline, [])
        at = bisect.bisect_left(blessed, named)
        known = blessed[at : at + 1] == [named]
        if self._is_blessed(named) and not known:
            blessed.insert(at, named)
        elif known and not self._is_blessed(named):
            del blessed[at]

    def _is_blessed(self, model: int) -> bool:
        """A model is blessed by the newest ModelBlessing that names it; an InfraBlessing, or the watch over it as a
        canary, that says no takes it away.
        """
        found = self._artifacts.get(model)
        if found is None or not self.live(found):
            return False
        by_age = [blessing for _, blessing in sorted(self._verdicts[model].items()) if self.live(blessing)]
        said = {blessing.type: blessing.blessed for blessing in by_age}
        others = (ArtifactType.INFRA_BLESSING, ArtifactType.CANARY_BLESSING)
        return said.get(ArtifactType.MODEL_BLESSING, False) and all(said.get(other, True) for other in others)

    def __iter__(self) -> Iterator[Execution]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def execution(self, execution_id: int) -> Execution | None:
        return self._by_id.get(execution_id)

    def artifact(self, artifact_id: int) -> Artifact | None:
        return self._artifacts.get(artifact_id)

    def maker(self, artifact_id: int) -> Execution | None:
        """The execution that made an artifact."""
        return self._by_id.get(self._makers.get(artifact_id, 0))

    def live(self, artifact: Artifact) -> bool:
        return artifact.id not in self._gone

    def deleted(self) -> Iterator[Artifact]:
        """Artifacts that are marked DELETED."""
        return (self._artifacts[number] for number in sorted(self._gone) if number in self._artifacts)

    def tried(self, pipeline: str, node: str, piece: str, fingerprint: str) -> tuple[Execution, ...]:
        """Every attempt at exactly this work, oldest first."""
        return self._executions(self._place(pipeline, node, piece).by_work.get(fingerprint, ()))

    def of_key(self, pipeline: str, node: str, piece: str, key: str) -> tuple[Execution, ...]:
        """Every execution of this node and piece for the key, whatever its fingerprint, oldest first."""
        return self._executions(self._place(pipeline, node, piece).by_key.get(plain_key(key), ()))

    def of_place(self, pipeline: str, node: str, piece: str) -> Iterator[Execution]:
        """Every execution of this node and piece, oldest first."""
        return (self._by_id[i] for i in self._place(pipeline, node, piece).ids)

    def back(self, pipeline: str, node: str, piece: str) -> Iterator[Execution]:
        """Every execution of this node and piece, newest first."""
        return (self._by_id[i] for i in reversed(self._place(pipeline, node, piece).ids))

    def arrived(self, pipeline: str, node: str, *, read: bool = False) -> Mapping[int, datetime]:
        """When each span of an input was begun to be read for the first time, or `read` with success."""
        return self._arrived.get((pipeline, node, read), {})

    def first_read(self, pipeline: str, node: str, span: int, content: str) -> datetime | None:
        """When a span of an input was begun to be read with success while it had this content, for the first time."""
        return self._read.get((pipeline, node), {}).get((span, content))

    def latest(self, pipeline: str, node: str, piece: str) -> Execution | None:
        """The newest execution of this node and piece, whatever its key and end."""
        return self._place(pipeline, node, piece).latest

    def latest_success(self, pipeline: str, node: str, piece: str) -> Execution | None:
        return self._place(pipeline, node, piece).latest_success

    def of_pipeline(self, pipeline: str) -> Iterator[Execution]:
        return (self._by_id[i] for i in self._of_pipeline.get(pipeline, ()))

    def pipelines(self) -> tuple[str, ...]:
        """All of which there are executions, whether anybody wants them still or not."""
        return tuple(self._of_pipeline)

    def places(self, pipeline: str) -> frozenset[tuple[str, str]]:
        """The nodes and pieces of a pipeline that were ever run."""
        return frozenset((node, piece) for name, node, piece in self._places if name == pipeline)

    def count(self, pipeline: str) -> int:
        """How many executions of the pipeline there are."""
        return len(self._of_pipeline.get(pipeline, ()))

    def successes(self, pipeline: str) -> Iterator[Execution]:
        """Executions whose outputs were committed."""
        return (e for e in self.of_pipeline(pipeline) if e.state is State.SUCCEEDED)

    def requests(self, pipeline: str) -> tuple[OperatorRequest, ...]:
        """Everything asked of a pipeline, oldest first."""
        return tuple(self._requests.get(pipeline, {}).values())

    def asked(self, pipeline: str, node: str, verb: Verb) -> Iterator[OperatorRequest]:
        """What was asked of exactly this node (none: of the whole pipeline) by this verb, newest first."""
        return reversed(self._asked.get((pipeline, node, verb), {}).values())

    def running(self) -> tuple[Execution, ...]:
        return tuple(self._by_id[i] for i in self._running)

    def pushes(self, pipeline: str, target: str, *, withdrawn: bool = False) -> Iterator[Execution]:
        """Executions that pushed a model of the pipeline to the target, newest first; without what was `withdrawn`."""
        made = (self._by_id[i] for i in reversed(self._pushes.get((pipeline, target), ())))
        return (e for e in made if withdrawn or not self.withdrawn(e))

    def withdrawn(self, push: Execution) -> bool:
        """Whether what an execution pushed was a canary and did not become the live version."""
        if not self._withdrawn:
            return False
        return any(push.id < self._withdrawn.get((push.pipeline, place), 0) for place in _places(push))

    def trial(self, push: Execution) -> Execution | None:
        """The execution that judged what was pushed while it was a canary."""
        judged = (self._trials.get((push.pipeline, place), 0) for place in _places(push))
        # An older one was about a version that had the same number before somebody emptied the folder.
        return next((self._by_id[i] for i in judged if i > push.id), None)

    def refuted(self, pipeline: str, node: str, piece: str) -> Iterator[Execution]:
        """Executions of a watch over canaries that found a model bad, newest first."""
        return (self._by_id[i] for i in reversed(self._refuted.get((pipeline, node, piece), {})))

    def targets(self, pipeline: str) -> tuple[str, ...]:
        """Where models of the pipeline were ever pushed to."""
        return tuple(sorted(target for name, target in self._pushes if name == pipeline))

    def verdicts(self, model: Artifact) -> Iterator[Execution]:
        """Executions that said whether the model is good, oldest first."""
        return (self._by_id[i] for i in sorted(self._verdicts.get(model.id, ())))

    def blessed_models(self, pipeline: str) -> Iterator[Artifact]:
        """Models whose latest verdict is yes, newest first (TFX LatestBlessedModelStrategy)."""
        return (self._artifacts[model] for model in reversed(self._blessed.get(pipeline, ())))

    def judged_models(self, pipeline: str) -> Iterator[Artifact]:
        """Models of which somebody said whether they are good, newest first; without those that are deleted."""
        found = (self._artifacts.get(model) for model in reversed(self._judged.get(pipeline, ())))
        return (model for model in found if model is not None and self.live(model))

    def judges(self, pipeline: str) -> Set[tuple[str, str]]:
        """The pieces that ever blessed or refused a model of the pipeline, watches over canaries aside."""
        return self._judges.get(pipeline, set())

    def _place(self, pipeline: str, node: str, piece: str) -> _Place:
        return self._places.get((pipeline, node, piece), _NOWHERE)

    def _executions(self, ids: tuple[int, ...]) -> tuple[Execution, ...]:
        return tuple(self._by_id[i] for i in ids)


def _newer(known: Execution | None, e: Execution) -> Execution:
    return e if known is None or e.id >= known.id else known


def _places(push: Execution) -> Iterator[str]:
    """Where the versions are that an execution pushed."""
    made = (a for artifacts in push.outputs.values() for a in artifacts)
    return (_destination(a) for a in made if a.type is ArtifactType.PUSHED_MODEL)


def _destination(artifact: Artifact) -> str:
    return str(artifact.properties.get("pushed_destination", ""))
