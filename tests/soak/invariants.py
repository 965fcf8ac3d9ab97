"""What must hold, as functions over what was seen: each says what is wrong, nothing if all is well.

I1 to I12 are those of RELIABILITY.md, sections 5.3 and 7; I6, I10 and I11 have modules of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.executions import Execution, State
from tests.soak.seen import Seen

Invariant = Callable[[Seen], Iterator[str]]


def every_span_is_read(seen: Seen) -> Iterator[str]:
    """I1: a complete span is an ingested artifact."""
    read = {
        (e.pipeline, a.span, a.version)
        for e in seen.succeeded("examples")
        for a in e.output("examples")
        if a.id not in seen.deleted or seen.harmed(a)
    }
    for pipeline, number, version in sorted(seen.spans - read, key=str):
        yield f"{pipeline}: span {number}, version {version}, is complete and was not read"


def what_is_recorded_is_there(seen: Seen) -> Iterator[str]:
    """I2: what is live has all its files, whole."""
    for artifact, said in sorted(seen.wrong.items()):
        yield f"artifact {artifact} is live: {said}"


def versions_are_whole_and_go_up(seen: Seen) -> Iterator[str]:
    """I3: no numbered folder is ever partial; numbers go up; nothing is pushed twice without need."""
    for number, said in sorted(seen.versions.items()):
        if said:
            yield f"version {number}: {said}"
    pushes = seen.pushes()
    for (_, before, model), (again, version, same) in pairwise(pushes):
        if version < before or (version == before and model != same):
            yield f"execution {again.id} pushed version {version} after version {before}"
        elif model == same and version != before and before not in seen.harm.versions:
            yield f"model {model} was pushed as version {before} and at once again as version {version}"


def work_is_done_once(seen: Seen) -> Iterator[str]:
    """I4: one success per fingerprint, unless what it made was harmed or asked for again."""
    done: dict[tuple[str, str, str, str], list[Execution]] = defaultdict(list)
    for e in seen.succeeded():
        if e.kind != "pusher":
            done[e.pipeline, e.node, e.piece, e.fingerprint].append(e)
    for twice in done.values():
        for first, second in pairwise(twice):
            made = [a for some in first.outputs.values() for a in some]
            mine = (again for again in seen.harm.again if again.node == second.node)
            asked = any(first.started <= again.until and again.since <= second.started for again in mine)
            if not asked and not any(seen.harmed(a) or a.id in seen.deleted for a in made):
                yield f"execution {second.id} did what {first.id} had done: {second.node} {second.piece} {second.key}"


def running_has_a_process(seen: Seen) -> Iterator[str]:
    """I12: what is recorded as RUNNING runs."""
    for e in seen.executions:
        if e.state is State.RUNNING and e.process.get("pid") not in seen.alive:
            yield f"execution {e.id} ({e.node} {e.piece} {e.key}) is RUNNING without a process"


def nothing_old_runs(seen: Seen) -> Iterator[str]:
    """I4: no RUNNING of an earlier start."""
    newest = max((e.epoch for e in seen.executions), default=0)
    for e in seen.executions:
        if e.state is State.RUNNING and e.epoch < newest:
            yield f"execution {e.id} is RUNNING since start {e.epoch}, and this is start {newest}"


def disk_and_metadata_agree(seen: Seen) -> Iterator[str]:
    """I5: what lies among artifacts has an owner, what is staged too."""
    owners = {str(e.id): e for e in seen.executions}
    owned: dict[str, list[Artifact]] = defaultdict(list)
    for artifact in seen.artifacts().values():
        above = Path(artifact.uri).parent  # an output of several artifacts has a folder for them
        owned[artifact.uri].append(artifact)
        owned[str(above)].append(artifact)
    for place in sorted(seen.places):
        owner, artifacts = owners.get(Path(place).name), owned.get(place, [])
        if owner and owner.state is State.RUNNING:
            continue
        if not artifacts:
            yield f"{place} is nobody's"
        elif all(a.id in seen.deleted and not seen.harmed(a) for a in artifacts):
            yield f"{place} is there, and all its artifacts are deleted"
    for name in sorted(seen.staged):
        if not (name in owners and owners[name].state is State.RUNNING):
            yield f"staging/{name} is nobody's"


def nothing_lies_about(seen: Seen) -> Iterator[str]:
    """I5 at rest: nothing is staged, nothing is hidden beside the versions, nothing runs."""
    yield from (f"staging/{name} is left" for name in sorted(seen.staged))
    yield from (f"{name} is left on the target" for name in sorted(seen.hidden))
    yield from (f"execution {e.id} is RUNNING at rest" for e in seen.executions if e.state is State.RUNNING)


def only_blessed_is_pushed(seen: Seen) -> Iterator[str]:
    """I9: with both blessings, of the very model."""
    known = seen.artifacts()
    for execution, version, model in seen.pushes():
        taken = [known[i] for ids in execution.inputs.values() for i in ids if i in known]
        for type_ in (ArtifactType.MODEL_BLESSING, ArtifactType.INFRA_BLESSING):
            if not any(_blesses(a, type_, model) for a in taken):
                yield f"version {version} is model {model}, without {type_.value}"


def stuck(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """I12: what waited at both times, under a feed that changes everything every few seconds, waits for nothing."""
    waiting = [
        {
            (d["node"], d["piece"], d["key"], d["because"])
            for d in plan.get("decisions", ())
            if d["action"] == "wait" and not d["until"] and not d["execution"]
        }
        for plan in (before, after)
    ]
    for node, piece, key, because in sorted(waiting[0] & waiting[1]):
        yield f"{node} {piece} {key} waits all the time: {because}"


def _blesses(artifact: Artifact, type_: ArtifactType, model: int) -> bool:
    return artifact.type is type_ and artifact.blessed and artifact.properties.get("current_model_id") == model


# On what a crash has left, before anything is put right: two of three planted bugs could be seen only there.
CRASHED: dict[str, tuple[Invariant, ...]] = {
    "I2": (what_is_recorded_is_there,),
    "I3": (versions_are_whole_and_go_up,),
    "I4": (work_is_done_once,),
    "I9": (only_blessed_is_pushed,),
}
# While it works and nothing harms it. What is on its way is given time: whoever asks, asks twice.
CALM: dict[str, tuple[Invariant, ...]] = {
    **CRASHED,
    "I1": (every_span_is_read,),
    "I4": (work_is_done_once, nothing_old_runs),
    "I5": (disk_and_metadata_agree,),
    "I12": (running_has_a_process,),
}
REST: dict[str, tuple[Invariant, ...]] = {**CALM, "I5": (disk_and_metadata_agree, nothing_lies_about)}


def broken(rules: dict[str, tuple[Invariant, ...]], seen: Seen) -> dict[str, str]:
    """What does not hold, each with its rule."""
    return {said: rule for rule, invariants in rules.items() for invariant in invariants for said in invariant(seen)}
