"""What a change would set off in all, before anything is spent."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from planning_world import Bench, pipeline

from ctd.daemon.offline import supposing
from ctd.planning.forecast import forecast
from ctd.specs.settings import Settings


def nodes(bench: Bench) -> list[str]:
    return [
        ".".join(filter(None, (e.run.subject.node, e.run.subject.piece)))
        for e in forecast(bench.spec, bench.world()).expected
    ]


def test_a_new_span_would_run_everything_down_to_the_push() -> None:
    bench = Bench()
    bench.arrive(1)
    bench.settle()
    bench.arrive(2)
    before = len(bench.history)
    assert nodes(bench) == [
        "examples", "statistics", "validator", "transform", "trainer",
        "evaluator.metrics", "infra", "evaluator.verdict", "pusher.serving",
    ]  # fmt: skip
    assert len(bench.history) == before, "imagining changes nothing"
    bench.settle()
    assert len(bench.history) == before + 9, "and so it comes"


def test_an_edited_threshold_would_judge_again_only() -> None:
    bench = Bench()
    bench.arrive(1)
    bench.settle()
    bench.spec = pipeline(evaluator={"metrics": {"AUC": {"at_least": 0.7}}})
    assert nodes(bench) == ["evaluator.verdict"]


def test_the_cost_is_what_it_usually_took() -> None:
    bench = Bench()
    bench.arrive(1)
    found = forecast(bench.spec, bench.world())
    assert {e.took for e in found.expected} == {None}
    assert found.cost == timedelta(0)


def test_nothing_to_do_is_no_forecast() -> None:
    bench = Bench()
    bench.arrive(1)
    bench.settle()
    found = forecast(bench.spec, bench.world())
    assert found.expected == ()
    assert found.end == bench.plan()


def test_a_pinned_file_can_be_supposed_without_saving_it(tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "deploy_targets").mkdir()
    spec = "pipeline: p\nnodes:\n  examples: {kind: example_gen, input: ../data/{SPAN}}\n"
    edited = tmp_path / "edited.yaml"
    edited.write_text(spec.replace("../data/{SPAN}", '"data/{SPAN}"') + "  statistics: {kind: statistics_gen}\n")
    settings = Settings.resolve({"specs": str(tmp_path / "specs")}, {})
    found = supposing(settings, None, file=edited, spans=[7])
    assert [(e.node, e.key, e.seconds) for e in found.forecast] == [
        ("examples", "span-7", None),
        ("statistics", "span-7", None),
    ]
    assert not (tmp_path / "state").exists(), "looking writes nothing"
