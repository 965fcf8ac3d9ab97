"""An executor with a scratch state directory, and waiting for what it does."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.executions import Outcome
from ctd.core.timing import SystemClock
from ctd.core.work import Request
from ctd.engine.executor import Ended, Started
from ctd.engine.process_executor import ExecutorSettings, ProcessExecutor
from ctd.storage.checksums import CHECKSUMS, checksums

ROOT = Path(__file__).parents[2]
COMPONENT = "tests.contract.components_for_tests"
PATIENCE = 60.0


def worker_env() -> Mapping[str, str]:
    """What workers of tests see: enough to find Python's and the tests' modules."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2", "HOME": "/nonexistent"}


def until(happened: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Wait for something to be true and return it."""
    end = time.monotonic() + patience
    while not (found := happened()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
    return found


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has reaped yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


@dataclass
class Bench:
    """Starts test components and collects how they end."""

    root: Path
    settings: ExecutorSettings
    component: str = COMPONENT
    profile: str = "test"
    wakes: int = 0
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    processes: dict[int, Mapping[str, str | int]] = field(default_factory=dict)
    _last: int = 0

    def __post_init__(self) -> None:
        self._woken = threading.Event()
        self.executor = ProcessExecutor(self.settings, SystemClock(), self._wake)

    def _wake(self) -> None:
        self.wakes += 1
        self._woken.set()

    def start(self, do: str, *, timeout: float = PATIENCE, examples: Artifact | None = None, **spec: object) -> int:
        self._last += 1
        request = Request(
            execution_id=self._last,
            pipeline="taxi",
            node="trainer",
            kind="trainer",
            key=f"span {self._last}",
            entrypoint=self.component,
            staging=str(self.staging(self._last)),
            spec={"do": do, **spec},
            outputs={"model": ArtifactType.MODEL},
            inputs={"examples": (examples,)} if examples else {},
        )
        self.executor.start(request, timedelta(seconds=timeout), profile=self.profile, log=self.log(self._last))
        return self._last

    def published(self) -> Artifact:
        """Examples that lie there as they were published."""
        folder = self.root / "examples"
        folder.mkdir()
        (folder / "data").write_text("1 2 3")
        known = {"files": 1, "bytes": 5, CHECKSUMS: checksums(folder)}
        return Artifact(ArtifactType.EXAMPLES, str(folder), "d", properties=known, id=1)

    def staging(self, execution_id: int) -> Path:
        return self.root / "staging" / str(execution_id)

    def log(self, execution_id: int) -> Path:
        return self.root / "logs" / f"{execution_id}.log"

    def text(self, execution_id: int) -> str:
        return self.log(execution_id).read_text(errors="replace")

    def collect(self) -> None:
        for event in self.executor.poll():
            match event:
                case Started(execution_id, process):
                    assert execution_id not in self.outcomes
                    self.processes[execution_id] = process
                case Ended(execution_id, outcome):
                    assert execution_id not in self.outcomes
                    self.outcomes[execution_id] = outcome

    def ended(self, execution_id: int, patience: float = PATIENCE) -> Outcome:
        """Wait, as the controller does, for the wake-up and then for the outcome."""
        end = time.monotonic() + patience
        while execution_id not in self.outcomes:
            assert self._woken.wait(max(0.0, end - time.monotonic())), "no wake-up came"
            self._woken.clear()
            self.collect()
        return self.outcomes[execution_id]

    def begun(self, execution_id: int) -> int:
        """Wait for the process; its pid, even if it has ended."""

        def process() -> Mapping[str, str | int] | None:
            self.collect()
            return self.processes.get(execution_id)

        return int(until(process)["pid"])

    def run(self, do: str, *, timeout: float = PATIENCE, examples: Artifact | None = None, **spec: object) -> Outcome:
        return self.ended(self.start(do, timeout=timeout, examples=examples, **spec))

    def progress(self, execution_id: int) -> str:
        """Wait until the component says how far it is."""
        return str(until(lambda: self.executor.progress(execution_id)))


def settings(root: Path, **changes: Any) -> ExecutorSettings:
    """Settings for tests: short grace, short logs."""
    base = ExecutorSettings(worker_env(), root / "logs", grace=timedelta(seconds=1), log_bytes=2**20)
    return replace(base, **changes)
