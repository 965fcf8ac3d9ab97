"""The daemon's end of a warm template: start it, ask it for workers, rest after it failed."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from ctd.core.failpoints import fp
from ctd.core.timing import Clock, backoff
from ctd.engine.template import PACKET
from ctd.observability import Event

log = logging.getLogger("ctd.engine")


class WarmTemplate:
    """At most one process at a time. All methods are called from the executor's thread."""

    def __init__(self, what: tuple[str, ...], log: Path, env: Mapping[str, str], lifeline: int, clock: Clock) -> None:
        self._program, self.name, *self._more = what
        self.whole = False  # whether it has imported all it is to have
        self.broken = ""  # why it never will
        self.grew = 0.0  # monotonic: when it was started, or had a stage of its imports ready
        self.since = 0.0  # monotonic: when it was started, or was last asked
        self.log = log
        self.channel: socket.socket | None = None
        self._env = env
        self._lifeline = lifeline
        self._clock = clock
        self._ready: set[str] = set()
        self._failures = 0
        self._rest_until = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None

    @property
    def resting(self) -> bool:
        """It failed lately: workers start fresh meanwhile."""
        return not self.alive and self._clock.monotonic() < self._rest_until

    def ready_for(self, profile: str) -> bool:
        """Whether it has the libraries of a profile. One that it has no stage for wants all there are."""
        return self.whole or profile in self._ready

    def start(self) -> socket.socket:
        """Start the process; it says `ready` on the returned socket for each stage of its imports."""
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            self._fail()
            raise
        said = (self.name, str(theirs.fileno()), str(self._lifeline), *self._more)
        command = [sys.executable, "-m", self._program, *said]
        try:
            fp("template.start")
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with theirs, self.log.open("wb") as output:
                self._process = subprocess.Popen(  # noqa: S603  our own interpreter and module
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd="/",
                    env=dict(self._env),
                    start_new_session=True,
                    pass_fds=(theirs.fileno(), self._lifeline),
                )
        except OSError:
            ours.close()
            theirs.close()
            self._fail()
            raise
        self.channel, self.since = ours, self._clock.monotonic()
        self.grew = self.since
        return ours

    def ask(self, execution: int, job: Path, log: Path) -> None:
        """Ask for a worker. If the template is gone, `receive` will say so."""
        self.since = self._clock.monotonic()
        if self.channel is not None:
            with contextlib.suppress(OSError):
                self.channel.send(json.dumps({"id": execution, "job": str(job), "log": str(log)}).encode())

    def receive(self) -> Mapping[str, Any] | None:
        """The next message; None when the template has ended."""
        try:
            packet = self.channel.recv(PACKET) if self.channel else b""
        except OSError:
            packet = b""
        if not packet:
            return None
        message: dict[str, Any] = json.loads(packet)
        if "ready" in message:
            self._ready.add(message["ready"])
            self.whole, self.grew, self._failures = bool(message["whole"]), self._clock.monotonic(), 0
        elif "broken" in message:
            self.broken = f"it cannot import what profile {message['broken']} needs: {message['error']}"
            self._complain(self.broken)
        return message

    def end(self, failure: str = "") -> None:
        """Kill it and forget it; after a failure it rests, longer each time."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self.channel is not None:
            self.channel.close()
        self._process, self.channel, self.whole, self.broken = None, None, False, ""
        self._ready.clear()
        if failure:
            self._complain(failure)
            self._fail()

    def _complain(self, failure: str) -> None:
        log.warning(Event.WORKERS.value, extra={"template": self.name, "error": failure, "log": str(self.log)})

    def _fail(self) -> None:
        self._failures += 1
        rest = backoff(self._failures, first=timedelta(seconds=10), most=timedelta(minutes=10))
        self._rest_until = self._clock.monotonic() + rest.total_seconds()
