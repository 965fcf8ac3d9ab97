"""Since when work has been on its way: its span was seen, then complete, then it was to run and lacked a slot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ctd.core.history import History
from ctd.core.timing import Clock
from ctd.core.work import SourceFile
from ctd.planning.decisions import AT_ONCE, Plan, Run, Subject, Wait

_NOTICED = 60.0  # seconds; the time of a file that is older was copied with it and does not say when it came
_MOST_FILES = 1000  # that are asked when they came

Work = tuple[Subject, str]


@dataclass(frozen=True)
class _Seen:
    """When a span was seen first, and when it was complete, if it is."""

    first: float
    complete: float | None


class Moments:
    """By pipeline, on the monotonic clock. What a daemon did not see itself it does not tell."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._born = clock.now().timestamp()
        self._arriving: dict[str, dict[Subject, _Seen]] = {}
        self._queued: dict[str, dict[Work, float]] = {}  # first to run

    def saw(self, made: Plan) -> None:
        """Take note of a plan."""
        now = self._clock.monotonic()
        before = self._arriving.get(made.pipeline, {})
        seen: dict[Subject, _Seen] = {}
        for d in made.decisions:
            if isinstance(d, Run) or (isinstance(d, Wait) and not d.execution):
                known = before.get(d.subject, _Seen(now, None))
                arrived = not (isinstance(d, Wait) and d.absent)
                complete = known.complete if known.complete is not None and arrived else (now if arrived else None)
                seen[d.subject] = _Seen(known.first, complete)
        self._arriving[made.pipeline] = seen
        waited = self._queued.get(made.pipeline, {})
        self._queued[made.pipeline] = {_work(run): waited.get(_work(run), now) for run in made.runs}

    def forget(self, pipeline: str) -> None:
        self._arriving.pop(pipeline, None)
        self._queued.pop(pipeline, None)

    def before(self, pipeline: str, run: Run, history: History, epoch: int) -> Mapping[str, float]:
        """Seconds by phase of what came before its start, as it starts now."""
        now = self._clock.monotonic()
        queued = self._queued.get(pipeline, {}).get(_work(run), now)
        found = {"wait": now - queued}
        if run.files and run.attempt == 1:
            seen = self._arriving.get(pipeline, {}).get(run.subject, _Seen(queued, queued))
            complete = min(queued if seen.complete is None else seen.complete, queued)
            first = min(seen.first, complete)
            found["settle"] = complete - first
            if queued > complete:
                found["held"] = queued - complete
            if run.turn == AT_ONCE and not _known(pipeline, run, history):
                found |= self._unseen(
                    run, self._clock.now().timestamp() - (now - first), _alive(pipeline, run, history, epoch)
                )
        return {phase: round(seconds, 3) for phase, seconds in found.items()}

    def _unseen(self, run: Run, seen: float, alive: float | None) -> Mapping[str, float]:
        """How long the span was there before it was seen; `alive`: when a daemon before this one still read spans."""
        landed = _landed(run.files)
        if landed is not None and landed <= seen:
            if landed >= self._born:
                return {"notice": seen - landed}
            if alive is not None and landed > alive:
                return {"down": self._born - landed, "notice": max(0.0, seen - self._born)}
        written = max(file.mtime_ns for file in run.files) / 1e9
        trusted = written >= self._born and 0 <= seen - written <= _NOTICED
        return {"notice": seen - written} if trusted else {}


def _landed(files: Iterable[SourceFile]) -> float | None:
    """When the last file came to its place, whatever time was copied with it; None if that cannot be told."""
    try:
        times = [Path(file.path).stat().st_ctime for file, _ in zip(files, range(_MOST_FILES), strict=False)]
    except OSError:
        return None
    return max(times, default=None)


def _known(pipeline: str, run: Run, history: History) -> bool:
    """Whether the same content was read before: it did not come just now."""
    tried = history.of_key(pipeline, run.subject.node, run.subject.piece, run.subject.key)
    return any(e.ingredients.get("content") == run.ingredients.get("content") for e in tried)


def _alive(pipeline: str, run: Run, history: History, epoch: int) -> float | None:
    """When the last daemon before this one still began to read something of the same input."""
    back = history.back(pipeline, run.subject.node, run.subject.piece)
    return next((e.started.timestamp() for e in back if e.epoch < epoch), None)


def _work(run: Run) -> Work:
    return run.subject, run.fingerprint
