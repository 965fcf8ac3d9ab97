"""The demo's folder and processes: made fresh, and gone at the end whatever happens."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctd.api.unixsocket import NoDaemon, get
from ctd.core.errors import CtdError
from demonstration.screen import Screen
from demonstration.seen import Seen, Unexpected

TAXI = Path(__file__).parents[1] / "taxi"
TARGETS = ("serving", "mobile", "web", "hub")
FIRST_TARGETS = TARGETS[:1]  # the others come in their own act
ASK = "ask.py"
MADE_BY = ".made-by-ctd-demo"
GRACE = 20  # seconds that a process gets to end by itself
CTD = str(Path(sys.executable).with_name("ctd"))


class Stage:
    """A folder with a copy of examples/taxi, a model server and a daemon on it."""

    def __init__(self, folder: Path, screen: Screen) -> None:
        self.folder = folder.absolute()
        self.screen = screen
        self.spec = self.folder / "specs" / "taxi.yaml"
        self.daemon_log = self.folder / "daemon.log"
        self.server_log = self.folder / "serving.log"
        self.seen = Seen(self.folder, self.daemon_log, self.alive)
        self.grpc = 0
        self.rest = 0
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._logs = {"ctd run": self.daemon_log, "ctd serve": self.server_log}
        # Libraries' bytecode makes TensorFlow's import three times as quick; some shells forbid writing it.
        self._env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._env |= {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1", "no_proxy": "127.0.0.1"}
        self._env |= {"TFHUB_CACHE_DIR": str(self.folder / "hub-cache")}  # what is fetched is kept for ever
        self._direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy on the way to loopback

    def make(self) -> None:
        """A fresh folder. Only one that an earlier demo made is replaced, and only if no daemon works in it."""
        if self.folder.exists():
            if any(self.folder.iterdir()) and not (self.folder / MADE_BY).exists():
                raise CtdError(f"{self.folder} is there and was not made by a demo", hint="Name another with --dir.")
            self._refuse_if_in_use()
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        (self.folder / MADE_BY).touch()
        leave = shutil.ignore_patterns("data", "state", "__pycache__", "realdata*", "*_realdata", *TARGETS)
        shutil.copytree(TAXI, self.folder, ignore=leave, dirs_exist_ok=True)
        self.spec.write_text(self.spec.read_text().replace(f"[{', '.join(TARGETS)}]", f"[{', '.join(FIRST_TARGETS)}]"))

    def _refuse_if_in_use(self) -> None:
        try:
            pid = get(self.folder / "state" / "ctd.sock", "/status")["daemon"]["pid"]
        except (NoDaemon, FileNotFoundError, NotADirectoryError):
            return
        raise CtdError(
            f"a daemon (pid {pid}) works in {self.folder}", hint="Stop it, or name another folder with --dir."
        )

    def start_server(self) -> None:
        """`ctd serve` on free ports of the loopback, and the target told where it is."""
        base = self.folder / "serving" / "taxi"
        (self.folder / "hub").mkdir()
        flags = ["--model_name=taxi", f"--model_base_path={base}", f"--hub_path={self.folder / 'hub'}"]
        flags += ["--port=0", "--rest_api_port=0"]
        self._start("ctd serve", [CTD, "serve", *flags], self.folder / "serving.ports", self.server_log)
        ports = self._ports()
        self.grpc, self.rest = ports["grpc_port"], ports["rest_api_port"]
        target = self.folder / "deploy_targets" / "serving.yaml"
        lines = [line for line in target.read_text().splitlines() if "server:" not in line]
        target.write_text("\n".join((*lines, f"server: {{grpc: 127.0.0.1:{self.grpc}}}")) + "\n")

    @property
    def serve_command(self) -> str:
        """What a user would type to start this server, in the folder."""
        ports = f"--port={self.grpc} --rest_api_port={self.rest}"
        return f"ctd serve --model_name=taxi --model_base_path=$PWD/serving/taxi --hub_path=$PWD/hub {ports} &"

    def _ports(self) -> Mapping[str, int]:
        end = time.monotonic() + 180
        while True:
            self.alive()
            said = (self.folder / "serving.ports").read_text()
            if said.endswith("\n"):
                ports: Mapping[str, int] = json.loads(said)
                return ports
            if time.monotonic() > end:
                raise Unexpected("the model server says its ports", "nothing after 180 s", self.server_log)
            time.sleep(0.1)

    def start_daemon(self) -> None:
        """`ctd run` in the folder; what it logs can be read in daemon.log."""
        self._start("ctd run", [CTD, "run", "--log-format", "json"], self.daemon_log, self.daemon_log)
        self.seen.until("the daemon answers on its socket", self.seen.status, 120)

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def _start(self, name: str, command: Sequence[str], output: Path, errors: Path) -> None:
        with output.open("wb") as out, errors.open("ab") as err:
            self._processes[name] = subprocess.Popen(  # noqa: S603 - our own interpreter
                command,
                cwd=self.folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends them in order
            )

    def alive(self) -> None:
        """Raises Unexpected if a process has ended."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise Unexpected(f"`{name}` goes on", f"it ended with code {process.returncode}", self._logs[name])

    def stop(self) -> None:
        """End the daemon, then the server, each with its whole group; safe to call at any time."""
        for name in reversed(list(self._processes)):
            process = self._processes.pop(name)
            process.terminate()
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _kill_group(process.pid)

    def run(self, shown: str, command: Sequence[str], code: int = 0) -> None:
        """Show a command, run it with this output, and hold it to its exit code."""
        self.screen.command(shown)
        sys.stdout.flush()
        width = {} if sys.stdout.isatty() else {"COLUMNS": "100"}
        ended = subprocess.run(command, cwd=self.folder, env={**self._env, **width}, check=False)  # noqa: S603 - ours
        if ended.returncode != code:
            raise Unexpected(f"`{shown}` ends with code {code}", f"code {ended.returncode}", self.daemon_log)

    def drop(self, day: str, *flags: str, version: int = 1) -> float:
        """Generate a day of trips into data/; when it was complete, in seconds since the epoch."""
        flags = (*flags, *(("--version", str(version)) if version > 1 else ()))
        command = [sys.executable, "generate.py", "data", "--day", day, *flags]
        self.run(f"python generate.py data --day {day} {' '.join(flags)}".rstrip(), command)
        folder = self.folder / "data" / day / f"v{version}"
        marker = folder / "_SUCCESS"
        return (marker if marker.exists() else folder / "trips.csv").stat().st_mtime

    def copy(self, old: str, new: str) -> None:
        """Copy a folder as who delivers one does: under another name first, then renamed."""
        draft = f"{Path(new).parent}/.copy"
        self.screen.command(f"cp -r {old} {draft} && mv {draft} {new}")
        shutil.copytree(self.folder / old, self.folder / draft)
        (self.folder / draft).rename(self.folder / new)

    def edit(self, old: str, new: str) -> float:
        """Replace text in the spec as an editor does, and show the lines; when, in seconds since the epoch."""
        before = self.spec.read_text()
        if before.count(old) != 1:
            raise Unexpected(f"{old!r} is once in {self.spec}", f"{before.count(old)} times")
        self.screen.command(f"edit specs/taxi.yaml      # {old}  ->  {new}")
        draft = self.spec.with_name(".taxi.yaml.draft")
        draft.write_text(before.replace(old, new))
        draft.replace(self.spec)
        return time.time()

    def line_of(self, text: str) -> int:
        """The number of the line in the spec that has this text."""
        return 1 + self.spec.read_text()[: self.spec.read_text().index(text)].count("\n")

    def ask_grpc(self, day: str, count: int, *, show: bool = False, to: str = "") -> dict[str, Any]:
        """Predictions for the first trips of a day, by a gRPC client in a process of its own; in a file if named."""
        asked = [ASK, f"127.0.0.1:{self.grpc}", "taxi", "schema.pbtxt", f"data/{day}/v1/trips.csv", str(count)]
        if show:
            self.screen.command(" ".join(("python", *asked, *(("> " + to,) if to else ()))))
        command = [sys.executable, *asked]
        ended = subprocess.run(  # noqa: S603 - our own script
            command, cwd=self.folder, env=self._env, capture_output=True, check=False, timeout=180
        )
        if ended.returncode:
            raise Unexpected("the gRPC client gets an answer", ended.stderr.decode()[-2000:], self.server_log)
        if to:
            (self.folder / to).write_bytes(ended.stdout)
        answer: dict[str, Any] = json.loads(ended.stdout)
        return answer

    def ask_beside(self, commands: Mapping[str, Sequence[str]], given: str) -> dict[str, list[float]]:
        """What several programs print, all at the same time and each given the same file."""
        running, body = {}, (self.folder / given).read_bytes()
        for name, command in commands.items():
            program = "python" if command[0] == sys.executable else Path(command[0]).name
            words = (os.path.relpath(word, self.folder) if Path(word).is_absolute() else word for word in command[1:])
            self.screen.command(" ".join((program, *words, "<", given)))
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            running[name] = subprocess.Popen(command, cwd=self.folder, env=self._env, **pipes)  # noqa: S603 - ours
        ended = {name: process.communicate(body, timeout=180) for name, process in running.items()}
        for name, process in running.items():
            if process.returncode:
                raise Unexpected(f"the client of {name} gets an answer", ended[name][1].decode()[-2000:])
        return {name: json.loads(out) for name, (out, _) in ended.items()}

    def ask_rest(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        """What the server answers over REST; an HTTP error is a failed act."""
        url = f"http://127.0.0.1:{self.rest}{path}"
        try:
            with self._direct.open(urllib.request.Request(url, body), timeout=30) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            raise Unexpected(f"{url} answers", f"{error.code}: {error.read().decode()}", self.server_log) from error
        except OSError as error:
            raise Unexpected(f"{url} answers", str(error), self.server_log) from error

    def served(self) -> list[int]:
        """The versions that the server has AVAILABLE."""
        try:
            found = self.ask_rest("/v1/models/taxi")["model_version_status"]
        except Unexpected:
            return []  # it knows no version yet
        return [int(v["version"]) for v in found if v["state"] == "AVAILABLE"]


def same_float32(one: float, other: float) -> bool:
    """Whether two numbers are one and the same 32-bit float."""
    return struct.pack("f", one) == struct.pack("f", other)


def tail(path: Path, lines: int = 25) -> list[str]:
    """The last lines of a log, JSON events in short."""
    try:
        last = path.read_text(errors="replace").splitlines()[-lines:]
    except OSError as error:
        return [str(error)]
    return [re.sub(r'^\{"time": "([^"]*)", "level": "\w+", "event": ', r"\1 ", line) for line in last]


def _kill_group(pid: int) -> None:
    """What a process left behind in its group, if anything."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
