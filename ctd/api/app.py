"""The daemon's answers over HTTP on its unix socket: `GET /status`, `/plan/taxi`, `/explain/taxi/trainer`, ..."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ctd.api.lineage import LineageQuery
from ctd.api.models import View
from ctd.api.requests import RequestForm
from ctd.core.errors import CtdError, NotFound, NotPossible

_MOST_BYTES = 16 * 1024  # of a request
_MOST_DIGITS = 18  # of an execution
_FORM = 'Send JSON such as {"verb": "pause", "pipeline": "taxi", "node": "trainer", "reason": "disk is full"}.'
_STATUS: Mapping[type[CtdError], int] = {NotFound: 404, NotPossible: 409}


class Answers(Protocol):
    """What the application asks of the daemon. Raises CtdError for what is not there."""

    def status(self, pipeline: str | None) -> View: ...
    def plan(self, pipeline: str) -> View: ...
    def explain(self, pipeline: str, node: str | None, execution: int | None = None) -> View: ...
    def times(self, pipeline: str, execution: int | None = None) -> View: ...
    def execution(self, number: int) -> View: ...
    def lineage(self, pipeline: str, asked: LineageQuery) -> View: ...
    def removable(self, pipeline: str) -> View: ...
    def collect(self, pipeline: str) -> View: ...
    def take(self, form: RequestForm, who: str) -> View: ...


def application(answers: Answers) -> Starlette:
    """Answers, and requests taken; who may connect is decided by the socket's permissions."""

    def route(path: str, made: Callable[[Request], View], method: str = "GET") -> Route:
        async def endpoint(request: Request) -> Response:
            return await run_in_threadpool(_respond, lambda: made(request))

        return Route(path, endpoint, methods=[method])

    async def take(request: Request) -> Response:
        said = bytearray()
        try:
            async for part in request.stream():
                said += part
                if len(said) > _MOST_BYTES:
                    return _wrong(f"a request has at most {_MOST_BYTES} bytes", "Say less in `reason`.")
        except ClientDisconnect:  # half a request is none
            return _wrong("the request ended in its middle", _FORM)
        try:
            form = RequestForm.model_validate_json(bytes(said))
        except ValidationError as error:
            return _wrong("; ".join(map(_complaint, error.errors())), _FORM)
        who = request.client.host if request.client else "someone"
        return await run_in_threadpool(_respond, lambda: answers.take(form, who))

    return Starlette(
        routes=[
            route("/status", lambda r: answers.status(r.query_params.get("pipeline"))),
            route("/plan/{pipeline}", lambda r: answers.plan(r.path_params["pipeline"])),
            route("/times/{pipeline}", lambda r: answers.times(r.path_params["pipeline"], _execution(r))),
            route("/explain/{pipeline}", lambda r: answers.explain(r.path_params["pipeline"], None, _execution(r))),
            route(
                "/explain/{pipeline}/{node}",
                lambda r: answers.explain(r.path_params["pipeline"], r.path_params["node"], _execution(r)),
            ),
            route("/lineage/{pipeline}", lambda r: answers.lineage(r.path_params["pipeline"], _lineage_query(r))),
            route("/gc/{pipeline}", lambda r: answers.removable(r.path_params["pipeline"])),
            route("/gc/{pipeline}", lambda r: answers.collect(r.path_params["pipeline"]), method="POST"),
            Route("/requests", take, methods=["POST"]),
            route("/executions/{number:int}", lambda r: answers.execution(r.path_params["number"])),
        ]
    )


def _execution(request: Request) -> int | None:
    said = request.query_params.get("execution")
    if said is None:
        return None
    if not (said.isascii() and said.isdigit() and len(said) < _MOST_DIGITS):
        raise NotFound(f"{said[:50]!r} is no execution", hint="Executions have numbers, such as 17.")
    return int(said)


def _lineage_query(request: Request) -> LineageQuery:
    try:
        return LineageQuery.model_validate(dict(request.query_params))
    except ValidationError as error:
        hint = "Ask with target, version, span, before, after or deep."
        raise NotFound("; ".join(map(_complaint, error.errors())), hint=hint) from error


def _respond(made: Callable[[], View]) -> Response:
    try:
        return Response(made().model_dump_json(), media_type="application/json")
    except CtdError as error:
        status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 503)
        return JSONResponse({"error": error.message, "hint": error.hint}, status_code=status)


def _wrong(message: str, hint: str) -> Response:
    return JSONResponse({"error": message, "hint": hint}, status_code=400)


def _complaint(error: ErrorDetails) -> str:
    """`verb: Input should be 'accept', ...`."""
    place = ".".join(map(str, error["loc"]))
    message = error["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
