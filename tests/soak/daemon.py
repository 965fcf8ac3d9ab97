"""The daemon under a supervisor's care, and every process that comes of it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ctd.api.unixsocket import NoDaemon, Refused, get
from tests.soak.history import History
from tests.soak.project import Project

CTD = str(Path(sys.executable).with_name("ctd"))
_SUBREAPER = 36
# As root, but bound by permissions like anybody else; and gone when the run is gone, however it went.
_BOUND = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--pdeathsig=KILL"]
_STOPPING = 90.0  # seconds that an end may take on a busy machine
_YOUNG = 20.0  # seconds during which a process without a parent may be on its way out


def bound_by_permissions() -> bool:
    """Whether a folder that is closed is closed to the daemon."""
    if os.geteuid() != 0:
        return True
    return bool(shutil.which("setpriv")) and subprocess.run([*_BOUND, "true"], check=False).returncode == 0


def adopt_orphans() -> None:
    """Make this process the parent of whatever its daemons leave behind: so nothing gets out of sight."""
    ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0)


@dataclass(frozen=True)
class Said:
    """What `ctd status --json` said."""

    code: int
    text: str
    view: Mapping[str, Any]

    def states(self) -> dict[str, str]:
        return {p["pipeline"]: p["state"] for p in self.view.get("pipelines", ())}

    def names(self, *words: str) -> bool:
        return any(word in self.text.lower() for word in words)


class Supervisor:
    """Starts it, ends it, and starts it again where it ended by itself, which is a violation."""

    def __init__(self, project: Project, history: History, rescan: str = "10s") -> None:
        self._project = project
        self._history = history
        self._rescan = rescan
        self._bound = _BOUND if os.geteuid() == 0 and bound_by_permissions() else []
        self._process: subprocess.Popen[bytes] | None = None
        self._others: list[subprocess.Popen[bytes]] = []
        self._lonely: dict[int, float] = {}  # processes without a parent, and since when
        self.environ: dict[str, str] = {}  # besides, from the next start on
        self.starts = 0
        self.during = "calm"  # which fault is there

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def start(self) -> None:
        self._process = self.another()
        self.starts += 1
        self._history.note("daemon started", pid=self.pid, environ=self.environ)

    def another(self) -> subprocess.Popen[bytes]:
        """One more `ctd run` on the same state directory."""
        command = [*self._bound, CTD, "run", "--log-format", "json", "--parallel", "3", *self._project.flags()]
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environ |= {"CTD_RESCAN": self._rescan, **self.environ}
        with self._project.log.open("ab") as log:
            started = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environ, cwd=self._project.root
            )
        self._others.append(started)
        return started

    def settle_on(self, patience: float) -> None:
        """Where several were started: go on with the one that is left. It is a violation if more than one are."""
        until = time.monotonic() + patience
        while len(left := [p for p in self._others if p.poll() is None]) > 1 and time.monotonic() < until:
            time.sleep(0.1)
        if len(left) > 1:
            self._history.violated("I4", f"{len(left)} daemons work on one state directory after {patience:.0f} s")
            for one in left:  # what two have done to a state directory only a start puts right
                one.kill()
                one.wait()
            self.start()
        elif left and left[0] is not self._process:
            self._process = left[0]
            self.starts += 1
            self._history.note("daemon replaced", pid=self.pid)

    def kill(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
            self._history.note("daemon killed", pid=self.pid)

    def stop(self) -> None:
        """As systemd would. It has to leave in peace, and in time."""
        if self._process is None or self._process.poll() is not None:
            return
        began = time.monotonic()
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(_STOPPING)
        except subprocess.TimeoutExpired:
            self._history.violated("D", f"the daemon was still there {_STOPPING:.0f} s after SIGTERM")
            self.kill()
            return
        self._history.measured("seconds to stop", time.monotonic() - began)
        if code != 0:
            self._history.note("daemon ended", code=code, log=self._tail())
            self._history.violated("D", f"told to stop, the daemon ended with code {code}: {self.during}")

    def tend(self) -> None:
        """Start it again where it ended by itself, as systemd would."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self._history.note("daemon ended", code=code, log=self._tail())
            self._history.violated("D", f"the daemon ended by itself with code {code}: {self.during}")
            time.sleep(1)
            self.start()

    def ask(self, url: str, patience: float = 10) -> Any:
        """The answer on the socket; nothing where nobody answers."""
        with contextlib.suppress(NoDaemon, Refused):
            return get(self._project.state / "ctd.sock", url, patience)
        return None

    def answers(self, patience: float = 20.0) -> bool:
        """Whether it gives an answer within that time."""
        until = time.monotonic() + patience
        while self.ask("/status") is None:
            if time.monotonic() >= until:
                return False
            time.sleep(0.1)
        return True

    def status(self, state: Path | None = None) -> Said:
        """`ctd status --json`, as people's scripts ask it."""
        command = [CTD, "status", "--json", *self._project.flags(state)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        except subprocess.TimeoutExpired:
            return Said(-1, "no answer within 120 s", {})
        try:
            view = json.loads(done.stdout)
        except ValueError:
            view = {}
        return Said(done.returncode, done.stdout + done.stderr, view)

    def request(self, verb: str, *arguments: str) -> bool:
        """Ask as people do; whether it was recorded."""
        flags = ["--state", str(self._project.state), "--specs", str(self._project.specs)]
        command = [CTD, verb, *arguments, *flags]
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            self._history.note("request", verb=verb, arguments=arguments, code=done.returncode, said=done.stderr[-200:])
            return done.returncode == 0
        return False

    def insist(self, verb: str, *arguments: str) -> None:
        """Ask until it is recorded."""
        until = time.monotonic() + _STOPPING
        while not self.request(verb, *arguments):
            self.tend()
            if time.monotonic() > until:
                self._history.violated("I12", f"`ctd {verb}` was not taken for {_STOPPING:.0f} s")
                return
            time.sleep(1)

    def tree(self) -> list[psutil.Process]:
        """The daemon's template and workers."""
        return _children(self.pid)

    def alive(self) -> frozenset[int]:
        """Every process that came of a daemon, this one's or an earlier one's."""
        return frozenset(p.pid for p in _children(os.getpid()))

    def left(self) -> list[str]:
        """The same for people."""
        return [said(p) for p in _children(os.getpid())]

    def orphans(self) -> list[str]:
        """Processes of an earlier daemon that are still there although they had time to go."""
        known = {p.pid for p in self._others}
        lonely = {p.pid: p for p in _children(os.getpid(), recursive=False) if p.pid not in known}
        now = time.monotonic()
        self._lonely = {pid: self._lonely.get(pid, now) for pid in lonely}
        return [said(lonely[pid]) for pid, since in self._lonely.items() if now - since > _YOUNG]

    def size(self) -> tuple[float, int]:
        """Megabytes and descriptors of the daemon; zeros while there is none."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            return process.memory_info().rss / 1e6, process.num_fds()
        return 0.0, 0

    def end_all(self) -> None:
        """Leave nothing behind, whatever happened."""
        for one in self._others:
            if one.poll() is None:
                one.kill()
                one.wait()
        for child in _children(os.getpid()):
            with contextlib.suppress(psutil.Error):
                child.kill()

    def bury(self) -> None:
        """Take note of the dead, as init would."""
        known = {p.pid for p in self._others}
        for child in _children(os.getpid(), recursive=False):
            with contextlib.suppress(psutil.Error, ChildProcessError):
                if child.pid not in known and child.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(child.pid, os.WNOHANG)

    def _tail(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._project.log.read_text(errors="replace").splitlines()[-40:]
            told = [line for line in lines if "Error" in line or '"level":"error"' in line.replace(" ", "")]
            return "its log ends: " + " | ".join((told or lines)[-3:])[-700:]
        return "its log cannot be read"


def said(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"pid {process.pid} ({' '.join(process.cmdline())[:80] or process.name()}, {process.status()})"
    return f"pid {process.pid}"


def _children(pid: int, *, recursive: bool = True) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=recursive)
    return []


@contextlib.contextmanager
def frozen(processes: list[psutil.Process]) -> Iterator[None]:
    """Stopped, and then let go on."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.resume()
