"""The log has a line per fact that changed, and none for what only grows older."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ctd.core.errors import StorageUnavailable
from ctd.observability import Event
from tests.flow.bench import Bench


@pytest.fixture
def bench(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Bench:
    caplog.set_level(logging.INFO, "ctd")
    made = Bench(tmp_path)
    made.clock.jump(days=365 * 20)
    made.spec()
    made.span(1)
    made.start().settle()
    return made


def test_nothing_is_said_while_nothing_happens(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    for _ in range(50):
        bench.tick()
        bench.clock.forward(seconds=30)
    assert caplog.messages == []


def test_a_copy_that_takes_hours_is_said_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    for number in range(50):
        bench.span(2, "fare\n" + "1\n" * number, marker=False)
        bench.tick()
        bench.clock.forward(seconds=30)
    assert caplog.messages == [Event.DECISION.value]


def test_a_span_that_never_settles_is_said_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.spec(complete="{quiet: 1m}")
    bench.settle()
    caplog.clear()
    for number in range(50):
        bench.span(2, "fare\n" + "1\n" * (number // 3), marker=False)
        bench.tick()
        bench.clock.forward(seconds=17)
    assert caplog.messages == [Event.DECISION.value]


def test_a_disk_that_stays_away_is_said_per_attempt_and_not_per_look(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.span(2)
    bench.tick()
    caplog.clear()
    for _ in range(60):  # looks, a second apart
        for request in bench.running("examples"):
            bench.fail("examples", StorageUnavailable("no space left"), request.key)
        bench.tick()
        bench.clock.forward(seconds=1)
    attempts = len(bench.executions("examples")) - 1
    assert 10 <= attempts <= 30, "a pause is a tenth of the time that it has lasted"
    assert len(caplog.messages) <= 5 * attempts


def test_a_store_that_stays_away_is_said_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.span(2)
    bench.tick()
    caplog.clear()
    bench.store.away = {"finish"}
    bench.finish("examples")
    for _ in range(60):
        bench.tick()
        bench.clock.forward(seconds=1)
    assert caplog.messages == [Event.STORE.value]
    bench.store.away = set()
    bench.settle()
    assert caplog.messages.count(Event.STORE.value) == 2, "that it answers again is a fact, too"
