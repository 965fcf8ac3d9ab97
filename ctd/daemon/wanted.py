"""Which specs are in force: the last good version of every file, and what is wrong with newer ones."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ctd.observability import Event
from ctd.specs.load import Draft, Loaded, load_folder
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.problems import Problem, SpecProblems
from ctd.specs.targets import AnyTarget
from ctd.watching import schedule

log = logging.getLogger("ctd.daemon")
T = TypeVar("T")


@dataclass(frozen=True)
class Change:
    """What a reload changed: pipelines to look at again, and pipelines that are no longer wanted."""

    look: frozenset[str]
    gone: frozenset[str]


class Wanted:
    """The pipelines and targets that count. An invalid edit changes nothing but `problems`."""

    def __init__(
        self, specs: Path, targets: Path, state: Path | None = None, pools: Collection[str] | None = None
    ) -> None:
        self.folders = (specs, targets)
        self._state = state
        self._pools = pools
        self._pipelines: dict[str, PipelineSpec] = {}
        self._targets: dict[str, AnyTarget] = {}
        self.problems: Mapping[str, tuple[Problem, ...]] = {}

    @property
    def pipelines(self) -> Mapping[str, PipelineSpec]:
        return {spec.name: spec for spec in self._pipelines.values()}

    @property
    def targets(self) -> Mapping[str, AnyTarget]:
        return {target.target: target for target in self._targets.values()}

    def file_of(self, pipeline: str) -> str:
        """The file that declares a pipeline."""
        return next((path for path, spec in self._pipelines.items() if spec.name == pipeline), "")

    def problems_of(self, pipeline: str) -> tuple[Problem, ...]:
        return tuple(p for p in self.problems.get(self.file_of(pipeline), ()) if not p.warning)

    def drafted(self, file: Path) -> PipelineSpec:
        """The pipeline as it would be if what the file says were in force. Raises SpecProblems with all that is wrong.

        Its paths mean what they would mean then, wherever the file lies.
        """
        specs, targets = self.folders
        loaded = load_folder(Draft(specs, file), targets, self._state, schedule.check, self._pools, self._in_force)
        if str(file) not in loaded.pipelines:
            raise SpecProblems(loaded.problems[str(file)])
        return loaded.pipelines[str(file)]

    @property
    def _in_force(self) -> Loaded:
        return Loaded(self._pipelines, self._targets)

    def reload(self) -> Change:
        """Read both folders again; a file that is broken keeps what it last said, a folder that cannot be read, too.

        A disk that is away for a while must not end pipelines: only who takes a file out of its folder does.
        """
        loaded = load_folder(*self.folders, self._state, schedule.check, self._pools, self._in_force)
        before, targets_before = self.pipelines, self.targets
        broken = {path for path, problems in loaded.problems.items() if any(not p.warning for p in problems)}
        known = (*self._pipelines, *self._targets)
        broken |= {path for path in known if str(Path(path).parent) in loaded.unread}
        self._pipelines = _merged(self._pipelines, loaded.pipelines, broken)
        self._targets = _merged(self._targets, loaded.targets, broken)
        self._say(loaded.problems, before)
        after = self.pipelines
        if self.targets != targets_before:
            look: Iterable[str] = after
        else:
            look = (name for name, spec in after.items() if before.get(name) != spec)
        return Change(frozenset(look), frozenset(before.keys() - after.keys()))

    def _say(self, problems: Mapping[str, tuple[Problem, ...]], before: Mapping[str, PipelineSpec]) -> None:
        for path, found in problems.items():
            for problem in found:
                if problem not in self.problems.get(path, ()):
                    fields = {"file": f"{path}:{problem.line}", "because": problem.message, "hint": problem.hint}
                    if problem.warning:
                        log.warning(Event.SPEC_DOUBTFUL.value, extra=fields)
                    else:
                        log.error(Event.SPEC_REFUSED.value, extra=fields)
        self.problems = problems
        for path, spec in self._pipelines.items():
            if before.get(spec.name) != spec:
                log.info(Event.SPEC_LOADED.value, extra={"pipeline": spec.name, "file": path})
        for name in before.keys() - self.pipelines.keys():
            log.warning(Event.SPEC_REMOVED.value, extra={"pipeline": name})


def _merged(known: dict[str, T], read: Mapping[str, T], broken: set[str]) -> dict[str, T]:
    kept = {path: said for path, said in known.items() if path in broken}
    return {**kept, **read}
