"""What a server knows about one model, and how that follows from the disk. No threads and no locks: Models has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

from ctd.serving.versions import Latest, Phase, Policy, Version, wanted

S = TypeVar("S")

_KEPT_ENDED = 32  # versions that came to their end and are still shown in a model's status


@dataclass(frozen=True)
class ModelConfig:
    """What to serve under one name."""

    name: str
    base_path: Path
    policy: Policy = field(default_factory=Latest)
    labels: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Handle(Generic[S]):
    """A loaded version and the number of requests that are using it."""

    servable: S
    users: int = 0


@dataclass
class ModelState(Generic[S]):
    """Everything known about one model."""

    config: ModelConfig
    removed: bool = False
    looked: bool = False
    complaint: str = ""
    found: dict[int, Path] = field(default_factory=dict)
    live: dict[int, Version] = field(default_factory=dict)
    ended: dict[int, Version] = field(default_factory=dict)
    handles: dict[int, Handle[S]] = field(default_factory=dict)
    tries: dict[int, int] = field(default_factory=dict)
    retry_at: dict[int, float] = field(default_factory=dict)

    def desired(self) -> frozenset[int]:
        failed = [number for number, version in self.live.items() if version.failed]
        return frozenset() if self.removed else wanted(self.config.policy, self.found, failed)

    def refresh(self) -> None:
        """Bring the list of versions in line with what is on disk and wanted."""
        for number, version in list(self.live.items()):
            never_begun = version.phase is Phase.START and number not in self.desired()
            # A failed version is remembered for as long as its directory stays, so that it is not tried for ever.
            over = version.phase is Phase.END and not (version.failed and number in self.found)
            if over or never_begun:
                del self.live[number]
                self._remember(version)
        desired = self.desired()
        for number in desired - self.live.keys():
            self.live[number] = Version(number)
            self.ended.pop(number, None)
        for number, version in self.live.items():
            self.live[number] = replace(version, wanted=number in desired)

    def _remember(self, version: Version) -> None:
        if version.phase is Phase.END:
            self.ended[version.number] = version
            while len(self.ended) > _KEPT_ENDED:
                del self.ended[min(self.ended)]

    @property
    def settled(self) -> bool:
        return self.looked and all(version.phase.settled for version in self.live.values())

    @property
    def gone(self) -> bool:
        return self.removed and all(version.phase is Phase.END for version in self.live.values())
