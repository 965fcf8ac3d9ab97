"""Requests that run together: who meets whom, who waits how long, and whose fault a failure is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctd.serving.batching import Batcher, Feeds, Parameters
from ctd.serving.codec import Array
from ctd.serving.errors import Code, ServingError

PATIENCE = 60.0
Answer = dict[str, Array]


@dataclass
class Model:
    """Doubles its input; remembers what it was asked, and can be held up."""

    asked: list[Array] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __call__(self, feeds: Feeds) -> Answer:
        self.asked.append(feeds["x"])
        self.begun.release()
        self.go.wait(PATIENCE)
        if (feeds["x"] == 13).any():
            raise ServingError(Code.INVALID_ARGUMENT, "13 is no good")
        return {"y": feeds["x"] * 2}


@contextmanager
def batcher(**parameters: object) -> Iterator[Batcher]:
    made = Batcher(Parameters(**{"threads": 1, **parameters}))  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.stop()


class Crowd:
    """Callers in threads of their own, queued one after the other behind a first request that holds the model up."""

    def __init__(self, made: Batcher, model: Model) -> None:
        self.made, self.model = made, model
        self._pool = ThreadPoolExecutor(32)
        self.first = self._submit([0.0], None)
        assert model.begun.acquire(timeout=PATIENCE)

    def ask(self, x: object, deadline: float | None = None) -> Future[Answer]:
        """Ask, and come back when the question is queued or refused."""
        before, end = self._queued(), monotonic() + PATIENCE
        future = self._submit(x, deadline)
        while self._queued() == before and not future.done():
            assert monotonic() < end
        return future

    def _submit(self, x: object, deadline: float | None) -> Future[Answer]:
        return self._pool.submit(self.made.run, "signature", {"x": np.array(x, np.float32)}, self.model, deadline)

    def _queued(self) -> int:
        return sum(len(b.tasks) for q in list(self.made._queues.values()) for b in list(q.batches))


def test_requests_that_wait_together_run_together_and_get_their_own_rows() -> None:
    model = Model()
    with batcher() as made:
        crowd = Crowd(made, model)
        futures = [crowd.ask(x) for x in ([1.0], [2.0, 3.0], [4.0])]
        model.go.set()
        assert [future.result(PATIENCE)["y"].tolist() for future in futures] == [[2.0], [4.0, 6.0], [8.0]]
    assert [asked.tolist() for asked in model.asked] == [[0.0], [1.0, 2.0, 3.0, 4.0]]


def test_a_batch_is_no_larger_than_allowed_and_padded_to_an_allowed_size() -> None:
    model = Model()
    with batcher(max_batch_size=4, allowed_sizes=(2, 4)) as made:
        crowd = Crowd(made, model)
        futures = [crowd.ask(x) for x in ([1.0, 2.0, 3.0], [4.0, 5.0], [6.0])]
        model.go.set()
        assert [future.result(PATIENCE)["y"].tolist() for future in futures] == [[2.0, 4.0, 6.0], [8.0, 10.0], [12.0]]
    assert [asked.tolist() for asked in model.asked] == [[0.0, 0.0], [1.0, 2.0, 3.0, 1.0], [4.0, 5.0, 6.0, 4.0]]


def test_a_full_queue_refuses_and_a_task_larger_than_a_batch_too() -> None:
    model = Model()
    with batcher(max_batch_size=2, max_enqueued_batches=1) as made:
        crowd = Crowd(made, model)
        waiting = crowd.ask([1.0, 2.0])
        with pytest.raises(ServingError, match=r"The batch scheduling queue .* is full") as full:
            crowd.ask([3.0]).result(PATIENCE)
        with pytest.raises(ServingError, match="Task size 3 is larger than maximum input batch size 2"):
            crowd.ask([1.0, 2.0, 3.0]).result(PATIENCE)
        model.go.set()
        assert waiting.result(PATIENCE)["y"].tolist() == [2.0, 4.0]
    assert full.value.code is Code.UNAVAILABLE


def test_a_request_that_makes_its_batch_fail_fails_alone() -> None:
    model = Model()
    with batcher() as made:
        crowd = Crowd(made, model)
        good, bad = crowd.ask([1.0]), crowd.ask([13.0])
        model.go.set()
        assert good.result(PATIENCE)["y"].tolist() == [2.0]
        with pytest.raises(ServingError, match="13 is no good"):
            bad.result(PATIENCE)


def test_a_request_whose_deadline_passes_in_the_queue_is_not_run() -> None:
    model = Model()
    with batcher() as made:
        crowd = Crowd(made, model)
        with pytest.raises(ServingError, match="deadline") as late:
            crowd.ask([1.0], monotonic() + 0.02).result(PATIENCE)
        model.go.set()
        crowd.first.result(PATIENCE)
    assert late.value.code is Code.DEADLINE_EXCEEDED
    assert [asked.tolist() for asked in model.asked] == [[0.0]]


def test_a_running_request_is_waited_for_beyond_its_deadline() -> None:
    model = Model()
    with batcher() as made, ThreadPoolExecutor(1) as pool:
        feeds = {"x": np.array([1.0], np.float32)}
        for deadline in (0.02, 0.2, 2, 20):  # on a busy machine it may pass before the request runs
            late = pool.submit(made.run, "signature", feeds, model, monotonic() + deadline)
            if model.begun.acquire(timeout=deadline):
                break
        with pytest.raises(TimeoutError):
            late.result(2 * deadline)
        model.go.set()
        assert late.result(PATIENCE)["y"].tolist() == [2.0]


def test_a_lone_request_waits_for_company_only_so_long() -> None:
    model = Model()
    model.go.set()
    with batcher(timeout_seconds=0.05) as made:
        began = monotonic()
        made.run("signature", {"x": np.array([1.0], np.float32)}, model)
        assert monotonic() - began >= 0.05


def test_rows_of_different_shape_do_not_meet_unless_they_may_be_padded() -> None:
    model = Model()
    with batcher() as made:
        crowd = Crowd(made, model)
        futures = [crowd.ask(x) for x in ([[1.0, 2.0]], [[3.0]])]
        model.go.set()
        assert [future.result(PATIENCE)["y"].tolist() for future in futures] == [[[2.0, 4.0]], [[6.0]]]
    assert [asked.tolist() for asked in model.asked] == [[0.0], [[1.0, 2.0]], [[3.0]]]

    model = Model()
    with batcher(pad_variable_lengths=True) as made:
        crowd = Crowd(made, model)
        futures = [crowd.ask(x) for x in ([[1.0, 2.0]], [[3.0]])]
        model.go.set()
        assert [future.result(PATIENCE)["y"].tolist() for future in futures] == [[[2.0, 4.0]], [[6.0, 6.0]]]
    assert [asked.tolist() for asked in model.asked] == [[0.0], [[1.0, 2.0], [3.0, 3.0]]]


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({"x": np.float32(1)}, "at least one dimension"),
        ({}, "at least one dimension"),
        ({"x": np.zeros(2), "z": np.zeros(3)}, "equal 0th-dimension size"),
    ],
)
def test_inputs_without_a_common_batch_cannot_be_batched(feeds: Feeds, words: str) -> None:
    with batcher() as made, pytest.raises(ServingError, match=words):
        made.run("signature", {name: np.asarray(array) for name, array in feeds.items()}, Model())


def test_outputs_without_a_row_for_each_input_cannot_be_batched() -> None:
    def total(feeds: Feeds) -> Answer:
        return {"sum": feeds["x"].sum()}

    with batcher() as made, pytest.raises(ServingError, match="cannot be served with --enable_batching"):
        made.run("signature", {"x": np.zeros(2)}, total)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"max_batch_size": 0}, "at least 1"),
        ({"timeout_seconds": -1.0}, "at least 0"),
        ({"max_batch_size": 8, "allowed_sizes": (4, 2, 8)}, "ascending order"),
        ({"max_batch_size": 8, "allowed_sizes": (2, 4)}, "last entry was 4; expected 8"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ServingError, match=words):
        Parameters(**wrong)  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 12), max_size=5), max_size=20), st.integers(5, 9), st.integers(1, 3))
def test_however_requests_meet_everyone_gets_the_answer_to_his_own(
    requests: list[list[int]], most: int, threads: int
) -> None:
    model = Model()
    model.go.set()
    parameters = {"max_batch_size": most, "allowed_sizes": (2, most), "threads": threads, "max_enqueued_batches": 100}
    with batcher(timeout_seconds=0.001, **parameters) as made, ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(made.run, "k", {"x": np.array(x, np.float32)}, model) for x in requests]
        for x, future in zip(requests, futures, strict=True):
            assert future.result(PATIENCE)["y"].tolist() == [2 * value for value in x]
