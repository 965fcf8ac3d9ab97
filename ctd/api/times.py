"""Where the seconds of a push went, as `ctd explain --time --json` shows it."""

from __future__ import annotations

from pydantic import Field

from ctd.api.models import View


class GapView(View):
    """A stretch of the path without work, in seconds since the beginning, and why.

    `kind`: down, noticing, settling, paused, failed, approval, schedule, asked, busy, others, slot, or deciding, where
    nothing else is recorded.
    """

    kind: str
    said: str
    start: float
    end: float
    seconds: float


class StepView(View):
    """An execution in the time of a push. Times are seconds since the beginning."""

    execution: int
    node: str
    piece: str
    key: str
    state: str
    ready: float  # when it could have begun: between this and `start` it waited for a slot
    start: float
    end: float
    phases: dict[str, float]  # seconds: waiting, starting, importing, reading, computing, ...
    critical: bool  # the end waited for it
    slack: float = 0.0  # how much longer it could have taken without the end being later
    gain: float = 0.0  # how much sooner the end would have been without it
    gaps: list[GapView] = Field(
        default=[]
    )  # on the path: all of the time between the end of the step before and its start


class TimesView(View):
    """The critical path of a push, or of another execution, and what ran beside it, in the order of their starts."""

    pipeline: str
    execution: int  # the last of the path
    result: str  # of it: the version that was pushed
    set_off: str  # why the first of the path ran
    began: str  # when the span was noticed, or the first of the path could begin
    ended: str  # when the push was verified and recorded
    seconds: float
    steps: list[StepView]
    shorter: list[str]  # what would have made it shorter
