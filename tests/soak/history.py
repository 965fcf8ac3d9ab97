"""What was done and seen when, as lines of JSON, so that a run can be understood afterwards."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

_SAMPLES = 3
_NUMBER = re.compile(r"\d+")


class History:
    """Facts in their order. Written at once: a run that is interrupted has told all it knew."""

    def __init__(self, path: Path, say: Callable[[str], None] = print) -> None:
        self.path = path
        self.violations: list[str] = []
        self.counts: dict[str, int] = {}
        self.figures: dict[str, list[float]] = {}
        self._say = say
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def note(self, what: str, **fields: Any) -> None:
        """One fact."""
        at = {"s": round(time.monotonic() - self._began, 2), "at": datetime.now(timezone.utc).isoformat()}
        with self._lock, self.path.open("a") as file:
            self.counts[what] = self.counts.get(what, 0) + 1
            file.write(json.dumps({**at, "what": what, **fields}, default=str) + "\n")

    def tell(self, text: str) -> None:
        """Something for whoever watches."""
        self._say(f"{time.monotonic() - self._began:7.1f} s  {text}")

    def violated(self, rule: str, because: str) -> None:
        """An invariant that did not hold; the same one is told once."""
        said = f"{rule}: {because}"
        if said not in self.violations:
            self.violations.append(said)
            self.note("violation", rule=rule, because=because)
            if said in self.samples():
                self.tell(f"VIOLATION {said}")

    def samples(self) -> list[str]:
        """A few violations of every sort: what differs in numbers only is one sort."""
        sorts: dict[str, int] = {}
        found = []
        for said in self.violations:
            sort = _NUMBER.sub("", said)
            sorts[sort] = sorts.get(sort, 0) + 1
            if sorts[sort] <= _SAMPLES:
                found.append(said)
        return found

    def measured(self, name: str, value: float) -> None:
        """One more value of a figure that the report shows."""
        self.note("measured", name=name, value=round(value, 2))
        self.figures.setdefault(name, []).append(value)
