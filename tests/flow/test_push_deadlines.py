"""`push_within`: the daemon says by itself, at the minute, that a target got no push although data came."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

import pytest

from ctd.core.errors import ComponentFailed
from tests.flow.bench import Bench

PUSHER = "  pusher: {kind: pusher, targets: [serving], require: [], push_within: 6h}\n"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A pipeline that has pushed a model of span 1 at midnight."""
    made = Bench(tmp_path)
    (tmp_path / "deploy_targets/serving.yaml").write_text(
        "target: serving\nkind: tf_serving\npath: ../serving/{pipeline}\n"
    )
    save(made)
    made.span(1)
    made.start()
    rest(made)
    return made


def save(bench: Bench, steps: int = 100) -> None:
    spec = bench.spec(steps=steps)
    spec.write_text(spec.read_text() + PUSHER)


def rest(bench: Bench) -> None:
    """All succeeds that can; a push leaves a version."""
    bench.tick()
    while running := bench.running():
        for request in running:
            if request.node == "pusher":
                version = 1 + len(bench.executions("pusher"))
                place = bench.root / f"serving/taxi/{version}"
                place.mkdir(parents=True, exist_ok=True)
                bench._succeed(request, pushed=1, pushed_version=version, pushed_destination=str(place), verified=0)
            else:
                bench._succeed(request)
        bench.tick()


def alerts(bench: Bench) -> list[str]:
    return bench.views().status().pipelines[0].alerts


def wake(bench: Bench) -> None:
    """The daemon sleeps until the time that it set itself, and does what it then finds due."""
    at = bench.controller.plans["taxi"].wake_at
    assert at is not None
    bench.clock.forward(seconds=(at - bench.clock.now()).total_seconds())
    while bench.controller.step(timedelta(0)):
        pass


def test_the_daemon_wakes_at_the_minute_says_it_once_and_takes_it_back_with_the_push(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.clock.forward(hours=30)
    rest(bench)
    assert alerts(bench) == []
    bench.span(2)
    bench.tick()
    bench.finish("examples")
    bench.tick()
    rest_but(bench, "trainer")
    bench.fail("trainer", ComponentFailed("name 'x' is not defined", hint="Mend model.py."))
    bench.tick()
    assert alerts(bench) == []
    with caplog.at_level(logging.WARNING, logger="ctd"):
        wake(bench)
        bench.tick()
    (alert,) = alerts(bench)
    assert alert.startswith(
        "pusher: nothing was pushed to serving since 2026-01-01 00:00 UTC, although examples span-2 came at "
        "2026-01-02 06:00 UTC (push_within 6h00m)"
    )
    assert "Held up by: trainer/spans 1..2 (2) is blocked: name 'x' is not defined" in alert
    assert bench.views().plan("taxi").alerts == [alert]
    assert [live.overdue for live in bench.views().status().pipelines[0].live] == ["2026-01-02T06:00:00+00:00"]
    assert [r.message for r in caplog.records].count("push overdue") == 1
    bench.kill()
    bench.start().tick()
    assert alerts(bench) == [alert]
    save(bench, steps=200)
    rest(bench)
    assert alerts(bench) == []
    assert [live.overdue for live in bench.views().status().pipelines[0].live] == [None]
    bench.check()


def rest_but(bench: Bench, node: str) -> None:
    while running := [r for r in bench.running() if r.node != node]:
        for request in running:
            bench._succeed(request)
        bench.tick()


def test_spans_that_come_while_the_pipeline_is_paused_count_from_then(bench: Bench) -> None:
    bench.clock.forward(hours=10)
    bench.ask("pause")
    bench.span(2)
    bench.tick()
    bench.clock.forward(hours=5)
    bench.tick()
    assert alerts(bench) == []
    wake(bench)
    (alert,) = alerts(bench)
    assert "although examples span-2 came at 2026-01-01 10:00 UTC" in alert
    assert "paused by ana" in alert
    bench.ask("resume")
    rest(bench)
    assert alerts(bench) == []


def test_the_key_changes_no_identity(bench: Bench) -> None:
    before = len(bench.executions())
    spec = bench.root / "specs/taxi.yaml"
    spec.write_text(spec.read_text().replace("push_within: 6h", "push_within: {serving: 2h}"))
    rest(bench)
    assert len(bench.executions()) == before
