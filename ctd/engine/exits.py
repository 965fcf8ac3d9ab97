"""Exit codes of workers that could not leave an outcome: they tell the reason where no disk takes it.

A code is a base, which says what could not be done, plus a number for the error of the operating system.
"""

from __future__ import annotations

import errno

from ctd.core.errors import CtdError
from ctd.core.machine import unavailable

COULD_NOT_BEGIN = 128
CANNOT_WRITE = 192
NEVER_BEGAN = 70  # a template's fork: the reason is in the log, if that could be opened

_NUMBERS = (
    *(0, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE, errno.EACCES, errno.EPERM),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EXDEV, errno.ENOENT, errno.ENOTDIR, errno.ENODEV),
    *(errno.ENXIO, errno.ETIMEDOUT, errno.ELOOP, errno.ENAMETOOLONG, errno.EBUSY),
)
_DOING = {
    COULD_NOT_BEGIN: "its process could not prepare for its work",
    CANNOT_WRITE: "it ended, and its outcome could not be written",
}


def code_for(base: int, error: OSError) -> int:
    """The exit code that tells about this error."""
    number = error.errno or 0
    return base + (_NUMBERS.index(number) if number in _NUMBERS else 0)


def said_by(code: int, place: str, *, begun: bool) -> CtdError | None:
    """What an exit code tells, about files in `place`; None for one that tells nothing.

    `begun`: its component had begun. What ends the process then may have codes of its own, such as 128 and a signal.
    """
    for base, doing in _DOING.items():
        if not (begun and base == COULD_NOT_BEGIN) and 0 <= code - base < len(_NUMBERS):
            number = _NUMBERS[code - base]
            return unavailable(doing, OSError(number or None, "see the end of its log"), place)
    return None
