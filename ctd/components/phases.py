"""What the seconds of an execution go into. A worker does one execution, so there is one account per process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

seconds: dict[str, float] = {}
"""By phase, without the time of phases within it."""

_open: list[float] = []  # of the phases that are open: what those within them took


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Count this block as `read` or `write`. What a component does beside it counts as computing.

    Other threads are not counted: what they do goes on beside the work, and seconds would be counted twice.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    began = time.monotonic()
    _open.append(0.0)
    try:
        yield
    finally:
        took = time.monotonic() - began
        seconds[name] = seconds.get(name, 0.0) + took - _open.pop()
        if _open:
            _open[-1] += took
