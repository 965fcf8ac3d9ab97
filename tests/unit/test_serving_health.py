"""The health service: who asks gets an answer, who watches hears of the end, and nobody who watches costs a thread."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from ctd.serving.health import Health

PATIENCE = 100.0
SERVING, NOT_SERVING, UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"
Served = tuple[Health, Any, Any]


@pytest.fixture
def served() -> Iterator[Served]:
    """The service behind one thread, and a channel to it."""
    health, server = Health(), grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((health.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        yield health, server, channel
    server.stop(None).wait(PATIENCE)


def check(channel: Any, service: bytes = b"") -> Any:
    return channel.unary_unary("/grpc.health.v1.Health/Check")(service, timeout=PATIENCE)


def watch(channel: Any, service: bytes = b"") -> Any:
    return channel.unary_stream("/grpc.health.v1.Health/Watch")(service, timeout=PATIENCE)


def test_many_who_watch_leave_the_one_thread_to_those_who_ask(served: Served) -> None:
    _, _, channel = served
    watching = [watch(channel) for _ in range(5)]
    assert [next(each) for each in watching] == [SERVING] * 5
    assert check(channel) == SERVING
    for each in watching:
        each.cancel()
    assert check(channel) == SERVING


def test_a_service_that_is_not_there_is_unknown_to_those_who_watch_and_not_found_to_those_who_ask(
    served: Served,
) -> None:
    _, _, channel = served
    assert next(watch(channel, b"\x0a\x01x")) == UNKNOWN
    with pytest.raises(grpc.RpcError) as unknown:
        check(channel, b"\x0a\x01x")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_end_is_told_and_nobody_who_watches_holds_it_up(served: Served) -> None:
    health, server, channel = served
    watching = [watch(channel), watch(channel, b"\x0a\x01x")]
    assert [next(each) for each in watching] == [SERVING, UNKNOWN]
    health.leave()
    assert check(channel) == NOT_SERVING
    assert list(watch(channel)) == [NOT_SERVING], "also to those who come now"
    assert server.stop(10 * PATIENCE).wait(PATIENCE)
    assert [list(each) for each in watching] == [[NOT_SERVING], []]


def test_a_long_complaint_is_cut_and_reaches_the_client(served: Served) -> None:
    _, _, channel = served
    name = ("\u20ac" * 5000).encode()
    with pytest.raises(grpc.RpcError) as unknown:
        check(channel, b"\x0a\x98\x75" + name)
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    said = unknown.value.details()
    assert said.startswith("unknown service \u20ac")
    assert said.endswith("\u20ac...TRUNCATED")
    assert len(said.encode()) <= 1024 + len("...TRUNCATED")
