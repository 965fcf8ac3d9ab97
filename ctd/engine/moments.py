"""Since when work has been on its way: its span was seen, then complete, then it was to run and lacked a slot."""

from __future__ import annotations

from collections.abc import Mapping

from ctd.core.timing import Clock
from ctd.planning.decisions import Plan, Run, Subject, Wait

_NOTICED = 60.0  # seconds; the time of a file that is older was copied with it and does not say when it came

Work = tuple[Subject, str]


class Moments:
    """By pipeline, on the monotonic clock. What a daemon did not see itself it does not tell."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._born = clock.now().timestamp()
        self._arriving: dict[str, dict[Subject, float]] = {}  # first seen, complete or not
        self._queued: dict[str, dict[Work, float]] = {}  # first to run

    def saw(self, made: Plan) -> None:
        """Take note of a plan."""
        now = self._clock.monotonic()
        seen = [d.subject for d in made.decisions if (isinstance(d, Wait) and d.absent) or isinstance(d, Run)]
        before = self._arriving.get(made.pipeline, {})
        self._arriving[made.pipeline] = {subject: before.get(subject, now) for subject in seen}
        waited = self._queued.get(made.pipeline, {})
        self._queued[made.pipeline] = {_work(run): waited.get(_work(run), now) for run in made.runs}

    def forget(self, pipeline: str) -> None:
        self._arriving.pop(pipeline, None)
        self._queued.pop(pipeline, None)

    def before(self, pipeline: str, run: Run) -> Mapping[str, float]:
        """Seconds by phase of what came before its start, as it starts now."""
        now = self._clock.monotonic()
        queued = self._queued.get(pipeline, {}).get(_work(run), now)
        found = {"wait": now - queued}
        if run.files:
            seen = min(self._arriving.get(pipeline, {}).get(run.subject, queued), queued)
            found["settle"] = queued - seen
            written = max(file.mtime_ns for file in run.files) / 1e9
            notice = self._clock.now().timestamp() - (now - seen) - written
            if written >= self._born and 0 <= notice <= _NOTICED:
                found["notice"] = notice
        return {phase: round(seconds, 3) for phase, seconds in found.items()}


def _work(run: Run) -> Work:
    return run.subject, run.fingerprint
