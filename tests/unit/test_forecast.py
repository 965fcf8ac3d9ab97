"""What a change would set off in all, before anything is spent."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from planning_world import Bench, pipeline

from ctd.api.requests import RequestForm
from ctd.core.history import History
from ctd.core.timing import SystemClock
from ctd.daemon.lifecycle import locked
from ctd.daemon.offline import rehearse, supposing
from ctd.engine.look import look
from ctd.engine.observe import Observer
from ctd.metadata.mlmd import MlmdStore
from ctd.planning.forecast import forecast
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
        found = supposing(settings, "p", file=None, spans=[])
        assert [(d.node, d.action) for d in found.decisions] == [("examples", "wait"), ("statistics", "wait")]
        assert "abandoned" not in found.model_dump_json()
        assert [e.node for e in found.forecast] == ["statistics"]
        assert "abandoned" not in rehearse(settings, form).model_dump_json()
    found = supposing(settings, "p", file=None, spans=[])
    assert [e.node for e in found.forecast] == ["examples", "statistics"]
    assert "abandoned" in found.forecast[0].because


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
