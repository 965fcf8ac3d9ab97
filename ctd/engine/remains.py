"""Taking damaged artifacts out of use: their remains are set aside, they are marked DELETED, and people are told."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from ctd.core.artifacts import Artifact
from ctd.core.errors import IllegalTransition, MachineUnavailable, StorageUnavailable
from ctd.core.executions import Execution
from ctd.core.facts import Damage
from ctd.core.failpoints import fp
from ctd.core.history import History
from ctd.engine.intact import Intact
from ctd.engine.publish import set_aside
from ctd.metadata.store import MetadataStore
from ctd.observability import Event
from ctd.planning.world import World
from ctd.storage.layout import StateDir
from ctd.storage.remains import read_notes

log = logging.getLogger("ctd.engine")

MEND = "Mend the disk, or the rights on the state directory. What needs it waits; nothing is made again for it."


class Remains:
    """Moves before it marks: whatever crashes, the damage is found again, or its note is, and the rest is done then."""

    def __init__(self, store: MetadataStore, history: History, state: StateDir, intact: Intact) -> None:
        self._store = store
        self._history = history
        self._state = state
        self._intact = intact
        self._said: dict[str, str] = {}  # by place
        self.unreadable: dict[str, str] = {}  # by pipeline: what cannot be read of its results
        intact.aside.update(read_notes(state.damaged))

    def found_by_look(self, pipeline: str, world: World) -> None:
        """Set aside what a look found damaged; say what is gone or cannot be read. Raises StoreUnavailable."""
        self._set_aside(damage for place, damage in world.damaged.items() if place in world.missing)
        for place in sorted(world.missing - world.damaged.keys()):
            because = f"{place} is gone"
            self._say(place, because, {"pipeline": pipeline, "hint": "Nothing of ctd's removed it; it is made again."})
        self._say_unreadable(pipeline, world.unreadable)

    def found_by_worker(self, execution: Execution, found: Mapping[int, str]) -> None:
        """Set aside what a worker found damaged among its inputs. Raises StoreUnavailable."""
        taken = {i for ids in execution.inputs.values() for i in ids}
        artifacts = [(self._history.artifact(i), wrong) for i, wrong in found.items() if i in taken]
        self._set_aside(Damage(a.id, a.uri, wrong) for a, wrong in artifacts if a is not None)

    def _set_aside(self, damages: Iterable[Damage]) -> None:
        for damage in damages:
            if damage.uri not in self._intact.aside:
                self._move(damage)
        for damage in self._intact.aside.values():
            artifact = self._history.artifact(damage.artifact)
            if artifact is not None and artifact.uri == damage.uri and self._history.live(artifact):
                fp("aside.before_mark")
                self._store.delete_artifact(artifact)
                self._history.forget_artifact(artifact.id)

    def _move(self, damage: Damage) -> None:
        artifact = self._history.artifact(damage.artifact)
        fields = _fields(artifact, self._history)
        try:
            kept = set_aside(self._state, damage)
        except (IllegalTransition, StorageUnavailable, MachineUnavailable) as error:
            self._say(damage.uri, f"{damage.uri}: {damage.found}; {error.message}", {**fields, "hint": error.hint})
            return
        if kept.aside:
            self._intact.aside[kept.uri] = kept
            hint = f"It is made again. Its remains are in {kept.aside}, for you to look at and to remove."
            self._say(kept.uri, f"{kept.uri}: {kept.found}", {**fields, "remains": kept.aside, "hint": hint})

    def _say_unreadable(self, pipeline: str, unreadable: Mapping[str, str]) -> None:
        """One line for all: what cannot be read is most often a whole disk."""
        if not unreadable:
            self.unreadable.pop(pipeline, None)
            return
        more = f" (and {len(unreadable) - 1} other results)" if len(unreadable) > 1 else ""
        because = f"{unreadable[min(unreadable)]}{more}"
        if pipeline not in self.unreadable:
            log.error(Event.UNREADABLE.value, extra={"pipeline": pipeline, "because": because, "hint": MEND})
        self.unreadable[pipeline] = because

    def _say(self, place: str, because: str, fields: Mapping[str, str | int]) -> None:
        if self._said.get(place) != because:
            log.error(Event.DAMAGED.value, extra={**fields, "because": because})
        self._said[place] = because


def _fields(artifact: Artifact | None, history: History) -> Mapping[str, str | int]:
    maker = history.maker(artifact.id) if artifact else None
    if artifact is None or maker is None:
        return {}
    return {**maker.log_fields(), "artifact": artifact.id}
