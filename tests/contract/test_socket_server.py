"""The daemon's socket among many clients, slow ones and odd ones: whoever asks properly is answered soon."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import resource
import socket as sockets
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ctd.api.app import application
from ctd.api.models import ProblemView, StatusView, View
from ctd.api.requests import RequestForm
from ctd.api.server import SocketServer, most_connections
from ctd.api.unixsocket import get, listens
from ctd.observability import Event

PATIENCE = 60.0
SHORT = timedelta(seconds=0.3)  # for who does not go on


class Clerk:
    """Knows a status of some length, and nothing else."""

    def __init__(self) -> None:
        self.length = 0

    def status(self, pipeline: str | None) -> View:
        return StatusView(
            daemon=None, pipelines=[], problems=[ProblemView(file="/x", line=1, message="x" * self.length)]
        )

    def take(self, form: RequestForm, who: str) -> View:
        raise NotImplementedError


@pytest.fixture
def clerk() -> Clerk:
    return Clerk()


@pytest.fixture
def path(tmp_path: Path, clerk: Clerk) -> Iterator[Path]:
    place = tmp_path / "ctd.sock"
    server = SocketServer(application(clerk), place, SHORT)  # type: ignore[arg-type] # the rest is not asked for
    server.start()
    yield place
    server.stop()


def connected(path: Path) -> sockets.socket:
    client = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    client.settimeout(PATIENCE)
    client.connect(str(path))
    return client


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def is_cut_off(client: sockets.socket) -> bool:
    """Whether the server ends the connection, however long that takes."""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while client.recv(1 << 16):
            pass
    return True


def test_four_hundred_idle_connections_starve_nobody(tmp_path: Path, clerk: Clerk) -> None:
    path = tmp_path / "ctd.sock"
    server = SocketServer(application(clerk), path, timedelta(hours=1))  # type: ignore[arg-type]
    server.start()
    with contextlib.ExitStack() as stack:
        get(path, "/status")
        before = descriptors()
        for number in range(400):
            stack.enter_context(connected(path))
            if number % 50 == 0:
                assert get(path, "/status")["pipelines"] == []
        ours = before + 400
        until = time.monotonic() + PATIENCE
        while descriptors() > ours + most_connections():
            assert time.monotonic() < until, "it holds them all"
            time.sleep(0.01)
        for _ in range(5):
            assert get(path, "/status")["pipelines"] == []
    server.stop()


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET /status HTTP/1.1\r\nHost: x\r\n", id="half a head"),
        pytest.param(b"POST /requests HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{", id="half a body"),
        pytest.param(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n", id="a request, and then silence"),
    ],
)
def test_who_says_no_more_is_cut_off(path: Path, said: bytes) -> None:
    with connected(path) as client:
        client.sendall(said)
        assert is_cut_off(client)


def test_who_says_its_request_byte_by_byte_is_cut_off(path: Path) -> None:
    with connected(path) as client:
        until = time.monotonic() + PATIENCE
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(b"GET /status HTTP/1.1\r\n")
            while time.monotonic() < until:
                client.sendall(b"X: y\r\n")
                time.sleep(0.1)
            pytest.fail("it could go on for ever")


def test_who_does_not_fetch_its_answer_is_cut_off(path: Path, clerk: Clerk) -> None:
    clerk.length = 10_000_000
    with connected(path) as client:
        client.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        held = descriptors()
        until = time.monotonic() + PATIENCE
        while descriptors() == held:
            assert time.monotonic() < until, "the connection stays"
            time.sleep(0.05)


def test_a_long_answer_is_fetched_whole_by_who_is_slow_but_steady(path: Path, clerk: Clerk) -> None:
    clerk.length = 3_000_000
    with connected(path) as client:
        client.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        said = 0
        while part := client.recv(50_000):
            said += len(part)
            time.sleep(0.01)
    assert said > clerk.length


def test_a_body_without_end_is_refused_and_not_kept(path: Path) -> None:
    with connected(path) as client:
        client.sendall(b"POST /requests HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        sent = 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < 500_000_000:
                client.sendall(bytes(100_000))
                sent += 100_000
                if sent == 200_000:
                    assert client.recv(12) == b"HTTP/1.1 400"
                time.sleep(0.01)
            pytest.fail("it could go on for ever")
    assert get(path, "/status")["pipelines"] == []


def test_one_connection_serves_many_requests(path: Path) -> None:
    connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
    connection.sock = connected(path)
    for _ in range(200):
        connection.request("GET", "/status")
        assert connection.getresponse().read()


def test_a_complaint_that_repeats_is_one_line(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without descriptors each accept fails, and each used to be a traceback."""
    with caplog.at_level(logging.WARNING, "ctd"):
        for _ in range(20):
            with connected(path) as client:
                client.sendall(b"no HTTP at all\r\n\r\n")
                assert is_cut_off(client)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.ExitStack() as stack:
            waiting = stack.enter_context(sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM))
            resource.setrlimit(resource.RLIMIT_NOFILE, (_lowest_free(), limits[1]))
            try:
                waiting.connect(str(path))
                until = time.monotonic() + PATIENCE
                while len(complaints(caplog)) < 2:
                    assert time.monotonic() < until, "it does not say why it answers nobody"
                    time.sleep(0.05)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            waiting.settimeout(PATIENCE)
            waiting.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")
            assert waiting.recv(12) == b"HTTP/1.1 200", "it goes on when there are descriptors again"
    invalid, open_files = complaints(caplog)
    assert "Invalid HTTP request received." in invalid
    assert "Too many open files" in open_files


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [str(vars(r)["because"]) for r in caplog.records if r.getMessage() == Event.SOCKET.value]


def _lowest_free() -> int:
    free = os.dup(0)
    os.close(free)
    return free


def test_a_socket_that_was_removed_is_made_anew(tmp_path: Path, clerk: Clerk) -> None:
    place = tmp_path / "ctd.sock"
    server = SocketServer(application(clerk), place)  # type: ignore[arg-type] # the rest is not asked for
    server.start()
    with connected(place) as before:
        place.unlink()
        assert not listens(place)
        assert server.tend() is None
        assert get(place, "/status")["pipelines"] == []
        assert is_cut_off(before)
    place.unlink()
    place.mkdir()
    assert isinstance(server.tend(), IsADirectoryError)
    place.rmdir()
    assert server.tend() is None
    assert get(place, "/status")["pipelines"] == []
    server.stop()
    assert not place.exists()


def test_the_socket_of_a_daemon_that_came_after_stays(tmp_path: Path, clerk: Clerk) -> None:
    place = tmp_path / "ctd.sock"
    old, new = (SocketServer(application(clerk), place) for _ in range(2))  # type: ignore[arg-type]
    old.start()
    new.start()
    old.stop()
    assert get(place, "/status")["pipelines"] == []
    new.stop()


def test_a_full_queue_is_no_missing_daemon(tmp_path: Path) -> None:
    """Unix sockets refuse at once where TCP would wait."""
    place = tmp_path / "ctd.sock"
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM))
        busy.bind(str(place))
        busy.listen(0)
        stack.enter_context(connected(place))
        assert listens(place)
