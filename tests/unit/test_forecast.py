"""What a change would set off in all, before anything is spent."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from planning_world import NODES, TWO, Bench, pipeline

from ctd.api.requests import RequestForm
from ctd.core.errors import NotFound
from ctd.core.history import History
from ctd.core.spans import Span, span_of
from ctd.core.timing import SystemClock
from ctd.daemon.lock import locked
from ctd.daemon.offline import rehearse, supposing
from ctd.engine.look import look
from ctd.engine.observe import Observer
from ctd.metadata.mlmd import MlmdStore
from ctd.planning.forecast import forecast
from ctd.planning.supposed import NothingSupposed, with_spans
from ctd.specs.load import load_pipeline
from ctd.specs.settings import Settings
from ctd.storage.layout import StateDir


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


def test_what_runs_now_is_supposed_to_succeed_and_costs_nothing_more() -> None:
    bench = Bench()
    bench.arrive(1)
    bench.settle()
    bench.arrive(2)
    bench.start(bench.plan().runs[0])
    assert nodes(bench) == [
        "statistics", "validator", "transform", "trainer",
        "evaluator.metrics", "infra", "evaluator.verdict", "pusher.serving",
    ]  # fmt: skip
    assert [e.state.value for e in bench.history.running()] == ["running"], "imagining changes nothing"


def test_what_runs_on_older_inputs_is_run_again_afterwards() -> None:
    bench = Bench()
    bench.arrive(1)
    bench.settle()
    bench.spec = pipeline(evaluator={"metrics": {"AUC": {"at_least": 0.7}}})
    bench.start(bench.plan().runs[0])
    bench.spec = pipeline(evaluator={"metrics": {"AUC": {"at_least": 0.8}}})
    assert nodes(bench) == ["evaluator.verdict"]


def test_beside_a_daemon_its_work_is_not_called_abandoned(tmp_path: Path) -> None:
    for folder in ("specs", "deploy_targets", "data/7"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data/7/_SUCCESS").touch()
    (tmp_path / "data/7/trips.csv").write_text("fare\n7\n")
    (tmp_path / "specs/p.yaml").write_text(
        "pipeline: p\nnodes:\n  examples: {kind: example_gen, input: '../data/{SPAN}'}\n"
        "  statistics: {kind: statistics_gen}\n"
    )
    settings = Settings.resolve({"specs": str(tmp_path / "specs")}, {})
    clock, state = SystemClock(), StateDir(settings.state)
    spec = load_pipeline(tmp_path / "specs/p.yaml")
    observer = Observer(clock, lambda _: None)
    (run,) = look(observer, spec, {}, History()).runs
    observer.close()
    state.root.mkdir()
    store = MlmdStore(state.metadata, clock)
    store.begin(run.execution("p", "example_gen", clock.now()))
    store.close()
    form = RequestForm(verb="backfill", pipeline="p", first="7", last="7", again=True)
    with locked(state.lock):
        found = supposing(settings, "p")
        assert [(d.node, d.action) for d in found.decisions] == [("examples", "wait"), ("statistics", "wait")]
        assert "abandoned" not in found.model_dump_json()
        assert [e.node for e in found.forecast] == ["statistics"]
        assert "abandoned" not in rehearse(settings, form).model_dump_json()
    found = supposing(settings, "p")
    assert [e.node for e in found.forecast] == ["examples", "statistics"]
    assert "abandoned" in found.forecast[0].because


def test_nothing_to_do_is_no_forecast() -> None:
    bench = Bench()
    bench.arrive(1)
    bench.settle()
    found = forecast(bench.spec, bench.world())
    assert found.expected == ()
    assert found.end == bench.plan()


def test_a_file_can_be_supposed_without_saving_it_and_means_what_it_would_mean_if_it_were(tmp_path: Path) -> None:
    for folder in ("specs", "deploy_targets", "data/7", "drafts/of/mine"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data/7/_SUCCESS").touch()
    (tmp_path / "data/7/trips.csv").write_text("fare\n7\n")
    spec = "pipeline: p\nnodes:\n  examples: {kind: example_gen, input: '../data/{SPAN}'}\n"
    (tmp_path / "specs/p.yaml").write_text(spec)
    edited = tmp_path / "drafts/of/mine/edited.yaml"
    edited.write_text(spec + "  statistics: {kind: statistics_gen}\n")
    settings = Settings.resolve({"specs": str(tmp_path / "specs")}, {})
    found = supposing(settings, None, file=edited, spans=[Span(8)])
    assert [(e.node, e.key, e.seconds) for e in found.forecast] == [
        ("examples", "span-8", None),
        ("examples", "span-7", None),
        ("statistics", "span-8", None),
        ("statistics", "span-7", None),
    ]
    assert not (tmp_path / "state").exists(), "looking writes nothing"


def keys(bench: Bench, *said: str, node: str = "") -> list[tuple[str, str]]:
    """What would run of inputs if these spans arrived."""
    supposed = with_spans(bench.spec, bench.world(), [span_of(text) for text in said], node)
    found = (e.run.subject for e in forecast(bench.spec, supposed).expected)
    return sorted((s.node, s.key) for s in found if s.node in bench.spec.inputs)


def test_a_supposed_span_that_is_there_is_its_next_version() -> None:
    bench = Bench()
    bench.arrive(2)
    bench.settle()
    assert keys(bench, "2") == [("examples", "span-2.v2")]
    assert keys(bench, "2.v5", "3") == [("examples", "span-2.v5"), ("examples", "span-3.v1")]
    bench.incomplete.add(bench.arrive(2, 4))
    assert keys(bench, "2") == [("examples", "span-2.v4")], "the one that is on its way"
    assert keys(bench, "2.v1") == [("examples", "span-2.v1")], "new content in its place"


def test_a_supposed_span_without_versions_has_new_content_in_its_place() -> None:
    bench = Bench(spec=pipeline(examples={"input": "data/{SPAN}"}))
    bench.arrive(2, None)
    bench.settle()
    assert keys(bench, "2") == [("examples", "span-2")]
    with pytest.raises(NothingSupposed, match="have no versions") as error:
        keys(bench, "2.v1")
    assert error.value.hint.startswith("Write --with-span 2:")


def test_a_supposed_span_arrives_in_one_input_only_which_must_be_named_if_there_are_two() -> None:
    bench = Bench(spec=pipeline(TWO))
    with pytest.raises(NothingSupposed, match="has 2 inputs") as error:
        keys(bench, "2")
    assert error.value.hint == "Say it with --input: examples or holdout."
    assert keys(bench, "2", node="holdout") == [("holdout", "span-2.v1")]
    with pytest.raises(NotFound, match="no input 'holdoud'"):
        keys(bench, "2", node="holdoud")


def test_what_would_change_nothing_is_no_supposition() -> None:
    bench = Bench(spec=pipeline(examples={"start": 2, "input": "data/{SPAN:2}/v{VERSION}"}))
    bench.arrive(2, 3)
    bench.settle()
    for said, why in [
        ("2.v2", "version 3 of span 2 is there"),
        ("1", "is before the `start` of examples"),
        ("100", "has no place in"),
    ]:
        with pytest.raises(NothingSupposed, match=why):
            keys(bench, said)
    with pytest.raises(NothingSupposed, match="reads no spans"):
        keys(Bench(spec=pipeline({"schema": NODES["schema"]})), "1")
