"""What the engine works with. Concrete classes meet in `daemon/app.py`."""

from __future__ import annotations

from dataclasses import dataclass

from ctd.core.history import History
from ctd.core.timing import Clock
from ctd.engine.executor import Executor
from ctd.engine.observe import Observer
from ctd.engine.slots import Limits
from ctd.metadata.store import MetadataStore
from ctd.storage.layout import StateDir


@dataclass(frozen=True)
class Parts:
    """What a reconciler works with."""

    store: MetadataStore
    history: History
    executor: Executor
    observer: Observer
    state: StateDir
    clock: Clock
    epoch: int  # which start of the daemon this is
    limits: Limits
    keep_logs: int = 1000
