"""What became of a worker: its outcome file if it left a good one, else what its end says."""

from __future__ import annotations

import enum
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

from ctd.core.errors import ComponentFailed, ComponentTimeout, CtdError, StorageUnavailable, WorkerLost
from ctd.core.executions import STOPPED, SUPERSEDED, Failure, Outcome, State
from ctd.core.work import outcome_from_json
from ctd.engine.worker import CANNOT_WRITE, OUTCOME_FILE

_MOST_BYTES = 16 * 2**20


class Reason(str, enum.Enum):
    """Why the daemon ended a worker."""

    CANCEL = "someone asked for it to stop"
    TIMEOUT = "it ran longer than its timeout"
    STOP = "ctd stopped"
    SUPERSEDE = "newer work takes its place"


def failed(error: CtdError) -> Outcome:
    """The outcome that an error of the daemon's own side amounts to."""
    return Outcome(State.FAILED, failure=Failure(type(error).__name__, error.message, error.hint, "", error.retryable))


def outcome_of(staging: Path, code: int, reason: Reason | None, detail: str) -> Outcome:
    """The outcome of a process that ended with `code` (negative: a signal). `detail` goes with the reason.

    What succeeded counts as succeeded even if someone wanted it to stop meanwhile.
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
        text = _read(staging / OUTCOME_FILE)
    except FileNotFoundError:
        return failed(_without_outcome(code))
    except OSError as error:
        return failed(StorageUnavailable(f"its outcome cannot be read: {error}", hint="Look at the state directory."))
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


def _read(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_MOST_BYTES).decode(errors="replace")


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
    if code == CANNOT_WRITE:
        return StorageUnavailable(
            "it could not write its outcome", hint="Free space on the disk of the state directory; ctd tries again."
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
