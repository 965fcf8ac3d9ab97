"""What people do: edits, good and bad ones, data that cannot be read, requests, signals."""

from __future__ import annotations

import contextlib
import random
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone

import psutil

from tests.soak.ground import Fault, Ground
from tests.soak.project import MAIN, SIDE, save


@contextlib.contextmanager
def signalled(ground: Ground, _dice: random.Random) -> Iterator[None]:
    """By those who mean something, and by those who mistake it for another daemon.

    Once it answers: while Python starts, nothing is there yet that could handle a signal.
    """
    if not ground.daemon.answers():
        raise OSError("it does not answer")
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH):
        psutil.Process(ground.daemon.pid).send_signal(number)
    yield


@contextlib.contextmanager
def span_spoilt(ground: Ground, _dice: random.Random) -> Iterator[None]:
    with ground.feed.spoilt():
        yield


@contextlib.contextmanager
def spec_invalid(ground: Ground, dice: random.Random) -> Iterator[None]:
    good = ground.project.spec.read_text()
    bad = dice.choice((good[: len(good) // 2] + "\n  ]", good.replace("kind: trainer", "kind: trainor"), "", "{" * 60))
    save(ground.project.spec, bad)
    try:
        yield
    finally:
        ground.project.want(ground.wanted)


@contextlib.contextmanager
def spec_refuses(ground: Ground, _dice: random.Random) -> Iterator[None]:
    """Limits that no model reaches."""
    ground.project.want(replace(ground.wanted, at_most=1e-9))
    try:
        yield
    finally:
        ground.project.want(ground.wanted)


@contextlib.contextmanager
def spec_edited(ground: Ground, dice: random.Random) -> Iterator[None]:
    ground.want(replace(ground.wanted, window=dice.choice((2, 3))))
    yield


@contextlib.contextmanager
def module_edited(ground: Ground, dice: random.Random) -> Iterator[None]:
    ground.want(replace(ground.wanted, factor=dice.choice((1.0, 1.1, 1.2))))
    yield


@contextlib.contextmanager
def paused(ground: Ground, dice: random.Random) -> Iterator[None]:
    node = dice.choice(("trainer", "transform", "pusher"))
    taken = ground.daemon.request("pause", MAIN, node, "--reason", "soak")
    yield
    if taken:
        ground.daemon.insist("resume", MAIN, node, "--reason", "soak")


@contextlib.contextmanager
def done_again(ground: Ground, dice: random.Random) -> Iterator[None]:
    node = dice.choice(("transform", "trainer", "evaluator", "statistics"))
    since = datetime.now(timezone.utc)
    ground.daemon.request("run-now", MAIN, node, "--again", "--reason", "soak")
    ground.again(node, since)
    yield


@contextlib.contextmanager
def training_cancelled(ground: Ground, _dice: random.Random) -> Iterator[None]:
    ground.daemon.request("cancel", MAIN, "trainer", "--reason", "soak")
    yield


PEOPLE: dict[str, Fault] = {
    "signalled": Fault(signalled),
    "span spoilt": Fault(span_spoilt, lasting=True, told=("trips.csv",)),
    "spec invalid": Fault(spec_invalid, lasting=True, told=("main.yaml",), spares=SIDE),
    "spec refuses": Fault(spec_refuses, lasting=True),
    "spec edited": Fault(spec_edited),
    "module edited": Fault(module_edited),
    "paused": Fault(paused, lasting=True),
    "done again": Fault(done_again),
    "training cancelled": Fault(training_cancelled),
}
