"""A warm template: a process that has imported the libraries and forks workers on request.

Started by the executor as `python -m ctd.engine.template NAME SOCKET LIFELINE`. It imports and does nothing else: a
TensorFlow that has run one op cannot be forked. It imports in stages, and forks as soon as a stage is in for those who
need no more: the first node does not wait for the libraries of the last. Requests and replies are JSON, one per packet
of the socket.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from json import dumps, loads
from pathlib import Path
from typing import NoReturn

from ctd.core.failpoints import arm, fp
from ctd.core.forking import op_has_run, thread_count
from ctd.core.quick_import import UNUSED, quick_import
from ctd.engine import processes
from ctd.engine.exits import COULD_NOT_BEGIN, NEVER_BEGAN, code_for
from ctd.engine.worker import work


@dataclass(frozen=True)
class Stage:
    """What executions of a profile need beyond the stages before: the components, with the libraries they import."""

    profile: str
    modules: tuple[str, ...]


# One template has everything: its most modest useful part has TensorFlow, which is most of it in time and memory. What
# others import too stands by itself: between two imports it sees to workers.
TEMPLATES = {
    "all": (
        Stage("read", ("ctd.specs.nodes", "tensorflow", "ctd.components.importer", "ctd.components.example_gen")),
        Stage(
            "data",
            ("ctd.components.statistics_gen", "ctd.components.schema_gen", "ctd.components.example_validator"),
        ),
        Stage("train", ("ctd.components.transform", "ctd.components.trainer", "keras", "tf_keras")),
        Stage(
            "evaluate",
            (
                "scipy.stats",
                "tensorflow_model_analysis",
                "tensorflow_serving.apis.model_service_pb2_grpc",
                "tensorflow_serving.apis.prediction_service_pb2_grpc",
                "ctd.components.evaluator",
                "ctd.components.infra_validator",
                "ctd.serving.server",  # what infra_validator forks
                "ctd.components.pusher",
                "ctd.components.verdict",
                "ctd.components.canary",
            ),
        ),
    ),
    "light": (Stage("light", ("ctd.specs.nodes",)),),
}
PACKET = 65536


class Unfit(Exception):
    """Forking this process would give workers that hang."""


def main(templates: Mapping[str, Sequence[Stage]]) -> NoReturn:
    name, control, lifeline = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    arm(sys.argv[4] if len(sys.argv) > 4 else "")
    processes.hold_lifeline(lifeline)
    processes.adopt_orphans()
    processes.call_me(f"ctd {name}")
    gc.disable()  # this process makes no garbage worth looking for
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # noqa: TID251  as in every worker
    with socket.socket(fileno=control) as channel:
        Nursery(channel, lifeline).serve(templates[name])
    os._exit(0)


@dataclass(frozen=True)
class Spare:
    """A worker that has been forked and has not been told yet what to do."""

    pid: int
    watch: int
    channel: socket.socket

    def wake(self, packet: bytes) -> tuple[int, int]:
        """Tell it. One that is gone is buried as a worker that left no outcome, and its attempt made again."""
        with self.channel, contextlib.suppress(OSError):
            self.channel.send(packet)
        return self.pid, self.watch


class Nursery:
    """Forks workers, tells how they end, and lets nothing outlive them."""

    def __init__(self, channel: socket.socket, lifeline: int) -> None:
        self._channel = channel
        self._lifeline = lifeline
        self._own_lifeline, self._held = os.pipe()  # its workers end with it, even before the daemon knows of them
        self._threads = thread_count()  # after the imports so far
        self._workers: dict[int, int] = {}  # pid to pidfd
        self._selector = selectors.DefaultSelector()
        self._open = True
        self._whole = False
        self._spare: Spare | None = None

    def serve(self, stages: Sequence[Stage]) -> None:
        """Until the daemon closes the socket or is gone. An import that fails before anything can be forked raises."""
        self._selector.register(self._channel, selectors.EVENT_READ, self._hear)
        began = time.monotonic()
        for stage in stages:
            try:
                self._grow(stage)
            except Exception as error:
                if stage is stages[0]:
                    raise
                traceback.print_exc()
                self._say(broken=stage.profile, error=f"{type(error).__name__}: {error}"[:500])
                break
            seconds = round(time.monotonic() - began, 3)
            self._say(ready=stage.profile, whole=int(stage is stages[-1]), seconds=seconds)
        else:
            self._whole = True
            self._prepare()
        while self._open:
            self._attend(None)
        for pid in (*self._workers, *((self._spare.pid,) if self._spare else ())):
            processes.signal_group(pid, signal.SIGKILL)

    def _grow(self, stage: Stage) -> None:
        """Import what the stage has; between two modules, see to workers of the stages before."""
        for module in stage.modules:
            with quick_import(() if module == "keras" else UNUSED):  # its backend may be one of these
                importlib.import_module(module)
            self._threads = thread_count()
            self._check()
            self._attend(0)

    def _attend(self, timeout: float | None) -> None:
        while events := self._selector.select(timeout) if self._open else []:
            for key, _ in events:
                key.data()
            timeout = 0

    def _hear(self) -> None:
        packet = self._channel.recv(PACKET)
        if not packet:
            self._close()
            return
        execution = loads(packet)["id"]
        try:
            pid, watch = self._fork(packet) if self._spare is None else self._wake(self._spare, packet)
        except OSError as error:  # no process, descriptor or memory is left: the others work on
            self._say(id=execution, refused=error.errno or 0)
            return
        self._say(id=execution, pid=pid)
        self._workers[pid] = watch
        self._selector.register(watch, selectors.EVENT_READ, partial(self._bury, execution, pid))
        self._prepare()

    def _wake(self, spare: Spare, packet: bytes) -> tuple[int, int]:
        self._spare = None
        pid, watch = spare.wake(packet)
        self._selector.unregister(watch)
        return pid, watch

    def _prepare(self) -> None:
        """Fork the next worker before it is asked for: the copy of so large a process takes 20 to 50 ms.

        Where the machine refuses, it is forked when it is asked for.
        """
        if self._whole and self._spare is None:
            with contextlib.suppress(OSError):
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    self._spare = spare = self._spared(theirs, ours)
                self._selector.register(spare.watch, selectors.EVENT_READ, partial(self._lose, spare))

    def _spared(self, theirs: socket.socket, ours: socket.socket) -> Spare:
        try:
            return Spare(*self._fork((theirs, ours)), ours)
        except OSError:
            ours.close()
            raise

    def _lose(self, spare: Spare) -> None:
        """It was killed, for instance by who thought it too large: the next worker is forked when asked for."""
        if self._spare is spare:
            self._selector.unregister(spare.watch)
            os.close(spare.watch)
            spare.channel.close()
            os.waitpid(spare.pid, 0)
            self._spare = None

    def _fork(self, told: bytes | tuple[socket.socket, socket.socket]) -> tuple[int, int]:
        """A worker that does what it is told, at once or by a socket, of which the other end is not its own.

        Gives its pid and pidfd. Raises Unfit, OSError.
        """
        self._check()
        gc.freeze()  # a collection in the worker would otherwise touch, and so copy, every page
        fp("template.fork")
        pid = os.fork()
        if pid == 0:
            self._become_worker(told)
        try:
            fp("template.watch")
            return pid, os.pidfd_open(pid)
        except OSError:
            processes.signal_group(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise

    def _become_worker(self, told: bytes | tuple[socket.socket, socket.socket]) -> NoReturn:
        try:
            os.setsid()
            os.close(self._held)
            processes.hold_lifeline(self._own_lifeline)
            self._selector.close()
            self._channel.close()
            for watch in self._workers.values():
                os.close(watch)
            packet = told if isinstance(told, bytes) else _waited_for(told)
            if packet:
                asked = loads(packet)
                fp("template.log")
                output = os.open(asked["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
                os.dup2(output, 1)
                os.dup2(output, 2)
                os.close(output)
                gc.enable()
                work(Path(asked["job"]), self._lifeline)
        except OSError as error:
            os._exit(code_for(COULD_NOT_BEGIN, error))
        finally:
            os._exit(NEVER_BEGAN)  # work() could not even begin; the traceback is in the template's log

    def _bury(self, execution: int, pid: int) -> None:
        # Kill the group while the dead leader still holds its number, so that it cannot be anyone else's.
        processes.signal_group(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        watch = self._workers.pop(pid)
        self._selector.unregister(watch)
        os.close(watch)
        self._kill_strays()
        self._say(id=execution, status=os.waitstatus_to_exitcode(status))

    def _kill_strays(self) -> None:
        """Children nobody forked here lost their parent to make a session of their own: a dead worker's.

        Where descriptors have run out they are found when the next worker ends.
        """
        own = {*self._workers, *((self._spare.pid,) if self._spare else ())}
        with contextlib.suppress(OSError):
            fp("template.strays")
            while strays := processes.children() - own:
                for pid in strays:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)

    def _say(self, **message: str | float) -> None:
        try:
            self._channel.send(dumps(message).encode())
        except OSError:
            self._close()

    def _close(self) -> None:
        self._open = False

    def _check(self) -> None:
        """Raises Unfit, which ends the template with the reason in its log."""
        if thread_count() > self._threads:
            raise Unfit(f"{thread_count()} threads run, {self._threads} after the imports")
        if op_has_run():
            raise Unfit("TensorFlow's eager context is initialised: an import ran an op")


def _waited_for(told: tuple[socket.socket, socket.socket]) -> bytes:
    """What a spare worker is told; nothing if its template is gone."""
    own, other = told
    other.close()
    with own:
        return own.recv(PACKET)


if __name__ == "__main__":
    main(TEMPLATES)
