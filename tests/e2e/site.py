"""A user's project in a folder of its own, with a real daemon and a real model server as child processes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from ctd.api.unixsocket import NoDaemon, get
from ctd.metadata.mlmd import MlmdStore

TAXI = Path(__file__).parents[2] / "examples/taxi"
TARGETS = ("serving", "mobile", "web", "hub")
CTD = str(Path(sys.executable).with_name("ctd"))
DAY = date(2024, 3, 1)
PATIENCE = 100.0  # seconds that anything may take on a busy machine before it counts as never


def eventually(what: str, check: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """The first truthy answer of `check`. Fails with `what` when patience is over."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        found = check()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {patience:.0f} s: {what}")


_HELD = re.compile(r"^failpoint \S+: held, pid (?P<pid>\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Held:
    """An execution that stands still, and the process that it is in."""

    place: str
    execution: int
    pid: int


def place_of(node: str, piece: str) -> str:
    """A piece of a pipeline as failpoints name it: `trainer`, `evaluator.verdict`."""
    return f"{node}.{piece}" if piece else node


@dataclass
class Daemon:
    """`ctd run` as a process; its events as they come."""

    process: subprocess.Popen[str]
    log: Path
    events: list[dict[str, Any]] = field(default_factory=list)
    _seen: threading.Condition = field(default_factory=threading.Condition)

    def read(self) -> None:
        assert self.process.stdout
        with self.log.open("a") as copy:
            for line in self.process.stdout:
                copy.write(line)
                copy.flush()
                with self._seen, contextlib.suppress(json.JSONDecodeError):
                    self.events.append(json.loads(line))
                    self._seen.notify_all()

    def wait_for(self, event: str, patience: float = PATIENCE, **fields: Any) -> dict[str, Any]:
        """The first event of the kind with these fields."""
        until = time.monotonic() + patience

        def found() -> dict[str, Any] | None:
            return next((e for e in self.events if e["event"] == event and fields.items() <= e.items()), None)

        with self._seen:
            while not (seen := found()):
                if not self._seen.wait(until - time.monotonic()) and time.monotonic() > until:
                    raise AssertionError(f"no {event!r} with {fields}; the log is {self.log}")
        return seen

    def wait_for_result(self, node: str, result: str) -> dict[str, Any]:
        """The first execution of a node that ended with a result that begins so."""

        def ended() -> dict[str, Any] | None:
            mine = (e for e in self.events if e["event"] == "execution ended" and e["node"] == node)
            return next((e for e in mine if e.get("result", "").startswith(result)), None)

        found: dict[str, Any] = eventually(f"{node}: {result}", ended)
        return found

    def kill(self) -> None:
        """As power would: at once, whatever it does."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """As systemd would."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()


@dataclass
class Site:
    """One project folder with specs, targets, module, data and state."""

    root: Path
    pipeline: str = "taxi"

    @classmethod
    def of_taxi(cls, root: Path, *targets: str) -> Site:
        """A copy of the taxi example, without data, that pushes to these targets of its: if none is named, to one."""
        ignored = shutil.ignore_patterns("data", "state", "__pycache__", *TARGETS)
        shutil.copytree(TAXI, root, ignore=ignored, dirs_exist_ok=True)
        site = cls(root)
        site.edit(site.spec, f"[{', '.join(TARGETS)}]", f"[{', '.join(targets or TARGETS[:1])}]")
        return site

    @property
    def spec(self) -> Path:
        return self.root / f"specs/{self.pipeline}.yaml"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def serving(self) -> Path:
        return self.root / "serving" / self.pipeline

    def edit(self, path: Path, old: str, new: str) -> None:
        """Replace text in a file as editors do: a new file renamed over the old."""
        text = path.read_text()
        assert old in text
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(text.replace(old, new))
        temporary.replace(path)

    @contextlib.contextmanager
    def daemon(self, *arguments: str, **environ: str) -> Iterator[Daemon]:
        """`ctd run` on this site; ended at the end, whatever happened."""
        process = subprocess.Popen(
            [CTD, "run", "--log-format", "json", *arguments, *self.places()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environ},
            cwd=self.root,
        )
        daemon = Daemon(process, self.root / "daemon.log")
        reader = threading.Thread(target=daemon.read, daemon=True)
        reader.start()
        try:
            yield daemon
        finally:
            if process.poll() is None:
                daemon.stop()
            reader.join(PATIENCE)

    def held(self, *points: str) -> dict[str, str]:
        """The environment of a daemon whose workers stand still at these failpoints, until `let_go`.

        By default all of them before their work; `name:3` is the third hit of a point.
        """
        file = self.root / "held"
        file.touch()
        named = (point.partition(":") for point in points or ("worker.before_exec",))
        said = "; ".join(f"{name}=hold({file}){colon}{hit}" for name, colon, hit in named)
        return {"CTD_TEST": "1", "CTD_FAILPOINTS": said}

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """Let the workers of a daemon with the environment `held` stand still once more, for as long as this lasts."""
        (self.root / "held").touch()
        try:
            yield
        finally:
            self.let_go()

    def let_go(self) -> None:
        (self.root / "held").unlink()

    def places(self) -> list[str]:
        return [
            *("--specs", str(self.root / "specs")),
            *("--targets", str(self.root / "deploy_targets")),
            *("--state", str(self.state)),
        ]

    def ctd(self, *arguments: str, ok: tuple[int, ...] = (0,), patience: float = PATIENCE) -> str:
        """Run a command of ctd's on this site; its standard output."""
        done = subprocess.run(
            [CTD, arguments[0], *self.places(), *arguments[1:]],
            capture_output=True,
            text=True,
            check=False,
            timeout=patience,
        )
        assert done.returncode in ok, f"{arguments} -> {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def ask(self, url: str) -> Any:
        """The daemon's answer, or nothing while it is not there yet."""
        try:
            return get(self.state / "ctd.sock", url, PATIENCE)
        except NoDaemon:
            return None

    def status(self) -> dict[str, Any]:
        """This pipeline's part of the status."""
        said = self.ask("/status")
        return next((p for p in said["pipelines"] if p["pipeline"] == self.pipeline), {}) if said else {}

    def node(self, name: str) -> dict[str, Any]:
        return next((n for n in self.status().get("nodes", ()) if n["node"] == name), {})

    def until(self, node: str, *states: str, because: str = "") -> dict[str, Any]:
        """Wait until a node is in one of the states, with the reason."""

        def there() -> dict[str, Any]:
            seen = self.node(node)
            return seen if seen.get("state") in states and because in seen.get("because", "") else {}

        return eventually(f"{node} {' or '.join(states)} because {because!r}, but {self.node(node)}", there)

    def until_live(self, version: int) -> dict[str, Any]:
        """Wait until the target has this version."""

        def there() -> dict[str, Any]:
            live = self.status().get("live") or [{}]
            return live[0] if live[0].get("version") == version else {}

        return eventually(f"version {version} is live", there)

    def versions(self) -> list[int]:
        """The numbered version directories on the target."""
        if not self.serving.is_dir():
            return []
        return sorted(int(p.name) for p in self.serving.iterdir() if p.name.isdecimal())

    def until_held(self, daemon: Daemon, places: Collection[str]) -> Held:
        """Wait until an execution of one of these pieces stands still at a failpoint."""

        def held() -> Held | None:
            ended = {e["execution"] for e in daemon.events if e["event"] == "execution ended"}
            for e in (e for e in daemon.events if e["event"] == "execution started" and e["execution"] not in ended):
                log = self.state / f"logs/{e['execution']}.log"
                said = _HELD.search(log.read_text(errors="replace")) if log.is_file() else None
                if said:
                    return Held(place_of(e["node"], e["piece"]), e["execution"], int(said["pid"]))
            assert daemon.process.poll() is None, f"the daemon has ended; its log is {daemon.log}"
            return None

        found: Held = eventually(f"one of {', '.join(places)} stands still; the log is {daemon.log}", held)
        assert found.place in places
        return found

    def executions(self) -> list[Any]:
        """What ML Metadata holds; only while no daemon runs."""
        reader = MlmdStore.open_read_only(self.state / "metadata.sqlite")
        try:
            return list(reader.executions())
        finally:
            reader.close()


@dataclass
class Server:
    """`ctd serve` as a process."""

    process: subprocess.Popen[str]
    grpc: str
    rest: str


@contextlib.contextmanager
def serving(base: Path, name: str, *flags: str) -> Iterator[Server]:
    """The embedded model server on free loopback ports."""
    base.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [
            *(CTD, "serve", "--port=0", "--rest_api_port=0"),
            *(f"--model_name={name}", f"--model_base_path={base}", "--file_system_poll_wait_seconds=1", *flags),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        ports = json.loads(process.stdout.readline())
        yield Server(process, f"127.0.0.1:{ports['grpc_port']}", f"http://127.0.0.1:{ports['rest_api_port']}")
    finally:
        process.terminate()
        process.wait(PATIENCE)
