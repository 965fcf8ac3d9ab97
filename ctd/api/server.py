"""The server behind the daemon's socket: bounded in connections, in time, and in what it complains of."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import threading
import time
from datetime import timedelta
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from ctd.api.unixsocket import listening, peer
from ctd.observability import Event

log = logging.getLogger("ctd.api")

_MOST = 64  # connections; the daemon itself needs descriptors too
_SHARE = 8  # or this part of its descriptors
_PATIENCE = timedelta(seconds=5)  # for a whole request, or for the next one, or for an answer to be fetched
_EVERY = 60.0  # seconds between two lines with the same complaint
_KINDS = 100  # of complaints that are remembered


class BoundedConnections(H11Protocol):
    """Connections whose `client` is the user at the other end, of which there are never many.

    Who does not say in time what it wants, or does not fetch its answer, is cut off. Where there are too many, one more
    takes the place of the one that has been idle for longest.
    """

    patience = _PATIENCE

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self.client = (peer(transport.get_extra_info("socket")), 0)
        self._cut_off: asyncio.TimerHandle | None = None
        self.idle_since = self.loop.time()
        self._be_impatient()
        there = [c for c in self.connections if isinstance(c, BoundedConnections) and not c.transport.is_closing()]
        if len(there) > most_connections():
            idle = (c for c in there if not c.at_work)  # this one at least
            min(idle, key=lambda c: c.idle_since).transport.abort()

    @property
    def at_work(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.at_work and not self.cycle.more_body:  # it has said all
            self._be_patient()

    def on_response_complete(self) -> None:
        self.idle_since = self.loop.time()
        self._be_impatient()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._be_impatient()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.at_work:
            self._be_patient()

    def connection_lost(self, exc: Exception | None) -> None:
        self._be_patient()
        super().connection_lost(exc)

    def _be_impatient(self) -> None:
        self._be_patient()
        unfetched = self.transport.get_write_buffer_size()
        self._cut_off = self.loop.call_later(self.patience.total_seconds(), self._give_up, unfetched)

    def _give_up(self, unfetched: int) -> None:
        """Unless it has fetched some of its answer since."""
        if self.transport.get_write_buffer_size() < unfetched:
            self._be_impatient()
        else:
            self.transport.abort()

    def _be_patient(self) -> None:
        if self._cut_off is not None:
            self._cut_off.cancel()
        self._cut_off = None


def most_connections() -> int:
    """How many there may be at a time."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(2, min(_MOST, descriptors // _SHARE)) if descriptors != resource.RLIM_INFINITY else _MOST


class Complaints(logging.Handler):
    """What asyncio and uvicorn have to say becomes one line of ctd's log, and a repeated complaint one each minute."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: dict[str, tuple[float, int]] = {}  # when it was said last, and how often it was not since

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        what = record.getMessage().partition("\n")[0]
        ours = error is not None and not isinstance(error, OSError)  # a traceback helps whoever mends it
        because = f"{what}: {error}" if error and not ours else what
        now, (last, unsaid) = time.monotonic(), self._said.get(because, (-_EVERY, 0))
        if now - last < _EVERY:
            self._said[because] = last, unsaid + 1
            return
        if len(self._said) >= _KINDS:
            self._said.clear()
        self._said[because] = now, 0
        fields = {"because": because, **({"repeated": unsaid} if unsaid else {})}
        log.warning(Event.SOCKET.value, extra=fields, exc_info=record.exc_info if ours else None)


class SocketServer:
    """Serves the application on a unix socket, for its owner and group, in a thread of its own."""

    def __init__(self, app: Starlette, path: Path, patience: timedelta = _PATIENCE) -> None:
        self._app = app
        self._path = path
        self._connections = type("Connections", (BoundedConnections,), {"patience": patience})
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._bound: tuple[int, int] | None = None

    def start(self) -> None:
        """Listen. Raises OSError."""
        error = self.tend()
        if error is not None:
            raise error

    def tend(self) -> OSError | None:
        """Listen, also if the socket was removed or its thread has ended; what keeps it from that.

        Whoever calls holds the state's lock, so the socket of another daemon is never taken.
        """
        if self._bound is not None and self._identity() == self._bound and self._thread and self._thread.is_alive():
            return None
        try:
            listener = listening(self._path)
        except OSError as error:
            return error
        self._end()
        self._bound = self._identity()
        config = uvicorn.Config(
            self._app,
            http=self._connections,
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            backlog=most_connections(),  # asyncio accepts as many at once, and complains of each that fails
            timeout_graceful_shutdown=2,
        )
        for name in ("uvicorn.error", "asyncio"):
            logger = logging.getLogger(name)
            logger.handlers[:] = [Complaints()]
            logger.propagate = False
            logger.setLevel(logging.WARNING)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="api", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # the system has no thread left
            listener.close()
            return OSError(errno.EAGAIN, str(error))
        return None

    def stop(self) -> None:
        self._end()
        if self._thread:
            self._thread.join(timeout=5)
        if self._bound is not None and self._identity() == self._bound:  # not that of a daemon that came after
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _end(self) -> None:
        """Have the present server finish what it has begun, in its own time."""
        if self._server is not None:
            self._server.should_exit = True

    def _identity(self) -> tuple[int, int] | None:
        with contextlib.suppress(OSError):
            found = self._path.lstat()
            return found.st_dev, found.st_ino
        return None
