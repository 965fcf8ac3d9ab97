"""I11: data that keeps coming is trained on, judged and pushed. Over recorded executions and one undisturbed time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ctd.core.executions import Execution, State
from tests.soak.seen import Seen


@dataclass(frozen=True)
class Tempo:
    """What is asked for: a push at least every `trainings`, and how long what comes after a training may take."""

    trainings: int = 3  # two if nothing disturbs; what healed a moment ago may be behind
    judging: timedelta = timedelta(seconds=20)


@dataclass(frozen=True)
class Trained:
    """A model that is another than all before, and when it was there."""

    model: int
    at: datetime


def trained(executions: Sequence[Execution]) -> list[Trained]:
    """Every model that had news, in the order in which they were ready."""
    known: set[str] = set()
    found = []
    for e in sorted((e for e in _done(executions, "trainer") if e.ended), key=lambda e: e.ended or e.started):
        for model in e.output("model"):
            if model.digest not in known and e.ended:
                known.add(model.digest)
                found.append(Trained(model.id, e.ended))
    return found


def starved(executions: Sequence[Execution], since: datetime, until: datetime, tempo: Tempo) -> Iterator[str]:
    """Trainings that ended one after the other in this time without a push."""
    pushed = [e.ended for e in _done(executions, "pusher") if e.ended]
    waiting = [t for t in trained(executions) if since <= t.at]
    for first, last in zip(waiting, waiting[tempo.trainings - 1 :], strict=False):
        due = last.at + tempo.judging
        if due <= until and not any(first.at <= at <= due for at in pushed):
            took = (due - first.at).total_seconds()
            yield f"{tempo.trainings} trainings ended from model {first.model} on; nothing was pushed in {took:.0f} s"
            return


def unjudged(executions: Sequence[Execution], since: datetime, until: datetime, tempo: Tempo) -> Iterator[str]:
    """Models that nobody looked at although no newer one was there."""
    models = trained(executions)
    judged = {
        artifact.properties.get("current_model_id")
        for e in _done(executions, "evaluator")
        for artifact in e.output("blessing")
    }
    for t in models:
        newer = any(t.at < other.at <= t.at + tempo.judging for other in models)
        if since <= t.at and t.at + tempo.judging <= until and t.model not in judged and not newer:
            yield f"model {t.model} was not judged within {tempo.judging.total_seconds():.0f} s; no newer one was there"


def unserved(plan: Mapping[str, Any], seen: Seen, there: Sequence[int]) -> Iterator[str]:
    """At rest: the model that the plan comes to is the one on the target."""
    chosen = {d["node"]: d["execution"] for d in plan.get("decisions", ()) if d["action"] == "reuse"}
    made = {e.id: [a.digest for a in e.output("model")] for e in seen.executions}
    models = {a.id: a.digest for a in seen.artifacts().values()}
    pushed = {e.id: (version, models.get(model)) for e, version, model in seen.pushes()}
    wanted = made.get(chosen.get("trainer", 0), [])
    version, model = pushed.get(chosen.get("pusher", 0), (0, None))
    if not wanted or model not in wanted:
        yield f"at rest version {version} is served, and the plan has the model of execution {chosen.get('trainer')}"
    elif version != max(there, default=0):
        yield f"at rest version {version} should be served, and {max(there, default='none')} is"


def pace(executions: Sequence[Execution], since: datetime, until: datetime) -> tuple[int, int]:
    """Models and pushes of this time, for the report."""
    models = [t for t in trained(executions) if since <= t.at <= until]
    pushes = [e for e in _done(executions, "pusher") if e.ended and since <= e.ended <= until]
    return len(models), len(pushes)


def _done(executions: Sequence[Execution], node: str) -> Iterator[Execution]:
    return (e for e in executions if e.node == node and e.state is State.SUCCEEDED)
