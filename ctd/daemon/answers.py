"""Answers of the running daemon, whatever its loop does: while it starts, while it is busy, while its store is away."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from ctd.api.lineage import LineageQuery
from ctd.api.models import DaemonView, StatusView, View
from ctd.api.requests import RequestForm
from ctd.core.errors import StoreUnavailable, TemporaryError
from ctd.core.timing import format_duration
from ctd.core.troubles import Fault, Trouble, TroubleKind
from ctd.daemon.ancestry import retention_view
from ctd.daemon.controller import Controller
from ctd.daemon.inbox import Inbox
from ctd.daemon.troubles import Troubles, trouble_views
from ctd.daemon.views import Views

T = TypeVar("T")

_PATIENCE = timedelta(seconds=30)  # with the loop, which alone may read history
_STATUS_PATIENCE = timedelta(seconds=8)  # then what was said last is better than nothing
_GC_PATIENCE = timedelta(minutes=10)  # many files may have to go


class NotNow(TemporaryError):
    """The daemon cannot do it at the moment, and has not done it."""


@dataclass(frozen=True)
class AtWork:
    """What there is to ask once the daemon has started."""

    views: Views
    inbox: Inbox
    controller: Controller


class Answers:
    """Called by the threads of the socket. Each question waits for the loop."""

    def __init__(self, troubles: Troubles, starting: DaemonView) -> None:
        self._troubles = troubles
        self._starting = starting
        self.patience = _PATIENCE
        self._at_work: AtWork | None = None
        self._last = StatusView(daemon=self._starting, pipelines=[])

    def begin(self, views: Views, inbox: Inbox, controller: Controller) -> None:
        """The daemon has started."""
        self._at_work = AtWork(views, inbox, controller)

    def status(self, pipeline: str | None) -> View:
        if self._at_work is None:
            return StatusView(daemon=self._starting, pipelines=[], troubles=trouble_views(self._troubles.now()))
        try:
            said = self._asked(lambda at: at.views.status(pipeline), min(_STATUS_PATIENCE, self.patience))
        except NotNow:
            return self._said_last(pipeline)
        self._last = said if pipeline is None else self._last
        return said

    def _said_last(self, pipeline: str | None) -> StatusView:
        """What was said last, and that it is old."""
        assert self._at_work is not None  # noqa: S101 - for the type checker
        busy = self._at_work.controller.busy_for()
        because = f"it has been busy with one step for {format_duration(busy)}: what is said of pipelines may be old"
        hint = "If it lasts, `kill -USR1` writes to its log where it hangs; a disk or mount may not answer."
        now = self._troubles.now()
        fault = Fault(TroubleKind.BUSY, f"daemon {self._starting.pid}", because, hint)
        found = (*now, Trouble(fault, self._at_work.controller.now() - busy))
        known = [p for p in self._last.pipelines if pipeline in (None, p.pipeline)]
        return self._last.model_copy(update={"pipelines": known, "troubles": trouble_views(found)})

    def plan(self, pipeline: str) -> View:
        return self._asked(lambda at: at.views.plan(pipeline))

    def explain(self, pipeline: str, node: str | None, execution: int | None = None) -> View:
        return self._asked(lambda at: at.views.explain(pipeline, node, execution))

    def times(self, pipeline: str, execution: int | None = None) -> View:
        return self._asked(lambda at: at.views.times(pipeline, execution))

    def execution(self, number: int) -> View:
        return self._asked(lambda at: at.views.execution(number))

    def lineage(self, pipeline: str, asked: LineageQuery) -> View:
        return self._asked(lambda at: at.views.lineage(pipeline, asked))

    def removable(self, pipeline: str) -> View:
        return self._asked(lambda at: at.views.removable(pipeline))

    def collect(self, pipeline: str) -> View:
        def removed(at: AtWork) -> View:
            spec = at.views.known(pipeline)
            found = at.controller.collect(spec)
            return retention_view(spec, found, at.views.history, removed=True)

        try:
            return self._asked(removed, _GC_PATIENCE)
        except StoreUnavailable as error:
            raise NotNow(f"not all was removed: {error.message}", hint=f"{error.hint} Then ask again.") from error

    def take(self, form: RequestForm, who: str) -> View:
        """Raises NotNow where nothing was recorded, and nothing will be."""
        return self._asked(lambda at: at.inbox.take(form, who))

    def _asked(self, question: Callable[[AtWork], T], patience: timedelta | None = None) -> T:
        at, patience = self._at_work, patience or self.patience
        if at is None:
            raise NotNow("nothing can be asked or done yet: the daemon is starting", hint=self._why())
        future = at.controller.ask(lambda: question(at))
        try:
            return future.result(timeout=patience.total_seconds())
        except TookTooLong:
            if not future.cancel():  # it has begun: nobody else can say how it ends
                return future.result()
            raise NotNow(
                f"the daemon had no time for that within {format_duration(patience)}; nothing was done",
                hint=self._why(),
            ) from None

    def _why(self) -> str:
        now = self._troubles.now()
        if not now:
            return "It is very busy: ask again in a moment."
        return f"{now[0].fault.place}: {now[0].fault.because}. {now[0].fault.hint} Then ask again."
