"""Where models come from, what a span has reached, and why two models differ."""

from __future__ import annotations

from planning_world import Bench, pipeline

from ctd.core.artifacts import Artifact
from ctd.planning.lineage import (
    Difference,
    difference,
    evaluations,
    lineage,
    pushed_model,
    reach,
    root_span,
    spans,
    spans_difference,
    story,
    verdicts,
)


def rounds(spans: int) -> Bench:
    bench = Bench()
    for number in range(1, spans + 1):
        bench.arrive(number)
        bench.settle()
    return bench


def models(bench: Bench) -> list[Artifact]:
    return [e.outputs["model"][0] for e in bench.ran("trainer")]


def differing(bench: Bench, a: int = -2, b: int = -1) -> list[Difference]:
    made = models(bench)
    return list(difference(lineage(bench.history, made[a]), lineage(bench.history, made[b])))


def test_a_pushed_version_leads_back_to_its_spans_and_verdicts() -> None:
    bench = rounds(5)
    push = next(bench.history.pushes("taxi", "serving"))
    model = pushed_model(bench.history, push)
    assert model == models(bench)[-1]
    found = lineage(bench.history, model)
    assert found.made[0].execution.node == "trainer"
    assert [root_span(e) for e in spans(found.made)] == [3, 4, 5]
    assert {step.execution.node for step in found.made} == {"trainer", "transform", "schema", "examples"}
    assert {step.execution.piece for step in found.judged} == {"verdict", "metrics", ""}
    assert list(found.pushes) == [push]


def test_the_model_before_is_named_and_only_followed_when_asked() -> None:
    bench = rounds(5)
    before, latest = models(bench)[-2:]
    trainer = lineage(bench.history, latest).made[0]
    assert trainer.back == {"base_model": (before,)}
    assert len([s for s in lineage(bench.history, latest).made if s.execution.node == "trainer"]) == 1
    deep = lineage(bench.history, latest, deep=True)
    assert len([s for s in deep.made if s.execution.node == "trainer"]) == 5
    assert [root_span(e) for e in spans(deep.made)] == [1, 2, 3, 4, 5]


def test_a_span_reaches_the_models_of_its_windows_and_their_versions() -> None:
    bench = rounds(6)
    found = reach(bench.history, "taxi", 2)
    reached = [e for e in found.executions if e.node == "trainer"]
    assert [e.key for e in reached] == [e.key for e in bench.ran("trainer")[1:4]]
    assert found.executions[0].node == "examples"
    pushed = [
        int(e.outputs["pushed_model"][0].properties["pushed_version"]) for e in found.executions if e.node == "pusher"
    ]
    assert pushed == [3, 4, 5]  # this bench numbers its pushes from 2
    assert reach(bench.history, "taxi", 99).executions == ()


def test_a_moved_window_is_the_difference_between_two_models() -> None:
    bench = rounds(5)
    said = {(d.node, d.key): d.changes for d in differing(bench)}
    assert ("span 5 new",) in said.values()
    assert ("span 2 left the window",) in said.values()
    assert said["transform", "spans 3..5 (3)"] == ("examples: span 5 new", "examples: span 2 left the window")
    assert differing(bench, -1, -1) == []


def test_settings_code_and_corrected_spans_are_told_with_old_and_new() -> None:
    bench = rounds(3)
    bench.spec = pipeline(trainer={"train_steps": 200})
    bench.settle()
    (trainer,) = differing(bench)
    assert trainer.changes == ("train_steps 100 -> 200",)
    assert (trainer.before, trainer.after) == tuple(e.id for e in bench.ran("trainer")[-2:])
    bench.code = "code-2"
    bench.settle()
    assert {d.node: d.changes[0] for d in differing(bench)} == {
        "trainer": "code changed (code-1 -> code-2)",
        "transform": "code changed (code-1 -> code-2)",
    }
    bench.arrive(2, 2)
    bench.settle()
    (root,) = (d for d in differing(bench) if d.node == "examples")
    assert root.key == "span-2.v2"
    assert root.changes[0].startswith("content changed (")


def test_an_evaluation_is_no_verdict_and_each_evaluator_has_a_newest_one() -> None:
    bench = rounds(2)
    for model in models(bench):
        assert {e.piece for e, _ in verdicts(bench.history, model)} == {"verdict", ""}
        (found,) = evaluations(bench.history, model).values()
        assert found[0].inputs["model"] == (model.id,)
        assert all(story(bench.history, model)["verdicts"])


def test_spans_of_two_models_are_compared_by_what_was_read() -> None:
    bench = rounds(4)
    bench.arrive(3, version=2)
    bench.settle()
    made = models(bench)
    first, last = lineage(bench.history, made[1]), lineage(bench.history, made[-1])
    (found,) = spans_difference(first, last)
    assert (found.node, found.before, found.after, found.corrected) == ("examples", (1, 2), (2, 3, 4), ())
    (found,) = spans_difference(lineage(bench.history, made[-2]), last)
    assert (found.before, found.after, found.corrected) == ((2, 3, 4), (2, 3, 4), (3,))
