"""What the demo sees of the daemon: its event lines, its answers on the socket, and the waits until they say so."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ctd.api.unixsocket import NoDaemon, get


class Unexpected(Exception):
    """An act did not show what it claims: what was expected, what was seen, and where to read more."""

    def __init__(self, expected: str, seen: str, log: Path | None = None) -> None:
        super().__init__(expected)
        self.expected = expected
        self.seen = seen
        self.log = log


@dataclass(frozen=True)
class Run:
    """One execution, as the daemon's events tell it. Times are seconds since the epoch."""

    number: int
    node: str
    piece: str
    key: str
    because: str
    started: float
    state: str = "running"
    ended: float | None = None
    progress: str = ""
    result: str = ""

    @property
    def work(self) -> str:
        """`trainer spans 2024-03-01..2024-03-02 (2)`, `evaluator.verdict model #7`."""
        return work(self.node, self.piece, self.key)

    @property
    def seconds(self) -> float:
        return (self.ended or time.time()) - self.started


def work(node: str, piece: str, key: str) -> str:
    """A piece of work as `ctd plan` names it."""
    return f"{node}.{piece} {key.removeprefix(piece).strip()}".rstrip() if piece else f"{node} {key}".rstrip()


@dataclass
class Seen:
    """Follows the daemon that works in `folder` and logs JSON lines to `log`."""

    folder: Path
    log: Path
    alive: Callable[[], None]  # raises Unexpected when a process that should run does not
    runs: dict[int, Run] = field(default_factory=dict)
    on_change: Callable[[Run], None] | None = None
    _read: int = 0

    @property
    def last(self) -> int:
        """The number of the newest execution."""
        self.look()
        return max(self.runs, default=0)

    def since(self, number: int) -> list[Run]:
        """The executions that came after this number."""
        self.look()
        return [run for run in self.runs.values() if run.number > number]

    def look(self) -> None:
        """Read what the daemon has logged since the last look."""
        with self.log.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            return
        at = datetime.fromisoformat(said["time"]).timestamp()
        match said["event"]:
            case "execution started":
                run = Run(said["execution"], said["node"], said["piece"], said["key"], said["because"], at)
            case "execution progress" if said["execution"] in self.runs:
                self.runs[said["execution"]] = replace(self.runs[said["execution"]], progress=said["progress"])
                return
            case "execution ended" if said["execution"] in self.runs:
                told = said.get("result") or said.get("error") or ""
                run = replace(self.runs[said["execution"]], state=said["state"], ended=at, result=told)
            case _:
                return
        self.runs[run.number] = run
        if self.on_change:
            self.on_change(run)

    def status(self) -> Mapping[str, Any]:
        """The answer of `ctd status --json`, and in it the one pipeline of the demo."""
        found: dict[str, Any] = get(self.folder / "state" / "ctd.sock", "/status")
        return {**found, **found["pipelines"][0]} if found["pipelines"] else found

    def node(self, name: str) -> Mapping[str, Any]:
        """One node of the status."""
        return next(node for node in self.status()["nodes"] if node["node"] == name)

    def plan(self) -> list[Mapping[str, Any]]:
        """The decisions of `ctd plan --json`."""
        found: list[Mapping[str, Any]] = get(self.folder / "state" / "ctd.sock", "/plan/taxi")["decisions"]
        return found

    def until(self, expected: str, holds: Callable[[], Any], seconds: float = 600) -> Any:
        """Wait until `holds()` is true, and return what it gave. An execution that fails ends the wait at once."""
        end = time.monotonic() + seconds
        while True:
            self.alive()
            self.look()
            self._none_failed(expected)
            found = self._asked(holds)
            if found:
                return found
            if time.monotonic() > end:
                raise Unexpected(expected, f"{self.told()} after {seconds:g} s", self.log)
            time.sleep(0.1)

    def still(self, expected: str, holds: Callable[[], Any], seconds: float) -> None:
        """See that `holds()` stays true for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.alive()
            if not holds():
                raise Unexpected(expected, self.told(), self.log)
            time.sleep(0.2)

    def told(self) -> str:
        """The state of every node in words."""
        try:
            status = self.status()
        except NoDaemon as error:
            return str(error)
        nodes = [f"  {n['node']}: {n['state']}, {n['because']}" for n in status.get("nodes", ())]
        return "\n".join((f"pipeline {status.get('state', 'unknown')}, live {_versions(status)}", *nodes))

    def _asked(self, holds: Callable[[], Any]) -> Any:
        try:
            return holds()
        except NoDaemon:
            return None

    def _none_failed(self, expected: str) -> None:
        for run in self.runs.values():
            if run.state not in ("running", "succeeded"):
                log = self.folder / "state" / "logs" / f"{run.number}.log"
                raise Unexpected(expected, f"{run.work} {run.state}: {run.result}", log)


def _versions(status: Mapping[str, Any]) -> str:
    return ", ".join(f"{t['target']} version {t['version']}" for t in status.get("live", ())) or "nothing"
