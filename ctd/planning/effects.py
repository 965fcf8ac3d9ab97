"""A push is a state to keep true: whether a target still has what was pushed there, and whether its server says so."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.executions import Execution, State
from ctd.core.facts import TargetSeen
from ctd.core.history import History
from ctd.core.timing import backoff, format_duration
from ctd.planning.decisions import Alert, Decision, Run, Standing, Wait
from ctd.planning.world import TargetFact, World
from ctd.specs.targets import canary_piece
from ctd.specs.wired import WiredPiece

_ASK_AFTER = (timedelta(0), timedelta(minutes=1), timedelta(minutes=2), timedelta(minutes=5), timedelta(minutes=10))
"""How long after each fruitless question, the push's own first, the server is asked again; the last goes on."""

_RECENT = timedelta(hours=1)
_REPAIR_FIRST, _REPAIR_MOST = timedelta(seconds=10), timedelta(minutes=10)
_STUCK_AFTER = 3


def damaged(push: Execution, world: World) -> str:
    """What makes a push not count any more: the target has it no longer, and is to be repaired."""
    target = world.targets.get(push.piece)
    return _fault(push, target) if target and target.repair else ""


def latest(pipeline: str, node: str, piece: str, history: History) -> Execution | None:
    """What counts of a piece whose result is a state outside: the newest success, but for canaries taken back."""
    done = history.latest_success(pipeline, node, piece)
    return next(history.pushes(pipeline, piece), None) if done and history.withdrawn(done) else done


def stands(push: Execution, tried: Sequence[Execution], world: World) -> bool:
    """Whether there is nothing to do about the latest push: it is whole, and its server need not be asked now."""
    return not damaged(push, world) and not _ask_now(push, tried, world)


def why(push: Execution, world: World) -> str:
    """Why a push is done once more; nothing if that is not for the target's sake."""
    fault = damaged(push, world)
    if fault:
        return f"{fault} on target {push.piece}: pushed again"
    target = world.targets.get(push.piece)
    if target and unverified(push, world):
        did = f"execution {push.id} pushed version {_version(push)}"
        if target.uploads:
            return f"{did}, but {target.uploads} has not got it: uploaded again"
        return f"{did}, but its server has not confirmed it: asked again"
    return ""


def note(push: Execution, world: World) -> str:
    """What there is to tell of a push that stays as it is."""
    target = world.targets.get(push.piece)
    seen = _seen(push, target)
    if seen is None or target is None:
        return ""
    if seen.fault or seen.unreadable:
        return seen.fault or seen.unreadable
    if seen.live_fault:
        return _live_note(push, world)
    if unverified(push, world) and target.uploads:
        pushed = pushed_by(push)
        said = str(pushed.properties.get("not_uploaded", "")) if pushed and seen.listens else ""
        return (
            f"pushed, not uploaded: {said or (f'nobody answers at {target.server}' if not seen.listens else 'not yet')}"
        )
    if unverified(push, world):
        silent = f"nobody answers at {target.server}" if not seen.listens else f"{target.server} has not confirmed it"
        return f"pushed, not verified: {silent}"
    return ""


def _live_note(push: Execution, world: World) -> str:
    """What there is to tell of the live version while another is on trial."""
    seen = _seen(push, world.targets.get(push.piece))
    return f"{seen.live_fault}, the live one, with version {seen.version} on trial" if seen and seen.live_fault else ""


def unverified(push: Execution, world: World) -> bool:
    """Whether the target names a server that has not confirmed the version, or not got it, yet."""
    target, pushed = world.targets.get(push.piece), pushed_by(push)
    return bool(target and target.server and pushed and not confirmed(pushed, target.uploads))


def confirmed(pushed: Artifact, uploads: str) -> bool:
    """Whether the server said that it has the version; with `uploads`, whether that repository got it."""
    return pushed.properties.get("uploaded") == uploads if uploads else pushed.properties.get("verified", 1) != 0


