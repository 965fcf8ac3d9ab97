"""The checker of the soak: of a healthy look it says nothing, and of each planted fault what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.executions import Execution, State
from tests.soak.invariants import CALM, REST, broken, stuck
from tests.soak.schedule import schedule
from tests.soak.seen import Again, Harm, Seen
from tests.soak.tempo import Tempo, starved, unjudged, unserved

START = datetime(2024, 3, 1, tzinfo=timezone.utc)
T = ArtifactType


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def done(number: int, node: str, piece: str = "", end: float = 0, **said: Any) -> Execution:
    """An execution that succeeded, with one output."""
    kind, output = str(said.pop("kind", node)), str(said.pop("output", node))
    artifact = said.pop("made", None)
    usual: dict[str, Any] = {
        "pipeline": "main",
        "node": node,
        "piece": piece,
        "kind": kind,
        "key": f"k{number}",
        "fingerprint": f"f{number}",
        "started": at(end - 1),
        "ended": at(end),
        "state": State.SUCCEEDED,
        "outputs": {output: (artifact,)} if artifact else {},
        "id": number,
    }
    return Execution(**{**usual, **said})


def artifact(number: int, type_: ArtifactType, place: str, **properties: Any) -> Artifact:
    return Artifact(type_, f"/s/artifacts/main/{place}", digest=f"d{number}", id=number, properties=properties)


def cycle(first: int, end: float, version: int) -> list[Execution]:
    """A model trained, judged and pushed; numbers from `first` on."""
    model = artifact(first, T.MODEL, f"trainer/model/{first}")
    about = {"blessed": 1, "current_model_id": model.id}
    verdict = artifact(first + 1, T.MODEL_BLESSING, f"evaluator/blessing/{first + 1}", **about)
    infra = artifact(first + 2, T.INFRA_BLESSING, f"infra/blessing/{first + 2}", **about)
    said = {"pushed": 1, "pushed_version": version, "model_id": model.id}
    pushed = artifact(first + 3, T.PUSHED_MODEL, f"pusher/pushed_model/{first + 3}", **said)
    taken = {"model": (model.id,), "model_blessing": (verdict.id,), "infra_blessing": (infra.id,)}
    return [
        done(first, "trainer", end=end, output="model", made=model),
        done(first + 1, "evaluator", "verdict", end=end + 1, output="blessing", made=verdict),
        done(first + 2, "infra", end=end + 1, output="blessing", made=infra),
        done(first + 3, "pusher", "serving", end=end + 2, output="pushed_model", made=pushed, inputs=taken),
    ]


def healthy() -> Seen:
    span = replace(artifact(1, T.EXAMPLES, "examples/examples/1"), span=7, version=1)
    running = replace(done(99, "trainer"), state=State.RUNNING, ended=None, process={"pid": 4242}, epoch=2)
    executions = [done(1, "examples", output="examples", made=span), *cycle(10, 20, 1), *cycle(20, 40, 2), running]
    return Seen(
        executions=tuple(executions),
        places=frozenset(a.uri for e in executions for made in e.outputs.values() for a in made),
        staged=frozenset({"99"}),
        versions={1: "", 2: ""},
        alive=frozenset({4242}),
        spans=frozenset({("main", 7, 1)}),
    )


def with_execution(seen: Seen, number: int, **changes: Any) -> Seen:
    changed = tuple(replace(e, **changes) if e.id == number else e for e in seen.executions)
    return replace(seen, executions=changed)


def pushed_again(seen: Seen, version: int) -> Seen:
    """The model of the last push once more, as another version."""
    last = seen.executions[-2]
    (note,) = last.output("pushed_model")
    note = replace(note, id=50, properties={**note.properties, "pushed_version": version})
    again = replace(last, id=50, outputs={"pushed_model": (note,)}, started=at(60), ended=at(61))
    return replace(seen, executions=(*seen.executions, again), places=seen.places | {note.uri})


PLANTED: list[tuple[str, str, Callable[[Seen], Seen]]] = [
    ("I1", "a span is lost", lambda s: replace(s, spans=s.spans | {("main", 8, 1)})),
    ("I1", "a version is lost", lambda s: replace(s, spans=frozenset({("main", 7, 2)}))),
    ("I1", "another pipeline has it", lambda s: replace(s, spans=frozenset({("side", 7, 1)}))),
    ("I1", "what was read is gone", lambda s: replace(s, deleted=frozenset({1}), places=s.places - {"1"})),
    ("I2", "a live artifact lacks a file", lambda s: replace(s, wrong={10: "model.pb is gone"})),
    ("I3", "half a version", lambda s: replace(s, versions={1: "", 2: "variables is gone"})),
    ("I3", "pushed twice", lambda s: pushed_again(s, 3)),
    ("I3", "numbers go down", lambda s: pushed_again(s, 1)),
    ("I4", "done twice", lambda s: with_execution(s, 20, fingerprint="f10")),
    ("I4", "running since an earlier start", lambda s: with_execution(with_execution(s, 1, epoch=3), 99, epoch=1)),
    ("I5", "a folder of nobody", lambda s: replace(s, places=s.places | {"/s/artifacts/main/trainer/model/77"})),
    ("I5", "a folder of a failure", lambda s: with_execution(s, 10, state=State.FAILED, outputs={})),
    ("I5", "staged by nobody", lambda s: replace(s, staged=s.staged | {"98"})),
    ("I5", "staged by what has ended", lambda s: replace(s, staged=s.staged | {"10"})),
    ("I5", "files of what is deleted", lambda s: replace(s, deleted=frozenset({10}))),
    ("I9", "pushed without a blessing", lambda s: with_execution(s, 23, inputs={"model": (20,)})),
    ("I9", "the blessing of another model", lambda s: with_execution(s, 23, inputs={"a": (20, 11), "b": (22,)})),
    ("I12", "running without a process", lambda s: replace(s, alive=frozenset())),
]


def test_of_a_healthy_look_it_says_nothing() -> None:
    assert broken(CALM, healthy()) == {}


@pytest.mark.parametrize(("rule", "plant"), [pytest.param(rule, plant, id=name) for rule, name, plant in PLANTED])
def test_it_finds_what_is_planted(rule: str, plant: Callable[[Seen], Seen]) -> None:
    assert rule in broken(CALM, plant(healthy())).values()


@pytest.mark.parametrize(
    "plant",
    [
        pytest.param(lambda s: replace(s, hidden=frozenset({".copying-1"})), id="a copy that nobody finishes"),
        pytest.param(lambda s: s, id="something runs"),
    ],
)
def test_at_rest_nothing_lies_about(plant: Callable[[Seen], Seen]) -> None:
    assert "I5" in broken(REST, plant(healthy())).values()


@pytest.mark.parametrize(
    ("plant", "harm"),
    [
        pytest.param(lambda s: pushed_again(s, 3), Harm(versions=frozenset({2})), id="a version was deleted"),
        pytest.param(
            lambda s: with_execution(s, 20, fingerprint="f10"),
            Harm(places=frozenset({"/s/artifacts/main/trainer/model/10"})),
            id="a result was deleted",
        ),
        pytest.param(
            lambda s: with_execution(s, 20, fingerprint="f10"),
            Harm(again=(Again("trainer", at(30), at(31)),)),
            id="asked for again",
        ),
        pytest.param(
            lambda s: with_execution(s, 20, fingerprint="f10"),
            Harm(again=(Again("trainer", at(-1), at(100)),)),
            id="done twice while it was asked for",
        ),
    ],
)
def test_what_is_done_again_for_a_reason_is_no_fault(plant: Callable[[Seen], Seen], harm: Harm) -> None:
    assert broken(CALM, plant(replace(healthy(), harm=harm))) == {}


def test_trainings_without_a_push_are_starvation() -> None:
    tempo = Tempo(trainings=3, judging=timedelta(seconds=5))
    fed = [e for number in range(4) for e in cycle(10 + 10 * number, 12 * number, number + 1)]
    assert list(starved(fed, at(-1), at(100), tempo)) == []
    hungry = [e for e in fed if e.node == "trainer" or e.id < 20]
    assert "nothing was pushed" in next(starved(hungry, at(-1), at(100), tempo))
    assert list(starved(hungry, at(-1), at(26), tempo)) == [], "the third has just ended"


def test_a_model_is_judged_or_passed_over_by_a_newer_one() -> None:
    tempo = Tempo(judging=timedelta(seconds=15))
    models = [e for number in range(3) for e in cycle(10 + 10 * number, 12 * number, number + 1)]
    assert list(unjudged(models, at(-1), at(100), tempo)) == []
    trained = [e for e in models if e.node == "trainer"]
    assert [said.split()[1] for said in unjudged(trained, at(-1), at(100), tempo)] == ["30"]


def test_what_waits_for_the_same_all_the_time_is_stuck() -> None:
    def plan(**said: Any) -> dict[str, Any]:
        usual = {"node": "trainer", "piece": "", "key": "", "action": "wait", "because": "x", "until": None}
        return {"decisions": [{**usual, "execution": None, **said}]}

    assert list(stuck(plan(), plan())) == ["trainer   waits all the time: x"]
    for other in (plan(because="y"), plan(until="2024-03-01"), plan(execution=3), plan(action="run"), {}):
        assert list(stuck(plan(), other)) == []


def test_at_rest_the_model_of_the_plan_is_served() -> None:
    def plan(trainer: int) -> dict[str, Any]:
        chosen = {"trainer": trainer, "pusher": 23}
        return {"decisions": [{"node": n, "action": "reuse", "execution": e} for n, e in chosen.items()]}

    assert list(unserved(plan(20), healthy(), [1, 2])) == []
    assert list(unserved(plan(10), healthy(), [1, 2])), "the plan has another model"
    assert list(unserved(plan(20), healthy(), [1])), "its version is gone"
    assert list(unserved({}, healthy(), [1, 2])), "nobody says what the plan is"


def test_a_schedule_is_the_same_by_the_same_seed_and_deals_every_fault() -> None:
    lasting, momentary = ["a", "b", "c"], ["d", "e"]
    one = schedule(3, 1800, lasting, momentary)
    assert one == schedule(3, 1800, lasting, momentary)
    assert one != schedule(4, 1800, lasting, momentary)
    assert {act.fault for part in one for act in part.acts} == {*lasting, *momentary}
    assert all((act.lasts > 0) is (act.fault in lasting) for part in one for act in part.acts)
