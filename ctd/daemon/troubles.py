"""What is wrong with the daemon's own means, since when; said once when it begins and once when it is over."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from datetime import datetime

from ctd.api.models import TroubleView
from ctd.core.timing import Clock
from ctd.core.troubles import Fault, Trouble, TroubleKind
from ctd.observability import Event

log = logging.getLogger("ctd.daemon")


class Troubles:
    """The troubles of one daemon, each under the name of who looks after it. Safe to be asked from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[datetime, Fault]] = {}

    def note(self, about: str, fault: Fault | None, *, logged: bool = False) -> None:
        """What is wrong about something now; nothing: it is well. `logged`: it was said already.

        As long as the kind and the place stay the same it is the same trouble, whatever numbers its text has, and
        whoever has found it.
        """
        with self._lock:
            since, known = self._known.get(about, (self._clock.now(), None))
            same = known is not None and fault is not None and _same(known, fault)
            if fault is None:
                self._known.pop(about, None)
            else:
                self._known[about] = since if same else self._clock.now(), fault
            others = [other for name, (_, other) in self._known.items() if name != about]
        if logged or same:
            return
        if known is not None and not any(_same(known, other) for other in others):
            fields = {"kind": known.kind.value, "place": known.place, "since": since.isoformat(timespec="seconds")}
            log.info(Event.TROUBLE_OVER.value, extra=fields)
        if fault is not None and not any(_same(fault, other) for other in others):
            fields = {"kind": fault.kind.value, "place": fault.place, "because": fault.because, "hint": fault.hint}
            log.error(Event.TROUBLE.value, extra=fields)

    def now(self) -> tuple[Trouble, ...]:
        """What is wrong, the longest first. What several have found is said once."""
        with self._lock:
            known = sorted(self._known.values(), key=lambda one: one[0])
        told: dict[tuple[TroubleKind, str], Trouble] = {}
        for since, fault in known:
            told.setdefault((fault.kind, fault.place), Trouble(fault, since))
        return tuple(told.values())


def _same(one: Fault, other: Fault) -> bool:
    return (one.kind, one.place) == (other.kind, other.place)


def status_line(troubles: Sequence[Trouble], otherwise: str) -> str:
    """For systemd: what is wrong for longest, or what there is to say if nothing is."""
    if not troubles:
        return otherwise
    first, *others = troubles
    more = f" (and {len(others)} more)" if others else ""
    f = first.fault
    since = f" since {first.since:%Y-%m-%d %H:%M:%S} UTC" if first.since else ""
    return f"TROUBLE{since}: {f.place}: {f.kind.value}: {f.because}{more}"


def trouble_views(found: Iterable[Trouble]) -> list[TroubleView]:
    """Troubles as the outside sees them."""
    return [
        TroubleView(**vars(t.fault), since=t.since.isoformat(timespec="seconds") if t.since else None) for t in found
    ]
