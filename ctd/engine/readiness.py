"""While the machine refuses what every worker needs, nothing is started: no attempt is made that can only fail."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from ctd.core.errors import MachineUnavailable, StorageUnavailable
from ctd.core.executions import Execution
from ctd.core.timing import Clock
from ctd.observability import Event

log = logging.getLogger("ctd.engine")

FAULTS = frozenset({StorageUnavailable.__name__, MachineUnavailable.__name__})
"""The kinds of failures that are the machine's."""

_PAUSE = timedelta(seconds=1)  # between two looks at the machine
_LASTING = timedelta(seconds=10)  # after which people are to know that they must do something


class Readiness:
    """Nothing may start once an execution failed by the machine's fault and a probe fails too, until that succeeds.

    The probe costs a few files, so it is made only when there is reason to.
    """

    def __init__(self, probe: Callable[[], None], clock: Clock) -> None:
        self._probe = probe
        self._clock = clock
        self._suspicious = False
        self._next = 0.0
        self._trouble = ""
        self._hint = ""
        self._since: datetime | None = None

    @property
    def refusal(self) -> str:
        """Why nothing is started now, and since when; empty if there is no reason."""
        if self._suspicious and self._clock.monotonic() >= self._next:
            self._look()
        if self._since is None:
            return ""
        return f"{self._trouble}, since {self._since:%Y-%m-%d %H:%M:%S} UTC"

    @property
    def hint(self) -> str:
        """What to do about it."""
        return self._hint

    @property
    def lasting(self) -> bool:
        """Whether it has lasted for so long that it may not pass by itself."""
        return self._since is not None and self._clock.now() - self._since >= _LASTING

    @property
    def look_again(self) -> datetime:
        """When something may be started again."""
        return self._clock.now() + _PAUSE

    def ended(self, execution: Execution) -> None:
        """An execution was recorded as ended: if the machine was to blame, look at it before anything is started."""
        if execution.failure is not None and execution.failure.kind in FAULTS and not self._suspicious:
            self._suspicious, self._next = True, self._clock.monotonic()

    def _look(self) -> None:
        self._next = self._clock.monotonic() + _PAUSE.total_seconds()
        try:
            self._probe()
        except (StorageUnavailable, MachineUnavailable) as error:
            if error.message != self._trouble:
                log.error(Event.MACHINE.value, extra={"because": error.message, "hint": error.hint})
            self._trouble, self._hint = error.message, error.hint
            self._since = self._since or self._clock.now()
        else:
            if self._trouble:
                log.info(Event.MACHINE.value, extra={"because": "it takes files and processes again"})
            self._suspicious, self._trouble, self._hint, self._since = False, "", "", None
