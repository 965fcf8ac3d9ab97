"""How a spec says when a node may run: at every change, by a schedule, when asked, and not too often."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ctd.specs.base import Complaint, Duration, NodeSpec, Spec


class Schedule(Spec):
    """Times of the clock (cron) or an interval. What was missed while the daemon was down is made up for once."""

    cron: str | None = Field(
        default=None,
        description="five fields of crontab(5): minute hour day month weekday (0, 7 or sun: Sunday), e.g. `0 3 * * *`",
    )
    timezone: str = Field(default="UTC", description="of the cron fields, e.g. Europe/Berlin")
    every: Duration | None = Field(default=None, description="this long after the last start, e.g. 24h")

    @model_validator(mode="after")
    def _one_way(self) -> Schedule:
        if (self.cron is None) == (self.every is None):
            raise Complaint("a schedule is said in exactly one way", "Write `{cron: '0 3 * * *'}` or `{every: 24h}`.")
        return self


class TimedNode(NodeSpec):
    """A node that can be told when to run. Whenever it may, it runs only if something changed."""

    when: Literal["change", "schedule", "manual"] = Field(
        default="change", description="change: at once; schedule: at its times; manual: only when asked (`ctd run-now`)"
    )
    schedule: Schedule | None = Field(default=None, description="with `when: schedule`")
    min_interval: Duration | None = Field(
        default=None, description="not again sooner than this after its last start, so that an hourly feed trains daily"
    )
    coalesce: Duration | None = Field(
        default=None,
        description="how long data that is ready waits for more that is on its way, to be worked on once; by default "
        "as long as the node's last run took, and 10s at least",
    )
    supersede: Literal["newest", "running"] = Field(
        default="newest",
        description="what newer data or another spec makes obsolete: newest: is not begun if it waits; "
        "running: is stopped, too, if it runs (of three in a row that gave way, the next is let finish)",
    )

    @model_validator(mode="after")
    def _schedule_fits(self) -> TimedNode:
        if (self.when == "schedule") != (self.schedule is not None):
            lacks = "a `schedule`" if self.schedule is None else "`when: schedule`"
            raise Complaint(f"it needs {lacks} too", "Write `when: schedule` and `schedule: {cron: '0 3 * * *'}`.")
        return self
