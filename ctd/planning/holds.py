"""What a target is to have although there is a newer model: what its file pins, and what people rolled back to."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from ctd.core.artifacts import Artifact, Artifacts
from ctd.core.executions import Execution, State
from ctd.core.history import History
from ctd.core.requests import OperatorRequest, Verb
from ctd.planning import canaries
from ctd.planning.asked import paused
from ctd.planning.decisions import Blocked, Decision, Reuse, Run, Subject, Wait
from ctd.planning.effects import damaged, pushed_by
from ctd.planning.lineage import pushed_model
from ctd.planning.world import TargetFact, World
from ctd.specs.wired import WiredPiece


@dataclass(frozen=True)
class Hold:
    """The push whose model the target is to have, why, and who asked for it if that was a request.

    `untried`: it takes over at once, since it was live before, or somebody decided so.
    """

    push: Execution
    because: str
    request: OperatorRequest | None = None
    untried: bool = True

    def over(self, decision: Decision, pipeline: str, world: World) -> Decision:
        """What was decided about the model that is held, with the reason. Who rolls back need not approve that too."""
        because = f"{self.because}; {decision.because}"
        match decision:
            case Run():
                return self._run(decision, because, pipeline, world)
            case Reuse():
                return Reuse(decision.subject, because, decision.execution, decision.outputs)
            case _:
                return decision

    def _run(self, run: Run, because: str, pipeline: str, world: World) -> Decision:
        lost = next((a for a in _flat(run.inputs) if _lost(a, world)), None)
        if lost is not None:
            hint = f"Its files were removed or damaged. Name another version; `ctd lineage {pipeline}` tells of them."
            return Blocked(run.subject, f"{self.because}, but {lost.type.value} #{lost.id} is no longer there", hint)
        pause = paused(world.history, pipeline, run.subject.node)
        if pause and (self.request is None or pause.id > self.request.id):
            return Wait(run.subject, f"paused {pause.said}; then: {because}")
        return Run(**{**vars(run), "because": because, "untried": self.untried})


def hold(pipeline: str, wired: WiredPiece, candidate: Artifact | None, world: World) -> Hold | Blocked | None:
    """What keeps the newest model, `candidate`, from a target; Blocked for a pin to what never was."""
    target = world.targets[wired.piece.target]
    if target.pin:
        return _pinned(pipeline, wired, target, world.history)
    held = _rolled_back(pipeline, wired, target, candidate, world.history)
    if held is None and candidate is not None:
        return _refuted(pipeline, wired, candidate, world.history)
    return held


def repair(pipeline: str, wired: WiredPiece, because: str, world: World) -> Hold | None:
    """The live version, if its target has lost it while no newer model can be pushed: a repair waits for nothing.

    Of a version on trial the watch over it sees what is wrong.
    """
    push = _live(pipeline, wired, world)
    return Hold(push, because) if push is not None and damaged(push, world) else None


def live_is_damaged(pipeline: str, wired: WiredPiece, world: World) -> bool:
    """Whether a target has lost its live version, and is to get it back."""
    push = _live(pipeline, wired, world)
    return push is not None and bool(damaged(push, world))


def _live(pipeline: str, wired: WiredPiece, world: World) -> Execution | None:
    """The newest push to a target, unless it is on trial."""
    push = next(pushes_to(world.history, pipeline, world.targets[wired.piece.target]), None)
    return None if push is None or canaries.on_trial(push, world.history) else push


def inputs_of(held: Hold, wired: WiredPiece, now: Artifacts, world: World) -> Artifacts:
    """What the model was pushed with, blessings included. Data that only helps, and is gone, is taken as it is now."""
    found: dict[str, tuple[Artifact, ...]] = {}
    for key, take in wired.piece.takes.items():
        taken = tuple(a for a in map(world.history.artifact, held.push.inputs.get(key, ())) if a is not None)
        if take.optional and any(_lost(a, world) for a in taken):
            taken = now.get(key, ()) if take.type.spanned else ()
        if taken:
            found[key] = taken
    return found


def in_force(history: History, pipeline: str, node: str, target: str) -> tuple[OperatorRequest, ...]:
    """The rollbacks of a target since the last release, newest first."""
    release = next((r for r in history.asked(pipeline, node, Verb.RELEASE) if r.key == target), None)
    mine = (r for r in history.asked(pipeline, node, Verb.ROLLBACK) if r.key == target)
    return tuple(itertools.takewhile(lambda r: release is None or r.id > release.id, mine))


def pushes_to(history: History, pipeline: str, target: TargetFact) -> Iterator[Execution]:
    """The pushes to a target where it is now, newest first."""
    for push in history.pushes(pipeline, target.name):
        if _place(push).rpartition("/")[0] == target.settings.get("path"):
            yield push


def version_of(push: Execution) -> int:
    """The number that a push gave its model."""
    pushed = pushed_by(push)
    return int(pushed.properties.get("pushed_version", 0)) if pushed else 0


def one_before(history: History, pipeline: str, node: str, target: TargetFact) -> Execution | None:
    """The push that a rollback goes back to: of the newest model that is neither live nor was rolled back from."""
    pushes = list(pushes_to(history, pipeline, target))
    out = [e for r in in_force(history, pipeline, node, target.name) if (e := history.execution(r.execution))]
    shunned = {_content(history, e) for e in [*pushes[:1], *out]}
    return next((e for e in pushes if _content(history, e) not in shunned), None)


def _pinned(pipeline: str, wired: WiredPiece, target: TargetFact, history: History) -> Hold | Blocked:
    # Numbers begin anew in a folder that was emptied: the newest push of a number is the one that people see.
    there = {version_of(e): e for e in reversed(tuple(pushes_to(history, pipeline, target)))}
    push = there.get(target.pin)
    if push is not None:
        return Hold(push, f"pinned to version {target.pin}")
    subject = Subject(wired.node, wired.piece.name, wired.piece.name)
    known = ", ".join(map(str, sorted(there))) or "none"
    pushed = (e for e in history.pushes(pipeline, target.name, withdrawn=True) if version_of(e) == target.pin)
    watch = next((found for e in pushed if (found := history.trial(e))), None)
    never = f"which did not stand its trial: {watch.result}" if watch else f"which {pipeline} never pushed there"
    because = f"pinned to version {target.pin}, {never}"
    return Blocked(subject, because, f"Mend or remove `pin` in the file of target {target.name}. Pushed were: {known}.")


def _refuted(pipeline: str, wired: WiredPiece, candidate: Artifact, history: History) -> Hold | Blocked | None:
    """A model that was taken back as a canary is not pushed again; what is live, or on trial since, stays true."""
    found = canaries.refuted(pipeline, wired.node, wired.piece.target, candidate, history)
    if found is None:
        return None
    push, because = next(history.pushes(pipeline, wired.piece.target), None), found[1].result
    if push is None:
        subject = Subject(wired.node, wired.piece.name, wired.piece.name)
        return Blocked(subject, because, "Another model is tried as soon as there is one.", failed=False)
    return Hold(push, because, untried=not canaries.on_trial(push, history))


def _rolled_back(
    pipeline: str, wired: WiredPiece, target: TargetFact, candidate: Artifact | None, history: History
) -> Hold | None:
    """The last word is the newest rollback, until a model comes that is newer than all that were rolled back from.

    What the target had refused by then is no such model: who rolled back knew that it would not come.
    """
    asked = in_force(history, pipeline, wired.node, target.name)
    if not asked:
        return None
    if candidate and _newer(candidate, asked, history) and not _refused(candidate, pipeline, wired, asked[0], history):
        return None
    latest, last = next(pushes_to(history, pipeline, target), None), asked[0]
    live = pushed_model(history, latest) if latest else None
    if latest and live and latest.id > last.id and _newer(live, asked, history):
        if candidate is None:
            return None
        because = f"version {version_of(latest)} stays: model #{candidate.id} was rolled back from {last.said}"
        return Hold(latest, because, last, untried=not canaries.on_trial(latest, history))
    back = history.execution(int(last.about))
    if back is None:
        return None
    return Hold(back, f"rolled back to version {version_of(back)} {last.said}", last)


def _newer(model: Artifact, asked: tuple[OperatorRequest, ...], history: History) -> bool:
    """Whether a model is another, made later, than all that were rolled back from. Made again, one is the same."""
    maker = history.maker(model.id)
    for request in asked:
        push = history.execution(request.execution)
        bad = pushed_model(history, push) if push else None
        if bad is None:
            continue
        its = history.maker(bad.id)
        same_work = maker is not None and its is not None and maker.fingerprint == its.fingerprint
        if model.id <= bad.id or model.digest == bad.digest or same_work:
            return False
    return True


def _refused(model: Artifact, pipeline: str, wired: WiredPiece, request: OperatorRequest, history: History) -> bool:
    """Whether the last thing that came of pushing the model, before the request, was that it cannot be."""
    tried = (e for e in history.of_place(pipeline, *wired.id) if model.id in e.inputs.get("model", ()))
    last = max((e for e in tried if e.id < request.id), key=lambda e: e.id, default=None)
    if last is None or last.state in (State.RUNNING, State.ABANDONED):
        return False
    if last.state is State.SUCCEEDED:
        return pushed_by(last) is None  # a conversion that answers otherwise is a result, and no push
    return last.failure is not None and not last.failure.retryable


def _lost(artifact: Artifact, world: World) -> bool:
    return not world.history.live(artifact) or artifact.uri in world.missing


def _content(history: History, push: Execution) -> str:
    model = pushed_model(history, push)
    return model.digest if model else ""


def _place(push: Execution) -> str:
    pushed = pushed_by(push)
    return str(pushed.properties.get("pushed_destination", "")) if pushed else ""


def _flat(artifacts: Artifacts) -> Iterator[Artifact]:
    return (a for made in artifacts.values() for a in made)
