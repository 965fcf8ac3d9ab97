"""The REST face: TensorFlow Serving's HTTP API on starlette and uvicorn."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote

import orjson
import uvicorn
from google.protobuf import json_format
from starlette.datastructures import Headers
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    regression_pb2,
)

from ctd.serving import examples, inference, json_answers, json_codec, rpc
from ctd.serving.errors import Code, ServingError, invalid
from ctd.serving.hub_pages import HubPages
from ctd.serving.loader import Servable
from ctd.serving.metrics import CONTENT_TYPE, Metrics
from ctd.serving.models import Models
from ctd.serving.visit import Visit

_MODEL = r"/v1/models(?:/(?P<name>[^/:]+))?(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_CALL = re.compile(_MODEL + r":(?P<method>classify|regress|predict)", re.IGNORECASE)
_LOOK = re.compile(_MODEL + r"(?:/(?P<metadata>metadata))?", re.IGNORECASE)
_LARGEST_VERSION = 2**63 - 1
_LARGEST_BODY = 2**30
_WORTH_PACKING = 1400  # bytes; what fits into one packet gets no faster
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Content-Encoding, Authorization",
}


@dataclass(frozen=True)
class Wish:
    """Which version of which model a URL means."""

    name: str
    version: int | None
    label: str

    def fill(self, spec: Any) -> None:
        """Say the same in a ModelSpec."""
        spec.name = self.name
        if self.version is not None:
            spec.version.value = self.version
        elif self.label:
            spec.version_label = self.label


@dataclass(frozen=True)
class Offers:
    """What the REST port answers beside the models' own API, and within which limits."""

    threads: int
    timeout_seconds: float
    cors: bool = False
    metrics: Metrics | None = None
    metrics_path: str = ""
    hub: HubPages | None = None


