"""Whose fault the end of an attempt is: the machine's, or that of data, code or spec. Runs in the worker.

What the operating system refuses comes up anywhere: in a component, in a library, in a user's function that saves a
model. A disk that is full does not make it the user's mistake.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from ctd.components.api import Work
from ctd.core.errors import BadInput, CtdError, PermanentError, WorkerLost
from ctd.core.machine import ANYWHERE, IN_OUR_PLACES, SPACE, unavailable
from ctd.core.work import Request
from ctd.engine.probing import probe_folder, probe_threads

_RESOURCE_EXHAUSTED = 8  # of TensorFlow's error codes
_FEW_DESCRIPTORS = 256  # a limit below this is the machine's, not used up by the code


def fault_of_machine(error: BaseException, request: Request) -> CtdError | None:
    """The fault of the machine that an error comes from, if it does; None where it is what it seems."""
    if not isinstance(error, Exception) or isinstance(error, MemoryError):
        return None
    if isinstance(error, CtdError) and not isinstance(error, PermanentError):
        return None
    where, staging = Work(request).where, Path(request.staging)
    ours = isinstance(error, OSError)  # no user's code between it and ctd
    for refused in _refused(error):
        if _of_machine(refused, staging, ours=ours):
            return unavailable(f"{where}: it was refused by the operating system", refused)
    if (isinstance(error, BadInput) and error.__cause__ is None) or _own_leak():
        return None  # a judgement of data: no disk made it
    try:
        probe_folder(staging)
        probe_threads()
    except OSError as refused:
        return unavailable(f"{where}: it ended with {_name(error)}, and a look at the machine says why", refused)
    if any(_exhausted(one) for one in _chain(error)):
        hint = (
            "Give it more memory, disk or open files, or run fewer executions side by side; its log has the traceback."
        )
        return WorkerLost(f"{where}: {_name(error)}: memory, disk or open files were exhausted", hint=hint)
    return None


def _of_machine(refused: OSError, staging: Path, *, ours: bool) -> bool:
    """Whether nobody's code is to blame for it. What names a file of somebody else's is about that file."""
    number = refused.errno
    places = [os.fsdecode(p) for p in (refused.filename, refused.filename2) if isinstance(p, (str, bytes))]
    within = any(_within(place, staging.parent.parent) for place in places)
    if number == errno.EMFILE and _own_leak():
        return False
    if number == errno.EXDEV or (number == errno.EAGAIN and not ours):  # a lock that somebody else has, for instance
        return ours and within
    if within:
        return number in IN_OUR_PLACES
    return number in ANYWHERE or (number in SPACE and (ours or not places))


def _within(place: str, state: Path) -> bool:
    return Path(os.path.abspath(place)).is_relative_to(state)  # noqa: PTH100 - links are not to be followed


def _own_leak() -> bool:
    """Whether the process has used up by itself what would be enough for anybody. Needs no descriptor."""
    limit = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 65536)
    return limit >= _FEW_DESCRIPTORS and sum(map(_open, range(limit))) > limit / 2


def _open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _refused(error: BaseException) -> Iterator[OSError]:
    return (one for one in _chain(error) if isinstance(one, OSError) and one.errno is not None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from. Not what was merely handled when it was raised, unless nothing else is known."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def _exhausted(error: BaseException) -> bool:
    """TensorFlow's word for memory, disk and open files alike. It is known by its code, since nothing may import it."""
    return getattr(error, "error_code", None) == _RESOURCE_EXHAUSTED


def _name(error: BaseException) -> str:
    return type(error.__cause__ or error).__name__
