"""Outputs on their way to another file system, in threads beside the loop: a large model takes longer than a rename."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from ctd.core.errors import CtdError, WorkerLost
from ctd.engine.executor import Ended
from ctd.engine.outcomes import failed
from ctd.engine.publish import bring_near
from ctd.storage.layout import StateDir

_AT_ONCE = timedelta(seconds=1)  # what is copied this quickly is not worth another step of the loop
_AT_THE_END = timedelta(seconds=30)  # what takes longer is done again after the restart


@dataclass
class _Move:
    event: Ended
    place: Callable[[str], Path]
    done: bool = False
    error: CtdError | None = None

    def make(self, staging: Path) -> None:
        try:
            bring_near(staging, self.event.outcome, self.place)
        except CtdError as error:
            self.error = error
        else:
            self.done = True

    @property
    def ended(self) -> Ended:
        """The end to take in, now that the thread has ended."""
        if self.done:
            return self.event
        hint = "This is a fault of ctd's: please report it, with the traceback in the daemon's log. It is tried again."
        error = self.error or WorkerLost("the copying of its outputs broke off", hint=hint)
        return replace(self.event, outcome=failed(error))


class Moving:
    """Copies what cannot be renamed into place. If the daemon ends meanwhile, the next start sweeps what it finds."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._moves: list[tuple[_Move, threading.Thread]] = []

    def begin(self, event: Ended, place: Callable[[str], Path]) -> None:
        """Copy the outputs of a success to where a rename will do. Returns when that is done, or takes long."""
        move = _Move(event, place)
        staging = self._state.staging(event.execution_id)
        thread = threading.Thread(target=move.make, args=(staging,), name="moving", daemon=True)
        thread.start()
        thread.join(_AT_ONCE.total_seconds())
        self._moves.append((move, thread))

    def arrived(self, *, wait: bool = False) -> list[Ended]:
        """Those whose outputs can be published now, or will never be."""
        for _, thread in self._moves if wait else ():
            thread.join(_AT_THE_END.total_seconds())
        done = [move.ended for move, thread in self._moves if not thread.is_alive()]
        self._moves = [(move, thread) for move, thread in self._moves if thread.is_alive()]
        return done
