"""While the daemon's own means fail: what is shown, and what becomes of what people ask for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ctd.api.models import DaemonView
from ctd.api.requests import RequestForm
from ctd.cli.status import exit_code
from ctd.core.errors import StoreUnavailable
from ctd.core.executions import State
from ctd.core.failpoints import arm
from ctd.core.troubles import TroubleKind
from ctd.daemon.answers import Answers, NotNow
from tests.flow.bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.spec()
    made.span(1)
    made.start().settle()
    return made


def troubles(bench: Bench) -> list[str]:
    return [t.kind.value for t in bench.views().status().troubles]


def test_a_store_that_is_away_is_shown_since_when_until_it_answers(bench: Bench) -> None:
    assert exit_code(bench.views().status()) == 0
    bench.span(2)
    bench.store.away = {"begin"}
    since = bench.clock.now()
    for _ in range(3):
        bench.tick()
        bench.clock.forward(seconds=10)
    status = bench.views().status()
    (trouble,) = status.troubles
    assert (trouble.kind, trouble.since) == (TroubleKind.STORE, since.isoformat())
    assert exit_code(status) == 1
    bench.store.away = set()
    bench.settle()
    assert troubles(bench) == []


def test_results_that_cannot_be_read_are_a_trouble_of_the_daemon_and_nothing_is_made_again(bench: Bench) -> None:
    before = len(bench.executions())
    arm("artifact.look=err(EIO)")
    try:
        bench.tick()
        assert troubles(bench) == [TroubleKind.ARTIFACTS.value]
        assert exit_code(bench.views().status()) == 1
    finally:
        arm("")
    bench.settle()
    assert troubles(bench) == []
    assert len(bench.executions()) == before
    assert exit_code(bench.views().status()) == 0


def test_a_pipeline_that_is_not_wanted_any_more_takes_its_trouble_along(bench: Bench) -> None:
    arm("artifact.look=err(EIO)")
    try:
        bench.tick()
    finally:
        arm("")
    assert troubles(bench)
    (bench.root / "specs/taxi.yaml").unlink()
    bench.tick()
    assert troubles(bench) == []


@pytest.mark.parametrize(("verb", "node"), [("pause", "trainer"), ("run-now", "trainer"), ("backfill", "")])
def test_what_is_asked_while_the_store_is_away_is_refused_with_the_truth_and_can_be_asked_again(
    bench: Bench, verb: str, node: str
) -> None:
    said = {"run-now": {"again": True}, "backfill": {"first": "1", "last": "1", "again": True}}.get(verb, {})
    bench.store.away = {"record_request"}
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=f"^{verb} was not recorded: the store is away") as caught:
            bench.ask(verb, node, **said)
        assert caught.value.hint.endswith("Then ask again.")
    assert list(bench.store.requests()) == []
    bench.store.away = set()
    bench.ask(verb, node, **said)
    assert len(list(bench.store.requests())) == 1


def test_of_several_that_are_asked_for_at_once_it_says_how_many_were_recorded(bench: Bench) -> None:
    for number in (2, 3):
        bench.span(number)
    bench.tick()
    running = bench.running("examples")
    assert len(running) == 2
    bench.store.most_requests = 1
    with pytest.raises(StoreUnavailable, match=r"^of cancel of taxi examples only 1 of 2 were recorded: "):
        bench.ask("cancel", "examples")
    bench.store.most_requests = 1000
    bench.tick()
    assert len(bench.running("examples")) == 1
    bench.ask("cancel", "examples")
    bench.tick()
    assert not bench.running("examples")
    assert len(list(bench.store.requests())) == 2
    assert len(bench.executions("examples", State.CANCELLED)) == 2


def test_what_the_loop_has_no_time_for_is_taken_back_and_status_says_what_it_said_last(bench: Bench) -> None:
    """A disk that hangs holds the loop: nobody may be told that nothing was done, and have it done later."""
    bench.spec("other")
    bench.tick()
    starting = DaemonView(pid=7, started=bench.clock.now().isoformat(), epoch=0, starting=True)
    answers = Answers(bench.controller.troubles, starting)
    with pytest.raises(NotNow, match="the daemon is starting"):
        answers.plan("taxi")
    assert not answers.status(None).pipelines
    answers.begin(bench.views(), bench.inbox(), bench.controller)
    with looping(bench):
        said = answers.status(None)
        assert ([p.pipeline for p in said.pipelines], said.troubles) == (["other", "taxi"], [])
    patient, answers.patience = answers.patience, timedelta(milliseconds=20)
    with pytest.raises(NotNow, match="nothing was done"):
        answers.take(RequestForm(verb="pause", pipeline="taxi"), "ana")
    busy = answers.status(None)
    assert busy.pipelines == said.pipelines
    assert [t.kind for t in busy.troubles] == [TroubleKind.BUSY]
    assert [p.pipeline for p in answers.status("taxi").pipelines] == ["taxi"]
    answers.patience = patient
    with looping(bench):
        assert answers.status(None).troubles == []
    assert list(bench.store.requests()) == []


@contextlib.contextmanager
def looping(bench: Bench) -> Iterator[None]:
    """The daemon's loop goes on meanwhile."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            bench.controller.step(timedelta(0))

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_starts_are_counted_whether_or_not_anything_was_executed(bench: Bench) -> None:
    first = bench.epoch
    for number in range(1, 4):
        bench.stop()
        bench.start()
        assert bench.epoch == first + number


def test_a_store_from_before_starts_were_counted_goes_on_from_what_its_executions_know(bench: Bench) -> None:
    known = max(e.epoch for e in bench.executions())
    bench.stop()
    bench.store.forget_starts()
    bench.start()
    assert bench.epoch == known + 1
