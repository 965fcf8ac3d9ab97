"""The process of one execution: run the component, seal what it made, write the outcome, end.

It is started fresh (`python -m ctd.engine.worker JOB LIFELINE`) or forked from a warm template, which calls
`work`. Whoever starts it has made it the leader of its own session and sent its output to the execution's log.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from ctd.components import phases
from ctd.components.api import Work
from ctd.components.user_errors import told, user_line
from ctd.core.errors import (
    ComponentFailed,
    CtdError,
    DamagedArtifact,
    MachineUnavailable,
    StorageUnavailable,
    WorkerLost,
)
from ctd.core.executions import Failure, Outcome, State
from ctd.core.failpoints import arm, fp
from ctd.core.machine import machine
from ctd.core.quick_import import quick_import
from ctd.core.work import Cancelled, Request, outcome_to_json
from ctd.engine import processes
from ctd.engine.blame import fault_of_machine
from ctd.engine.bounds import failure_from
from ctd.engine.exits import CANNOT_WRITE, COULD_NOT_BEGIN, code_for
from ctd.engine.sealing import seal
from ctd.engine.verifying import explained, verify

JOB_FILE = ".job.json"
OUTCOME_FILE = ".outcome.json"
_RESERVE = 16  # descriptors kept back from the component: to tell how it ended where it has used up all others
BEGUN_FILE = ".begun"  # from then on it is the component, and code of users, that may end the process

log = logging.getLogger("ctd.worker")


@dataclass(frozen=True)
class Job:
    """What a worker is told: the request, and when (on the monotonic clock) it was asked for."""

    request: Request
    asked: float
    failpoints: str = ""

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Job:
        said = json.loads(path.read_text())
        return cls(**{**said, "request": Request.from_json(said["request"])})


class Stopwatch:
    """Seconds by phase."""

    def __init__(self, since: float) -> None:
        self.seconds = {"start": time.monotonic() - since}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = time.monotonic() - began

    @contextlib.contextmanager
    def component(self) -> Iterator[None]:
        """The component, with the phases that it tells apart itself."""
        phases.seconds.clear()
        try:
            with self.phase("run"):
                yield
        finally:
            self.seconds |= phases.seconds
            self.seconds["run"] -= sum(phases.seconds.values())


def main() -> NoReturn:
    """Entry of a fresh process."""
    # `-m` puts the working directory, here staging, first; nothing may be imported from there.
    if sys.path[0] == str(Path.cwd()):
        del sys.path[0]
    work(Path(sys.argv[1]), int(sys.argv[2]))


def work(job_file: Path, lifeline: int) -> NoReturn:
    """Do the job and end the process; exit code 0 means that there is an outcome, whatever it says."""
    try:
        job = _begin(job_file, lifeline)
    except OSError as error:
        with contextlib.suppress(OSError):  # the log may be what the disk does not take
            traceback.print_exc()
        os._exit(code_for(COULD_NOT_BEGIN, error))
    watch = Stopwatch(job.asked)
    outcome = attempt(job.request, watch)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    outcome = replace(outcome, timings={phase: round(s, 3) for phase, s in watch.seconds.items()})
    code = _leave(outcome, Path(job.request.staging))
    log.info("ended: %s %s", outcome.state.value, json.dumps(outcome.timings))
    # Without the interpreter's own way out: threads of libraries could hold it up for ever.
    logging.shutdown()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _begin(job_file: Path, lifeline: int) -> Job:
    """Become the process of this job. Raises OSError."""
    processes.hold_lifeline(lifeline)
    processes.adopt_orphans()  # while it lives; after that its own parent sees to them
    job = Job.read(job_file)
    arm(job.failpoints)
    fp("worker.settle")
    _settle_in(job)
    return job


def attempt(request: Request, watch: Stopwatch) -> Outcome:
    """Run the component. Never raises: whatever happens is the outcome."""
    log.info("%s", header(request))
    reserve = contextlib.ExitStack()
    try:
        with watch.phase("verify"):
            verify(request)
        importing = machine("worker.import", "its component cannot be imported")
        with watch.phase("import"), quick_import(), importing:
            component = _component(request.entrypoint)
        # Until here SIGTERM just ends the process: the import machinery drops what is raised in its callbacks.
        signal.signal(signal.SIGTERM, _cancel)
        with machine("worker.begin", "its beginning cannot be noted", Path(request.staging, BEGUN_FILE)):
            Path(request.staging, BEGUN_FILE).touch()
            for _ in range(_RESERVE):
                reserve.callback(os.close, os.dup(2))
        fp("worker.before_exec")
        with watch.component():
            made = component.run(Work(request))
        reserve.close()
        fp(f"worker.made.{Work(request).place}")
        with watch.phase("digest"), machine("worker.seal", "what it made cannot be made durable"):
            outputs = seal(request, made)
        return Outcome(State.SUCCEEDED, outputs)
    except Cancelled:
        log.info("asked to stop (SIGTERM)")
        return Outcome(State.CANCELLED, failure=Failure("Cancelled", "it was asked to stop"))
    except BaseException as raised:  # noqa: BLE001  the top frame of the process: every end is an outcome
        reserve.close()
        error = explained(raised, request)
        log.error("failed\n%s", "".join(traceback.format_exception(error)))
        damaged = error.found if isinstance(error, DamagedArtifact) else {}
        return Outcome(State.FAILED, failure=failure_of(error, request), damaged=damaged)


def header(request: Request) -> str:
    """The first line of a log."""
    piece = f".{request.piece}" if request.piece else ""
    return (
        f"execution {request.execution_id}: pipeline {request.pipeline}, node {request.node}{piece}, {request.key}; "
        f"{request.entrypoint}, pid {os.getpid()}"
    )


def failure_of(error: BaseException, request: Request) -> Failure:
    """What to tell people about the end of an attempt, and whether trying again may help."""
    known = fault_of_machine(error, request) or _known(error, Work(request).where)
    if isinstance(known, (StorageUnavailable, MachineUnavailable)):
        return failure_from(known)  # whatever line it came up in, that is not the place to look at
    return failure_from(known, user_line(error.__cause__ or error, request.module))


def _known(error: BaseException, where: str) -> CtdError:
    if isinstance(error, CtdError):
        return error
    if isinstance(error, SystemExit):
        return ComponentFailed(
            f"{where}: sys.exit({error.code!r}) was called", hint="Return or raise instead; ctd ends the process."
        )
    if isinstance(error, MemoryError):
        return WorkerLost(
            f"{where}: out of memory", hint="Give the machine more memory, or run fewer executions side by side."
        )
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" at {last[0].filename}:{last[0].lineno}" if last else ""
    return ComponentFailed(
        f"{where}: {told(error, None)}{place}",
        hint="This is a fault of ctd's or of a library, not of your module; the execution's log has the traceback.",
    )


def _component(entrypoint: str) -> Any:
    module = importlib.import_module(entrypoint)
    if not callable(getattr(module, "run", None)):
        raise ComponentFailed(f"{entrypoint} has no function run", hint="A component is a module with run(work).")
    return module


def _cancel(_signum: int, _frame: object) -> None:
    raise Cancelled


def _settle_in(job: Job) -> None:
    """What every worker has in common, forked or fresh."""
    os.umask(os.umask(0o077) | 0o022)  # as the operator has it, but never writable for others
    staging = Path(job.request.staging)
    os.chdir(staging)
    temporary = staging / ".tmp"
    temporary.mkdir()
    tempfile.tempdir = str(temporary)
    os.environ.update({"TMPDIR": str(temporary), processes.STAGING_VARIABLE: str(staging)})  # noqa: TID251  for what it starts
    # TFT sets this at import. Set in every worker, or what `tf.keras` means would depend on the order of imports.
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # noqa: TID251
    with contextlib.suppress(OSError):  # in some containers it cannot be written; then the kernel chooses freely
        Path("/proc/self/oom_score_adj").write_text("500")
    processes.call_me(f"ctd {job.request.node}")
    if "numpy" in sys.modules:  # forks of one template would all draw the same numbers
        sys.modules["numpy"].random.seed()
    with contextlib.suppress(AttributeError):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    form = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(form)
    logging.getLogger().handlers[:] = [handler]
    logging.getLogger().setLevel(logging.INFO)


def _leave(outcome: Outcome, staging: Path) -> int:
    fp("worker.before_result")
    new = staging / (OUTCOME_FILE + ".new")
    try:
        fp("worker.outcome")
        new.write_text(_as_json(outcome))
        new.replace(staging / OUTCOME_FILE)
    except OSError as error:
        log.error("cannot write the outcome: %s", error)
        return code_for(CANNOT_WRITE, error)
    return 0


def _as_json(outcome: Outcome) -> str:
    try:
        return json.dumps(outcome_to_json(outcome))
    except (TypeError, ValueError) as error:
        hint = "Components make artifacts with texts and numbers as properties. This is a fault in the component."
        said = failure_from(ComponentFailed(f"what it made cannot be recorded: {error}", hint=hint))
        return json.dumps(outcome_to_json(Outcome(State.FAILED, failure=said, timings=outcome.timings)))


if __name__ == "__main__":
    main()
