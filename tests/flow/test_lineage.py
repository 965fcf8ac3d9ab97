"""What `ctd lineage` and `ctd gc` answer, over the socket and without a daemon."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ctd.api.app import application
from ctd.api.lineage import LineageQuery, LineageView, ModelDiffView, ReachView, RetentionView
from ctd.api.models import View
from ctd.api.server import SocketServer
from ctd.api.unixsocket import listens
from ctd.cli import render_lineage
from ctd.cli.answers import Daemon
from ctd.core.artifacts import Artifact
from ctd.core.artifacts import ArtifactType as T
from ctd.core.errors import NotFound
from ctd.core.executions import Execution, Outcome, State
from ctd.daemon.ancestry import retention_view
from ctd.storage.layout import StateDir
from tests.flow.bench import Bench

NOW = datetime(2027, 1, 1, tzinfo=timezone.utc)


class Answers:
    """The bench's daemon, as the socket asks it."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def lineage(self, pipeline: str, asked: LineageQuery) -> View:
        return self.bench.views().lineage(pipeline, asked)

    def removable(self, pipeline: str) -> View:
        return self.bench.views().removable(pipeline)

    def collect(self, pipeline: str) -> View:
        spec = self.bench.views().known(pipeline)
        return retention_view(spec, self.bench.controller.collect(spec), self.bench.history, removed=True)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Three spans, a model after each, the last two pushed as versions 1 and 2; other settings for the last."""
    made = Bench(tmp_path)
    made.spec()
    made.start()
    for number in (1, 2):
        made.span(number)
        made.settle()
    made.spec(steps=200)
    made.span(3)
    made.settle()
    for version, trainer in enumerate(made.executions("trainer")[1:], start=1):
        evaluate(made, trainer.outputs["model"][0], version)
        push(made, trainer.outputs["model"][0], version)
    return made


def evaluate(bench: Bench, model: Artifact, version: int, baseline: Artifact | None = None) -> Path:
    """What an evaluator would have measured: overall, and on one slice."""
    folder = bench.root / f"evaluations/{model.id}-{version}"
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for slice_ in ([], [["device", "phone"]]):
        numbers = {"AUC": (80 + version) / 100, "ExampleCount": 40 * version}
        rows.append({"slice": slice_, "model": "candidate", "metrics": numbers, "examples": 40 * version})
        if baseline is not None:
            rows.append({**rows[-1], "model": "baseline", "metrics": {"AUC": 0.7, "ExampleCount": 40 * version}})
    (folder / "metrics.json").write_text(json.dumps(rows))
    said = {"current_model_id": model.id, **({"baseline_model_id": baseline.id} if baseline else {})}
    record(bench, "evaluator", "metrics", model, f"{version}", Artifact(T.EVALUATION, str(folder), properties=said))
    return folder


def push(bench: Bench, model: Artifact, version: int) -> None:
    """What a verdict and a pusher would have recorded."""
    blessing = {"blessed": 1, "current_model_id": model.id, "reason": "AUC 0.8 >= 0.7"}
    pushed = {"pushed_version": version, "pushed_destination": f"/serving/{version}"}
    for node, piece, type_, said in (
        ("evaluator", "verdict", T.MODEL_BLESSING, blessing),
        ("pusher", "serving", T.PUSHED_MODEL, pushed),
    ):
        record(bench, node, piece, model, str(version), Artifact(type_, f"/outside/{node}/{version}", properties=said))


def record(bench: Bench, node: str, piece: str, model: Artifact, key: str, made: Artifact) -> None:
    """An execution that took a model and made this."""
    now = bench.clock.now()
    begun = bench.store.begin(
        Execution(
            "taxi",
            node,
            node,
            piece,
            f"{model.id} {key}",
            now,
            piece,
            inputs={"model": (model.id,)},
            ingredients={"inputs": {"model": [[None, model.digest]]}},
        )
    )
    output = {"serving": "pushed_model", "verdict": "blessing", "metrics": "evaluation"}[piece]
    bench.history.record(bench.store.finish(begun.with_outcome(Outcome(State.SUCCEEDED, {output: (made,)}), now)))


@pytest.fixture
def daemon(bench: Bench) -> Iterator[Daemon]:
    socket = StateDir(bench.root / "state").socket
    server = SocketServer(application(Answers(bench)), socket)
    server.start()
    while not listens(socket):
        time.sleep(0.01)
    yield Daemon(socket)
    server.stop()


def text(rendered: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(rendered)
    return out.getvalue()


def test_a_version_leads_back_to_verdict_settings_and_spans(daemon: Daemon, bench: Bench) -> None:
    view = daemon.lineage("taxi", LineageQuery())
    assert isinstance(view, LineageView)
    assert [(p.target, p.version) for p in view.pushes] == [("serving", 2)]
    assert [(s.span, s.execution > 0, len(s.content) > 10) for s in view.spans] == [(n, True, True) for n in (1, 2, 3)]
    assert view.made[0].execution.node == "trainer"
    assert view.made[0].ingredients["settings"]["train_steps"] == 200
    assert view.made[0].ingredients["code"]
    said = text(render_lineage.rendered(view, NOW))
    for part in ("version 2 on serving", "blessed by evaluator.verdict: AUC 0.8 >= 0.7", "train_steps 200", "span 3"):
        assert part in said
    assert [(v.node, v.piece, v.blessed) for v in view.verdicts] == [("evaluator", "verdict", True)]
    assert "refused" not in said, "an evaluation is no verdict"
    older = daemon.lineage("taxi", LineageQuery(target="serving", version="1"))
    assert isinstance(older, LineageView)
    assert [s.span for s in older.spans] == [1, 2]


def test_a_span_leads_forward_to_models_and_versions(daemon: Daemon) -> None:
    view = daemon.lineage("taxi", LineageQuery(span=3))
    assert isinstance(view, ReachView)
    assert [v.version for v in view.versions] == [2]
    assert len(view.models) == 1
    assert "1 model, 1 version" in text(render_lineage.rendered(view, NOW))


def test_two_versions_differ_by_their_spans_and_settings(daemon: Daemon, bench: Bench) -> None:
    view = daemon.lineage("taxi", LineageQuery(before="1", after="2"))
    assert isinstance(view, ModelDiffView)
    changes = {d.node: d.changes for d in view.differences}
    assert changes["examples"] == ["span 3 new"]
    assert "train_steps 100 -> 200" in changes["trainer"]
    first = bench.executions("trainer")[0].outputs["model"][0]
    by_model = daemon.lineage("taxi", LineageQuery(before=f"#{first.id}", after="1"))
    assert isinstance(by_model, ModelDiffView)
    assert by_model.before.artifact == first.id
    assert "train_steps 100 -> 200" in text(render_lineage.rendered(view, NOW))


def test_two_versions_are_told_side_by_side_with_metrics_spans_and_verdicts(daemon: Daemon) -> None:
    view = daemon.lineage("taxi", LineageQuery(before="1", after="2"))
    assert isinstance(view, ModelDiffView)
    (auc, slice_) = (d for d in view.metrics if d.metric == "AUC")
    assert (auc.slice, auc.before, auc.after, auc.examples_before, auc.examples_after) == (
        "overall",
        0.81,
        0.82,
        40,
        80,
    )
    assert (auc.same_examples, slice_.slice, view.metrics_missing) == (False, "device=phone", [])
    (spans,) = view.spans
    assert (spans.node, spans.before, spans.after, spans.new, spans.left) == ("examples", [1, 2], [1, 2, 3], [3], [])
    said = text(render_lineage.rendered(view, NOW))
    for part in (
        "version 1 on serving", "version 2 on serving", "blessed by evaluator.verdict: AUC 0.8 >= 0.7",
        "AUC           0.8100 -> 0.8200  +0.0100", "its own evaluation: 40 examples and 80 examples; 1 slice in --json",
        "examples  1..2 -> 1..3: 3 new", "train_steps 100 -> 200",
    ):  # fmt: skip
        assert part in said


def test_metrics_of_the_same_examples_are_preferred(daemon: Daemon, bench: Bench) -> None:
    _, first, second = (e.outputs["model"][0] for e in bench.executions("trainer"))
    evaluate(bench, second, 3, baseline=first)
    view = daemon.lineage("taxi", LineageQuery(before="1", after="2"))
    assert isinstance(view, ModelDiffView)
    overall = {d.metric: (d.before, d.after, d.same_examples) for d in view.metrics if d.slice == "overall"}
    assert overall["AUC"] == (0.7, 0.83, True)
    assert "evaluator, both on the same 120 examples" in text(render_lineage.rendered(view, NOW))
    back = daemon.lineage("taxi", LineageQuery(before="2", after="1"))
    assert isinstance(back, ModelDiffView)
    assert [(d.before, d.after) for d in back.metrics if (d.slice, d.metric) == ("overall", "AUC")] == [(0.83, 0.7)]


def test_where_metrics_are_missing_it_is_said_why(daemon: Daemon, bench: Bench) -> None:
    unjudged, first, _ = (e.outputs["model"][0] for e in bench.executions("trainer"))
    view = daemon.lineage("taxi", LineageQuery(before=f"#{unjudged.id}", after="1"))
    assert isinstance(view, ModelDiffView)
    assert view.metrics_missing == [f"evaluator: no metrics of model #{unjudged.id}: it was not evaluated there"]
    assert {d.before for d in view.metrics} == {None}
    shutil.rmtree(bench.root / f"evaluations/{first.id}-1")
    gone = daemon.lineage("taxi", LineageQuery(before="1", after="2"))
    assert isinstance(gone, ModelDiffView)
    assert gone.metrics_missing == [f"evaluator: no metrics of model #{first.id}: the files of its evaluation are gone"]
    assert "the files of its evaluation are gone" in text(render_lineage.rendered(gone, NOW))


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(LineageQuery(version="9"), id="no such version"),
        pytest.param(LineageQuery(version="three"), id="no number"),
        pytest.param(LineageQuery(version="#1"), id="an artifact that is no model"),
        pytest.param(LineageQuery(target="mobile"), id="no such target"),
        pytest.param(LineageQuery(span=77), id="a span that never came"),
        pytest.param(LineageQuery(before="1", after="7"), id="one of two is not there"),
    ],
)
def test_what_is_not_there_is_said_with_what_there_is(daemon: Daemon, asked: LineageQuery) -> None:
    with pytest.raises(NotFound) as error:
        daemon.lineage("taxi", asked)
    assert error.value.hint


def test_a_dry_run_names_what_the_real_one_removes(daemon: Daemon, bench: Bench) -> None:
    untouched = daemon.removable("taxi")
    assert (untouched.keeps, untouched.results) == (False, [])
    path = bench.spec(steps=200)
    path.write_text(path.read_text().replace("kind: statistics_gen", "kind: statistics_gen, keep: {spans: 1}"))
    for number in (1, 2):
        bench.remove(number)
    bench.wanted.reload()
    bench.controller.plans["taxi"] = bench.reconciler.plan(bench.wanted.pipelines["taxi"])
    would = daemon.removable("taxi")
    assert [(c.artifact.span, c.artifact.deleted, c.because) for c in would.results] == [
        (n, False, "not of the newest 1 spans") for n in (2, 1)
    ]
    assert all(Path(c.artifact.uri).exists() for c in would.results)
    done = daemon.collect("taxi")
    assert isinstance(done, RetentionView)
    assert [c.artifact.artifact for c in done.results] == [c.artifact.artifact for c in would.results]
    assert not any(Path(c.artifact.uri).exists() for c in done.results)
    assert "2 results removed" in text(render_lineage.retention(done))
    assert daemon.removable("taxi").results == []
