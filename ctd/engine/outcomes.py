"""What became of a worker: its outcome file if it left a good one, else what its end says."""

from __future__ import annotations

import enum
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

from ctd.core.errors import ComponentFailed, ComponentTimeout, CtdError, MachineUnavailable, WorkerLost
from ctd.core.executions import STOPPED, SUPERSEDED, Failure, Outcome, State
from ctd.core.failpoints import fp
from ctd.core.machine import unavailable
from ctd.core.work import outcome_from_json
from ctd.engine.bounds import failure_from
from ctd.engine.exits import said_by
from ctd.engine.probing import probe_folder
from ctd.engine.worker import BEGUN_FILE, OUTCOME_FILE

_MOST_BYTES = 16 * 2**20


class Reason(str, enum.Enum):
    """Why the daemon ended a worker."""

    CANCEL = "someone asked for it to stop"
    TIMEOUT = "it ran longer than its timeout"
    STOP = "ctd stopped"
    SUPERSEDE = "newer work takes its place"


def failed(error: CtdError) -> Outcome:
    """The outcome that an error of the daemon's own side amounts to."""
    return Outcome(State.FAILED, failure=failure_from(error))


def outcome_of(staging: Path, code: int, reason: Reason | None, detail: str) -> Outcome:
    """The outcome of a process that ended with `code` (negative: a signal). `detail` goes with the reason.

    What succeeded counts as succeeded even if someone wanted it to stop meanwhile. A process that left no outcome is
    judged with a look at its disk: what that refuses now, it has probably refused before.
    """
    outcome = _written(staging, code)
    if outcome.state is State.SUCCEEDED:
        return outcome
    if reason is None:
        return outcome if outcome.state is State.FAILED else failed(_without_outcome(-signal.SIGTERM))
    return ended_for(reason, detail, outcome)


def ended_for(reason: Reason, detail: str, outcome: Outcome | None = None) -> Outcome:
    """The outcome of a worker that the daemon ended."""
    timings = outcome.timings if outcome else {}
    if reason is Reason.TIMEOUT:
        hint = "Raise `timeout` of the node if the work is that long; else the log's last lines say where it hung."
        return replace(failed(ComponentTimeout(detail, hint=hint)), timings=timings)
    if reason is Reason.CANCEL:
        return Outcome(State.CANCELLED, failure=Failure("Cancelled", reason.value), timings=timings)
    if reason is Reason.SUPERSEDE:
        return Outcome(State.CANCELLED, failure=Failure(SUPERSEDED, detail), timings=timings)
    return Outcome(State.ABANDONED, failure=Failure(STOPPED, reason.value, retryable=True), timings=timings)


def _written(staging: Path, code: int) -> Outcome:
    try:
        fp("end.outcome")
        text = read_bounded(staging / OUTCOME_FILE, _MOST_BYTES)
    except FileNotFoundError:
        return failed(_sick(staging, code) or _without_outcome(code))
    except OSError as error:
        return failed(unavailable("its outcome cannot be read", error, staging / OUTCOME_FILE))
    try:
        return outcome_from_json(json.loads(text))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        said = f"{type(error).__name__}: {error}"
        return failed(
            WorkerLost(
                f"its outcome file is not one ({said[:200]})",
                hint="Something other than ctd wrote .outcome.json in its staging directory.",
            )
        )


def read_bounded(path: Path, most: int) -> str:
    """The beginning of a file that something other than ctd may have written, or replaced. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(most).decode(errors="replace")


def _sick(staging: Path, code: int) -> CtdError | None:
    """The fault of the machine that explains why there is no outcome; None if there seems to be none."""
    begun = os.path.lexists(staging / BEGUN_FILE)
    told = said_by(code, str(staging), begun=begun)
    if told is not None:
        return told
    try:
        probe_folder(staging)
    except OSError as error:
        return unavailable(f"{_end(code)} without an outcome, and its disk refuses to take anything", error, staging)
    if not begun and code >= 0:
        return MachineUnavailable(
            f"{_end(code)} before its component began",
            hint="Python or a library could not be loaded: the end of its log says why, if the log took it. Nothing of "
            "your module was used yet; it is tried again.",
        )
    return None


def _end(code: int) -> str:
    return f"its process ended with code {code}" if code >= 0 else f"its process was ended by {_signal_name(-code)}"


def _without_outcome(code: int) -> CtdError:
    if code == -signal.SIGKILL:
        return WorkerLost(
            "its process was killed (SIGKILL)",
            hint="Most often the kernel, out of memory: see `dmesg`. Give it more memory or run fewer side by side.",
        )
    if code < 0:
        return WorkerLost(
            f"its process was ended by {_signal_name(-code)}",
            hint="A crash in native code or a signal from outside; the log's last lines may say more.",
        )
    return ComponentFailed(
        f"its process ended with code {code} and without an outcome",
        hint="Code in the module ended the process (os._exit?). Return or raise instead; the log may say more.",
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
