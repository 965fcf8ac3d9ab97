"""What `ctd lineage` and `ctd gc` answer, over the socket and without a daemon."""

from __future__ import annotations

import io
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
from ctd.core.artifacts import Artifact, ArtifactType
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
        push(made, trainer.outputs["model"][0], version)
    return made


def push(bench: Bench, model: Artifact, version: int) -> None:
    """What an evaluator and a pusher would have recorded."""
    now = bench.clock.now()
    blessing = {"blessed": 1, "current_model_id": model.id, "reason": "AUC 0.8 >= 0.7"}
    pushed = {"pushed_version": version, "pushed_destination": f"/serving/{version}"}
    for node, piece, type_, said in (
        ("evaluator", "verdict", ArtifactType.MODEL_BLESSING, blessing),
        ("pusher", "serving", ArtifactType.PUSHED_MODEL, pushed),
    ):
        begun = bench.store.begin(
            Execution(
                "taxi",
                node,
                node,
                piece,
                str(version),
                now,
                piece,
                inputs={"model": (model.id,)},
                ingredients={"inputs": {"model": [[None, model.digest]]}},
            )
        )
        output = "pushed_model" if node == "pusher" else "blessing"
        made = {output: (Artifact(type_, f"/outside/{node}/{version}", properties=said),)}
        bench.history.record(bench.store.finish(begun.with_outcome(Outcome(State.SUCCEEDED, made), now)))


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
