"""Whether work that is to be done may begin now: schedules, intervals, and nodes that wait to be asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from ctd.core.artifacts import Artifact
from ctd.core.executions import Execution, State
from ctd.core.history import History
from ctd.core.timing import format_duration
from ctd.planning.asked import cancelled, hurried
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
    turn = next((e for e in world.history.back(pipeline, s.node, s.piece) if _took_its_turn(e, world.history)), None)
    asked = hurried(world.history, pipeline, s.node)
    if asked is not None and (turn is None or asked.id > turn.id):
        return replace(run, because=f"{run.because}; now, asked {asked.said}")
    if node.when == "manual":
        return _wait(run, pipeline, world, f"manual: `ctd run-now {pipeline} {s.node}`")
    fire = world.fires.get(s.node)
    if fire is not None and fire.problem:
        return Blocked(s, fire.problem, "Mend `schedule` in the spec.")
    if last is not turn or turn is None or turn.started > world.now:
        return run  # its turn has come, and nothing came of it; or a clock was wrong, which says nothing about when
    due = _due(node, run, turn, world)
    if due is not None and world.now < due:
        return _wait(run, pipeline, world, f"due at {_clock(due)}", due)
    if node.min_interval is not None:
        due = turn.started + node.min_interval
        if world.now < due:
            ago, least = format_duration(world.now - turn.started), format_duration(node.min_interval)
            return _wait(run, pipeline, world, f"ran {ago} ago, min_interval {least}", due)
    return run


def _took_its_turn(e: Execution, history: History) -> bool:
    """Whether a time or a request is used up by an attempt: it has a result, still runs, or somebody stopped it.

    Not by one that failed, was lost with the daemon, or gave way to newer work: that is made up for.
    """
    stopped = (e.state is State.CANCELLED and not e.superseded) or cancelled(history, e) is not None
    return stopped or e.state in (State.RUNNING, State.SUCCEEDED)


def _due(node: TimedNode, run: Run, turn: Execution, world: World) -> datetime | None:
    """When the schedule lets it begin, if it has one; the past for now."""
    if node.schedule is None:
        return None
    if node.schedule.every is not None:
        return turn.started + node.schedule.every
    fire = world.fires.get(run.subject.node)
    if fire is None or fire.at is None:
        return None
    if fire.before is None or fire.before <= turn.started:
        return fire.at
    unseen = world.watched is not None and fire.before < world.watched
    owed = unseen or _wanted_since(run, turn, world) <= fire.before
    return fire.before if owed else fire.at


def _wanted_since(run: Run, turn: Execution, world: World) -> datetime:
    """Since when there has been something to do: since the first work on the data that is new began, or could have.

    Edits have no time that one could trust, nor has what is left out of a window: they count as wanted ever since the
    last turn, so that a time that has passed since is made up for.
    """
    if _but_inputs(run.ingredients) != _but_inputs(turn.ingredients):
        return turn.started
    was = turn.ingredients.get("inputs", {})
    new: list[Artifact] = []
    for key, taken in run.ingredients.get("inputs", {}).items():
        before = {(span, digest) for span, digest in was.get(key, ())}
        found = [a for a in run.inputs.get(key, ()) if (a.span, a.digest) not in before]
        if not found and {(span, digest) for span, digest in taken} != before:
            return turn.started
        new += found
    makers = {a.id: world.history.maker(a.id) for a in new}
    if not new or any(maker is None or not _since(maker, turn) for maker in makers.values()):
        return turn.started
    first = min(e.ready for e in _made_since(turn, [a.id for a in new], world.history))
    return first if first <= world.now else turn.started


def _but_inputs(ingredients: Mapping[str, Any]) -> dict[str, Any]:
    return {key: said for key, said in ingredients.items() if key != "inputs"}


def _made_since(turn: Execution, artifacts: list[int], history: History) -> Iterator[Execution]:
    """The executions that artifacts come from, as far as the turn could not know of their results."""
    seen: set[int] = set()
    left = list(artifacts)
    while left:
        maker = history.maker(left.pop())
        if maker is None or maker.id in seen or not _since(maker, turn):
            continue
        seen.add(maker.id)
        yield maker
        left += [i for key in maker.ingredients.get("inputs", {}) for i in maker.inputs.get(key, ())]


def _since(e: Execution, turn: Execution) -> bool:
    return e.ended is not None and e.ended > turn.started


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
