"""Requests over the daemon's socket: who asks is what the kernel says, and nonsense is refused with what to do."""

from __future__ import annotations

import json
import os
import pwd
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctd.api.app import application
from ctd.api.models import RequestsView, RequestView, StatusView, View
from ctd.api.requests import RequestForm
from ctd.api.server import SocketServer
from ctd.api.unixsocket import Refused, get, listens, post
from ctd.core.errors import CtdError, NotFound, NotPossible, StoreUnavailable

PAUSE = {"verb": "pause", "pipeline": "taxi", "node": "trainer", "reason": "disk is full"}
BACKFILL = {"verb": "backfill", "pipeline": "taxi", "first": "3", "last": "5", "order": "oldest", "again": True}


class Clerk:
    """Takes everything, or raises what it is told to."""

    def __init__(self) -> None:
        self.taken: list[tuple[RequestForm, str]] = []
        self.raises: CtdError | None = None

    def status(self, pipeline: str | None) -> View:
        return StatusView(daemon=None, pipelines=[])

    def take(self, form: RequestForm, who: str) -> View:
        if self.raises:
            raise self.raises
        self.taken.append((form, who))
        view = RequestView(request=7, verb=form.verb, pipeline=form.pipeline, node=form.node, who=who, at="now")
        return RequestsView(requests=[view])

    def plan(self, pipeline: str) -> View:
        raise NotImplementedError

    def explain(self, pipeline: str, node: str | None, execution: int | None = None) -> View:
        raise NotImplementedError

    def execution(self, number: int) -> View:
        raise NotImplementedError


@pytest.fixture
def clerk() -> Clerk:
    return Clerk()


@pytest.fixture
def socket(tmp_path: Path, clerk: Clerk) -> Iterator[Path]:
    path = tmp_path / "ctd.sock"
    server = SocketServer(application(clerk), path)
    server.start()
    while not listens(path):
        time.sleep(0.01)
    yield path
    server.stop()


def test_a_request_is_taken_in_the_name_of_whoever_connects(socket: Path, clerk: Clerk) -> None:
    answer = post(socket, "/requests", json.dumps(PAUSE))
    (request,) = RequestsView.model_validate(answer).requests
    assert (request.request, request.node) == (7, "trainer")
    (taken,) = clerk.taken
    assert taken == (RequestForm(**PAUSE), pwd.getpwuid(os.getuid()).pw_name)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        pytest.param(b"", "EOF", id="nothing"),
        pytest.param(b"[1, 2]", "object", id="no object"),
        pytest.param(b"\xff\xfe{}", "Invalid JSON", id="no text"),
        pytest.param({"verb": "stop", "pipeline": "taxi"}, "verb: Input should be 'accept'", id="verb"),
        pytest.param({"verb": "pause"}, "it needs a `pipeline`", id="no pipeline"),
        pytest.param({**PAUSE, "who": "root"}, "who: Extra inputs", id="somebody else's name"),
        pytest.param({**PAUSE, "reason": "a\x1b[31m"}, "cannot be shown", id="terminal codes"),
        pytest.param({**PAUSE, "reason": 7}, "reason: Input should be a valid string", id="type"),
        pytest.param({**PAUSE, "again": True}, "run-now", id="again"),
        pytest.param({**PAUSE, "execution": 3}, "takes no `execution`", id="execution"),
        pytest.param({**PAUSE, "span": "3"}, "goes with accept", id="span"),
        pytest.param({"verb": "accept", "pipeline": "taxi", "span": "3"}, "a `reason`", id="no reason"),
        pytest.param({"verb": "accept", "pipeline": "taxi", "span": "3", "reason": " "}, "a `reason`", id="blank"),
        pytest.param({"verb": "retry", "pipeline": "taxi"}, "needs a `node` or an `execution`", id="retry"),
        pytest.param({"verb": "cancel", "execution": 0}, "greater than or equal to 1", id="number"),
        pytest.param({"verb": "approve", "pipeline": "taxi"}, "needs a `node`", id="approve"),
        pytest.param({**PAUSE, "last": "3"}, "go with backfill", id="last"),
        pytest.param({**PAUSE, "order": "oldest"}, "go with backfill", id="order"),
        pytest.param({**BACKFILL, "order": "random"}, "order: Input should be", id="no order"),
        pytest.param({**BACKFILL, "first": ""}, "'' is no span", id="no first"),
        pytest.param({**BACKFILL, "last": "4.v2"}, "'4.v2' is no span", id="a version"),
        pytest.param({**BACKFILL, "last": "2026-09-31"}, "'2026-09-31' is no span", id="no day"),
        pytest.param({**BACKFILL, "last": "2"}, "before it begins at 3: swap them", id="backwards"),
        pytest.param({**PAUSE, "reason": "x" * 3000}, "at most 2000", id="long reason"),
        pytest.param({**PAUSE, "reason": "x" * 300_000}, "at most 16384 bytes", id="large body"),
    ],
)
def test_nonsense_is_refused_with_a_hint(socket: Path, clerk: Clerk, said: Any, why: str) -> None:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    with pytest.raises(Refused) as refused:
        post(socket, "/requests", body)
    assert why in refused.value.message
    assert refused.value.hint
    assert clerk.taken == []
    assert get(socket, "/status")["pipelines"] == [], "and it goes on answering"


@pytest.mark.parametrize(
    ("raised", "seen"), [(NotFound, NotFound), (NotPossible, NotPossible), (StoreUnavailable, Refused)]
)
def test_errors_arrive_with_their_kind_and_hint(
    socket: Path, clerk: Clerk, raised: type[CtdError], seen: type[CtdError]
) -> None:
    clerk.raises = raised("it cannot be", hint="do this")
    with pytest.raises(seen, match="it cannot be") as error:
        post(socket, "/requests", json.dumps(PAUSE))
    assert error.value.hint == "do this"


def test_requests_are_posted_and_never_got(socket: Path, clerk: Clerk) -> None:
    with pytest.raises(Refused, match="405"):
        get(socket, "/requests")
    assert clerk.taken == []
