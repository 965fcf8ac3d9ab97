"""Where the seconds of a push went: the chain of executions each of which waited for the one before, and the rest.

All of it is computed from what is recorded, so that it can be told of any push.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

from ctd.core.artifacts import ArtifactType
from ctd.core.executions import BEFORE, Execution, State
from ctd.core.history import History
from ctd.planning.causes import Causes
from ctd.planning.gaps import Gap, GapKind, Gaps
from ctd.specs.pipeline import PipelineSpec

_AT_ONCE = timedelta(seconds=10)  # what begins later after something has ended did not wait for that alone
_OWN_REASONS = frozenset({"setting", "code", "file", "component", "asked", "lost", "again"})
_ZERO = timedelta(0)


@dataclass(frozen=True)
class Step:
    """An execution in the time of a push. `ready` is when it could have begun: it waited for a slot since.

    `gaps` are, on the path, all of the time between the end of the step before and its start, and why nothing was done.
    `slack`: how much longer it could have taken without the push being later. `gain`: how much sooner the push would
    have been without it, if nothing else had changed.
    """

    execution: Execution
    ready: datetime
    critical: bool
    slack: timedelta
    gain: timedelta
    gaps: tuple[Gap, ...] = ()

    @property
    def took(self) -> timedelta:
        return _ended(self.execution) - self.execution.started


@dataclass(frozen=True)
class CriticalPath:
    """What a push waited for, between what set it off and its end, in the order of their starts; and what else was done
    with the same data meanwhile.

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
        self._gaps = Gaps(history, spec)
        self._push = push
        self._gates = {w.id: {gate for some in w.gates.values() for gate in some} for w in spec.work}
        self._ended = [e for e in history.of_pipeline(spec.name) if e.ended and e.id <= push.id]
        self._of_place: dict[tuple[str, str], list[Execution]] = {}
        for e in self._ended:
            self._of_place.setdefault((e.node, e.piece), []).append(e)

    def path(self) -> CriticalPath:
        chain = [self._push]
        gaps: dict[int, tuple[Gap, ...]] = {}
        while (before := self._before(chain[-1])) is not None:
            gaps[chain[-1].id] = self._gaps.between(before, chain[-1])
            chain.append(before)
        gaps[chain[-1].id] = self._gaps.first(chain[-1])
        begins = _noticed(chain[-1])
        ends = _ended(self._push)
        related = self._related(chain, begins)
        during = [e for e in self._ended if e.id in related and e.started <= ends and _ended(e) >= begins]
        during.sort(key=lambda e: (e.started, e.id))
        return CriticalPath(self._push, chain[-1], begins, self._steps(during, gaps))

    def _related(self, chain: Sequence[Execution], begins: datetime) -> set[int]:
        """What the path waited for or could have, and what else was made of what is on it: no other push, for one."""
        found = {e.id for e in chain}
        left = list(chain)
        while left:
            new = [n for n in self._waited_for(left.pop()) if n.id not in found and _ended(n) >= begins]
            found |= {n.id for n in new}
            left += new
        path = {e.id for e in chain}
        made: set[int] = set()
        for e in self._ended:  # oldest first: makers come before those who take
            if e.id in path or not made.isdisjoint(_taken(e)):
                found.add(e.id)
                made.update(a.id for artifacts in e.outputs.values() for a in artifacts)
        return found

    def _before(self, e: Execution) -> Execution | None:
        """The execution at whose end this one could begin; none if something else set it off."""
        mended = self._mended(e)
        kinds = {c.kind for c in self._causes.of(e)}
        if kinds and kinds <= _OWN_REASONS and mended is None:
            return None
        last = max(self._waited_for(e), key=lambda w: (_ended(w), w.id), default=None)
        if last is None:
            return None
        if last.fingerprint == e.fingerprint or last is mended:
            return last
        unknown = (gap.took for gap in self._gaps.between(last, e) if gap.kind is GapKind.DECIDING)
        return None if sum(unknown, _ZERO) > _AT_ONCE else last

    def _mended(self, e: Execution) -> Execution | None:
        """The work without a result that this was done in place of, after somebody mended something."""
        before = self._causes.before(e)
        if before is None or before.state is State.SUCCEEDED or before.superseded or before.ended is None:
            return None
        done = (o for o in self._of_place[e.node, e.piece] if before.id < o.id < e.id and o.state is State.SUCCEEDED)
        return before if next(done, None) is None and before.ended <= e.started else None

    def _waited_for(self, e: Execution) -> Iterator[Execution]:
        """Makers of its inputs, verdicts on their spans, and the attempts before it that had no result."""
        makers = {m.id: m for ids in e.inputs.values() for i in ids if (m := self._history.maker(i))}
        verdicts = (other for gate in self._gates.get((e.node, e.piece), ()) for other in self._of_place.get(gate, ()))
        tried = [t for t in self._history.tried(e.pipeline, e.node, e.piece, e.fingerprint) if t.id < e.id]
        attempts = list(takewhile(lambda t: t.state is not State.SUCCEEDED, reversed(tried)))
        mended = self._mended(e)
        for other in (*makers.values(), *verdicts, *attempts, *([mended] if mended else ())):
            if other.ended and other.ended <= e.started:
                yield other

    def _steps(self, during: Sequence[Execution], gaps: Mapping[int, tuple[Gap, ...]]) -> tuple[Step, ...]:
        there = {e.id for e in during}
        needs = {e.id: tuple(n for n in self._waited_for(e) if n.id in there) for e in during}
        ends = _ended(self._push)
        latest = _latest_ends(during, needs, ends)
        return tuple(
            Step(
                e,
                e.ready,
                e.id in gaps,
                _ZERO if e.id in gaps else max(_ZERO, latest[e.id] - _ended(e)),
                max(_ZERO, ends - self._without(e.id, during, needs)) if e.id in gaps else _ZERO,
                gaps.get(e.id, ()),
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


def _taken(e: Execution) -> set[int]:
    """The inputs that made it what it is; what it only looked at sets nothing off."""
    said = e.ingredients.get("inputs")
    return {i for key, ids in e.inputs.items() if said is None or key in said for i in ids}


def _noticed(e: Execution) -> datetime:
    return e.started - timedelta(seconds=sum(e.timings.get(phase, 0.0) for phase in BEFORE))


def _ended(e: Execution) -> datetime:
    return e.ended or e.started


def _pushed(e: Execution) -> bool:
    return e.state is State.SUCCEEDED and any(
        a.type is ArtifactType.PUSHED_MODEL for made in e.outputs.values() for a in made
    )
