"""What `ctd explain`, `plan` and `status` say of a daemon's life: the causes of what ran, and of what did not."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ctd.api.app import application
from ctd.api.models import CauseView, View
from ctd.api.server import SocketServer
from ctd.api.unixsocket import listens
from ctd.cli import render, render_explain
from ctd.cli.answers import Daemon
from ctd.core.errors import NotFound
from ctd.storage.layout import StateDir
from tests.flow.bench import Bench


class Answers:
    """The bench's daemon, as the socket asks it."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def explain(self, pipeline: str, node: str | None, execution: int | None = None) -> View:
        return self.bench.views().explain(pipeline, node, execution)

    def plan(self, pipeline: str) -> View:
        return self.bench.views().plan(pipeline)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.spec()
    made.start()
    for number in (1, 2):
        made.span(number)
        made.settle()
    return made


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
    Console(file=out, width=250).print(rendered)
    return out.getvalue()


def said(found: list[CauseView]) -> list[str]:
    """Everything in the trees, from the top."""
    return [line for cause in found for line in (cause.said, *said(cause.causes))]


def test_the_chain_of_causes_is_the_same_over_the_socket_on_a_terminal_and_after_a_restart(
    bench: Bench, daemon: Daemon
) -> None:
    first = bench.executions("trainer")[-1]
    then = daemon.explain("taxi", "trainer", first.id)
    bench.span(2, "fare\n99\n")
    bench.settle()
    view = daemon.explain("taxi", "trainer")
    (trained,) = view.causes
    assert trained.execution == bench.executions("trainer")[-1].id
    assert trained.against == first.id
    lines = said(view.causes)
    assert lines[1].startswith("examples of span 2 changed (")
    assert lines[2].startswith("span 2 was changed in its place (content ")
    shown = text(render_explain.explain(view, bench.clock.now()))
    assert all(line in shown for line in lines)
    bench.kill()
    bench.start().settle()
    again = bench.views().explain("taxi", "trainer", first.id)
    assert again.causes == then.causes, "of long ago, too"
    assert "span 2 arrived, complete: marker _SUCCESS" in said(again.causes)[-1]


def test_an_execution_of_another_node_is_refused_with_the_right_question(bench: Bench, daemon: Daemon) -> None:
    trained = bench.executions("trainer")[-1].id
    with pytest.raises(NotFound) as refused:
        daemon.explain("taxi", "examples", trained)
    assert refused.value.hint == f"Ask `ctd explain taxi trainer --execution {trained}`."


def test_a_refused_span_is_shown_where_it_is_left_out_with_the_command_that_lets_it_in(bench: Bench) -> None:
    bench.span(3)
    bench.tick()
    for node in ("examples", "statistics"):
        bench.finish(node)
        bench.tick()
    bench.finish("validator", blessed=0, reason="fare: out of range")
    bench.settle()
    status = bench.views().status("taxi")
    (suggestion,) = status.pipelines[0].suggestions
    assert suggestion.startswith("span 3 is quarantined (validator: fare: out of range): correct it, or if")
    assert suggestion.endswith(": ctd accept taxi 3 --reason ...")
    assert "to do: span 3 is quarantined" in text(render.status(status, bench.clock.now(), "no daemon"))
    (trainer,) = (d for d in bench.views().plan("taxi").decisions if d.node == "trainer")
    assert [(left.span, left.kind) for left in trainer.left_out] == [(3, "quarantined")]
    assert "without span 3, quarantined: validator: fare: out of range" in said(
        bench.views().explain("taxi", "trainer").why_not
    )
    bench.ask("accept", span="3")
    bench.tick()
    assert bench.views().status("taxi").pipelines[0].suggestions == []


def test_work_that_waits_for_approval_is_something_to_do(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    path = bench.spec()
    path.write_text(path.read_text().replace("kind: trainer,", "kind: trainer, approval: true,"))
    bench.span(1)
    bench.start().settle()
    (suggestion,) = bench.views().status("taxi").pipelines[0].suggestions
    assert suggestion == "trainer waits for approval: ctd approve taxi trainer, or ctd reject taxi trainer"


def test_a_plan_says_what_was_cut_off_and_what_alerts(bench: Bench, daemon: Daemon) -> None:
    path = bench.root / "specs/taxi.yaml"
    path.write_text(path.read_text().replace("kind: example_gen,", "kind: example_gen, stale_after: 1d,"))
    bench.wanted.reload()
    bench.ask("run-now", "statistics", again=True)
    bench.settle()
    bench.clock.forward(days=2)
    bench.tick()
    plan = daemon.plan("taxi")
    assert [alert.startswith("examples: no new span since") for alert in plan.alerts] == [True]
    cut = {(d.node, d.key) for d in plan.decisions if d.cut_off}
    assert cut == {("validator", "span-1"), ("validator", "span-2")}
    shown = text(render.plan(plan, everything=False))
    assert "2 cut off" in shown.splitlines()[0]
    assert "cut off  validator span-1" in shown
    assert "with the same content" in shown
    assert "alert: examples: no new span since" in shown
    assert {d.action for d in plan.decisions if d.cut_off} == {"reuse"}, "scripts see what they always saw"


def test_two_nodes_that_read_the_same_data_in_two_ways_read_it_once_each(bench: Bench) -> None:
    path = bench.root / "specs/taxi.yaml"
    twin = '  again: {kind: example_gen, input: "../data/taxi/{SPAN}", splits: {all: 1}}\n'
    wired = "{kind: statistics_gen, inputs: {examples: examples}}"
    wired_trainer = "kind: trainer, inputs: {examples: examples},"
    edited = path.read_text().replace("{kind: statistics_gen}", wired).replace("kind: trainer,", wired_trainer)
    path.write_text(edited + twin)
    bench.wanted.reload()
    bench.settle()
    for _ in range(5):
        bench.clock.forward(seconds=30)
        bench.settle()
    assert [e.key for e in bench.executions("again")] == ["span-1", "span-2"]
    assert len(bench.executions("examples")) == 2
    bench.check()
