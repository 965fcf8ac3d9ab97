"""Every error ctd raises. Where a class sits in the tree says what to do about it.

CtdError
├── SpecError               the user must edit a spec or a target file; never retried
├── NotFound                someone asked for a pipeline, node or execution that is not there
├── NotPossible             someone asked for what makes no sense as things are
├── TemporaryError          the world may heal; tried again with back-off
│   ├── StorageUnavailable  a disk, mount or store does not answer
│   ├── MachineUnavailable  the machine has no process, open file or memory left
│   ├── StoreUnavailable    ML Metadata does not answer
│   ├── TargetUnavailable   a destination cannot be written or asked
│   ├── OtherAnswers        the server behind a destination does not answer as the model does
│   ├── WorkerLost          the process of an execution was killed or vanished
│   ├── ComponentTimeout    it ran longer than its timeout
│   ├── DamagedArtifact     an input is not what was published; it is made again
│   └── InputChanged        a span changed while it was read
└── PermanentError          trying again cannot help: data, code or spec must change
    ├── BadInput            the data is not what the node was told it is
    ├── ComponentFailed     code we did not write raised, or left nothing behind
    └── IllegalTransition   a bug: an execution was asked to leave a final state
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from ctd.core.troubles import Fault, TroubleKind


@dataclass(frozen=True)
class Pace:
    """How fast attempts follow each other: the pause after the first failure, `growth` times as long after each
    further one, up to `most`."""

    first: timedelta
    most: timedelta
    growth: float = 2.0


# Nobody's work is to blame, and it may heal at any moment: a pause is about a tenth of the time that it has lasted.
OF_THE_MACHINE = Pace(timedelta(seconds=1), timedelta(minutes=1), 1.1)


class CtdError(Exception):
    """What went wrong and where; `hint` says what to do about it."""

    retryable = False
    exit_code = 1  # of a command that ends with it

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SpecError(CtdError):
    """A spec or target file says something that cannot be."""

    exit_code = 2


class NotFound(CtdError):
    """There is no such pipeline, node or execution."""

    exit_code = 2


class NotPossible(CtdError):
    """What someone asked for makes no sense as things are: nothing runs that could be cancelled, for instance."""


class TemporaryError(CtdError):
    """The world may heal by itself or by an operator's hand: try again later."""

    retryable = True
    pace = Pace(timedelta(seconds=5), timedelta(minutes=1))


class StorageUnavailable(TemporaryError):
    """A disk, mount or object store does not answer, is full or read-only."""

    pace = OF_THE_MACHINE


class MachineUnavailable(TemporaryError):
    """The machine has no process, open file or memory left for what ctd has to do."""

    pace = OF_THE_MACHINE


class StoreUnavailable(TemporaryError):
    """ML Metadata does not answer. `hint` says what to do; whether it is tried again is for who asked it to say."""

    def __init__(self, message: str, *, hint: str = "", fault: Fault | None = None) -> None:
        super().__init__(message, hint=hint)
        self.fault = fault or Fault(TroubleKind.STORE, "", message, hint)


class TargetUnavailable(TemporaryError):
    """A destination cannot be written to, or the server behind it cannot be asked."""

    pace = Pace(timedelta(seconds=5), timedelta(minutes=5))  # each attempt copies a model


class OtherAnswers(TemporaryError):
    """The server behind a destination does not answer as the pushed model does: it serves something else."""

    pace = Pace(timedelta(seconds=5), timedelta(minutes=5))  # until somebody has mended the server's configuration


class WorkerLost(TemporaryError):
    """The process of an execution was killed or vanished without an outcome."""

    pace = Pace(timedelta(seconds=5), timedelta(minutes=5))  # memory that lacked now may lack a minute later


class ComponentTimeout(TemporaryError):
    """An execution ran longer than its timeout and was stopped."""

    pace = Pace(timedelta(seconds=30), timedelta(minutes=10))  # it cost hours: a busy machine needs more than seconds


class DamagedArtifact(TemporaryError):
    """An input's files are not what they were when it was published: it is made again, and then this is tried again.

    `found` says of each damaged artifact, by id, what is wrong with it.
    """

    def __init__(self, message: str, *, hint: str = "", found: Mapping[int, str] | None = None) -> None:
        super().__init__(message, hint=hint)
        self.found = dict(found or {})


class InputChanged(TemporaryError):
    """A span changed while it was being read; what was read is thrown away."""


class PermanentError(CtdError):
    """Trying again cannot help: data, code or spec must change first."""


class BadInput(PermanentError):
    """The data is not what the node was told it is."""


class ComponentFailed(PermanentError):
    """Code we did not write raised, exited, or left nothing behind."""


class IllegalTransition(PermanentError):
    """An execution was asked to leave a final state."""


def pace_of(kind: str) -> Pace:
    """The pace for a failure of this kind, the name of an error's class as it is recorded."""
    return next((c.pace for c in TemporaryError.__subclasses__() if c.__name__ == kind), TemporaryError.pace)
