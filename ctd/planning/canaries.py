"""A canary is a push on trial: watched beside the live version, then live itself, or withdrawn and not tried again."""

from __future__ import annotations

from collections.abc import Iterator

from ctd.core.artifacts import Artifact
from ctd.core.executions import STOPPED, Execution, State
from ctd.core.history import History
from ctd.planning.asked import distrusted, paused
from ctd.planning.decide import Wanted, decide, running_since
from ctd.planning.decisions import Alert, Decision, Reuse, Run, Subject, Wait
from ctd.planning.effects import pushed_by
from ctd.planning.lineage import pushed_model
from ctd.planning.world import World
from ctd.specs.targets import canary_piece
from ctd.specs.wired import WiredPiece

_COMPONENT = "canary/1"


def on_trial(push: Execution, history: History) -> bool:
    """Whether what was pushed is beside the live version, and nobody has said yet what becomes of it."""
    pushed = pushed_by(push)
    return bool(pushed and pushed.properties.get("trial")) and history.trial(push) is None


def live(history: History, pipeline: str, target: str) -> Execution | None:
    """The push of the live version: the newest that is not on trial."""
    return next((push for push in history.pushes(pipeline, target) if not on_trial(push, history)), None)


def trial(history: History, pipeline: str, target: str) -> Execution | None:
    """The push of the version that is on trial, if there is one."""
    newest = next(history.pushes(pipeline, target), None)
    return newest if newest and on_trial(newest, history) else None


def watched(pipeline: str, wired: WiredPiece, attempts: int, world: World) -> Decision | None:
    """What to do about the watch over a target's canary; nothing where there never was one."""
    history, target = world.history, wired.piece.watches
    fact = world.targets.get(target)
    push = trial(history, pipeline, target) if fact and not fact.problem else None
    pushed = pushed_by(push) if push else None
    if push is None or pushed is None or not pushed.properties.get("verified"):
        return _past(pipeline, wired, history)
    subject = Subject(wired.node, wired.piece.name, f"{target} version {pushed.properties['pushed_version']}")
    taken = {"pushed_model": (pushed,)}
    ingredients = {
        "component": _COMPONENT,
        "settings": {},
        "push": push.id,
        "inputs": {"pushed_model": [[None, pushed.digest]]},
    }
    new = f"version {pushed.properties['pushed_version']} serves as {pushed.properties['label']}"
    told = fact.identity if fact else ""
    decision = decide(Wanted(pipeline, subject, ingredients, taken, attempts, new=new, told=told), world)
    pause = paused(history, pipeline, wired.node) if isinstance(decision, Run) else None
    return Wait(subject, f"paused {pause.said}; then: {decision.because}") if pause else decision


def _past(pipeline: str, wired: WiredPiece, history: History) -> Decision | None:
    """A watch that has not noticed yet that its version is no longer on trial, or the last one's verdict."""
    place = (pipeline, wired.node, wired.piece.name)
    busy = next((e for e in history.running() if (e.pipeline, e.node, e.piece) == place), None)
    if busy:
        return Wait(Subject(wired.node, wired.piece.name, busy.key), running_since(busy), execution=busy.id)
    done = history.latest_success(*place)
    return Reuse(Subject(wired.node, wired.piece.name, done.key), done.result, done.id, done.outputs) if done else None


def in_turn(pipeline: str, wired: WiredPiece, decision: Decision, world: World) -> Decision:
    """The decision about a push; a wait for the verdict while another version is on trial.

    A bake has its end, so each version gets its verdict and none is overtaken for ever. If the watch has failed, as
    over a server that is away, nothing waits for it. What is wrong with the version on trial is the watch's to see.
    """
    push = trial(world.history, pipeline, wired.piece.target)
    pushed = pushed_by(push) if push else None
    if not isinstance(decision, Run) or pushed is None or not pushed.properties.get("verified"):
        return decision
    watch = world.history.latest(pipeline, wired.node, canary_piece(wired.piece.target))
    if watch and push and watch.id > push.id and _failed(watch):
        return decision
    version = pushed.properties["pushed_version"]
    if push and decision.fingerprint == push.fingerprint:
        because = f"version {version} is on trial as {pushed.properties['label']}"
    else:
        because = f"waits for the verdict on version {version}, on trial as {pushed.properties['label']}"
        because += f"; then: {decision.because}"
    running = watch.id if watch and watch.state is State.RUNNING else 0
    return Wait(decision.subject, because, execution=running, busy=not running)


def refuted(
    pipeline: str, node: str, target: str, candidate: Artifact, history: History
) -> tuple[Execution, Execution] | None:
    """The push of a model, or of the same one made again, that was taken back as a canary, and the watch that did it.

    People who ask for the push once more (`run-now --again`) let it be tried again.
    """
    again = distrusted(history, pipeline, node, None)
    maker = history.maker(candidate.id)
    for watch, push in _rollbacks(pipeline, node, target, history):
        if again is not None and again.id > watch.id:
            return None
        bad = pushed_model(history, push)
        if bad is None:
            continue
        its = history.maker(bad.id)
        same_work = maker is not None and its is not None and maker.fingerprint == its.fingerprint
        if candidate.id == bad.id or candidate.digest == bad.digest or same_work:
            return push, watch
    return None


def alert(pipeline: str, wired: WiredPiece, candidate: Artifact | None, history: History) -> Alert | None:
    """What people should know of a model that is not live because it did not stand its trial."""
    found = refuted(pipeline, wired.node, wired.piece.target, candidate, history) if candidate else None
    if found is None:
        return None
    hint = f"Another model is tried as soon as there is one; `ctd run-now {pipeline} {wired.node} --again` tries this "
    return Alert(wired.node, found[1].result, f"{hint}one once more.", target=wired.piece.target)


def _rollbacks(pipeline: str, node: str, target: str, history: History) -> Iterator[tuple[Execution, Execution]]:
    """The watches that took a version back, newest first, each with the push."""
    for watch in history.refuted(pipeline, node, canary_piece(target)):
        push = next((history.maker(i) for i in watch.inputs.get("pushed_model", ())), None)
        if push is not None:
            yield watch, push


def _failed(watch: Execution) -> bool:
    """Whether it came to no verdict for another reason than that the daemon went."""
    stopped = watch.failure is not None and watch.failure.kind == STOPPED
    return watch.state in (State.FAILED, State.CANCELLED) and not stopped
