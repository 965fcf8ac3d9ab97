"""The start and end of the daemon's process: signals, and what systemd wants to hear."""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

# Fatal unless somebody handles them, and without a use here (SIGUSR1: where there is no stderr). They get a handler and
# are not ignored, which workers would inherit. In the background of a terminal the daemon goes on (SIGTTIN, SIGTTOU);
# Ctrl-Z (SIGTSTP) still holds it.
_OF_NO_USE = (
    "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPWR", "SIGSTKFLT", "SIGXCPU", "SIGTTIN",
    "SIGTTOU",
)  # fmt: skip


class Stop:
    """Set once by the first SIGTERM; a second one asks to hurry."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.asked = threading.Event()
        self.hurry = threading.Event()
        self._wake = wake

    def __call__(self, _signum: int = 0, _frame: FrameType | None = None) -> None:
        (self.hurry if self.asked.is_set() else self.asked).set()
        self._wake()

    def at_once(self, _signum: int = 0, _frame: FrameType | None = None) -> None:
        """Stop, and hurry."""
        self.hurry.set()
        self.asked.set()
        self._wake()


@contextlib.contextmanager
def signals(stop: Stop, reload: Callable[[], None]) -> Iterator[None]:
    """What each signal that would end a process does to the daemon; the former handlers return afterwards.

    SIGTERM and SIGINT stop it, SIGQUIT at once; SIGHUP reads the specs again; SIGUSR1 says on stderr where each
    thread is, also while the main one hangs. So do SIGABRT (systemd's watchdog) and crashes. What else could end it is
    passed over; SIGPIPE and SIGXFSZ are ignored by Python.
    """
    wanted: dict[int, Callable[[int, FrameType | None], None]] = {
        signal.SIGTERM: stop,
        signal.SIGINT: stop,
        signal.SIGQUIT: stop.at_once,
        signal.SIGHUP: lambda _signum, _frame: reload(),
    }
    wanted |= dict.fromkeys(_of_no_use(), _pass_over)
    former = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        with _stacks_on_request():
            yield
    finally:
        for number, handler in former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: it was not Python's


def _of_no_use() -> Iterator[int]:
    yield from (getattr(signal, name) for name in _OF_NO_USE if hasattr(signal, name))
    yield from range(signal.SIGRTMIN, signal.SIGRTMAX + 1)


def _pass_over(_signum: int, _frame: FrameType | None) -> None:
    """Nothing."""


@contextlib.contextmanager
def _stacks_on_request() -> Iterator[None]:
    """Have a thread write the stacks of all threads at SIGUSR1, and a crash its own, where there is a stderr.

    `faulthandler.register` would write them within the signal's handler, without the interpreter's lock: it follows
    the frames of threads that end meanwhile, and crashes. A thread holds the lock, and needs no main thread that is
    free to run handlers: Python tells of a signal through the wake-up descriptor at once.
    """
    try:
        faulthandler.enable(sys.stderr)
    except (AttributeError, OSError, ValueError):  # stderr is closed, or no file
        yield
        return
    heard, told = socket.socketpair()
    told.setblocking(False)
    former = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    writer = threading.Thread(target=_write_stacks, args=(heard,), name="stacks", daemon=True)
    writer.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(former)
        told.close()
        writer.join()


def _write_stacks(heard: socket.socket) -> None:
    with heard:
        while numbers := heard.recv(64):
            if signal.SIGUSR1 in numbers:
                with contextlib.suppress(OSError, ValueError):
                    faulthandler.dump_traceback(sys.stderr, all_threads=True)


class Notifier:
    """Tells systemd how it goes (sd_notify); does nothing where nobody listens."""

    def __init__(self, address: str) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._status = ""

    def say(self, **fields: str) -> None:
        """For instance `say(READY="1", STATUS="3 pipelines")`."""
        if not self._address:
            return
        text = "\n".join(f"{key}={value}" for key, value in fields.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(text.encode(), self._address)

    def status(self, said: str) -> None:
        """Say how it goes, if it has changed."""
        if said != self._status:
            self._status = said
            self.say(STATUS=" ".join(said.split()))
