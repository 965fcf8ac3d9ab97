"""Where the seconds of a push went: the chain of executions each of which waited for the one before, and the rest.

All of it is computed from what is recorded, so that it can be told of any push.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ctd.core.artifacts import ArtifactType
from ctd.core.executions import BEFORE, Execution, State
from ctd.core.history import History
from ctd.planning.causes import Causes
from ctd.specs.pipeline import PipelineSpec

_AT_ONCE = timedelta(seconds=10)  # what begins later after something has ended did not wait for that alone
_OWN_REASONS = frozenset({"setting", "code", "file", "component", "asked", "lost", "again"})
_ZERO = timedelta(0)


@dataclass(frozen=True)
class Step:
    """An execution in the time of a push. `ready` is when it could have begun: it waited for a slot since.

    `slack`: how much longer it could have taken without the push being later. `gain`: how much sooner the push would
    have been without it, if nothing else had changed.
    """

    execution: Execution
    ready: datetime
    critical: bool
    slack: timedelta
    gain: timedelta

    @property
    def took(self) -> timedelta:
        return _ended(self.execution) - self.execution.started


@dataclass(frozen=True)
class CriticalPath:
    """All executions between what set a push off and its end, in the order of their starts.

    `begins`: when the span was noticed, or the work that nothing else led to could begin; `root` is that work.
    """

    push: Execution
    root: Execution
    begins: datetime
    steps: tuple[Step, ...]

    @property
    def ends(self) -> datetime:
        return _ended(self.push)

    @property
    def critical(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.critical)


def last_push(history: History, pipeline: str) -> Execution | None:
    """The push that ended last."""
    pushes = (e for e in history.successes(pipeline) if _pushed(e))
    return max(pushes, key=_ended, default=None)


def critical_path(history: History, spec: PipelineSpec, push: Execution) -> CriticalPath:
    """What a push, or any other execution that has ended, waited for."""
    return _Window(history, spec, push).path()


class _Window:
    """The executions that a push may have waited for."""

    def __init__(self, history: History, spec: PipelineSpec, push: Execution) -> None:
        self._history = history
        self._causes = Causes(history, spec)
        self._push = push
        self._gates = {w.id: {gate for some in w.gates.values() for gate in some} for w in spec.work}
        self._ended = [e for e in history.of_pipeline(spec.name) if e.ended and e.id <= push.id]
        self._of_place: dict[tuple[str, str], list[Execution]] = {}
        for e in self._ended:
            self._of_place.setdefault((e.node, e.piece), []).append(e)

    def path(self) -> CriticalPath:
        chain = [self._push]
        while (before := self._before(chain[-1])) is not None:
            chain.append(before)
        begins = _noticed(chain[-1])
        ends = _ended(self._push)
        during = [e for e in self._ended if e.started <= ends and _ended(e) >= begins]
        during.sort(key=lambda e: (e.started, e.id))
        return CriticalPath(self._push, chain[-1], begins, self._steps(during, {e.id for e in chain}))

    def _before(self, e: Execution) -> Execution | None:
        """The execution at whose end this one could begin; none if something else set it off."""
        kinds = {c.kind for c in self._causes.of(e)}
        if kinds and kinds <= _OWN_REASONS:
            return None
        last = max(self._waited_for(e), key=lambda w: (_ended(w), w.id), default=None)
        if last is None or (e.ready - _ended(last) > _AT_ONCE and last.fingerprint != e.fingerprint):
            return None
        return last

    def _waited_for(self, e: Execution) -> Iterator[Execution]:
        """Makers of its inputs, verdicts on their spans, and the attempts before it."""
        makers = {m.id: m for ids in e.inputs.values() for i in ids if (m := self._history.maker(i))}
        verdicts = (other for gate in self._gates.get((e.node, e.piece), ()) for other in self._of_place.get(gate, ()))
        tried = self._history.tried(e.pipeline, e.node, e.piece, e.fingerprint)
        attempts = (other for other in tried if other.epoch == e.epoch and other.attempt < e.attempt)
        for other in (*makers.values(), *verdicts, *attempts):
            if other.ended and other.ended <= e.started:
                yield other

    def _steps(self, during: Sequence[Execution], chain: set[int]) -> tuple[Step, ...]:
        there = {e.id for e in during}
        needs = {e.id: tuple(n for n in self._waited_for(e) if n.id in there) for e in during}
        ends = _ended(self._push)
        latest = _latest_ends(during, needs, ends)
        return tuple(
            Step(
                e,
                e.ready,
                e.id in chain,
                _ZERO if e.id in chain else max(_ZERO, latest[e.id] - _ended(e)),
                max(_ZERO, ends - self._without(e.id, during, needs)) if e.id in chain else _ZERO,
            )
            for e in during
        )

    def _without(self, spared: int, during: Sequence[Execution], needs: Mapping[int, Sequence[Execution]]) -> datetime:
        """When the push would have ended had one execution taken no time, and all else what it took."""
        ends: dict[int, datetime] = {}
        for e in during:
            took = _ZERO if e.id == spared else _ended(e) - e.started
            ends[e.id] = (
                max((ends[n.id] for n in needs[e.id]), default=e.started - _lag(e, needs)) + _lag(e, needs) + took
            )
        return ends[self._push.id]


def _latest_ends(
    during: Sequence[Execution], needs: Mapping[int, Sequence[Execution]], ends: datetime
) -> dict[int, datetime]:
    """When each could have ended at the latest without the end being later."""
    latest = {e.id: ends for e in during}
    for e in reversed(during):
        begins = latest[e.id] - (_ended(e) - e.started) - _lag(e, needs)
        for needed in needs[e.id]:
            latest[needed.id] = min(latest[needed.id], begins)
    return latest


def _lag(e: Execution, needs: Mapping[int, Sequence[Execution]]) -> timedelta:
    """From the end of what it waited for to its start."""
    last = max((_ended(n) for n in needs[e.id]), default=None)
    return e.started - last if last else _ZERO


def _noticed(e: Execution) -> datetime:
    return e.started - timedelta(seconds=sum(e.timings.get(phase, 0.0) for phase in BEFORE))


def _ended(e: Execution) -> datetime:
    return e.ended or e.started


def _pushed(e: Execution) -> bool:
    return e.state is State.SUCCEEDED and any(
        a.type is ArtifactType.PUSHED_MODEL for made in e.outputs.values() for a in made
    )
