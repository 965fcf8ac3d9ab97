"""Where answers come from: the daemon if one runs, else its state directory, which is only read."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlencode

from ctd.api.lineage import LineageQuery, LineageView, ModelDiffView, ReachView, RetentionView
from ctd.api.models import ExecutionView, ExplainView, PlanView, RequestsView, StatusView
from ctd.api.requests import RequestForm
from ctd.api.times import TimesView
from ctd.api.unixsocket import Refused, get, listens, post
from ctd.daemon.offline import reading
from ctd.specs.settings import Settings
from ctd.storage.layout import StateDir

_GC_PATIENCE = 610
_PATIENCE = 35  # seconds; the daemon gives up on itself after 30


class Answers(Protocol):
    """What commands ask. Raises NotFound for a pipeline, node or execution that is not there."""

    def status(self, pipeline: str | None = None) -> StatusView: ...
    def plan(self, pipeline: str) -> PlanView: ...
    def explain(self, pipeline: str, node: str | None = None, execution: int | None = None) -> ExplainView: ...
    def times(self, pipeline: str, execution: int | None = None) -> TimesView: ...
    def execution(self, number: int) -> ExecutionView: ...
    def lineage(self, pipeline: str, asked: LineageQuery) -> LineageView | ReachView | ModelDiffView: ...
    def removable(self, pipeline: str) -> RetentionView: ...


class Daemon:
    """Answers of the running daemon. Raises NoDaemon if there is none, Refused if it cannot answer."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def status(self, pipeline: str | None = None) -> StatusView:
        asked = "?" + urlencode({"pipeline": pipeline}) if pipeline is not None else ""
        return StatusView.model_validate(get(self._socket, f"/status{asked}", _PATIENCE))

    def plan(self, pipeline: str) -> PlanView:
        return PlanView.model_validate(get(self._socket, f"/plan/{_part(pipeline)}", _PATIENCE))

    def explain(self, pipeline: str, node: str | None = None, execution: int | None = None) -> ExplainView:
        path = "/".join(_part(name) for name in (pipeline, node) if name is not None)
        asked = f"?execution={execution}" if execution is not None else ""
        return ExplainView.model_validate(get(self._socket, f"/explain/{path}{asked}", _PATIENCE))

    def times(self, pipeline: str, execution: int | None = None) -> TimesView:
        asked = f"?execution={execution}" if execution is not None else ""
        return TimesView.model_validate(get(self._socket, f"/times/{_part(pipeline)}{asked}", _PATIENCE))

    def execution(self, number: int) -> ExecutionView:
        return ExecutionView.model_validate(get(self._socket, f"/executions/{number}", _PATIENCE))

    def lineage(self, pipeline: str, asked: LineageQuery) -> LineageView | ReachView | ModelDiffView:
        shape = ReachView if asked.span is not None else (ModelDiffView if asked.before else LineageView)
        said = urlencode(asked.model_dump(exclude_defaults=True))
        return shape.model_validate(get(self._socket, f"/lineage/{_part(pipeline)}?{said}", _PATIENCE))

    def removable(self, pipeline: str) -> RetentionView:
        return RetentionView.model_validate(get(self._socket, f"/gc/{_part(pipeline)}", _PATIENCE))

    def collect(self, pipeline: str) -> RetentionView:
        """Have the daemon remove what need not stay."""
        return RetentionView.model_validate(post(self._socket, f"/gc/{_part(pipeline)}", "", _GC_PATIENCE))

    def take(self, form: RequestForm) -> RequestsView:
        """Have the daemon take a request. Raises NotPossible for what makes no sense as things are."""
        return RequestsView.model_validate(post(self._socket, "/requests", form.model_dump_json(), _PATIENCE))


@contextlib.contextmanager
def answers(settings: Settings) -> Iterator[Answers]:
    """The daemon of the settings' state directory; without one, what the directory and the specs say."""
    logging.getLogger("ctd").addHandler(logging.NullHandler())  # what matters is in the answers
    socket = StateDir(settings.state).socket
    if listens(socket):
        yield Daemon(socket)
    else:
        with reading(settings) as views:
            yield views


def pipelines(source: Answers, pipeline: str | None = None) -> StatusView:
    """The status of a daemon that knows its pipelines. Raises Refused while it is starting."""
    view = source.status(pipeline)
    if view.daemon is not None and view.daemon.starting:
        why = [f"{t.place}: {t.because}. {t.hint}" for t in view.troubles[:1]]
        raise Refused("the daemon is starting and knows no pipelines yet", hint=" ".join([*why, "Then ask again."]))
    return view


def _part(name: str) -> str:
    return quote(name, safe="") or "%20"
