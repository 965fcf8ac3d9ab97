"""grpc.health.v1: ports open after the first load, so a server that can be asked serves, until it is told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from ctd.serving import side_protos
from ctd.serving.errors import Code
from ctd.serving.refusals import refuse

_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3

Send = Callable[[Message | None], None]
"""Sends a message of a stream; nothing ends it."""


class Health:
    """Check, which answers once, and Watch, which also tells the change: there is one, when the server stops."""

    def __init__(self) -> None:
        self._answer = side_protos.message_class("HealthCheckResponse")
        self._services = {"", "ModelService", "PredictionService"}
        self._services |= {f"tensorflow.serving.{name}" for name in self._services if name}
        self._lock = threading.Lock()
        self._watchers: dict[Send, int] = {}  # with the status that each was told
        self._leaving = False

    def handler(self) -> Any:
        """A generic handler: the package of stubs is not installed."""
        read, write = side_protos.message_class("HealthCheckRequest").FromString, self._answer.SerializeToString
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check, read, write),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watcher(), read, write),
        }
        return grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods)

    def leave(self) -> None:
        """Tell those who watch that no more requests are taken, and end their streams: a stop must not wait."""
        with self._lock:
            self._leaving = True
            watchers, self._watchers = self._watchers, {}
        for send, told in watchers.items():
            if told == _SERVING:
                send(self._answer(status=_NOT_SERVING))
            send(None)

    def _check(self, request: Any, context: Any) -> Message:
        status = self._status(request.service)
        if status == _SERVICE_UNKNOWN:
            refuse(context, Code.NOT_FOUND, f"unknown service {request.service}")
        return self._answer(status=status)

    def _status(self, service: str) -> int:
        if service not in self._services:
            return _SERVICE_UNKNOWN
        return _NOT_SERVING if self._leaving else _SERVING

    def _watcher(self) -> Callable[..., None]:
        def watch(request: Any, context: Any, send_response_callback: Send) -> None:
            with self._lock:
                status = self._status(request.service)
                send_response_callback(self._answer(status=status))
                if self._leaving:
                    send_response_callback(None)
                else:
                    self._watchers[send_response_callback] = status
            if not context.add_callback(lambda: self._forget(send_response_callback)):
                self._forget(send_response_callback)  # the caller is gone already

        # As grpcio's own health service does it: a watcher holds no thread of the pool that answers requests.
        watch.experimental_non_blocking = True  # type: ignore[attr-defined]
        return watch

    def _forget(self, send: Send) -> None:
        with self._lock:
            self._watchers.pop(send, None)