class Api:
    """Routes requests and turns every end into JSON. Model calls run in threads of their own."""

    def __init__(self, models: Models[Servable], offers: Offers) -> None:
        self._models = models
        self._offers = offers
        self._threads = ThreadPoolExecutor(offers.threads, thread_name_prefix="rest")
        self._calls: dict[str, tuple[str, Callable[[Visit, Wish, bytes], bytes]]] = {
            "predict": ("Predict", self._predict),
            "classify": ("Classify", self._classify),
            "regress": ("Regress", self._regress),
        }

    def app(self) -> ASGIApp:
        """The ASGI application."""
        return ServerErrorMiddleware(self._application, handler=_internal_error)

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await asyncio.wait_for(self._respond(request), self._offers.timeout_seconds)
        except ServingError as error:
            response = _error(error.code.http_status, error.message)
        except asyncio.TimeoutError:  # not the builtin one before Python 3.11
            code = Code.DEADLINE_EXCEEDED
            text = f"the request took longer than {self._offers.timeout_seconds:g} seconds"
            response = _error(code.http_status, text)
        except ClientDisconnect:
            response = _error(Code.CANCELLED.http_status, "the client went away")
        if self._offers.cors:
            response.headers.update(_CORS)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode("latin-1")
        if path.lower().startswith("/v1/"):
            if request.method == "OPTIONS" and self._offers.cors and "origin" in request.headers:
                return Response()
            work = self._work(request.method, path)
            body = await _body(request)
            in_thread = partial(_answered, work, body, request.headers)
            return await asyncio.get_running_loop().run_in_executor(self._threads, in_thread)
        if request.method in ("GET", "HEAD"):
            return await self._page(request, path)
        return _error(404, "Not Found")

    async def _page(self, request: Request, path: str) -> Response:
        """What is shown outside the API: metrics and the hub."""
        if self._offers.metrics and path == self._offers.metrics_path:
            return Response(self._offers.metrics.page(), media_type=CONTENT_TYPE)
        if self._offers.hub is None:
            return _error(404, "Not Found")
        tags = request.headers.get("if-none-match", "")
        work = partial(self._offers.hub.answer, path, request.url.query, tags)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _work(self, verb: str, path: str) -> Callable[[bytes], bytes]:
        """What to do for a verb and a path."""
        if verb == "POST" and (match := _CALL.fullmatch(path)):
            (api, call), wish = self._calls[match["method"].lower()], _wish(match)
            visit = Visit(api, "REST", self._offers.timeout_seconds, self._offers.metrics)
            return partial(_visited, visit, call, wish)
        if verb == "GET" and (match := _LOOK.fullmatch(path)):
            look, wish = self._metadata if match["metadata"] else self._status, _wish(match)
            return lambda _body: look(wish)
        raise invalid(f"Malformed request: {verb} {path}")

    def _predict(self, visit: Visit, wish: Wish, text: bytes) -> bytes:
        body = json_codec.parse_predict(text)
        with self._models.lease(wish.name, wish.version, wish.label) as lease:
            servable = visit.of(lease.servable, lease.model)
            signature = inference.find_signature(
                servable, body.signature, 'Serving signature name: "{}" not found in signature def'
            )
            feeds = json_codec.tensors(body, signature.inputs)
            outputs = servable.run(signature, feeds)
        return json_answers.encode_predict(outputs, body.format)

    def _classify(self, visit: Visit, wish: Wish, text: bytes) -> bytes:
        request = classification_pb2.ClassificationRequest()
        _fill_examples(request, wish, text)
        with self._models.lease(wish.name, wish.version, wish.label) as lease:
            servable = visit.of(lease.servable, lease.model)
            result = inference.classify(servable, lease.version, request).result
        rows = [[[c.label, c.score] for c in row.classes] for row in result.classifications]
        return json_answers.encode({"results": json_answers.shortest(rows)})

    def _regress(self, visit: Visit, wish: Wish, text: bytes) -> bytes:
        request = regression_pb2.RegressionRequest()
        _fill_examples(request, wish, text)
        with self._models.lease(wish.name, wish.version, wish.label) as lease:
            servable = visit.of(lease.servable, lease.model)
            result = inference.regress(servable, lease.version, request).result
        return json_answers.encode({"results": json_answers.shortest([r.value for r in result.regressions])})

    def _status(self, wish: Wish) -> bytes:
        request = get_model_status_pb2.GetModelStatusRequest()
        wish.fill(request.model_spec)
        return _as_json(rpc.status(self._models, request.model_spec))

    def _metadata(self, wish: Wish) -> bytes:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        wish.fill(request.model_spec)
        with self._models.lease(wish.name, wish.version, wish.label) as lease:
            response = inference.metadata(lease.servable, lease.version, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        spec = orjson.loads(_as_json(response.model_spec))
        return orjson.dumps(
            {"model_spec": spec, "metadata": {"signature_def": orjson.loads(_as_json(signatures))}},
            option=orjson.OPT_INDENT_2,
        )


def _visited(visit: Visit, call: Callable[[Visit, Wish, bytes], bytes], wish: Wish, body: bytes) -> bytes:
    with visit:
        return call(visit, wish, body)


def _answered(work: Callable[[bytes], bytes], body: bytes, headers: Headers) -> Response:
    """The answer to a request of the API, packed if it is worth it and the client can take it."""
    answer = work(_unpacked(body, headers.get("content-encoding", "identity").lower()))
    if len(answer) < _WORTH_PACKING or "gzip" not in headers.get("accept-encoding", ""):
        return Response(answer, media_type="application/json")
    packing = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    # Level 1 costs little and takes most of what there is to take from numbers.
    return Response(gzip.compress(answer, 1, mtime=0), media_type="application/json", headers=packing)


async def _body(request: Request) -> bytes:
    """The body of a request; one that is too large is refused before it fills the memory."""
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > _LARGEST_BODY:
            raise _too_large()
    return b"".join(parts)


def _unpacked(body: bytes, packing: str) -> bytes:
    if packing == "identity":
        return body
    if packing != "gzip":
        raise invalid(f"Content-Encoding {packing} is not supported, only gzip")
    unpacking = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacking.decompress(body, _LARGEST_BODY)
    except zlib.error as error:
        raise invalid(f"the body is not gzip: {error}") from error
    if unpacking.unconsumed_tail:
        raise _too_large()
    if not unpacking.eof:
        raise invalid("the body is not gzip: it ends too early")
    return unpacked


def _too_large() -> ServingError:
    return invalid(f"the body of a request may have at most {_LARGEST_BODY} bytes")


def _wish(match: re.Match[str]) -> Wish:
    if not match["name"]:
        raise invalid("Missing model name in request.")
    version = _number(match["version"]) if match["version"] else None
    return Wish(unquote(match["name"]), version, unquote(match["label"] or ""))


def _number(digits: str) -> int:
    significant = digits.lstrip("0") or "0"
    # Counted first, because Python refuses to read thousands of digits.
    if len(significant) > len(str(_LARGEST_VERSION)) or int(significant) > _LARGEST_VERSION:
        raise invalid(f"Failed to convert version: {digits} to numeric.")
    return int(significant)


def _fill_examples(request: Any, wish: Wish, text: bytes) -> None:
    document = json_codec.parse_object(text)
    wish.fill(request.model_spec)
    request.model_spec.signature_name = json_codec.signature_of(document)
    examples.fill_input(document, request.input)


def _as_json(message: Any) -> bytes:
    text: str = json_format.MessageToJson(
        message, including_default_value_fields=True, preserving_proto_field_name=True
    )
    return text.encode()


def _error(status: int, message: str) -> Response:
    return Response(orjson.dumps({"error": message}), status_code=status, media_type="application/json")


async def _internal_error(_request: Request, error: Exception) -> Response:
    """A bug of the server: told in JSON like every other error; uvicorn logs its traceback."""
    return _error(Code.INTERNAL.http_status, f"internal error: {type(error).__name__}")


class Server:
    """uvicorn in a thread, on a socket that is bound before it starts, so that its port is known."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # asyncio only turns Nagle's 40 ms off on sockets that name their protocol.
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise invalid(f"cannot listen on {host}:{port} for REST: {error}") from error
        self.port: int = self._socket.getsockname()[1]
        settings = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=10,
            # Clients keep connections; one that is closed on them while they ask again is a lost request.
            timeout_keep_alive=600,
        )
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="rest", daemon=True
        )

    def start(self) -> None:
        """Answer from now on: the socket queues connections until uvicorn takes them."""
        self._socket.listen(2048)
        self._thread.start()

    def stop(self) -> None:
        """Finish what is being answered and close the port."""
        self._server.should_exit = True
        self._thread.join(15)
