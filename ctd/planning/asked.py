"""What people's requests mean for a piece of work: pauses, approvals, further tries, accepted spans."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping

from ctd.core.executions import Execution
from ctd.core.fingerprints import digest_of
from ctd.core.history import History
from ctd.core.requests import OperatorRequest, Verb
from ctd.core.spans import plain_key
from ctd.planning.backfills import in_force
from ctd.planning.decisions import Blocked, Decision, Reuse, Run, Wait
from ctd.planning.world import World
from ctd.specs.wired import WiredPiece


def permitted(run: Run, pipeline: str, world: World, *, approval: bool) -> Decision:
    """The run, unless someone paused it or must approve it first. Neither holds a worker."""
    held = _unapproved(run, pipeline, world) if approval else None
    if held:
        return held
    pause = paused(world.history, pipeline, run.subject.node)
    if pause:
        return Wait(run.subject, f"paused {pause.said} ({_time(pause)}); then: {run.because}")
    return run


def paused(history: History, pipeline: str, node: str) -> OperatorRequest | None:
    """The pause in force for a node: its own, or its pipeline's."""
    return own_pause(history, pipeline, node) or (own_pause(history, pipeline, "") if node else None)


def own_pause(history: History, pipeline: str, node: str) -> OperatorRequest | None:
    """The pause of exactly this node (none: of the pipeline), if nobody resumed it since."""
    pause = next(history.asked(pipeline, node, Verb.PAUSE), None)
    resume = next(history.asked(pipeline, node, Verb.RESUME), None)
    return None if pause is None or (resume is not None and resume.id > pause.id) else pause


def _unapproved(run: Run, pipeline: str, world: World) -> Blocked | None:
    """Approved is only what a person saw: exactly this work."""
    node = run.subject.node
    said = (r for verb in (Verb.APPROVE, Verb.REJECT) for r in world.history.asked(pipeline, node, verb))
    last = max((r for r in said if r.about == run.fingerprint), key=lambda r: r.id, default=None)
    if last is not None and last.verb is Verb.APPROVE:
        return None
    if last is not None:
        because = f"rejected {last.said} ({_time(last)})"
        hint = f"`ctd approve {pipeline} {node}` lets it run after all; other inputs ask anew."
    else:
        because = f"waits for approval: ctd approve {pipeline} {node}; it would run because: {run.because}"
        hint = f"`ctd explain {pipeline}` shows what it rests on; `ctd reject {pipeline} {node}` says no."
    return Blocked(run.subject, because, hint, failed=False, fingerprint=run.fingerprint)


def hurried(history: History, pipeline: str, node: str) -> OperatorRequest | None:
    """The latest request to wait for no time: it concerns work whose last attempt is older (by id)."""
    return next(history.asked(pipeline, node, Verb.RUN_NOW), None)


def distrusted(history: History, pipeline: str, node: str, span: int | None) -> OperatorRequest | None:
    """The latest request to make anew what the node made before, of this span if it runs per span."""
    again = (r for r in history.asked(pipeline, node, Verb.RUN_NOW) if r.again)
    return _latest(itertools.chain(again, _redone(history, pipeline, node, span)))


def forgiven(
    history: History, pipeline: str, node: str, span: int | None, tried: Iterable[Execution]
) -> OperatorRequest | None:
    """The latest request that lets attempts at some work count no longer; `tried` are those attempts."""
    ids = {e.id for e in tried}
    retries = (r for r in history.asked(pipeline, node, Verb.RETRY) if not r.execution or r.execution in ids)
    return _latest([*retries, *_redone(history, pipeline, node, span)])


def _redone(history: History, pipeline: str, node: str, span: int | None) -> Iterator[OperatorRequest]:
    """The backfills that do the node's work on a span again."""
    return (r for r in in_force(history, pipeline, node, span) if r.again) if span is not None else iter(())


def cancelled(history: History, execution: Execution) -> OperatorRequest | None:
    """Who asked for an execution to stop."""
    cancels = history.asked(execution.pipeline, execution.node, Verb.CANCEL)
    return next((r for r in cancels if r.execution == execution.id), None)


def accepted(
    history: History, pipeline: str, gate: WiredPiece, decisions: Mapping[int, Decision]
) -> Mapping[int, OperatorRequest]:
    """The spans that someone accepted although this gate refused them: for this version, data and finding only.

    Of several acceptances of one finding the latest counts.
    """
    found: dict[int, OperatorRequest] = {}
    for request in history.asked(pipeline, gate.node, Verb.ACCEPT):
        span = request.span
        decision = decisions.get(span) if span is not None else None
        if span is None or not isinstance(decision, Reuse | Wait):
            continue
        if plain_key(decision.subject.key) != plain_key(request.key):
            continue
        execution = history.execution(decision.execution)
        if execution is not None and finding(execution, gate) == request.about:
            found.setdefault(span, request)
    return found


def finding(execution: Execution, gate: WiredPiece) -> str:
    """The identity of what a gate found in a span: the data it looked at, and its result.

    What else went into it may change: an edit of the schema, or another span that it is compared with, takes back no
    acceptance if the finding stays as it is.
    """
    data = [digest for _, digest in execution.ingredients.get("inputs", {}).get(gate.fan, ())]
    return digest_of([data, {key: [a.digest for a in made] for key, made in execution.outputs.items()}])


def _latest(requests: Iterable[OperatorRequest]) -> OperatorRequest | None:
    return max(requests, key=lambda r: r.id, default=None)


def _time(request: OperatorRequest) -> str:
    return request.at.strftime("%Y-%m-%d %H:%M UTC")