def again_at_pace(run: Run, tried: Sequence[Execution], world: World) -> Decision:
    """The run; a wait where the same version went missing again and again, as when something else removes it."""
    last = tried[-1]
    if not damaged(last, world):
        return run
    times = sum(1 for _ in itertools.takewhile(lambda e: _lately(e, world.now), reversed(tried)))
    due = last.ended + backoff(times - 1, first=_REPAIR_FIRST, most=_REPAIR_MOST) if last.ended and times > 1 else None
    if due is None or world.now >= due:
        return run
    because = f"{run.because} in {format_duration(due - world.now)}, pushed {times} times within the hour"
    return Wait(run.subject, because, until=due, stuck=times >= _STUCK_AFTER)


def standing(pipeline: str, wired: WiredPiece, world: World) -> Standing:
    """What there is to say of a target. While a push is on its way nothing is: what is seen is not yet recorded.

    The end of a trial changes what there is to see of the version on trial, too; the live one must be there till then.
    """
    push = next(world.history.pushes(pipeline, wired.piece.target), None)
    busy = {e.piece for e in world.history.running() if push and _same_place(e, push)}
    if push is None or push.piece in busy:
        return Standing()
    return Standing(trouble=_live_note(push, world) if busy else note(push, world))


def alert(pipeline: str, wired: WiredPiece, said: Standing, world: World) -> Alert | None:
    """What people should know of a target that has not what was pushed there."""
    target = world.targets[wired.piece.target]
    seen = target.seen
    if seen is None or not (seen.fault or seen.unreadable or seen.live_fault) or not said.trouble:
        return None
    if seen.live_fault and not (seen.fault or seen.unreadable):
        hint = (
            "Its server may have it in memory until it restarts. It is pushed again when the trial takes the other one "
            f"back; `ctd rollback {pipeline} {target.name}` ends the trial now."
        )
    elif seen.unreadable:
        hint = "Mend the disk, or the rights on the folder. Nothing is pushed there for this."
    elif target.repair:
        hint = "It is pushed again under a new number (`on_damage: report` in the target's file would leave it so)."
    else:
        hint = f"`on_damage: report` leaves it so; `ctd run-now {pipeline} {wired.node} --again` pushes it again."
    repaired = target.repair and bool(seen.fault) and not seen.unreadable
    return Alert(wired.node, said.trouble, hint, target=wired.piece.target, passes=repaired)


def pushed_by(push: Execution) -> Artifact | None:
    """The note of what an execution pushed."""
    made = (a for artifacts in push.outputs.values() for a in artifacts)
    return next((a for a in made if a.type is ArtifactType.PUSHED_MODEL and not a.refused), None)


def _ask_now(push: Execution, tried: Sequence[Execution], world: World) -> bool:
    """Whether the server is to be asked again. Only when somebody listens: what is down costs no executions."""
    seen = _seen(push, world.targets.get(push.piece))
    if seen is None or not seen.listens or not unverified(push, world):
        return False
    last = tried[-1]
    in_vain = partial(_in_vain, uploads=world.targets[push.piece].uploads)
    fruitless = sum(1 for _ in itertools.takewhile(lambda e: e.id >= push.id or in_vain(e), reversed(tried)))
    ended = last.ended or last.started
    pause = _ASK_AFTER[min(max(fruitless, 1), len(_ASK_AFTER)) - 1]
    return not ended <= world.now < ended + pause


def _in_vain(e: Execution, uploads: str) -> bool:
    pushed = pushed_by(e)
    return e.state is not State.SUCCEEDED or bool(pushed and not confirmed(pushed, uploads))


def _fault(push: Execution, target: TargetFact | None) -> str:
    seen = _seen(push, target)
    return seen.fault if seen else ""


def _seen(push: Execution, target: TargetFact | None) -> TargetSeen | None:
    """What was seen of exactly this push."""
    seen = target.seen if target else None
    return seen if seen and seen.version == _version(push) else None


def _version(push: Execution) -> int | None:
    pushed = pushed_by(push)
    version = pushed.properties.get("pushed_version") if pushed else None
    return version if isinstance(version, int) else None


def _lately(e: Execution, now: datetime) -> bool:
    return e.state is State.SUCCEEDED and e.ended is not None and now - e.ended < _RECENT


def _same_place(e: Execution, push: Execution) -> bool:
    here = (push.piece, canary_piece(push.piece))
    return (e.pipeline, e.node) == (push.pipeline, push.node) and e.piece in here
