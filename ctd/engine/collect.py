"""Letting go of what nobody needs: results that a plan's retention names, and the logs of long ago."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping

from ctd.core.artifacts import Artifact
from ctd.core.errors import IllegalTransition, MachineUnavailable, StorageUnavailable
from ctd.core.failpoints import fp
from ctd.core.history import History
from ctd.engine.publish import GONE, collect
from ctd.metadata.store import MetadataStore
from ctd.observability import Event
from ctd.planning.decisions import Plan
from ctd.planning.retention import Collect, collectable, keeps
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.targets import AnyTarget
from ctd.storage.layout import StateDir

log = logging.getLogger("ctd.engine")


class Collector:
    """Marks artifacts DELETED, then unlinks them: whatever crashes, no live artifact is without its files."""

    def __init__(self, store: MetadataStore, history: History, state: StateDir) -> None:
        self._store = store
        self._history = history
        self._state = state
        self._seen: dict[str, tuple[PipelineSpec, int]] = {}

    def at_rest(self, spec: PipelineSpec, made: Plan, targets: Mapping[str, AnyTarget]) -> None:
        """Collect if anything was done, or another spec came, since the pipeline was last at rest."""
        now = (spec, self._history.count(spec.name))
        if keeps(spec) and made.settled and self._seen.get(spec.name) != now:
            self.collect(spec, made, targets)
            self._seen[spec.name] = now

    def collect(self, spec: PipelineSpec, made: Plan, targets: Mapping[str, AnyTarget]) -> tuple[Collect, ...]:
        """Remove what need not stay. Raises StoreUnavailable; what cannot be unlinked is so at the next start."""
        found = collectable(spec, made, self._history, kept_by(targets))
        for one in found:
            fp("gc.mark")
            self._store.delete_artifact(one.artifact)
            self._history.forget_artifact(one.artifact.id)
            unlink(self._state, one.artifact)
        if found:
            because = f"{len(found)} results that need not stay were removed"
            log.info(Event.COLLECTED.value, extra={"pipeline": spec.name, "because": because})
        return found


def kept_by(targets: Mapping[str, AnyTarget]) -> Mapping[str, int]:
    """How many versions each target keeps."""
    return {name: target.keep for name, target in targets.items()}


def unlink(state: StateDir, artifact: Artifact) -> None:
    """Remove the files of an artifact that is marked DELETED. Those outside the state directory are not ctd's."""
    with contextlib.suppress(IllegalTransition):
        try:
            collect(state, artifact)
        except (StorageUnavailable, MachineUnavailable) as error:
            log.warning(Event.COLLECTED.value, extra={"because": error.message, "hint": error.hint})


def unlink_deleted(history: History, state: StateDir) -> None:
    """Finish what a crash between marking and unlinking has left.

    There are many that were collected and few that are left: what is there is listed once, folder by folder.
    """
    there: dict[str, frozenset[str]] = {}
    for artifact in history.deleted():
        folder, name = _place(artifact.uri, str(state.artifacts))
        if folder and folder not in there:
            there[folder] = _names(folder)
        if not there.get(folder, frozenset()).isdisjoint((name, f".{name}.{GONE}")):
            unlink(state, artifact)


def _place(uri: str, root: str) -> tuple[str, str]:
    """The folder of one output, and the name of an execution's results in it; nothing for what is not ctd's."""
    if not uri.startswith(f"{root}/"):
        return "", ""
    pipeline, node, output, name, *_ = *uri[len(root) + 1 :].split("/"), "", "", "", ""
    return f"{root}/{pipeline}/{node}/{output}", name


def _names(folder: str) -> frozenset[str]:
    try:
        return frozenset(entry.name for entry in os.scandir(folder))
    except OSError:  # not there, or not to be read: then nothing can be removed either
        return frozenset()


def prune_logs(history: History, state: StateDir, most: int) -> None:
    """Keep the logs of the newest executions."""
    running = {e.id for e in history.running()}
    logs: list[int] = []
    with contextlib.suppress(OSError):  # not to be read: then there is nothing to be removed now
        logs = sorted(int(p.stem) for p in state.logs.glob("*.log") if p.stem.isdecimal())
    for number in logs[:-most]:
        if number not in running:
            with contextlib.suppress(OSError):
                state.log(number).unlink()
