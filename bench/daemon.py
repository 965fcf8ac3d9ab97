"""`ctd run` as a process, and what it says."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CTD = str(Path(sys.executable).with_name("ctd"))
PATIENCE = 300.0


@dataclass
class Events:
    """The daemon's JSON lines, each with the moment it was read."""

    lines: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def read(self, stream: Any) -> None:
        for line in stream:
            with contextlib.suppress(json.JSONDecodeError):
                self.lines.append((time.monotonic(), json.loads(line)))

    def spans(self, since: float) -> Iterator[tuple[str, float, float]]:
        """Node (with piece), start and end of every execution that ended since then."""
        started: dict[int, float] = {}
        for at, said in list(self.lines):
            if said["event"] == "execution started":
                started[said["execution"]] = at
            elif said["event"] == "execution ended" and at > since:
                yield _work(said), started[said["execution"]], at

    def ended(self, work: str, since: float) -> dict[str, Any] | None:
        """What was said of the end of an execution of this node and piece, such as `evaluator.verdict`."""
        mine = (said for at, said in list(self.lines) if at > since and said["event"] == "execution ended")
        return next((said for said in mine if _work(said) == work), None)

    def failures(self) -> list[str]:
        """What executions that failed said of it."""
        return [f"{_work(said)}: {said['error']}" for _, said in list(self.lines) if said.get("error")]


def _work(said: dict[str, Any]) -> str:
    return ".".join(filter(None, (said["node"], said["piece"])))


def until(what: str, check: Callable[[], bool]) -> float:
    """The moment at which it is so."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if check():
            return time.monotonic()
        time.sleep(0.01)
    raise SystemExit(f"not within {PATIENCE:.0f} s: {what}")


@contextlib.contextmanager
def running(
    command: list[str], events: Events | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The command as a process, ended at the end; its lines go to `events` if there are any."""
    env = {**os.environ, **(environment or {})}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # TensorFlow's import is 3.5 times as dear without bytecode
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)
    reader = threading.Thread(target=events.read, args=(process.stdout,), daemon=True) if events is not None else None
    if reader:
        reader.start()
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)
        if reader:
            reader.join(10)
