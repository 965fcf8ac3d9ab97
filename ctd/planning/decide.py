"""What to do about one piece of work, given what was tried before. Guard clauses, each with its reason."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ctd.core.artifacts import Artifacts
from ctd.core.errors import OF_THE_MACHINE, pace_of
from ctd.core.executions import STOPPED, Execution, State
from ctd.core.fingerprints import fingerprint
from ctd.core.requests import OperatorRequest
from ctd.core.timing import backoff, format_duration
from ctd.core.work import SourceFile
from ctd.planning import effects
from ctd.planning.asked import cancelled, distrusted, forgiven, hurried
from ctd.planning.decisions import Blocked, Decision, Reuse, Run, Subject, Wait
from ctd.planning.reasons import Calendars, what_changed
from ctd.planning.supersede import may_give_way, still_running
from ctd.planning.world import World

SUSPECT_AFTER = 3  # abandoned attempts in a row: it may be what kills the daemon, so it is slowed down
ABANDONED_CAP = 10
STUCK_AFTER = 3  # temporary failures in a row, and someone should look
STUCK_ON_THE_MACHINE = 8  # of those that follow each other in seconds
COUNTED = frozenset({"WorkerLost", "ComponentTimeout", "ServerDeadline"})  # temporary errors with a limit of attempts


@dataclass(frozen=True)
class Wanted:
    """A piece of work with everything that identifies it."""

    pipeline: str
    subject: Subject
    ingredients: Mapping[str, Any]
    inputs: Artifacts
    attempts: int
    effect: bool = False
    hasty: bool = False  # what runs on other inputs gives way to it
    new: str = ""  # what to say when nothing of this key was ever done
    note: str = ""  # what was left out of the inputs, and why
    shown: str = ""  # the same, less what another node tells already
    held_up: bool = False  # whether that needs mending
    span: int | None = None
    version: int | None = None
    files: tuple[SourceFile, ...] = ()
    calendars: Calendars = field(default_factory=dict)  # of its inputs
    told: str = ""  # identity of all that its process would be told, what is no ingredient included


def decide(wanted: Wanted, world: World) -> Decision:
    """Run, reuse, wait or blocked. Depends on nothing but its arguments."""
    key = fingerprint(wanted.ingredients)
    s = wanted.subject
    tried = world.history.tried(wanted.pipeline, s.node, s.piece, key)
    running = next((e for e in reversed(tried) if e.state is State.RUNNING), None)
    if running:
        return Wait(s, running_since(running), execution=running.id)
    done = _usable(wanted, tried, world)
    if done:
        return _reuse(wanted, done, world)
    busy = _busy(wanted, world)
    if busy is None:
        return _do(wanted, key, tried, world)
    if wanted.hasty and may_give_way(busy, world):
        decision = _do(wanted, key, tried, world)
        if isinstance(decision, Run):
            return replace(decision, supersedes=busy.id)
    return still_running(s, busy, giving_way=wanted.hasty, world=world)


def _do(wanted: Wanted, key: str, tried: tuple[Execution, ...], world: World) -> Decision:
    """Run it, unless earlier attempts or its inputs say wait or blocked."""
    decision = _attempt(wanted, key, tried, world)
    unreadable = _unreadable(wanted.inputs, world) if isinstance(decision, Run) else ""
    return Wait(wanted.subject, unreadable) if unreadable else decision


def _attempt(wanted: Wanted, key: str, tried: tuple[Execution, ...], world: World) -> Decision:
    run = _run(wanted, key, tried, world)
    if not tried:
        return run
    if tried[-1].state is State.SUCCEEDED:
        return _made_again(wanted, run, tried, world)
    retry = forgiven(world.history, wanted.pipeline, wanted.subject.node, wanted.span, tried)
    counted = _since(retry, tried)
    if retry and not counted:
        return _because(run, f"tried again, asked {retry.said}")
    told = tuple(_as_told(wanted, counted))
    if not told:
        edited = "its spec, target or pinned code was edited since"
        return _because(run, f"{edited} execution {counted[-1].id} failed: tried again")
    return _again(wanted, run, told, world)


def _as_told(wanted: Wanted, tried: tuple[Execution, ...]) -> Iterator[Execution]:
    """The attempts that count: what failed under another spec (or code that is pinned) may be mended.

    Of what was told to attempts before this was recorded nobody knows, so they count. A cancellation stands.
    """
    since = 0
    for at, e in enumerate(tried):
        if e.state in (State.FAILED, State.ABANDONED) and e.told not in ("", wanted.told):
            since = at + 1
    return iter(tried[since:])


def running_since(execution: Execution) -> str:
    """The reason of a decision whose work is being done."""
    return f"running, attempt {execution.attempt}: {execution.because}"


def _busy(wanted: Wanted, world: World) -> Execution | None:
    """An execution of the same piece on other inputs: at most one at a time, per span where it runs per span."""
    s = wanted.subject
    for execution in world.history.running():
        if (execution.pipeline, execution.node, execution.piece) == (wanted.pipeline, s.node, s.piece) and (
            wanted.span is None or execution.key == s.key
        ):
            return execution
    return None


def whole(execution: Execution, world: World) -> bool:
    """Whether everything the execution made is still there."""
    return not any(True for _ in _gone(execution, world)) and not effects.damaged(execution, world)


def _usable(wanted: Wanted, tried: tuple[Execution, ...], world: World) -> Execution | None:
    again = distrusted(world.history, wanted.pipeline, wanted.subject.node, wanted.span)
    done = [e for e in _since(again, tried) if e.state is State.SUCCEEDED and whole(e, world)]
    if not done:
        return None
    if wanted.effect:
        latest = effects.latest(wanted.pipeline, wanted.subject.node, wanted.subject.piece, world.history)
        if latest is None or latest.id != done[-1].id or not effects.stands(latest, tried, world):
            return None
    return done[-1]


def _reuse(wanted: Wanted, done: Execution, world: World) -> Decision:
    if wanted.effect and any(a.refused for made in done.outputs.values() for a in made):
        hint = "Another model is tried as soon as there is one; other limits in the target's file judge this one anew."
        return Blocked(wanted.subject, done.result, hint, failed=False, execution=done.id)
    took = f" in {format_duration(done.took)}" if done.took else ""
    same = f"same work as execution {done.id}{took}"
    told = effects.note(done, world) if wanted.effect else ""
    same = f"{same}; {told}" if told else same
    unreadable = _unreadable(done.outputs, world)
    if unreadable:
        return Wait(wanted.subject, f"{unreadable}; {same}", execution=done.id, outputs=done.outputs)
    if wanted.held_up:
        because = f"{wanted.shown}; {same} stays"
        return Wait(wanted.subject, because, stuck=True, execution=done.id, outputs=done.outputs, note=wanted.note)
    return Reuse(wanted.subject, f"{same}; {wanted.shown}" if wanted.shown else same, done.id, done.outputs)


def _run(wanted: Wanted, key: str, tried: tuple[Execution, ...], world: World) -> Run:
    because = _why(wanted, tried, world)
    last = world.history.latest(wanted.pipeline, wanted.subject.node, wanted.subject.piece)
    return Run(
        wanted.subject,
        f"{because}; {wanted.shown}" if wanted.shown else because,
        key,
        wanted.ingredients,
        wanted.inputs,
        attempt=len(tried) + 1,
        span=wanted.span,
        version=wanted.version,
        files=wanted.files,
        supersedes=last.id if last and last.superseded else 0,
        told=wanted.told,
    )


def _why(wanted: Wanted, tried: tuple[Execution, ...], world: World) -> str:
    s = wanted.subject
    done = [e for e in tried if e.state is State.SUCCEEDED]
    if done:
        again = distrusted(world.history, wanted.pipeline, s.node, wanted.span)
        if again and again.id > done[-1].id:
            return f"execution {done[-1].id} did this; done again, asked {again.said}"
        mended = effects.why(done[-1], world) if wanted.effect and _is_latest(done[-1], world) else ""
        if mended:
            return mended
        gone = next(_gone(done[-1], world), "")
        if gone:
            damage = world.damaged.get(gone)
            said = f"was damaged ({damage.found})" if damage else "is gone"
            return f"made by execution {done[-1].id}, but {gone} {said}: made again"
        return f"execution {done[-1].id} did this, but another came after it: done again"
    same_key = world.history.of_key(wanted.pipeline, s.node, s.piece, s.key)
    if same_key:
        return what_changed(wanted.ingredients, same_key[-1], wanted.calendars)
    if wanted.new:
        return wanted.new
    latest = world.history.latest(wanted.pipeline, s.node, s.piece)
    return what_changed(wanted.ingredients, latest, wanted.calendars)


def _is_latest(done: Execution, world: World) -> bool:
    latest = effects.latest(done.pipeline, done.node, done.piece, world.history)
    return latest is not None and latest.id == done.id


def _gone(execution: Execution, world: World) -> Iterator[str]:
    for artifacts in execution.outputs.values():
        for artifact in artifacts:
            if not world.history.live(artifact) or artifact.uri in world.missing:
                yield artifact.uri


def _unreadable(artifacts: Artifacts, world: World) -> str:
    """Why it must be waited for: what cannot be looked at may be whole, so it is neither used nor made again."""
    if not world.unreadable:
        return ""
    found = (world.unreadable.get(artifact.uri) for made in artifacts.values() for artifact in made)
    return next((f"waits until it can be read: {why}" for why in found if why), "")


def _made_again(wanted: Wanted, run: Run, tried: tuple[Execution, ...], world: World) -> Decision:
    """At once; but what is damaged each time it was made, by a bad disk or a script, must not be made for ever."""
    if wanted.effect:
        return effects.again_at_pace(run, tried, world)
    damaged = itertools.takewhile(lambda e: any(place in world.damaged for place in _gone(e, world)), reversed(tried))
    in_a_row = sum(1 for e in damaged if e.state is State.SUCCEEDED)
    due = _due(wanted, tried[-1], in_a_row - 1, world) if in_a_row > 1 else None
    if due:
        because = f"{run.because} in {format_duration(due - world.now)}, damaged {in_a_row} times in a row"
        return Wait(wanted.subject, because, until=due, stuck=in_a_row >= STUCK_AFTER)
    return run


def _again(wanted: Wanted, run: Run, tried: tuple[Execution, ...], world: World) -> Decision:
    last = tried[-1]
    failure = last.failure
    cancel = cancelled(world.history, last)  # though the daemon may have died before it could obey
    if last.superseded and not cancel:
        return _because(run, f"execution {last.id} gave way to newer work, but this is wanted again")
    if cancel or last.state is State.CANCELLED:
        by = f" {cancel.said}" if cancel else ""
        hint = f"`ctd retry {wanted.pipeline} {wanted.subject.node}` does it after all; so does a change of its inputs."
        because = f"execution {last.id} was cancelled{by}"
        return Blocked(wanted.subject, because, hint, failed=False, execution=last.id)
    if failure is not None and failure.kind == STOPPED:
        return _because(run, f"execution {last.id} was stopped with the daemon: once more")
    if failure is None:
        return _abandoned(wanted, run, tried, world)
    in_a_row = _in_a_row(tried, failure.kind)
    said = f"{failure.message} (execution {last.id}, attempt {last.attempt})"
    if not failure.retryable or (failure.kind in COUNTED and in_a_row >= wanted.attempts):
        times = f"{in_a_row} times in a row: " if failure.retryable else ""
        return Blocked(wanted.subject, times + said, failure.hint, execution=last.id)
    # What is damaged is made again before this is decided; a pause comes when that did not help.
    pauses = in_a_row - 1 if failure.kind == "DamagedArtifact" else in_a_row
    due = _due(wanted, last, pauses, world) if pauses else None
    if due:
        left = format_duration(due - world.now)
        return Wait(wanted.subject, f"{said}; again in {left}", until=due, stuck=in_a_row >= _stuck_after(failure.kind))
    return _because(run, f"attempt {run.attempt} after: {failure.message}")


def _abandoned(wanted: Wanted, run: Run, tried: tuple[Execution, ...], world: World) -> Decision:
    """Once more, for what runs when a machine fails is rarely the reason; but not for ever, for it may be."""
    in_a_row = sum(1 for _ in itertools.takewhile(lambda e: e.state is State.ABANDONED, reversed(tried)))
    last = tried[-1]
    if in_a_row >= ABANDONED_CAP:
        return Blocked(
            wanted.subject,
            f"the daemon died {in_a_row} times while this ran (last: execution {last.id})",
            "Look for what kills it (out of memory?) in the execution's log; change the spec or code to try again.",
            execution=last.id,
        )
    if in_a_row >= SUSPECT_AFTER:
        due = _due(wanted, last, in_a_row - SUSPECT_AFTER + 1, world)
        if due:
            left = format_duration(due - world.now)
            return Wait(wanted.subject, f"the daemon died {in_a_row} times while this ran; again in {left}", until=due)
    return _because(run, f"execution {last.id} was abandoned when the daemon died: once more")


def _due(wanted: Wanted, last: Execution, failures: int, world: World) -> datetime | None:
    """When the next attempt may be made; None for now. A clock that was set back since must hold nothing up."""
    asked = hurried(world.history, wanted.pipeline, wanted.subject.node)
    if asked and asked.id > last.id:
        return None
    ended = last.ended or last.started
    pace = pace_of(last.failure.kind if last.failure else "")
    pause = backoff(failures, first=pace.first, most=pace.most, growth=pace.growth, seed=last.fingerprint)
    due = ended + pause
    return due if ended <= world.now < due else None


def _since(request: OperatorRequest | None, tried: tuple[Execution, ...]) -> tuple[Execution, ...]:
    """The attempts that were begun after a request, if there was one."""
    return tuple(e for e in tried if request is None or e.id > request.id)


def _in_a_row(tried: tuple[Execution, ...], kind: str) -> int:
    same = itertools.takewhile(lambda e: e.failure is not None and e.failure.kind == kind, reversed(tried))
    return sum(1 for _ in same)


def _stuck_after(kind: str) -> int:
    return STUCK_ON_THE_MACHINE if pace_of(kind) is OF_THE_MACHINE else STUCK_AFTER


def _because(run: Run, text: str) -> Run:
    return replace(run, because=text)
