"""The labels of a target's versions: `stable` is the live one's, another is that of the version on trial beside it.

A server takes a label only for a version that answers already. So a version is loaded first, and labelled when it is
AVAILABLE; and a version whose label was moved is let go (`trim`) only when the server has taken note, so that nobody
who asks by a label meets a version that is gone. Both labels are always there: while nothing is on trial they have the
same version, so that whoever asks by the label of a canary is answered between canaries, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ctd.deploy.model_config import Entry, ModelConfigFile
from ctd.specs.targets import STABLE


@dataclass(frozen=True)
class Labels:
    """Where the labels are kept, and which one a version on trial has; none: what is pushed takes over at once.

    Labels that are none of ours stay, and the versions that they name stay loaded.
    """

    file: ModelConfigFile
    trial: str = ""

    def stable(self) -> int | None:
        """The live version."""
        return self.file.read().labels.get(STABLE)

    def on_trial(self) -> int | None:
        """The version that is tried beside the live one."""
        labels = self.file.read().labels
        version = labels.get(self.trial)
        return version if version != labels.get(STABLE) else None

    def needed(self) -> frozenset[int]:
        """The versions that the server is to have: what has a label, and what it is told to load besides."""
        entry = self.file.read()
        return entry.versions | frozenset(entry.labels.values())

    def load(self, version: int) -> None:
        """Have the server load a version beside those that have labels."""
        self._write(self.file.read().labels, version)

    def try_out(self, version: int) -> None:
        """Give a version the label of what is on trial."""
        self._move({self.trial: version})

    def take_over(self, version: int) -> None:
        """Make a version the live one."""
        self._move(dict.fromkeys(self._ours(), version))

    def take_back(self, version: int) -> None:
        """Give the label of a version on trial to the live one."""
        labels, stable = self.file.read().labels, self.stable()
        if stable is not None and labels.get(self.trial) == version:
            self._move({self.trial: stable})

    def trim(self) -> None:
        """Have the server let go of versions without a label."""
        self._write(self.file.read().labels)

    def _ours(self) -> tuple[str, ...]:
        return (STABLE, self.trial) if self.trial else (STABLE,)

    def _move(self, moved: Mapping[str, int]) -> None:
        entry = self.file.read()
        self._write({**entry.labels, **moved}, *entry.versions)

    def _write(self, labels: Mapping[str, int], *beside: int) -> None:
        """Versions that have no label are unloaded, unless named; the very first has none before it is loaded."""
        self.file.write(Entry(frozenset([*labels.values(), *beside]), labels))
