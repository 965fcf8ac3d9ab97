"""Whether work that is to be done may begin now: schedules, intervals, and nodes that wait to be asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from ctd.core.executions import Execution
from ctd.core.timing import format_duration
from ctd.planning.asked import hurried
from ctd.planning.decide import whole
from ctd.planning.decisions import Blocked, Decision, Run, Wait
from ctd.planning.world import World
from ctd.specs.timing import TimedNode


def in_time(node: TimedNode, run: Run, pipeline: str, world: World) -> Decision:
    """The run, or a wait for its time. What the node made before stays in use meanwhile."""
    s = run.subject
    last = world.history.latest(pipeline, s.node, s.piece)
    if last is not None and last.fingerprint == run.fingerprint:
        return run  # it began in time; this is a further attempt, or a lost result made again
    asked = hurried(world.history, pipeline, s.node)
    if asked is not None and (last is None or asked.id > last.id):
        return replace(run, because=f"{run.because}; now, asked {asked.said}")
    if node.when == "manual":
        return _wait(run, pipeline, world, f"manual: `ctd run-now {pipeline} {s.node}`")
    if node.when == "schedule":
        fire = world.fires.get(s.node)
        if fire is not None and fire.problem:
            return Blocked(s, fire.problem, "Mend `schedule` in the spec.")
        if fire is not None and fire.at is not None and world.now < fire.at:
            return _wait(run, pipeline, world, f"due at {_clock(fire.at)}", fire.at)
    if node.min_interval is not None and last is not None and last.started <= world.now:
        due = last.started + node.min_interval
        if world.now < due:
            ago, least = format_duration(world.now - last.started), format_duration(node.min_interval)
            return _wait(run, pipeline, world, f"ran {ago} ago, min_interval {least}", due)
    return run


def _wait(run: Run, pipeline: str, world: World, because: str, until: datetime | None = None) -> Wait:
    s = run.subject
    done = world.history.latest_success(pipeline, s.node, s.piece)
    stays: Execution | None = done if done is not None and whole(done, world) else None
    return Wait(
        s,
        f"{because}; then: {run.because}",
        until=until,
        later=True,
        execution=stays.id if stays else 0,
        outputs=stays.outputs if stays else {},
    )


def _clock(at: datetime) -> str:
    return at.isoformat(sep=" ", timespec="minutes")
