"""One execution on its way through the executor: what it was told, its process, and when it must have ended."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from ctd.core.errors import TemporaryError
from ctd.core.machine import machine
from ctd.core.work import Request
from ctd.engine import processes
from ctd.engine.logfiles import open_log
from ctd.engine.outcomes import Reason
from ctd.engine.pressure import Counts
from ctd.engine.processes import ProcessFacts
from ctd.engine.warm import WarmTemplate
from ctd.engine.worker import JOB_FILE, Job


@dataclass
class Attempt:
    """One execution from start to end. Changed by the executor's thread only."""

    request: Request
    timeout: timedelta
    profile: str
    log: Path
    process: ProcessFacts = field(default_factory=dict)
    template: WarmTemplate | None = None
    asked_at: float = math.inf  # when the template was asked for it
    deadline: float = math.inf
    kill_at: float = math.inf
    reason: Reason | None = None  # why it was asked to stop
    superseded: str = ""  # by what
    counted: Counts = field(default_factory=Counts)  # by the kernel, when it began
    alone: bool = True  # whether nothing else has run while it did

    @property
    def id(self) -> int:
        return self.request.execution_id

    @property
    def job(self) -> Path:
        return Path(self.request.staging, JOB_FILE)

    def signal(self, number: signal.Signals) -> None:
        processes.signal_group(int(self.process["pid"]), number)


def prepare(attempt: Attempt, job: Job) -> None:
    """Make staging anew, with the job in it. Raises StorageUnavailable, MachineUnavailable."""
    staging = attempt.job.parent
    with machine("start.staging", "its staging directory cannot be made anew", staging):
        if os.path.lexists(staging):
            shutil.rmtree(staging)
        staging.mkdir(mode=0o700, parents=True)
    with machine("start.logs", "the directory of its log cannot be made", attempt.log.parent):
        attempt.log.parent.mkdir(parents=True, exist_ok=True)
    with machine("start.job", "what it is told cannot be written", attempt.job):
        job.write(attempt.job)


def spawn(attempt: Attempt, lifeline: int, env: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], int]:
    """Start a fresh worker; the process and a descriptor that becomes readable when it ends.

    Raises StorageUnavailable, MachineUnavailable.
    """
    with machine("start.log", "its log cannot be opened", attempt.log):
        output = open_log(attempt.log)
    try:
        with machine("start.process", "its process cannot be started"):
            child = subprocess.Popen(  # noqa: S603  our own interpreter and module
                [sys.executable, "-m", "ctd.engine.worker", str(attempt.job), str(lifeline)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=attempt.job.parent,
                env={**env, processes.STAGING_VARIABLE: attempt.request.staging},
                start_new_session=True,
                pass_fds=(lifeline,),
            )
    finally:
        os.close(output)
    try:
        with machine("start.watch", "its process cannot be watched"):
            return child, os.pidfd_open(child.pid)
    except TemporaryError:
        processes.signal_group(child.pid, signal.SIGKILL)
        child.wait()
        raise
