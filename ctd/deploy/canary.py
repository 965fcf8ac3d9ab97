"""The end of a version's trial at a target: it becomes the live one, or goes out of sight. Once, whatever crashes.

What came of the trial is written beside the ledger before it is acted upon. Whoever comes back after a crash finds it
there, does the rest, and tells the same.
"""

from __future__ import annotations

import enum
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctd.core.failpoints import fp
from ctd.core.timing import Clock
from ctd.deploy.labels import Labels
from ctd.deploy.ledger import Fate
from ctd.deploy.tree import sync_directory
from ctd.deploy.versions import Versions
from ctd.specs.targets import STABLE


class End(enum.Enum):
    """What came of a trial."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    OVERTAKEN = "overtaken"  # somebody else decided: a rollback, a pin, a version pushed since


@dataclass(frozen=True)
class Verdict:
    """How a trial ended and why; `report` has the numbers, as JSON."""

    version: int
    end: End
    reason: str
    report: Mapping[str, Any]


class Trial:
    """One version on trial. `confirm` waits until the server answers with a version by a label, or cannot be asked."""

    def __init__(
        self, versions: Versions, version: int, labels: Labels, confirm: Callable[[str, int], object], clock: Clock
    ) -> None:
        self._versions = versions
        self._version = version
        self._labels = labels
        self._confirm = confirm
        self._clock = clock
        self._note = versions.base / ".ctd" / "canary.json"

    @property
    def stands(self) -> bool:
        """Whether the version still has the label of what is on trial."""
        return self._labels.on_trial() == self._version

    @property
    def there(self) -> bool:
        """Whether the version is still at the target."""
        return self._versions.path(self._version).is_dir()

    def known(self) -> Verdict | None:
        """What was decided about this version before a crash."""
        try:
            said = json.loads(self._note.read_text())
            verdict = Verdict(int(said["version"]), End(said["end"]), str(said["reason"]), dict(said["report"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return verdict if verdict.version == self._version else None

    def settle(self, verdict: Verdict) -> Verdict:
        """Do as the verdict says; the answer is what came of it, which is another one if somebody was quicker."""
        with self._versions.held():
            if self.stands:
                self._write(verdict)
                fp("canary.decided")
            elif self.known() is None or not self._done(verdict):
                verdict = self._decided_elsewhere()
            match verdict.end:
                case End.PROMOTED:
                    self._labels.take_over(self._version)
                    self._let_go(self._version)
                case End.ROLLED_BACK:
                    self._labels.take_back(self._version)
                    fp("canary.unlabelled")
                    self._let_go(self._labels.stable())
                    self._hide()
                case End.OVERTAKEN:
                    pass
            return verdict

    def _let_go(self, stable: int | None) -> None:
        """Unload what has no label any more, once the server answers by both labels as it should."""
        if stable is not None:
            self._confirm(STABLE, stable)
            self._confirm(self._labels.trial, stable)
        self._labels.trim()

    def _done(self, verdict: Verdict) -> bool:
        """Whether the labels are as a verdict from before a crash wants them: only the rest is to be done."""
        return (self._labels.stable() == self._version) is (verdict.end is End.PROMOTED)

    def _hide(self) -> None:
        """Out of sight: a server that takes the highest number must not meet it."""
        entry = self._versions.entry(self._version)
        if entry and entry.fate is not Fate.QUARANTINED and self.there:
            self._versions.quarantine(entry)

    def _decided_elsewhere(self) -> Verdict:
        """What the labels say that somebody has moved meanwhile: a push, or people with an editor."""
        stable, config = self._labels.stable(), self._labels.file.path
        if stable == self._version:
            return Verdict(self._version, End.PROMOTED, f"promoted: {config} calls it stable by now", {})
        newer = max(stable or 0, self._labels.on_trial() or 0)
        if newer > self._version:
            took = "took over" if newer == stable else "is instead"
            reason = f"version {self._version} is no longer on trial: version {newer} {took}"
            return Verdict(self._version, End.OVERTAKEN, reason, {})
        return Verdict(self._version, End.ROLLED_BACK, f"rolled back: its label was taken away in {config}", {})

    def _write(self, verdict: Verdict) -> None:
        said = {**vars(verdict), "end": verdict.end.value, "at": self._clock.now().isoformat()}
        new = self._note.with_suffix(".new")
        with new.open("w") as file:
            file.write(json.dumps(said, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._note)
        sync_directory(Path(self._note.parent))
